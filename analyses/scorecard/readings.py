"""Does the ranking of a run agree with careful readers of its features?

    python -m analyses.scorecard.readings sheet RUN --out sheet              what readers see: sheet/sheet.txt
    python -m analyses.scorecard.readings score RUN sheet/*.csv              when they have filled copies of answers.csv

A reader is a person or a language model. For each feature drawn, the sheet shows the strongest firings and others
spread evenly over the tenths of its activation range, and no number of the ranking. A reader answers

    p_one       0 to 100: how probable it is that nearly all firings have one meaning
    n_meanings  how many meanings the firings have; 9 for many, or none that can be seen
    meaning     the meaning or meanings, in a few words

`score` averages the readers and compares the ranking with them. With y = (mean p_one ≥ 50),

    AUROC       of the probability of one meaning, for y
    ECE         Σ over tenths of the probability:  share of the features × |mean probability − share with y|
    share       features with y, next to features that the ranking says have one meaning

It also gives how well one reader predicts the other, which no ranking can surpass. A feature that the ranking calls
single-token without having tested it counts as one with probability 1. Both commands need the run's features and its
ranking.
"""

import argparse
import csv
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
from scipy.stats import spearmanr
from sklearn.metrics import roc_auc_score

from interp import Run
from interp.codes.code_chunks import read_chunks
from interp.display.byte_parts import join_pieces
from interp.features.feature_store import FeatureStore

STRONGEST, SPREAD, AROUND = 8, 14, 12
"""Firings shown of each feature, and tokens on either side of each."""
SINGLE = ("single-token",)
ANSWERS = ("latent", "p_one", "n_meanings", "meaning")
INSTRUCTION = """\
Each feature below fires on some tokens of a text. Every line is one firing: how strong it is, in tenths of the
strongest, and the text around it, with the token on which the feature fires between « and ». ⏎ is the end of a line.
⟨e2⟩ is a byte of a character that was cut.

Judge each feature by itself. One meaning means that one concept (a token, a piece of a word, a class of words, a place
in a line, a topic, a format) describes nearly all firings, the weak ones too. One concept with a few weak firings that
do not belong is mostly one; two tokens that have nothing in common are two; tokens that share a clear property are one.

Write a line for each feature in a copy of answers.csv:
    latent, p_one (0 to 100: the probability that it has one meaning), n_meanings (9: many, or none to be seen), meaning
"""


class Firings(NamedTuple):
    rows: np.ndarray
    """seq * n_ctx + pos, the strongest first."""
    values: np.ndarray


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    sheet = commands.add_parser("sheet", help="write what readers are shown")
    sheet.add_argument("run", type=Path)
    sheet.add_argument("--out", type=Path, required=True, help="a folder")
    sheet.add_argument("--latents", type=int, default=60, help="how many features to draw (default 60)")
    sheet.add_argument("--seed", type=int, default=0)
    score = commands.add_parser("score", help="hold the ranking against readers' answers")
    score.add_argument("run", type=Path)
    score.add_argument("answers", type=Path, nargs="+", help="a CSV for each reader")
    score.add_argument("--worst", type=int, default=20, help="features that disagree most, to show (default 20)")
    options = parser.parse_args(arguments)
    run = Run(options.run)
    if options.command == "sheet":
        drawn = draw(run.ranking, options.latents, options.seed)
        write_sheet(run.features, drawn, options.out, options.seed)
        print(f"{len(drawn)} features in {options.out / 'sheet.txt'}; answers go into copies of answers.csv beside it")
    else:
        print(report(score_ranking(run.ranking, [read_answers(file) for file in options.answers]), options.worst))


def draw(ranking: pd.DataFrame, n: int, seed: int) -> list[int]:
    """Draw `n` latents at random, in random order, among those that the ranking judged, including single-token
    latents."""
    judged = ranking.latent[ranking.monosemanticity.notna() | ranking.verdict.isin(SINGLE)].to_numpy()
    if not len(judged):
        raise ValueError("the ranking judged no latent: there is nothing to read")
    return np.random.default_rng(seed).choice(np.sort(judged), min(n, len(judged)), replace=False).tolist()


