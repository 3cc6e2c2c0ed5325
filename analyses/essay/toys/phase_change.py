"""When is one more feature ignored, given its own dimension, or put opposite another? The answer in closed form.

n features in m = n − 1 dimensions (`toys.superposition`); the last feature, the extra one, has importance r, all others
1; every feature is on with probability p, then uniform on [0, 1]. With weight vectors of length 1 and the best biases,
a feature costs (times its importance)

    in its own dimension        0
    not represented             Var x = p/3 − p²/4                          the bias is the mean
    opposite another            A(p) = min_b f(b), where x̂ = ReLU(x − x′ + b)

    b ≥ 0:   f = (1−p)² b² + p(1−p) (b² + b³/3) + p² (b³/3 + (1−b)³/3 − (1−b)⁴/6)
    b = −β:  f = p(1−p) (β² − 2β³/3) + p² (1/12 + β⁴/4 + (1+β)(1−β³)/3 − (1−β⁴)/4)

The terms are for neither feature or only x′ on, x alone on, and both on. The prediction is the cheapest arrangement:

    extra ignored              r Var                       all others have their own dimensions
    extra dedicated            Var, or 2 A(p) if n > 2     another is ignored, or two others share a dimension
    extra in superposition     (1 + r) A(p)                it is opposite another

Source: Elhage et al. 2022, Toy Models of Superposition, "Superposition as a phase change".
"""

import numpy as np
import torch
from jaxtyping import Float, Int
from numpy.polynomial import Polynomial
from torch import Tensor

STATES = ("not represented", "dimension of its own", "in superposition")


def unrepresented_loss(p: float) -> float:
    return p / 3 - p**2 / 4


def antipodal_losses(p: float) -> tuple[Polynomial, Polynomial]:
    """Return f(b) of one feature of an antipodal pair: for b in [0, 1], and for b = −β as a polynomial in β in [0,
    1]."""
    b = Polynomial([0, 1])
    remainder = 1 - b
    above = (
        (1 - p) ** 2 * b**2 + p * (1 - p) * (b**2 + b**3 / 3) + p**2 * (b**3 / 3 + remainder**3 / 3 - remainder**4 / 6)
    )
    alone = p * (1 - p) * (b**2 - 2 * b**3 / 3)
    both = p**2 * (1 / 12 + b**4 / 4 + (1 + b) * (1 - b**3) / 3 - (1 - b**4) / 4)
    return above, alone + both


def antipodal_loss(p: float) -> float:
    """Return A(p), the least value of f over the bias."""
    return min(_least(piece) for piece in antipodal_losses(p))


def state_losses(r: float, p: float, n: int) -> Float[np.ndarray, " state"]:
    """Return the least loss with the extra feature in each of `STATES`; n is 2 or 3.

    Raises: ValueError for another n.
    """
    if n not in (2, 3):
        raise ValueError(f"n={n} must be 2 or 3: for more features there are more arrangements than these")
    ignored, pair = unrepresented_loss(p), antipodal_loss(p)
    return np.array([r * ignored, ignored if n == 2 else min(ignored, 2 * pair), (1 + r) * pair])


def state_of_extra(W: Float[Tensor, "*batch m n"]) -> Int[Tensor, "*batch"]:
    """Return index into `STATES` for the last feature: not represented if ‖W_e‖ < ½, in superposition if the other
    features reach at least ½ along its direction, √Σ_j (Ŵ_e · W_j)² ≥ ½; both halfway between the pure arrangements."""
    extra = W[..., -1]
    norm = extra.norm(dim=-1)
    shared = torch.einsum("...m,...mn->...n", torch.nn.functional.normalize(extra, dim=-1), W[..., :-1]).norm(dim=-1)
    return torch.where(norm < 0.5, 0, torch.where(shared >= 0.5, 2, 1))


def _least(piece: Polynomial) -> float:
    roots = [complex(root) for root in piece.deriv().roots()]
    inside = [root.real for root in roots if abs(root.imag) < 1e-9 and 0 <= root.real <= 1]
    return min(float(piece(at)) for at in [0.0, 1.0, *inside])
