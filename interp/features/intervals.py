"""The interval of a share: k of n are so, and how many would be of all that n was drawn from?

Wilson (1927), the score test turned round:

    (k + z²/2 ± z √(k (n − k) / n + z²/4)) / (n + z²),   z = 1.96 for 95 %

Of none or of all it is no point, as a bootstrap or 1.96 standard errors would have it.
"""

import numpy as np

Z_95 = 1.96


def wilson(k: float, n: int) -> tuple[float, float]:
    """The ends of the 95 % interval of k / n; of no draws, all of [0, 1]. Raises ValueError unless 0 ≤ k ≤ n."""
    if not 0 <= k <= n:
        raise ValueError(f"k={k} must be in 0..n={n}")
    if n == 0:
        return 0.0, 1.0
    z = Z_95
    centre, spread = (k + z**2 / 2) / (n + z**2), z / (n + z**2) * np.sqrt(k * (n - k) / n + z**2 / 4)
    return max(0.0, float(centre - spread)), min(1.0, float(centre + spread))
