"""How much of what ablation finds in models that learnt a circuit does an attribution graph find?

    python -m analyses.claims.trained_circuits              three small models, some minutes
    python -m analyses.claims.trained_circuits --quick      hardly trained, for the tests: the numbers mean nothing

    lookup      `entity relation` → answer, by way of a middle (`compiled_circuits`)
    induction   three to six tokens repeated → the token that followed the previous occurrence of the last one
    brackets    ten brackets of three kinds, and a mark → the bracket that closes the last open one

A model of two layers learns each task by gradient descent; nobody planned how it solves it. The truth for a prompt is
what ablation of the trained model gives, latent by latent (`measured_effects`), for each kind of dictionary: the MLPs'
own neurons, which are exact; trained transcoders, of each layer or cross-layer (`cross_layer`); and sparse autoencoders
of the residual stream after each block.

    nodes   the latents with the largest effects on the answer that together hold 0.8 of all latents' effects
    edges   the pairs of latents with the largest effects, as shares of the target's activation, that hold 0.8 of all

A graph ranks them. Nodes are ranked by their influence. Nodes and edges are ranked by all paths of the graph, which
hold norms and attention, and by their first-order effect, with nothing held. Nodes are also ranked as the graph's page
does: the 64 with the largest first-order effect by ablation, the others by their first-order effect. Each ranking gets
precision and recall at a cut of 0.8 of its own total, the average precision, the best F1, and the largest recall at a
precision of at least 0.8.

To show what the paths miss, the truth is measured a second time on a model that also holds norms and attention
patterns.

Claims tested
    found      what ablation finds in trained models is found, neurons as transcoders: recall ≥ 0.9 at precision ≥ 0.8,
               of nodes with 64 ablated, and of edges to first order
    cause      what keeps paths from finding it: what a graph holds
    paths      how many latents a path passes, with each kind of dictionary
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from analyses.claims import compiled_circuits
from analyses.claims.cross_layer import cross_layer_transcoders, hops
from analyses.claims.held_hooks import HELD, hold_hooks
from analyses.claims.planted_circuits import exact_transcoders, learnt_transcoders, residual_dictionaries
from analyses.record import Claim, Record, options
from interp.codes.dictionary import Dictionary
from interp.effects import AttributionGraph, attribution_graph, measured_effects
from models.transformer import Transformer, TransformerConfig

SHARE = 0.8
"""Share of the effects that the nodes and edges of the circuit hold, equal to the influence that a graph draws."""
PRECISION = 0.8
"""The precision at which the recall is given."""
ABLATED = 64
"""Latents that a ranking may ablate; there are some 90 to 300 in a prompt."""
N_TOKENS, LENGTH = 16, 9
"""Number of tokens of the induction task, and length of its prompts."""
N_BRACKETS, KINDS = 10, 3
TRUTHS = ("free", "held")
"""The models that give the truth."""


@dataclass(frozen=True, kw_only=True)
class Setting:
    prompts: int = 24
    learnt: int = 20_000
    """Prompts that a model is trained on."""
    tokens: int = 200_000
    """Tokens of a dictionary's training."""
    share_of_steps: float = 1.0


class Questions(NamedTuple):
    prompts: Int[Tensor, "prompt pos"]
    wanted: Int[Tensor, "prompt pos"]
    """The token that follows each token, or −100 where the model need not predict it."""


class Task(NamedTuple):
    draw: Callable[[int, torch.Generator], Questions]
    d_vocab: int
    steps: int


def lookup(n: int, generator: torch.Generator) -> Questions:
    """Return all prompts of the compiled world, fifty times, whatever n."""
    world = compiled_circuits.lookup()
    answers = torch.tensor(world.answers)
    wanted = torch.stack([torch.full_like(answers, -100), answers], 1)
    return Questions(world.prompts.repeat(50, 1), wanted.repeat(50, 1))


def induction(n: int, generator: torch.Generator) -> Questions:
    once = torch.rand(n, N_TOKENS, generator=generator).argsort(1)
    period = torch.randint(3, 7, (n, 1), generator=generator)  # of several, so that no fixed distance is looked at
    at = torch.arange(LENGTH + 1)
    tokens = once.gather(1, at % period)
    return Questions(tokens[:, :-1], tokens[:, 1:].masked_fill(at[1:] < period, -100))


