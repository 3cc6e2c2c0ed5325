"""How sharply units tell tokens apart: the share of a unit's variance that the token explains, and its kurtosis.

Over the places i of a text, with the token t_i and the activation a_i of a unit,

    η² = Σ_t n_t (ā_t − ā)² / Σ_i (a_i − ā)²                (between tokens, of the total; Fisher's correlation ratio)
    kurtosis = mean (a_i − ā)⁴ / (mean (a_i − ā)²)²           (3 for a normal distribution; large where a unit is
                                                              silent but for a few places)

η² of a unit that the token has no say in is about (T − 1) / (N − 1), with T tokens and N places, and not zero.
"""

from jaxtyping import Float, Int
from torch import Tensor


def token_variance_share(acts: Float[Tensor, "row unit"], tokens: Int[Tensor, " row"]) -> Float[Tensor, " unit"]:
    """η² of each unit, in [0, 1]; NaN for a unit that never changes."""
    if len(acts) != len(tokens) or acts.ndim != 2:
        raise ValueError(
            f"acts of shape {tuple(acts.shape)} must be [row, unit] with a row for each {len(tokens)} tokens"
        )
    deviations = acts.double() - acts.double().mean(0)
    _, group, counts = tokens.unique(return_inverse=True, return_counts=True)
    sums = deviations.new_zeros(len(counts), acts.shape[1]).index_add_(0, group, deviations)
    between = (sums.square() / counts[:, None]).sum(0)
    return between / deviations.square().sum(0)


def kurtosis(acts: Float[Tensor, "row unit"]) -> Float[Tensor, " unit"]:
    """Of each unit over the rows; NaN for a unit that never changes."""
    squares = (acts.double() - acts.double().mean(0)).square()
    return squares.square().mean(0) / squares.mean(0).square()
