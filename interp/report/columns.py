"""Describe the columns of the page's table of all features, and make their values.

In: features and ranking, with one row per latent (also dead latents), in the same order. Out: plain lists for JSON.
"""

from collections import Counter
from collections.abc import Collection, Iterable
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from interp.checks.errors import InterpError
from interp.display.verdict_names import WITHOUT_SCORES
from interp.features.feature_store import FeatureStore
from interp.report.json_text import N_DIGITS, number

N_TOP_TOKENS = 8


class Commonest(NamedTuple):
    """The tokens on which each latent fires most often, the commonest first, as lists over the latents."""

    tokens: list[list[str]]
    shares: list[list[float]]
    """The shares of its firings that are on each, in [0, 1], with two digits in per cent."""
    stored: list[int]
    """A bit for each of them, the commonest lowest, which is set if a stored example has that token."""


class EncodedNames(NamedTuple):
    """A list of names over the latents."""

    names: list[str]
    """Each name once, in order."""
    codes: list[int | None]
    """The index of each latent's name among them, None if it has none."""


ALWAYS_SHOWN = ("monosemanticity", "f1", "density")
"""Columns of the table that are there even if none of their numbers is known."""


SCALES = ("share", "signed", "log")


class ColumnWidths(NamedTuple):
    """The width of a column, as a track of a CSS grid."""

    wide: str
    narrow: str | None = None
    """In windows of at most 1100 pixels, if it differs there; "" if it is left out."""


class Column(NamedTuple):
    """A column of the page's table, or a number by which the page only sorts, filters or compares features."""

    name: str
    """The name of its values, and of its cells in the style and the scripts, which draw some in a way of their own."""
    title: str
    """Its head."""
    unit: str = ""
    """What it is, in a word or two below its head."""
    hint: str = ""
    """What a tip at its head says; "" if that is what the glossary says of its name."""
    sorts: str = ""
    """What the table is sorted by, after "By"; "" if it is not sorted by this."""
    ascends: bool = False
    """Whether the smallest come first, until it is reversed."""
    means: str = ""
    """The rest of a sentence on its range, which begins with the unit; "" if no range of it can be chosen."""
    style: str = ""
    """How the page writes its values: a function of `format` in elements/format.js, "text" for text; "" if it draws
    them in a way of its own."""
    scale: str = ""
    """Where its numbers lie: "share", from 0 to 1; "signed", around 0; "log", above 0 and of all sizes. A column that
    `means` something or `is_compared` needs one."""
    is_compared: bool = False
    """Whether it is shown where two features are compared."""
    widths: ColumnWidths | None = None
    """None for a number that is no column of the table."""
    values: list | None = None
    """Over the latents, None where one is not known; None as a whole for what the page has in another form."""
    interval: tuple[list, list] | None = None
    """The ends of the 95 % intervals of its numbers, over the latents."""

    @property
    def is_described(self) -> bool:
        """Whether the page has it: a number of no latent is left out, unless it is one of ALWAYS_SHOWN."""
        return self.values is None or self.name in ALWAYS_SHOWN or any(value is not None for value in self.values)

    def described(self) -> dict[str, Any]:
        """Return all but its values, as the page reads it."""
        fields = {name: value for name, value in self._asdict().items() if name not in ("values", "interval")}
        return fields | {"widths": None if self.widths is None else self.widths._asdict()}

    def lists(self) -> dict[str, list]:
        """Return its values, and the ends of their intervals, by the names under which the page has them."""
        lists = {} if self.values is None else {self.name: self.values}
        if self.interval is not None:
            lists[f"{self.name}_low"], lists[f"{self.name}_high"] = self.interval
        return lists


