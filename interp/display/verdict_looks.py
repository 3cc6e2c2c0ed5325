"""Define how verdicts are shown: the words, the meaning and the colour of each.

Notebook cards, figures and the page all use these. Tables have the verdict's name. The page has a second colour for
dark screens.
"""

from typing import Any, NamedTuple

from interp.display.verdict_names import (
    BY_PROBABILITY,
    DEAD,
    DENSE,
    FAINT,
    IDLE,
    MONOSEMANTIC,
    NO_CONTEXT,
    ONE_MEANING_VERDICTS,
    POLYSEMANTIC,
    SINGLE_TOKEN,
    TOO_RARE,
    UNRANKED,
)


class VerdictLook(NamedTuple):
    word: str
    meaning: str
    colour: str
    on_dark: str
    short: str = ""
    """The word where there is little room, a part of `word`; "" if that is short."""


UNKNOWN_COLOUR = "#8a8f98"
VERDICT_LOOKS = {
    MONOSEMANTIC: VerdictLook(
        "monosemantic", "its firings are more likely to have one meaning than several", "#0072b2", "#4aa8e0", "mono"
    ),
    POLYSEMANTIC: VerdictLook(
        "polysemantic", "its firings are more likely to have several meanings than one", "#d55e00", "#f08a3c", "poly"
    ),
    SINGLE_TOKEN: VerdictLook(
        "single-token",
        "almost all of its activation lies on one token and its variants in case and space",
        "#009e73",
        "#2fc49a",
        "token",
    ),
    TOO_RARE: VerdictLook("too rare", "it fires in too few places to tell one meaning from two", "#e69f00", "#f0b93a"),
    NO_CONTEXT: VerdictLook(
        "no context to judge",
        "its rows are not text, so nothing is known about what its firings share",
        "#7b6fb0",
        "#a79be0",
    ),
    DENSE: VerdictLook(
        "dense",
        "it fires on so many tokens that it divides the text rather than marks a meaning in it",
        "#cc79a7",
        "#dd93bb",
    ),
    FAINT: VerdictLook(
        "faint",
        "it fires, but never a quarter as strongly as the median feature: it does next to nothing",
        "#b9a88a",
        "#a8977a",
    ),
    DEAD: VerdictLook("dead", "it never fired on the tokens scanned", UNKNOWN_COLOUR, "#7d848d"),
    UNRANKED: VerdictLook("unranked", "these features were not ranked", "#56b4e9", "#86cdf5"),
}
"""The look of each verdict by its name in tables, in the order in which the page lists them."""
NO_RULE = "no rule in words holds"


def verdicts_of_page() -> dict[str, dict[str, Any]]:
    """Return what the page is told of each verdict: its look, and whether it is of a group that is treated alike."""
    return {
        name: {
            **look._asdict(),
            "short": look.short or look.word,
            "idle": name in IDLE,
            "by_probability": name in BY_PROBABILITY,
            "one_meaning": name in ONE_MEANING_VERDICTS,
        }
        for name, look in VERDICT_LOOKS.items()
    }


def verdict_words(verdict: str) -> str:
    """Return the words for a verdict. For an unknown verdict, these are its name."""
    return VERDICT_LOOKS[verdict].word if verdict in VERDICT_LOOKS else verdict.replace("_", " ")


def verdict_colour(verdict: str) -> str:
    return VERDICT_LOOKS[verdict].colour if verdict in VERDICT_LOOKS else UNKNOWN_COLOUR


def verdict_css(*, dark: bool = False) -> str:
    """Return the colours as CSS variables, by the verdict's name in tables."""
    return " ".join(f"--{name}: {look.on_dark if dark else look.colour};" for name, look in VERDICT_LOOKS.items())
