"""Three models whose weights are set by hand, so that the circuit of each prompt is known.

Each has two layers of one head and of MLPs. Each variable has an axis of the residual stream; next to it lies its
negative, so that the mean of the stream stays 0 in the norms.

    lookup      A prompt is `entity relation`, such as "Dallas: capital of its state".
                attention 0   moves the entity from the position before
                MLP 0         one neuron for each pair of an entity and a relation: entity ∧ relation → middle
                MLP 1         one neuron for each middle: middle → answer
    induction   A prompt repeats one of its tokens at its end; the answer is the token that followed it before.
                attention 0   moves each token to the next position
                MLP 0         one neuron for each token before (→ key), and one for each token (→ value)
                attention 1   looks from a token to the key of the same token, and moves the value
                MLP 1         one neuron for each value: value → answer
    depth       A prompt is six brackets, one of them marked, and a question; the answer is how many brackets are open
                after the marked one, 1 to 4.
                attention 0   takes the mean of opening (+1) and closing (−1) brackets up to each position
                MLP 0         neurons for each depth and position: relu(x − depth), whose second differences write the
                              depth
                attention 1   looks from the question to the mark, and moves the depth
                MLP 1         one neuron for each depth: depth → answer

In addition, noise neurons of the lookup's layers fire on entities and write to an axis that nothing reads. A `Circuit`
names the nodes and edges of a prompt for two kinds of dictionaries that hold the variables: the MLPs' own neurons as
transcoders, and the axes of the stream after each block. Of attention it has what makes head 1.0 look where it looks:
the pair of nodes in its query and key, and what feeds these.
"""

from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Int
from torch import Tensor

from models.transformer import Transformer, TransformerConfig

WRITE_STRENGTH = 4.0
"""How strongly a variable is written to the stream."""
ENTITIES, RELATIONS, MIDDLES, NOISE = 12, 3, 8, 6
TOKENS, LENGTH = 8, 6
"""Of the induction task: number of tokens, next to the one that begins a prompt, and of those in a prompt."""
BRACKETS, DEPTHS = 6, 4
PROMPTS = 36
"""Of the tasks that are not listed whole."""
Node = tuple[str | int, ...]
"""("embedding", position), ("neuron" or "axis", layer, position, number) or ("logit", token)."""


class Circuit(NamedTuple):
    nodes: frozenset[Node]
    """All but the logit."""
    edges: frozenset[tuple[Node, Node]]
    pair: tuple[Node, Node] | None
    """What head 1.0 looks for and at, by its query and key."""


class World(NamedTuple):
    model: Transformer
    prompts: Int[Tensor, "prompt pos"]
    answers: list[int]
    axes: Tensor
    """[axis, d_model]"""
    circuits: dict[str, list[Circuit]]
    """Of each prompt, for dictionaries of neurons and of axes."""


class _Stream:
    """A model without weights, and the axes of its stream by the names of variables."""

    def __init__(self, d_vocab: int, n_ctx: int, d_mlp: int, **sizes: int):
        self.first = dict(zip(sizes, np.cumsum([0, *sizes.values()])[:-1].tolist(), strict=True))
        n = sum(sizes.values())
        self.axes = torch.kron(torch.eye(n), torch.tensor([[1.0, -1.0]]))
        config = TransformerConfig(
            n_layers=2, d_model=2 * n, n_heads=1, d_mlp=d_mlp, d_vocab=d_vocab, n_ctx=n_ctx, act_fn="relu"
        )
        self.model = Transformer(config)
        for parameter in self.model.parameters():
            parameter.data.zero_()
        for norm in (self.model.ln_final, *(norm for block in self.model.blocks for norm in (block.ln1, block.ln2))):
            norm.w.data.fill_(1.0)
        self.embed, self.unembed = self.model.embed.W_E.data, self.model.unembed.W_U.data
        self.place = self.model.pos_embed.W_pos.data

    def number(self, name: str, n: int = 0) -> int:
        return self.first[name] + n

    def axis(self, name: str, n: int = 0) -> Tensor:
        return self.axes[self.number(name, n)]

    def attention(self, layer: int) -> tuple[Tensor, ...]:
        """Return W_Q, W_K, W_V [d_model, d_head] and W_O [d_head, d_model]."""
        attn = self.model.blocks[layer].attn
        return attn.W_Q.data[0], attn.W_K.data[0], attn.W_V.data[0], attn.W_O.data[0]

    def neuron(self, layer: int, n: int, reads: Tensor, bias: float, writes: Tensor) -> None:
        mlp = self.model.blocks[layer].mlp
        mlp.W_in.data[:, n], mlp.b_in.data[n], mlp.W_out.data[n] = reads, bias, writes

    def world(self, prompts: Tensor, answers: list[int], neurons: list[Circuit], axes: list[Circuit]) -> World:
        return World(self.model.eval(), prompts, answers, self.axes, {"neuron": neurons, "axis": axes})