def table_columns(
    table: pd.DataFrame,
    ranking: pd.DataFrame,
    effects: pd.DataFrame | None = None,
    *,
    f1: list[float | None],
    has_text: bool = True,
) -> list[Column]:
    """Return the columns of the table, in their order, and among them the other numbers by which features are sorted,
    filtered and compared. Scores of latents that were not tested are no measurements, and left out.

    table, ranking: `ReportInputs.table` and `verdicts`.
    effects: one row for each latent that was ablated.
    f1: of the label or rule that names each latent (`captions`)."""
    tested = ranking.mask(ranking["verdict"].isin(WITHOUT_SCORES))
    ablated = pd.DataFrame(index=table.index)
    if effects is not None:
        known = effects.dropna(subset=["beyond_null_low"])  # an effect in one sequence alone has no interval
        ablated = known.set_index("latent").reindex(table.index)
    rows = "tokens" if has_text else "rows"
    return [
        Column(
            "latent", "Feature", sorts="number", ascends=True, style="count", widths=ColumnWidths("4.8rem", "4.2rem"),
            hint="the number of the feature",
        ),
        Column("verdict", "Verdict", sorts="verdict", ascends=True),
        Column(
            "monosemanticity", "One meaning", "probability", sorts="one meaning",
            hint="the verdict, and the probability of one meaning", means="that its firings have one meaning",
            style="fixed", scale="share", is_compared=True, widths=ColumnWidths("10.4rem"),
            values=_numbers(tested, "monosemanticity"),
            interval=(_numbers(tested, "ci_low"), _numbers(tested, "ci_high")),
        ),
        Column("senses", "Senses", sorts="number of senses", style="count", values=_numbers(tested, "n_senses")),
        Column(
            "explanation", "Fires on", "and its strongest firing", sorts="rule", ascends=True,
            hint="its label or rule, or the tokens or words that tell more, and below it its strongest firing; of "
            "several senses, the share of each of the activation, and its strongest firing",
            widths=ColumnWidths("minmax(10rem, 1fr)", "minmax(8rem, 1fr)"),
        ),
        Column("label", "Label", sorts="best label", ascends=True),
        Column("top_token", "Commonest token", sorts="commonest token", ascends=True),
        Column(
            "f1", "F1", "held out", sorts="F1 of rule or label",
            hint="F1 on held-out text of the rule or label that the row tells, or of each sense; of tokens or whole "
            "words, on all text",
            style="fixed", scale="share", is_compared=True, widths=ColumnWidths("4rem", "3.3rem"),
            values=f1,
        ),
        Column(
            "explanation_f1", "Rule F1", "held out", sorts="rule F1", style="fixed", scale="share",
            means="on text that was not used to find the rule", values=_numbers(ranking, "explanation_f1"),
        ),
        Column("label_f1", "Label F1", sorts="label F1", style="fixed", values=_numbers(table, "best_label_f1")),
        Column(
            "activations", "Activations", "own log scale", widths=ColumnWidths("5.4rem", ""),
            hint="how often each activation occurs, from the smallest to the largest; heights are square roots of the "
            "counts",
        ),
        Column(
            "density", "Density", f"of {rows}", sorts="density", means="on which it fires", style="share", scale="log",
            is_compared=True, widths=ColumnWidths("4.8rem", "4.3rem"), values=_numbers(table, "density"),
        ),
        Column(
            "max", "Largest activation", sorts="largest activation", style="digits", scale="log", is_compared=True,
            values=_numbers(table, "max"),
        ),
        Column(
            "learnt", "Learnt", "probability", sorts="probability that it is learnt",
            means="that it comes from a trained model", style="fixed", scale="share", is_compared=True,
            widths=ColumnWidths("5rem", "4.4rem"), values=_numbers(tested, "learnt"),
        ),
        Column(
            "effect", "Effect", "nats", sorts="effect", means="by which the loss rises without it, above its null",
            hint="by how many nats a token the loss rises without it, more than by an equally large change along other "
            "features, where it fires; bold where its 95 % interval leaves out 0", style="fixed", scale="signed",
            is_compared=True, widths=ColumnWidths("6.4rem", "6.2rem"), values=_numbers(ablated, "beyond_null", 2),
            interval=(_numbers(ablated, "beyond_null_low", 2), _numbers(ablated, "beyond_null_high", 2)),
        ),
        Column(
            "fvu_rise", "Contribution", "of variance", means="that is no longer explained without it", style="share",
            scale="log", values=_numbers(table, "fvu_rise"),
        ),
        Column("mine", "Your label", sorts="your label", ascends=True),
    ]  # fmt: skip