def write_sheet(features: FeatureStore, latents: Sequence[int], out: Path, seed: int = 0) -> None:
    """Write `sheet.txt`, and `answers.csv` with a row to fill for each latent."""
    out.mkdir(parents=True, exist_ok=True)
    parts = [INSTRUCTION]
    for latent, firings in collect_firings(features, latents).items():
        rng = np.random.default_rng([seed, latent])
        shown = [*range(min(STRONGEST, len(firings.rows))), *pick_spread_places(firings.values, rng)]
        lines = [firing_line(features, firings.rows[i], firings.values[i] / firings.values[0]) for i in shown]
        parts.append("\n".join([f"## latent {latent}", *lines]))
    (out / "sheet.txt").write_text("\n\n".join(parts) + "\n", encoding="utf-8")
    with (out / "answers.csv").open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(ANSWERS)
        writer.writerows([latent, "", "", ""] for latent in latents)


def collect_firings(features: FeatureStore, latents: Sequence[int]) -> dict[int, Firings]:
    """Return all firings of the latents, in one pass over the codes. A latent that never fires is a ValueError."""
    rows: dict[int, list[np.ndarray]] = {latent: [] for latent in latents}
    values: dict[int, list[np.ndarray]] = {latent: [] for latent in latents}
    for chunk in read_chunks(features.codes):
        columns = chunk.by_latent
        for latent in latents:
            span = slice(columns.indptr[latent], columns.indptr[latent + 1])
            rows[latent].append(columns.indices[span].astype(np.int64) + chunk.start)
            values[latent].append(columns.data[span])
    collected = {}
    for latent in latents:
        strengths = np.concatenate(values[latent])
        if not len(strengths):
            raise ValueError(f"latent {latent} never fires: there is nothing to read")
        order = np.argsort(-strengths, kind="stable")
        collected[latent] = Firings(np.concatenate(rows[latent])[order], strengths[order])
    return collected


def pick_spread_places(values: np.ndarray, rng: np.random.Generator) -> list[int]:
    """Return places of `SPREAD` firings beyond the strongest ones, the tenths of (0, maximum] taken in turn from
    above."""
    left = np.arange(STRONGEST, len(values))
    tenth = np.minimum((values[left] / values[0] * 10).astype(int), 9)
    queues = [rng.permutation(left[tenth == level]).tolist() for level in range(9, -1, -1)]
    chosen: list[int] = []
    while len(chosen) < SPREAD and any(queues):
        for queue in queues:
            if queue and len(chosen) < SPREAD:
                chosen.append(queue.pop())
    return sorted(chosen)


def firing_line(features: FeatureStore, row: int, level: float) -> str:
    sequence, at = divmod(int(row), features.n_ctx)
    tokens = features.tokens[sequence].tolist()
    first, last = max(0, at - AROUND), min(features.n_ctx, at + AROUND + 1)
    before, here, after = (
        "".join(text for text, _ in join_pieces([features.vocab[token] for token in part]))
        for part in (tokens[first:at], tokens[at : at + 1], tokens[at + 1 : last])
    )
    return f"{level * 10:4.1f}  {before}«{here}»{after}".replace("\n", "⏎")


def read_answers(file: Path) -> pd.DataFrame:
    """Return p_one in [0, 1] and n_meanings by latent. Raises a ValueError that names answers which cannot be read."""
    table = pd.read_csv(file)
    if missing := [name for name in ANSWERS[:3] if name not in table.columns]:
        raise ValueError(f"{file} has no column {', '.join(missing)}: fill a copy of answers.csv")
    table = table.dropna(subset=["p_one"])
    numbers = pd.to_numeric(table.p_one, errors="coerce")
    if len(wrong := table[~numbers.between(0, 100)]):
        raise ValueError(f"{file}: latent {wrong.latent.iloc[0]} has p_one {wrong.p_one.iloc[0]}, not 0 to 100")
    if table.latent.duplicated().any():
        raise ValueError(f"{file} has latent {table.latent[table.latent.duplicated()].iloc[0]} twice")
    return table.assign(p_one=numbers / 100).set_index("latent")


