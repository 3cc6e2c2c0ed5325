"""Write the page's account of the run, which fits on one sheet: the findings, their comparison with nulls, their
limits, the run and the dictionary's quality, and tables and figures of the results. Details, times and versions are
folded at first.

In: `ReportInputs`. Out: JSON for `summary.js`. A panel has a note and, if it is drawn, its title, height and plotly
JSON; otherwise the note gives the reason.
"""

import math
from collections.abc import Iterable
from typing import Any, Literal

import pandas as pd

from interp import figures
from interp.compare.compared_dictionaries import MATCHED
from interp.display.verdict_looks import verdict_words
from interp.display.verdict_names import WITHOUT_SCORES
from interp.evaluation.quality import worse_than_unigrams
from interp.figures.theme import share_ticks
from interp.report.inputs import ReportInputs
from interp.report.json_text import format_percent, number
from interp.report.null_shares import nulls_account
from interp.report.panels import Panel
from interp.statistics.cutoffs import ULTRA_LOW

QUALITY_COLUMNS = {
    "l0": ("L0 (features a token)", ".1f"),
    "fvu": ("FVU", ".3f"),
    "fvu_all": ("FVU with outliers", ".3f"),
    "outlier_share": ("outliers, left unchanged", "%"),
    "ce_clean": ("cross-entropy of the model on these tokens (nats)", ".3f"),
    "ce_spliced": ("… with the reconstruction in place (nats)", ".3f"),
    "ce_zero_ablated": ("… with zeros in place (nats)", ".3f"),
    "ce_unigram": ("… of unigrams (nats)", ".3f"),
    "ce_mean_ablated": ("… with the mean in place (nats)", ".3f"),
    "ce_recovered": ("cross-entropy recovered", "%"),
    "ce_recovered_se": ("standard error of the share recovered", "%"),
    "dead_share": ("dead on these tokens", "%"),
    "faint_share": ("faint on these tokens", "%"),
    "ultra_low_share": ("of ultra-low density (under 1 token in 100,000)", "%"),
    "n_tokens": ("held-out tokens", ",.0f"),
    "n_spliced": ("… of which the cross-entropy is", ",.0f"),
}
"""Column of the quality table → its heading, and the format of its numbers."""
QUALITY_SHOWN = ("l0", "fvu", "ce_recovered", "dead_share", "faint_share")
"""The most important columns. The others are among the details."""
BASELINES = {
    "PCA": "the largest principal components",
    "neurons": "the largest neurons",
    "coordinates": "the largest coordinates",
    "random": "the nearest of as many random directions as it has features (the mean of five draws)",
}
"""What each dictionary that nobody trained keeps of an activation."""
RECOVERED = "100 % is the model itself; 0 % is zeros in place of the activations, or unigrams, whichever is better."
OWN_TOKENS = (
    "This table's cross-entropy is measured on the held-out tokens counted here. The held-out loss under “What was "
    "run” covers all held-out text (for a pretrained model, only its beginning)."
)
CURVES = {
    "fvu": "FVU: the fraction of variance left unexplained.",
    "l0": "L0: features that fire on a token.",
    "dead": "Dead: features that no longer fire.",
    "faint": "Faint: features that fire, but never a quarter as strongly as the median feature.",
}
DENSITIES = (
    "Dead features never fired there; those of ultra-low density, under the bracket, fire on less than "
    "one token in 100,000."
)
SAE_SETTINGS = {"architecture": "{}", "k": "k = {}", "seed": "seed {}"}
"""Settings of a dictionary that tell it from others of its size."""
LIMITS = {
    "one meaning": "One meaning says that the firings of a feature have something in common in the text. It does not "
    "say that the model learnt it: dictionaries that could learn nothing have such features too.",
    "single-token": "Single-token features exist on a random model as well, since its embeddings tell tokens apart.",
    "learnt": "That a feature is learnt does not say that the model needs it: other features may do the same. Only the "
    "effect of removing it tells, and only in the sequences in which it was removed.",
    "rules": "Rules and their F1 hold for text like that of this corpus. On other text a feature may fire elsewhere.",
    "unsure": "A verdict that is unsure is only the likelier of two: the interval of its probability includes ½.",
}
"""The limits of the numbers, by their subject."""