def _circuit(edges: set[tuple[Node, Node]], pair: tuple[Node, Node] | None = None) -> Circuit:
    """Make a circuit of its edges and what head 1.0 looks for."""
    ends = {end for edge in edges for end in edge} | set(pair or ())
    return Circuit(frozenset(end for end in ends if end[0] != "logit"), frozenset(edges), pair)


def lookup(seed: int = 0) -> World:
    rng = np.random.default_rng(seed)
    middle = rng.integers(0, MIDDLES, (ENTITIES, RELATIONS))
    answer = rng.permutation(MIDDLES)
    names = {"entity": ENTITIES, "relation": RELATIONS, "moved": ENTITIES, "mid": MIDDLES, "said": MIDDLES}
    d_mlp, first_answer = ENTITIES * RELATIONS + NOISE, ENTITIES + RELATIONS
    stream = _Stream(d_vocab=first_answer + MIDDLES, n_ctx=2, d_mlp=d_mlp, **names, place=2, waste=1)
    axis = stream.axis
    for e in range(ENTITIES):
        stream.embed[e] = WRITE_STRENGTH * axis("entity", e)
    for r in range(RELATIONS):
        stream.embed[ENTITIES + r] = WRITE_STRENGTH * axis("relation", r)
    for pos in (0, 1):
        stream.place[pos] = WRITE_STRENGTH * axis("place", pos)
    W_Q, W_K, W_V, W_O = stream.attention(0)
    W_Q[:, 0] = 20 * axis("place", 1)  # the second position looks at the first
    W_K[:, 0] = 20 * axis("place", 0)
    for e in range(ENTITIES):
        W_V[:, 1 + e] = axis("entity", e)
        W_O[1 + e] = 0.4 * axis("moved", e)
        for r in range(RELATIONS):  # each of the two is about 8 after the norm: one is not enough
            reads, writes = axis("moved", e) + axis("relation", r), WRITE_STRENGTH / 5 * axis("mid", middle[e, r])
            stream.neuron(0, e * RELATIONS + r, reads, -10.0, writes)
    for m in range(MIDDLES):
        stream.neuron(1, m, axis("mid", m), -0.5, axis("said", answer[m]))
        stream.unembed[:, first_answer + m] = axis("said", m)
    for layer in (0, 1):
        for n in range(d_mlp - NOISE, d_mlp):
            reads = axis("entity", rng.integers(ENTITIES)) + axis("moved", rng.integers(ENTITIES))
            stream.neuron(layer, n, reads, 0.0, 0.5 * axis("waste"))
    neurons, axes, answers = [], [], []
    pairs = [(e, r) for e in range(ENTITIES) for r in range(RELATIONS)]
    for e, r in pairs:
        m = int(middle[e, r])
        answers.append(first_answer + int(answer[m]))
        for kind, circuits, one, two in (
            ("neuron", neurons, e * RELATIONS + r, m),
            ("axis", axes, stream.number("mid", m), stream.number("said", answer[m])),
        ):
            first, second = (kind, 0, 1, one), (kind, 1, 1, two)
            feeds = {(("embedding", pos), first) for pos in (0, 1)}
            circuits.append(_circuit({*feeds, (first, second), (second, ("logit", answers[-1]))}))
    return stream.world(torch.tensor([[e, ENTITIES + r] for e, r in pairs]), answers, neurons, axes)