class Score(NamedTuple):
    table: pd.DataFrame
    """Per latent: `probability` of the ranking, `readers` (mean p_one), `one` (at least 0.5), verdict and words."""
    auroc: float
    ece: float
    share_ranking: float
    share_readers: float
    senses_exact: float
    """Among latents to which all readers give the same number of meanings (2 to 8), the share with that `n_senses`."""
    correlation: float
    """Spearman's, of the first two readers; NaN for one."""
    ceiling: float
    """AUROC of one reader for the other, the mean of both directions; NaN for one."""


def score_ranking(ranking: pd.DataFrame, answers: Sequence[pd.DataFrame]) -> Score:
    latents = sorted(set.intersection(*(set(table.index) for table in answers)))
    ranked = ranking.set_index("latent").reindex(latents)
    if ranked.verdict.isna().any():
        raise ValueError(f"latent {ranked.index[ranked.verdict.isna()][0]} is not in the ranking of this run")
    probability = ranked.monosemanticity.where(~(ranked.monosemanticity.isna() & ranked.verdict.isin(SINGLE)), 1.0)
    readers = np.mean([table.p_one.reindex(latents) for table in answers], axis=0)
    table = pd.DataFrame({"probability": probability, "readers": readers, "one": readers >= 0.5})
    table["verdict"], table["explanation"] = ranked.verdict, ranked.explanation
    table["meaning"] = answers[0].meaning.reindex(latents) if "meaning" in answers[0] else ""
    table = table[table.probability.notna()]
    return Score(
        table,
        area(table.one, table.probability),
        calibration_error(table.probability.to_numpy(), table.one.to_numpy()),
        float((table.probability >= 0.5).mean()),
        float(table.one.mean()),
        _senses_exact(ranked, answers, latents),
        *_agreement(answers, latents),
    )


def area(one: pd.Series, scores: pd.Series) -> float:
    """Return AUROC; NaN if all latents are of one kind."""
    return float(roc_auc_score(one, scores)) if one.nunique() == 2 else np.nan


def calibration_error(probability: np.ndarray, one: np.ndarray) -> float:
    tenth = np.clip((probability * 10).astype(int), 0, 9)
    levels = [tenth == level for level in np.unique(tenth)]
    return float(sum(level.mean() * abs(probability[level].mean() - one[level].mean()) for level in levels))


def _senses_exact(ranked: pd.DataFrame, answers: Sequence[pd.DataFrame], latents: Sequence[int]) -> float:
    counts = np.stack([table.n_meanings.reindex(latents) for table in answers])
    several = (counts == counts[0]).all(0) & (counts[0] > 1) & (counts[0] < 9)
    return float((ranked.n_senses.to_numpy()[several] == counts[0][several]).mean()) if several.any() else np.nan


def _agreement(answers: Sequence[pd.DataFrame], latents: Sequence[int]) -> tuple[float, float]:
    if len(answers) < 2:
        return np.nan, np.nan
    first, second = (table.p_one.reindex(latents) for table in answers[:2])
    return float(spearmanr(first, second)[0]), (area(second >= 0.5, first) + area(first >= 0.5, second)) / 2


def report(score: Score, worst: int) -> str:
    table = score.table.assign(apart=(score.table.probability - score.table.readers).abs())
    lines = [
        f"{len(table)} features; AUROC {score.auroc:.3f}, ECE {score.ece:.3f}",
        f"of one meaning: readers {score.share_readers:.0%}, ranking {score.share_ranking:.0%}",
        f"number of senses as all readers say: {score.senses_exact:.2f}",
        f"readers: rank correlation {score.correlation:.2f}, one foretells the other with AUROC {score.ceiling:.2f}",
        "features that disagree most:",
    ]
    for latent, row in table.sort_values("apart", ascending=False).head(worst).iterrows():
        lines.append(
            f"  #{latent:<6d} ranking {row.probability:.2f} ({row.verdict}: {row.explanation or 'no rule'}), "
            f"readers {row.readers:.2f} ({row.meaning})"
        )
    return "\n".join(lines)


if __name__ == "__main__":
    main()
