"""The page's account of the run: facts, figures, tables, and a word on each piece that is missing.

In: `ReportInputs`. Out: JSON for `summary.js`; a panel is a note, with title, height and plotly's JSON if drawn.
"""

from collections.abc import Mapping
from typing import Any

import pandas as pd

from interp import figures
from interp.display.verdict_looks import VERDICT_LOOKS, WITHOUT_SCORES
from interp.report.inputs import ReportInputs
from interp.report.json_text import number
from interp.report.panels import Panel
from interp.verdict.verdicts import IDLE, ONE_MEANING, verdict_shares

QUALITY_COLUMNS = {
    "dictionary": ("dictionary", ""),
    "l0": ("L0 (latents a token)", ".1f"),
    "fvu": ("FVU", ".3f"),
    "fvu_all": ("FVU, outliers too", ".3f"),
    "outlier_share": ("outliers, left alone", ".2%"),
    "ce_clean": ("CE, model (nats)", ".3f"),
    "ce_spliced": ("CE, spliced (nats)", ".3f"),
    "ce_zero_ablated": ("CE, zero-ablated (nats)", ".3f"),
    "ce_unigram": ("CE, unigrams (nats)", ".3f"),
    "ce_mean_ablated": ("CE, mean-ablated (nats)", ".3f"),
    "ce_recovered": ("CE recovered, of the lower of zero-ablated and unigrams", ".1%"),
    "dead_share": ("dead", ".1%"),
    "faint_share": ("faint", ".1%"),
    "ultra_low_share": ("ultra-low", ".1%"),
    "n_tokens": ("tokens", ",.0f"),
}
"""Column of the quality table → its heading, and the format of its numbers."""
THIS = "this page's dictionary"
DICTIONARIES = {
    THIS: "as it is, all latents that were ranked",
    "SAE": "the same settings, learnt from as many tokens as the nulls",
    "twin seed": "the same settings from another seed",
    "neurons": "the MLP's neurons as they come",
    "coordinates": "the coordinates at the dictionary's own hook as they come",
    "frozen decoder": "the same settings, the decoder left as it was drawn",
    "frozen encoder": "the same settings, the encoder left as it was drawn",
    "soft-frozen decoder": "the same settings, decoder rows kept near their start",
    "shuffled model": "the same settings on a model whose weights are shuffled",
    "untrained model": "the same settings on the model before any training",
}
CURVES = {
    "fvu": "FVU: variance left unexplained.",
    "l0": "L0: latents firing on a token.",
    "dead": "Dead: latents that have ceased to fire.",
    "faint": "Faint: latents that fire, but never a quarter as strongly as the median latent.",
}
DENSITIES = "Dead latents never fired on the tokens scanned; the shaded range fires on less than one token in 100,000."
NULLS_NOTE = (
    "SAE and its nulls have as many latents, learnt from as many tokens (where that is fewer than this page's "
    "dictionary had, it was learnt again), and were judged on the same sequences in the same way. "
    "Those called single-token are real on a random model too, since its embeddings tell tokens apart. "
    "A verdict is sure where the interval of its probability lies on one side of ½; where it holds ½, the latent is "
    "unsure, and its verdict no more than the likelier of the two."
)
ONE_THING = (
    "That a latent has one meaning says that its firings have one thing in common in the text, not that the model "
    "learnt it."
)


def _facts(inputs: ReportInputs) -> list[tuple[str, str]]:
    """Names and values that say what was looked at."""
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
    return rows + [(name, value) for panel in inputs.panels if "fact" in panel for name, value in [panel["fact"]]]


def summary(inputs: ReportInputs) -> dict[str, Any]:
    densities = Panel(note=DENSITIES, figure=figures.density_histogram(inputs.features)).payload()
    return {
        "facts": _facts(inputs),
        "nulls": _nulls(inputs),
        "stages": [[name, number(seconds)] for name, seconds in inputs.stages],
        "panels": [*_quality(inputs), *_training(inputs), densities, *_population(inputs), *inputs.panels],
    }


def _training(inputs: ReportInputs) -> list[dict]:
    model, sae, results = inputs.curves.get("model"), inputs.curves.get("sae"), inputs.model_results
    missing = "No training {}: it was not trained in this run, or its metrics were not given."
    panels = [Panel(note=missing.format(curves)) for curves in ("curve of the model", "curves of the dictionary")]
    if model is not None and {"tokens", "loss"} <= set(model):
        known = {name: results.get(f"{name}_cross_entropy") for name in ("unigram", "bigram")}
        levels = {name: loss for name, loss in known.items() if loss is not None}
        note = "Lower is better; the lines are the corpus's own n-gram models."
        panels[0] = Panel(note=note, figure=figures.training(model, panels=["loss"], levels=levels))
    if sae is not None and {"tokens", *CURVES} <= set(sae):
        drawn = [name for name in CURVES if name == "fvu" or sae[name].nunique() > 1]
        note = " ".join(CURVES[name] for name in drawn)
        panels[1] = Panel(note=note, figure=figures.training(sae, panels=drawn))
    return [panel.payload() for panel in panels]


def _population(inputs: ReportInputs) -> list[dict]:
    if inputs.ranking is None:
        missing = "No ranking: verdicts and scores are left out. interp rank writes one, or pass ranking=."
        return [Panel(note=missing).payload()]
    ranking = inputs.verdicts[~inputs.verdicts["verdict"].isin(WITHOUT_SCORES)]
    known = ("concentration", "explanation_f1")
    scores = [name for name in known if name in ranking and ranking[name].notna().any()]
    panels = [] if scores else [Panel(note="No latent has a score: none fires often enough to be judged.")]
    if "explanation_f1" in scores:
        note = "How well each latent's rule in words finds where it fires, on held-out text, within each verdict."
        panels.append(Panel(note=note, figure=figures.score_distributions(ranking)))
    if scores:
        points = ranking.assign(density=inputs.features["density"])
        note = "A score that only followed density would be one curve."
        panels.append(Panel(note=note, figure=figures.coherence_density(points, score=scores[0])))
    return [panel.payload() for panel in panels]


