"""Compare the sparse gradients of an architecture with dense float64 autograd.

    check_gradients(MyConfig(d_sae=48, tokens=6400, k=4))   # differences, or a ValueError that names the parameter

The same `pick`, `activate` and `loss` run with the engine's operations, and with `DenseOps`, which computes each
operation by matmuls over all latents and leaves the gradients to autograd. This does not check whether the loss is the
intended one. To test that, write it a second time as a formula over dense latents.
"""

from typing import Any
from unittest.mock import patch

import torch
from torch import Tensor

from interp.activations.row_statistics import running_sums, statistics_of
from interp.sae import SAEConfig, forward_pass
from interp.sae.hook_scales import HookScales
from interp.sae.learner import Learner
from interp.sae.sparse_ops import Encoded, SquaredError, Support

_D_IN, _ROWS = 16, 120


class DenseOps:
    """The operations of `sparse_ops` as formulas over dense latents, under the same names."""

    @staticmethod
    def sparse_encode(
        x: Tensor, encoder_rows: Tensor, b_enc: Tensor, support: Support, *, centre: Tensor | None = None, **_: Any
    ) -> Tensor:
        centred = x if centre is None else x + centre.detach() - centre
        return (centred @ encoder_rows.T + b_enc)[support.rows, support.latents.long()]

    @staticmethod
    def sparse_decode(encoded: Encoded, W_dec: Tensor, b_dec: Tensor, **_: Any) -> Tensor:
        return _dense(encoded) @ W_dec + b_dec

    @staticmethod
    def squared_error(
        encoded: Encoded, W_dec: Tensor, b_dec: Tensor, target: Tensor, *, ends: tuple[int, ...], **_: Any
    ) -> SquaredError:
        z = _dense(encoded)
        errors = [z[:, :end] @ W_dec[:end] + b_dec - target for end in ends or (len(W_dec),)]
        squares = torch.stack([error.square().sum() for error in errors])
        return SquaredError(squares.mean(), errors[-1].detach(), squares[-1].detach())

    @staticmethod
    def at_latents(vector: Tensor, support: Support) -> Tensor:
        return vector[support.latents.long()]

    @staticmethod
    def latent_rows(matrix: Tensor, latents: Tensor, into: Any = None) -> Tensor:
        return matrix[latents]

    @staticmethod
    def row_norms(matrix: Tensor, widths: tuple[int, ...], into: Any = None) -> Tensor:
        return torch.stack([part.norm(dim=1) for part in matrix.split(widths, dim=1)]).sum(0)


def check_gradients(config: SAEConfig, *, tolerance: float = 1e-8, seed: int = 0) -> dict[str, float]:
    """Compare each parameter's gradient with dense autograd. Returns the relative difference, which is the larger of
    two: without dead latents, and with them.

    The check uses random rows, and weights that have moved from their start, as in the middle of a training. Raises
    ValueError for a gradient, or a loss, that differs by more than the tolerance.
    """
    generator = torch.Generator().manual_seed(seed)
    learner = _in_the_middle(config, generator)
    x = torch.randn(_ROWS, learner.hook_scales.d_in, generator=generator, dtype=torch.float64)
    largest: dict[str, float] = {}
    for dead in (0, min(config.d_sae, 3), config.d_sae * 3 // 4):
        learner.since_fired[:dead] = config.dead_tokens
        state = learner.architecture_state
        learner.architecture_state = dict(state)
        sparse = learner.loss_and_gradients(x)
        learner.architecture_state = dict(state)
        with patch.object(forward_pass, "sparse_ops", DenseOps):
            dense = learner.loss_and_gradients(x)
        differences = {"loss": abs(sparse.loss - dense.loss) / max(abs(dense.loss), 1e-300)}
        for name in learner.weights:
            differences[name] = _difference(sparse.gradients[name].tensor(), dense.gradients[name].tensor())
        for name, difference in differences.items():
            largest[name] = max(largest.get(name, 0.0), difference)
            if not difference <= tolerance:
                raise ValueError(
                    f"{type(config).__name__}: with {dead} dead latents the gradient of {name} differs from that of "
                    f"dense autograd by {difference:.1e} of its size"
                )
    return largest


def _in_the_middle(config: SAEConfig, generator: torch.Generator) -> Learner:
    rows = torch.randn(200, _D_IN, generator=generator) + torch.randn(_D_IN, generator=generator)
    statistics = statistics_of(running_sums(rows, rows.norm(dim=1)), len(rows), rows)
    learner = Learner(config, HookScales(inputs=(statistics,)), torch.device("cpu"), torch.float64)
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


def _dense(encoded: Encoded) -> Tensor:
    support, values = encoded
    at = (support.rows, support.latents.long())
    return values.new_zeros(support.codes.shape).index_put(at, values, accumulate=True)
