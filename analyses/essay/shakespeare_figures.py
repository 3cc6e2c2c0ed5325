"""Draw the figures of rows 2, 3 and 4 from what was measured."""

from typing import Any

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from analyses.essay import figures
from analyses.essay.shakespeare_measures import MEASURES
from analyses.essay.shakespeare_models import PROMPT, curve_table

ASKED = {"answer among the input": "val_loss", "answer not in the input": "honest_loss"}
TWINS = {"causal": "causal", "unmasked": "without the mask"}
AXES = {
    "character share": "η² of the character",
    "added by the character before": "η² added by the one before",
    "kurtosis": "kurtosis (median unit)",
}


def draw_figures(runs: dict[str, Any], setting: Any) -> dict[str, go.Figure]:
    text, real = PROMPT, runs["real"]
    table = _round_table(runs, setting)
    null = np.stack([np.quantile(run["null"], 0.99, axis=0) for run in runs["units"]]).mean(0)
    first = runs["units"][0]["acts"]  # [round, character, unit]
    top = float(np.quantile(first[-1], 0.995))
    names = {number: f"after {number} rounds" if number else "before training" for number in setting.rounds}
    shown = {names[number]: acts for number, acts in zip(setting.rounds, first, strict=True) if number in (0, 10, 50)}
    head = PROMPT[:24]
    leaks = {name: runs[key][0]["leak"][: len(head), : len(head)] for key, name in TWINS.items()}
    return {
        "leak": figures.leak(leaks, head),
        "twin_losses": figures.twin_losses(_loss_table(runs)),
        "training": _training(runs),
        "generations": figures.generation_quality(table, real_distance=real["distance"], real_share=real["word_share"]),
        "contrast": figures.unit_contrast(table, dict(zip(MEASURES, null, strict=True)), AXES),
        "neurons": figures.neuron_heatmaps(shown, text, top=top),
        "neuron_slider": figures.neuron_slider(dict(zip(map(str, setting.rounds), first, strict=True)), text, top=top),
    }


def _training(runs: dict[str, Any]) -> go.Figure:
    curves = {"4 layers of 128": curve_table(runs["deep"]), "2 layers of 64": curve_table(runs["causal"][0])}
    lines = {name: runs["deep"][name] / np.log(2) for name in ("unigram", "bigram")}
    return figures.loss_curves(curves, lines, title="Two causal character models", unit="bits a character")


def _loss_table(runs: dict[str, Any]) -> pd.DataFrame:
    rows = [(TWINS[m], question, run[key]) for m in TWINS for question, key in ASKED.items() for run in runs[m]]
    return pd.DataFrame(rows, columns=["model", "question", "loss"])


def _round_table(runs: dict[str, Any], setting: Any) -> pd.DataFrame:
    rows = [
        {"round": number, "seed": seed, "distance": written["distance"][i], "word_share": written["word_share"][i]}
        | dict(zip(MEASURES, units["contrast"][i], strict=True))
        for seed, written, units in zip(setting.seeds, runs["rounds"], runs["units"], strict=True)
        for i, number in enumerate(setting.rounds)
    ]
    return pd.DataFrame(rows)
