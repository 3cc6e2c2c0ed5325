"""The page's account of the run: facts, figures, tables, and a word on each piece that is missing.

In: `ReportInputs`. Out: JSON for `summary.js`; a panel is a note, with title, height and plotly's JSON if drawn.
"""

import json
from collections.abc import Mapping
from typing import Any

import pandas as pd
import plotly.graph_objects as go

from interp import figures
from interp.figures.population import UNTESTED
from interp.monosemanticity.verdicts import BY_PROBABILITY
from interp.report.columns import VERDICTS
from interp.report.inputs import ReportInputs
from interp.report.payloads import number

QUALITY_COLUMNS = {
    "dictionary": ("dictionary", ""),
    "l0": ("L0 (latents a token)", ".1f"),
    "fvu": ("FVU", ".3f"),
    "fvu_all": ("FVU, outliers too", ".3f"),
    "outlier_share": ("outliers, left alone", ".2%"),
    "ce_clean": ("CE, model (nats)", ".3f"),
    "ce_spliced": ("CE, spliced (nats)", ".3f"),
    "ce_mean_ablated": ("CE, mean-ablated (nats)", ".3f"),
    "ce_zero_ablated": ("CE, zero-ablated (nats)", ".3f"),
    "ce_recovered_mean": ("CE recovered, vs mean", ".1%"),
    "ce_recovered_zero": ("CE recovered, vs zero", ".1%"),
    "dead_share": ("dead", ".1%"),
    "ultra_low_share": ("ultra-low", ".1%"),
    "n_tokens": ("tokens", ",.0f"),
}
"""Column of the quality table → its heading, and the format of its numbers."""
DICTIONARIES = {
    "SAE": "the dictionary of this page",
    "twin seed": "the same settings from another seed",
    "neurons": "the MLP's neurons as they come",
    "frozen decoder": "the same settings, the decoder left as it was drawn",
    "shuffled model": "the same settings on a model whose weights are shuffled",
    "untrained model": "the same settings on the model before any training",
}
CURVES = {
    "fvu": "FVU: variance left unexplained.",
    "l0": "L0: latents firing on a token.",
    "dead": "Dead: latents that have ceased to fire.",
}
DENSITIES = "Dead latents never fired on the tokens scanned; the shaded range fires on less than one token in 100,000."
NULLS_NOTE = (
    "All were judged on the same sequences with the same settings. Those that were trained for this comparison saw "
    "fewer tokens than the SAE: hold the frozen decoder and the other models against the twin seed, which saw as many. "
    " Detectors of a single token are real on a random model too, since its embeddings tell tokens apart; they "
    "have a verdict of their own, single-token, so the share to compare is that called monosemantic. "
    "A verdict is sure where the interval of its probability lies on one side of ½; where it holds ½, the latent is "
    "unsure, and its verdict no more than the likelier of the two."
)


def _facts(inputs: ReportInputs) -> list[tuple[str, str]]:
    """What was looked at, in a few words and numbers."""
    store, features, results = inputs.store, inputs.features, inputs.model_results
    fires = features["n_active"] > 0
    rows = [
        ("Latents", f"{store.d_sae:,}"),
        ("Firing", f"{int(fires.sum()):,} ({fires.mean():.1%})"),
        ("Tokens scanned", f"{inputs.n_scanned:,} in contexts of {store.n_ctx}"),
        ("Latents a token", f"{features['density'].fillna(0).sum():.1f}"),
    ]
    if hook := store.meta.get("hook_name") or store.meta.get("hook"):
        rows.insert(0, ("Hook", str(hook)))
    if "parameters" in results:
        rows.append(("Model", f"{results['parameters']:,} parameters, {results.get('tokens', 0):,} tokens seen"))
    if "val_loss" in results:
        rows.append(("Validation loss", f"{results['val_loss']:.3f} nats a token"))
    if "bits_per_character" in results:
        rows.append(("Bits a character", f"{results['bits_per_character']:.3f}"))
    return rows


def summary(inputs: ReportInputs) -> dict[str, Any]:
    densities = _panel(DENSITIES, figures.density_histogram(inputs.features))
    return {
        "facts": _facts(inputs),
        "nulls": _nulls(inputs),
        "quality": _quality(inputs),
        "concepts": _concepts(inputs),
        "stages": [[name, number(seconds)] for name, seconds in inputs.stages],
        "panels": [*_training(inputs), densities, *_population(inputs)],
    }


def _training(inputs: ReportInputs) -> list[dict]:
    model, sae, results = inputs.curves.get("model"), inputs.curves.get("sae"), inputs.model_results
    no_model = "No training curve of the model: it was not trained in this run, or its metrics were not given."
    no_sae = "No training curves of the dictionary: it was not trained in this run, or its metrics were not given."
    panels = [_panel(no_model), _panel(no_sae)]
    if model is not None and {"tokens", "loss"} <= set(model):
        known = {name: results.get(f"{name}_cross_entropy") for name in ("unigram", "bigram")}
        levels = {name: loss for name, loss in known.items() if loss is not None}
        panels[0] = _panel(
            "Lower is better; the lines are the corpus's own n-gram models.",
            figures.training(model, panels=["loss"], levels=levels),
        )
    if sae is not None and {"tokens", "fvu", "l0", "dead"} <= set(sae):
        drawn = [name for name in CURVES if name == "fvu" or sae[name].nunique() > 1]
        panels[1] = _panel(" ".join(CURVES[name] for name in drawn), figures.training(sae, panels=drawn))
    return panels


