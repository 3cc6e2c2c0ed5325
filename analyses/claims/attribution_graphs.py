"""Does an attribution graph say why a model says what it says? Held against ablation, nulls and a circuit we compiled.

    python -m analyses.claims.attribution_graphs            trains a model of four layers first; goes on where it stood
    python -m analyses.claims.attribution_graphs --quick    a tiny model, for the tests: the numbers mean nothing

Transcoders of all MLPs of a model of four layers, TopK, and prompts of validation text
(`interp.effects.attribution_graph`). After Ameisen et al. 2025 (Circuit Tracing).

Claims tested
    sums       edges into a node sum to what it reads, to 1e-5 of the largest reading in float32
    agreement  what a graph attributes by all paths agrees with ablating the model itself: Spearman ≥ .9 over latents,
               of the likeliest next token, and ≥ .8 over pairs; and what the agreement is where the final norm, all
               norms, or norms and attention patterns are held in the ablated model too
    nulls      more of the influence begins at tokens, not errors, than in graphs that mean nothing
    planted    in a model compiled to look up in two steps, nodes and edges of the circuit are found: recall ≥ .9 at
               precision ≥ .8, with the MLPs' own neurons as exact transcoders, and with transcoders that were learnt
"""

import shutil
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from analyses.claims.compared_dictionaries import TINY, Sizes, activations, studied_run
from analyses.claims.two_step_lookup import planted_scores
from analyses.record import Claim, Record, options
from interp import Run, TopKConfig, train_sae
from interp.codes.sparse_codes import Dictionary
from interp.effects import AttributionGraph, agreement, attribution_graph, beside_nulls, measured_effects
from models.transformer import Transformer

HELD = {
    "nothing held": (),
    "final norm held": ("ln_final.hook_scale",),
    "norms held": ("hook_scale",),
    "norms and patterns held": ("hook_scale", "hook_pattern"),
}
"""What is held in the ablated model too: hooks by the ends of their names."""
NULLS = ("tokens shuffled", "decoder rows shuffled", "weights of the model shuffled")


@dataclass(frozen=True, kw_only=True)
class Setting(Sizes):
    layers: int = 4
    seeds: tuple[int, ...] = (0,)
    factor: int = 8
    """Latents of a transcoder a dimension of the stream."""
    prompts: int = 20
    length: int = 16
    """Tokens of a prompt."""


QUICK = Setting(**TINY, prompts=2, length=8)


def main(arguments: list[str] | None = None) -> dict[str, Any]:
    o = options(__doc__, "attribution_graphs", arguments, "runs/compare")
    setting = QUICK if o.quick else Setting()
    record = Record(o.out, setting, svg=not o.quick)
    run, work = studied_run(setting, o.out), o.out / "work"
    graphs = record.piece("graphs", lambda: scores_of_prompts(setting, run, work))
    planted = record.piece("planted", lambda: planted_scores(quick=o.quick))
    results = record.finish(claims(graphs, planted), {})
    shutil.rmtree(work, ignore_errors=True)
    return results


def scores_of_prompts(setting: Setting, run: Run, work: Path) -> dict[str, Any]:
    """By prompt: gaps of the sums, scores beside the nulls', and agreement with what is held."""
    dictionaries = transcoders(setting, run, work)
    tokens = run.val_tokens.tokens
    drawn = np.random.default_rng(0).permutation(len(tokens))[: setting.prompts]
    rows: dict[str, list[float]] = {}
    for row in drawn:
        graph = attribution_graph(run.model, tokens[row, : setting.length], dictionaries)
        keep(rows, "gap", graph.unexplained)
        for held, ends in HELD.items():
            said = agreement(graph, ablated(graph, run.model, dictionaries, ends))
            keep(rows, f"{held}, latents", said.nodes)
            keep(rows, f"{held}, pairs", said.edges)
            keep(rows, f"{held}, signs", said.node_signs)
        effects = measured_effects(graph, run.model, dictionaries)
        beside = beside_nulls(graph, effects, run.model, dictionaries, seed=int(row)).set_index("graph")
        for name, scores in beside.iterrows():
            for score in ("nodes", "replacement", "completeness", "agreement of latents"):
                keep(rows, f"{name}, {score}", float(scores[score]))
    return {name: np.array(values) for name, values in rows.items()}


