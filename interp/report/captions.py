"""Word the caption of each latent: what it fires on, in a line, as segments (`display.segments`) that the page draws.

A latent is named by a label of the text that detects its firings, by the rule of each of its senses, by the whole words
of which its tokens are pieces, by these tokens, or by its rule (`naming`). The kinds of parts, beside the classes of
style "muted", "small", "weak", "rest" and "apart":

    rule         the latent's own rule (0), or segments: tokens in quotes, lists in short
    label        [name, whether it is a good one]
    f1           [F1, words before]
    senses       [rule, share of the activation, F1] of each sense that has much of it, the rule [] where none holds
    more_senses  the same of the others
    no_sense     the share of the activation that is of no sense
    sense        [number of the sense, segments]
    of_sense     what describes the sense of this number, on the page of its latent

In: `LatentFacts`. Out: JSON.
"""

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import NamedTuple

from interp.display.segments import Part, Segments, Token, TokenList, listed_tokens, to_json, to_text, tokens_of
from interp.report.json_text import format_percent
from interp.report.naming import (
    GOOD_F1,
    LONG_RULE,
    MOST,
    MUCH_ON_TOKENS,
    N_LISTED,
    NEARLY_ALL,
    WEAK_F1,
    Kind,
    LatentFacts,
    RuleFacts,
    SenseFacts,
    kind_of_name,
)
from interp.report.short_names import MOST_STRONGLY, short_name, words_of
from interp.report.whole_words import WholeWords
from interp.text.predicate_kinds import TOPIC
from interp.text.short_rules import Clause, segments_of
from interp.text.vocabulary import join_with_or

MUCH_OF_NO_SENSE = 0.1
"""Share of the activation from which on it is told that this is of no sense."""
MUCH_OF_A_SENSE = 0.15
"""Share of the activation from which on a sense is told, and not only counted."""
MANY_SENSES = 4
"""Senses above which a title counts those with little of the activation."""
MUCH_ON_A_TOKEN = 0.05
"""Share of the firings of each further token that is told."""
NEARLY_NONE = 0.005
"""Share of the strongest firings below which a rule does not stand below the title."""
MUCH_OF_SHARED = 0.25
"""Share of the firings below which what they share by weight is only what the strong ones share."""
MUCH_BESIDE = 0.1
"""Share of the firings on a token from which on it is told that a rule leaves it out."""
N_BESIDE = 2
"""Number of such tokens that are told."""
N_STRONGEST_NAMED = 3
"""Tokens that are named of the strongest firings."""
NO_RULE = "No rule in words holds."
NEAREST = "No reliable rule was found; the nearest is "
RULE = Part("rule", 0)


class Caption(NamedTuple):
    rule: list
    """The latent's rule, simplified, without the label that names the latent."""
    head: str
    """What that says first, which tells a search what the latent fires on, and not where."""
    brief: list | None
    """What names it in a table or a list; None if that is its rule."""
    text: str
    """The same as text."""
    short: list
    """The same in few letters (`short_names`)."""
    title: list
    """What names it on its own page, which knows its strongest firings, and tells below what it raises."""
    below: list | None
    """Its rule for the line below the title; None if the title has all of it or its tokens, or if it holds at none of
    the strongest firings."""
    measured: list | None
    """Its rule as its F1 was measured, if that is not `rule`; else None."""
    f1: float | None
    """That of the label, rule, whole words or tokens that name it, or the smaller one of its first two senses; None if
    it is not known, or if one of these senses has none."""


class Name(NamedTuple):
    """What names a latent: in brief, as the title of its own page, and how well that describes it."""

    brief: Segments
    title: Segments
    f1: float | None = None


def caption_of(latent: LatentFacts) -> Caption:
    """Return the caption of a latent."""
    rule = latent.rule
    kind = kind_of_name(latent)
    name = _name(kind, latent)
    beside = _beside_label(latent) if kind == "label" else rule.clauses
    fails = not rule.is_weak and rule.is_past_strongest(NEARLY_NONE)
    measured = rule.measured or (None if beside == rule.clauses else rule.clauses)
    whole = RULE if beside == rule.clauses else Part("rule", segments_of(rule.clauses))
    is_below = rule.clauses and kind not in ("senses", "rule") and not _is_told(kind, latent) and not fails
    own_rule = segments_of(beside)
    return Caption(
        rule=to_json(own_rule),
        head=beside[0].head if beside else "",
        brief=None if name.brief == [RULE] else to_json(name.brief),
        text=to_text(words_of(name.brief, own_rule)),
        short=to_json(short_name(name.brief, own_rule)),
        title=to_json(name.title),
        below=to_json(_rule_in_words(rule, whole)) if is_below else None,
        measured=to_json(segments_of(measured)) if measured else None,
        f1=name.f1,
    )


