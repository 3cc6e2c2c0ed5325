"""Does an architecture train by the gradient of its own loss? Its sparse gradients against dense float64 autograd.

    check_gradients(MyConfig(d_sae=48, tokens=6400, k=4))   # differences, or a ValueError that names the parameter

The same `pick`, `activate` and `loss` go through the engine's operations and through `DensePass`, which computes each
with matmuls over all latents and lets autograd do the rest. What a loss states is not in question here: write it a
second time, as a formula over dense latents, to test that.
"""

import copy

import torch
from torch import Tensor

from interp.activations import ActivationStatistics
from interp.sae.architectures.sae_config import SAEConfig
from interp.sae.encoding import PickingRule
from interp.sae.forward_pass import ForwardPass
from interp.sae.learner import Learner
from interp.sae.site import Site
from interp.sae.sparse_ops import Encoded, SquaredError, Support

_D_IN, _ROWS = 16, 120


class DensePass(ForwardPass):
    """The operations of a forward pass as formulas over dense latents."""

    def encode(self, rule: PickingRule, x: Tensor | None = None) -> Encoded:
        encoder = self.weights.get("encoder", self.weights["W_dec"])
        pre = (self.centred if x is None else x) @ encoder.T + self.weights.get("b_enc", 0.0)
        return self._picked(rule, pre)

    def refine(self, before: Encoded, rule: PickingRule, step: float) -> Encoded:
        update = self.residual(before) @ self.weights["encoder"].T + self.weights["b_enc"]
        return self._picked(rule, self._dense(before) + step * update)

    def residual(self, encoded: Encoded, x: Tensor | None = None) -> Tensor:
        return (self.centred if x is None else x) - self._dense(encoded) @ self.weights["W_dec"]

    def decode(self, z: Tensor | None = None) -> Tensor:
        return self._dense(Encoded(self.support, self.z if z is None else z)) @ self.weights["W_dec"] + self._b_dec()

    def squared_error(
        self, z: Tensor | None = None, *, ends: tuple[int, ...] = (), frozen_decoder: bool = False
    ) -> Tensor:
        values = self.z if z is None else z
        given = (self.weights["W_dec"], self._b_dec(), self.target)
        W_dec, b_dec, target = (each.detach() for each in given) if frozen_decoder else given
        latents, ends = self._dense(Encoded(self.support, values)), ends or (len(W_dec),)
        errors = [latents[:, :end] @ W_dec[:end] + b_dec - target for end in ends]
        squares = torch.stack([error.square().sum() for error in errors])
        if values is self.z:
            self.errors = SquaredError(squares.mean(), errors[-1].detach(), squares[-1].detach())
        return squares.mean()

    def at(self, vector: Tensor) -> Tensor:
        return vector[self.support.latents.long()]

    @property
    def decoder_norms(self) -> Tensor:
        if self.unit_norm and len(self.part_widths) == 1:
            return torch.ones_like(self.weights["W_dec"][:, 0])
        return torch.stack([part.norm(dim=1) for part in self.weights["W_dec"].split(self.part_widths, 1)]).sum(0)

    def row_sums(self, values: Tensor) -> Tensor:
        return self._dense(Encoded(self.support, values)).sum(1)

    def pre_activations(self, latents: Tensor, rows: slice) -> Tensor:
        return self.centred[rows] @ self.weights["encoder"][latents].T + self.weights["b_enc"][latents]

    def decoder_rows(self, latents: Tensor) -> Tensor:
        return self.weights["W_dec"][latents]

    def _picked(self, rule: PickingRule, pre: Tensor) -> Encoded:
        support = Support(rule.pick(pre.detach()))
        self.passes.append(Encoded(support, pre[support.rows, support.latents.long()]))
        return self.passes[-1]

    def _dense(self, encoded: Encoded) -> Tensor:
        support, values = encoded
        at = (support.rows, support.latents.long())
        return values.new_zeros(support.codes.shape).index_put(at, values, accumulate=True)

    def _b_dec(self) -> Tensor:
        return self.weights["b_dec"]


def check_gradients(config: SAEConfig, *, tolerance: float = 1e-8, seed: int = 0) -> dict[str, float]:
    """The relative difference of each parameter's gradient, the larger of that without and with dead latents.

    On random rows in the middle of a run, the weights away from where they began. Raises ValueError for a gradient, or
    a loss, that differs by more than the tolerance.
    """
    generator = torch.Generator().manual_seed(seed)
    learner = _in_the_middle(config, generator)
    x = torch.randn(_ROWS, learner.site.d_in, generator=generator, dtype=torch.float64)
    found: dict[str, float] = {}
    for dead in (0, min(config.d_sae, 3), config.d_sae * 3 // 4):
        learner.since_fired[:dead] = config.dead_tokens
        numbers = copy.deepcopy(learner.numbers)
        sparse = learner.descend(x)
        learner.numbers = numbers
        dense = learner.descend(x, kind=DensePass)
        learner.numbers = numbers
        differences = {"loss": abs(sparse.loss - dense.loss) / max(abs(dense.loss), 1e-300)}
        for name in learner.weights:
            differences[name] = _difference(sparse.gradients[name].tensor(), dense.gradients[name].tensor())
        for name, difference in differences.items():
            found[name] = max(found.get(name, 0.0), difference)
            if not difference <= tolerance:
                raise ValueError(
                    f"{type(config).__name__}: with {dead} dead latents the gradient of {name} differs from that of "
                    f"dense autograd by {difference:.1e} of its size"
                )
    return found


def _in_the_middle(config: SAEConfig, generator: torch.Generator) -> Learner:
    mean = torch.randn(_D_IN, generator=generator)
    statistics = ActivationStatistics(
        mean=mean,
        mean_norm=4.0,
        variance=16.0,
        second_moment=None,
        geometric_median=mean,
        n_rows=100,
        second_moment_rows=0,
        geometric_median_rows=100,
    )
    learner = Learner(config, Site(inputs=(statistics,)), torch.device("cpu"), torch.float64)
    for weight in learner.weights.values():
        weight += torch.randn(weight.shape, generator=generator, dtype=torch.float64) * 0.2
    config.project(learner.weights)
    if config.unit_norm:
        learner.weights["W_dec"] /= learner.weights["W_dec"].norm(dim=1, keepdim=True)
    learner.steps_done = config.steps * 2 // 5
    return learner


def _difference(sparse: Tensor, dense: Tensor) -> float:
    size = float(dense.norm())
    return float((sparse - dense).norm()) / size if size > 0 else float(sparse.norm())
