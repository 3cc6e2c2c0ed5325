"""Draw a dictionary by its role in a comparison with nulls: the ranked one, its positive control, another reference, or
a null."""

from interp.compare.compared_dictionaries import COMPARED_DICTIONARIES, TWIN
from interp.figures.theme import BLUE, GREY, ORANGE, SKY

ROLE_COLOURS = {"matched": BLUE, "control": SKY, "reference": ORANGE, "null": GREY}
ROLE_NAMES = {"matched": "dictionary", "control": "positive control", "reference": "no dictionary", "null": "null"}
ROLES_IN_WORDS = (
    "The twin seed, the same training from another seed, is a positive control: it should be as high as the "
    "dictionary. Orange rows are the model's own units, without a dictionary. Grey nulls cannot show what the model "
    "learnt."
)


def role_of(dictionary: str) -> str:
    """Return the role of a dictionary by the name that the tables of a run's nulls have. A name that is not known is
    that of a null."""
    if dictionary == TWIN:
        return "control"
    compared = COMPARED_DICTIONARIES.get(dictionary)
    return compared.role if compared else "null"
