"""Share what the analyses that compare dictionaries need: the text, a one-layer model, activations, and codes on disk.

In: `--run`, a run folder whose model and text are used. It is only read. Without it, the demo's model is trained first,
once for all of these analyses. Each analysis writes OUT/results.json and figures (`analyses.record`).
"""

import argparse
import dataclasses
import shutil
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Int
from torch import Tensor

from analyses.record import check_run, parse_with_out
from interp import SAE, Run, TopKConfig, harvest, load_sae, run_stages, train_sae
from interp.activations import ActivationStore
from interp.codes.code_store import CodeStore
from interp.codes.dictionary import Dictionary
from interp.features.encode_store import encode_store
from interp.features.variance_explained import VarianceExplained
from interp.pipeline.config import RunConfig
from models.training import train_model
from models.transformer import Transformer

HOOK = "blocks.0.mlp.hook_post"
ROWS = 1 << 16
"""Number of rows that are read at a time."""
KEPT_SHARES = (0, 0.01, 0.02, 0.05, 0.1, 0.2, 0.4, 0.7, 1)
"""Shares of a training's steps after which the weights are kept; the first steps change the model most."""


@dataclass(frozen=True, kw_only=True)
class Sizes:
    """The sizes that results depend on, in addition to an analysis's own settings."""

    run: str = ""
    """The run folder whose model and text are used. If it is empty, the demo's model is trained."""
    model: str = ""
    """The fingerprint of that run's model, so that the pieces of a model that was there before are made again."""
    tiny: bool = False
    layers: int = 1
    """Number of layers of the model, if it is trained here."""
    model_tokens: int = 1_500_000
    """Number of tokens for training each model, if it is trained here."""
    tokens: int = 400_000
    """Number of tokens that are harvested. Each dictionary is trained on them once."""
    compared: int = 150_000
    """Number of the first of these tokens, on which dictionaries are compared."""
    k: int = 16
    seeds: tuple[int, ...] = (0, 1, 2)

    @property
    def config(self) -> RunConfig:
        config = RunConfig.tiny() if self.tiny else RunConfig()
        training = dataclasses.replace(config.training, tokens=self.model_tokens)
        kept = sorted({round(share * training.steps(config.model.n_ctx)) for share in KEPT_SHARES})
        training = dataclasses.replace(training, snapshot_steps=tuple(kept))
        return config.replace(training=training, model=dataclasses.replace(config.model, n_layers=self.layers))

    @property
    def model_folder(self) -> str:
        return f"model-{self.layers}" + "-tiny" * self.tiny


TINY: dict[str, Any] = dict(tiny=True, model_tokens=20_000, tokens=10_000, compared=8_000, k=8, seeds=(0, 1))
"""Tiny sizes for the tests. Their results mean nothing."""


def options(doc: str, name: str, arguments: Sequence[str] | None, labels: Sequence[str] = ()) -> argparse.Namespace:
    """Parse the options quick, run, threads and out.
    labels: the labels that the text of a run must have."""
    parser = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="tiny sizes, for the tests: the numbers mean nothing")
    parser.add_argument("--run", type=Path, help="a run folder whose one-layer model and text are taken")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parsed = parse_with_out(parser, arguments, Path("runs/compare") / name)
    if parsed.run:
        check_run(parser, "--run", parsed.run, ("corpus", "model"), labels)
        if not Run(parsed.run).config.model.is_trained:
            parser.error(f"--run: {parsed.run} has a pretrained model: name a run that trained its own")
    torch.set_num_threads(parsed.threads)
    return parsed


def sized(setting: Any, o: argparse.Namespace) -> Any:
    """Return the setting, with the named run."""
    if not o.run:
        return setting
    return dataclasses.replace(setting, run=str(o.run), model=Run(o.run).manifest("model")["fingerprint"])


def studied_run(setting: Sizes, out: Path) -> Run:
    """Return the named run. Without one, return the run next to `out` that all analyses of one size share, and that the
    first of them trains."""
    return (
        Run(setting.run)
        if setting.run
        else run_stages(setting.config, out.parent / setting.model_folder, until="model")
    )