def _is_told(kind: Kind, latent: LatentFacts) -> bool:
    """Return whether the name of this kind tells what the rule does: its label; the pieces of words on which it holds,
    " str" before "ange"; or its tokens, and at most the kind of text, if that is told too."""
    clauses, whole = latent.rule.clauses, latent.whole
    if kind == "label":
        return all(one.is_of_label for one in clauses)
    if kind == "words" and whole is not None:
        on = [one.atom.tokens for one in clauses if one.atom is not None and one.is_of_token]
        return bool(on) and set(on[0]) <= set(whole.tokens)
    tells_kind = bool(_in_kind(latent))
    listed = listed_tokens(segments_of([one for one in clauses if not (tells_kind and one.is_of_text)]))
    return bool(listed) and {token.text for token in listed} <= set(latent.tokens.texts)


def _beside_label(latent: LatentFacts) -> Sequence[Clause]:
    """Return what the rule says beside the label that names the latent."""
    clauses = latent.rule.clauses
    if latent.label is None or all(one.is_of_label for one in clauses):
        return []
    return [one for one in clauses if one.segments != [f"in {latent.label.name}"]]


def _name(kind: Kind, latent: LatentFacts) -> Name:
    """Return what names a latent."""
    if kind == "label" and latent.label:
        label = latent.label
        is_good = (label.f1 or 0) >= GOOD_F1
        name = Part("label", (label.name, is_good))
        if latent.shared_by_strongest == [f"in {label.name}"]:
            latent = replace(latent, shared_by_strongest=[])
        tokens = latent.tokens
        is_on_few = not is_good and len(set(tokens.strongest)) <= N_STRONGEST_NAMED
        is_told = is_on_few and tokens.share_of(tokens.strongest) >= MUCH_ON_TOKENS
        apart = [Part("apart", [", ", *_on_strongest(latent)])] if is_told else []
        return Name([name, *apart], [name, _f1(label.f1, "label "), *apart], label.f1)
    if kind == "nothing":
        if not latent.fires:
            return Name([_muted("It never fired.")], [_muted("It never fired.")])
        return Name([_muted("No label fits.")], [_muted("No label describes where it fires.")])
    if kind == "senses":
        return Name(_senses_in_brief(latent.senses), _senses_in_title(latent), _smaller_f1(latent.senses[:2]))
    if kind == "words" and latent.whole:
        named: Segments = [_any_of(latent.whole.tokens), " ", *_in_whole(latent.whole), *_in_kind(latent, NEARLY_ALL)]
        return Name(named, [*named, _f1(latent.whole.f1)], latent.whole.f1)
    if kind in ("shared", "tokens"):
        named, on = _on_shared(latent) if kind == "shared" else _on_commonest(latent)
        f1 = latent.tokens.f1_of(on)
        return Name(named, [*named, _f1(f1, "tokens ")], f1)
    after = _in_kind(latent) if latent.rule.needs_kind else []
    if latent.whole is not None and list(latent.whole.tokens) == latent.rule.listed:
        after += [", ", *_in_whole(latent.whole)]
    elif not latent.rule.tells_around or (latent.rule.f1 or 0) < WEAK_F1:
        after += _most_strongly(latent, latent.rule.segments)
    if each := _each_of_list(latent):
        return Name([*each, *after], [*each, *after, _f1(latent.rule.f1)], latent.rule.f1)
    after = [*_beside_rule(latent), *after]
    return Name([RULE, *after], _rule_in_words(latent.rule, RULE, after), latent.rule.f1)


def _each_of_list(latent: LatentFacts) -> Segments:
    """Return the tokens of a rule that is a list, those with a name in common together, and each token that it leaves
    out although the latent often fires on it, with their shares of the firings; nothing for any other rule, and where
    that is only one."""
    rule, tokens = latent.rule, latent.tokens
    if rule.is_weak or not rule.listed:
        return []
    share_of = dict(zip(tokens.texts, tokens.shares, strict=False))
    unlisted = [text for text in tokens.texts if text not in rule.listed]
    others = [text for text in unlisted if share_of[text] >= MUCH_BESIDE]
    told: list[tuple[Segments, Sequence[Token]]] = [([latent.reader.token(text)], [Token(text)]) for text in others]
    for one in rule.segments:
        named = [group for group in one.groups if group.name] if isinstance(one, TokenList) else []
        told += [([TokenList((group,))], group.tokens) for group in named]
        told += [([token], [token]) for token in tokens_of([one]) if not any(token in group.tokens for group in named)]
    units = [(Part("rule", words), sum(share_of.get(token.text, 0) for token in own)) for words, own in told]
    known = [unit for unit in units if unit[1] > 0]  # the page has the shares of the commonest tokens alone
    further = unlisted[len(others) :][:N_BESIDE]
    return _with_shares(known, [_any_of(further, latent)] if further else []) if len(known) > 1 else []