def keep(rows: dict[str, list[float]], name: str, value: float) -> None:
    rows.setdefault(name, []).append(value)


def transcoders(setting: Setting, run: Run, work: Path) -> dict[str, Dictionary]:
    pairs = [(f"blocks.{n}.hook_resid_mid", f"blocks.{n}.hook_mlp_out") for n in range(setting.layers)]
    store = activations(run.model, run, setting.tokens, work / "activations", [hook for pair in pairs for hook in pair])
    made = {}
    for reads, writes in pairs:
        config = TopKConfig(d_sae=setting.factor * store.d(reads), k=setting.k, tokens=3 * setting.tokens)
        made[reads] = train_sae(store, reads, config, target=writes, out=work / reads, resume=True)
    return made


def ablated(
    graph: AttributionGraph, model: Transformer, dictionaries: Mapping[str, Dictionary], ends: tuple[str, ...]
) -> Any:
    with held(model, torch.tensor([graph.token_ids]), ends):
        return measured_effects(graph, model, dictionaries)


@contextmanager
def held(model: Transformer, tokens: torch.Tensor, ends: tuple[str, ...]) -> Iterator[None]:
    """Within the block the hooks whose names end so put out what they do on the tokens."""
    names = [name for name in model.hook_dict if name.endswith(ends)] if ends else []
    with torch.no_grad():
        _, cache = model.run_with_cache(tokens, names_filter=lambda name: name in names)
    with ExitStack() as stack:
        for name in names:
            kept = cache[name]
            point = model.hook_dict[name]
            stack.enter_context(point.register_forward_hook(lambda _, __, out, kept=kept: kept.expand(out.shape)))
        yield


def claims(graphs: Mapping[str, Any], planted: Mapping[str, Any]) -> list[Claim]:
    n = len(graphs["gap"])
    mean = {name: float(np.nanmean(values)) for name, values in graphs.items()}
    told = "; ".join(
        f"{name}: latents {mean[f'{name}, latents']:.2f}, pairs {mean[f'{name}, pairs']:.2f}" for name in HELD
    )
    own = mean["this prompt, replacement"]
    nulls = {name: mean[f"{name}, replacement"] for name in NULLS}
    exact, learnt = planted["exact"], planted["learnt"]
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
            text="All paths of a graph agree with ablating the model: Spearman ≥ .9 over latents, ≥ .8 over pairs.",
            holds=mean["nothing held, latents"] >= 0.9 and mean["nothing held, pairs"] >= 0.8,
            found=f"{told}; means of {n} prompts.",
            numbers={name: mean[name] for name in graphs if name.split(",")[0] in HELD},
        ),
        Claim(
            row="nulls",
            text="More of the influence begins at tokens than in graphs that mean nothing (replacement).",
            holds=own > max(nulls.values()),
            found=f"{own:.2f}; " + "; ".join(f"{name} {value:.2f}" for name, value in nulls.items()) + ".",
            numbers={"this prompt": own} | nulls,
        ),
        Claim(
            row="planted",
            text="The circuit of a compiled two-step lookup is found: recall ≥ .9 at precision ≥ .8.",
            holds=min(exact["node_recall"], exact["edge_recall"]) >= 0.9
            and min(exact["node_precision"], exact["edge_precision"]) >= 0.8,
            found="; ".join(
                f"{name}: nodes precision {each['node_precision']:.2f}, recall {each['node_recall']:.2f}, edges "
                f"precision {each['edge_precision']:.2f}, recall {each['edge_recall']:.2f}"
                for name, each in (("neurons as transcoders", exact), ("learnt transcoders", learnt))
            )
            + ".",
            numbers={"exact": exact, "learnt": learnt},
        ),
    ]


if __name__ == "__main__":
    main()
