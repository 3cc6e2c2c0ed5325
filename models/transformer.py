"""A decoder-only transformer with a hook on every activation.

    resid = W_E[tokens] + W_pos
    resid = resid + attention(LN1(resid));   resid = resid + MLP(LN2(resid))        in each block
    logits = LN_final(resid) W_U + b_U

Names of hooks and weights are those of `transformer_lens.HookedTransformer`, so `run_with_cache`, `run_with_hooks` and
`state_dict` mean the same here. The parts are in `models.layers`.
"""

import math
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn
from transformer_lens.hook_points import HookPoint
from transformer_lens.HookedRootModule import HookedRootModule

from interp.checks.errors import DamagedError, InterpError
from interp.checks.limits import NonNegative, check_at_least, check_value
from interp.runtime.text_sampling import sample_tokens
from interp.storage.addresses import as_local_path
from interp.storage.files import read_json, write_json, write_tensors
from models.checkpoints import count_weights, load_weights
from models.language_model import layer_aliases
from models.layers import (
    EPS,
    Attention,
    Block,
    Embed,
    LayerNorm,
    PosEmbed,
    TransformerConfig,
    Unembed,
    has_hook_attached,
)
from models.training_recipe import token_loss

if TYPE_CHECKING:
    from transformer_lens import ActivationCache, HookedTransformerConfig

_REMEDY = "name a folder that `interp run` wrote, or train it again"


class LogitsAndLoss(NamedTuple):
    logits: Float[Tensor, "batch pos d_vocab"]
    loss: Float[Tensor, "..."]


