"""What a dictionary reads and what it writes: the hooks, their scales, and how both are folded into the weights.

    autoencoder  x → x                one hook
    crosscoder   x¹ … xᴸ → the same   several hooks, of layers or of models, share latents (Lindsey et al. 2024)
    transcoder   x → y                an input hook and an output hook (Dunefsky et al. 2024, arXiv 2406.11944)

Each hook is scaled to a mean norm of √d of its own. A dictionary trained on scaled inputs becomes one for inputs as
they are: with input scales a, output scales o and one scale s for the latents,

    W_enc ← a W_enc / s     b_enc ← b_enc / s     W_dec ← s W_dec / o     b_dec ← b_dec / o     W_skip ← a W_skip / o
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from interp.activations import ActivationStatistics
from interp.sae.architectures.sae_config import SAEConfig
from interp.sae.model import SAE, Crosscoder, Transcoder
from interp.sae.rules import Rule


@dataclass(frozen=True, kw_only=True)
class Site:
    inputs: tuple[ActivationStatistics, ...]
    outputs: tuple[ActivationStatistics, ...] = ()
    """Of a transcoder; empty: what is read is also written."""
    scaled: bool = True

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
        return self._scales(self.inputs)

    @property
    def output_scales(self) -> Float[Tensor, " d_out"]:
        return self._scales(self.targets)

    @property
    def input_spread(self) -> float:
        """Standard deviation of scaled inputs, the mean over all directions."""
        return (sum(each.variance * self._scale(each) ** 2 for each in self.inputs) / self.d_in) ** 0.5

    @property
    def mean_norm(self) -> float:
        """Of scaled inputs, roughly: the root of the sum of the squares of the hooks'."""
        return sum((each.mean_norm * self._scale(each)) ** 2 for each in self.inputs) ** 0.5

    @property
    def part_scales(self) -> tuple[float, ...]:
        """Of each hook that is written."""
        return tuple(self._scale(each) for each in self.targets)

    @property
    def latent_scale(self) -> float:
        """The geometric mean of the input scales: an autoencoder keeps its encoder and decoder rows as they are."""
        scales = [self._scale(each) for each in self.inputs]
        return scales[0] if len(scales) == 1 else float(torch.tensor(scales, dtype=torch.float64).log().mean().exp())

    @property
    def variance(self) -> float:
        """Of all scaled outputs together."""
        total = sum(each.variance * self._scale(each) ** 2 for each in self.targets)
        return max(total, torch.finfo(torch.float32).tiny)

    def split(self, rows: Float[Tensor, "row d"]) -> tuple[Float[Tensor, "row d_in"], Float[Tensor, "row d_out"]]:
        """Input and output of rows in which both stand side by side."""
        return (rows, rows) if self.tied else (rows[:, : self.d_in], rows[:, self.d_in :])

    def _scales(self, each: Sequence[ActivationStatistics]) -> Tensor:
        return torch.cat([torch.full((len(s.mean),), self._scale(s), dtype=torch.float64) for s in each])

    def _scale(self, statistics: ActivationStatistics) -> float:
        if not self.scaled or not statistics.mean_norm > 0:
            return 1.0
        return len(statistics.mean) ** 0.5 / statistics.mean_norm


def medians(statistics: Sequence[ActivationStatistics]) -> Float[Tensor, " d"]:
    return torch.cat([each.geometric_median for each in statistics])


def fold(weights: dict[str, Tensor], rule: Rule, site: Site, config: SAEConfig, metadata: dict[str, Any]) -> SAE:
    """The dictionary for inputs as they are."""
    a, o, s = site.input_scales, site.output_scales, site.latent_scale
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
        return Crosscoder(**given, widths=site.widths, scales=site.part_scales)
    return SAE(**given)
