"""The evidence behind each verdict as the page shows it: statistics and measures, each beside its null.

In: a ranking's column `evidence`, a list a latent of {measure, value, z, null_low, null_high}. Out: what each measure
is, once for the page, and for each latent its rows [place among the measures, value, z, null_low, null_high]. A measure
that is not known here goes by its own name.
"""

from collections.abc import Collection
from dataclasses import dataclass

import numpy as np
import pandas as pd

from interp.report.payloads import number

COLUMNS = ("latent", "measure", "value", "z", "null_low", "null_high")
SHOWN_ELSEWHERE = ("density",)
OUTLIERS = 0.01
"""Share of the latents on either side that may lie beyond the ends of a bar."""
SHIFTED = "the same firings, circularly shifted against the text"
DIRECTIONS = "random directions"
LIKE_DECODER = "random directions, as anisotropic as the decoder"
ANY = "what follows any token"
# measure → title, what it says
KNOWN = {
    "effect_size": ("Effect size", "how far its firings stand out from the text, in standard deviations"),
    "core_share": ("Core share", "share of its activation at firings that stand out"),
    "consistency": ("Consistency", "what weak firings share with strong ones: 1 is all"),
    "cosine": ("Similarity", "mean cosine of two sampled firings, in the view where they are most alike"),
    "between_within_ratio": (
        "Between/within ratio",
        "similarity between its two parts over that within each: near 0 is two meanings",
    ),
    "between_similarity": ("Between-part similarity", "of its two least similar parts"),
    "unshared_rarity": ("Unshared rarity (nats)", "how much rarer it fires than what its two parts share explains"),
    "context_coherence": ("Context coherence", "mean cosine of the contexts of two firings, by activation"),
    "token_coherence": ("Token coherence", "the same of the firing tokens themselves"),
    "n_senses": ("Senses", "parts into which its firings fall"),
    "separation": ("Separation", "depth of the valley between two senses, in standard deviations"),
    "token_share": ("Share of the commonest token", "of its activation, with variants in case and space"),
    "token_entropy": ("Token entropy (nats)", "how many different tokens it fires on: 0 is a single one"),
    "best_token_concentration": (
        "Token concentration",
        "at the offset where it is largest, 3 before to 1 after: 1 is always one token",
    ),
    "next_auroc": ("Next-token AUROC", "do its positive logits predict what follows? ½: no more than any token"),
    "enc_dec_cosine": ("Encoder–decoder cosine", "of the direction it reads and the one it writes"),
    "max_cosine": ("Max cosine", "with the decoder row of any other latent"),
    "label_f1": ("Label F1", "of the label that it detects best, held out: 1 is the label itself"),
    "burstiness": ("Burstiness", "firings in a sequence that has any"),
    "twin_cosine": ("Twin seed", "cosine with the nearest latent of a dictionary from another seed"),
    "nearest_twin": ("Twin seed", "cosine with the nearest latent of a dictionary from another seed"),
    "twin_correlation": ("Twin correlation", "largest, with the activation of a latent of that dictionary"),
}
OTHER_NULLS = {"next_auroc": ANY, "nearest_twin": DIRECTIONS, "burstiness": ""}
OTHER_NULLS |= dict.fromkeys(("enc_dec_cosine", "max_cosine", "twin_cosine"), LIKE_DECODER)
"""Those whose z and band are not taken against SHIFTED."""
EVEN = "_even"
"""Suffix of the measures of a split whose smaller part has a third of the activation."""


@dataclass(frozen=True)
class Measure:
    title: str
    meaning: str
    null: str
    """What the z and the band are taken against; "" where there is no null."""
    domain: tuple[float, float] | None
    """The ends of its bar: nearly all latents and nearly all of their nulls lie between. None: there is no bar."""


@dataclass(frozen=True)
class VerdictEvidence:
    measures: list[Measure]
    rows: dict[int, list[list]]
    """Latent → [place in `measures`, value, z, null_low, null_high], None where there is no number."""


def verdict_evidence(table: pd.DataFrame, tested: Collection[int]) -> VerdictEvidence:
    """`table` has COLUMNS; the bars run over the latents in `tested`."""
    table = table[table[["value", "z"]].notna().any(axis=1) & ~table["measure"].isin(SHOWN_ELSEWHERE)]
    measures: list[Measure] = []
    rows: dict[int, list[list]] = {}
    for place, (name, part) in enumerate(table.groupby("measure", sort=False)):
        title, meaning, null = _known(str(name))
        has_null = bool(part[["z", "null_low"]].notna().to_numpy().any())
        measures.append(Measure(title, meaning, null if has_null else "", _domain(part[part["latent"].isin(tested)])))
        for latent, *numbers in part[["latent", *COLUMNS[2:]]].itertuples(index=False, name=None):
            rows.setdefault(int(latent), []).append([place, *(number(value) for value in numbers)])
    return VerdictEvidence(measures, rows)


def _known(name: str) -> tuple[str, str, str]:
    of = name.removesuffix(EVEN)
    if of not in KNOWN:
        return name.replace("_", " ").capitalize(), "", "its null"
    title, meaning = KNOWN[of]
    return title if of == name else f"{title}, of an even split", meaning, OTHER_NULLS.get(of, SHIFTED)


def _domain(part: pd.DataFrame) -> tuple[float, float] | None:
    columns = (part[name].to_numpy(float) for name in ("value", "null_low", "null_high"))
    finite = [values[np.isfinite(values)] for values in columns]
    if not len(finite[0]):
        return None
    ends = [np.quantile(values, [OUTLIERS, 1 - OUTLIERS]) for values in finite if len(values)]
    low, high = float(min(low for low, _ in ends)), float(max(high for _, high in ends))
    return (number(low), number(high)) if high > low else None  # type: ignore[return-value]
