"""The gradient of each parameter, where large sums wait until they are needed.

The gradient of an encoder's or decoder's row is a sum over the entries of its latent. Where nothing is added to it, the
optimizer computes it and uses it row by row, and it is never stored; whoever asks for the tensor gets it.
"""

from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from interp.sae.kernels import ByLatent, kernels


class LatentSum(NamedTuple):
    """Row j is the sum of weights · dense[row] over the entries of latent j."""

    by_latent: ByLatent
    weights: Float[Tensor, " nnz"]
    dense: Float[Tensor, "row d"]


class Gradients:
    """By parameter name; of the shapes of the weights. The memory is used again for the next step."""

    def __init__(self, weights: dict[str, Tensor]):
        self._weights = weights
        self._memory: dict[str, Tensor] = {}
        self._given: set[str] = set()
        self._waiting: dict[str, LatentSum] = {}

    def begin(self) -> None:
        """All are zero."""
        self._given.clear()
        self._waiting.clear()

    def wait(self, name: str, latent_sum: LatentSum) -> None:
        """The gradient is this sum, to be computed when it is asked for."""
        self._waiting[name] = latent_sum

    def waiting(self, name: str) -> LatentSum | None:
        return self._waiting.get(name)

    def __getitem__(self, name: str) -> Tensor:
        """To read, and to add to."""
        if name not in self._memory:
            self._memory[name] = torch.empty_like(self._weights[name])
        tensor, latent_sum = self._memory[name], self._waiting.pop(name, None)
        if latent_sum is not None:
            kernels(tensor).sum_by_latent(*latent_sum, tensor)
        elif name not in self._given:
            tensor.zero_()
        self._given.add(name)
        return tensor

    def __setitem__(self, name: str, tensor: Tensor) -> None:
        if tensor is not self._memory.get(name):
            self[name].copy_(tensor)
