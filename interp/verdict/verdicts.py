"""Judge each latent: give its verdict in one word, from its evidence.

In: evidence, and the share of a latent's activation on one token. Out: the columns of a ranking with the verdict and
its basis; `ranking` documents them. The verdict is the first of these that is true:

    dead                     never fires
    too-rare                 fires in fewer than MIN_GROUPS (20) groups of neighbouring sequences, or blocks of a long
                             one (`verdict.measure_nulls`): two equal senses could not be distinguished from one
    faint                    fires, but never a quarter as strongly as the median latent (`interp.codes`): it has almost
                             no effect, and is tested only on request
    dense                    fires on > 50 % of tokens, or on > 10 % and more likely has no one meaning
    single-token             ≥ 90 % of its activation lies on one token and its variants in case and space
    monosemantic             probability ≥ ½
    polysemantic             probability < ½

If rows are not text (`FeatureStore.has_text`), it is unknown what firings share. Then a latent that is not dead, faint
or dense (on > 50 % of the rows) is `no-context`.
"""

import numpy as np
from jaxtyping import Bool, Float64

from interp.display.verdict_names import DEAD, DENSE, FAINT, MONOSEMANTIC, POLYSEMANTIC, SINGLE_TOKEN, TOO_RARE
from interp.verdict.coded_text import CodedText
from interp.verdict.evidence import FiringEvidence
from interp.verdict.similarity import STATISTIC_NAMES

MAX_DENSITY = 0.5
"""A latent that fires on more than this share of tokens is dense, whatever it means."""
MAX_DENSITY_WITHOUT_MEANING = 0.1
"""The same limit for latents that probably do not have one meaning."""
SINGLE_SHARE = 0.9
"""The least share of its activation that a single-token latent has on one token, with or without a space and in any
case."""


def verdict_columns(
    text: CodedText,
    evidence: FiringEvidence,
    token_share: Float64[np.ndarray, " d_sae"],
    faint: Bool[np.ndarray, " d_sae"],
) -> dict[str, np.ndarray]:
    """Judge each latent. Returns an array per column of the ranking, in the order of the latents.
    token_share: the largest share of activation on one token."""
    n_active = text.n_active
    density = n_active / max(text.encoded.sum(), 1)
    chance = evidence.probability
    has_one_meaning = chance.one >= 0.5
    dense = (density > MAX_DENSITY) | ((density > MAX_DENSITY_WITHOUT_MEANING) & ~has_one_meaning)
    cases = [n_active == 0, ~evidence.testable, faint, dense, token_share >= SINGLE_SHARE, has_one_meaning]
    verdicts = [DEAD, TOO_RARE, FAINT, DENSE, SINGLE_TOKEN, MONOSEMANTIC]
    common = [evidence.observed.shared.get((latent, 0), []) for latent in range(len(n_active))]
    return {
        "latent": np.arange(len(n_active)),
        "monosemanticity": chance.one,
        "ci_low": chance.low,
        "ci_high": chance.high,
        "verdict": np.select(cases, verdicts, POLYSEMANTIC),
        "n_senses": evidence.observed.n_senses,
        "sure": (chance.low > 0.5) | (chance.high < 0.5),
        "shared": np.array([shared[0].words if shared else "" for shared in common], dtype=object),
        "shared_share": evidence.observed.shared_share[:, 0],
        "shared_kind": np.array([shared[0].kind if shared else "" for shared in common], dtype=object),
        **{name: evidence.statistic(name) for name in STATISTIC_NAMES},
        "token_share": token_share,
        "density": density,
        "n_active": n_active,
    }
