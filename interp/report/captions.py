"""Say in a line what each latent fires on: its caption, as segments (`display.segments`) that the page only draws.

A latent is named by a label of the text that detects its firings, by its rule, by the rule of each of its senses, by
the tokens on which it fires, or by the whole words of which these are pieces, whichever tells most of its firings. The
page has of each latent

    rule     its rule in words, simplified
    brief    its caption for a table, a list or the map; None if that is its rule
    title    its caption for its own page, which knows its strongest firings
    below    its rule for the line below that title; None if the title has all of it or its tokens, or if it holds at
             none of these firings
    measured its rule as its F1 was measured, if `rule` tells the kind of text in place of tokens; else None
    f1       the F1 of what names it: of its label, rule or whole words, or of the first of its senses

A latent that is taken to have one meaning has one title, though its firings may form several senses.

The kinds of parts, beside the classes of style "muted", "small", "weak", "vague", "pieces" and "apart":

    rule         the latent's own rule (0), or segments: tokens in quotes, lists in short
    chip         a token on its own
    commonest    the tokens on which it fires most, each with its share: [its place in the page's list of them], with
                 the token if it has parts of characters
    label        [name, whether it is a good one]
    f1           [F1, words before]
    senses       [rule, share of the activation, F1] of each sense that has much of it, the rule [] where none holds
    more_senses  the same of the others
    no_sense     the share of the activation that is of no sense
    sense        [place, segments]
    of_sense     what describes the sense at a place, on the page of its latent

In: what the page knows of each latent (`columns.caption_columns`), the senses, and the stored firings. Out: JSON.
"""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, NamedTuple

import pandas as pd

from interp.display.segments import (
    LIKE,
    SEPARATORS,
    CharacterPart,
    Family,
    Group,
    Groups,
    Part,
    Segments,
    Token,
    as_text,
    family_of,
    listed_tokens,
    map_tokens,
    short_list,
    to_json,
    to_text,
    tokens_of,
)
from interp.features.feature_store import FeatureStore
from interp.report.byte_words import ByteReader, byte_readers, script_of
from interp.report.columns import NAMED_BY_LABEL
from interp.report.json_text import format_percent
from interp.report.verdict_evidence import described_by, is_described_by_rule
from interp.report.whole_words import WholeWords, whole_words
from interp.statistics.cutoffs import MIN_F1
from interp.text.predicate_kinds import SUBJECT, TOPIC
from interp.text.rules import Atom, Rule, words_of
from interp.text.short_rules import Clause, in_short, joined
from interp.text.vocabulary import name_of_token

GOOD = 0.5
"""F1 from which on a label is set in bold, and a rule names a latent even if it does not hold for MOST of the tokens at
a place."""
SOME = 0.05
"""Share of the firings, in text of another kind or on some tokens, that is worth telling."""
MUCH = 0.1
"""Share from which on a caption tells of text of another kind, or of activation that is of no sense."""
MOST = 0.5
"""Share of the strongest firings below which a rule that holds at them is no title; or of all firings; or of the tokens
that a rule names."""
RARE = 0.01
"""Share of all firings below which no title tells a token behind others."""
COMMON = 0.02
"""Share of all firings from which on a token is missed in a rule that lists others."""
MUCH_OF_A_SENSE = 0.15
"""Share of the activation from which on a sense is told, and not only counted."""
NEARLY_ALL = 0.9
"""Share of the firings; a kind of text with fewer has "mostly" them."""
NEARLY_NONE = 0.005
"""Share of the strongest firings below which a rule does not stand below the title either."""
NAMED_BY_WORDS = 0.1
"""A latent is named by the whole words that its firings are in, which a reader takes in at once, if their F1 exceeds
that of a rule less this much."""
LONG_RULE = 80
"""Letters of a rule from which on the tokens tell more, if they are MOST of the firings."""
N_STRONGEST = 8
"""Firings whose tokens the title names."""
N_NAMED, N_LISTED = 3, 4
"""Tokens that are named of the strongest firings, and of all."""
IN_WORDS = 2
"""Most tokens of a rule whose parts of characters are named in words."""
NO_RULE = "No rule in words holds."
NEAREST = "No reliable rule was found; the nearest is "


