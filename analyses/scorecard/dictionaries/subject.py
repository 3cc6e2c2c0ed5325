"""The subjects of the scorecard of dictionaries: a run, the texts that the measures read, and what is trained there."""

import argparse
import importlib.util
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path

import torch
from jaxtyping import Int
from torch import Tensor

from analyses.bench.quality import chosen
from analyses.bench.quality_training import HookData, folder_of, train_recipe
from analyses.scorecard.dictionaries.absorption import Spelling, Words, read_words, spelling
from analyses.scorecard.dictionaries.probing import Tasks, random_features, read_pieces
from interp import SAE, Run, harvest, load_sae
from interp.storage.files import digest_json
from models.corpus import CorpusConfig, default_shares, load_documents, split_documents
from models.tokenizing import tokenize

TRAINED = {
    "interp TopK": [6e-3],
    "SAELens TopK": [6e-3],
    "sparsify TopK": [1.4e-2, 2.8e-2],
    "interp Matryoshka": [6e-3],
    "interp frozen decoder": [6e-3],
}
"""Learning rates, of which that with the least FVU on validation text at the first seed is taken: what `bench.quality`
chose; of sparsify's optimizer what its Trainer takes for 2,048 latents, and twice that."""
MODULES = {"interp": "interp", "SAELens": "sae_lens", "sparsify": "sparsify"}
RANDOM, LIKE = "random features", "interp TopK"
"""The features that fire as often as those of a dictionary."""
NULLS = ("interp frozen decoder", RANDOM)
DOCUMENT, HELD_OUT = 1000, 0.4
"""Characters of a document of the probed text at most, so that there are many; the share of it that tests."""
MORE = {"shakespeare": 3.0, "python": 3.0}
"""Parts of that text, where other sources have 1: these two hold labels of parts."""
VALIDATION = 64
"""Sequences."""


@dataclass(frozen=True, kw_only=True)
class Sizes:
    d_sae: int = 2048
    k: int = 8
    tokens: int = 500_000
    """Number of tokens on which each dictionary is trained."""
    seeds: int = 3
    test_tokens: int = 24_000
    """Spliced, by all seeds together."""
    characters: int = 200_000
    """Characters of the probed text."""
    batch: int = 1024


class Subject:
    """A run, and what the measures read of it, made when the first of them asks."""

    def __init__(self, run: Run, sizes: Sizes, out: Path):
        self.run, self.sizes, self.hook = run, sizes, run.hook_name
        self.name = run.path.resolve().name
        self.folder = out / f"{self.name}-{digest_json([run.store.digest, asdict(sizes)])[:8]}"
        self.limit = run.store.norm_limits.get(self.hook)

    @property
    def test_tokens(self) -> Int[Tensor, "seq pos"]:
        """Held-out text on which dictionaries are spliced into the model; the text after it is for choosing rates."""
        tokens = self.run.val_tokens.tokens
        return tokens[: min(len(tokens) // 2, max(2 * self.sizes.seeds, self.sizes.test_tokens // tokens.shape[1]))]

    @cached_property
    def tasks(self) -> Tasks:
        """Text with known labels, of which whole works test."""
        sources = {source: MORE.get(source, 1.0) for source in default_shares()}
        shares = {source: share / sum(sources.values()) for source, share in sources.items()}
        config = CorpusConfig(characters=self.sizes.characters, seed=1, shares=shares, document_characters=DOCUMENT)
        split, tokenizer = split_documents(load_documents(config), HELD_OUT, 0), self.run.tokenizer
        choose = tokenize(split.train, tokenizer, self.run.train_tokens.n_ctx)
        test = tokenize(split.val, tokenizer, choose.n_ctx, labels=choose.label_names)
        reading = (tokenizer.special_ids, self.limit, tokenizer.vocab_size)
        return Tasks(*(read_pieces(self.run.model, self.hook, text, *reading) for text in (choose, test)))

    @cached_property
    def words(self) -> Words:
        return read_words(self.run.model, self.hook, self.run.tokenizer)

    @cached_property
    def spellings(self) -> list[Spelling]:
        """A division of the words and its probe, for each seed."""
        return [spelling(self.words, seed) for seed in range(self.sizes.seeds)]

    def trained(self) -> dict[str, list[SAE]]:
        """Return the dictionaries that the trainers which are installed give, one per seed; they are kept in the
        folder."""
        dictionaries = {}
        for name, rates in TRAINED.items():
            trainer, _, kind = name.partition(" ")
            if importlib.util.find_spec(MODULES[trainer]) is None:
                print(f"{name} is left out: {MODULES[trainer]} is not installed")
                continue
            o = argparse.Namespace(
                **vars(self.sizes) | {"seeds": range(self.sizes.seeds)}, rates=rates, out=self.folder
            )
            recipes = chosen(self._data, kind, trainer, o)
            for recipe in recipes:
                train_recipe(self._data, recipe, o)
            dictionaries[name] = [load_sae(folder_of(self._data, recipe, o)) for recipe in recipes]
        return dictionaries

    def random(self, like: Sequence[SAE]) -> list[SAE]:
        """Return random features, for each seed, that fire as often as those of a dictionary."""
        return [random_features(each, self.tasks.choose.x, seed) for seed, each in enumerate(like)]

    @cached_property
    def _data(self) -> HookData:
        first = len(self.test_tokens)
        held_out = harvest(
            self.run.model,
            self.run.val_tokens.tokens[first : first + VALIDATION],
            [self.hook],
            self.folder / "validation",
            exclude=self.run.tokenizer.special_ids,
        )
        rows = torch.cat(list(held_out.batches(self.hook, 8192, shuffle=False)))
        return HookData(self.name, self.hook, self.run, self.run.store, rows, self.test_tokens)