def induction(seed: int = 0) -> World:
    rng = np.random.default_rng(seed)
    names = dict.fromkeys(("before", "key", "value", "found", "said"), TOKENS)
    stream = _Stream(TOKENS + 1, LENGTH + 1, 2 * TOKENS, token=TOKENS + 1, place=LENGTH + 1, **names)
    axis = stream.axis
    W_Q, W_K, W_V, W_O = stream.attention(0)
    for pos in range(LENGTH + 1):
        stream.place[pos] = WRITE_STRENGTH * axis("place", pos)
        W_Q[:, pos] = 20 * axis("place", pos)  # each position looks at the one before
        if pos:
            W_K[:, pos] = 20 * axis("place", pos - 1)
    for t in range(TOKENS + 1):
        stream.embed[t] = WRITE_STRENGTH * axis("token", t)
    for t in range(TOKENS):  # the last token begins a prompt, and nothing looks for it
        head = LENGTH + 1 + t
        W_V[:, head] = axis("token", t)
        W_O[head] = 0.4 * axis("before", t)
        stream.neuron(0, t, axis("before", t), -3.0, 0.5 * axis("key", t))  # 8 to 9 after the norm
        stream.neuron(0, TOKENS + t, axis("token", t), -3.0, 0.5 * axis("value", t))
        stream.neuron(1, t, axis("found", t), -1.5, axis("said", t))
        stream.unembed[:, t] = 0.8 * axis("said", t)
    W_Q, W_K, W_V, W_O = stream.attention(1)
    for t in range(TOKENS):
        W_Q[:, t] = 2.5 * axis("token", t)
        W_K[:, t] = axis("key", t)
        W_V[:, TOKENS + t] = axis("value", t)
        W_O[TOKENS + t] = 0.6 * axis("found", t)
    prompts, neurons, axes, answers = [], [], [], []
    last = LENGTH
    for _ in range(PROMPTS):
        tokens = rng.permutation(TOKENS)[: LENGTH - 1].tolist()
        at = int(rng.integers(LENGTH - 2))
        asked, follows, there = tokens[at], tokens[at + 1], at + 2  # the position of what follows
        prompts.append([TOKENS, *tokens, asked])
        answers.append(follows)
        embedding = [("embedding", pos) for pos in range(last + 1)]
        for kind, circuits, value, key, answer, query in (
            ("neuron", neurons, TOKENS + follows, asked, follows, None),
            (
                "axis",
                axes,
                *(
                    stream.number(*of)
                    for of in (("value", follows), ("key", asked), ("said", follows), ("token", asked))
                ),
            ),
        ):
            looks = embedding[last] if query is None else (kind, 0, last, query)
            held, found, says = (kind, 0, there, key), (kind, 0, there, value), (kind, 1, last, answer)
            edges = {(embedding[there], found), (found, says), (says, ("logit", follows)), (embedding[there - 1], held)}
            edges |= set() if query is None else {(embedding[last], looks)}
            circuits.append(_circuit(edges, (looks, held)))
    return stream.world(torch.tensor(prompts), answers, neurons, axes)