class Caption(NamedTuple):
    rule: list
    brief: list | None
    title: list
    below: list | None
    measured: list | None
    f1: float | None
    """That of what names it; None for tokens."""


@dataclass(frozen=True, kw_only=True)
class SenseFacts:
    clauses: Sequence[Clause]
    """What describes it."""
    f1: float | None
    """None if that is what its firings share."""
    share: float | None
    strongest: Sequence[str] = ()

    @property
    def rule(self) -> Segments:
        return joined(self.clauses)


@dataclass(frozen=True, kw_only=True)
class Facts:
    """What is known of a latent for its caption. Shares are of its firings."""

    has_text: bool = True
    fires: bool = True
    clauses: Sequence[Clause]
    """Its rule in short."""
    rule_f1: float | None = None
    precision: float | None = None
    """Of its rule."""
    label: str | None = None
    label_f1: float | None = None
    second_label: str | None = None
    """Another kind of text in which MUCH of its firings lie."""
    kind: str | None = None
    """The kind of text in which most of its firings lie."""
    kind_share: float = 0
    tokens: Sequence[str] = ()
    """The tokens on which it fires most, the commonest first."""
    shares: Sequence[float] = ()
    n_tokens: int = 0
    """The number of different tokens."""
    at_strongest: float | None = None
    """The share of its strongest firings at which its rule holds."""
    strongest: Sequence[str] = ()
    """The tokens of its strongest firings."""
    raises: Sequence[str] = ()
    """What tells it from others of the same rule or label."""
    whole: WholeWords | None = None
    """The words in whose pieces most of its firings lie."""
    senses: Sequence[SenseFacts] = ()
    """None of a latent that is taken to have one meaning."""
    reader: ByteReader

    @cached_property
    def rule(self) -> Segments:
        return joined(self.clauses)

    @property
    def is_named_by_label(self) -> bool:
        if self.label is None:
            return False
        return not self.has_text or (self.label_f1 or 0) > (self.rule_f1 or 0) - NAMED_BY_LABEL

    @property
    def is_weak(self) -> bool:
        return self.rule_f1 is not None and self.rule_f1 < MIN_F1

    @property
    def is_named_by_tokens(self) -> bool:
        """Whether tokens name a latent that has neither a label nor several senses: they tell more than its rule."""
        f1 = GOOD if self.rule_f1 is None else self.rule_f1
        if not self.rule or self.is_weak or self.is_past_strongest():
            return True
        told = sum(self.shares[:N_LISTED])
        if f1 < GOOD:
            return told >= MOST or (self.precision or 0) < MOST or _names_tokens(self.clauses)
        if told >= MOST and (self.lists_scripts or len(to_text(self.rule)) > LONG_RULE):
            return True
        return self.misses_common and self.rule_f1 is not None and told > f1

    @property
    def is_named_by_words(self) -> bool:
        """Whether whole words name a latent that has neither a label nor several senses: they tell more than its rule
        or its tokens."""
        if self.whole is None:
            return False
        margin = NAMED_BY_LABEL if listed_tokens(self.rule) else NAMED_BY_WORDS
        return self.is_named_by_tokens or self.whole.f1 > (self.rule_f1 or 0) - margin

    @property
    def lists_scripts(self) -> bool:
        """Whether its rule begins with a list of parts of characters of several scripts."""
        first = self.rule[0]
        tokens = first.groups[0].tokens if isinstance(first, Groups) and first.groups[0].are_parts else ()
        return len({self.reader.family(token.text) for token in tokens}) > 1

    @property
    def misses_common(self) -> bool:
        """Whether its rule lists tokens, but not all of those on which it fires most."""
        named = {token.text for token in listed_tokens(self.rule)}
        commonest = zip(self.tokens[: len(named)], self.shares, strict=False)
        return any(share >= COMMON and token not in named for token, share in commonest)

    def is_past_strongest(self, least: float = MOST) -> bool:
        """Whether its rule holds at few of its strongest firings."""
        return self.at_strongest is not None and self.at_strongest < least