def brackets(n: int, generator: torch.Generator) -> Questions:
    """Return prompts of brackets. 0, 1 and 2 open, 3, 4 and 5 close them, and 6 is the mark."""
    opens = torch.rand(n, N_BRACKETS, generator=generator) < 0.5
    kind = torch.randint(KINDS, (n, N_BRACKETS), generator=generator)
    prompts, wanted = torch.full((n, N_BRACKETS + 1), 2 * KINDS), torch.full((n, N_BRACKETS + 1), -100)
    for row in range(n):
        still_open: list[int] = []
        for at in range(N_BRACKETS):
            must_open = len(still_open) <= (at == N_BRACKETS - 1)  # one is open at the mark
            if opens[row, at] or must_open:
                still_open.append(int(kind[row, at]))
                prompts[row, at] = still_open[-1]
            else:
                prompts[row, at] = KINDS + still_open.pop()
        wanted[row, -1] = KINDS + still_open[-1]
    return Questions(prompts, wanted)


TASKS = {
    "lookup": Task(lookup, d_vocab=23, steps=800),
    "induction": Task(induction, d_vocab=N_TOKENS, steps=1500),
    "brackets": Task(brackets, d_vocab=2 * KINDS + 1, steps=1500),
}


def main(arguments: list[str] | None = None) -> dict[str, Any]:
    o = options(__doc__, "trained_circuits", arguments, "runs")
    setting = Setting(prompts=1, learnt=200, tokens=2_000, share_of_steps=0.03) if o.quick else Setting()
    record = Record(o.out, setting, svg=False)
    scores = {name: record.piece(name, lambda name=name: scores_of(TASKS[name], setting)) for name in TASKS}
    return record.finish(claims(scores), {}, {"trained": scores})


def scores_of(task: Task, setting: Setting, seed: int = 0) -> dict[str, Any]:
    """Return a row for each kind of dictionary, truth and ranking: the scores, means over prompts; how often the model
    is right; and the number of latents on a path, by kind."""
    generator = torch.Generator().manual_seed(seed)
    learnt = task.draw(setting.learnt, generator)
    asked = task.draw(setting.prompts, generator)
    model = train_task(task, learnt, max(1, int(task.steps * setting.share_of_steps)), seed)
    kinds = {
        "neurons": exact_transcoders(model),
        "transcoders": learnt_transcoders(model, learnt.prompts, tokens=setting.tokens),
        "cross-layer": cross_layer_transcoders(model, learnt.prompts, tokens=setting.tokens),
        "residual stream": residual_dictionaries(model, learnt.prompts, tokens=setting.tokens),
    }
    with torch.no_grad():
        right = model(asked.prompts)[:, -1].argmax(1) == asked.wanted[:, -1]
    tables, lengths = [], dict[str, float]()
    for kind, dictionaries in kinds.items():
        prompts = asked.prompts[: setting.prompts]
        graphs = [attribution_graph(model, prompt, dictionaries, attention=False) for prompt in prompts]
        tables += [score_prompt(graph, model, dictionaries).assign(dictionaries=kind) for graph in graphs]
        lengths[kind] = float(np.mean([hops(graph) for graph in graphs]))
    names = ["dictionaries", "truth", "ranking"]
    means = pd.concat(tables).groupby(names, sort=False).mean().reset_index()
    return {"right": float(right.float().mean()), "hops": lengths, "scores": means.to_dict("records")}


def train_task(task: Task, learnt: Questions, steps: int, seed: int) -> Transformer:
    config = TransformerConfig(
        n_layers=2,
        d_model=32,
        n_heads=2,
        d_mlp=64,
        d_vocab=task.d_vocab,
        n_ctx=learnt.prompts.shape[1],
        act_fn="relu",
        seed=seed,
    )
    model, generator = Transformer(config), torch.Generator().manual_seed(seed)
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3, weight_decay=0.1)
    for _ in range(steps):
        rows = torch.randint(len(learnt.prompts), (128,), generator=generator)
        optimizer.zero_grad()
        F.cross_entropy(model(learnt.prompts[rows]).flatten(0, 1), learnt.wanted[rows].flatten()).backward()
        optimizer.step()
    return model.eval().requires_grad_(False)


def score_prompt(graph: AttributionGraph, model: Transformer, dictionaries: dict[str, Dictionary]) -> pd.DataFrame:
    """Return a row for each truth and ranking of one prompt."""
    n, prompt = len(graph.targets), torch.tensor([graph.token_ids])
    effects = measured_effects(graph, model, dictionaries, n_latents=n)
    with hold_hooks(model, prompt, HELD["norms and patterns held"]):
        held_effects = measured_effects(graph, model, dictionaries, n_latents=n)
    paths = graph.total_effects()[effects["target"], effects["source"]]
    scale = np.where(graph.nodes["type"] == "latent", graph.nodes["activation"], 1.0)[effects["target"]]
    sizes = {"all paths": paths, "effect": effects["attributed"], "free": effects["measured"]}
    table = pd.DataFrame({name: np.abs(size / scale) for name, size in sizes.items()})
    table["held"] = np.abs(held_effects["measured"] / scale)
    nodes = table[effects["target"] == graph.likeliest]
    nodes = nodes.assign(influence=graph.nodes["influence"][effects["source"][nodes.index]].to_numpy())
    nodes["measured"] = nodes["effect"].where(nodes["effect"].rank(ascending=False) > ABLATED, nodes["free"])
    edges = table[(graph.nodes["type"] == "latent").to_numpy()[effects["target"]]]
    rankings = {f"nodes by {name}": (nodes, name) for name in ("influence", "all paths", "effect")}
    rankings |= {f"nodes, {ABLATED} ablated": (nodes, "measured")}
    rankings |= {f"edges by {name}": (edges, name) for name in ("all paths", "effect")}
    rows = [
        {"truth": truth, "ranking": ranking, **curve(scores[name].to_numpy(), scores[truth].to_numpy())}
        for ranking, (scores, name) in rankings.items()
        for truth in TRUTHS
        if len(scores)
    ]
    return pd.DataFrame(rows)


