"""The verdict on real text, the Bible in English and Spanish, whose words carry the numbers of Strong's concordance.

    planted   latents planted on the numbers (`planted_latents`)
    learnt    a small model trained on the verses, its dictionary and its neurons, held against the numbers, and those
              of the same model untrained (`learned_world`)
    cross     latents that fire for one number in both languages, and as many as do where the verses of one language
              are shuffled before the model is trained (`cross_lingual`)

Numbers that are translated alike count as one (`glosses`); words that carry none are no truth about the model's
latents. The calibration is the one that ships: it knows planted text alone. Passages come in random order, so that each
part of the text has both testaments.
"""

from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

import numpy as np
import pandas as pd

from interp.benchmark.cross_lingual import Counted, Joined, counted, cross_lingual
from interp.benchmark.glosses import Synonyms, Verses, synonyms
from interp.benchmark.judged import judge_world
from interp.benchmark.lemma_text import LemmaText, lemma_text
from interp.benchmark.planted_latents import WorldConfig, world_of
from interp.files import Progress, no_progress
from interp.monosemanticity.calibration import Calibration
from interp.pipeline.learned_world import Sizes, judge_learned, learned_latents

PASSAGE = 32
"""Verses that stay together."""


class RealText(NamedTuple):
    planted: pd.DataFrame
    learnt: pd.DataFrame
    joined: Synonyms
    cross: Counted
    """Latents of the dictionaries, all seeds together."""
    null: Counted


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
    return Sizes(
        n_seq=8192,
        judged=2048,
        d_sae=8 * latents,
        d_mlp=256,
        d_model=128,
        model_tokens=2_000_000,
        sae_tokens=1_500_000,
    )


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