class RuleReader:
    """Shows the rules of a ranking in short, and names parts of characters by those that stand where the latent
    fires."""

    def __init__(
        self,
        features: FeatureStore,
        commonest: Sequence[Sequence[str]],
        characters: Mapping[str, tuple[Sequence[str], Sequence[str]]],
    ) -> None:
        """commonest: the tokens on which each latent fires most. characters: `characters_of_parts`."""
        self.characters = characters
        self.scripts = {j: script for j, tokens in enumerate(commonest) if (script := script_of(tokens))}
        self.readers = byte_readers(features, characters, self.scripts) if features.has_text else {}

    def bytes_of(self, latent: int) -> ByteReader:
        return self.readers.get(latent) or ByteReader({}, self.characters, self.scripts.get(latent))

    def __call__(self, latent: int, said: Rule | Atom) -> list[Clause]:
        """Return a rule of a latent in short, or a predicate that describes it. Parts of characters are named in words
        if it has one or two tokens with such parts, besides those that are named by what they are parts of."""
        bytes_ = self.bytes_of(latent)
        clauses = in_short(said, lambda token: bytes_.family(token) or family_of(token))
        named = [[_name_parts_alone(one, bytes_) for one in clause.segments] for clause in clauses]
        read = [map_tokens(segments, lambda token: bytes_.token(token.text, is_in_words=True)) for segments in named]
        if sum(bool(token.pieces) for segments in read for token in _shown_tokens(segments)) > IN_WORDS:
            read = [map_tokens(segments, lambda token: token._replace(is_in_words=False)) for segments in read]
            ends = (k for k, one in enumerate(read[0]) if not isinstance(one, Token) and one not in SEPARATORS)
            n_first = next(ends, len(read[0]))
            first, rest = read[0][:n_first], read[0][n_first:]
            if not any(token.pieces for segments in (rest, *read[1:]) for token in _shown_tokens(segments)):
                read[0] = [*_say_part_once(first), *rest]
        return [clause._replace(segments=segments) for clause, segments in zip(clauses, read, strict=True)]


def _shown_tokens(rule: Segments) -> Iterator[Token]:
    return (token for token in tokens_of([part for one in rule for part in _in_short(one)]))


def _in_short(one: Any) -> Segments:
    return short_list(one) if isinstance(one, Groups) else [one]


def _name_parts_alone(one: Any, bytes_: ByteReader) -> Any:
    """Return a list with its parts of characters named by what they are parts of, in the place of boxes."""
    if not isinstance(one, Groups):
        return one

    def named(group: Group) -> Group:
        letters = bytes_.letters([token.text for token in group.tokens])
        return group._replace(name=f"{group.name}{letters}", n_shown=0)

    groups = (named(group) if group.are_parts else group for group in one.groups)
    return one._replace(groups=tuple(groups))


def _say_part_once(tokens: Segments) -> Segments:
    """Return a list of tokens; if all end in the same part of a character, that is said once, in words, after them."""
    ends = [token.pieces[1] if len(token.pieces) == 2 else "" for token in tokens_of(tokens)]
    words = {"" if isinstance(part, str) else part.words for part in ends}
    if len(ends) < 2 or len(words) != 1 or "" in words:
        return tokens
    unsaid = CharacterPart("", words.pop())
    said = map_tokens(tokens, lambda token: token._replace(pieces=(token.pieces[0], unsaid)))
    return [*said, f", each with {unsaid.words}"]


