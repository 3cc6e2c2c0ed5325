"""Worlds by another author: latents planted in texts that no calibration is fitted to, ranked as a user ranks their
own.

In: a text of `foreign_texts`. Out: one row per latent: how it was made, whether it has one meaning, how many, and what
`FeatureStore.from_codes` and `rank_features` say about it. Nothing else of the library is used.

    one       a label's spans       graded   each of its tokens fires at its own strength
    part      half of its tokens    noisy    with up to an eighth of its mass at random places, most of them weak
    token     one token             after    the eight tokens after some token
    union     two or three of these that have nothing in common, of about equal mass
    tokens    two or three tokens that occur in different parts of the text
    scatter   eight to twenty such tokens or random places: without meaning

A concept's home is that of its label. The home of a token, or of what follows one, is the home that contains most of
it, or none. Two concepts are never joined if they share a home, if neither has one, or if they share a tenth of their
places.
"""

from functools import partial
from tempfile import TemporaryDirectory
from typing import NamedTuple

import numpy as np
import pandas as pd
import scipy.sparse
import torch
from jaxtyping import Float32, Int64
from numpy.random import Generator as Random

from analyses.scorecard import foreign_texts
from analyses.scorecard.foreign_texts import MarkedText, written
from analyses.scorecard.scores import auroc, ece_by_chance, expected_calibration_error
from interp import FeatureStore, rank_features
from interp.verdict.calibration import Calibration

TEXTS = {text.__name__: partial(written, text) for text in (foreign_texts.machines, foreign_texts.talk)}
MIN_ROWS = 150
"""The least number of rows on which a concept holds."""
MAX_SHARE = 0.25
"""The largest share of the text on which a concept may hold."""
LONG = 6
"""Tokens; a label of longer spans, such as a turn or a record, is not a home of the tokens in it."""
REACH = 8
MADE = {"one": 0.16, "graded": 0.1, "part": 0.08, "noisy": 0.1, "token": 0.06, "after": 0.06,
        "union": 0.24, "tokens": 0.12, "scatter": 0.08}  # fmt: skip
"""Share of the latents of each kind."""


class Concept(NamedTuple):
    name: str
    home: str
    rows: Int64[np.ndarray, " row"]


class Planted(NamedTuple):
    made: str
    name: str
    n_meanings: int
    """0 for a scatter."""
    rows: Int64[np.ndarray, " row"]
    values: Float32[np.ndarray, " row"]


def judge_foreign(
    name: str,
    calibration: Calibration | None = None,
    *,
    seed: int = 0,
    n_seq: int = 1200,
    n_ctx: int = 128,
    n_latents: int = 240,
) -> pd.DataFrame:
    """Return one row per latent that the ranking tested. calibration: None for the one that ships."""
    rng = np.random.default_rng([seed, list(TEXTS).index(name)])
    text = TEXTS[name](rng, n_seq, n_ctx)
    planted = plant(text, n_latents, rng)
    entries = [np.concatenate(each) for each in zip(*((p.values, p.rows) for p in planted), strict=True)]
    latents = np.repeat(np.arange(len(planted)), [len(p.rows) for p in planted])
    codes = scipy.sparse.csr_matrix((entries[0], (entries[1], latents)), shape=(text.tokens.size, len(planted)))
    with TemporaryDirectory() as folder:
        features = FeatureStore.from_codes(torch.from_numpy(text.tokens), codes, folder, vocab=text.vocab)
        ranking = rank_features(features, n_shifts=1, calibration=calibration).sort_values("latent")
    table = pd.DataFrame(planted).drop(columns=["rows", "values"]).assign(world=name, latent=range(len(planted)))
    columns = ["latent", "monosemanticity", "ci_low", "ci_high", "verdict", "n_senses", "explanation", "shared"]
    table = table.merge(ranking[columns], on="latent")
    return table[table.monosemanticity.notna()].assign(is_one=table.n_meanings == 1)


def foreign_scores(judged: pd.DataFrame) -> pd.DataFrame:
    """Return one row per world: `auroc`, `ece`, `ece_by_chance`; `planted` and `verdict`, the shares of one meaning; of
    unions the share whose number of senses is exact, `senses_exact`, or missed by one at most, `senses_near`."""
    rows = []
    for world, part in judged.groupby("world"):
        p, one = part.monosemanticity.to_numpy(), part.is_one.to_numpy()
        several = part[part.n_meanings > 1]
        apart = (several.n_senses - several.n_meanings).abs()
        row = {"world": world, "n": len(part), "auroc": auroc(one, p, np.ones(len(p)))}
        row |= {
            "ece": expected_calibration_error(p, one),
            "ece_by_chance": ece_by_chance(p),
            "planted": one.mean(),
            "verdict": (p >= 0.5).mean(),
        }
        rows.append(row | {"senses_exact": (apart == 0).mean(), "senses_near": (apart <= 1).mean()})
    return pd.DataFrame(rows)