def _beside_rule(latent: LatentFacts) -> Segments:
    """Return the share of the firings that a rule of tokens holds at, if it misses many, and the tokens that its list
    leaves out although it often fires on them, each with its share."""
    rule, tokens = latent.rule, latent.tokens
    if rule.has_main_token:
        return _share(min(tokens.shares[0], 1 if rule.recall is None else rule.recall))
    first = rule.clauses[0].atom
    if first is None or not rule.names_tokens:
        return []
    commonest = zip(tokens.texts, tokens.shares, strict=False)
    others = [(token, share) for token, share in commonest if share >= MUCH_BESIDE and token not in first.tokens]
    if first.kind != "token":
        others = []
    is_told = rule.recall is not None and bool(others or (rule.f1 or 0) < WEAK_F1)
    parts: Segments = [*(_share(rule.recall or 0) if is_told else [])]
    for token, share in others[:N_BESIDE]:
        parts += [", ", _any_of([token], latent), *_share(share)]
    return parts


def _in_kind(latent: LatentFacts, least: float = 0) -> Segments:
    """Return the kind of text in which all or most of its firings are; nothing if their share is below `least`."""
    kind = latent.kind
    if kind is None or kind.share < least:
        return []
    return [f", {'mostly ' if kind.share < NEARLY_ALL else ''}in {kind.name}"]


def _in_whole(whole: WholeWords) -> Segments:
    """Return the words in whose pieces it fires, with the share of its firings there."""
    return ["in ", _any_of(whole.words), *_share(whole.share)]


def _any_of(texts: Sequence[str], latent: LatentFacts | None = None) -> Part:
    tokens = [Token(text) if latent is None else latent.reader.token(text) for text in texts]
    return Part("rule", list(join_with_or([(token,) for token in tokens])))


def _on_shared(latent: LatentFacts) -> tuple[Segments, Sequence[str]]:
    """Return what its firings share, with the part of them at which it holds, and the tokens if it is these."""
    shared = latent.shared[0].atom
    if shared is not None and shared.subject == TOPIC and latent.kind is not None:
        return [*_on_strongest(latent), *_in_kind(latent)], ()
    share = float(latent.shared_share)
    on = shared.tokens if shared is not None and shared.kind == "token" else []
    if on:
        share = latent.tokens.share_of(on)
    if share < MUCH_OF_SHARED:
        return [*_on_strongest(latent), *_in_kind(latent)], ()
    named = Part("rule", segments_of(latent.shared))
    told: Segments = [named, *_share(share)]
    return [*told, *_in_kind(latent), *_most_strongly(latent, told)], on


def _on_strongest(latent: LatentFacts) -> Segments:
    """Return the tokens of its strongest firings, and what else these have in common."""
    few = list(dict.fromkeys(latent.tokens.strongest))[:N_STRONGEST_NAMED]
    in_common = latent.shared_by_strongest
    return [_muted(MOST_STRONGLY), _any_of(few, latent), *([" ", *in_common] if in_common else [])]


def _most_strongly(latent: LatentFacts, told: Segments) -> Segments:
    """Return what its strongest firings alone have in common; nothing after what is long, or tells it."""
    in_common = latent.shared_by_strongest
    is_told = {token.text for token in tokens_of(in_common)} & {token.text for token in tokens_of(told)}
    if is_told or to_text(in_common) in to_text(told) or len(to_text(told)) > LONG_RULE:
        return []
    return [Part("apart", [", ", _muted(MOST_STRONGLY), *in_common])]


def _rule_in_words(rule: RuleFacts, words: Part, after: Segments | None = None) -> Segments:
    """Return the rule with its F1, and how many of the strongest firings it misses. after: what else it fires on."""
    shown = Part("weak", [NEAREST, words]) if rule.is_weak else words
    misses = rule.is_past_strongest() and not rule.is_weak
    but = f", but true of {format_percent(rule.at_strongest or 0)} of its strongest firings"
    return [shown, *(after or []), _f1(rule.f1), *([_small(but)] if misses else [])]