def captions(
    features: FeatureStore,
    table: pd.DataFrame,
    columns: Mapping[str, list],
    senses: Mapping[int, Sequence[Mapping[str, Any]]],
    read: RuleReader,
    strongest: Mapping[int, Mapping[int, float]],
) -> list[Caption]:
    """Return the caption of each latent.
    columns: `columns.caption_columns`.
    senses: `verdict_evidence.senses_of`.
    strongest: `verdict_evidence.firings_by_strength`."""
    return [caption_of(facts) for facts in _facts(features, table, columns, senses, read, strongest)]


def senses_in_segments(
    senses: Mapping[int, Sequence[Mapping[str, Any]]], read: RuleReader
) -> dict[int, list[dict[str, Any]]]:
    """Return the senses with what is said of each as segments (`as_text`): its `rule`, and what its firings have in
    `common`. Where the rule does not hold, the first of these describes the sense."""
    return {
        latent: [
            {
                **{name: value for name, value in one.items() if name not in ("fires_on", "strongest")},
                "rule": as_text(joined(_rule_of_sense(latent, one, one["rule"], read))),
                "common": as_text([joined(_rule_of_sense(latent, one, atom, read)) for atom in one["common"]]),
                "holds": is_described_by_rule(one),
            }
            for one in of_latent
        ]
        for latent, of_latent in senses.items()
    }


def _rule_of_sense(latent: int, sense: Mapping[str, Any], said: Rule | Atom, read: RuleReader) -> list[Clause]:
    """Return the rule of a sense, or what its firings have in common."""
    precision = sense["precision"] if words_of(said) == words_of(sense["rule"]) else None
    return _with_amount(_strongest_first(read(latent, said), sense["fires_on"]), precision)


def _strongest_first(clauses: list[Clause], strongest: Sequence[str]) -> list[Clause]:
    """Return a rule with the tokens of the strongest firings first in a list at its beginning, which shows few."""
    rule = clauses[0].segments if clauses else []
    place = 1 if rule[:1] == [LIKE] else 0
    lists = rule[place] if place < len(rule) else None
    if not isinstance(lists, Groups):
        return clauses
    groups = []
    for group in lists.groups:
        tokens = sorted(group.tokens, key=lambda token: token.text not in strongest)
        groups.append(group._replace(tokens=tuple(tokens)))
    sorted_lists = lists._replace(groups=tuple(groups))
    return [clauses[0]._replace(segments=[*rule[:place], sorted_lists, *rule[place + 1 :]]), *clauses[1:]]


def caption_of(latent: Facts) -> Caption:
    measured = latent
    with_kind = _with_kind(latent)
    latent = replace(latent, clauses=_with_amount(with_kind, latent.precision))
    brief = _brief(latent)
    is_alone = not latent.is_named_by_label and not latent.senses
    is_by_tokens = is_alone and (latent.is_named_by_words or latent.is_named_by_tokens)
    listed = {token.text for token in listed_tokens(latent.rule)}
    repeats = is_by_tokens and bool(listed) and listed <= set(latent.tokens)
    fails = not latent.is_weak and latent.is_past_strongest(NEARLY_NONE)
    is_below = latent.rule and (latent.is_named_by_label or is_by_tokens) and not repeats and not fails
    return Caption(
        rule=to_json(latent.rule),
        brief=None if brief == [Part("rule", 0)] else to_json(brief),
        title=to_json(_title(latent)),
        below=to_json(_in_words(latent)) if is_below else None,
        measured=None if with_kind == measured.clauses else to_json(measured.rule),
        f1=_f1_of_name(latent),
    )


def _f1_of_name(latent: Facts) -> float | None:
    if latent.is_named_by_label:
        return latent.label_f1
    if latent.senses:
        return latent.senses[0].f1
    if latent.whole and latent.is_named_by_words:
        return latent.whole.f1
    return None if latent.is_named_by_tokens else latent.rule_f1