def depth(seed: int = 0) -> World:
    """The tokens are the one that begins a prompt, ( and ), both marked, ? and the depths. A constant of 40 in the
    stream, ten times a variable, makes the norms divide by nearly the same everywhere, so that means can be added."""
    rng = np.random.default_rng(seed)
    constant, question, first_answer, last = 40.0, 5, 6, BRACKETS + 1
    marked_at = range(3, BRACKETS + 1)
    names = {"constant": 1, "bracket": 2, "mark": 2, "question": 1, "place": BRACKETS + 2, "sum": 1}
    stream = _Stream(
        first_answer + DEPTHS, BRACKETS + 2, len(marked_at) * DEPTHS, **names, depth=DEPTHS, found=DEPTHS, said=DEPTHS
    )
    axis = stream.axis
    stream.embed[:] = constant * axis("constant")
    for closes in (0, 1):
        for marked in (0, 1):
            stream.embed[1 + closes + 2 * marked] += WRITE_STRENGTH * (axis("bracket", closes) + axis("mark", marked))
    stream.embed[question] += WRITE_STRENGTH * axis("question")
    for pos in range(BRACKETS + 2):
        stream.place[pos] = WRITE_STRENGTH * axis("place", pos)
    n_axes = len(stream.axes)
    # What the norm of a bracket's position makes of 1.
    scale = 2 * (n_axes / (constant**2 + 3 * WRITE_STRENGTH**2)) ** 0.5
    *_, W_V, W_O = stream.attention(0)  # without queries and keys it takes the mean
    W_V[:, 0] = (axis("bracket", 0) - axis("bracket", 1)) / (scale * WRITE_STRENGTH)  # 1 or −1
    W_O[0] = 2 * axis("sum")
    for n, pos in enumerate(marked_at):
        is_here = 6 / (scale * WRITE_STRENGTH) * axis("place", pos)  # 6 is more than a mean times a wrong position
        depth_here = (pos + 1) / (2 * scale) * axis("sum")
        for d in range(DEPTHS):
            writes = 8 * axis("depth", d)  # the second difference of relu(x − d) is 1 at d alone
            writes = writes - (16 * axis("depth", d - 1) if d else 0) + (8 * axis("depth", d - 2) if d > 1 else 0)
            stream.neuron(0, n * DEPTHS + d, is_here + depth_here, -6.1 - d, writes)
    W_Q, W_K, W_V, W_O = stream.attention(1)
    W_Q[:, 0] = 8 * axis("question")
    W_K[:, 0] = 8 * axis("mark", 1)
    for d in range(DEPTHS):
        W_V[:, 1 + d] = axis("depth", d)
        W_O[1 + d] = 3.2 * axis("found", d)
        stream.neuron(1, d, axis("found", d), -0.6, 40 * axis("said", d))
        stream.unembed[:, first_answer + d] = 0.7 * axis("said", d)
    prompts, neurons, axes, answers = [], [], [], []
    while len(prompts) < PROMPTS:
        closes = rng.integers(0, 2, BRACKETS)
        at = int(rng.choice(list(marked_at)))
        open_after = np.cumsum(1 - 2 * closes)
        d = int(open_after[at - 1]) - 1
        if open_after.min() < 0 or not 0 <= d < DEPTHS:
            continue
        tokens = 1 + closes
        tokens[at - 1] += 2
        prompts.append([0, *tokens.tolist(), question])
        answers.append(first_answer + d)
        embedding = [("embedding", pos) for pos in range(BRACKETS + 2)]
        for kind, circuits, counts, answer in (
            ("neuron", neurons, marked_at.index(at) * DEPTHS + d, d),
            ("axis", axes, stream.number("depth", d), stream.number("said", d)),
        ):
            looks, held = embedding[last], embedding[at]
            counted, says = (kind, 0, at, counts), (kind, 1, last, answer)
            edges = {
                *((each, counted) for each in embedding[1 : at + 1]),
                (counted, says),
                (says, ("logit", answers[-1])),
            }
            if kind == "axis":
                looks, held = (kind, 0, last, stream.number("question")), (kind, 0, at, stream.number("mark", 1))
                edges |= {(embedding[last], looks), (embedding[at], held)}
            circuits.append(_circuit(edges, (looks, held)))
    return stream.world(torch.tensor(prompts), answers, neurons, axes)


WORLDS = {"lookup": lookup, "induction": induction, "depth": depth}
