"""One feature as a person looks at it: the facts of its row in the table, its verdict, and its strongest examples.

In a notebook it shows itself: its verdict and rule where it was ranked, its token statistics, and each example's tokens
shaded by the latent's activation. Text from the corpus is escaped.
"""

from dataclasses import dataclass
from html import escape
from typing import Any

import pandas as pd

from interp.notebook import Markup, card, interval_mark, verdict_mark

_SHOWN = 5


@dataclass(frozen=True)
class Feature:
    latent: int
    facts: pd.Series
    """The latent's row of the table `features`."""
    examples: pd.DataFrame
    """Its strongest firings, rows of the table `examples`, the strongest first."""
    vocab: list[str]
    verdict: pd.Series | None = None
    """The latent's row of the ranking, where there is one."""

    def __repr__(self) -> str:
        if not self.facts.n_active:
            return f"latent {self.latent}: never fires"
        token = repr(self.vocab[self.facts.top_token])
        fires = f"fires on {self.facts.density:.3%} of the tokens, at most at {self.facts['max']:.3g}"
        return f"latent {self.latent}: {fires}; {self.facts.top_token_share:.0%} of the firings are on {token}"

    def _repr_html_(self) -> str:
        lines: list[object] = [] if self.verdict is None else [_judged(self.verdict)]
        for name, column in (("positive", "top_logit_tokens"), ("negative", "bottom_logit_tokens")):
            tokens = self.facts[column]
            if hasattr(tokens, "__len__"):  # null where the scan was given no logits
                shown = ", ".join(f"<code>{escape(self.vocab[t])}</code>" for t in tokens if t < len(self.vocab))
                lines.append(Markup(f"{name} logits: {shown}"))
        lines += [self._shaded(example) for example in self.examples.head(_SHOWN).itertuples()]
        return card(repr(self), *lines)

    def _shaded(self, example: Any) -> Markup:
        """The tokens of an example, each as orange as the latent is active on it."""
        spans = []
        for token, value in zip(example.tokens, example.values, strict=True):
            share = 0.8 * float(value) / float(self.facts["max"])
            style = f' style="background:rgba(255,140,0,{share:.2f})"' if share > 0 else ""
            spans.append(f'<span{style} title="{float(value):.3g}">{_line(self.vocab[token])}</span>')
        return Markup(f'<span style="white-space:pre-wrap">{"".join(spans)}</span>')


def _line(token: str) -> str:
    """A token as HTML, its line ends as marks, so that an example is one line of text."""
    return escape(token.replace("\n", "↵"))


def _judged(row: pd.Series) -> Markup:
    """The verdict, its probability, and the rule with its F1 on held-out text."""
    tested = row["monosemanticity"] == row["monosemanticity"]
    parts = [verdict_mark(str(row["verdict"]), bool(row["sure"]) or not tested)]
    if tested:
        parts.append(interval_mark(row["monosemanticity"], row["ci_low"], row["ci_high"]))
    if row.get("explanation"):
        parts.append(Markup(f"{escape(str(row['explanation']))} (F1 {row['explanation_f1']:.2f})"))
    return Markup(" · ".join(parts))
