"""Decide what names a latent, of all that is known of it.

In: `LatentFacts`. Out: the kind of its name, the first in `KINDS_IN_ORDER` whose condition holds. `captions` words it.
"""

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

from interp.display.segments import Segments, TokenList, listed_tokens, to_text
from interp.report.byte_words import ByteReader
from interp.report.whole_words import WholeWords
from interp.statistics.cutoffs import MIN_F1
from interp.text.predicate_kinds import SUBJECT
from interp.text.short_rules import Clause, segments_of

MOST = 0.5
"""Least share that is most of something: of the firings, of the strongest ones, or of the tokens that a rule names."""
NEARLY_ALL = 0.9
"""Share of some firings, or of the tokens that a rule names, from which on a reader may take it for all of them."""
N_LISTED = 4
"""Tokens that a name lists of those on which a latent fires most."""
LABEL_MARGIN = 0.05
"""By how much the F1 of a label, or of whole words beside a list of tokens, may be below that of the rule for it to
name the latent: it is shorter."""
WORDS_MARGIN = 0.1
"""The same of whole words beside any other rule, since a reader takes words in at once."""
GOOD_F1 = 0.5
"""F1 from which on a rule names a latent even if a few tokens are MOST of its firings."""
FAIR_F1 = 0.4
"""F1 from which on a rule tells more than what most firings share around them, which has no F1."""
WEAK_F1 = 0.6
"""F1 below which a name says that its rule tells only a part of the firings, or fails at a part of its tokens."""
MUCH_ON_TOKENS = 0.1
"""Share of the firings on some tokens from which on these are named although they are few."""
LONG_RULE = 80
"""Letters of a rule from which on the tokens tell more, if a few of them are MOST of the firings."""


class Surroundings(NamedTuple):
    """The kind of text in which most firings of a latent lie."""

    label: str
    share: float
    """The share of its firings in it."""
    name: str
    """What the label is called (`label_names`)."""
    lift: float
    """How much larger that share is than that of all text."""


@dataclass(frozen=True, kw_only=True)
class RuleFacts:
    clauses: Sequence[Clause] = ()
    """The rule as it is shown, in short; none where there is no rule."""
    measured: Sequence[Clause] | None = None
    """The rule as its F1 was measured, if another is shown."""
    has_main_token: bool = False
    """Whether it is shown with the token on which MOST firings are, which it does not name."""
    f1: float | None = None
    precision: float | None = None
    needs_kind: bool = False
    """Whether the kind of text in which its latent fires tells more than the rule says."""
    at_strongest: float | None = None
    """The share of the strongest firings at which the rule holds."""

    @property
    def segments(self) -> Segments:
        return segments_of(self.clauses)

    @property
    def listed(self) -> list[str]:
        """The tokens, if it is only a list of tokens; else none."""
        return [token.text for token in listed_tokens(self.segments)]

    @property
    def recall(self) -> float | None:
        """The share of the firings at which it holds, from F1 = 2 P R / (P + R)."""
        f1, precision = self.f1, self.precision
        return None if f1 is None or precision is None or 2 * precision <= f1 else f1 * precision / (2 * precision - f1)

    @property
    def is_weak(self) -> bool:
        return self.f1 is not None and self.f1 < MIN_F1

    @property
    def names_tokens(self) -> bool:
        """Whether it names tokens on which it holds, and not only their kind or what is around."""
        return bool(self.clauses) and self.clauses[0].names_tokens

    @property
    def tells_around(self) -> bool:
        """Whether it says more than on which tokens it holds."""
        return not all(one.is_of_token for one in self.clauses)

    def is_past_strongest(self, least: float = MOST) -> bool:
        """Whether it holds at few of the strongest firings."""
        return self.at_strongest is not None and self.at_strongest < least


@dataclass(frozen=True, kw_only=True)
class LabelFacts:
    """The label of the text that detects the firings best."""

    name: str
    f1: float | None = None


@dataclass(frozen=True, kw_only=True)
class TokenFacts:
    texts: Sequence[str] = ()
    """The tokens on which the latent fires most, the commonest first."""
    shares: Sequence[float] = ()
    """The shares of its firings that are on each."""
    strongest: Sequence[str] = ()
    """Those of its strongest firings."""
    anywhere: Sequence[float] = ()
    """How often each of `texts` stands in the text, per firing of the latent."""

    def share_of(self, texts: Collection[str]) -> float:
        """Return the share of the firings that is on some of its commonest tokens."""
        return sum(share for text, share in zip(self.texts, self.shares, strict=False) if text in texts)

    def f1_of(self, texts: Collection[str]) -> float | None:
        """Return the F1 of some of its commonest tokens as a rule, 2 n / (n_active + N), with n firings on these
        tokens, which stand N times in the text; None if one of them is not known."""
        n_anywhere = [n for text, n in zip(self.texts, self.anywhere, strict=False) if text in texts]
        is_known = 0 < len(n_anywhere) == len(set(texts))
        return round(2 * self.share_of(texts) / (1 + sum(n_anywhere)), 3) if is_known else None


@dataclass(frozen=True, kw_only=True)
class SenseFacts:
    clauses: Sequence[Clause] = ()
    """What describes the sense."""
    f1: float | None = None
    """None if that is what its firings share."""
    share: float | None = None
    """The share of the activation that is of it."""
    tokens: TokenFacts = TokenFacts()