def _brief(latent: Facts) -> Segments:
    """Return what it fires on for a table or list."""
    if latent.is_named_by_label:
        return [_label(latent), *_apart(latent)]
    if latent.senses:
        told, others = _told_senses(latent)
        parts = [("senses", told), *([("more_senses", others)] if others else [])]
        none = _of_no_sense(latent)
        return [
            *(Part(kind, [[sense.rule, sense.share, sense.f1] for sense in senses]) for kind, senses in parts),
            *([Part("no_sense", round(none, 3))] if none >= MUCH else []),
        ]
    if not latent.fires:
        return [_muted("It never fired.")]
    if not latent.has_text:
        return [_muted("No label fits.")]
    if latent.whole and latent.is_named_by_words:
        return [*_in_pieces(latent, latent.whole), *_apart(latent)]
    if latent.is_named_by_tokens:
        return [Part("vague", _on_commonest(latent))]
    return [*_before_rule(latent), Part("rule", 0), *_mostly_in(latent), *_apart(latent)]


def _title(latent: Facts) -> Segments:
    """Return what it fires on, as one description: a label of the text or a rule; where there are several senses, each
    has its own rule; and where the rule tells less than the tokens on which it fires most, or fails at its strongest
    firings, tokens."""
    if latent.is_named_by_label:
        second = f", and some {latent.second_label.replace('_', ' ')}" if latent.second_label else ""
        return [_label(latent), *([_muted(second)] if second else []), *_apart(latent), _f1(latent.label_f1, "label ")]
    if not latent.has_text:
        return [_muted("No label describes where it fires.")]
    if latent.senses:
        return _in_senses(latent)
    if latent.whole and latent.is_named_by_words:
        return [*_in_pieces(latent, latent.whole), *_apart(latent), _f1(latent.whole.f1)]
    if latent.is_named_by_tokens:
        return [Part("vague", [*_on_commonest(latent, is_title=True), *_most_strongly(latent)])]
    return [*_before_rule(latent), *_in_words(latent), *_mostly_in(latent), *_apart(latent)]


def _before_rule(latent: Facts) -> Segments:
    """Return the token on which MOST of its firings are, if its rule names none, or the kind of text, if its rule tells
    few of its firings."""
    if latent.tokens and latent.shares[0] >= MOST and not _names_tokens(latent.clauses):
        return [_muted("on "), *_chips(latent, latent.tokens[:1]), _muted(": ")]
    kind = _in_kind(latent)
    told = [clause.segments for clause in latent.clauses]
    is_told = not kind or latent.rule_f1 is None or latent.rule_f1 >= GOOD or [kind] in told
    return [] if is_told else [_muted(f"{kind}: ")]


def _in_pieces(latent: Facts, whole: WholeWords) -> Segments:
    """Return the pieces on which it fires with the words that have them, and the kind of text if that is nearly always
    the same: "uf" in "Yusuf"."""
    told = [Part("rule", _any_of(whole.tokens)), *_in_whole(whole, is_of_most=whole.share < NEARLY_ALL)]
    is_of_kind = latent.kind is not None and latent.kind_share >= NEARLY_ALL
    return [Part("pieces", [*told, *([_muted(f", {_in_kind(latent)}")] if is_of_kind else [])])]


def _mostly_in(latent: Facts) -> Segments:
    """Return the words in which it mostly fires, if its rule is a piece of them."""
    listed = [token.text for token in listed_tokens(latent.rule)]
    if latent.whole is None or listed != list(latent.whole.tokens):
        return []
    return [Part("pieces", _in_whole(latent.whole, is_of_most=True))]


def _in_whole(whole: WholeWords, *, is_of_most: bool) -> Segments:
    before = f"{', mostly' if is_of_most else ''} {'beginning' if whole.is_beginning else 'in'} "
    share = [_small(f" {format_percent(whole.share)}")] if is_of_most else []
    return [before, Part("rule", _any_of(whole.words)), *share]