def summary(inputs: ReportInputs) -> dict[str, Any]:
    scanned = f"{inputs.features.meta['n_tokens']:,} {'tokens' if inputs.features.has_text else 'rows'} scanned"
    title = f"Firing density of the features, on the {scanned}"
    median = inputs.table["density"][inputs.table["density"] > 0].median()
    half = "" if math.isnan(median) else f"Half of the features that fire do so on {format_percent(median)} or more. "
    histogram = figures.density_histogram(inputs.table)
    densities = Panel(note=half + DENSITIES, title=title, figure=histogram).payload()
    quality, *all_quality = _quality(inputs)
    *scores, by_density = _population(inputs, histogram.layout.xaxis.range)
    return {
        "nulls": nulls_account(inputs),
        "limits": _limits(inputs),
        "facts": _facts(inputs),
        "quality": quality,
        "results": [densities, by_density, *inputs.panels],
        "details": [*all_quality, *_training(inputs), *scores],
        "stages": [[name, number(seconds)] for name, seconds in inputs.stages],
        "versions": dict(inputs.versions),
    }


def describe_page(inputs: ReportInputs) -> list[tuple[str, Literal["words", "term", "code"]]]:
    """Describe the page's subject in a sentence: the size of the dictionary, its hook, model and corpus, L0 and how
    much of the cross-entropy its reconstruction recovers, as far as these are known. Return its parts: words, terms
    whose meaning the page tells, and the name of the hook, which is code."""
    quality = inputs.quality
    hook = inputs.features.meta["hook_name"]
    parts: list[tuple[str, Literal["words", "term", "code"]]] = []
    parts.append((f"A dictionary of {inputs.features.d_sae:,} features", "words"))
    if hook:
        parts += [(" for ", "words"), (hook, "code")]
    if model := _model(inputs):
        parts.append((f" {'of' if hook else 'for'} {model}", "words"))
    if corpus := _corpus(inputs):
        parts.append((f", on the corpus “{corpus}”", "words"))
    parts += [(", ", "words"), ("L0", "term"), (f" {inputs.table['density'].fillna(0).sum():.1f}", "words")]
    if quality is not None and {"dictionary", "ce_recovered"} <= set(quality) and not _worse_than_unigrams(quality):
        for share in quality.loc[quality["dictionary"] == MATCHED, "ce_recovered"].dropna()[:1]:
            parts += [(f", {format_percent(share)} of the ", "words"), ("cross-entropy recovered", "term")]
    return [*parts, (".", "words")]


def _model(inputs: ReportInputs) -> str:
    """Name the model, with its number of parameters; nothing if neither is known."""
    config = inputs.config.get("model", {})
    parameters = inputs.model_results.get("parameters")
    name = f"a {config['preset']} model" if config.get("source") == "train" else config.get("name")
    with_size = f" with {parameters:,} parameters" if parameters else ""
    return f"{name or 'a model'}{with_size}" if name or parameters else ""


def _corpus(inputs: ReportInputs) -> str:
    """Name the corpus; nothing if it is not known."""
    config = inputs.config.get("corpus", {})
    return " ".join(filter(None, [config.get("name") or config.get("source"), config.get("subset")]))


