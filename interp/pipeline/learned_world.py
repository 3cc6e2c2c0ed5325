"""Latents of a transformer trained on a text whose factors are known, judged by them: any such text.

    found = learned_latents(text, folder, seed, sizes, nulls=ALL)      name → latents
    table = judge_learned(found, text, sizes, calibration)             as `judge_latents`, with the column `basis`

The truth of a latent is the share of its mass that lies where each factor of the text holds (`Truth.attribute`), which
the ranking never saw, and is claimed where two readings of it agree. Beside the dictionary and the neurons stand, as
nulls,

    frozen decoder      a dictionary of the same size whose decoder stays as it was drawn
    shifted text        the dictionary's codes, laid on the text that stands half the text further on
    untrained           a dictionary of the same transformer before training;  untrained neurons: its neurons

One such text is real: `real_text` is the Bible in English and Spanish, whose words carry the numbers of Strong's
concordance. Numbers that are translated alike count as one (`glosses`); words that carry none are no truth about the
model's latents. The calibration is the one that ships: it knows planted text alone. Passages come in random order, so
that each part of the text has both testaments.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Literal, NamedTuple

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float
from torch import Tensor

from interp.activations import ActivationStore
from interp.benchmark.factors import FactorText
from interp.benchmark.judged import Basis, Counted, Joined, counted, cross_lingual, judge_latents, judge_world
from interp.benchmark.lemma_text import LemmaText, Synonyms, Verses, lemma_text, synonyms
from interp.benchmark.planted_latents import WorldConfig, world_of
from interp.benchmark.rivals import residual_vectors
from interp.benchmark.truth import Truth
from interp.codes import SparseCodes
from interp.files import Progress, no_progress
from interp.harvest import harvest
from interp.monosemanticity.calibration import Calibration
from interp.sae import SAE, TopKConfig, train_sae, train_sweep
from models.recipe import TrainingConfig
from models.training import train_model
from models.transformer import Transformer, TransformerConfig

HOOK, NEURONS = "blocks.0.hook_resid_post", "blocks.0.mlp.hook_post"
TRAINED = ("dictionary", "neurons")
Nulls = Literal["none", "untrained", "all"]
PASSAGE = 32
"""Verses that stay together."""


class Sizes(NamedTuple):
    n_seq: int = 3072
    judged: int = 1024
    """Sequences that latents are judged on, the first ones."""
    n_ctx: int = 128
    d_sae: int = 256
    d_mlp: int = 128
    model_tokens: int = 500_000
    sae_tokens: int = 300_000
    d_model: int = 64


QUICK = Sizes(320, 192, 64, 32, 32, 20_000, 20_000)


def learned_latents(
    text: FactorText, folder: Path, seed: int, sizes: Sizes, *, nulls: Nulls = "none", progress: Progress = no_progress
) -> dict[str, Basis]:
    """The dictionary and the neurons of a one-layer transformer trained on the text, and the nulls: `untrained` ones,
    or `all`, with what the rivals of the verdict need as well. Codes are those of the first `sizes.judged` sequences;
    the model and the dictionaries stay in the folder, under `sae` and names that begin with it."""
    tokens = torch.from_numpy(text.tokens)
    shape = {"n_ctx": sizes.n_ctx, "d_model": sizes.d_model, "n_heads": 4, "d_mlp": sizes.d_mlp}
    config = TransformerConfig.preset("one-layer", d_vocab=len(text.vocab), **shape, seed=seed)
    steps = TrainingConfig(tokens=sizes.model_tokens, n_samples=0, seed=seed)
    held_out = sizes.judged // 8
    train_model(Transformer(config), tokens[held_out:], tokens[:held_out], steps, folder, progress=progress)
    model = Transformer.load(folder)
    found = _latents(model, tokens, folder / "sae", sizes, rivals=nulls == "all")
    found |= {name: found[name]._replace(W_U=model.W_U) for name in TRAINED}
    if nulls != "none":
        untrained = _latents(Transformer(config), tokens, folder / "saeuntrained", sizes, rivals=False)
        found |= {"untrained": untrained["dictionary"], "untrained neurons": untrained["neurons"]}
    return found


def judge_learned(
    found: Mapping[str, Basis], text: FactorText, sizes: Sizes, calibration: Calibration | None, **about: Any
) -> pd.DataFrame:
    """All latents that were found, one row each; `basis` is the name of theirs."""
    tokens = torch.from_numpy(text.tokens)[: sizes.judged]
    factors = [replace(f, rows=f.rows[f.rows < tokens.numel()]) for f in text.factors]
    factors = [factor for factor in factors if len(factor.rows)]
    parts = []
    for name, basis in found.items():
        truth = Truth.attribute(basis.codes, factors)
        parts.append(judge_latents(tokens, basis, text.vocab, factors, truth, calibration, **about, basis=name))
    return pd.concat(parts)


def _latents(model: Transformer, tokens: Tensor, folder: Path, sizes: Sizes, *, rivals: bool) -> dict[str, Basis]:
    """A dictionary learnt on the residual stream, and the neurons; with `rivals` all that the model's own need."""
    store = harvest(model, tokens, [HOOK], folder.with_name(folder.name + "-store"))
    config = TopKConfig(d_sae=sizes.d_sae, k=8, tokens=sizes.sae_tokens)
    sae = train_sae(store, HOOK, config, out=folder)
    judged = tokens[: sizes.judged]
    fired = (acts[NEURONS].clamp_min(0) for acts in _activations(model, judged))
    neurons = SparseCodes.cat([SparseCodes.from_dense(acts) for acts in fired])
    found = {
        "dictionary": _basis(sae, model, judged),
        "neurons": Basis(neurons, model.get_parameter("blocks.0.mlp.W_out").detach()),
    }
    if rivals:
        others = [replace(config, seed=1, freeze=part) for part in ("nothing", "decoder")]
        twin, frozen = train_sweep(store, HOOK, others, out=folder.with_name(folder.name + "-others"))
        found = _with_rivals(found, _basis(twin, model, judged), _basis(frozen, model, judged), store)
    return found