class Studied:
    """A run with activations of its model in `work`, which are harvested when they are first needed."""

    def __init__(self, setting: Sizes, out: Path):
        self.setting, self.run, self.work = setting, studied_run(setting, out), out / "work"
        self.shared = self.work if setting.run else self.run.path.with_name(f"{self.run.path.name}-dictionaries")

    @cached_property
    def trained(self) -> ActivationStore:
        """The activations on which dictionaries are trained."""
        return activations(self.run.model, self.run, self.setting.tokens, self.work / "trained")

    @cached_property
    def judged(self) -> ActivationStore:
        """The tokens on which dictionaries are compared."""
        return activations(self.run.model, self.run, self.setting.compared, self.work / "judged")

    @property
    def d_mlp(self) -> int:
        return self.run.model.config.d_mlp

    def dictionary(self, factor: int, seed: int) -> SAE:
        """Return a TopK dictionary with `factor` latents per neuron. It is trained once for all analyses that share the
        model."""
        setting = self.setting
        config = TopKConfig(d_sae=factor * self.d_mlp, k=setting.k, tokens=setting.tokens, seed=seed)
        model = (self.run.manifest("model") or {}).get("fingerprint", "")
        folder = self.shared / f"topk-{config.d_sae}-{config.k}-{config.tokens}-seed-{seed}-{model[:8]}"
        if (folder / "results.json").is_file():
            return load_sae(folder)
        return train_sae(self.trained, HOOK, config, out=folder)


def model_of_seed(run: Run, seed: int, setting: Sizes, out: Path) -> Transformer:
    """Return the model of the run for seed 0. For other seeds, return a model trained from other weights, on the same
    text in another order."""
    if seed == 0:
        return run.model
    folder, config = out / f"model-{seed}", run.config
    shape = dataclasses.replace(config.model, seed=seed).transformer(run.tokenizer.vocab_size)
    training = dataclasses.replace(config.training, tokens=setting.model_tokens, seed=seed, n_samples=0)
    train_model(Transformer(shape), run.train_tokens.tokens, run.val_tokens.tokens, training, folder)
    return Transformer.load(folder)


def activations(
    model: Transformer, run: Run, n_tokens: int, folder: Path, hooks: Sequence[str] = (HOOK,)
) -> ActivationStore:
    tokens = run.train_tokens.tokens[: max(1, n_tokens // run.train_tokens.n_ctx)]
    return harvest(model, tokens, list(hooks), folder, exclude=run.tokenizer.special_ids)


def encoded(dictionary: Dictionary, store: ActivationStore, folder: Path) -> CodeStore:
    """Return the codes of every row, in token order."""
    shutil.rmtree(folder, ignore_errors=True)
    assert store.tokens is not None
    codes = CodeStore.create(folder, n_rows=store.tokens.numel(), d_sae=dictionary.d_sae)
    with torch.no_grad():
        explained = VarianceExplained(dictionary, folder / "contributions")
        encode_store(dictionary, store, HOOK, codes, explained, advance=lambda rows, note: None)
    codes.finish()
    return codes


def telling_tokens(
    codes: CodeStore, tokens: Int[Tensor, "seq pos"], vocab: Sequence[str], latents: Iterable[int], n: int = 3
) -> dict[int, str]:
    """Return a name for a latent in a figure: the `n` tokens with the largest p ln(p / q), where p is their share of
    its firings, and q their share of the text. A latent that never fires has its number."""
    shown, flat = np.unique([*latents]), tokens.reshape(-1).numpy()
    text, counts = np.bincount(flat, minlength=len(vocab)), np.zeros((len(shown), len(vocab)))
    for start in range(0, len(codes), ROWS):
        part = codes[start : min(start + ROWS, len(codes))]
        row = np.repeat(np.arange(len(part)), part.offsets.diff().numpy())
        place = np.searchsorted(shown, part.latents.numpy()).clip(max=len(shown) - 1)
        fires_here = (shown[place] == part.latents.numpy()) & (part.values.numpy() > 0)
        np.add.at(counts, (place[fires_here], flat[start + row[fires_here]]), 1)
    p, q = counts / counts.sum(1, keepdims=True).clip(1), text / text.sum()
    worth = np.where(p > 0, p * np.log(np.where(p > 0, p, 1) / np.where(q > 0, q, 1)), 0)
    best = np.argsort(-worth, 1, kind="stable")[:, :n]
    return {
        int(latent): " ".join(vocab[token] for token in fires_here if count[token]) or f"#{latent}"
        for latent, fires_here, count in zip(shown, best, counts, strict=True)
    }
