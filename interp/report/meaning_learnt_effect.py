"""Answer three separate questions: does a latent have one meaning, did the model learn it, and what does the model lose
without it?

In: the tables of a report. Out: an account of the use of each ablated latent, with a sentence that explains why if
*learnt* and *effect* disagree; and for each question, the number of latents for which the answer is yes, out of those
that were tested.

A latent is learnt if its probability of being learnt is ½ or more (`verdict.learnt`). It has an effect if its ablation
raises the loss more than an equally large change along other latents does (`effects`: the interval of `beyond_null` is
above 0).
"""

import math
from collections.abc import Mapping
from typing import Any

import pandas as pd

from interp.display.verdict_names import IDLE, ONE_MEANING_VERDICTS, TOO_RARE, UNRANKED
from interp.report.inputs import ReportInputs
from interp.report.json_text import number
from interp.statistics.estimates import wilson
from interp.verdict.learnt import LearntFit, learnt_inputs

CHANGE_COLUMNS = ("loss_change", "null_loss_change", "beyond_null", "later_loss_change", "kl", "null_kl")
SHARE_BY_CHANCE = 0.025
"""Share of the latents without any effect whose 95 % interval still lies above 0."""


def effect_accounts(inputs: ReportInputs) -> dict[int, dict[str, Any]]:
    """Return for each ablated latent the changes of the loss and of the predictions, their intervals, the tokens that
    it moves most, and `why`: a sentence if it is learnt without an effect, or has an effect without being learnt."""
    if inputs.effects is None:
        return {}
    table = inputs.effects.dropna(subset=["loss_change"]).set_index("latent", drop=False)
    reasons = _reasons(inputs, table)
    accounts = {}
    for latent, row in zip(table.index.tolist(), table.to_dict("records"), strict=True):
        changes = {name: [number(row[f"{name}{end}"], 2) for end in ("", "_low", "_high")] for name in CHANGE_COLUMNS}
        if not any(changes["later_loss_change"]):  # after the last block, nothing reaches a later token
            del changes["later_loss_change"]
        sides = {"likelier": ("likelier_tokens", "likelier"), "less_likely": ("less_likely_tokens", "less_likely")}
        moved = {
            side: [[int(token), number(nats)] for token, nats in zip(row[tokens], row[side_name], strict=True)]
            for side, (tokens, side_name) in sides.items()
        }
        accounts[latent] = changes | moved | {"sequences": number(row["n_sequences"]), "why": reasons[latent]}
    return accounts


def question_shares(inputs: ReportInputs) -> list[dict[str, Any]]:
    """Return, for each of the three questions, its name, the number of latents for which the answer is yes (n), the
    number of tested latents (of), the 95 % interval of the share, and a sentence on the tested latents. The effect also
    has the share that chance alone gives."""
    rows: list[dict[str, Any]] = []

    def add(name: str, holds: pd.Series, note: str, **facts: Any) -> None:
        n = int(holds.sum())
        n_tested = len(holds)
        if n_tested:
            interval = [number(end) for end in wilson(n, n_tested)]
            counts = {"n": n, "of": n_tested, "interval": interval}
            rows.append({"name": name, **counts, "note": note, **facts})

    if inputs.ranking is not None:
        judged = inputs.verdicts[~inputs.verdicts["verdict"].isin((*IDLE, UNRANKED))]
        n_rare = int((judged["verdict"] == TOO_RARE).sum())
        rest = f", {n_rare:,} of them, with too few firings to be tested, as features without one meaning"
        note = f"The {len(judged):,} features that are neither dead nor faint are counted{rest if n_rare else ''}."
        add("one meaning", judged["verdict"].isin(ONE_MEANING_VERDICTS), note)
        learnt = inputs.verdicts["learnt"].dropna()
        rest = "; the others fire too rarely or too weakly." if len(learnt) < len(inputs.verdicts) else "."
        add("learnt", learnt >= 0.5, f"{len(learnt):,} features could be tested{rest}")
    if inputs.effects is not None:
        ablated = inputs.effects.dropna(subset=["loss_change"])
        table = ablated.dropna(subset=["beyond_null_low"])
        firing = int((inputs.table["n_active"] > 0).sum())
        most = table["n_sequences"].max()
        n_unknown = len(ablated) - len(table)
        rest = f"; {n_unknown:,} more have no interval, as one sequence gives none" if n_unknown else ""
        note = (
            f"{len(table):,} of the {firing:,} features that fire were ablated one at a time, each in at most "
            f"{most:.0f} sequences{rest}."
        )
        add("effect", table["beyond_null_low"] > 0, note, chance=SHARE_BY_CHANCE)
    return rows


def _reasons(inputs: ReportInputs, table: pd.DataFrame) -> dict[int, str | None]:
    """Explain for each ablated latent why learnt and effect disagree. The entry is None if they agree, or if one is
    unknown."""
    evidence = learnt_inputs(inputs.features, None if inputs.nulls is None else inputs.nulls.twins)
    weakest = LearntFit.load().contributions(evidence).argmin(1)
    learnt = inputs.verdicts["learnt"].reindex(table.index)
    reasons: dict[int, str | None] = {}
    for latent, p, row in zip(table.index.tolist(), learnt, table.to_dict("records"), strict=True):
        has_effect = row["beyond_null_low"] > 0
        if math.isnan(p) or math.isnan(row["beyond_null_low"]) or (p >= 0.5) == has_effect:
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
            "The model needs it, yet it is probably not learnt: a dictionary of a model with random weights has a "
            f"feature that fires on the same tokens (r = {value:.2f}), so the text alone may explain it."
        )
    return (
        "The model needs it, yet it is probably not learnt: its direct logit effects hardly tell which token follows "
        f"(AUROC {value:.2f}, where chance gives ½). It may act through later layers, which is not measured."
    )


def _no_effect(row: Mapping[Any, Any]) -> str:
    many = f"{row['n_sequences']:,} {'sequence' if row['n_sequences'] == 1 else 'sequences'}"
    if row["beyond_null_high"] < 0:
        return (
            "It is learnt, yet removing it costs less than an equally large change along other features: others may do "
            "the same, or its predictions are wrong as often as right."
        )
    if row["kl_low"] > row["null_kl"]:
        return f"In {many}, removing it raises the loss about as often as it lowers it."
    return f"It was removed in {many}: other features may do the same, or too few of its firings were seen."