def _with_rivals(found: Mapping[str, Basis], twin: Basis, frozen: Basis, store: ActivationStore) -> dict[str, Basis]:
    embeddings, codes = residual_vectors(store, HOOK), found["dictionary"].codes
    half = len(codes) // 2 + 17  # not a multiple of n_ctx: what fires by position alone has no meaning either
    shifted = SparseCodes.cat([codes[half : len(codes)], codes[:half]])
    return {
        "dictionary": found["dictionary"]._replace(twin=twin, embeddings=embeddings),
        "neurons": found["neurons"]._replace(embeddings=embeddings),
        "frozen decoder": frozen,
        "shifted text": Basis(shifted),
    }


@torch.no_grad()
def _basis(sae: SAE, model: Transformer, tokens: Tensor) -> Basis:
    codes = SparseCodes.cat([sae.codes(acts[HOOK]) for acts in _activations(model, tokens)])
    return Basis(codes, sae.W_dec.detach())


@torch.no_grad()
def _activations(model: Transformer, tokens: Tensor) -> Iterator[dict[str, Float[Tensor, "row d"]]]:
    for batch in tokens.split(64):
        _, cache = model.run_with_cache(batch, names_filter=[HOOK, NEURONS])
        yield {name: cache[name].flatten(0, 1).float() for name in (HOOK, NEURONS)}


class RealText(NamedTuple):
    planted: pd.DataFrame
    """Latents planted on the numbers (`planted_latents`)."""
    learnt: pd.DataFrame
    """Those of a small model trained on the verses, and of the same model untrained, held against the numbers."""
    joined: Synonyms
    cross: Counted
    """Latents of the dictionaries, all seeds together, that fire for one number in both languages (`cross_lingual`)."""
    null: Counted
    """As many as do where the verses of one language are shuffled before the model is trained."""


def real_text(
    languages: Sequence[Verses], seeds: int, latents: int, sizes: Sizes, progress: Progress = no_progress
) -> RealText:
    """The tables have one row a latent, as `judge_latents` makes them; `latents`: those planted in each world.

    Raises ValueError where the verses have too few words for `sizes`.
    """
    joined, calibration = synonyms(languages), Calibration.load()
    planted: list[pd.DataFrame] = []
    learnt: list[pd.DataFrame] = []
    cross: list[Joined] = []
    null: list[Joined] = []
    for seed in range(seeds):
        world = f"bible-{seed}"
        text = passages(languages, joined, seed, sizes)
        config = WorldConfig(seed=seed, n_seq=sizes.judged, n_ctx=sizes.n_ctx, n_latents=latents)
        progress(3 * seed, 3 * seeds, "planted latents")
        planted_on = world_of(text.first(config.n_seq), config, np.random.default_rng([seed, 7]))
        planted.append(judge_world(planted_on, world, calibration))
        with TemporaryDirectory() as folder:
            progress(3 * seed + 1, 3 * seeds, "a model of the verses")
            found = learned_latents(text, Path(folder) / "own", seed, sizes, nulls="untrained")
            known = text.of_meanings(sizes.judged)
            learnt.append(judge_learned(found, known, sizes, calibration, family="bible", world=world))
            progress(3 * seed + 2, 3 * seeds, "a model of shuffled verses")
            other = passages(languages, joined, seed, sizes, shuffled=True)
            shuffled = learned_latents(other, Path(folder) / "shuffled", seed, sizes)
        for counts, codes, read in ((cross, found, text), (null, shuffled, other)):
            counts.append(cross_lingual(codes["dictionary"].codes, read))
    return RealText(pd.concat(planted), pd.concat(learnt), joined, counted(cross), counted(null))


def sizes_for(latents: int) -> Sizes:
    """Eight latents of the dictionary for each planted one: there are more words than common meanings."""
    tokens = {"model_tokens": 2_000_000, "sae_tokens": 1_500_000}
    return Sizes(n_seq=8192, judged=2048, d_sae=8 * latents, d_mlp=256, d_model=128, **tokens)


def passages(
    languages: Sequence[Verses], joined: Synonyms, seed: int, sizes: Sizes, *, shuffled: bool = False
) -> LemmaText:
    """Passages in random order; shuffled: the verses of all languages but the first in random order too."""
    rng = np.random.default_rng([seed, 11])
    n = max(len(verses) for verses in languages)
    starts = rng.permutation(np.arange(0, n, PASSAGE))
    order = [i for start in starts for i in range(start, min(start + PASSAGE, n))]
    orders = [order, *(rng.permutation(order).tolist() if shuffled else order for _ in languages[1:])]
    ordered = [[verses[i] for i in own] for verses, own in zip(languages, orders, strict=True)]
    return lemma_text(ordered, sizes.n_seq, sizes.n_ctx, joined=joined)