def _population(inputs: ReportInputs) -> list[dict]:
    if not inputs.ranked:
        return [_panel("No ranking: verdicts and scores are left out. interp rank writes one, or pass ranking=.")]
    ranking = inputs.ranking[~inputs.ranking["verdict"].isin(UNTESTED)]
    known = ("context_coherence", "monosemanticity")
    scores = [name for name in known if name in ranking and ranking[name].notna().any()]
    panels = [] if scores else [_panel("No latent has a score: none fires often enough to be judged.")]
    if "monosemanticity" in scores:
        note = "The ranking's probability that a latent means one thing, within each verdict."
        panels.append(_panel(note, figures.score_distributions(ranking)))
    if scores:
        points = ranking.assign(density=inputs.features["density"])
        note = "A score that only followed density would be one curve."
        panels.append(_panel(note, figures.coherence_density(points, score=scores[0])))
    if inputs.concepts is not None and len(inputs.concepts):
        note = "Above the diagonal the best single feature detects the concept better than the best single neuron."
        panels.append(_panel(note, figures.concept_scatter(inputs.concepts)))
    return panels


def _panel(note: str, figure: go.Figure | None = None) -> dict:
    if figure is None:
        return {"note": note}
    title, height = figure.layout.title.text, figure.layout.height
    above = 56 if any(note.yref == "paper" and note.y >= 0.99 for note in figure.layout.annotations) else 28
    figure.update_layout(title=None, width=None, margin=dict(l=56, r=12, t=above, b=48))
    return {"title": title, "note": note, "height": height, "figure": json.loads(figure.to_json())}


def _quality(inputs: ReportInputs) -> dict | str:
    table = inputs.quality
    if table is None or table.empty:
        return "No quality table: it needs the model and held-out tokens."
    if not table.get("outlier_share", pd.Series(0)).any():
        table = table.drop(columns=["fvu_all", "outlier_share"], errors="ignore")
    columns = [name for name in QUALITY_COLUMNS if name in table]
    rows = [[_cell(row[name], QUALITY_COLUMNS[name][1]) for name in columns] for _, row in table.iterrows()]
    return {"columns": [QUALITY_COLUMNS[name][0] for name in columns], "rows": rows}


def _cell(value: Any, form: str) -> str:
    return str(value) if not form else "–" if value != value or value is None else format(value, form)


def _nulls(inputs: ReportInputs) -> dict | str:
    """The verdict shares as a figure and a table, with what the reader must know to compare them."""
    table = inputs.shares
    if table is None or table.empty:
        return "No nulls: the shares of the verdicts have nothing to stand beside. A run's stage nulls computes them."
    verdicts = [verdict for verdict in VERDICTS if verdict != "dead" and (table["verdict"] == verdict).any()]
    rows: list[dict[str, Any]] = []
    for name, part in table.groupby("dictionary", sort=False):
        by_verdict = part.set_index("verdict").reindex([*verdicts, "dead"]).fillna({"n": 0})
        shares = by_verdict.loc[verdicts, ["share", "ci_low", "ci_high"]].to_numpy()
        first = part.iloc[0]
        rows.append({
            "dictionary": str(name),
            "means": DICTIONARIES.get(str(name), ""),
            "trained": number(first.get("trained_tokens")),
            "judged": number(first.get("latents")),
            "shares": [[number(value) for value in interval] for interval in shares],
            "tested": _of_tested(by_verdict, "monosemantic", "share"),
            "surely": [_of_tested(by_verdict, verdict, "sure") for verdict in BY_PROBABILITY],
            "unsure": _of_tested(by_verdict, "monosemantic", "unsure"),
            "dead": int(by_verdict["n"].to_numpy()[-1]),
        })  # fmt: skip
    said = _told_apart({row["dictionary"]: row["tested"] for row in rows})
    panel = _panel(NULLS_NOTE, figures.verdict_shares(table))
    return {"verdicts": verdicts, "rows": rows, "said": said, "panel": panel}


def _told_apart(tested: Mapping[str, list[float | None] | None]) -> str:
    """Whether the share called monosemantic tells the twin seed from the dictionaries that learnt nothing."""
    twin = tested.get("twin seed")
    others = {name: tested.get(name) for name in ("frozen decoder", "shuffled model", "untrained model")}
    known = {name: interval for name, interval in others.items() if interval}
    if not twin or not known:
        return ""
    below = [name for name, (_, _, high) in known.items() if high < twin[1]]  # type: ignore[operator]
    alike = [name for name in known if name not in below]
    sentences = []
    if below:
        where = " and the ".join(below)
        sentences.append(f"Of the latents tested, fewer are monosemantic in the {where} than in the twin.")
    if alike:
        sentences.append(
            f"By this share the {' and the '.join(alike)} cannot be told from the twin (or lies above it): that a "
            "latent is called monosemantic says that its firings have one thing in common in the text, not that the "
            "model learnt it."
        )
    return " ".join(sentences)


def _of_tested(by_verdict: pd.DataFrame, verdict: str, part: str) -> list[float | None] | None:
    """A share of the latents that could be tested, and its interval: of those that have the verdict (`share`), that are
    `sure` of it, or that are `unsure` whether this or the other."""
    ends = "tested" if part == "share" else f"tested_{part}"
    columns = [f"tested_{part}", f"{ends}_low", f"{ends}_high"]
    if verdict not in by_verdict.index or not set(columns) <= set(by_verdict):
        return None
    cells = [number(value) for value in by_verdict.loc[verdict, columns]]
    return None if None in cells else cells  # type: ignore[return-value]


def _concepts(inputs: ReportInputs) -> list | str:
    table = inputs.concepts
    if table is None or table.empty:
        return "No concepts: the tokens carry no labels, or the neurons were not scanned."
    columns = ["label", "feature", "f1_feature", "neuron", "f1_neuron"]
    ordered = table.sort_values("f1_feature", ascending=False)
    return [[number(value) for value in row] for row in ordered[columns].itertuples(index=False)]
