"""What a dictionary reads and writes: the hooks, their scales, the weights drawn for them, and folded back at the end.

    autoencoder  x → x                one hook
    crosscoder   x¹ … xᴸ → the same   several hooks, of layers or of models, share latents (Lindsey et al. 2024)
    transcoder   x → y                an input hook and an output hook (Dunefsky et al. 2024, arXiv 2406.11944)

Each hook is scaled to a mean norm of √d of its own. A dictionary trained on scaled inputs becomes one for inputs as
they are: with input scales a, output scales o and one scale s for the latents,

    W_enc ← a W_enc / s     b_enc ← b_enc / s     W_dec ← s W_dec / o     b_dec ← b_dec / o     W_skip ← a W_skip / o
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from interp.activations import ActivationStatistics, ActivationStore, JoinedStore
from interp.activations.row_statistics import within
from interp.sae.architectures import SAEConfig
from interp.sae.model import SAE, Crosscoder, Transcoder
from interp.sae.rules import Rule
from interp.storage.checks import check_memory
from interp.storage.processes import Processes

Store = ActivationStore | JoinedStore
FLOOR = 10
"""Of a matched filter (`Site.precision`), in mean variances: with much less, filters lean on directions that hardly
vary and answer the rare row that does with a hundred times its size; with much more FVU jumps as latents are drawn."""
_DRAW = 0x1A7E47
"""Added to the seed of the first directions: a world that was planted with the same seed must not be its own start."""


@dataclass(frozen=True, kw_only=True)
class Site:
    inputs: tuple[ActivationStatistics, ...]
    outputs: tuple[ActivationStatistics, ...] = ()
    """Of a transcoder; empty: what is read is also written."""
    limits: tuple[float | None, ...] = ()
    """Norms above which a row of a hook trains nothing (None: any trains), first of the inputs, then of the outputs."""

    @property
    def tied(self) -> bool:
        """Whether what is read is what is written."""
        return not self.outputs

    @property
    def targets(self) -> tuple[ActivationStatistics, ...]:
        return self.outputs or self.inputs

    @property
    def widths(self) -> tuple[int, ...]:
        """Of the hooks that are written."""
        return tuple(len(each.mean) for each in self.targets)

    @property
    def d_in(self) -> int:
        return sum(len(each.mean) for each in self.inputs)

    @property
    def d_out(self) -> int:
        return sum(self.widths)

    @property
    def input_scales(self) -> Float[Tensor, " d_in"]:
        return _scales(self.inputs)

    @property
    def output_scales(self) -> Float[Tensor, " d_out"]:
        return _scales(self.targets)

    @property
    def input_spread(self) -> float:
        """Standard deviation of scaled inputs, the mean over all directions."""
        return (_variance(self.inputs) / self.d_in) ** 0.5

    @cached_property
    def precision(self) -> Float[Tensor, "d_in d_in"]:
        """Inverse of the covariance of scaled inputs, of each hook by itself; of one whose covariance is not known as
        if all directions varied alike. FLOOR times the mean variance is added to each direction's."""
        blocks = []
        for hook in self.inputs:
            d, scale = len(hook.mean), _scale(hook)
            spread = max(hook.variance, torch.finfo(torch.float32).tiny) / d
            covariance = spread * torch.eye(d) if hook.covariance is None else hook.covariance.float()
            blocks.append(torch.linalg.inv((covariance + FLOOR * spread * torch.eye(d)).double()) / scale**2)
        return torch.block_diag(*blocks)

    @property
    def variance(self) -> float:
        """Of all scaled outputs together."""
        return max(_variance(self.targets), torch.finfo(torch.float32).tiny)

    def within(self, rows: Float[Tensor, "batch d"]) -> Float[Tensor, "row d"]:
        """The rows that are above none of the limits."""
        if not any(self.limits):
            return rows
        parts = rows.split([len(each.mean) for each in self.inputs + self.outputs], dim=1)
        pairs = zip(parts, self.limits, strict=True)
        return rows[torch.stack([within(part, limit) for part, limit in pairs if limit is not None]).all(0)]

    def split(self, rows: Float[Tensor, "row d"]) -> tuple[Float[Tensor, "row d_in"], Float[Tensor, "row d_out"]]:
        """Input and output of rows in which both stand side by side."""
        return (rows, rows) if self.tied else (rows[:, : self.d_in], rows[:, self.d_in :])