def plant(text: MarkedText, n_latents: int, rng: Random) -> list[Planted]:
    concepts, tokens, after = _concepts(text)
    every = concepts + tokens[::2] + after
    kinds = rng.choice(list(MADE), size=n_latents, p=np.array([*MADE.values()]) / sum(MADE.values()))
    pools = {"token": tokens, "after": after, "tokens": tokens}
    flat, out = text.tokens.reshape(-1), []
    for kind in kinds:
        pool = pools.get(kind, every if kind == "union" else concepts)
        if kind == "scatter":
            out.append(_scatter(tokens, flat.size, rng))
            continue
        chosen = _unrelated(pool, int(rng.integers(2, 4)) if kind in ("union", "tokens") else 1, rng)
        parts = [_fires(concept.rows, flat, kind, rng) for concept in chosen]
        least = min(len(rows) for rows, _ in parts)
        rows, values = [], []
        for concept_rows, strength in parts:
            kept = rng.permutation(len(concept_rows))[: int(least * rng.uniform(1, 1.8))]
            rows.append(concept_rows[kept])
            values.append(strength[kept])
        if kind == "noisy" or (kind in ("union", "tokens") and rng.random() < 0.3):
            n = int(sum(map(len, rows)) * rng.uniform(0.1, 0.3))
            rows.append(rng.integers(flat.size, size=n))
            values.append(rng.gamma(2, 0.15, n))
        all_rows, first = np.unique(np.concatenate(rows), return_index=True)
        name = " + ".join(concept.name for concept in chosen)
        out.append(Planted(str(kind), name, len(chosen), all_rows, np.concatenate(values)[first].astype(np.float32)))
    return out


def _concepts(text: MarkedText) -> tuple[list[Concept], list[Concept], list[Concept]]:
    """Return concepts of labels, of single tokens and of what follows tokens, if not too rare nor too common."""
    flat, n_ctx = text.tokens.reshape(-1), text.tokens.shape[1]
    homes = list(dict.fromkeys(label.split("/")[0] for label in text.spans))
    home = np.full(flat.size, -1)
    label_concepts = []
    for label, spans in text.spans.items():
        rows = np.concatenate([np.arange(*span) for span in spans])
        rows = np.unique(rows[rows < flat.size])
        if len(rows) < LONG * len(spans):
            home[rows] = homes.index(label.split("/")[0])
        label_concepts.append(Concept(label, label.split("/")[0], rows))

    def around(rows: np.ndarray) -> str:
        counts = np.bincount(home[rows] + 1, minlength=len(homes) + 1)
        return ["", *homes][int(counts.argmax())]

    token_concepts, following = [], []
    for token in np.flatnonzero(np.bincount(flat) >= MIN_ROWS):
        rows, name = np.flatnonzero(flat == token), repr(text.vocab[token])
        token_concepts.append(Concept(f"token {name}", around(rows), rows))
        if len(rows) * REACH < MAX_SHARE * flat.size and text.vocab[token].strip().isalpha():
            reached = rows[:, None] + np.arange(1, REACH + 1)
            reached = np.unique(reached[reached // n_ctx == rows[:, None] // n_ctx])
            following.append(Concept(f"after {name}", around(rows), reached))
    often = [
        [c for c in concepts if MIN_ROWS <= len(c.rows) <= MAX_SHARE * flat.size]
        for concepts in (label_concepts, token_concepts, following)
    ]
    return often[0], often[1], often[2]


def _unrelated(pool: list[Concept], n: int, rng: Random) -> list[Concept]:
    chosen: list[Concept] = []
    for place in rng.permutation(len(pool)):
        candidate = pool[place]
        if all(
            candidate.home != other.home
            and candidate.name.split()[-1] != other.name.split()[-1]
            and len(np.intersect1d(candidate.rows, other.rows)) < 0.1 * min(len(candidate.rows), len(other.rows))
            for other in chosen
        ):
            chosen.append(candidate)
        if len(chosen) == n:
            return chosen
    if len(chosen) > 1:
        return chosen
    raise ValueError(f"no two of {len(pool)} concepts have nothing in common: give the world more sequences (n_seq)")


def _fires(rows: np.ndarray, flat: np.ndarray, kind: str, rng: Random) -> tuple[np.ndarray, np.ndarray]:
    """Return where a latent of this kind fires of a concept's rows, and how strongly."""
    if kind == "part":
        firing_tokens = np.unique(flat[rows])
        rows = rows[np.isin(flat[rows], rng.permutation(firing_tokens)[: max(1, len(firing_tokens) // 2)])]
    share = np.exp(rng.uniform(np.log(0.2), 0))
    rows = rng.permutation(rows)[: max(MIN_ROWS * 2 // 3, int(share * len(rows)))]
    strength = rng.gamma(4, 0.25, len(rows))
    return rows, strength * rng.uniform(0.15, 1, flat.max() + 1)[flat[rows]] if kind == "graded" else strength


def _scatter(tokens: list[Concept], size: int, rng: Random) -> Planted:
    if rng.random() < 0.4:
        rows = np.unique(rng.integers(size, size=int(rng.integers(300, 2000))))
        name = "random places"
    else:
        chosen = rng.permutation(len(tokens))[: int(rng.integers(8, 20))]
        rows = np.unique(np.concatenate([rng.permutation(tokens[place].rows)[:100] for place in chosen]))
        name = "many tokens"
    return Planted("scatter", name, 0, rows, rng.gamma(2, 0.5, len(rows)).astype(np.float32))
