"""Name each latent by what describes its firings best.

In: the descriptions of a latent (`latent_facts`), each with its F1 as a detector of the firings,

    F1 = 2 n / (n_active + N),   n its firings where the description holds, N how often it holds in the text

Out: its `Name`. Of the descriptions whose F1 is within MARGIN of the best one's, that of the first kind in KINDS names
it; of several of a kind, the shortest. Where the best one has less than LEAST_F1, none describes the firings, and the
name says what most of them share, or else what the strongest are on.

After a name of one token stands in which longer words or numbers its firings are. Then stands only what tells the
strongest firings from the others: the tokens that they are on, if a description does not hold at MOST of them; or,
where one token is all that is said, or none, or no description holds, or another latent has the same name, what they
have in common: several latents fire on that token, each elsewhere.

A latent of several senses is named by these, each in the same way, unless most of its activation is of none.
"""

from collections.abc import Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, NamedTuple, TypeVar, get_args

from interp.display.segments import Segments, to_text, tokens_of
from interp.text.short_rules import Clause

MARGIN = 0.05
"""By how much the F1 of a name may be below the best one's, as it is easier to read."""
LEAST_F1 = 0.4
"""F1 below which no description names a latent."""
MOST = 0.5
"""Least share that is most of something: of the strongest firings, or of the firings or the activation of a latent."""
N_LISTED = 4
"""Largest number of tokens, of whole words or of senses that a name lists."""
N_UNLIKE = 3
"""The same of tokens that have nothing in common but that the strongest firings are on them."""
N_STRONGEST = 16
"""Number of the strongest firings of a latent that are looked at."""

Kind = Literal["label", "words", "tokens", "rule"]
KINDS: tuple[Kind, ...] = get_args(Kind)
"""What describes firings: a label of the text, whole words of which tokens are pieces, these tokens, or a rule; what is
easier to read comes first."""
Item = TypeVar("Item", bound=Hashable)


class Description(NamedTuple):
    """What may be said of all firings of a latent or of a sense."""

    kind: Kind
    segments: Segments
    f1: float | None
    """None where it is not known, as of the words of a person, which are taken to hold."""
    at_strongest: float = 1
    """The share of its strongest firings at which it holds."""
    beyond: Segments = []
    """Of one token: in which longer words or numbers its firings are (`whole_words.longer_words`)."""

    @property
    def rank(self) -> float:
        """The F1 by which it is compared with others."""
        return 1 if self.f1 is None else self.f1


@dataclass(frozen=True, kw_only=True)
class Described:
    """A latent, or a sense of one, with all that may be said of it."""

    descriptions: Sequence[Description] = ()
    otherwise: Segments = field(default_factory=list)
    """What is said where none of them holds: what most firings share, or what the strongest are on."""
    is_unclear: bool = False
    """Whether this is what the strongest are on."""
    strongest: Segments = field(default_factory=list)
    """What its strongest firings are on."""
    in_common: Segments = field(default_factory=list)
    """What its strongest firings have in common, where the others have not (`strongest_firings`)."""
    share: float | None = None
    """The share of the activation that is of this sense."""


@dataclass(frozen=True, kw_only=True)
class LatentFacts(Described):
    """What is known of a latent for its name."""

    senses: Sequence[Described] = ()
    """None of a latent that is taken to have one meaning."""
    rule: Sequence[Clause] = ()
    """Its rule as it is shown; none where there is no rule."""
    measured: Sequence[Clause] | None = None
    """Its rule as its F1 was measured, if another is shown."""


class Name(NamedTuple):
    kind: Kind | None
    """None where no description holds."""
    segments: Segments
    f1: float | None = None
    after: Segments = []
    """What tells its strongest firings from the others."""
    beyond: Segments = []
    """Where it is one token: in which longer words or numbers that stands."""
    is_unclear: bool = False
    """Whether no description holds and the strongest firings are on unlike tokens."""


def name_of(one: Described, *, is_taken: bool = False) -> Name:
    """Return the name of a latent or of a sense.
    is_taken: another latent has that name, so that what tells its strongest firings is said of any description."""
    best = max((description.rank for description in one.descriptions), default=0)
    if best < LEAST_F1:
        after = _not_told(one.in_common, one.otherwise)
        if is_taken and not after and not one.is_unclear:
            after = _not_told(one.strongest, one.otherwise)
        return Name(None, one.otherwise, None, after, is_unclear=one.is_unclear)
    good = (description for description in one.descriptions if description.rank >= best - MARGIN)
    named = min(good, key=lambda each: (KINDS.index(each.kind), len(to_text(each.segments))))
    n_tokens = len(list(tokens_of(named.segments)))
    says_little = is_taken or (named.kind == "rule" and not n_tokens and to_text(named.segments).startswith("tokens "))
    beyond = [] if _is_of_words(one.in_common) and not _is_of_most(named.beyond) else named.beyond
    told = [*named.segments, *beyond]
    after = []
    if named.at_strongest >= MOST and (says_little or n_tokens == 1):
        after = [] if beyond and _is_of_words(one.in_common) else _not_told(one.in_common, told)
    if named.at_strongest < MOST or (says_little and not after):
        after = _not_told(one.strongest, told)
    return Name(named.kind, named.segments, named.f1, after, beyond)


def _is_of_words(segments: Segments) -> bool:
    return segments[:1] == ["in "]


def _is_of_most(beyond: Segments) -> bool:
    return to_text(beyond[:1]).startswith("mostly")


def _not_told(after: Segments, name: Segments) -> Segments:
    """Return what stands after a name; nothing if that is told by it."""
    if len(after) > 2 and to_text(after[-1:]) in f"in {to_text(name)}":
        after = after[:-2]  # the kind of text, after a space
    tokens = {token.text for token in tokens_of(after)}
    named = {token.text for token in tokens_of(name)}
    return [] if (tokens and tokens <= named) or to_text(after) in f"in {to_text(name)}" else after


def share_among(texts: Sequence[str], listed: Sequence[str]) -> float:
    """Return the share of some tokens that are listed; 1 of none."""
    return sum(text in listed for text in texts) / len(texts) if texts else 1


def growing_lists(counts: Mapping[Item, tuple[float, float]]) -> Iterator[tuple[list[Item], float]]:
    """Yield the item with the largest F1, then with it the one that raises the F1 most, and so on, at most N_LISTED,
    with their F1. counts: how often each item stands at the firings of a latent and anywhere, per firing of it."""
    listed: list[Item] = []
    left = dict(counts)
    n_here, n_anywhere, f1 = 0.0, 0.0, 0.0
    while left and len(listed) < N_LISTED:
        f1_with = {item: 2 * (n_here + n) / (1 + n_anywhere + N) for item, (n, N) in left.items()}
        best = max(left, key=f1_with.__getitem__)
        if f1_with[best] <= f1:
            return
        n, N = left.pop(best)
        n_here, n_anywhere, f1 = n_here + n, n_anywhere + N, f1_with[best]
        listed.append(best)
        yield [*listed], round(f1, 3)
