"""Train what `bench.quality` and `scorecard.dictionaries` compare: one recipe by this library, by SAELens's trainer, or
by sparsify's coder and optimizer, on the same batches.

In: `HookData` (a hook of a model with its store) and a `Recipe`. Out: a dictionary in its own folder, with its FVU and
L0 on validation text. A dictionary that already exists is not trained again.
"""

import argparse
import contextlib
import io
import json
import shutil
import time
from dataclasses import dataclass
from itertools import accumulate, islice
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from analyses.bench.peers import MATRYOSHKA_SHARES, saelens_trainer, sparsify_coder, sparsify_optimizer, sparsify_step
from interp import Run, run_stages
from interp.activations import ActivationStore
from interp.activations.harvesting import harvest
from interp.pipeline.config import RunConfig
from interp.sae import (
    BatchTopKConfig,
    JumpReLUConfig,
    MatryoshkaConfig,
    ReLUConfig,
    SAEConfig,
    TopKConfig,
    load_sae,
    train_sae,
)
from interp.storage.files import digest_json
from interp.storage.folders import unfinished_folder

HOOKS = {
    "demo": ("blocks.0.hook_resid_post",),
    "two-layer": ("blocks.0.hook_mlp_out", "blocks.1.hook_attn_out", "blocks.1.hook_resid_mid"),
}
RISE, L1_RISE, L0_RISE, FALL = 0.05, 0.05, 0.1, 0.2
DEAD_AFTER = 0.05
"""Fractions of the run."""


@dataclass(frozen=True)
class HookData:
    """A hook of a model, with what is trained, chosen and tested on."""

    name: str
    hook: str
    run: Run
    store: ActivationStore
    validation: Float[Tensor, "row d_in"]
    test_tokens: Tensor


@dataclass(frozen=True)
class Recipe:
    kind: str
    trainer: str
    lr: float
    sought: float | None
    """λ of L1, the target of JumpReLU, the k of BatchTopK and Matryoshka."""
    seed: int

    @property
    def folder(self) -> str:
        sought = "" if self.sought is None else f"-{self.sought:.4g}"
        return f"{self.kind}-{self.trainer}-lr_{self.lr:g}{sought}-seed_{self.seed}"


