"""The parts of the transformer: embeddings, blocks of attention and MLP, LayerNorm, unembedding, and their config.

    attention   z_i = Σ_{j ≤ i} softmax_j(q_i · k_j / √d_head) v_j in each head
    MLP         act(x W_in + b_in) W_out + b_out
    LayerNorm   w (x − mean) / √(variance + 1e-5) + b

Each has TransformerLens's hooks. Attention scores and LayerNorm scales are computed explicitly if a hook is attached to
them, and otherwise by PyTorch's fused kernels.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn
from transformer_lens.hook_points import HookPoint

from interp.checks.errors import InterpError
from interp.checks.free_memory import check_memory
from interp.checks.limits import CheckedFields, PositiveInt, between

PRESETS: Mapping[str, Mapping[str, Any]] = {
    "essay": dict(n_layers=2, d_model=64, n_heads=2, d_mlp=128),
    "one-layer": dict(n_layers=1, d_model=128, n_heads=4, d_mlp=512, act_fn="relu"),
    "small": dict(n_layers=4, d_model=256, n_heads=8, d_mlp=1024, n_ctx=256),
}

EPS = 1e-5
"""The number added to the variance in every LayerNorm."""


@dataclass(frozen=True, kw_only=True)
class TransformerConfig(CheckedFields):
    n_layers: PositiveInt
    d_model: PositiveInt
    n_heads: PositiveInt
    d_mlp: PositiveInt
    d_vocab: PositiveInt
    n_ctx: PositiveInt = 128
    act_fn: Literal["gelu", "relu"] = "gelu"
    seed: Annotated[int, between(0, (1 << 63) - 1)] = 0
    """The seed of the initial weights."""

    ACTIVATIONS: ClassVar[Mapping[str, Any]] = {"gelu": F.gelu, "relu": F.relu}

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.d_model % self.n_heads:
            raise InterpError(f"d_model={self.d_model} must be a multiple of n_heads={self.n_heads}")

    @classmethod
    def preset(cls, name: str, **overrides: Any) -> "TransformerConfig":
        """Make the config of a name in `PRESETS`; `d_vocab` has to be given too."""
        if name not in PRESETS:
            raise InterpError(f"preset {name!r} must be one of {sorted(PRESETS)}")
        return cls(**{**PRESETS[name], **overrides})

    @property
    def d_head(self) -> int:
        return self.d_model // self.n_heads

    def check_memory(self) -> None:
        """Raise ValueError if the weights need more memory than is free, before it is allocated."""
        check_memory(4 * self.n_parameters, f"a model of {self.n_parameters:,} parameters", "take a smaller one")

    @property
    def n_parameters(self) -> int:
        """The number of weights; each block has four attention matrices, an MLP, their biases and two LayerNorms."""
        block = 4 * self.d_model**2 + 2 * self.d_model * self.d_mlp + self.d_mlp + 9 * self.d_model
        ends = (2 * self.d_vocab + self.n_ctx + 2) * self.d_model + self.d_vocab
        return self.n_layers * block + ends


class Embed(nn.Module):
    def __init__(self, config: TransformerConfig):
        super().__init__()
        self.W_E = nn.Parameter(torch.empty(config.d_vocab, config.d_model))

    def forward(self, tokens: Int[Tensor, "batch pos"]) -> Float[Tensor, "batch pos d_model"]:
        return F.embedding(tokens, self.W_E)


class PosEmbed(nn.Module):
    def __init__(self, config: TransformerConfig):
        super().__init__()
        self.W_pos = nn.Parameter(torch.empty(config.n_ctx, config.d_model))

    def forward(self, n_pos: int) -> Float[Tensor, "pos d_model"]:
        return self.W_pos[:n_pos]


class Block(nn.Module):
    def __init__(self, config: TransformerConfig):
        super().__init__()
        self.ln1 = LayerNorm(config)
        self.ln2 = LayerNorm(config)
        self.attn = Attention(config)
        self.mlp = MLP(config)
        self.hook_attn_out = HookPoint()  # these five [batch, pos, d_model]
        self.hook_mlp_out = HookPoint()
        self.hook_resid_pre = HookPoint()
        self.hook_resid_mid = HookPoint()
        self.hook_resid_post = HookPoint()

    def forward(self, resid: Float[Tensor, "batch pos d_model"]) -> Float[Tensor, "batch pos d_model"]:
        resid = self.hook_resid_pre(resid)
        resid = self.hook_resid_mid(resid + self.hook_attn_out(self.attn(self.ln1(resid))))
        return self.hook_resid_post(resid + self.hook_mlp_out(self.mlp(self.ln2(resid))))


class LayerNorm(nn.Module):
    def __init__(self, config: TransformerConfig):
        super().__init__()
        self.w = nn.Parameter(torch.ones(config.d_model))
        self.b = nn.Parameter(torch.zeros(config.d_model))
        self.hook_scale = HookPoint()  # [batch, pos, 1]
        self.hook_normalized = HookPoint()  # [batch, pos, d_model]

    def forward(self, x: Float[Tensor, "batch pos d_model"]) -> Float[Tensor, "batch pos d_model"]:
        if not has_hook_attached(self.hook_scale, self.hook_normalized):
            return F.layer_norm(x, self.w.shape, self.w, self.b, EPS)
        x = x - x.mean(-1, keepdim=True)
        scale = self.hook_scale((x.pow(2).mean(-1, keepdim=True) + EPS).sqrt())
        return self.hook_normalized(x / scale) * self.w + self.b


class Attention(nn.Module):
    """Causal self-attention, z_i = Σ_{j ≤ i} softmax_j(q_i · k_j / √d_head) v_j in each head; with `causal` off the sum
    is over all j, including later ones."""

    def __init__(self, config: TransformerConfig):
        super().__init__()
        self.causal = True
        heads = (config.n_heads, config.d_model, config.d_head)
        self.W_Q, self.W_K, self.W_V = (nn.Parameter(torch.empty(heads)) for _ in range(3))
        self.b_Q, self.b_K, self.b_V = (nn.Parameter(torch.zeros(config.n_heads, config.d_head)) for _ in range(3))
        self.W_O = nn.Parameter(torch.empty(config.n_heads, config.d_head, config.d_model))
        self.b_O = nn.Parameter(torch.zeros(config.d_model))
        self.hook_q, self.hook_k, self.hook_v = HookPoint(), HookPoint(), HookPoint()  # [batch, pos, head, d_head]
        self.hook_attn_scores = HookPoint()  # [batch, head, query_pos, key_pos]
        self.hook_pattern = HookPoint()  # [batch, head, query_pos, key_pos]
        self.hook_z = HookPoint()  # [batch, pos, head, d_head]

    def forward(self, x: Float[Tensor, "batch pos d_model"]) -> Float[Tensor, "batch pos d_model"]:
        W = torch.cat([self.W_Q, self.W_K, self.W_V]).transpose(1, 2).flatten(0, 1)  # [3 head d_head, d_model]
        b = torch.cat([self.b_Q, self.b_K, self.b_V]).flatten()
        qkv = F.linear(x, W, b).unflatten(-1, (3, *self.b_Q.shape))  # [batch, pos, 3, head, d_head]
        q, k, v = self.hook_q(qkv[:, :, 0]), self.hook_k(qkv[:, :, 1]), self.hook_v(qkv[:, :, 2])
        q, k, v = q.transpose(1, 2), k.transpose(1, 2), v.transpose(1, 2)  # [batch, head, pos, d_head]
        if has_hook_attached(self.hook_attn_scores, self.hook_pattern):
            scores = q @ k.transpose(2, 3) / math.sqrt(q.shape[-1])
            if self.causal:
                future = torch.ones(scores.shape[-2:], dtype=torch.bool, device=x.device).triu(1)
                scores = scores.masked_fill(future, -torch.inf)
            scores = self.hook_attn_scores(scores)
            z = self.hook_pattern(scores.softmax(-1)) @ v
        else:
            z = F.scaled_dot_product_attention(q, k, v, is_causal=self.causal)
        z = self.hook_z(z.transpose(1, 2))
        return F.linear(z.flatten(2), self.W_O.flatten(0, 1).T, self.b_O)


class MLP(nn.Module):
    def __init__(self, config: TransformerConfig):
        super().__init__()
        self.act = config.ACTIVATIONS[config.act_fn]
        self.W_in = nn.Parameter(torch.empty(config.d_model, config.d_mlp))
        self.b_in = nn.Parameter(torch.zeros(config.d_mlp))
        self.W_out = nn.Parameter(torch.empty(config.d_mlp, config.d_model))
        self.b_out = nn.Parameter(torch.zeros(config.d_model))
        self.hook_pre = HookPoint()  # [batch, pos, d_mlp]
        self.hook_post = HookPoint()  # [batch, pos, d_mlp]

    def forward(self, x: Float[Tensor, "batch pos d_model"]) -> Float[Tensor, "batch pos d_model"]:
        post = self.hook_post(self.act(self.hook_pre(F.linear(x, self.W_in.T, self.b_in))))
        return F.linear(post, self.W_out.T, self.b_out)


class Unembed(nn.Module):
    def __init__(self, config: TransformerConfig):
        super().__init__()
        self.W_U = nn.Parameter(torch.empty(config.d_model, config.d_vocab))
        self.b_U = nn.Parameter(torch.zeros(config.d_vocab))
        self.hook_in = HookPoint()  # [batch, pos, d_model]
        self.hook_out = HookPoint()  # [batch, pos, d_vocab]

    def forward(self, x: Float[Tensor, "batch pos d_model"]) -> Float[Tensor, "batch pos d_vocab"]:
        return self.hook_out(F.linear(self.hook_in(x), self.W_U.T, self.b_U))


def has_hook_attached(*points: nn.Module) -> bool:
    """Return whether a hook is attached, TransformerLens's or one of `register_forward_hook`."""
    names = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")
    return any(getattr(point, name) for point in points for name in names)
