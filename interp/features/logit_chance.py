"""Say which effects on the logits are no larger than chance makes the largest of all tokens.

In: a latent's row of the table `features`. Out: the span of such effects, in logits per unit of activation.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np

from interp.statistics.estimates import largest_by_chance


def chance_span(feature: Mapping[str, Any] | Any, n_tokens: int) -> tuple[float, float] | None:
    """Return the least and the largest effect that chance explains: the mean over the tokens, and as many standard
    deviations as the largest of `n_tokens` normal draws hardly ever exceeds. Returns None if the scan kept no counts of
    the effects (`logit_counts`)."""
    counts = feature.get("logit_counts")
    if counts is None or not len(counts):
        return None
    counts = np.asarray(counts, float)
    low, high = float(feature["bottom_logits"][0]), float(feature["top_logits"][0])
    middles = low + (np.arange(len(counts)) + 0.5) / len(counts) * (high - low)
    mean = float(np.average(middles, weights=counts))
    reach = largest_by_chance(n_tokens) * float(np.sqrt(np.average((middles - mean) ** 2, weights=counts)))
    return mean - reach, mean + reach