def _on_commonest(latent: LatentFacts) -> tuple[Segments, Sequence[str]]:
    """Return the tokens on which it fires most, each with its share of the firings, and these again as text; those of
    its strongest firings, if these are not MOST of its firings, or if others are the strongest."""
    tokens = latent.tokens
    if not tokens.texts:
        return [_muted(NO_RULE)], ()
    if not latent.is_on_few:
        return [*_on_strongest(latent), *_in_kind(latent)], ()
    alike: dict[str, list[str]] = {}
    for token in tokens.texts[:N_LISTED]:  # parts of characters that are alike are told together
        family = latent.reader.family(token)
        alike.setdefault(token if family is None else family.name, []).append(token)
    units: list[tuple[Part | str, float]] = []
    for name, own in alike.items():
        is_one = len({token.strip() for token in own}) == 1  # the same with and without a space
        words = _any_of([min(own, key=len)], latent) if is_one else f"{name}{latent.reader.letters(own)}"
        units.append((words, tokens.share_of(own)))
    n_common = sum(token in tokens.texts[:N_LISTED] for token in tokens.strongest)
    are_strongest = n_common >= MOST * len(tokens.strongest)
    named = [*_with_shares(units), *_in_kind(latent)]
    if are_strongest:
        named += _most_strongly(latent, named)
    elif tokens.share_of(tokens.strongest) >= MUCH_ON_TOKENS:
        named.append(Part("apart", ["; ", *_on_strongest(latent)]))
    return named, [token for own in alike.values() if tokens.share_of(own) >= MUCH_ON_A_TOKEN for token in own]


def _with_shares(units: Iterable[tuple[Part | str, float]], others: Sequence[Part] = ()) -> Segments:
    """Return some tokens, each with its share of the firings, if that is much; and, if these are not MOST of them, that
    there are others, with examples."""
    by_share = sorted(units, key=lambda unit: unit[1], reverse=True)
    told = [by_share[0], *(unit for unit in by_share[1:] if unit[1] >= MUCH_ON_A_TOKEN)]
    named = [part for words, share in told for part in (", ", words, *_share(share))][1:]
    if sum(share for _, share in told) >= MOST:
        return named
    return [*named, _muted(" and others"), *([Part("small", [" such as ", *others])] if others else [])]


def _senses_in_brief(senses: Sequence[SenseFacts]) -> Segments:
    named, others = _named_senses(senses)
    of_no_sense = _share_of_no_sense(senses)
    parts = [("senses", named), *([("more_senses", others)] if others else [])]
    return [
        *(Part(kind, [[segments_of(one.clauses), one.share, one.f1] for one in some]) for kind, some in parts),
        *([Part("no_sense", round(of_no_sense, 3))] if of_no_sense >= MUCH_OF_NO_SENSE else []),
    ]


def _senses_in_title(latent: LatentFacts) -> Segments:
    """Return what it fires on in each sense that has much of its activation, and how much the others and none have."""
    out: Segments = []
    named, others = _named_senses(latent.senses)
    if len(latent.senses) <= MANY_SENSES:
        named, others = latent.senses, []
    for k, sense in enumerate(named):
        own: Segments = [Part("of_sense", k)] if sense.clauses else _on_strongest(replace(latent, tokens=sense.tokens))
        numbers = [] if sense.share is None else [f"{format_percent(sense.share)} of activation"]
        numbers += [] if sense.f1 is None else [f"F1 {sense.f1:.2f}"]
        out.append(Part("sense", [k, [*own, *([_small(f"\u00a0{', '.join(numbers)}")] if numbers else [])]]))
    of_no_sense = _share_of_no_sense(latent.senses)
    rest = [(f"{len(others)} more senses", sum(one.share or 0 for one in others))] if others else []
    rest += [("of no sense", of_no_sense)] if of_no_sense >= MUCH_OF_NO_SENSE else []
    return out + [
        Part("rest", [_muted(f"{words}\u00a0"), _small(f"{format_percent(share)} of activation")])
        for words, share in rest
    ]


def _smaller_f1(senses: Sequence[SenseFacts]) -> float | None:
    f1 = [sense.f1 for sense in senses if sense.f1 is not None]
    return min(f1) if len(f1) == len(senses) else None


def _share_of_no_sense(senses: Sequence[SenseFacts]) -> float:
    """Return the share of the activation that is of no sense; NaN if that is not known."""
    return 1 - sum(float("nan") if sense.share is None else sense.share for sense in senses)


def _named_senses(senses: Sequence[SenseFacts]) -> tuple[Sequence[SenseFacts], Sequence[SenseFacts]]:
    """Return the senses that a caption names, and the others, in the order of their shares: a single one takes no more
    room than its number."""
    n = max(1, sum(sense.share is None or sense.share >= MUCH_OF_A_SENSE for sense in senses))
    n = len(senses) if n + 1 == len(senses) else n
    return senses[:n], senses[n:]


def _share(share: float) -> Segments:
    """Return the share of the firings of what is named before it, if that is not NEARLY_ALL of them."""
    return [_small(f" {format_percent(share)}")] if share < NEARLY_ALL else []


def _f1(f1: float | None, before: str = "") -> Part:
    return Part("f1", (f1, before))


def _muted(words: str) -> Part:
    return Part("muted", [words])


def _small(words: str) -> Part:
    return Part("small", [words])