def _any_of(texts: Sequence[str]) -> Segments:
    out: Segments = []
    for k, text in enumerate(texts):
        out += [*([" or " if k == len(texts) - 1 else ", "] if k else []), Token(text)]
    return out


def _most_strongly(latent: Facts) -> Segments:
    """Return the tokens of the strongest firings, if a few other tokens are those of MOST of its firings."""
    common = latent.tokens[:N_LISTED]
    is_told = _are_most(latent.strongest, [token for token in latent.strongest if token in common])
    if is_told or sum(latent.shares[:N_LISTED]) < MOST:
        return []
    return [_muted("; most strongly "), *_on_tokens(latent, latent.strongest)]


def _in_words(latent: Facts) -> Segments:
    """Return its rule with its F1, and how many of the strongest firings it misses."""
    shown = Part("weak", [NEAREST, Part("rule", 0)]) if latent.is_weak else Part("rule", 0)
    misses = latent.is_past_strongest() and not latent.is_weak
    told = f", but true of {format_percent(latent.at_strongest or 0)} of its strongest firings"
    return [shown, _f1(latent.rule_f1), *([_small(told)] if misses else [])]


def _on_commonest(latent: Facts, is_title: bool = False) -> Segments:
    """Return the tokens on which it fires most, each with its share of the firings, and how many more there are."""
    if not latent.tokens:
        return [_muted(NO_RULE)]
    if len(latent.tokens) == 1:
        return [_muted("only on "), *_chips(latent, latent.tokens, is_in_words=is_title)]
    is_all = len(latent.tokens) <= N_LISTED + 1  # the last one takes no more room than "and 1 more"
    listed = list(zip(latent.tokens, latent.shares, strict=True))[: None if is_all else N_LISTED]
    is_of_few = sum(share for _, share in listed) >= MOST
    much = [(token, share) for token, share in listed if share >= SOME]
    is_told_by_much = sum(share for _, share in much) >= MOST
    shown = much if is_told_by_much else [one for k, one in enumerate(listed) if one[1] >= RARE or k == 0]
    kind = _in_kind(latent)
    many = "on" if is_of_few else "on many tokens:"
    before = f"{kind}, {many} " if kind else "mostly on " if is_of_few else f"{many} "
    read = [latent.reader.token(token) for token, _ in shown]
    families = Counter[Family | None](latent.reader.family(token) for token, _ in shown)
    alike = [token for token, _ in listed if token.strip() == shown[0][0].strip()]
    share = sum(share for token, share in listed if token in alike)
    if read[0].pieces and share >= MOST:  # one part of a character, with or without a space, in words
        told: Segments = [*_chips(latent, [min(alike, key=len)], is_in_words=True), _small(f" {format_percent(share)}")]
    else:
        told, alike = [], [token.text for token in read]
        alike_parts = [family for family, n in families.items() if family is not None and n > 1]
        for family in alike_parts:  # in the place of boxes, which tell little
            own = [(token, share) for token, share in listed if latent.reader.family(token) == family]
            letters = latent.reader.letters([token for token, _ in own])
            told += [f"{family.name}{letters}", _small(f" {format_percent(sum(share for _, share in own))}"), " "]
        others = [token for token in read if latent.reader.family(token.text) not in alike_parts]
        chips = [[latent.tokens.index(token.text), *([token] if token.pieces else [])] for token in others]
        told = [*told, Part("commonest", chips)] if chips else told[:-1]
    n_more = latent.n_tokens - len(alike) if is_title else 0
    return [_muted(before), *told] + [_small(f" and {n_more:,} more")] * (n_more > 0)


