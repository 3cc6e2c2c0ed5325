"""Draw responses token by token, with keys and values cached.

Prompts may differ in length: they are padded on the right, and each row continues where its own prompt ends. A query at
position p sees the keys at positions ≤ p, so padding is overwritten before it is ever seen. The tokens are those that
`Transformer.generate` would draw (up to rounding, and for sampling up to the seed), at a cost that grows linearly with
the length. Hooks are not called.
"""

import math
from collections.abc import Iterable, Sequence
from typing import NamedTuple, cast

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from models.layers import Attention, Block
from models.transformer import Transformer


class Responses(NamedTuple):
    ids: list[list[int]]
    """Each with its `<end>`, where there is one."""
    ended: list[bool]
    """Whether `<end>` came within the limit."""


@torch.no_grad()
def respond(
    model: Transformer,
    prompts: Sequence[Sequence[int]],
    end_id: int,
    n_tokens: int,
    *,
    temperature: float = 1.0,
    seed: int = 0,
    batch_size: int = 512,
) -> Responses:
    """Return a response of at most `n_tokens` to each prompt; at temperature 0 the likeliest tokens.

    Raises ValueError if a prompt and its response would be longer than the model's n_ctx."""
    longest = max(map(len, prompts)) + n_tokens
    if longest > model.config.n_ctx + 1:
        raise ValueError(f"a prompt with n_tokens={n_tokens} is {longest} long, n_ctx={model.config.n_ctx} allows less")
    generator = torch.Generator().manual_seed(seed)
    ids: list[list[int]] = []
    for start in range(0, len(prompts), batch_size):
        ids += _draw(model, prompts[start : start + batch_size], end_id, n_tokens, temperature, generator)
    return Responses(ids, [each[-1] == end_id for each in ids])


def _draw(
    model: Transformer,
    prompts: Sequence[Sequence[int]],
    end_id: int,
    n_tokens: int,
    temperature: float,
    generator: torch.Generator,
) -> list[list[int]]:
    lengths = torch.tensor([len(prompt) for prompt in prompts])
    tokens = torch.full((len(prompts), int(lengths.max())), end_id)
    for i, prompt in enumerate(prompts):
        tokens[i, : len(prompt)] = torch.tensor(prompt)
    cache = _Cache(model, len(prompts), int(lengths.max()) + n_tokens)
    places = torch.arange(tokens.shape[1]).expand_as(tokens)
    resid = cache.read(tokens, places)[torch.arange(len(prompts)), lengths - 1]
    drawn: list[list[int]] = [[] for _ in prompts]
    rows = torch.arange(len(prompts))
    for i in range(n_tokens):
        token = _choose(model.unembed(model.ln_final(resid)), temperature, generator)
        for row, each in zip(rows.tolist(), token.tolist(), strict=True):
            drawn[row].append(each)
        going = token != end_id
        if i == n_tokens - 1 or not going.any():
            break
        rows, token = rows[going], token[going]
        cache.keep(going)
        resid = cache.read(token[:, None], (lengths[rows] + i)[:, None])[:, 0]
    return drawn


def _choose(
    logits: Float[Tensor, "row d_vocab"], temperature: float, generator: torch.Generator
) -> Int[Tensor, " row"]:
    if temperature == 0:
        return logits.argmax(1)
    return torch.multinomial((logits.float() / temperature).softmax(1), 1, generator=generator)[:, 0]


class _Cache:
    """Keys and values of every layer, [row, place, head, d_head]."""

    def __init__(self, model: Transformer, n_rows: int, n_places: int):
        config = model.config
        shape = (n_rows, n_places, config.n_heads, config.d_head)
        self.model, self.n_places = model, n_places
        self.keys = [torch.zeros(shape) for _ in range(config.n_layers)]
        self.values = [torch.zeros(shape) for _ in range(config.n_layers)]

    def keep(self, rows: Tensor) -> None:
        self.keys, self.values = ([each[rows] for each in kind] for kind in (self.keys, self.values))

    def read(self, tokens: Int[Tensor, "row pos"], places: Int[Tensor, "row pos"]) -> Float[Tensor, "row pos d_model"]:
        """Return the residual stream after the last block, where `tokens` stand at `places`."""
        resid = self.model.embed(tokens) + self.model.W_pos[places]
        for layer, block in enumerate(cast(Iterable[Block], self.model.blocks)):
            resid = resid + self._attend(layer, block.attn, block.ln1(resid), places)
            resid = resid + block.mlp(block.ln2(resid))
        return resid

    def _attend(self, layer: int, attn: Attention, x: Tensor, places: Tensor) -> Float[Tensor, "row pos d_model"]:
        q, k, v = (
            torch.einsum("rpm,hmd->rphd", x, W) + b
            for W, b in ((attn.W_Q, attn.b_Q), (attn.W_K, attn.b_K), (attn.W_V, attn.b_V))
        )
        rows = torch.arange(len(x))[:, None]
        self.keys[layer][rows, places], self.values[layer][rows, places] = k, v
        seen = int(places.max()) + 1
        keys, values = self.keys[layer][:, :seen], self.values[layer][:, :seen]
        scores = torch.einsum("rphd,rkhd->rhpk", q, keys) / math.sqrt(q.shape[-1])
        future = torch.arange(seen) > places[:, None, :, None]
        z = torch.einsum("rhpk,rkhd->rphd", scores.masked_fill(future, -torch.inf).softmax(-1), values)
        return F.linear(z.flatten(2), attn.W_O.flatten(0, 1).T, attn.b_O)
