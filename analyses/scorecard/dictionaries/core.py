"""Core: what a dictionary keeps of the activations and of the model's predictions (`interp.evaluation.quality`).

    FVU            fraction of variance unexplained
    L0             latents that fire at a token
    CE recovered   share of the cross-entropy that the model loses without the activation: at zero ablation or with
                   unigrams, whichever is lower
    dead, faint    share of latents that never fire, and of those that fire and do next to nothing

Limits: it says nothing about what latents mean. A dictionary of a few dense directions can win it.
"""

from collections.abc import Mapping

from jaxtyping import Int
from torch import Tensor

from interp import Run
from interp.codes.dictionary import Dictionary
from interp.evaluation.quality import quality_table

COLUMNS = {
    "fvu": "FVU",
    "l0": "L0",
    "ce_recovered": "CE recovered",
    "dead_share": "dead",
    "faint_share": "faint",
}
BATCH = 16
"""Sequences of a forward pass."""


def core(
    dictionaries: Mapping[str, Dictionary], run: Run, hook: str, tokens: Int[Tensor, "seq pos"]
) -> dict[str, dict[str, float]]:
    """Return the numbers of each dictionary, by the names of `COLUMNS`. All are spliced into the model over the same
    tokens, which is why this measure takes several at a time: the clean and the ablated model are run once for all."""
    table = quality_table(
        run.model,
        hook,
        dictionaries,
        tokens,
        batch_size=BATCH,
        exclude=run.tokenizer.special_ids,
        unigram_loss=run.results("model").get("unigram_cross_entropy"),
    ).set_index("dictionary")
    return {name: {COLUMNS[key]: float(table.loc[name, key]) for key in COLUMNS} for name in dictionaries}
