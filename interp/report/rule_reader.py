"""Show the rules of latents and of their senses in short, and name the parts of characters in them.

In: rules of a ranking, the commonest tokens of its latents, and the characters of which tokens hold parts. Out: clauses
(`text.short_rules`), and the senses with their rules in segments.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any

from interp.display.segments import (
    LIKE,
    SEPARATORS,
    Segment,
    Segments,
    Token,
    TokenGroup,
    TokenList,
    family_of,
    map_tokens,
    to_json_text,
)
from interp.features.feature_store import FeatureStore
from interp.report.byte_words import ByteReader, byte_readers, script_of
from interp.report.short_names import shortened
from interp.report.verdict_evidence import described_by, is_described_by_rule
from interp.text.predicate_kinds import LABEL, SUBJECT
from interp.text.rules import Atom, Rule
from interp.text.short_rules import Clause, clauses_of, segments_of
from interp.text.vocabulary import Wording

NEARLY_ALL = 0.9
"""Share of the firings on tokens of one family from which on a rule names this."""
MAX_MAIN = 2
"""Tokens that stand before what is around them in the rule of a sense."""
OFFSETS = {SUBJECT: 0, "token -1": -1, "token 1": 1}
"""Subjects whose tokens are counted, and where these stand."""


class RuleReader:
    """Shows the rules of a ranking in short, and names parts of characters by those that stand where the latent
    fires."""

    def __init__(
        self,
        features: FeatureStore,
        commonest: Sequence[Sequence[str]],
        characters: Mapping[str, tuple[Sequence[str], Sequence[str]]],
        label_names: Mapping[str, str] = MappingProxyType({}),
    ) -> None:
        """commonest: the tokens on which each latent fires most. characters: `characters_of_parts`. label_names: what
        each label is called."""
        self.characters = characters
        self.called = {label.replace("_", " "): name for label, name in label_names.items()}
        self.scripts = {j: script for j, tokens in enumerate(commonest) if (script := script_of(tokens))}
        self.readers = byte_readers(features, characters, self.scripts) if features.has_text else {}
        self.counts = _token_counts(features) if features.has_text else {}

    def bytes_of(self, latent: int) -> ByteReader:
        return self.readers.get(latent) or ByteReader({}, self.characters, self.scripts.get(latent))

    def __call__(self, latent: int, rule: Rule | Atom, strongest: Sequence[str] = ()) -> list[Clause]:
        """Return a rule of a latent in short, or a predicate that describes it. Parts of characters are named
        in words. strongest: the tokens of the strongest firings, which stand first."""
        bytes_ = self.bytes_of(latent)

        def shown(atom: Atom) -> Atom:
            return self._in_order(latent, self._called(atom), strongest)

        atoms = shown(rule) if isinstance(rule, Atom) else tuple(map(shown, rule))
        clauses = clauses_of(atoms, lambda token: bytes_.family(token) or family_of(token))
        if clauses and clauses[0].atom is None:
            clauses[0] = Clause(None, [self._noun(latent, bytes_)])
        named = [[_name_parts_alone(one, bytes_) for one in clause.segments] for clause in clauses]
        read = [map_tokens(segments, lambda token: bytes_.token(token.text)) for segments in named]
        return [clause._replace(segments=segments) for clause, segments in zip(clauses, read, strict=True)]

    def tokens(self, latent: int, texts: Sequence[str]) -> Segments:
        """Return a list of tokens; those that differ in the space before them stand there once, without it."""
        shortest = {text.strip() or text: text for text in sorted(texts, key=len, reverse=True)}
        told = dict.fromkeys(shortest[text.strip() or text] for text in texts)
        return segments_of(self(latent, Atom("token", (), tuple((Token(text),) for text in told))))

    def _noun(self, latent: int, bytes_: ByteReader) -> str:
        """Return what nearly all tokens are on which a latent fires: "numbers"."""
        of_family = Counter[str]()
        for token, n in self.counts.get((latent, 0), {}).items():
            family = bytes_.family(token) or family_of(token)
            of_family[family.name if family else "tokens" if token.strip() else "white space"] += n
        (name, n), *_ = of_family.most_common(1) or [("tokens", 0)]
        return name if n >= NEARLY_ALL * of_family.total() else "tokens"

    def _called(self, atom: Atom) -> Atom:
        """Return an atom with labels by what they are called."""
        if atom.kind != LABEL:
            return atom
        called = [self.called.get(str(words), str(words)) for (words,) in atom.names]
        wide = [name for name in called if not any(name.startswith(f"{other} ") for other in called)]
        return atom._replace(names=tuple((name,) for name in wide))

    def _in_order(self, latent: int, atom: Atom, strongest: Sequence[str]) -> Atom:
        """Return an atom with those of its tokens first that most of the strongest firings have, then most of all."""
        counts = self.counts.get((latent, OFFSETS.get(atom.subject)), {})
        is_list = all(isinstance(one, Token) or one in (LIKE, *SEPARATORS) for name in atom.names for one in name)
        if not is_list or len(atom.values) != len(atom.names):
            return atom
        n_strongest = Counter(strongest if atom.subject == SUBJECT else ())

        def n(token: Token) -> tuple[int, int]:
            return n_strongest[token.text], counts.get(token.text, 0)

        def of_name(name: Wording) -> list[Token]:
            return sorted((one for one in name if isinstance(one, Token)), key=n, reverse=True)

        def sorted_name(name: Wording) -> Wording:
            tokens = iter(of_name(name))
            return tuple(next(tokens) if isinstance(one, Token) else one for one in name)

        pairs = sorted(zip(atom.values, atom.names, strict=True), key=lambda one: n(of_name(one[1])[0]), reverse=True)
        values, names = zip(*pairs, strict=True)
        return atom._replace(values=values, names=tuple(map(sorted_name, names)))

    def of_sense(self, latent: int, sense: Mapping[str, Any], rule: Rule | Atom) -> list[Clause]:
        """Return the rule of a sense, or what its firings have in common, with the tokens of its strongest firings:
        first in a list, or before what is around where these are one or two, each of several firings."""
        fires_on = sense["fires_on"]
        n = Counter(fires_on)
        is_on_few = len(n) <= MAX_MAIN and min(n.values(), default=0) > 1
        atoms = (rule,) if isinstance(rule, Atom) else rule
        return self(latent, (with_main_tokens(atoms, list(n)) if is_on_few else None) or rule, fires_on)


def senses_in_segments(
    senses: Mapping[int, Sequence[Mapping[str, Any]]], read: RuleReader
) -> dict[int, list[dict[str, Any]]]:
    """Return the senses with what is said of each as the JSON of segments: its `rule`, and what its firings have in
    `common`. Where the rule does not hold, the first of these describes the sense; `short`: what describes it, in few
    letters."""
    return {
        latent: [
            {
                **{name: value for name, value in one.items() if name not in ("fires_on", "strongest")},
                "rule": to_json_text(segments_of(read.of_sense(latent, one, one["rule"]))),
                "common": to_json_text([segments_of(read.of_sense(latent, one, atom)) for atom in one["common"]]),
                "short": to_json_text(shortened(segments_of(read.of_sense(latent, one, described_by(one))))),
                "holds": is_described_by_rule(one),
            }
            for one in of_latent
        ]
        for latent, of_latent in senses.items()
    }


def _token_counts(features: FeatureStore) -> dict[tuple[int, int | None], dict[str, int]]:
    """Return how often the commonest tokens stand before, on and after the firings of each latent: (latent, offset) →
    token → count."""
    tokens = features.sql('select latent, "offset", token, n from tokens where "offset" between -1 and 1')
    counts: dict[tuple[int, int | None], dict[str, int]] = {}
    for latent, offset, token, n in tokens.itertuples(index=False, name=None):
        counts.setdefault((latent, offset), {})[features.vocab[token]] = n
    return counts


def with_main_tokens(rule: Rule, texts: Sequence[str]) -> Rule | None:
    """Return a rule of what is around tokens with those on which its latent fires; None for a rule that names
    tokens, or tells nothing of what is around."""
    around = tuple(atom for atom in rule if atom.subject != SUBJECT)
    names_tokens = any(not atom.subject or (atom.subject == SUBJECT and atom.tokens) for atom in rule)
    return None if names_tokens or not around else (Atom("token", (), tuple((Token(text),) for text in texts)), *around)


def _name_parts_alone(one: Segment, bytes_: ByteReader) -> Segment:
    """Return a list with its parts of characters named by what they are parts of, in the place of boxes."""
    if not isinstance(one, TokenList):
        return one

    def named(group: TokenGroup) -> TokenGroup:
        letters = bytes_.letters([token.text for token in group.tokens])
        return group._replace(name=f"{group.name}{letters}", n_shown=0)

    groups = (named(group) if group.parts_of else group for group in one.groups)
    return one._replace(groups=tuple(groups))