def _quality(inputs: ReportInputs) -> list[dict]:
    table = inputs.quality
    if table is None or table.empty:
        return [Panel(note="No quality table: it needs the model and held-out tokens.").payload()]
    table = table.dropna(axis="columns", how="all")
    if not table.get("outlier_share", pd.Series(0)).any():
        table = table.drop(columns=["fvu_all", "outlier_share"], errors="ignore")
    (_, *names), *rows = (
        [heading, *(_cell(value, form) for value in table[name])]
        for name, (heading, form) in QUALITY_COLUMNS.items()
        if name in table
    )
    shown = pd.DataFrame(rows, columns=["", *names])
    note = "CE: the model's cross-entropy where the dictionary's reconstruction takes the place of its activations."
    return [Panel(title="Quality, on held-out tokens", note=note, table=shown).payload()]


def _cell(value: Any, form: str) -> str:
    return str(value) if not form else "–" if value != value or value is None else format(value, form)


def _nulls(inputs: ReportInputs) -> dict | str:
    """The verdict shares as a figure and a table, with what the reader must know to compare them."""
    table = None if inputs.nulls is None else inputs.nulls.shares
    if table is None or table.empty:
        return "No nulls: the shares of the verdicts have nothing to stand beside. A run's stage nulls computes them."
    verdicts = [verdict for verdict in VERDICT_LOOKS if verdict not in IDLE and (table["verdict"] == verdict).any()]
    rows: list[dict[str, Any]] = []
    for name, part in pd.concat([*_this_dictionary(inputs), table]).groupby("dictionary", sort=False):
        by_verdict = part.set_index("verdict").reindex([*verdicts, ONE_MEANING, *IDLE]).fillna({"n": 0})
        first = part.iloc[0]
        rows.append({
            "dictionary": str(name),
            "means": DICTIONARIES.get(str(name), ""),
            "trained": number(first.get("trained_tokens")),
            "judged": number(first.get("latents")),
            "of": int(part["n"][~part["verdict"].isin([ONE_MEANING, *IDLE])].sum()),
            "one": _share(by_verdict, ONE_MEANING),
            "shares": [_share(by_verdict, verdict) for verdict in verdicts],
            "unsure": _share(by_verdict, "monosemantic", "unsure"),
            **{verdict: int(by_verdict["n"].to_dict()[verdict]) for verdict in IDLE},
        })  # fmt: skip
    one = {row["dictionary"]: row["one"] for row in rows}
    judged = {row["dictionary"]: row["of"] for row in rows}
    panel = Panel(note=NULLS_NOTE, figure=figures.verdict_shares(table)).payload()
    notes = {"compare": _compare(one, judged), "told_apart": _told_apart(one)}
    return {"verdicts": verdicts, "rows": rows, **notes, "panel": panel}


def _this_dictionary(inputs: ReportInputs) -> list[pd.DataFrame]:
    """The shares of the ranking that the page shows; the nulls are judged on fewer latents, and had fewer tokens."""
    if inputs.ranking is None or "sure" not in inputs.ranking:
        return []
    training = inputs.curves.get("sae")
    tokens = None if training is None or "tokens" not in training else training["tokens"].max()
    shares = verdict_shares(inputs.ranking)
    return [shares.assign(dictionary=THIS, latents=len(inputs.ranking), trained_tokens=tokens)]


def _compare(one: Mapping[str, Any], judged: Mapping[str, int]) -> str:
    """With which of the two shares of this dictionary those of the nulls are to be compared. judged: the latents that
    shares are of, neither dead nor faint."""
    if not one.get(THIS) or not one.get("SAE"):
        return ""
    (whole, *_), (alike, *_) = one[THIS], one["SAE"]
    return (
        f"Of the {judged[THIS]:,} latents of {THIS} that are neither dead nor faint {100 * whole:.0f} % have one "
        "meaning. Its nulls are to be compared with the "
        f"row SAE, {100 * alike:.0f} % of {judged['SAE']:,}: the same settings, learnt from as many "
        "tokens as they were, and judged on as many latents of the same text."
    )


def _told_apart(one: Mapping[str, list[float | None] | None]) -> str:
    """Whether the share of one meaning tells the dictionary from those that learnt nothing."""
    this = one.get("SAE")
    others = {name: interval for name, interval in one.items() if name not in (THIS, "SAE", "twin seed") and interval}
    if not this or not others:
        return ""
    below = [name for name, (_, _, high) in others.items() if high < this[1]]  # type: ignore[operator]
    alike = [name for name in others if name not in below]
    sentences = [f"Of its latents more have one meaning than of: {', '.join(below)}."] if below else []
    if alike:
        sentences += [f"By this share it cannot be told from (or lies below): {', '.join(alike)}.", ONE_THING]
    return " ".join(sentences)


def _share(by_verdict: pd.DataFrame, verdict: str, part: str = "") -> list[float | None] | None:
    """A share and its interval: of those that have the verdict, or that are `unsure` whether this or the other."""
    columns = [f"{part}_share", f"{part}_low", f"{part}_high"] if part else ["share", "ci_low", "ci_high"]
    if verdict not in by_verdict.index or not set(columns) <= set(by_verdict):
        return None
    cells = [number(value) for value in by_verdict.loc[verdict, columns]]
    return None if None in cells else cells  # type: ignore[return-value]