class Transformer(HookedRootModule):
    """The model. `config` is ours; `cfg` has the same facts under the names that TransformerLens's callers expect."""

    def __init__(self, config: TransformerConfig):
        super().__init__()
        config.check_memory()
        self.config = config
        self.tokenizer: Any = None
        self.n_layers = config.n_layers
        self.n_ctx = config.n_ctx
        self.d_model = config.d_model
        self.d_vocab = config.d_vocab
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
        """Return logits [batch, pos, d_vocab]; the next-token loss in nats (a scalar, or [batch, pos - 1] with
        `loss_per_token`); both; or None, when only the hooks matter.

        With `stop_at_layer` the residual stream [batch, pos, d_model] that enters that block, of whatever return type;
        negative numbers count from the last block. Raises ValueError if a sequence is longer than n_ctx.
        """
        resid = self._embed(tokens)
        for block in self.blocks[:stop_at_layer]:
            resid = block(resid)
        if stop_at_layer is not None:
            return resid
        seen = has_hook_attached(*self.ln_final.children(), *self.unembed.children())
        if return_type == "loss" and not loss_per_token and not seen:
            # The last position predicts nothing, so its logits are not made.
            x = self.ln_final(resid[:, :-1])
            targets = tokens[:, 1:]
            return token_loss(x.flatten(0, 1), self.W_U, self.b_U, targets.reshape(-1))
        resid = self.ln_final(resid)
        if return_type is None:
            return None
        logits = self.unembed(resid)
        if return_type == "logits":
            return logits
        loss = F.cross_entropy(logits[:, :-1].flatten(0, 1).float(), tokens[:, 1:].reshape(-1).long(), reduction="none")
        loss = loss.view(len(tokens), -1) if loss_per_token else loss.mean()
        if return_type == "loss":
            return loss
        if return_type == "both":
            return LogitsAndLoss(logits, loss)
        raise InterpError(f"return_type={return_type!r} must be 'logits', 'loss', 'both' or None")

    def untrained(self, seed: int = 0) -> "Transformer":
        """Return a model of the same shape with random weights, from another seed than this one's."""
        return Transformer(replace(self.config, seed=self.config.seed + 1 + seed)).to(self.W_E.device).eval()

    def run_with_cache(
        self, *args: Any, return_cache_object: bool = True, remove_batch_dim: bool = False, **kwargs: Any
    ) -> tuple[Any, "ActivationCache | dict[str, Tensor]"]:
        """Return the output and the activation at every hook (or those that `names_filter` keeps), by name;
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
        """Write `n_tokens` more after each row of `tokens`, sampled from softmax(logits / temperature).

        At temperature 0 each is the likeliest. Each token sees the `window` (n_ctx) tokens before it; attached hooks
        are active.
        """
        check_at_least(0, seed=seed, n_tokens=n_tokens)
        temperature = check_value("temperature", temperature, NonNegative)
        if tokens.ndim != 2 or tokens.shape[1] < 1:
            raise InterpError(f"tokens are {tuple(tokens.shape)}: [batch, pos] with at least one position is needed")

        def next_logits(tokens: Int[Tensor, "batch pos"]) -> Float[Tensor, "batch d_vocab"]:
            resid = self(tokens[:, -(window or self.config.n_ctx) :], stop_at_layer=self.config.n_layers)
            return self.unembed(self.ln_final(resid[:, -1:]))[:, 0]

        return sample_tokens(next_logits, tokens, n_tokens, temperature=temperature, seed=seed)

    def save(self, folder: str | Path) -> None:
        """Write `weights.safetensors` and `config.json` to `folder`."""
        folder = as_local_path(folder)
        self.save_weights(folder / "weights.safetensors")
        write_json(folder / "config.json", asdict(self.config))

    def save_weights(self, file: str | Path) -> None:
        file = as_local_path(file)
        file.parent.mkdir(parents=True, exist_ok=True)
        write_tensors(file, self.state_dict())

    @classmethod
    def load(cls, folder: str | Path, weights: str = "weights.safetensors") -> "Transformer":
        """Load a model of `save`; `weights` may name another file in the folder, such as a training snapshot.

        Raises FileNotFoundError or ValueError, with the file, if one is missing, damaged or inconsistent."""
        folder = as_local_path(folder)
        file = folder / "config.json"
        stored = read_json(file, _REMEDY)
        try:
            config = TransformerConfig(**stored)
        except (TypeError, ValueError) as error:
            raise DamagedError(f"{file} describes no model ({error}): {_REMEDY}") from None
        n_weights = count_weights(folder / weights, _REMEDY)
        if config.n_parameters > 2 * n_weights:  # before memory is allocated
            raise DamagedError(
                f"{file} describes {config.n_parameters:,} parameters, {weights} holds {n_weights:,}: {_REMEDY}"
            )
        model = cls(config)
        load_weights(model, folder / weights, _REMEDY)
        return model

    @property
    def cfg(self) -> "HookedTransformerConfig":
        from transformer_lens import HookedTransformerConfig

        names = ("n_layers", "d_model", "d_head", "n_heads", "d_mlp", "d_vocab", "n_ctx", "act_fn")
        causal = all(module.causal for module in self.modules() if isinstance(module, Attention))
        return HookedTransformerConfig(
            **{name: getattr(self.config, name) for name in names},
            eps=EPS,
            model_name="interp",
            normalization_type="LN",
            init_weights=False,
            default_prepend_bos=False,
            attention_dir="causal" if causal else "bidirectional",
            device=str(self.W_E.device),
            dtype=self.W_E.dtype,
        )

    @property
    def special_ids(self) -> tuple[int, ...]:
        """Ids that are not text; none if no tokenizer is known."""
        return () if self.tokenizer is None else self.tokenizer.special_ids

    @property
    def final_norm(self) -> LayerNorm:
        return self.ln_final

    @property
    def hook_aliases(self) -> dict[str, nn.Module]:
        """Other names of the hooks, as in Hugging Face's models."""
        return layer_aliases(self.config.n_layers, self.hook_dict) | {"final_norm": self.ln_final}

    @property
    def W_E(self) -> Float[Tensor, "d_vocab d_model"]:
        return self.embed.W_E

    @property
    def W_pos(self) -> Float[Tensor, "n_ctx d_model"]:
        return self.pos_embed.W_pos

    @property
    def W_U(self) -> Float[Tensor, "d_model d_vocab"]:
        return self.unembed.W_U

    @property
    def b_U(self) -> Float[Tensor, " d_vocab"]:
        return self.unembed.b_U

    def _embed(self, tokens: Int[Tensor, "batch pos"]) -> Float[Tensor, "batch pos d_model"]:
        n_ctx = self.config.n_ctx
        if tokens.shape[1] > n_ctx:
            raise InterpError(f"a sequence of {tokens.shape[1]} tokens is longer than the model's n_ctx={n_ctx}")
        embedding = self.hook_embed(self.embed(tokens))
        position = self.pos_embed(tokens.shape[1])
        if has_hook_attached(self.hook_pos_embed):
            position = self.hook_pos_embed(position.repeat(len(tokens), 1, 1))
        return embedding + position

    @torch.no_grad()
    def _initialise(self) -> None:
        """Initialise the weights. Matrices preserve the variance of their input; those that write to the residual
        stream are scaled down by the number of writers, and the unembedding so that the first predictions are close to
        uniform."""
        config = self.config
        generator = torch.Generator().manual_seed(config.seed)
        writers = 2 * config.n_layers
        out, up = 1 / math.sqrt(config.d_model * writers), 1 / math.sqrt(config.d_mlp * writers)
        std = {"W_E": 0.5, "W_pos": 0.1, "W_O": out, "W_out": up, "W_U": 0.02}
        for name, parameter in self.named_parameters():
            leaf = name.rsplit(".", 1)[1]
            if leaf.startswith("W_"):
                parameter.normal_(0, std.get(leaf, 1 / math.sqrt(config.d_model)), generator=generator)
