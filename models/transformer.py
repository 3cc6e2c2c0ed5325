"""A decoder-only transformer with a hook on every activation.

    resid = W_E[tokens] + W_pos
    resid = resid + attention(LN1(resid));   resid = resid + MLP(LN2(resid))        in each block
    logits = LN_final(resid) W_U + b_U

Names of hooks and weights are those of `transformer_lens.HookedTransformer`, so `run_with_cache`, `run_with_hooks` and
`state_dict` mean the same here. What costs time is done only where someone looks: attention scores and LayerNorm scales
are written out when a hook is attached to them and otherwise left to PyTorch's fused kernels.
"""

import json
import math
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal, NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from transformer_lens.hook_points import HookPoint
from transformer_lens.HookedRootModule import HookedRootModule

from models.loss import token_loss

if TYPE_CHECKING:
    from transformer_lens import ActivationCache, HookedTransformer, HookedTransformerConfig

PRESETS: Mapping[str, Mapping[str, Any]] = {
    "essay": dict(n_layers=2, d_model=64, n_heads=2, d_mlp=128),
    "one-layer": dict(n_layers=1, d_model=128, n_heads=4, d_mlp=512, act_fn="relu"),
    "small": dict(n_layers=4, d_model=256, n_heads=8, d_mlp=1024, n_ctx=256),
}


@dataclass(frozen=True, kw_only=True)
class TransformerConfig:
    n_layers: int
    d_model: int
    n_heads: int
    d_mlp: int
    d_vocab: int
    n_ctx: int = 128
    act_fn: Literal["gelu", "relu"] = "gelu"
    tied_embeddings: bool = False
    """Unembed with the transpose of the embedding."""
    layer_norm_eps: float = 1e-5
    seed: int = 0
    """Of the initial weights."""

    ACTIVATIONS: ClassVar[Mapping[str, Any]] = {"gelu": F.gelu, "relu": F.relu}

    def __post_init__(self) -> None:
        for name in ("n_layers", "d_model", "n_heads", "d_mlp", "d_vocab", "n_ctx"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name}={getattr(self, name)} must be at least 1")
        if self.d_model % self.n_heads:
            raise ValueError(f"d_model={self.d_model} must be a multiple of n_heads={self.n_heads}")
        if self.act_fn not in self.ACTIVATIONS:
            raise ValueError(f"act_fn={self.act_fn!r} must be one of {sorted(self.ACTIVATIONS)}")

    @classmethod
    def preset(cls, name: str, **overrides: Any) -> "TransformerConfig":
        """The config of a name in `PRESETS`; `d_vocab` has to be given beside it."""
        if name not in PRESETS:
            raise ValueError(f"preset {name!r} must be one of {sorted(PRESETS)}")
        return cls(**{**PRESETS[name], **overrides})

    @property
    def d_head(self) -> int:
        return self.d_model // self.n_heads


class LogitsAndLoss(NamedTuple):
    logits: Float[Tensor, "batch pos d_vocab"]
    loss: Float[Tensor, "..."]


