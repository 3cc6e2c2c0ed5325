"""Word the caption of each latent: what it fires on, in a line, as segments (`display.segments`) that the page draws.

A latent is named by a label of the text that detects its firings, by the rule of each of its senses, by the whole words
of which its tokens are pieces, by these tokens, or by its rule (`naming`). The kinds of parts, beside the classes of
style "muted", "small", "weak", "vague", "pieces" and "apart":

    rule         the latent's own rule (0), or segments: tokens in quotes, lists in short
    chip         a token on its own
    commonest    the tokens on which it fires most, each with its share: [its index in the page's list of them], with
                 the token if it has parts of characters
    label        [name, whether it is a good one]
    f1           [F1, words before]
    senses       [rule, share of the activation, F1] of each sense that has much of it, the rule [] where none holds
    more_senses  the same of the others
    no_sense     the share of the activation that is of no sense
    sense        [number of the sense, segments]
    of_sense     what describes the sense of this number, on the page of its latent

In: `LatentFacts`. Out: JSON.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple

from interp.display.segments import Family, Part, Segments, Token, to_json, to_text, tokens_of
from interp.report.json_text import format_percent
from interp.report.naming import (
    GOOD_F1,
    MOST,
    N_LISTED,
    NEARLY_ALL,
    Kind,
    LatentFacts,
    RuleFacts,
    SenseFacts,
    Surroundings,
    kind_of_name,
)
from interp.report.page_names import caption_text
from interp.report.whole_words import WholeWords
from interp.text.predicate_kinds import LABEL, SUBJECT
from interp.text.short_rules import Clause, segments_of
from interp.text.vocabulary import join_with_or

MUCH_OF_NO_SENSE = 0.1
"""Share of the activation from which on it is told that this is of no sense."""
MUCH_OF_A_SENSE = 0.15
"""Share of the activation from which on a sense is told, and not only counted."""
MUCH_ON_A_TOKEN = 0.05
"""Share of the firings of each token that is told, where these are MOST of the firings together."""
RARE_TOKEN = 0.01
"""Share of the firings below which no other token is told behind the first."""
NEARLY_NONE = 0.005
"""Share of the strongest firings below which a rule does not stand below the title."""
MUCH_BESIDE = 0.1
"""Share of the firings on a token from which on it is told that a rule leaves it out."""
N_BESIDE = 2
"""Number of such tokens that are told."""
WEAK_F1 = 0.6
"""F1 below which a name says that its rule tells only a part of the firings, or fails at a part of its tokens."""
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
    """What names it in a table, a list or the map; None if that is its rule."""
    title: list
    """What names it on its own page, which knows its strongest firings, and tells below what it raises."""
    below: list | None
    """Its rule for the line below the title; None if the title has all of it or its tokens, or if it holds at none of
    the strongest firings."""
    measured: list | None
    """Its rule as its F1 was measured, if that is not `rule`; else None."""
    f1: float | None
    """That of the label, rule or whole words that name it, or the smaller one of its first two senses; None for tokens,
    or if one of these senses has none."""


class Name(NamedTuple):
    """What names a latent: in brief, as the title of its own page, and how well that describes it."""

    brief: Segments
    title: Segments
    f1: float | None = None


def captions_of(latents: Sequence[LatentFacts]) -> list[Caption]:
    """Return the caption of each latent; of those with the same name with what tells them apart."""
    captions = [caption_of(replace(latent, raises=())) for latent in latents]
    names = [
        caption_text(one.brief or to_json([RULE]), {"rule": one.rule, "tokens": latent.tokens.texts})
        for latent, one in zip(latents, captions, strict=True)
    ]
    n_alike = Counter(names)
    return [
        caption_of(latent) if n_alike[name] > 1 else caption
        for latent, name, caption in zip(latents, names, captions, strict=True)
    ]


def caption_of(latent: LatentFacts) -> Caption:
    """Return the caption of a latent, with what tells it from others."""
    rule = latent.rule
    kind = kind_of_name(latent)
    name = _name(kind, latent)
    says_label = kind == "label" and all(one.is_of_label for one in rule.clauses)
    beside = _beside_label(latent) if kind == "label" else rule.clauses
    repeats = (
        says_label
        or _repeats_words(kind, latent)
        or (kind != "label" and bool(rule.listed) and set(rule.listed) <= set(latent.tokens.texts))
    )
    fails = not rule.is_weak and rule.is_past_strongest(NEARLY_NONE)
    measured = rule.measured or (None if beside == rule.clauses else rule.clauses)
    is_below = rule.clauses and kind not in ("senses", "rule") and not repeats and not fails
    return Caption(
        rule=to_json(segments_of(beside)),
        head=beside[0].head if beside else "",
        brief=None if name.brief == [RULE] else to_json(name.brief),
        title=to_json(name.title),
        below=to_json(_rule_in_words(rule, RULE if beside == rule.clauses else _whole(rule))) if is_below else None,
        measured=to_json(segments_of(measured)) if measured else None,
        f1=name.f1,
    )


def _repeats_words(kind: Kind, latent: LatentFacts) -> bool:
    """Return whether the rule only tells what stands beside the pieces of the words that name the latent: " str" before
    "ange"."""
    rule, whole = latent.rule, latent.whole
    if kind != "words" or whole is None or (rule.f1 or 0) > whole.f1:
        return False
    atoms = [one.atom for one in rule.clauses if one.atom is not None]
    is_of_words = all(atom.subject in (SUBJECT, "token -1", "token 1") for atom in atoms)
    on = [set(atom.tokens) for atom in atoms if atom.subject == SUBJECT]
    return is_of_words and on == [set(whole.tokens)]


def _beside_label(latent: LatentFacts) -> Sequence[Clause]:
    """Return what the rule says beside the label that names the latent."""
    clauses = latent.rule.clauses
    if latent.label is None or all(one.is_of_label for one in clauses):
        return []
    return [one for one in clauses if one.segments != [f"in {latent.label.name}"]]


def _name(kind: Kind, latent: LatentFacts) -> Name:
    f1 = latent.rule.f1
    apart = _apart(latent.raises)
    if kind == "label" and latent.label:
        label = latent.label
        named = Part("label", (label.name, (label.f1 or 0) >= GOOD_F1))
        second = [_muted(f", and some {label.second}")] if label.second else []
        return Name([named, *apart], [named, *second, _f1(label.f1, "label ")], label.f1)
    if kind == "nothing":
        if not latent.fires:
            return Name([_muted("It never fired.")], [_muted("It never fired.")])
        return Name([_muted("No label fits.")], [_muted("No label describes where it fires.")])
    if kind == "senses":
        return Name(_senses_in_brief(latent.senses), _senses_in_title(latent), _smaller_f1(latent.senses[:2]))
    if kind == "words" and latent.whole:
        pieces = _in_pieces(latent.whole, latent.kind)
        return Name([pieces, *apart], [pieces, _f1(latent.whole.f1)], latent.whole.f1)
    if kind == "shared":
        shared = Part("vague", _on_shared(latent))
        return Name([shared, *apart], [shared])
    if kind == "tokens":
        title = [*_on_commonest(latent, is_title=True), *_most_strongly(latent)]
        return Name([Part("vague", _on_commonest(latent)), *apart], [Part("vague", title)])
    before, after = _before_rule(latent), [*_mostly_in(latent), *_beside_rule(latent)]
    return Name([*before, RULE, *after, *apart], [*before, *_rule_in_words(latent.rule, RULE), *after], f1)


def _before_rule(latent: LatentFacts) -> Segments:
    """Return "mostly" where its rule tells the token on which MOST of its firings are; else how much of its firings a
    weak rule tells, and the kind of text, if the rule tells neither that nor more than half of them, or no token."""
    rule, kind = latent.rule, latent.kind
    if rule.has_main_token:
        return [_muted("mostly ")] if latent.tokens.shares[0] < NEARLY_ALL else []
    if rule.f1 is None:
        return []
    is_told = any(one.atom is not None and one.atom.kind == LABEL for one in rule.clauses)
    is_told |= kind is not None and kind.name.lower() in to_text(rule.segments).lower()
    says_mostly = (
        kind is not None and kind.share < NEARLY_ALL and [kind.words] in [one.segments for one in rule.clauses]
    )
    part = "" if says_mostly else _part_told(rule)
    is_apart = kind is not None and kind.label is not None and (rule.f1 < GOOD_F1 or not rule.names_tokens)
    before = f"{kind.words}{',' if part else ':'} " if kind is not None and is_apart and not is_told else ""
    return [_muted(before + part)] if before + part else []


def _part_told(rule: RuleFacts) -> str:
    """Return how much a rule tells that names tokens: "mostly", if most of the firings; "often", if fewer; "some", if
    nearly all, and these are less than half of what it tells. Of tokens without a name the rule says it itself."""
    if (rule.f1 or 0) >= WEAK_F1 or not rule.names_tokens or rule.recall is None or rule.precision is None:
        return ""
    if rule.recall >= NEARLY_ALL:
        return "some " if rule.precision < MOST else ""
    return "mostly " if rule.recall >= MOST else "often "


def _beside_rule(latent: LatentFacts) -> Segments:
    """Return the tokens that its rule, which lists others, leaves out although it often fires on them."""
    first = latent.rule.clauses[0].atom
    if first is None or first.kind != "token" or latent.rule.has_main_token:
        return []
    commonest = zip(latent.tokens.texts, latent.tokens.shares, strict=False)
    others = [(token, share) for token, share in commonest if share >= MUCH_BESIDE and token not in first.tokens]
    parts: Segments = []
    for token, share in others[:N_BESIDE]:
        parts += [f",{'' if parts else ' and'} {format_percent(share)} on ", latent.reader.token(token)]
    return [Part("small", parts)] if parts else []


def _in_pieces(whole: WholeWords, kind: Surroundings | None) -> Part:
    """Return the pieces on which it fires with the words that have them, and the kind of text if that is nearly always
    the same: "uf" in "Yusuf"."""
    of_kind = [_muted(f", {kind.words}")] if kind is not None and kind.share >= NEARLY_ALL else []
    return Part("pieces", [_any_of(whole.tokens), *_in_whole(whole, is_of_most=whole.share < NEARLY_ALL), *of_kind])


def _mostly_in(latent: LatentFacts) -> Segments:
    """Return the words in which it mostly fires, if its rule is a piece of them."""
    whole = latent.whole
    if whole is None or latent.rule.listed != list(whole.tokens):
        return []
    return [Part("pieces", _in_whole(whole, is_of_most=True))]


def _in_whole(whole: WholeWords, *, is_of_most: bool) -> Segments:
    before = f"{', mostly' if is_of_most else ''} {'beginning' if whole.is_beginning else 'in'} "
    share = [_small(f" {format_percent(whole.share)}")] if is_of_most else []
    return [before, _any_of(whole.words), *share]


def _any_of(texts: Sequence[str]) -> Part:
    return Part("rule", list(join_with_or([(Token(text),) for text in texts])))


def _most_strongly(latent: LatentFacts) -> Segments:
    """Return the tokens of the strongest firings, if a few other tokens are those of MOST of its firings."""
    tokens = latent.tokens
    n_common = sum(token in tokens.texts[:N_LISTED] for token in tokens.strongest)
    is_told = n_common >= MOST * len(tokens.strongest)
    if is_told or sum(tokens.shares[:N_LISTED]) < MOST:
        return []
    return [_muted("; most strongly "), *_on_tokens(latent, tokens.strongest)]


def _on_shared(latent: LatentFacts) -> Segments:
    """Return what its firings share, in the kind of text in which they are."""
    kind = latent.kind
    if kind is not None and latent.shared[0].segments == [kind.words]:
        return [kind.words, _muted("; most strongly "), *_on_tokens(latent, latent.tokens.strongest)]
    on = "on " if latent.shared[0].is_of_token else ""
    before = "mostly " if kind is None or kind.label is None else f"{kind.words}, "
    return [_muted(f"{before}{on}"), Part("rule", segments_of(latent.shared))]


def _whole(rule: RuleFacts) -> Part:
    return Part("rule", segments_of(rule.clauses))


def _rule_in_words(rule: RuleFacts, words: Part) -> Segments:
    """Return the rule with its F1, and how many of the strongest firings it misses."""
    shown = Part("weak", [NEAREST, words]) if rule.is_weak else words
    misses = rule.is_past_strongest() and not rule.is_weak
    but = f", but true of {format_percent(rule.at_strongest or 0)} of its strongest firings"
    return [shown, _f1(rule.f1), *([_small(but)] if misses else [])]


def _on_commonest(latent: LatentFacts, is_title: bool = False) -> Segments:
    """Return the tokens on which it fires most, each with its share of the firings, and how many more there are."""
    texts = latent.tokens.texts
    if not texts:
        return [_muted(NO_RULE)]
    if len(texts) == 1:
        return [_muted("only on "), *_chips(latent, texts, is_in_words=is_title)]
    kind = latent.kind if latent.kind is not None and latent.kind.label is not None else None
    is_all = len(texts) <= N_LISTED + 1  # the last one takes no more room than "and 1 more"
    listed = list(zip(texts, latent.tokens.shares, strict=True))[: None if is_all else N_LISTED]
    is_of_few = sum(share for _, share in listed) >= MOST
    much = [(token, share) for token, share in listed if share >= MUCH_ON_A_TOKEN]
    is_told_by_much = sum(share for _, share in much) >= MOST
    shown = much if is_told_by_much else [one for k, one in enumerate(listed) if one[1] >= RARE_TOKEN or k == 0]
    if not is_of_few:
        before = kind.words if kind else "no common rule"
        return [_muted(f"{before}; most strongly "), *_on_tokens(latent, latent.tokens.strongest)]
    before = f"{kind.words}, on " if kind else "mostly on "
    read = [latent.reader.token(token) for token, _ in shown]
    families = Counter[Family | None](latent.reader.family(token) for token, _ in shown)
    alike = [token for token, _ in listed if token.strip() == shown[0][0].strip()]
    share = sum(share for token, share in listed if token in alike)
    named: Segments
    if read[0].pieces and share >= MOST:  # one part of a character, with or without a space, in words
        named = [*_chips(latent, [min(alike, key=len)], is_in_words=True), _small(f" {format_percent(share)}")]
    else:
        named, alike = [], [token.text for token in read]
        alike_parts = [family for family, n in families.items() if family is not None and n > 1]
        for family in alike_parts:  # in the place of boxes, which tell little
            own = [(token, share) for token, share in listed if latent.reader.family(token) == family]
            letters = latent.reader.letters([token for token, _ in own])
            named += [f"{family.name}{letters}", _small(f" {format_percent(sum(share for _, share in own))}"), " "]
        others = [token for token in read if latent.reader.family(token.text) not in alike_parts]
        chips = [[texts.index(token.text), *([token] if token.pieces else [])] for token in others]
        named = [*named, Part("commonest", chips)] if chips else named[:-1]
    n_more = latent.tokens.n_different - len(alike) if is_title else 0
    return [_muted(before), *named] + [_small(f" and {n_more:,} more")] * (n_more > 0)


def _senses_in_brief(senses: Sequence[SenseFacts]) -> Segments:
    named, others = _named_senses(senses)
    of_no_sense = _share_of_no_sense(senses)
    parts = [("senses", named), *([("more_senses", others)] if others else [])]
    return [
        *(Part(kind, [[segments_of(one.clauses), one.share, one.f1] for one in some]) for kind, some in parts),
        *([Part("no_sense", round(of_no_sense, 3))] if of_no_sense >= MUCH_OF_NO_SENSE else []),
    ]


def _senses_in_title(latent: LatentFacts) -> Segments:
    """Return what it fires on in each of its senses, and how much of the activation is of none."""
    out: Segments = []
    of_no_sense = _share_of_no_sense(latent.senses)
    for k, sense in enumerate(latent.senses):
        own: Segments = [Part("of_sense", k)] if sense.clauses else _on_tokens(latent, sense.strongest)
        unit = "" if k else " of activation"
        numbers = [] if sense.share is None else [f"{format_percent(sense.share)}{unit}"]
        numbers += [] if sense.f1 is None else [f"F1 {sense.f1:.2f}"]
        out.append(Part("sense", [k, [*own, *([_small(f"\u00a0{', '.join(numbers)}")] if numbers else [])]]))
    if of_no_sense >= MUCH_OF_NO_SENSE:
        out.append(Part("rest", [_muted("of no sense\u00a0"), _small(format_percent(of_no_sense))]))
    return out


def _smaller_f1(senses: Sequence[SenseFacts]) -> float | None:
    f1 = [sense.f1 for sense in senses if sense.f1 is not None]
    return min(f1) if len(f1) == len(senses) else None


def _share_of_no_sense(senses: Sequence[SenseFacts]) -> float:
    """Return the share of the activation that is of no sense; NaN if that is not known."""
    return 1 - sum(float("nan") if sense.share is None else sense.share for sense in senses)


def _named_senses(senses: Sequence[SenseFacts]) -> tuple[Sequence[SenseFacts], Sequence[SenseFacts]]:
    """Return the senses that a caption names, and the others. They are in the order of their shares."""
    n = max(1, sum(sense.share is None or sense.share >= MUCH_OF_A_SENSE for sense in senses))
    return senses[:n], senses[n:]


def _on_tokens(latent: LatentFacts, tokens: Sequence[str]) -> Segments:
    few = list(dict.fromkeys(tokens))[:N_STRONGEST_NAMED]
    if parts := latent.reader.alike(few):
        return [_muted("on "), parts]
    in_rule = tokens_of(latent.rule.segments)
    is_in_words = len(few) == 1 and not any(token.pieces and not token.is_in_words for token in in_rule)
    chips = _chips(latent, few, is_in_words)
    return [_muted("on "), *(part for k, chip in enumerate(chips) for part in ([" ", chip] if k else [chip]))]


def _chips(latent: LatentFacts, tokens: Sequence[str], is_in_words: bool = False) -> Segments:
    return [Part("chip", latent.reader.token(token, is_in_words)) for token in tokens]


def _apart(raises: Sequence[str]) -> Segments:
    """Return what tells a latent from others of the same name: tokens that it raises, of those that follow it."""
    tokens: Segments = []
    for k, token in enumerate(raises):
        tokens += [*([", "] if k else []), Token(token)]
    return [Part("apart", [", raises ", Part("rule", tokens), " of what follows"])] if tokens else []


def _f1(f1: float | None, before: str = "") -> Part:
    return Part("f1", (f1, before))


def _muted(words: str) -> Part:
    return Part("muted", [words])


def _small(words: str) -> Part:
    return Part("small", [words])