def _in_senses(latent: Facts) -> Segments:
    """Return what it fires on in each of its senses that has much of the activation, and how much of that is of others
    and of none: this first, where it is MOST."""
    out: Segments = []
    told_senses, others = _told_senses(latent)
    shares = [float("nan") if sense.share is None else sense.share for sense in latent.senses]
    none = _of_no_sense(latent)
    is_first = none >= MOST
    for k, sense in enumerate(told_senses):
        own: Segments = [Part("of_sense", k)] if sense.rule else _on_tokens(latent, sense.strongest)
        unit = "" if k or is_first else " of activation"
        told = [] if sense.share is None else [f"{format_percent(sense.share)}{unit}"]
        told += [] if sense.f1 is None else [f"F1 {sense.f1:.2f}"]
        out.append(Part("sense", [k, [*own, *([_small(f"\u00a0{', '.join(told)}")] if told else [])]]))
    if is_first:
        out.insert(0, Part("rest", [_muted("of no sense\u00a0"), _small(f"{format_percent(none)} of activation")]))
    left: Segments = []
    if others:
        left += [_muted(f"and {len(others)} more\u00a0"), _small(format_percent(sum(shares[len(told_senses) :])))]
    if none >= MUCH and not is_first:
        left += [_muted(f"{', ' if left else ''}of no sense\u00a0"), _small(format_percent(none))]
    return [*out, *([Part("rest", left)] if left else [])]


def _of_no_sense(latent: Facts) -> float:
    """Return the share of the activation that is of no sense; NaN if that is not known."""
    return 1 - sum(float("nan") if sense.share is None else sense.share for sense in latent.senses)


def _told_senses(latent: Facts) -> tuple[Sequence[SenseFacts], Sequence[SenseFacts]]:
    """Return the senses that its caption tells, and the others. They are in the order of their shares."""
    n = sum(sense.share is None or sense.share >= MUCH_OF_A_SENSE for sense in latent.senses)
    return latent.senses[: max(n, 1)], latent.senses[max(n, 1) :]


def _on_tokens(latent: Facts, tokens: Sequence[str]) -> Segments:
    out: Segments = [_muted("on ")]
    few = _first_few(tokens)
    if parts := latent.reader.alike(few):
        return [*out, parts]
    is_in_words = len(few) == 1 and not any(token.pieces and not token.is_in_words for token in tokens_of(latent.rule))
    for k, chip in enumerate(_chips(latent, few, is_in_words)):
        out += [*([" "] if k else []), chip]
    return out


def _chips(latent: Facts, tokens: Sequence[str], is_in_words: bool = False) -> Segments:
    return [Part("chip", latent.reader.token(token, is_in_words)) for token in tokens]


def _first_few(tokens: Sequence[str]) -> list[str]:
    return list(dict.fromkeys(tokens))[:N_NAMED]


def _are_most(tokens: Sequence[str], some: Sequence[str]) -> bool:
    return len(some) >= MOST * len(tokens)


def _names_tokens(clauses: Sequence[Clause]) -> bool:
    """Return whether a rule names tokens on which it holds, and not only their kind or what is around. The words of a
    person may name some."""
    atom = clauses[0].atom if clauses else None
    return atom is not None and (atom.subject == "" or (atom.subject == SUBJECT and bool(atom.tokens)))


def _in_kind(latent: Facts) -> str:
    """Return the kind of text in which most of its firings lie: "in french", "mostly in html"; "" if there is none."""
    if latent.kind is None:
        return ""
    return f"{'mostly ' if latent.kind_share < NEARLY_ALL else ''}in {latent.kind.replace('_', ' ')}"


def _with_kind(latent: Facts) -> list[Clause]:
    """Return its rule, with the kind of text, if that is known, in the place of tokens in which this text is rich."""
    kind = _in_kind(latent)

    def is_of_topic(clause: Clause) -> bool:
        return clause.atom is not None and clause.atom.subject == TOPIC

    return [Clause(None, [kind]) if kind and is_of_topic(clause) else clause for clause in latent.clauses]