def _facts(inputs: ReportInputs) -> list[tuple[str, str]]:
    """Return names and values that describe the run and its text."""
    features = inputs.features
    results = inputs.model_results
    training = inputs.curves.get("sae")
    rows = []
    if "parameters" in results:
        trained = f", trained on {results['tokens']:,} tokens" if results.get("tokens") else ""
        rows.append(("Model", f"{_model(inputs).removeprefix('a ')}{trained}"))
    if "val_loss" in results:
        rows.append(("Held-out loss", f"{results['val_loss']:.3f} nats a token"))
    if "bits_per_character" in results:
        rows.append(("Bits a character", f"{results['bits_per_character']:.3f}"))
    if hook := features.meta["hook_name"]:
        rows.append(("Hook", hook))
    size = [f"{features.d_sae:,} features"]
    sae = {name: value for name, value in inputs.config.get("sae", {}).items() if value != "none"}
    size += [form.format(sae[name]) for name, form in SAE_SETTINGS.items() if name in sae]
    if training is not None and "tokens" in training:
        size.append(f"trained on {training['tokens'].max():,} tokens")
    rows.append(("Dictionary", ", ".join(size)))
    unit = "tokens" if features.has_text else "rows"
    rows.append(("L0", f"{inputs.table['density'].fillna(0).sum():.1f} features a {unit.removesuffix('s')}"))
    if corpus := _corpus(inputs):
        rows.append(("Corpus", f"{corpus}, seed {inputs.config['corpus']['seed']}"))
    contexts = f" in contexts of {features.n_ctx}" if features.has_text else ""
    rows.append(("Scanned", f"{features.meta['n_tokens']:,} {unit}{contexts}"))
    return rows


def _limits(inputs: ReportInputs) -> list[str]:
    """Return sentences that say what must not be concluded from the results."""
    if inputs.ranking is None or not inputs.features.has_text:
        return []
    columns = {"learnt": inputs.verdicts["learnt"], "unsure": inputs.verdicts["sure"]}
    return [text for name, text in LIMITS.items() if name not in columns or columns[name].notna().any()]


def _training(inputs: ReportInputs) -> list[dict]:
    model = inputs.curves.get("model")
    sae = inputs.curves.get("sae")
    results = inputs.model_results
    missing = "No training {}: it was not trained in this run, or its metrics were not given."
    panels = [Panel(note=missing.format(curves)) for curves in ("curve of the model", "curves of the dictionary")]
    if model is not None and {"tokens", "loss"} <= set(model):
        baselines = {name: results.get(f"{name}_cross_entropy") for name in ("unigram", "bigram")}
        levels = {name: loss for name, loss in baselines.items() if loss is not None}
        note = (
            f"Cross-entropy, {model['loss'].iloc[-1]:.2f} nats at the end; the dashed lines are what unigrams and "
            "bigrams of the corpus reach."
        )
        panels[0] = Panel(note=note, figure=figures.training(model, panels=["loss"], levels=levels))
    if sae is not None and {"tokens", *CURVES} <= set(sae):
        curves = [name for name in CURVES if name == "fvu" or sae[name].nunique() > 1]
        note = " ".join(CURVES[name] for name in curves)
        panels[1] = Panel(note=note, figure=figures.training(sae, panels=curves))
    return [panel.payload() for panel in panels]


def _population(inputs: ReportInputs, densities_shown: tuple[float, float]) -> list[dict]:
    if inputs.ranking is None:
        missing = "No ranking: verdicts and scores are left out. `interp rank` writes one, or pass ranking=."
        return [Panel(note=missing).payload()]
    ranking = inputs.verdicts[~inputs.verdicts["verdict"].isin(WITHOUT_SCORES)]
    panels = []
    if ranking.empty:
        panels.append(Panel(note="No feature has a score: none fires often enough to be judged."))
    if ranking["explanation_f1"].notna().any():
        medians = ranking.groupby("verdict")["explanation_f1"].median().dropna().sort_values(ascending=False)
        found = ", ".join(f"{verdict_words(str(verdict))} {f1:.2f}" for verdict, f1 in medians.items())
        note = f"F1 of the rules in words on held-out text, by verdict; medians: {found}."
        panels.append(Panel(note=note, figure=figures.score_distributions(ranking)))
    if len(ranking):
        note = "Above, the features by how many tokens they fire on; below, the share of each verdict among them."
        by_density = figures.verdicts_by_density(inputs.verdicts.assign(density=inputs.table["density"]))
        low, high = densities_shown
        ticks = share_ticks(10**low, 10**high)
        at = [math.log10(share) for share in ticks["tickvals"]]
        by_density.update_xaxes(range=densities_shown, tickvals=at, ticktext=ticks["ticktext"])
        panels.append(Panel(note=note, figure=by_density))
    return [panel.payload() for panel in panels]