def curve(predicted: Float[np.ndarray, " node"], measured: Float[np.ndarray, " node"]) -> dict[str, float]:
    """Return the scores of a ranking against the largest that are measured."""
    truth = largest(measured)
    drawn = largest(predicted)
    hits = truth[np.argsort(-predicted, kind="stable")]
    precision, recall = np.cumsum(hits) / np.arange(1, len(hits) + 1), np.cumsum(hits) / hits.sum()
    return {
        "precision": float((drawn & truth).sum() / drawn.sum()),
        "recall": float((drawn & truth).sum() / truth.sum()),
        "average precision": float(precision[hits].mean()),
        "best F1": float((2 * precision * recall / np.maximum(precision + recall, 1e-30)).max()),
        f"recall at {PRECISION}": float(recall[precision >= PRECISION].max(initial=0.0)),
    }


def largest(sizes: Float[np.ndarray, " node"]) -> np.ndarray:
    """Mark the largest values that together make up `SHARE` of the sum."""
    order = np.argsort(-sizes, kind="stable")
    n = int(np.searchsorted(sizes[order].cumsum(), SHARE * sizes.sum())) + 1
    marks = np.zeros(len(sizes), dtype=bool)
    marks[order[:n]] = True
    return marks


def claims(scores: Mapping[str, Any]) -> list[Claim]:
    scores_by_truth = {
        name: {truth: best_by_ranking(each, "neurons", truth) for truth in TRUTHS} for name, each in scores.items()
    }
    recalls = {
        name: {ranking: row[f"recall at {PRECISION}"] for ranking, row in truths["free"].items()}
        for name, truths in scores_by_truth.items()
    }
    right = ", ".join(f"{name} {each['right']:.0%}" for name, each in scores.items())
    return [
        Claim(
            row="found",
            text="A graph finds what ablation finds in trained models (neurons as transcoders; nodes with "
            f"{ABLATED} ablated, edges to first order): recall ≥ 0.9 at precision 0.8.",
            holds=all(
                min(each[f"nodes, {ABLATED} ablated"], each["edges by effect"]) >= 0.9 for each in recalls.values()
            ),
            found="; ".join(
                f"{name}: " + ", ".join(f"{ranking} {value:.2f}" for ranking, value in each.items())
                for name, each in recalls.items()
            )
            + f". The models are right on: {right}.",
            numbers=recalls,
        ),
        Claim(
            row="cause",
            text="Average precision against ablating the free model, and a model that holds norms and attention.",
            holds=None,
            found="; ".join(f"{name}: {causes(truths)}" for name, truths in scores_by_truth.items()) + ".",
            numbers=scores_by_truth,
        ),
        Claim(
            row="paths",
            text="Latents on a path from tokens to the answer, by kind of dictionary.",
            holds=None,
            found="; ".join(
                f"{name}: " + ", ".join(f"{kind} {length:.2f}" for kind, length in each["hops"].items())
                for name, each in scores.items()
            )
            + ".",
            numbers={name: each["hops"] for name, each in scores.items()},
        ),
    ]


def best_by_ranking(scores: Mapping[str, Any], dictionaries: str, truth: str) -> dict[str, dict[str, float]]:
    """Return the scores of each ranking, of some dictionaries against a truth."""
    table = pd.DataFrame(scores["scores"])
    rows = table[(table["dictionaries"] == dictionaries) & (table["truth"] == truth)]
    return rows.drop(columns=["dictionaries", "truth"]).set_index("ranking").to_dict("index")


def causes(scores_by_truth: Mapping[str, Mapping[str, Mapping[str, float]]]) -> str:
    """Return the average precision of each ranking, by truth."""
    sentences = []
    for ranking in scores_by_truth["free"]:
        values = [f"{rows[ranking]['average precision']:.2f} {truth}" for truth, rows in scores_by_truth.items()]
        sentences.append(f"{ranking} {', '.join(values)}")
    return "; ".join(sentences)


if __name__ == "__main__":
    main()