def hook_data(o: argparse.Namespace) -> list[HookData]:
    data = []
    for name in o.models:
        run_folder = o.demo if name == "demo" else None
        run = Run(run_folder) if run_folder else run_stages(model_config(name, o), o.out / name, until="model")
        folder, bos, n_ctx = o.out / "stores" / name, (run.tokenizer.bos_id,), run.train_tokens.n_ctx
        n_test = max(2, o.test_tokens // n_ctx)
        held_out = run.val_tokens.tokens
        if len(held_out) < 2 * n_test:
            have = len(held_out)
            raise ValueError(f"{name} has {have} held-out sequences, {2 * n_test} are needed: lower --test-tokens")
        tokens = run.train_tokens.tokens[: max(1, o.tokens // n_ctx)]
        store = harvest(run.model, tokens, HOOKS[name], folder / "train", exclude=bos)
        validation = harvest(run.model, held_out[n_test : 2 * n_test], HOOKS[name], folder / "validation", exclude=bos)
        for hook in [hook for hook in HOOKS[name] if hook in (o.hooks or HOOKS[name])]:
            rows = torch.cat(list(validation.batches(hook, 8192, shuffle=False)))
            data.append(HookData(name, hook, run, store, rows, held_out[:n_test]))
    return data


def model_config(name: str, o: argparse.Namespace) -> RunConfig:
    if o.quick:
        return RunConfig.tiny()
    if name == "demo":
        return RunConfig()
    return RunConfig.from_dict({"model": {"n_layers": 2}, "training": {"tokens": 2_000_000}})


def folder_of(data: HookData, recipe: Recipe, o: argparse.Namespace) -> Path:
    """Return the folder of a dictionary: another for other sizes, and for other activations."""
    depends = [o.d_sae, o.k, o.tokens, o.batch, o.test_tokens, data.store.digest]
    return o.out / "dictionaries" / f"{data.name}-{data.hook}-{digest_json(depends)[:8]}" / recipe.folder


def train_recipe(data: HookData, recipe: Recipe, o: argparse.Namespace) -> dict[str, float]:
    """Train, and return FVU and L0 on validation text, and the seconds of training."""
    folder = folder_of(data, recipe, o)
    results = folder / "validation.json"
    if results.exists():
        return json.loads(results.read_text())
    start = time.perf_counter()
    match recipe.trainer:
        case "interp":
            shutil.rmtree(unfinished_folder(folder), ignore_errors=True)  # the time is that of the whole training
            train_sae(data.store, data.hook, ours(recipe, o), folder, overwrite=True)
        case "SAELens":
            theirs(data, recipe, folder, o)
        case "sparsify":
            sparsifys(data, recipe, folder, o)
    seconds = time.perf_counter() - start
    x, sae = data.validation, load_sae(folder)
    codes = sae.codes(x)
    measured = {
        "fvu": float((sae.decode(codes) - x).square().sum() / (x - x.mean(0)).square().sum()),
        "l0": float((codes.values != 0).sum()) / len(x),
        "seconds": seconds,
    }
    results.write_text(json.dumps(measured))
    print(f"  {data.hook} {recipe.folder}: FVU {measured['fvu']:.4f}, L0 {measured['l0']:.1f}, {seconds:.1f} s")
    return measured


def ours(recipe: Recipe, o: argparse.Namespace) -> SAEConfig:
    shared: dict[str, Any] = {
        "d_sae": o.d_sae,
        "tokens": o.tokens,
        "batch_size": o.batch,
        "lr": recipe.lr,
        "warmup": RISE,
        "decay": FALL,
        "dead_after": round(DEAD_AFTER * o.tokens),
        "seed": recipe.seed,
        "device": "cpu",
    }
    match recipe.kind:
        case "TopK":
            return TopKConfig(**shared, k=o.k)
        case "frozen decoder":
            return TopKConfig(**shared, k=o.k, freeze="decoder")
        case "BatchTopK":
            return BatchTopKConfig(**shared, k=recipe.sought)
        case "Matryoshka":
            return MatryoshkaConfig(**shared, k=recipe.sought, groups=MATRYOSHKA_SHARES)
        case "JumpReLU":
            return JumpReLUConfig(**shared, target_l0=recipe.sought, coefficient_warmup=L0_RISE)
    return ReLUConfig(**shared, l1=recipe.sought, l1_warmup=L1_RISE)


def theirs(data: HookData, recipe: Recipe, folder: Path, o: argparse.Namespace) -> None:
    d_in, steps, statistics = data.store.d(data.hook), o.tokens // o.batch, data.store.statistics(data.hook)
    scale = d_in**0.5 / statistics.mean_norm
    settings: dict[str, Any] = {"d_in": d_in, "d_sae": o.d_sae, "normalize_activations": "expected_average_only_in"}
    kind = {"L1": "Standard", "Matryoshka": "MatryoshkaBatchTopK"}.get(recipe.kind, recipe.kind)
    if recipe.kind in ("TopK", "BatchTopK", "Matryoshka"):
        settings["k"] = recipe.sought or o.k
        if recipe.kind == "Matryoshka":
            settings["matryoshka_widths"] = [round(share * o.d_sae) for share in accumulate(MATRYOSHKA_SHARES)]
    elif recipe.kind == "L1":
        settings |= {"l1_coefficient": recipe.sought, "l1_warm_up_steps": round(L1_RISE * steps)}
    else:
        target = recipe.sought
        weight = (
            JumpReLUConfig(d_sae=o.d_sae, tokens=o.tokens).coefficient * statistics.variance * scale**2 / (2 * target)
        )
        settings |= {"jumprelu_sparsity_loss_mode": "quadratic", "target_l0": target, "l0_coefficient": weight}
        settings |= {"l0_warm_up_steps": round(L0_RISE * steps), "pre_act_loss_coefficient": 3e-6}
    with torch.random.fork_rng(devices=[]), contextlib.redirect_stderr(io.StringIO()):
        torch.manual_seed(recipe.seed)
        trainer = saelens_trainer(
            kind,
            settings,
            data.store.batches(data.hook, o.batch, seed=recipe.seed, epochs=None),
            tokens=steps * o.batch,
            batch_size=o.batch,
            lr=recipe.lr,
            lr_end=0.0,
            lr_warm_up_steps=round(RISE * steps),
            lr_decay_steps=round(FALL * steps),
            dead_feature_window=max(1, round(DEAD_AFTER * steps)),
        )
        trainer.activation_scaler.scaling_factor = scale
        trainer.fit().save_inference_model(folder)


def sparsifys(data: HookData, recipe: Recipe, folder: Path, o: argparse.Namespace) -> None:
    """Train sparsify's SparseCoder with the optimizer and start of its Trainer, in a loop over the store. The Trainer
    itself takes activations only from a Hugging Face model."""
    batches = data.store.batches(data.hook, o.batch, seed=recipe.seed, epochs=None)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(recipe.seed)
        sae = sparsify_coder(data.store.d(data.hook), o.d_sae, o.k)
    sae.b_dec.data = data.store.statistics(data.hook).mean.float()
    optimizer = sparsify_optimizer(sae, recipe.lr)
    for rows in islice(batches, o.tokens // o.batch):
        sparsify_step(sae, optimizer, rows)
    optimizer.eval()
    sae.save_to_disk(folder)
