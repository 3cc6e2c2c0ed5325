"""Characters of Shakespeare, and the models of the essay's first half, each trained once for all analyses.

In: a `Recipe`. Out: a `Trained` in a folder named after the recipe; whoever asks for the same recipe again reads it.

The corpus is the plays without their Markdown marks. Hamlet (the source of the essay's prompt) and Twelfth Night are
held out whole. "causal" and "unmasked" have the essay's size (d_model 64, 2 heads, 2 layers, 128 ReLU units). They
differ from its SimpleTransformer in two ways: LayerNorm comes before each part, not after it, and there is no dropout.
"deep" has 4 layers of d_model 128.
"""

import hashlib
import json
import re
from dataclasses import asdict, dataclass
from functools import cached_property, lru_cache
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import pandas as pd
import torch
from jaxtyping import Int
from torch import Tensor

from analyses.essay.texts.generated import words_of
from analyses.essay.toys.unmasked import UnmaskedTransformer
from models.documents import Document
from models.text_sources.installed_text import shakespeare
from models.tokenizer import Tokenizer
from models.tokenizing import tokenize
from models.training import TrainingResult, train_model
from models.training_recipe import TrainingConfig
from models.transformer import Transformer, TransformerConfig

PROMPT = "To be, or not to be, that is the question:"
HELD_OUT = ("hamlet", "twelfth-night")
SHAPES: dict[str, dict[str, Any]] = {
    "essay": dict(n_layers=2, d_model=64, n_heads=2, d_mlp=128, act_fn="relu"),
    "deep": dict(n_layers=4, d_model=128, n_heads=4, d_mlp=512),
}


@dataclass(frozen=True)
class Recipe:
    shape: str
    masked: bool
    steps: int
    n_ctx: int
    batch_size: int
    lr: float
    seed: int = 0
    """Seed of the weights, the order of the batches and the samples."""
    snapshot_steps: tuple[int, ...] = ()
    play_characters: int | None = None
    """Taken from the head of each play; None: all."""

    @property
    def characters(self) -> int:
        """Seen in training, with repetition."""
        return self.steps * self.batch_size * self.n_ctx

    @property
    def name(self) -> str:
        digest = hashlib.sha256(json.dumps(asdict(self), sort_keys=True).encode()).hexdigest()[:8]
        return f"{self.shape}-{'causal' if self.masked else 'unmasked'}-{digest}"


@dataclass(frozen=True)
class Corpus:
    train: list[Document]
    held_out: list[Document]
    tokenizer: Tokenizer

    @cached_property
    def words(self) -> set[str]:
        return words_of(document.text for document in self.train)

    @cached_property
    def ids(self) -> Int[Tensor, " token"]:
        return tokenize(self.train, self.tokenizer, 2, deduplicate=False).tokens.flatten()

    @cached_property
    def held_out_ids(self) -> Int[Tensor, " token"]:
        return tokenize(self.held_out, self.tokenizer, 2, deduplicate=False).tokens.flatten()

    def rows(self, n_ctx: int, *, held_out: bool = False) -> Int[Tensor, "seq pos"]:
        ids = self.held_out_ids if held_out else self.ids
        return ids[: len(ids) // n_ctx * n_ctx].view(-1, n_ctx)

    def prompt(self) -> Int[Tensor, "1 pos"]:
        return torch.tensor([self.tokenizer.encode(PROMPT, add_special_tokens=False)])


@dataclass(frozen=True)
class Trained:
    model: Transformer
    result: TrainingResult
    metrics: pd.DataFrame
    folder: Path

    def after(self, step: int) -> Transformer:
        """Return the model as it was after one of the recipe's `snapshot_steps`."""
        return type(self.model).load(self.folder, f"snapshots/step-{step}.safetensors")


@lru_cache(maxsize=1)
def read_corpus(play_characters: int | None = None) -> Corpus:
    plays = [
        Document(re.sub(r"[*_#]", "", play.text)[:play_characters], (), play.source, play.name)
        for play in shakespeare(Random(0), 10**9)
    ]
    train = [play for play in plays if play.name not in HELD_OUT]
    held_out = [play for play in plays if play.name in HELD_OUT]
    return Corpus(train, held_out, Tokenizer.train_characters(play.text for play in train))


def train_or_open(recipe: Recipe, work: Path) -> Trained:
    """Train by the recipe in a folder of `work`, or read the model that it gave before; cut off, it goes on."""
    corpus = read_corpus(recipe.play_characters)
    shape = TransformerConfig(
        **SHAPES[recipe.shape], d_vocab=corpus.tokenizer.vocab_size, n_ctx=recipe.n_ctx, seed=recipe.seed
    )
    model = Transformer(shape) if recipe.masked else UnmaskedTransformer(shape)
    config = TrainingConfig(
        tokens=recipe.characters,
        batch_size=recipe.batch_size,
        lr=recipe.lr,
        val_every=max(1, recipe.steps // 20),
        snapshot_steps=recipe.snapshot_steps,
        n_samples=2,
        seed=recipe.seed,
    )
    rows, folder = (corpus.rows(recipe.n_ctx, held_out=held) for held in (False, True)), work / recipe.name
    result = train_model(model, *rows, config, folder, tokenizer=corpus.tokenizer)
    metrics = pd.read_json(folder / "metrics.jsonl", lines=True)
    return Trained(model, result, metrics, folder)


def curve(metrics: pd.DataFrame) -> dict[str, np.ndarray]:
    """Return a training's curve in bits a character (a token is a character here), for a piece; `curve_table` reads
    it."""
    bits = metrics[["loss", "val_loss"]].to_numpy(float) / np.log(2)
    return {"seen": metrics["tokens"].to_numpy(float), "train_bits": bits[:, 0], "val_bits": bits[:, 1]}


def curve_table(run: dict[str, Any]) -> pd.DataFrame:
    return pd.DataFrame({"tokens": run["seen"], "loss": run["train_bits"], "val_loss": run["val_bits"]})
