"""Show a text box in a notebook, with the tokens of the typed text and the run's features that fire on each token.

In a notebook:

    explore(Run("runs/demo"), "Once upon a time")         in marimo, mo.ui.anywidget(explore(…))
"""

from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from interp.checks.errors import InterpError
from interp.display import cards
from interp.display.byte_parts import name_byte_parts
from interp.display.scripts import join_scripts
from interp.display.verdict_looks import NO_RULE, verdict_words
from interp.display.verdict_names import UNTESTED
from interp.report.inputs import ReadableRun
from interp.report.live.live_model import LiveModel
from interp.report.writing import PAGE
from interp.statistics.cutoffs import MIN_F1
from interp.text.short_rules import short_rule

if TYPE_CHECKING:
    from anywidget import AnyWidget

N_FEATURES = 60
"""Largest number of features of a text that are listed."""
N_STILL = 10
"""The same for a still picture, in which nothing can be chosen."""


def explore(run: ReadableRun, text: str = "Once upon a time") -> "AnyWidget":
    """Show a text box in a notebook, with its tokens and the features that fire on each, live. `text` is the first
    text.

    It is an anywidget, which Jupyter, VS Code, Colab and marimo show. It shares four traits with the kernel:
    the page sets `text` and `latent`, the kernel answers with `reading` and `card`. A cell can set the first two as
    well. Raises ValueError without the package anywidget."""
    if find_spec("anywidget") is None:
        raise InterpError("exploring in a notebook needs the package anywidget: pip install anywidget")
    import anywidget
    import traitlets

    answers = Answers(run)

    class Explore(anywidget.AnyWidget):
        _esm = widget_module()
        _css = (PAGE / "live" / "widget.css").read_text(encoding="utf-8")
        text = traitlets.Unicode().tag(sync=True)
        latent = traitlets.Int(None, allow_none=True).tag(sync=True)
        reading = traitlets.Dict().tag(sync=True)
        card = traitlets.Unicode().tag(sync=True)

        @traitlets.observe("text")
        def _read(self, change: Any) -> None:
            self.reading = answers.reading(change["new"])

        @traitlets.observe("latent")
        def _show(self, change: Any) -> None:
            self.card = answers.card(change["new"])

        def __repr__(self) -> str:
            return f"Explore({self.text!r})"

        def _repr_mimebundle_(self, **kwargs: Any) -> tuple[dict, dict]:
            """Show the text and its firings as static HTML if no kernel answers, as in the page of a notebook."""
            data, metadata = super()._repr_mimebundle_(**kwargs) or ({}, {})
            return data | {"text/html": static_html(self.text, self.reading)}, metadata

    return Explore(text=text)


def widget_module() -> str:
    """Return the module that anywidget loads."""
    return join_scripts(PAGE, "live/widget.js") + 'export default { render: modules["live/widget.js"].render };\n'


def static_html(text: str, reading: dict[str, Any]) -> str:
    """Return a reading (`Answers.reading`) as static HTML: the tokens, and the strongest features of the text."""
    if "error" in reading or not reading:
        return cards.card(text, reading.get("error", ""))
    strongest = [max((strength for _, strength in firing), default=0.0) for firing in reading["firing"]]
    pieces = [cards.shade_text(token, strength) for token, strength in zip(reading["tokens"], strongest, strict=True)]
    if reading["left_out"]:
        pieces.insert(0, cards.Markup(f"the first {int(reading['left_out'])} tokens are left out … "))
    rows = []
    for latent, strength, n_tokens in reading["features"][:N_STILL]:
        verdict, rule = reading["about"][str(latent)]
        rows.append((latent, verdict, rule, f"{strength:.2f}", n_tokens))
    head = ("latent", "verdict", "explanation", "share of its maximum", "tokens")
    return cards.card("What fires in the text", cards.Markup("".join(pieces)), cards.show_table(head, rows))


class Answers:
    """Answers to the page's requests, as JSON."""

    def __init__(self, run: ReadableRun):
        self.run = run
        self.live = LiveModel(run)
        self.vocab = run.features.vocab
        ranking = run.ranking if run.has("ranking") else None
        self._verdicts = {} if ranking is None else {row["latent"]: row for row in ranking.to_dict("records")}

    def reading(self, text: str) -> dict[str, Any]:
        """Return which latents fire in a text. `tokens` has the strings of the tokens. `firing` has, for each token,
        [latent, strength] of the strongest latents. `features` has, for the text, [latent, strength, tokens].
        `left_out` is the number of tokens at the beginning that are not read. `about` has the verdict and the rule of
        each of these latents (strengths: `live_model`). For a text that cannot be read, the result has only
        `error`, with the reason."""
        try:
            read = self.live.read(text)
        except ValueError as error:
            return {"error": str(error)} if text else {}
        firing = [[[latent, self.live.strength(latent, z)] for latent, z in strongest] for strongest in read["firing"]]
        features = [[latent, strength, len(firings)] for latent, strength, firings in read["features"][:N_FEATURES]]
        latents_on_page = {row[0] for rows in (*firing, features) for row in rows}
        return {
            "tokens": [self.vocab[token] for token in read["tokens"]],
            "firing": firing,
            "features": features,
            "left_out": read["left_out"],
            "about": {str(latent): self._about(latent) for latent in sorted(latents_on_page)},
        }

    def card(self, latent: int | None) -> str:
        """Return the feature as HTML, or "" for a latent that does not exist."""
        if latent is None or not 0 <= latent < self.run.features.d_sae:
            return ""
        return self.run.feature(latent)._repr_html_()

    def _about(self, latent: int) -> list[str]:
        row = self._verdicts.get(latent)
        if row is None:
            return ["", ""]
        is_weak = row["verdict"] not in UNTESTED and not row["explanation_f1"] >= MIN_F1
        rule = NO_RULE if is_weak else name_byte_parts(cards.marked_rule(short_rule(row)))
        return [verdict_words(row["verdict"]), rule]
