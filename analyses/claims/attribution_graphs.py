"""Does an attribution graph say why a model says what it says? It is compared with ablation and nulls.

    python -m analyses.claims.attribution_graphs            makes what it needs of `demo --circuits` first
    python -m analyses.claims.attribution_graphs --quick    a tiny model, for the tests: the numbers mean nothing

The run is that of `interp demo --circuits`, a model of four layers with transcoders of its MLPs. The prompts are from
its validation text (`interp.effects.attribution_graph`). After Ameisen et al. 2025 (Circuit Tracing).

Claims tested
    sums       edges into a node sum to what it reads, to 1e-5 of the largest reading in float32
    agreement  first-order effects agree with ablating the model itself: Spearman ≥ 0.9 over latents, of their effect
               on the likeliest next token, and ≥ 0.8 over pairs of latents
    held       the same agreement if the model holds the final norm, all norms, attention patterns, or both fixed: for
               first-order effects in that model, and for the graph's paths, which hold all of them
    nulls      more of the influence begins at tokens, not at errors, than in null graphs

`planted_circuits` asks whether a known circuit is found, and `trained_circuits` asks the same of models that learnt a
circuit, with ablation as the truth.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from analyses.claims.held_hooks import HELD, hold_hooks
from analyses.record import Claim, Record, options
from interp import Run, run_stages
from interp.codes.dictionary import Dictionary
from interp.effects import AttributionGraph, agreement, attribution_graph, measured_effects, score_graph
from interp.pipeline.config import RunConfig

SCORES = ("answer", "replacement", "completeness")
NULLS = ("tokens shuffled", "decoder rows shuffled", "weights of the model shuffled")


@dataclass(frozen=True, kw_only=True)
class Setting:
    config: dict[str, Any]
    """Configuration of the run, as `RunConfig.from_dict` reads it."""
    prompts: int = 12
    length: int = 16
    """Tokens of a prompt."""


def quick_setting() -> Setting:
    """Return a setting of two layers and a few tokens."""
    sections = RunConfig.tiny().to_dict()
    sections["model"]["n_layers"] = 2
    sections["harvest"] = {"hook_names": "all mlps", "tokens": 20_000}
    sections["sae"]["tokens"] = 20_000
    return Setting(config=sections, prompts=1, length=8)


def main(arguments: list[str] | None = None) -> dict[str, Any]:
    o = options(__doc__, "attribution_graphs", arguments, "runs")
    setting = quick_setting() if o.quick else Setting(config=RunConfig.circuits().to_dict())
    record = Record(o.out, setting, svg=not o.quick)
    run = run_stages(RunConfig.from_dict(setting.config), o.out.parent / "circuits", until="sae")
    graphs = record.piece("graphs", lambda: scores_of_prompts(setting, run))
    return record.finish(claims(graphs), {})


def scores_of_prompts(setting: Setting, run: Run) -> dict[str, Any]:
    """Return for each prompt the gaps of the sums, scores with the nulls', and agreement in held models."""
    dictionaries: dict[str, Dictionary] = {hook: run.at(hook).sae for hook in run.hooks}
    tokens = run.val_tokens.tokens
    drawn = np.random.default_rng(0).permutation(len(tokens))[: setting.prompts]
    rows: dict[str, list[float]] = {}
    for row in drawn:
        graph = attribution_graph(run.model, tokens[row, : setting.length], dictionaries, attention=False)
        keep(rows, "gap", graph.unexplained)
        effects = measured_effects(graph, run.model, dictionaries)
        keep(rows, "pairs by paths", agreement_of_paths(graph, effects))
        for name, ends in HELD.items():
            with hold_hooks(run.model, tokens[row : row + 1, : setting.length], ends):
                held_effects = measured_effects(graph, run.model, dictionaries)
            slopes = agreement(graph, effects.assign(attributed=held_effects["attributed"]))
            keep(rows, f"{name}, effects", slopes.effects)
            keep(rows, f"{name}, signs of effects", slopes.effect_signs)
            keep(rows, f"{name}, pairs", slopes.pairs)
            keep(rows, f"{name}, paths", agreement(graph, held_effects).paths)
        graph_scores = score_graph(graph, run.model, dictionaries, effects, seed=int(row)).set_index("graph")
        for name in ("this prompt", *NULLS):
            for score in SCORES:
                keep(rows, f"{name}, {score}", float(graph_scores[score][name]))
    return {name: np.array(values) for name, values in rows.items()}


def agreement_of_paths(graph: AttributionGraph, effects: pd.DataFrame) -> float:
    """Return the agreement over pairs of latents of what one passes to the other by all paths of the graph."""
    paths = graph.total_effects()[effects["target"], effects["source"]]
    return agreement(graph, effects.assign(attributed=paths)).pairs


def keep(rows: dict[str, list[float]], name: str, value: float) -> None:
    rows.setdefault(name, []).append(value)


def claims(graphs: Mapping[str, Any]) -> list[Claim]:
    n = len(graphs["gap"])
    mean = {name: float(np.nanmean(values)) for name, values in graphs.items()}
    paths = "; ".join(f"{name} {mean[f'{name}, paths']:.2f}" for name in HELD)
    slopes = "; ".join(f"{name} {mean[f'{name}, effects']:.2f}" for name in HELD)
    own_effects, own_pairs = mean["nothing held, effects"], mean["nothing held, pairs"]
    scores_of_graphs = {
        graph: {score: mean[f"{graph}, {score}"] for score in SCORES} for graph in ("this prompt", *NULLS)
    }
    replaced = {graph: scores_of_graphs[graph]["replacement"] for graph in scores_of_graphs}
    sentence = "; ".join(
        f"{graph} " + ", ".join(f"{row[score]:.2f}" for score in SCORES) for graph, row in scores_of_graphs.items()
    )
    return [
        Claim(
            row="sums",
            text="The edges into each node sum to what it reads, within 1e-5 of the largest reading.",
            holds=float(np.max(graphs["gap"])) < 1e-5,
            found=f"largest gap {np.max(graphs['gap']):.1e}, of {n} prompts in float32.",
            numbers={"gap": float(np.max(graphs["gap"]))},
        ),
        Claim(
            row="agreement",
            text="Effects of latents agree with ablating the model: Spearman ≥ 0.9 on the next token, 0.8 over pairs.",
            holds=own_effects >= 0.9 and own_pairs >= 0.8,
            found=f"latents {own_effects:.2f}, pairs {own_pairs:.2f}; pairs by the paths of the graph, which hold "
            f"norms and attention, {mean['pairs by paths']:.2f}; means of {n} prompts.",
            numbers={"latents": own_effects, "pairs": own_pairs, "pairs by paths": mean["pairs by paths"]},
        ),
        Claim(
            row="held",
            text="What holding norms and attention costs the agreement.",
            holds=None,
            found=f"First-order effects with parts of the model held, against ablating the free model: {slopes}. "
            f"Paths of the graph, against ablating the model held in the same way: {paths}.",
            numbers={name: mean[name] for name in graphs if name.split(",")[0] in HELD},
        ),
        Claim(
            row="nulls",
            text="More of the influence begins at tokens (replacement) than with shuffled dictionaries or models; "
            "shuffled tokens, which replacement does not detect, make the answer less likely.",
            holds=replaced["this prompt"] > max(replaced[name] for name in NULLS[1:])
            and scores_of_graphs["this prompt"]["answer"] > scores_of_graphs["tokens shuffled"]["answer"],
            found=f"{', '.join(SCORES)}: {sentence}.",
            numbers=scores_of_graphs,
        ),
    ]


if __name__ == "__main__":
    main()