def lists_of(columns: Iterable[Column], taken: Collection[str] = ()) -> dict[str, list]:
    """Return the lists of all columns by their names. Raises ValueError for a name that another has, or is `taken`, and
    for a column that needs a scale and has none."""
    lists = dict[str, list]()
    for column in columns:
        if (column.means or column.is_compared) and column.scale not in SCALES:
            raise InterpError(
                f"the page's column {column.name!r} has scale={column.scale!r}: one by whose ranges features are "
                f"chosen or compared needs one of {', '.join(SCALES)}"
            )
        for name, values in column.lists().items():
            if name in lists or name in taken:
                raise InterpError(f"the page has a column {name!r} already: name the column {column.title!r} otherwise")
            lists[name] = values
    return lists


def encode_names(column: pd.Series) -> EncodedNames:
    """Encode the names in a column of a table, which lacks some."""
    codes, names = pd.factorize(column, sort=True)
    return EncodedNames(list(names), [int(code) if code >= 0 else None for code in codes])


def commonest_of(features: FeatureStore, table: pd.DataFrame) -> Commonest:
    commonest = commonest_tokens(features, N_TOP_TOKENS)
    tokens = top_tokens(features, commonest)
    stored = _stored_tokens(features, commonest)
    shares = dict[int, list[float]]()
    for latent, _, n in commonest:
        share = n / int(table["n_active"][latent])
        shares.setdefault(latent, []).append(round(share, 3 if share < 0.0995 else 2))
    latents = range(len(table))
    return Commonest(
        [tokens.get(latent, []) for latent in latents],
        [shares.get(latent, []) for latent in latents],
        [stored.get(latent, 0) for latent in latents],
    )


def top_tokens(features: FeatureStore, commonest: Iterable[tuple[int, int, int]]) -> dict[int, list[str]]:
    """Return each latent's `commonest_tokens` as text."""
    top: dict[int, list[str]] = {}
    for latent, token, _ in commonest:
        top.setdefault(latent, []).append(features.vocab[token])
    return top


def commonest_tokens(features: FeatureStore, n: int) -> list[tuple[int, int, int]]:
    """Return each latent with each of the `n` token ids on which it fires most often, the commonest first, and how
    often it fires on that."""
    tokens = features.sql(f"""
        select latent, token, n from tokens where "offset" = 0
        qualify row_number() over (partition by latent order by n desc, token) <= {n}
        order by latent, n desc, token""")
    return list(zip(*(tokens[name].tolist() for name in ("latent", "token", "n")), strict=True))


def _stored_tokens(features: FeatureStore, commonest: Iterable[tuple[int, int, int]]) -> dict[int, int]:
    """Return for each latent the sum of 2^k over the ranks k among its `commonest_tokens` whose token is that of one
    of its stored examples."""
    examples = features.sql('select distinct latent, "row" from examples')
    fires_on = features.tokens.reshape(-1).numpy()[examples["row"].to_numpy(np.int64)].tolist()
    pairs = set(zip(examples["latent"].tolist(), fires_on, strict=True))
    bits = dict.fromkeys(examples["latent"].tolist(), 0)
    ranks = Counter[int]()
    for latent, token, _ in commonest:
        bits[latent] = bits.get(latent, 0) + (((latent, token) in pairs) << ranks[latent])
        ranks[latent] += 1
    return bits


def values_of(table: pd.DataFrame, name: str) -> list[Any]:
    """Return the values, with None for a missing value."""
    if name not in table:
        return [None] * len(table)
    return table[name].astype(object).where(table[name].notna(), None).tolist()


def _numbers(table: pd.DataFrame, name: str, digits: int = N_DIGITS) -> list:
    return [number(value, digits) for value in values_of(table, name)]