def _quality(inputs: ReportInputs) -> list[dict]:
    table = inputs.quality
    if table is None or table.empty:
        return [Panel(note="No quality table: it needs the model and held-out tokens.").payload()]
    table = table.dropna(axis="columns", how="all")
    if not table.get("outlier_share", pd.Series(0)).any():
        table = table.drop(columns=["fvu_all", "outlier_share"], errors="ignore")
    if "n_spliced" in table and table["n_spliced"].isin((0, table["n_tokens"].max())).all():
        table = table.drop(columns="n_spliced")
    if "n_tokens" in table and table["n_tokens"].max() * ULTRA_LOW <= 1:  # so that no feature can be
        table = table.drop(columns="ultra_low_share", errors="ignore")
    if "l0" in table and table["l0"].round(1).nunique() == 1:  # the facts have it
        table = table.drop(columns="l0")

    def panel(title: str, note: str, columns: Iterable[str]) -> list[dict]:
        forms = [(name, *QUALITY_COLUMNS[name]) for name in columns if name in table]
        rows = [[heading, *(_cell(value, form) for value in table[name])] for name, heading, form in forms]
        shown = pd.DataFrame(rows, columns=["", *map(str, table["dictionary"])])
        return [Panel(title=title, note=note, table=shown).payload()] if rows else []

    tokens = f" {table['n_tokens'].max():,.0f}" if "n_tokens" in table else ""
    kept = ", ".join(f"{name} {what}" for name, what in BASELINES.items() if name in set(table["dictionary"]))
    others = f" The others keep as many a token as the dictionary does: {kept}." if kept else ""
    note = f"Cross-entropy recovered: {RECOVERED}{others}{_describe_spliced_part(table)}"
    if remark := _worse_than_unigrams(table):
        note = f"{remark[0].upper()}{remark[1:]}. {note}"
    if {"dead_share", "faint_share"} & set(table):
        scanned = f"{inputs.features.meta['n_tokens']:,}"
        note += f" Dead and faint count these tokens alone here; the verdicts count all {scanned} scanned."
    not_shown = [name for name in QUALITY_COLUMNS if name not in QUALITY_SHOWN]
    why = OWN_TOKENS if "ce_clean" in table and "val_loss" in inputs.model_results else ""
    shown = panel(f"Quality on{tokens} held-out tokens", note, QUALITY_SHOWN)
    return [*shown, *panel("Quality, the other numbers", why, not_shown)]


def _worse_than_unigrams(table: pd.DataFrame) -> str:
    """Remark that the model is no better than unigrams, if it is not."""
    if not len(table) or not {"ce_clean", "ce_unigram"} <= set(table):
        return ""
    return worse_than_unigrams(table["ce_clean"].iloc[0], table["ce_unigram"].iloc[0])


def _describe_spliced_part(table: pd.DataFrame) -> str:
    """Say what was spliced in on fewer tokens, as zeros and the mean are with the baselines; nothing if nothing was."""
    if "n_spliced" not in table:
        return ""
    fewer = table[table["n_spliced"].between(1, table["n_tokens"] - 1)]
    names = ", ".join(map(str, fewer["dictionary"]))
    n = f"{fewer['n_spliced'].max():,.0f}"
    return f" With {names}, zeros or the mean in place it is measured on {n} of the tokens." if len(fewer) else ""


def _cell(value: Any, form: str) -> str:
    return "–" if pd.isna(value) else format_percent(value) if form == "%" else format(value, form)
