"""Draw a dictionary by its role in a comparison with nulls: the ranked dictionary, a reference, or a null."""

from interp.compare.compared_dictionaries import COMPARED_DICTIONARIES
from interp.figures.theme import BLUE, GREEN, GREY

ROLE_COLOURS = {"matched": BLUE, "reference": GREEN, "null": GREY}
ROLE_NAMES = {"matched": "dictionary", "reference": "reference", "null": "null"}
ROLES_IN_WORDS = (
    "Green references can show what the model learnt: the twin seed, the same training from another seed, is a "
    "positive control, and neurons are the model's own. Grey nulls cannot."
)


def role_of(dictionary: str) -> str:
    """Return the role of a dictionary by the name that the tables of a run's nulls have. A name that is not known is
    that of a null."""
    compared = COMPARED_DICTIONARIES.get(dictionary)
    return compared.role if compared else "null"
