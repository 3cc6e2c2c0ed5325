"""The trainers that `bench_recovery` compares: this library's, with `recovery_presets`, and SAELens's own trainers.

In: a `Setting`, the rows, and the width and k that all contenders share. Out: a trained dictionary, saved and read back
(by SAELens if it has an architecture for it).
"""

import itertools
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from analyses.bench import recovery_presets
from analyses.bench.peers import MATRYOSHKA_SHARES, saelens_trainer
from analyses.bench.pruning import prune
from analyses.bench.recovery_worlds import HOOK, World
from interp.activations import ActivationStore
from interp.sae import (
    BatchTopKConfig,
    MatryoshkaConfig,
    PickConfig,
    SAEConfig,
    TopKConfig,
    load_sae,
    train_sae,
)

BATCH, FALL = 256, 0.2
SAELENS_RATE, SAELENS_DEAD, DEFAULT_RATE, DEFAULT_BATCH = 6e-3, 1 / 80, 3e-4, 1024
PRUNING = 8192
"""Number of rows by which a threshold is chosen."""
PRUNED = ", pruned"
SAELENS = ("TopK", "BatchTopK", "MatryoshkaBatchTopK", "JumpReLU")


class Setting(NamedTuple):
    """The facts that a contender may use."""

    store: ActivationStore
    world: World
    k: int
    seed: int


def asked(setting: Setting) -> dict[str, Any]:
    return {"d_sae": setting.world.width, "tokens": setting.world.tokens, "seed": setting.seed, "device": "cpu"}


def recovering(kind: type[PickConfig], **more: Any) -> Callable[[Setting], SAEConfig]:
    return lambda setting: recovery_presets.picking(kind, **asked(setting), k=setting.k, **more)


KINDS: dict[str, Callable[[Setting], SAEConfig]] = {
    "TopK": recovering(TopKConfig),
    "BatchTopK": recovering(BatchTopKConfig),
    "Matryoshka": recovering(MatryoshkaConfig),
    f"TopK{PRUNED}": recovering(TopKConfig),
    f"BatchTopK{PRUNED}": recovering(BatchTopKConfig),
    f"Matryoshka{PRUNED}": recovering(MatryoshkaConfig),
    "JumpReLU": lambda setting: recovery_presets.jumprelu(**asked(setting), target_l0=setting.k),
    "BatchTopK, frozen decoder": recovering(BatchTopKConfig, freeze="decoder"),
}


def ours(kind: str, setting: Setting, folder: Path) -> Any:
    from sae_lens import SAE

    sae = train_sae(setting.store, HOOK, KINDS[kind](setting))
    chosen = sae.preferred_format
    sae.save(folder, format=chosen)
    loaded = SAE.load_from_disk(folder) if chosen == "saelens" else load_sae(folder)
    if not kind.endswith(PRUNED):
        return loaded
    return prune(loaded, next(iter(setting.store.batches(HOOK, PRUNING, seed=setting.seed))))


def theirs(kind: str, tuned: bool, setting: Setting, folder: Path) -> Any:
    from sae_lens import SAE

    world, k = setting.world, setting.k
    batch = min(BATCH if tuned else DEFAULT_BATCH, world.tokens)
    steps = world.tokens // batch
    settings: dict[str, Any] = {"d_in": world.d, "d_sae": world.width, "device": "cpu"}
    if kind != "JumpReLU":
        settings["k"] = k
    elif tuned:
        settings |= {"jumprelu_sparsity_loss_mode": "quadratic", "target_l0": k}
    if kind == "MatryoshkaBatchTopK":
        settings["matryoshka_widths"] = [round(s * world.width) for s in itertools.accumulate(MATRYOSHKA_SHARES)]
    schedule: dict[str, Any] = {"lr": DEFAULT_RATE}
    if tuned:
        rate = SAELENS_RATE * min(1.0, 1024 / world.width)
        schedule = {"lr": rate, "lr_decay_steps": round(FALL * steps)}
        schedule["dead_feature_window"] = max(1, round(SAELENS_DEAD * steps))
    rows = setting.store.batches(HOOK, batch, seed=setting.seed, epochs=None)
    trainer = saelens_trainer(kind, settings, rows, tokens=steps * batch, batch_size=batch, **schedule)
    trainer.fit().save_inference_model(folder)
    return SAE.load_from_disk(folder)


CONTENDERS: dict[str, Callable[[Setting, Path], Any]] = {
    **{f"interp {kind}": partial(ours, kind) for kind in KINDS},
    **{f"SAELens {kind}, tuned": partial(theirs, kind, True) for kind in SAELENS},
    **{f"SAELens {kind}, defaults": partial(theirs, kind, False) for kind in SAELENS},
}
