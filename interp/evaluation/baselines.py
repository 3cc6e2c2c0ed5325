"""Untrained dictionaries to compare the trained ones with, and a model whose weights compute nothing.

All three dictionaries encode with a fixed matrix and keep the k largest positive latents, so that L0 can be matched:

    z = top_k(relu((x - b_dec) W_enc)),   x_hat = z W_dec + b_dec

- `PCADictionary`: the principal components. A component has two latents, its positive and its negative half
  (j and j + d_in), so that latents stay >= 0: the k kept are the k components of largest |coefficient|.
- `NeuronDictionary`: the basis of the activations, latent j = relu(x_j); `signed` gives each neuron a positive and a
negative half too, as a residual stream needs.
- `RandomDictionary`: random directions; the encoder is tied to the decoder.
"""

import copy
from typing import ClassVar, TypeVar

import torch
from jaxtyping import Float
from torch import Tensor

from interp.activations import ActivationStore
from interp.activations.hooks import Model, module_of
from interp.checks.errors import InterpError
from interp.codes.dictionary import Metadata
from interp.codes.sparse_codes import SparseCodes
from interp.sae.kernels.dispatch import kernels

_ROWS_AT_ONCE = 256
"""Rows of a matrix that are permuted at a time."""
AnyModel = TypeVar("AnyModel", bound=Model)


class FixedDictionary:
    """A `Dictionary` with given weights; `k` None keeps every positive latent."""

    kind: ClassVar[str] = "sae"

    def __init__(
        self,
        W_enc: Float[Tensor, "d_in d_sae"],
        W_dec: Float[Tensor, "d_sae d_in"],
        b_dec: Float[Tensor, " d_in"],
        k: int | None,
    ):
        if k is not None and not 1 <= k <= len(W_dec):
            raise InterpError(f"k={k} must be in 1..d_sae={len(W_dec)}")
        self.W_enc, self.W_dec, self.b_dec, self.k = W_enc, W_dec, b_dec, k
        self.metadata: Metadata = {}

    @property
    def d_in(self) -> int:
        return self.W_dec.shape[1]

    @property
    def d_sae(self) -> int:
        return self.W_dec.shape[0]

    def encode(self, x: Float[Tensor, "row d_in"]) -> Float[Tensor, "row d_sae"]:
        return self.codes(x).dense()

    def codes(self, x: Float[Tensor, "row d_in"]) -> SparseCodes:
        if self.k is None:
            return SparseCodes.from_dense(self._positive(x))
        values, latents = self._positive(x).topk(self.k, dim=1)
        return SparseCodes.from_topk(latents, values, self.d_sae)

    def decode(self, z: Float[Tensor, "row d_sae"] | SparseCodes) -> Float[Tensor, "row d_in"]:
        if not isinstance(z, SparseCodes):
            return z @ self.W_dec + self.b_dec
        return kernels(self.W_dec).decode(z.with_values(z.values.to(self.W_dec.dtype)), self.W_dec, self.b_dec)

    def __call__(self, x: Float[Tensor, "row d_in"]) -> Float[Tensor, "row d_in"]:
        return self.decode(self.codes(x))

    def _positive(self, x: Float[Tensor, "row d_in"]) -> Float[Tensor, "row d_sae"]:
        return ((x - self.b_dec) @ self.W_enc).relu()


class PCADictionary(FixedDictionary):
    """Principal components, strongest first; 2 d_in latents."""

    def __init__(self, components: Float[Tensor, "component d_in"], mean: Float[Tensor, " d_in"], k: int):
        halves = torch.cat([components, -components])
        if not 1 <= k <= len(components):
            raise InterpError(f"k={k} must be in 1..{len(components)}, the number of components")
        super().__init__(halves.T.contiguous(), halves, mean, k)

    @classmethod
    def fit(cls, store: ActivationStore, hook: str, k: int) -> "PCADictionary":
        """Return the components of the store's covariance; if it stores none (large d), the covariance is computed from
        all rows."""
        statistics = store.statistics(hook)
        covariance = statistics.covariance
        if covariance is None:
            covariance = torch.zeros(store.d(hook), store.d(hook))
            for acts in store.batches(hook, 8192, shuffle=False):
                centred = acts - statistics.mean
                covariance += centred.T @ centred / len(store)
        _, vectors = torch.linalg.eigh(covariance.double())
        components = vectors.T.flip(0).float().contiguous()
        return cls(components, statistics.mean.float(), k)


class NeuronDictionary(FixedDictionary):
    """The neurons themselves: d_in latents, or 2 d_in if `signed`. `k` None: every positive activation fires."""

    def __init__(self, d_in: int, k: int | None = None, *, signed: bool = False):
        basis = torch.eye(d_in)
        if signed:
            basis = torch.cat([basis, -basis])
        super().__init__(basis.T.contiguous(), basis, torch.zeros(d_in), k)

    def _positive(self, x: Float[Tensor, "row d_in"]) -> Float[Tensor, "row d_sae"]:
        halves = x if self.d_sae == self.d_in else torch.cat([x, -x], 1)
        return halves.relu()


class RandomDictionary(FixedDictionary):
    """Unit directions drawn from a seed; `b_dec` is 0 unless given, or the store's mean with `fit`."""

    def __init__(
        self, d_in: int, d_sae: int, k: int | None, *, seed: int = 0, b_dec: Float[Tensor, " d_in"] | None = None
    ):
        drawn = torch.randn(d_sae, d_in, generator=torch.Generator().manual_seed(seed))
        W_dec = torch.nn.functional.normalize(drawn, dim=1)
        super().__init__(W_dec.T, W_dec, torch.zeros(d_in) if b_dec is None else b_dec, k)

    @classmethod
    def fit(cls, store: ActivationStore, hook: str, d_sae: int, k: int, *, seed: int = 0) -> "RandomDictionary":
        return cls(store.d(hook), d_sae, k, seed=seed, b_dec=store.statistics(hook).mean.float())


def shuffled_model(model: AnyModel, *, seed: int = 0) -> AnyModel:
    """Return a copy with the entries of each weight matrix permuted: it has the same weights, but computes nothing
    useful.

    Parameters of two or more axes are permuted, unless they are biases (`b_…`); vectors, such as norm weights and
    biases, are unchanged.
    """
    generator = torch.Generator().manual_seed(seed)
    copied = copy.deepcopy(model)
    with torch.no_grad():
        both = zip(module_of(copied).named_parameters(), module_of(model).parameters(), strict=True)
        for (name, weight), original in both:
            if weight.ndim >= 2 and not name.rpartition(".")[2].startswith("b_"):
                # The index has four bytes an entry, and torch makes one of eight of it: of a block of rows at a time.
                kind = torch.int32 if weight.numel() < 1 << 31 else torch.int64
                order = torch.randperm(weight.numel(), generator=generator, dtype=kind).view(weight.shape)
                entries = original.flatten()
                for rows, picked in zip(weight.split(_ROWS_AT_ONCE), order.split(_ROWS_AT_ONCE), strict=True):
                    rows.copy_(entries[picked.to(weight.device)])
    return copied
