"""Word what each latent fires on, in a line, as segments (`display.segments`) that the page draws.

`naming` decides what that is. The kinds of parts:

    rule         the latent's own rule (0), or what else names it
    label        the label that names it
    apart        in which longer words one token stands, or what tells its strongest firings from the others
    muted        what is said where there is no clear rule
    senses       [what names it, share of the activation, F1] of each sense that is told
    more_senses  the same of the others

In: `LatentFacts`. Out: JSON.
"""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from interp.display.segments import (
    LIKE,
    SEPARATORS,
    Part,
    Segments,
    Token,
    TokenList,
    name_of_letter,
    to_json,
    to_text,
    tokens_of,
)
from interp.report.naming import N_LISTED, LatentFacts, Name, name_of
from interp.report.short_names import short_name
from interp.text.short_rules import Clause, merge_words, segments_of

NO_CLEAR_RULE = "no clear rule; "


class Caption(NamedTuple):
    rule: list
    """The latent's rule, simplified, without the label that names the latent."""
    head: str
    """What that says first, which tells a search what the latent fires on, and not where."""
    brief: list | None
    """What names the latent; None if that is its rule alone."""
    text: str
    """The same as text."""
    short: list
    """The same in few letters (`short_names`)."""
    short_text: str
    """That as text."""
    measured: list | None
    """Its rule as its F1 was measured, if that is not `rule`; else None."""
    f1: float | None
    """That of what names it, or the smaller one of its first two senses; None if it or one of these has none."""
    named_by: str | None
    """What kind of description names it (`naming.Kind`), or "senses"; None where none holds."""
    senses: list[tuple[str, list[str]]]
    """Each sense in few letters, with the tokens that it lists; a latent without senses has one."""


def caption_of(latent: LatentFacts, *, is_taken: bool = False) -> Caption:
    """Return the caption of a latent. is_taken: `naming.name_of`."""
    name = name_of(latent, is_taken=is_taken)
    senses = [] if name.kind == "label" else [(name_of(sense), sense.share) for sense in latent.senses]
    clauses = _beside_label(latent.rule, to_text(name.segments)) if name.kind == "label" else latent.rule
    measured = latent.measured or (None if clauses == latent.rule else latent.rule)
    names = [sense for sense, _ in senses] or [name]
    known = [one.f1 for one in names[:2] if one.f1 is not None]
    short = short_name([[*one.segments, *_beyond(one)] for one in names])
    more = f" and {len(names) - N_LISTED} more" if len(names) > N_LISTED else ""
    return Caption(
        rule=to_json(segments_of(clauses)),
        head=clauses[0].head if clauses else "",
        brief=to_json(_senses(senses)) if senses else _brief(name),
        text="; ".join(_text(one) for one in names[:N_LISTED]) + more,
        short=to_json(short),
        short_text=to_text([*short[0].content[1], *short[1:]] if isinstance(short[0], Part) else short),
        measured=to_json(segments_of(measured)) if measured else None,
        f1=min(known) if len(known) == len(names[:2]) else None,
        named_by="senses" if senses else name.kind,
        senses=[
            (
                to_text(short_name([[*one.segments, *_beyond(one)]])),
                [] if one.kind == "label" else list(first_listed(one.segments)),
            )
            for one in names
        ],
    )


def first_listed(name: Segments) -> Iterator[str]:
    """Yield the tokens that a name lists, up to where it says something else."""
    for one in name:
        if isinstance(one, Token | TokenList):
            yield from (token.text for token in tokens_of([one]))
        elif one not in (*SEPARATORS, LIKE):
            return


def _brief(name: Name) -> list | None:
    if name.kind == "rule":
        return to_json([Part("rule", 0), *_apart(name)]) if name.after or name.beyond else None
    if name.kind == "label":
        return to_json([Part("label", to_text(name.segments)), *_apart(name)])
    if name.is_unclear:
        return to_json([Part("muted", [NO_CLEAR_RULE, Part("rule", name.segments)]), *_apart(name)])
    return to_json([Part("rule", name.segments), *_apart(name)])


def _text(name: Name) -> str:
    """Return a name as text. A letter that is all of it stands with what it is called, as many look alike."""
    words = [NO_CLEAR_RULE if name.is_unclear else "", *name.segments]
    match name.segments:
        case [Token() as token] if letter := name_of_letter(token.text):
            words.append(f" ({letter})")
    return to_text([*words, *_apart(name)])


def _beyond(name: Name) -> Segments:
    return merge_words([", ", *name.beyond]) if name.beyond else []


def _apart(name: Name) -> Segments:
    parts = [_beyond(name), [", most strongly ", *name.after] if name.after else []]
    return [Part("apart", part) for part in parts if part]


def _senses(senses: Sequence[tuple[Name, float | None]]) -> Segments:
    told = [[name.segments, share, name.f1] for name, share in senses]
    more = [Part("more_senses", told[N_LISTED:])] if told[N_LISTED:] else []
    return [Part("senses", told[:N_LISTED]), *more]


def _beside_label(rule: Sequence[Clause], label: str) -> Sequence[Clause]:
    """Return what a rule says beside the label that names the latent."""
    if all(one.is_of_label for one in rule):
        return []
    return [one for one in rule if one.segments != [f"in {label}"]]