@dataclass(frozen=True, kw_only=True)
class LatentFacts:
    """What is known of a latent for its caption. Shares are of its firings."""

    has_text: bool = True
    fires: bool = True
    rule: RuleFacts = RuleFacts()
    label: LabelFacts | None = None
    senses: Sequence[SenseFacts] = ()
    """None of a latent that is taken to have one meaning."""
    whole: WholeWords | None = None
    """The words in whose pieces most of its firings lie."""
    tokens: TokenFacts = TokenFacts()
    kind: Surroundings | None = None
    shared: Sequence[Clause] = ()
    """What MOST of its firings share, if it is taken to have one meaning."""
    shared_share: float = 0
    """The part of them at which that holds, by weight."""
    shared_by_strongest: Segments = field(default_factory=list)
    """What its strongest firings have in common, where the others have not (`strongest_firings`)."""
    reader: ByteReader = field(default_factory=ByteReader)
    """Reads the parts of characters in its tokens."""

    @property
    def is_on_few(self) -> bool:
        """Whether MOST of its firings are on the tokens that a name may list."""
        return sum(self.tokens.shares[:N_LISTED]) >= MOST


Kind = Literal["label", "nothing", "senses", "words", "shared", "tokens", "rule"]


def kind_of_name(latent: LatentFacts) -> Kind:
    """Return what names a latent."""
    return next(kind for kind, condition in KINDS_IN_ORDER if condition(latent))


def label_tells_more(latent: LatentFacts) -> bool:
    if latent.label is None:
        return False
    return not latent.has_text or (latent.label.f1 or 0) > (latent.rule.f1 or 0) - LABEL_MARGIN


def words_tell_more(latent: LatentFacts) -> bool:
    if latent.whole is None:
        return False
    margin = LABEL_MARGIN if latent.rule.listed else WORDS_MARGIN
    return tokens_tell_more(latent) or latent.whole.f1 > (latent.rule.f1 or 0) - margin


def tokens_tell_more(latent: LatentFacts) -> bool:
    rule = latent.rule
    f1 = GOOD_F1 if rule.f1 is None else rule.f1
    if not rule.clauses or rule.is_weak or rule.is_past_strongest():
        return True
    if f1 < GOOD_F1:  # it leaves much unsaid: only what it says beyond tokens can be worth more
        return latent.is_on_few or (rule.precision or 0) < MOST or rule.names_tokens
    return latent.is_on_few and _is_hard_to_read(rule)


def rule_tells_shared(latent: LatentFacts) -> bool:
    """Whether its rule holds and tells what is around, of the tokens that its firings share or of any; or is better
    than that in which these are named, and can be read."""
    rule = latent.rule
    f1 = rule.f1 or 0
    if latent.is_on_few:
        f1_of_few = latent.tokens.f1_of(latent.tokens.texts[:N_LISTED])
        is_better = f1_of_few is not None and f1 > f1_of_few + LABEL_MARGIN and (rule.recall or 0) >= MOST
        is_fair = is_better and f1 >= FAIR_F1 and not rule.is_past_strongest()
    else:
        is_of_tokens = any(one.names_tokens or one.is_of_text for one in latent.shared[:1])
        is_fair = bool(latent.shared) and not is_of_tokens and f1 >= (WEAK_F1 if rule.is_past_strongest() else FAIR_F1)
    if is_fair and not _is_hard_to_read(rule):
        return True
    atoms = [one.atom for one in rule.clauses if one.atom is not None]
    is_around = any(atom.subject != SUBJECT for atom in atoms)
    if not latent.shared or not is_around or rule.is_weak or rule.is_past_strongest():
        return False
    on = [atom.tokens for atom in atoms if atom.subject == SUBJECT and not rule.has_main_token]
    return (rule.precision or 0) >= MOST and on in ([], [shared.tokens for shared in [latent.shared[0].atom] if shared])


def shared_tells_more(latent: LatentFacts) -> bool:
    """Whether what its firings share tells more than its tokens: spelling alone and the kind of text do not where these
    are few."""
    if not latent.shared or not tokens_tell_more(latent):
        return False
    first = latent.shared[0]
    is_wide = first.is_of_text or first.atom is None or not first.atom.tokens
    return not is_wide or not latent.is_on_few


def tokens_are_all(latent: LatentFacts) -> bool:
    """Whether its tokens tell more than its rule, which fails or is worth no more than the tokens of its strongest
    firings, if these have much of all."""
    rule, tokens = latent.rule, latent.tokens
    fails = not rule.clauses or rule.is_weak or rule.is_past_strongest()
    is_told = latent.is_on_few or bool(latent.shared_by_strongest)
    return tokens_tell_more(latent) and (fails or is_told or tokens.share_of(tokens.strongest) >= MUCH_ON_TOKENS)


KINDS_IN_ORDER: tuple[tuple[Kind, Callable[[LatentFacts], bool]], ...] = (
    # A person gave the label, and it tells as much as the rule.
    ("label", label_tells_more),
    # It has no firings, or they are not on text.
    ("nothing", lambda latent: not latent.fires or not latent.has_text),
    # No rule is true of all senses.
    ("senses", lambda latent: bool(latent.senses)),
    # Its tokens are pieces of a few words, which tell as much as the rule, or more than the tokens.
    ("words", words_tell_more),
    # The rule tells what its firings share, and what is around.
    ("rule", rule_tells_shared),
    # The rule fails, or is hard to read. What its firings share, the strong ones above all, is why it is taken to have
    # one meaning.
    ("shared", shared_tells_more),
    ("tokens", tokens_are_all),
    ("rule", lambda latent: True),
)
"""What may name a latent, with its condition. The first whose condition holds does."""


def _is_hard_to_read(rule: RuleFacts) -> bool:
    """Return whether a rule is long, or begins with a list of parts of characters of several scripts."""
    first = next(iter(rule.segments), None)
    lists_scripts = isinstance(first, TokenList) and len(first.groups[0].parts_of) > 1
    return lists_scripts or len(to_text(rule.segments)) > LONG_RULE