class Source:
    """The rows that are trained on: of which hooks of a store, and which part of them is this process's.

    Raises ValueError for an empty store, for no hook, and for one that is named twice.
    """

    def __init__(self, store: Store, hook: str | Sequence[str], target: str | None, processes: Processes):
        hooks = (hook,) if isinstance(hook, str) else tuple(hook)
        targets = () if target is None else (target,)
        if len(store) == 0:
            raise ValueError("the store is empty: there is nothing to train on")
        if not hooks:
            raise ValueError("there is no hook to train on")
        if len({*hooks, *targets}) < len(hooks + targets):
            raise ValueError(f"a hook is named twice: {', '.join(hooks + targets)}. An autoencoder needs no target")
        self.store, self.hooks, self.processes = store, hooks + targets, processes
        known = [store.limited(name) for name in self.hooks]
        about = [each.statistics for each in known]
        masks = tuple(each.mask for each in known)
        n = len(hooks)
        self.site = Site(inputs=tuple(about[:n]), outputs=tuple(about[n:]), limits=masks)
        name, named = ("hook_name", hooks[0]) if len(hooks) == 1 else ("hook_names", list(hooks))
        to = {} if target is None else {"target": target}
        self.key: dict[str, Any] = {"store": store.fingerprint, "hook": named, **to}
        to = {} if target is None else {"hook_name_out": target}
        weights = {} if store.weights is None else {"model_weights": store.weights}
        self.metadata: dict[str, Any] = {name: named, **to, "context_size": store.n_ctx, **weights}
        self.metadata |= _provenance(store)
        limits = {name: each.limit for name, each in zip(self.hooks, known, strict=True) if each.limit is not None}
        if limits and len(hooks) > 1:
            self.metadata["norm_limits"] = limits
        elif hooks[0] in limits:
            self.metadata["norm_limit"] = limits[hooks[0]]

    def batches(self, batch_size: int, seed: int) -> Any:
        part = (self.processes.rank, self.processes.count)
        return self.store.batches(self.hooks, batch_size, seed=seed, epochs=None, part=part)


def _provenance(store: Store) -> dict[str, Any]:
    """What a dictionary should tell of its rows, by SAELens's names for it where it has some."""
    config, about = store.manifest["config"], dict[str, Any]()
    if store.weights is not None and "model_name" in store.manifest:
        about["model_name"] = store.manifest["model_name"]
    if config.get("exclude"):
        about["exclude_special_tokens"] = config["exclude"]
    if left_out := config.get("exclude_positions"):
        about["exclude_positions"] = left_out
        kept = [position for position in range(store.n_ctx or 0) if position not in left_out]
        if len(kept) == kept[-1] + 1 - kept[0]:
            about["seqpos_slice"] = [kept[0], kept[-1] + 1]
    if "prepend_bos" in store.manifest:
        about["prepend_bos"] = store.manifest["prepend_bos"]
    return about


