"""A configuration of the whole pipeline that runs in seconds; what several tests share."""

import dataclasses

from interp.codes.dictionary import Dictionary
from interp.pipeline.config import RunConfig

TINY = RunConfig.tiny()
SECTIONS = TINY.to_dict()
FEW = TINY.replace(
    harvest=dataclasses.replace(TINY.harvest, tokens=8_000, batch_size=20),
    sae=dataclasses.replace(TINY.sae, d_sae=18, tokens=8_000),  # so few that the map needs no UMAP
    quality=dataclasses.replace(TINY.quality, tokens=2_000),
    effects=dataclasses.replace(TINY.effects, sequences=2),
    nulls=dataclasses.replace(TINY.nulls, tokens=1_000, sae_tokens=1_000, latents=2),
)
"""As few tokens as show whether two runs are the same; the text and the model are those of TINY."""


def is_dictionary(thing: object) -> bool:
    """Return whether it has all members of a dictionary. From Python 3.12 on, `isinstance` does not see the parameters
    of a torch module."""
    return all(hasattr(thing, name) for name in vars(Dictionary) if not name.startswith("_"))