class Transformer(HookedRootModule):
    """The model; `config` is ours, `cfg` the same facts under the names that TransformerLens's callers expect."""

    def __init__(self, config: TransformerConfig):
        super().__init__()
        self.config = config
        self.embed = Embed(config)
        self.pos_embed = PosEmbed(config)
        self.hook_embed = HookPoint()  # [batch, pos, d_model]
        self.hook_pos_embed = HookPoint()  # [batch, pos, d_model]
        self.blocks = nn.ModuleList(Block(config) for _ in range(config.n_layers))
        self.ln_final = LayerNorm(config)
        self.unembed = Unembed(config)
        self.setup()
        self._initialise()

    def forward(
        self,
        tokens: Int[Tensor, "batch pos"],
        return_type: Literal["logits", "loss", "both"] | None = "logits",
        loss_per_token: bool = False,
        stop_at_layer: int | None = None,
    ) -> Any:
        """Logits [batch, pos, d_vocab]; the next-token loss in nats (a scalar, or [batch, pos - 1] with
        `loss_per_token`); both; or None, when only the hooks matter.

        With `stop_at_layer` the residual stream [batch, pos, d_model] that enters that block, of whatever return type;
        negative numbers count from the last block. Raises ValueError if a sequence is longer than n_ctx.
        """
        resid = self._embed(tokens)
        for block in self.blocks[:stop_at_layer]:
            resid = block(resid)
        if stop_at_layer is not None:
            return resid
        if (
            return_type == "loss"
            and not loss_per_token
            and not _hooked(*self.ln_final.children(), *self.unembed.children())
        ):
            # The last position predicts nothing, so its logits are not made.
            x, targets = self.ln_final(resid[:, :-1]), tokens[:, 1:]
            return token_loss(x.flatten(0, 1), self.W_U, self.b_U, targets.reshape(-1))
        resid = self.ln_final(resid)
        if return_type is None:
            return None
        logits = self.unembed(resid, self.W_U)
        if return_type == "logits":
            return logits
        loss = F.cross_entropy(logits[:, :-1].flatten(0, 1).float(), tokens[:, 1:].reshape(-1).long(), reduction="none")
        loss = loss.view(len(tokens), -1) if loss_per_token else loss.mean()
        if return_type == "loss":
            return loss
        if return_type == "both":
            return LogitsAndLoss(logits, loss)
        raise ValueError(f"return_type={return_type!r} must be 'logits', 'loss', 'both' or None")

    def run_with_cache(
        self, *args: Any, return_cache_object: bool = True, remove_batch_dim: bool = False, **kwargs: Any
    ) -> tuple[Any, "ActivationCache | dict[str, Tensor]"]:
        """The output and the activation at every hook (or those that `names_filter` keeps), by name;
        `cache["resid_post", 0]` is `cache["blocks.0.hook_resid_post"]`."""
        out, cache = super().run_with_cache(*args, remove_batch_dim=remove_batch_dim, **kwargs)
        if not return_cache_object:
            return out, cache
        from transformer_lens import ActivationCache

        return out, ActivationCache(cache, self, has_batch_dim=not remove_batch_dim)

    @torch.no_grad()
    def generate(
        self,
        tokens: Int[Tensor, "batch pos"],
        n_tokens: int,
        *,
        temperature: float = 1.0,
        seed: int = 0,
        window: int | None = None,
    ) -> Int[Tensor, "batch pos_plus_n"]:
        """`tokens` and `n_tokens` more after each row, sampled from softmax(logits / temperature); at temperature 0
        the likeliest. Each token sees the `window` (n_ctx) before it; hooks that are attached act on it."""
        if temperature < 0 or tokens.ndim != 2 or tokens.shape[1] < 1:
            raise ValueError(f"temperature={temperature} must be ≥ 0, tokens of {tuple(tokens.shape)} [batch, pos ≥ 1]")
        generator = torch.Generator(tokens.device).manual_seed(seed)
        for _ in range(n_tokens):
            resid = self(tokens[:, -(window or self.config.n_ctx) :], stop_at_layer=self.config.n_layers)
            logits = self.unembed(self.ln_final(resid[:, -1:]), self.W_U)[:, 0].float()
            if temperature == 0:
                chosen = logits.argmax(1, keepdim=True)
            else:
                chosen = torch.multinomial((logits / temperature).softmax(1), 1, generator=generator)
            tokens = torch.cat([tokens, chosen.to(tokens.dtype)], 1)
        return tokens

    def save(self, folder: str | Path) -> None:
        """`weights.safetensors` and `config.json` in `folder`."""
        folder = Path(folder)
        self.save_weights(folder / "weights.safetensors")
        temporary = folder / "config.json.tmp"
        temporary.write_text(json.dumps(asdict(self.config), indent=2) + "\n")
        os.replace(temporary, folder / "config.json")

    def save_weights(self, file: str | Path) -> None:
        file = Path(file)
        file.parent.mkdir(parents=True, exist_ok=True)
        temporary = file.with_suffix(".tmp")
        save_file({name: tensor.detach().contiguous() for name, tensor in self.state_dict().items()}, temporary)
        os.replace(temporary, file)

    @classmethod
    def load(cls, folder: str | Path, weights: str = "weights.safetensors", device: str = "cpu") -> "Transformer":
        """The model that `save` wrote; `weights` may name another file in the folder, a training snapshot say."""
        folder = Path(folder)
        try:
            config = TransformerConfig(**json.loads((folder / "config.json").read_text()))
            tensors = load_file(folder / weights)
        except (TypeError, SafetensorError) as error:
            raise ValueError(f"{folder / 'config.json'} with {weights} cannot be read: {error}") from error
        model = cls(config)
        expected = model.state_dict()
        for name in sorted(expected.keys() | tensors.keys()):
            stored, fits = (list(d[name].shape) if name in d else "missing" for d in (tensors, expected))
            if stored != fits:
                raise ValueError(f"{name} of {folder / weights} is {stored}, by config.json it is {fits}")
        model.load_state_dict(tensors)
        return model.to(device)

    @property
    def cfg(self) -> "HookedTransformerConfig":
        from transformer_lens import HookedTransformerConfig

        names = ("n_layers", "d_model", "d_head", "n_heads", "d_mlp", "d_vocab", "n_ctx", "act_fn")
        causal = all(module.causal for module in self.modules() if isinstance(module, Attention))
        return HookedTransformerConfig(
            **{name: getattr(self.config, name) for name in names},
            eps=self.config.layer_norm_eps,
            model_name="interp",
            normalization_type="LN",
            init_weights=False,
            default_prepend_bos=False,
            attention_dir="causal" if causal else "bidirectional",
            device=str(self.W_E.device),
            dtype=self.W_E.dtype,
        )

    @property
    def W_E(self) -> Float[Tensor, "d_vocab d_model"]:
        return self.embed.W_E

    @property
    def W_pos(self) -> Float[Tensor, "n_ctx d_model"]:
        return self.pos_embed.W_pos

    @property
    def W_U(self) -> Float[Tensor, "d_model d_vocab"]:
        return self.embed.W_E.T if self.config.tied_embeddings else self.unembed.W_U

    @property
    def b_U(self) -> Float[Tensor, " d_vocab"]:
        return self.unembed.b_U

    def _embed(self, tokens: Int[Tensor, "batch pos"]) -> Float[Tensor, "batch pos d_model"]:
        if tokens.shape[1] > self.config.n_ctx:
            raise ValueError(
                f"a sequence of {tokens.shape[1]} tokens is longer than the model's n_ctx={self.config.n_ctx}"
            )
        embedding, position = self.hook_embed(self.embed(tokens)), self.pos_embed(tokens.shape[1])
        if _hooked(self.hook_pos_embed):
            position = self.hook_pos_embed(position.repeat(len(tokens), 1, 1))
        return embedding + position

    @torch.no_grad()
    def _initialise(self) -> None:
        """Matrices keep the variance of what they read; what writes to the residual stream is scaled down by the number
        of writers, and the unembedding so that the first predictions are close to uniform."""
        config, generator = self.config, torch.Generator().manual_seed(self.config.seed)
        writers = 2 * config.n_layers
        std = {
            "W_E": 0.02 if config.tied_embeddings else 0.5,
            "W_pos": 0.02 if config.tied_embeddings else 0.1,
            "W_O": 1 / math.sqrt(config.d_model * writers),
            "W_out": 1 / math.sqrt(config.d_mlp * writers),
            "W_U": 0.02,
        }
        for name, parameter in self.named_parameters():
            leaf = name.rsplit(".", 1)[1]
            if leaf.startswith("W_"):
                parameter.normal_(0, std.get(leaf, 1 / math.sqrt(config.d_model)), generator=generator)


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
        self.eps = config.layer_norm_eps
        self.w = nn.Parameter(torch.ones(config.d_model))
        self.b = nn.Parameter(torch.zeros(config.d_model))
        self.hook_scale = HookPoint()  # [batch, pos, 1]
        self.hook_normalized = HookPoint()  # [batch, pos, d_model]

    def forward(self, x: Float[Tensor, "batch pos d_model"]) -> Float[Tensor, "batch pos d_model"]:
        if not _hooked(self.hook_scale, self.hook_normalized):
            return F.layer_norm(x, self.w.shape, self.w, self.b, self.eps)
        x = x - x.mean(-1, keepdim=True)
        scale = self.hook_scale((x.pow(2).mean(-1, keepdim=True) + self.eps).sqrt())
        return self.hook_normalized(x / scale) * self.w + self.b


