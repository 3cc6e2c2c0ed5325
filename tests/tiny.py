"""A configuration of the whole pipeline that runs in seconds; what several tests share."""

from interp.codes.dictionary import Dictionary
from interp.pipeline.config import RunConfig

TINY = RunConfig.tiny()
SECTIONS = TINY.to_dict()


def is_dictionary(thing: object) -> bool:
    """Return whether it has all members of a dictionary. From Python 3.12 on, `isinstance` does not see the parameters
    of a torch module."""
    return all(hasattr(thing, name) for name in vars(Dictionary) if not name.startswith("_"))
