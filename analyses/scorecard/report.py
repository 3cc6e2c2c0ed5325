"""Print and write the scorecard of a table of judged latents: scores, quality of the verdict, groups."""

import math
from typing import Any

import pandas as pd

from analyses.scorecard import synthetic as scorecard_synthetic
from analyses.scorecard.judged import claimed
from analyses.scorecard.rivals import RIVALS
from analyses.scorecard.scores import not_scored, scorecard, verdict_quality
from interp.verdict.measures import MEASURES
from interp.verdict.similarity import STATISTIC_NAMES

OURS = dict.fromkeys(STATISTIC_NAMES, 1)
KNOWN = {name: measure.sign for name, measure in MEASURES.items()} | RIVALS
"""Whether a large (+1) or a small value (−1) of each score is said to mean one meaning."""
SINGLE = OURS | KNOWN
FAMILY_SCORES = ("ece", "ece_by_chance", "ece_own_level", "ece_own_curve", "senses_exact")
_SHOWN = ["score", "n_scored", "auroc", "auroc_low", "auroc_high", "spearman", "precision"]


def report(title: str, table: pd.DataFrame, singles: dict[str, int]) -> dict[str, Any]:
    """Print a line for the verdict and one for each score; return the numbers, {} where the truth has one kind only."""
    truth = claimed(table)
    if truth.is_one.nunique() < 2:
        print(
            f"{title}: {len(truth)} latents whose truth is claimed, all of one kind: nothing to distinguish", flush=True
        )
        return {}
    scores = {"monosemanticity": 1, **singles}
    measured = scorecard(table, scores)
    quality, tested = verdict_quality(table), table[table.tested]
    quality["called_one"] = float((tested.monosemanticity >= 0.5).mean())
    ours = measured.set_index("score").reindex(["monosemanticity"]).iloc[0]
    words = {
        "AUROC": f"{ours.auroc:.3f} ({ours.auroc_low:.3f}–{ours.auroc_high:.3f})",
        "Spearman": f"{ours.spearman:.2f}",
        "P@k": f"{ours.precision:.3f}",
        "ECE": f"{quality['ece']:.3f}",
        "accuracy": f"{quality['accuracy']:.3f} ({quality['accuracy_sure']:.3f} of the sure)",
        "abstained": f"{quality['abstained']:.2f}",
        "senses exact": f"{quality['senses_exact']:.2f} (of the sample {quality['senses_of_sample']:.2f})",
        "of countable": f"{quality['senses_exact_countable']:.2f} ({quality['senses_of_sample_countable']:.2f})",
        "of the senses": f"{quality['parts_one']:.0%} have one meaning (AUROC {quality['parts_auroc']:.3f}, "
        f"ECE {quality['parts_ece']:.3f})",
        "called one": f"{quality['called_one']:.2f}",
    }
    title = f"{title}: {len(truth):,} latents, {truth.is_one.mean():.0%} with one meaning"
    print(title, *map(" ".join, words.items()), sep="; ", flush=True)
    results: dict[str, Any] = {"verdict": quality, "scores": measured.to_dict(orient="records")}
    if singles:
        print(measured[_SHOWN].round(3).to_string(index=False))
        for best in measured[measured.score.isin(KNOWN) & (measured.n_scored >= 0.9 * measured.n)].head(1).itertuples():
            results["margin"] = {"over": best.score, "by": ours.auroc - best.auroc}
            print(f"  {ours.auroc - best.auroc:.3f} above {best.score}, the best known measure that all have")
        results["not_scored"] = not_scored(table, scores)
        print(f"  not measured here: {', '.join(results['not_scored']) or 'none'}", flush=True)
    return results


def of_families(reports: dict[str, Any]) -> dict[str, Any]:
    """Return the mean of the families, each left out in turn, and the worst of them: AUROC, ECE, senses exact."""
    table = pd.DataFrame(
        {
            family: {name: part["verdict"][name] for name in FAMILY_SCORES} | {"auroc": _auroc(part)}
            for family, part in reports.items()
            if part
        }
    ).T
    summary = {"mean": table.mean().to_dict(), "worst": table.auroc.idxmin(), "worst_auroc": table.auroc.min()}
    print(f"families left out, mean and worst ({summary['worst']}):", table.round(3).to_string(), sep="\n", flush=True)
    return summary


def _auroc(part: dict[str, Any]) -> float:
    return next(row["auroc"] for row in part["scores"] if row["score"] == "monosemanticity")


def by_group(name: str, groups: Any) -> list[dict[str, Any]]:
    """Return one row per group of latents: how the verdict does where only one kind of latent is."""
    rows = []
    for value, part in groups:
        if len(claimed(part)):
            quality = verdict_quality(part)
            shown = ("n", "accuracy", "accuracy_sure", "abstained", "senses_exact", "senses_of_sample", "senses_near")
            called = (claimed(part).monosemanticity >= 0.5).mean()
            rows.append({name: value, "called_one": called} | {key: quality[key] for key in shown})
    print(pd.DataFrame(rows).round(3).to_string(index=False), flush=True)
    return rows


def scores_alone(title: str, judged: pd.DataFrame) -> list[dict[str, Any]]:
    """Return the scores. There are none if the truth has only one kind of latents, or if no latent of one kind fires as
    often as one of the other."""
    latents = claimed(judged)
    n_one, n = int(latents.is_one.sum()), len(latents)
    title = f"{title}: {n_one:,} latents with one meaning, {n - n_one:,} with several"
    if n_one in (0, n):
        print(f"{title}: there is nothing to tell apart", flush=True)
        return []
    table = scorecard(judged, scorecard_synthetic.MEASURES)
    table = table[table.auroc.notna()]
    if len(table) == 0:
        print(f"{title}: none of them fire alike", flush=True)
        return []
    print(title, flush=True)
    print(table[["score", "auroc", "auroc_low", "auroc_high", "spearman", "precision"]].round(3).to_string(index=False))
    return table.assign(n_one=n_one).to_dict(orient="records")


def json_value(value: Any) -> Any:
    """Make a value that JSON can hold: None for what is not a number."""
    if isinstance(value, dict):
        return {str(key): json_value(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [json_value(item) for item in value]
    number = value.item() if hasattr(value, "item") else value
    return None if isinstance(number, float) and not math.isfinite(number) else number
