"""Show one latent to a person: `Feature` has its statistics, its verdict and its strongest examples.

`print` writes it as text. A notebook shows a card: the title if the latent was named, the verdict and rule if it was
ranked, its token statistics, and examples whose tokens are shaded by the latent's activation. Stray bytes (⟨d7⟩) are
joined to the characters that they make. Text from the corpus is escaped. If the rows are not text, it shows the
pictures that the user's function draws.
"""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import pandas as pd

from interp.display.byte_parts import join_pieces, name_byte_parts
from interp.display.cards import (
    Markup,
    card,
    interval_mark,
    mark_line_ends,
    shade_text,
    show_rule,
    show_text,
    show_token,
    verdict_badge,
)
from interp.display.pictures import PNG_PREFIX, Renderer, picture_of
from interp.display.segments import Segments, to_text
from interp.display.verdict_looks import NO_RULE, verdict_words
from interp.features.logit_chance import chance_span
from interp.statistics.cutoffs import MIN_F1
from interp.text.short_rules import short_rule

_NO_LOGITS = "none beyond chance"
_N_PRINTED_EXAMPLES = 5
_PRINTED_TOKENS_AROUND = 10
"""Tokens on either side of a firing that a terminal shows."""


@dataclass(frozen=True)
class Feature:
    """A latent and the facts known about it. `print` and notebooks show them."""

    latent: int
    facts: pd.Series
    """The latent's row of the table `features`."""
    examples: pd.DataFrame
    """Its strongest firings, as rows of the table `examples`, the strongest first."""
    vocab: list[str]
    verdict: pd.Series | None = None
    """The latent's row of the ranking, if there is one."""
    name: pd.Series | None = None
    """The latent's row of a run's table of names, if there is one."""
    has_text: bool = True
    has_logits: bool = True
    """Whether `facts` has the latent's logit effects (`FeatureStore.has_logits`)."""
    render: Renderer | None = None
    """Draws a row that is not text (`FeatureStore.render`)."""

    def __repr__(self) -> str:
        return f"latent {self.latent}{f': {words}' if (words := self._title() or self._rule(to_text)) else ''}"

    def __str__(self) -> str:
        """Return lines for a terminal: what it fires on, its verdict, how often it fires, its logits, and its examples
        with the firing token in double brackets."""
        lines = [repr(self)]
        if rule := self._other_rule(to_text):
            lines.append(f"rule: {rule}")
        if self.verdict is not None:
            p = self.verdict["monosemanticity"]
            probability = "" if math.isnan(p) else f", one meaning {p:.2f}"
            lines.append(f"{verdict_words(str(self.verdict['verdict']))}{probability}")
        lines.append(self._firings())
        lines += [f"{name} logits: {' '.join(map(repr, tokens)) or _NO_LOGITS}" for name, tokens in self._logits()]
        lines += map(self._one_line, self.examples.head(_N_PRINTED_EXAMPLES).itertuples())
        return "\n".join(_replace_controls(name_byte_parts(line)) for line in lines)

    def _title(self) -> str:
        """Return its title with the F1 of that, if it was named."""
        if self.name is None:
            return ""
        f1 = self.name["f1"]
        return self.name["title"] + ("" if math.isnan(f1) else f" (F1 {f1:.2f})")

    def _other_rule(self, format_segments: Callable[[Segments], str]) -> str:
        """Return the rule where the title is another."""
        return self._rule(format_segments) if self._title() not in ("", self._rule(to_text)) else ""

    def _rule(self, format_segments: Callable[[Segments], str]) -> str:
        """Return what it fires on: its rule with the F1 if it was ranked, or the label that detects it if its rows are
        not text."""
        if self.verdict is not None:
            return rule_with_f1(self.verdict, format_segments)
        label = self.facts.get("best_label")
        is_told = bool(self.facts.n_active) and not self.has_text and isinstance(label, str)
        return format_segments([f"{label} (F1 {self.facts.best_label_f1:.2f})"]) if is_told else ""

    def _firings(self, show: Callable[[str], str] = repr) -> str:
        """Return how often and how strongly it fires, and its commonest token, which `show` draws."""
        if not self.facts.n_active:
            return "never fires"
        unit = "tokens" if self.has_text else "rows"
        fires = f"fires on {100 * self.facts.density:.2g}% of the {unit}, at most {self.facts['max']:.3g}"
        if not self.has_text:
            return fires
        token = show(self.vocab[self.facts.top_token])
        return f"{fires}, most often on {token} ({self.facts.top_token_share:.0%} of its firings)"

    def _one_line(self, example: Any) -> str:
        """Return an example with its firing token in double brackets; of rows that are not text, the row's number."""
        if not self.has_text:
            return f"{example.value:8.3g}  row {example.row}"
        position = example.row - example.start
        pieces = [self.vocab[token] for token in example.tokens]
        pieces[position] = f"⟦{pieces[position]}⟧"
        near = join_pieces(pieces[max(position - _PRINTED_TOKENS_AROUND, 0) : position + _PRINTED_TOKENS_AROUND + 1])
        return f"{example.value:8.3g}  {''.join(text for text, _ in near)}"

    def _logits(self) -> Iterator[tuple[str, list[str]]]:
        """Yield the tokens whose logits it raises and lowers most, without those that chance explains. Yields nothing
        if the scan has no logit effects."""
        if not self.has_logits:
            return
        low, high = chance_span(self.facts, len(self.vocab)) or (0.0, 0.0)
        for name, side in (("positive", "top"), ("negative", "bottom")):
            effects = zip(self.facts[f"{side}_logit_tokens"], self.facts[f"{side}_logits"], strict=True)
            beyond = [token for token, effect in effects if not low <= effect <= high]
            yield name, [self.vocab[token] for token in beyond if token < len(self.vocab)]

    def _repr_html_(self) -> str:
        def show(token: str) -> str:
            return f"<code><bdi>{show_token(token)}</bdi></code>"

        verdict = "" if self.verdict is None else f"{_show_verdict(self.verdict)}&emsp;"
        lines: list[object] = [Markup(f"{verdict}{self._firings(show)}")]
        for name, tokens in self._logits():
            shown = ", ".join(map(show, tokens))
            lines.append(Markup(f"{name} logits: {shown or _NO_LOGITS}"))
        if self.has_text:
            lines += map(self._shade_example, self.examples.head(_N_PRINTED_EXAMPLES).itertuples())
        else:
            lines.append(Markup("".join(map(self._draw_example, self.examples.itertuples()))))
        if rule := self._other_rule(show_rule):
            lines.insert(0, Markup(f"rule: {rule}"))
        words = show_text(self._title()) or self._rule(show_rule)
        return card(Markup(f"latent {self.latent}{': ' if words else ''}{words}"), *lines)

    def _draw_example(self, example: Any) -> Markup:
        """Return the picture of an example, or the number of its row."""
        if self.render is None:
            return Markup(f"row {example.row} ({example.value:.3g}) ")
        source = PNG_PREFIX + picture_of(self.render, int(example.row))
        look = "height:56px;margin:2px;image-rendering:pixelated"
        return Markup(f'<img src="{source}" alt="row {example.row}" title="{example.value:.3g}" style="{look}">')

    def _shade_example(self, example: Any) -> Markup:
        """Return the activation and the tokens of an example, each on an orange background whose strength is its
        activation, the token of the firing underlined."""
        spans = []
        for text, tokens in join_pieces([self.vocab[token] for token in example.tokens]):
            value = max(float(example.values[token]) for token in tokens)
            shown = shade_text(text, value / float(self.facts["max"]), f"{value:.3g}")
            spans.append(f"<u>{shown}</u>" if example.row - example.start in tokens else shown)
        number = f'<span style="display:inline-block;min-width:3.2em;opacity:.7">{example.value:.3g}</span>'
        return Markup(f'{number}<bdi style="white-space:pre-wrap">{"".join(spans)}</bdi>')


def _replace_controls(line: str) -> str:
    """Return a line that is safe for a terminal: control characters, which can move its cursor, are replaced by
    marks."""
    return "".join(letter if letter.isprintable() else "�" for letter in mark_line_ends(line))


def rule_with_f1(row: Any, format_segments: Callable[[Segments], str] = to_text) -> str:
    """Return the rule with its F1 on held-out text. For a tested latent without a rule that holds, return a note that
    says so."""
    rule = short_rule(row)
    words = f"{format_segments(rule)} (F1 {row['explanation_f1']:.2f})" if rule else ""
    tested = not math.isnan(row["monosemanticity"])
    if not tested or "explanation" not in row or row["explanation_f1"] >= MIN_F1:
        return words
    return NO_RULE + (f"; the nearest is {words}" if words else "")


def _show_verdict(row: pd.Series) -> Markup:
    """Return the verdict and its probability."""
    tested = not math.isnan(row["monosemanticity"])
    parts = [verdict_badge(str(row["verdict"]), bool(row["sure"]) or not tested)]
    if tested:
        parts.append(interval_mark(row["monosemanticity"], row["ci_low"], row["ci_high"]))
    return Markup(" ".join(parts))
