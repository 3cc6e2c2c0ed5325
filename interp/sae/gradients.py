"""The gradient of a parameter as backward passes leave it, so that large sums are made only where they are needed.

The gradient of an encoder's or decoder's row is a sum over the entries of its latent. Where nothing is added to it, the
optimizer computes it and uses it row by row, and it is never stored; whoever asks for the tensor gets it.
"""

from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor

from interp.sae.encoding import Workspace
from interp.sae.kernels import AdamStep, ByLatent, LatentSum, kernels

Add = Callable[[Tensor], object]
"""Adds a part of a gradient to a tensor."""


class RowGradient:
    """The gradient of one parameter, in the parts that backward passes leave."""

    def __init__(self, parameter: Tensor, memory: Workspace | None = None, name: str = ""):
        """`memory`: where the whole gradient is kept under this name, until that of the parameter's next step."""
        self.parameter, self.memory, self.name = parameter, memory or Workspace(), f"gradient of {name}"
        self.sums: list[LatentSum] = []
        self.further: list[Add] = []

    def tensor(self) -> Float[Tensor, "..."]:
        """All parts together, added up once."""
        parameter = self.parameter
        if not self.sums and not self.further:
            return torch.zeros_like(parameter) if parameter.grad is None else parameter.grad
        rows, width = parameter.shape
        total = self.memory.take(self.name, rows, width, parameter.dtype, parameter.device)
        if self.sums:
            kernels(total).sum_by_latent(*self.sums[0], total)
        else:
            total.zero_()
        for more in self.sums[1:]:
            _add(total, more)
        for add in self.further:
            add(total)
        if parameter.grad is not None:
            total += parameter.grad
        self.sums, self.further, parameter.grad = [], [], total
        return total

    def adam_(self, weight: Tensor, mean: Tensor, square: Tensor, adam: AdamStep, unit_norm: bool) -> None:
        """A step of the weight in place; row by row where the gradient is one sum that nobody has asked to see."""
        if len(self.sums) == 1 and not self.further and self.parameter.grad is None:
            kernels(weight).sum_by_latent_adam_(self.sums[0], weight, mean, square, adam, unit_norm)
            return
        tensors = (weight, self.tensor(), mean, square)
        as_rows = [tensor if tensor.ndim == 2 else tensor[None] for tensor in tensors]
        kernels(weight).adam_(as_rows[0], as_rows[1], as_rows[2], as_rows[3], adam, unit_norm)


def hand_over(latent_sum: LatentSum, into: RowGradient | None) -> Tensor | None:
    """To whoever collects it unsummed; else the gradient itself."""
    if into is None:
        return kernels(latent_sum.dense).sum_by_latent(*latent_sum)
    into.sums.append(latent_sum)
    return None


def hand_over_part(add: Add, matrix: Tensor, into: RowGradient | None) -> Tensor | None:
    if into is not None:
        into.further.append(add)
        return None
    total = torch.zeros_like(matrix)
    add(total)
    return total


def _add(total: Tensor, latent_sum: LatentSum) -> None:
    """At the cost of the latents that fire."""
    offsets, rows, entries = latent_sum.by_latent
    fires = offsets.diff().nonzero()[:, 0]
    of_these = ByLatent(torch.cat([offsets[fires], offsets[-1:]]), rows, entries)
    sums = kernels(total).sum_by_latent(of_these, latent_sum.weights, latent_sum.dense)
    total.index_add_(0, fires, sums)