def check_room(config: SAEConfig, site: Site, processes: int) -> None:
    """ValueError where weights, gradients and Adam's moments, a batch and what it becomes, need more than is free."""
    width = site.d_in + site.d_out
    needed = 4 * width * (4 * config.d_sae + 2 * config.batch_size // processes)
    check_memory(needed, f"d_sae={config.d_sae} on {width} numbers a row, batch_size={config.batch_size},")


def draw(config: SAEConfig, site: Site, device: torch.device, dtype: torch.dtype) -> dict[str, Tensor]:
    """The weights at the start, in random directions; the encoder is the decoder's transpose where `site.tied`."""
    generator = torch.Generator().manual_seed(_DRAW + config.seed)

    def directions(d: int) -> Tensor:
        rows = torch.randn(config.d_sae, d, generator=generator)
        return (rows / rows.norm(dim=1, keepdim=True)).to(device, dtype) * config.decoder_init

    def median(hooks: Sequence[ActivationStatistics], scales: Tensor) -> Tensor:
        return (torch.cat([each.geometric_median for each in hooks]).double() * scales).to(device, dtype)

    W_dec = directions(site.d_out)
    weights = {"W_dec": W_dec, "b_dec": median(site.targets, site.output_scales)}
    if not config.has_encoder:
        return weights
    weights["encoder"] = W_dec.clone() if site.tied else directions(site.d_in)
    weights["b_enc"] = torch.zeros(config.d_sae, device=device, dtype=dtype)
    if not site.tied:  # an input at the median starts at pre-activations of 0, as in an autoencoder
        weights["b_enc"] -= weights["encoder"] @ median(site.inputs, site.input_scales)
    if config.skip:
        weights["W_skip"] = torch.zeros(site.d_in, site.d_out, device=device, dtype=dtype)
    return weights


def keep_near(rows: Float[Tensor, "row d"], start: Float[Tensor, "row d"], cosine: float = 0.8) -> None:
    """Turn back, in place and at the same length, the rows that have turned further away from their start."""
    lengths, start = rows.norm(dim=1, keepdim=True), torch.nn.functional.normalize(start, dim=1)
    along = (rows * start).sum(1, keepdim=True)
    across = torch.nn.functional.normalize(rows - along * start, dim=1)
    on_cone = lengths * (cosine * start + (1 - cosine**2) ** 0.5 * across)
    rows.copy_(torch.where(along < cosine * lengths, on_cone, rows))


def fold(weights: dict[str, Tensor], rule: Rule, site: Site, config: SAEConfig, metadata: dict[str, Any]) -> SAE:
    """The dictionary for inputs as they are. s is the geometric mean of the input scales: an autoencoder keeps its
    encoder and decoder rows as they are."""
    a, o, scales = site.input_scales, site.output_scales, [_scale(each) for each in site.inputs]
    s = scales[0] if len(scales) == 1 else float(torch.tensor(scales, dtype=torch.float64).log().mean().exp())
    double = config.folded({name: weight.detach().cpu().double() for name, weight in weights.items()})
    W_dec = double["W_dec"]
    if config.unit_norm:
        W_dec = W_dec / W_dec.norm(dim=1, keepdim=True)
    given: dict[str, Any] = {
        "W_enc": (double["encoder"] * (a / s)).T.float(),
        "b_enc": (double["b_enc"] / s).float(),
        "W_dec": (W_dec * (s / o)).float(),
        "b_dec": (double["b_dec"] / o).float(),
        "rule": rule.scaled(s),
        "config": config,
        "metadata": metadata,
    }
    if not site.tied:
        W_skip = double.get("W_skip")
        skip = None if W_skip is None else (a[:, None] * W_skip / o).float()
        return Transcoder(**given, W_skip=skip)
    if len(site.inputs) > 1:
        return Crosscoder(**given, widths=site.widths, scales=tuple(_scale(each) for each in site.targets))
    return SAE(**given)


def _scale(hook: ActivationStatistics) -> float:
    return len(hook.mean) ** 0.5 / hook.mean_norm if hook.mean_norm > 0 else 1.0


def _scales(hooks: Sequence[ActivationStatistics]) -> Tensor:
    return torch.cat([torch.full((len(each.mean),), _scale(each), dtype=torch.float64) for each in hooks])


def _variance(hooks: Sequence[ActivationStatistics]) -> float:
    """Of all scaled activations together."""
    return sum(each.variance * _scale(each) ** 2 for each in hooks)