def _with_amount(clauses: list[Clause], precision: float | None) -> list[Clause]:
    """Return a rule that names no tokens with the part of them on which the latent fires: "some tokens after"."""
    if not clauses or precision is None or precision >= NEARLY_ALL or _names_tokens(clauses):
        return clauses
    atom, (first, *others) = clauses[0]
    return [Clause(atom, [f"{'most' if precision >= MOST else 'some'} {first}", *others]), *clauses[1:]]


def _apart(latent: Facts) -> Segments:
    """Return what tells it from others of the same rule or label: tokens that it raises."""
    tokens: Segments = []
    for k, token in enumerate(latent.raises):
        tokens += [*([" "] if k else []), name_of_token(token) or Token(token)]
    return [Part("apart", [", raises ", Part("rule", tokens)])] if tokens else []


def _label(latent: Facts) -> Part:
    return Part("label", ((latent.label or "").replace("_", " "), (latent.label_f1 or 0) >= GOOD))


def _f1(f1: float | None, before: str = "") -> Part:
    return Part("f1", (f1, before))


def _muted(words: str) -> Part:
    return Part("muted", [words])


def _small(words: str) -> Part:
    return Part("small", [words])


def _facts(
    features: FeatureStore,
    table: pd.DataFrame,
    columns: Mapping[str, list],
    senses: Mapping[int, Sequence[Mapping[str, Any]]],
    read: RuleReader,
    strongest: Mapping[int, Mapping[int, float]],
) -> Iterator[Facts]:
    vocab = features.vocab
    tokens = features.tokens.reshape(-1).numpy()
    second = _second_labels(features, columns["label"])
    n_firings = table["n_active"].tolist()
    whole = whole_words(features, n_firings) if features.has_text else {}
    n_tokens = table["n_tokens"].tolist() if "n_tokens" in table else [0] * len(table)
    for j, n_active in enumerate(n_firings):
        yield Facts(
            has_text=features.has_text,
            fires=n_active > 0,
            clauses=read(j, columns["rule"][j]),
            rule_f1=columns["explanation_f1"][j],
            precision=columns["explanation_precision"][j],
            label=columns["label"][j],
            label_f1=columns["label_f1"][j],
            second_label=second.get(j),
            kind=columns["kind"][j],
            kind_share=columns["kind_share"][j] or 0,
            tokens=columns["tokens"][j],
            shares=columns["token_shares"][j],
            n_tokens=n_tokens[j],
            at_strongest=columns["at_strongest"][j],
            strongest=[vocab[tokens[row]] for row in list(strongest.get(j, {}))[:N_STRONGEST]],
            raises=columns["raises"][j],
            whole=whole.get(j),
            senses=[
                SenseFacts(
                    clauses=_rule_of_sense(j, one, described_by(one), read),
                    f1=one["f1"] if is_described_by_rule(one) else None,
                    share=one["share"],
                    strongest=[vocab[tokens[row]] for row in one["strongest"][:N_STRONGEST]],
                )
                for one in ([] if columns["has_one_meaning"][j] else senses.get(j, []))
            ],
            reader=read.bytes_of(j),
        )


def _second_labels(features: FeatureStore, best: Sequence[str | None]) -> dict[int, str]:
    """Return for each latent the label, beside its `best` one, in which MUCH of its other firings lie."""
    rows = features.sql(f"select latent, label, precision from labels where precision >= {SOME} order by 3 desc")
    shares: dict[int, dict[str, float]] = {}
    for latent, label, share in rows.itertuples(index=False, name=None):
        shares.setdefault(latent, {})[label] = share
    second = {}
    for latent, of_latent in shares.items():
        own = best[latent] or ""
        others = [(label, share) for label, share in of_latent.items() if label != own]
        is_much = own in of_latent and others and others[0][1] >= MUCH
        if is_much and of_latent[own] + sum(share for _, share in others[:2]) <= 1:
            second[latent] = others[0][0]
    return second