class Attention(nn.Module):
    """Causal self-attention, z_i = Σ_{j ≤ i} softmax_j(q_i · k_j / √d_head) v_j in each head; with `causal` switched
    off the sum goes over all j, later ones too."""

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
        if _hooked(self.hook_attn_scores, self.hook_pattern):
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
        if not config.tied_embeddings:
            self.W_U = nn.Parameter(torch.empty(config.d_model, config.d_vocab))
        self.b_U = nn.Parameter(torch.zeros(config.d_vocab))
        self.hook_in = HookPoint()  # [batch, pos, d_model]
        self.hook_out = HookPoint()  # [batch, pos, d_vocab]

    def forward(
        self, x: Float[Tensor, "batch pos d_model"], W_U: Float[Tensor, "d_model d_vocab"]
    ) -> Float[Tensor, "batch pos d_vocab"]:
        return self.hook_out(F.linear(self.hook_in(x), W_U.T, self.b_U))


def to_hooked_transformer(model: Transformer, tokenizer: Any = None) -> "HookedTransformer":
    """The same function as a `HookedTransformer`, for tools that ask for one (SAELens, SAEBench). LayerNorms stay as
    they are (nothing is folded or centred), so activations at every hook agree too. `tokenizer` may be ours or a
    `transformers` one."""
    from transformer_lens import HookedTransformer

    if hasattr(tokenizer, "to_transformers"):
        tokenizer = tokenizer.to_transformers()
    hooked = HookedTransformer(model.cfg, tokenizer=tokenizer)
    weights = {**model.state_dict(), "unembed.W_U": model.W_U.detach().contiguous()}
    buffers = {name: buffer for name, buffer in hooked.state_dict().items() if name.endswith((".mask", ".IGNORE"))}
    hooked.load_state_dict({**weights, **buffers})
    return hooked


def _hooked(*points: nn.Module) -> bool:
    """Whether anyone looks: TransformerLens's hooks and plain `register_forward_hook` alike."""
    kinds = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")
    return any(getattr(point, kind) for point in points for kind in kinds)
