"""Three things apart: that a latent has one meaning, that the model learnt it, and what the model loses without it.

In: the tables of a report. Out: of each latent that was ablated its account of use, and where *learnt* and *effect*
disagree a sentence why; of all latents how many each of the three holds of, of how many that were tested.

A latent is learnt where that is likelier than not (`verdict.learnt`), and has an effect where its ablation costs surely
more than as long a change along other latents (`effects`: the interval of `beyond_null` is above 0).
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from interp.report.inputs import ReportInputs
from interp.report.json_text import number
from interp.verdict.learnt import LearntFit, learnt_evidence
from interp.verdict.verdicts import IDLE, wilson

CHANGES = ("loss_change", "null_loss_change", "beyond_null", "later_loss_change", "kl", "null_kl")
MEANINGS = {
    "one meaning": "monosemantic or single-token, of those neither dead nor faint",
    "learnt": "more likely from a trained model than from one with random weights; of those tested",
    "an effect": "removing it raises the loss more than an equal change along other latents does; of those ablated",
}


def uses(inputs: ReportInputs) -> dict[int, dict[str, Any]]:
    """Each latent that was ablated with the changes of the loss and of the predictions, their intervals, the tokens
    that it moves most, and `why`: a sentence where it is learnt and has no effect, or the other way round."""
    if inputs.effects is None:
        return {}
    table = inputs.effects.dropna(subset=["loss_change"]).set_index("latent", drop=False)
    reasons = _reasons(inputs, table)
    accounts = {}
    for latent, row in zip(table.index.tolist(), table.to_dict("records"), strict=True):
        changes = {name: [number(row[f"{name}{end}"]) for end in ("", "_low", "_high")] for name in CHANGES}
        if not any(changes["later_loss_change"]):  # behind the last block nothing reaches a later token
            del changes["later_loss_change"]
        sides = {"likelier": ("likelier_tokens", "likelier"), "less_likely": ("less_likely_tokens", "less_likely")}
        moved = {
            side: [[int(token), number(nats)] for token, nats in zip(row[tokens], row[by], strict=True)]
            for side, (tokens, by) in sides.items()
        }
        accounts[latent] = changes | moved | {"sequences": number(row["n_sequences"]), "why": reasons[latent]}
    return accounts


def shares(inputs: ReportInputs) -> list[dict[str, Any]]:
    """For each of the three its name and meaning, of how many latents it holds (n), of how many that were tested (of),
    the 95 % interval of the share, and a note on how those were chosen."""
    rows: list[dict[str, Any]] = []

    def add(name: str, holds: pd.Series, note: str = "") -> None:
        n, n_tested = int(holds.sum()), len(holds)
        if n_tested:
            interval = [number(end) for end in wilson(n, n_tested)]
            counts = {"n": n, "of": n_tested, "interval": interval}
            rows.append({"name": name, "meaning": MEANINGS[name], **counts, "note": note})

    if inputs.ranking is not None:
        judged = inputs.verdicts[~inputs.verdicts["verdict"].isin((*IDLE, "unranked"))]
        add("one meaning", judged["verdict"].isin(("monosemantic", "single-token")))
        add("learnt", _learnt(inputs).dropna() >= 0.5)
    if inputs.effects is not None:
        table = inputs.effects.dropna(subset=["loss_change"])
        firing = int((inputs.features["n_active"] > 0).sum())
        below = (table["beyond_null_high"] < 0).mean()
        chosen = "all that fire" if len(table) == firing else f"drawn by chance from the {firing:,} that fire"
        note = f"{chosen}, in at most {table['n_sequences'].max():.0f} sequences each; {below:.0%} cost surely less"
        add("an effect", table["beyond_null_low"] > 0, note)
    return rows


def _learnt(inputs: ReportInputs) -> pd.Series:
    verdicts = inputs.verdicts
    return verdicts["learnt"] if "learnt" in verdicts else pd.Series(np.nan, verdicts.index)


def _reasons(inputs: ReportInputs, table: pd.DataFrame) -> dict[int, str | None]:
    """Says for each ablated latent why learnt and effect disagree; None where they agree, or one is not known."""
    evidence = learnt_evidence(inputs.store, None if inputs.nulls is None else inputs.nulls.twins)
    weakest = LearntFit.load().contributions(evidence).argmin(1)
    learnt = _learnt(inputs).reindex(table.index)
    reasons: dict[int, str | None] = {}
    for latent, p, row in zip(table.index.tolist(), learnt, table.to_dict("records"), strict=True):
        has_effect = row["beyond_null_low"] > 0
        if p != p or row["beyond_null_low"] != row["beyond_null_low"] or (p >= 0.5) == has_effect:
            reasons[latent] = None
        elif has_effect:
            names = [*evidence]
            reasons[latent] = _not_learnt(names[weakest[latent]], evidence[names[weakest[latent]]][latent])
        else:
            reasons[latent] = _no_effect(row)
    return reasons


def _not_learnt(weakest: str, value: float) -> str:
    if weakest == "random_correlation":
        return (
            "The model loses by its absence, yet a dictionary of a model with random weights has a latent that fires "
            f"alike (r = {value:.2f}): where it fires is in the text itself, and need not be learnt."
        )
    return (
        "The model loses by its absence, yet what it writes straight to the logits hardly tells which token follows "
        f"(AUROC {value:.2f}, chance ½), and no more is known of what the model learnt."
    )


def _no_effect(row: Mapping[Any, Any]) -> str:
    many = f"{row['n_sequences']:,} {'sequence' if row['n_sequences'] == 1 else 'sequences'}"
    if row["beyond_null_high"] < 0:
        return (
            "It looks learnt, yet removing it costs less than an equally large change along other latents: the model "
            "says the same without it, or is as often wrong with it as right."
        )
    if row["kl_low"] > row["null_kl"]:
        return (
            "It looks learnt, and changes the predictions more than its null does, but helped in some and hurt in "
            f"others of the {many}: that it helps on average is not sure."
        )
    return (
        "It looks learnt, but where it fires the model changes no more without it than by an equally large change "
        f"along other latents, as far as {many} can tell: others say the same, or too few firings were seen."
    )
