"""One feature as a person looks at it: the facts of its row in the table, and its strongest examples.

In a notebook it shows itself: its token statistics, and each example's tokens shaded by the latent's activation. Text
from the corpus is escaped.
"""

from dataclasses import dataclass
from html import escape

import pandas as pd

_SHOWN = 5


@dataclass(frozen=True)
class Feature:
    latent: int
    facts: pd.Series
    """The latent's row of the table `features`."""
    examples: pd.DataFrame
    """Its strongest firings, rows of the table `examples`, the strongest first."""
    vocab: list[str]

    def __repr__(self) -> str:
        if not self.facts.n_active:
            return f"latent {self.latent}: never fires"
        token = repr(self.vocab[self.facts.top_token])
        fires = f"fires on {self.facts.density:.3%} of the tokens, at most at {self.facts['max']:.3g}"
        return f"latent {self.latent}: {fires}; {self.facts.top_token_share:.0%} of the firings are on {token}"

    def _repr_html_(self) -> str:
        lines = [f"<b>{escape(repr(self))}</b>"]
        for name, column in (("positive", "top_logit_tokens"), ("negative", "bottom_logit_tokens")):
            tokens = self.facts[column]
            if hasattr(tokens, "__len__"):  # null where the scan was given no logits
                shown = ", ".join(f"<code>{escape(self.vocab[t])}</code>" for t in tokens if t < len(self.vocab))
                lines.append(f"{name} logits: {shown}")
        lines += [self._shaded(example) for example in self.examples.head(_SHOWN).itertuples()]
        return "".join(f'<div style="margin:2px 0;white-space:pre-wrap">{line}</div>' for line in lines)

    def _shaded(self, example) -> str:
        """The tokens of an example, each as orange as the latent is active on it."""
        spans = []
        for token, value in zip(example.tokens, example.values, strict=True):
            share = 0.8 * float(value) / float(self.facts["max"])
            style = f' style="background:rgba(255,140,0,{share:.2f})"' if share > 0 else ""
            spans.append(f'<span{style} title="{float(value):.3g}">{escape(self.vocab[token])}</span>')
        return "".join(spans)
