"""How two models differ by a crosscoder over both, and how much of that is an artefact of the crosscoder's penalty.

In: a crosscoder of two hooks of one width, and activations of both models side by side. Out: a table of its latents.
For a latent j with values z_j and decoder rows d¹_j, d²_j, and x̂ᵐ + eᵐ = xᵐ the reconstruction and error of model m:

    relative norm   ½ (1 + (‖d²_j‖ − ‖d¹_j‖) / max(‖d¹_j‖, ‖d²_j‖))    0: the first alone, ½: shared, 1: the second

A small norm in one model can have three reasons. The model may lack what the latent stands for. Or a penalty on norms
made it cheaper to leave it out (complete shrinkage: it is then in the error) or to write it with other latents
(decoupling: it is then in the reconstruction). Latent scaling (Minder et al. 2025, arXiv 2504.02922) separates these.
Let d be the decoder row of the model o that writes more, and m the other model. For any target y

    β(y) = argmin_β Σ ‖y − β z_j d‖² = Σ z_j ⟨d, y⟩ / (Σ z_j² ‖d‖²)
    ν_ε = β(eᵐ + z_j dᵐ_j) / β(eᵒ + z_j dᵒ_j),      ν_r = β(Σ_i z_i dᵐ_i) / β(Σ_i z_i dᵒ_i)

An exclusive latent counts as genuine if ν_ε < 0.2 and ν_r < 0.5. The latent's own share is put back into both errors
(an exclusive one has next to none in the other model), and the biases, which no latent writes, are left out of the
reconstructions. Activations are multiplied by the crosscoder's scales, at which both have the same mean norm. Both
models must have the same width, and d must mean the same in both: one was tuned from the other.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import pandas as pd
import torch
from jaxtyping import Float, Int
from torch import Tensor

from interp.sae import Crosscoder

EXCLUSIVE = 0.1
"""A relative norm below this is the first model's alone, one above 1 less this the second's: one decoder row is less
than a fifth of the other."""
SHARED = (0.4, 0.6)
NU_ERROR, NU_RECONSTRUCTION = 0.2, 0.5


@dataclass(frozen=True)
class LatentScaling:
    """The scaling of every latent; nan where it did not fire."""

    nu_error: Float[Tensor, " d_sae"]
    nu_reconstruction: Float[Tensor, " d_sae"]
    fired: Int[Tensor, " d_sae"]
    """Rows on which it fired."""
    fvu: tuple[float, float]
    """For each model: Σ ‖e‖² / Σ ‖x − mean‖²."""
    l0: float
    """Latents that fire on a row, the mean."""


@dataclass(frozen=True)
class MeanDifference:
    """The baseline that needs no dictionary: the mean of x² − x¹ as one direction."""

    direction: Float[Tensor, " d"]
    explained: float
    """The share of E ‖x² − x¹‖² that it explains."""


def relative_norms(norms: Float[Tensor, "d_sae 2"]) -> Float[Tensor, " d_sae"]:
    """Return the relative norms of `Crosscoder.decoder_norms()`; ½ where both are 0."""
    first, second = norms.unbind(1)
    largest = norms.amax(1).clamp(min=torch.finfo(norms.dtype).tiny)
    return 0.5 * (1 + (second - first) / largest)


@torch.no_grad()
def latent_scaling(crosscoder: Crosscoder, batches: Iterable[Float[Tensor, "row d_in"]]) -> LatentScaling:
    """Return one pass over activations of both models side by side; latents are made dense a batch at a time.

    Raises ValueError for a crosscoder of anything but two hooks of one width, and for a store's batches of other hooks,
    or in another order, than it was trained on."""
    width, *others = crosscoder.widths
    if others != [width]:
        raise ValueError(f"the crosscoder reads widths {crosscoder.widths}; two models of one width can be compared")
    read, hook_names = getattr(batches, "hook_names", crosscoder.hook_names), crosscoder.hook_names
    if hook_names and read != hook_names:
        raise ValueError(
            f"the batches are of {', '.join(read)}, the crosscoder reads {', '.join(hook_names)}: ask for those"
        )
    sums = _Sums(crosscoder.d_sae, width)
    scales = torch.tensor(crosscoder.scales, dtype=torch.float64)
    bias = torch.stack(crosscoder.parts(crosscoder.b_dec))
    for x in batches:
        z = crosscoder.encode(x.float())
        written = torch.stack(crosscoder.parts(z @ crosscoder.W_dec))  # [model, row, d]
        sums.add(z, torch.stack(crosscoder.parts(x.float())) - bias[:, None], written)
    decoders = torch.stack(crosscoder.parts(crosscoder.W_dec)).double() * scales[:, None, None]
    owner = crosscoder.decoder_norms().argmax(1)
    owned = decoders[owner, torch.arange(crosscoder.d_sae)]
    length = sums.squares * owned.square().sum(1)

    def beta(products: Float[Tensor, "model d_sae d"], shares: Float[Tensor, "model d_sae"]) -> Tensor:
        return ((products * scales[:, None, None] * owned).sum(2) + shares) / length

    shares = sums.squares * (decoders * owned).sum(2)
    error, written = beta(sums.errors, shares), beta(sums.written, torch.zeros_like(shares))
    return LatentScaling(
        nu_error=_of_the_other(error, owner),
        nu_reconstruction=_of_the_other(written, owner),
        fired=sums.fired,
        fvu=sums.fvu(),
        l0=float(sums.fired.sum()) / sums.rows,
    )


def diff_table(crosscoder: Crosscoder, scaling: LatentScaling, *, min_fired: int = 10) -> pd.DataFrame:
    """Return a row for each latent that fired on `min_fired` rows: latent, relative_norm, fired, nu_error,
    nu_reconstruction, kind ("first", "shared", "second", or "between" these), genuine (an exclusive that latent scaling
    keeps)."""
    if len(scaling.fired) != crosscoder.d_sae:
        raise ValueError(
            f"scaling is of {len(scaling.fired)} latents, the crosscoder has {crosscoder.d_sae}: take its own"
        )
    relative = relative_norms(crosscoder.decoder_norms())
    table = pd.DataFrame(
        {
            "latent": range(crosscoder.d_sae),
            "relative_norm": relative.double().numpy(force=True),
            "fired": scaling.fired.numpy(force=True),
            "nu_error": scaling.nu_error.numpy(force=True),
            "nu_reconstruction": scaling.nu_reconstruction.numpy(force=True),
        }
    )
    table["kind"] = "between"
    table.loc[table["relative_norm"].between(*SHARED), "kind"] = "shared"
    table.loc[table["relative_norm"] < EXCLUSIVE, "kind"] = "first"
    table.loc[table["relative_norm"] > 1 - EXCLUSIVE, "kind"] = "second"
    exclusive = table["kind"].isin(["first", "second"])
    kept = (table["nu_error"] < NU_ERROR) & (table["nu_reconstruction"] < NU_RECONSTRUCTION)
    table["genuine"] = exclusive & kept
    return table[table["fired"] >= min_fired].reset_index(drop=True)


def mean_difference(batches: Iterable[Float[Tensor, "row d_in"]]) -> MeanDifference:
    """Return the mean difference of activations of two models of one width side by side. Raises ValueError for widths
    that cannot be halved."""
    widths = getattr(batches, "widths", ())
    if widths and (len(widths) != 2 or widths[0] != widths[1]):
        raise ValueError(f"the batches are of hooks of widths {widths}: two models of one width can be compared")
    total, squares, rows = torch.zeros(1, dtype=torch.float64), 0.0, 0
    for x in batches:
        if x.shape[1] % 2:
            raise ValueError(f"the rows are {x.shape[1]} wide: two models of one width can be compared")
        first, second = x.double().chunk(2, dim=1)
        difference = second - first
        total = total + difference.sum(0)
        squares += float(difference.square().sum())
        rows += len(x)
    mean = total / rows
    return MeanDifference(mean.float(), float(rows * mean.square().sum() / squares) if squares else 0.0)


class _Sums:
    """Over rows, in float64: Σ z², Σ z eᵐ, Σ z x̂ᵐ of every latent and model, and what FVU needs."""

    def __init__(self, d_sae: int, width: int):
        double: Any = dict(dtype=torch.float64)
        self.squares, self.fired = torch.zeros(d_sae, **double), torch.zeros(d_sae, dtype=torch.int64)
        self.errors, self.written = torch.zeros(2, d_sae, width, **double), torch.zeros(2, d_sae, width, **double)
        self.left, self.power, self.total = torch.zeros(2, **double), torch.zeros(2, **double), torch.zeros(2, width)
        self.rows = 0

    def add(self, z: Float[Tensor, "row d_sae"], centred: Float[Tensor, "model row d"], written: Tensor) -> None:
        """Add a batch.
        written: the output of the latents, in the same form as `centred`."""
        error = centred - written
        self.squares += z.double().square().sum(0)
        self.fired += (z > 0).sum(0)
        self.errors += (z.T @ error).double()
        self.written += (z.T @ written).double()
        self.left += error.double().square().sum((1, 2))
        self.power += centred.double().square().sum((1, 2))
        self.total = self.total + centred.double().sum(1)
        self.rows += z.shape[0]

    def fvu(self) -> tuple[float, float]:
        variance = self.power - self.total.square().sum(1) / self.rows
        first, second = (self.left / variance).tolist()
        return first, second


def _of_the_other(betas: Float[Tensor, "model d_sae"], owner: Int[Tensor, " d_sae"]) -> Float[Tensor, " d_sae"]:
    """Return β of the model that writes less, divided by β of the model that writes more."""
    latents = torch.arange(len(owner))
    return betas[1 - owner, latents] / betas[owner, latents]
