"""Make the page's table of all features, stored by column, and choose the order in which to look at them.

In: features and ranking, with one row per latent (also dead latents), in the same order. Out: plain lists for JSON,
which are small enough to load before the first paint.
"""

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from itertools import zip_longest
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from interp.display.segments import listed_tokens, read_rule, tokens_of
from interp.display.verdict_names import (
    BY_PROBABILITY,
    FAINT,
    MONOSEMANTIC,
    NO_CONTEXT,
    POLYSEMANTIC,
    SINGLE_TOKEN,
    WITHOUT_SCORES,
)
from interp.features.feature_store import FeatureStore
from interp.report.json_text import N_DIGITS, number
from interp.statistics.cutoffs import MIN_F1
from interp.verdict.ranking_tables import N_FIRST, rule_holds, worth_a_look

N_TOP_TOKENS = 8
MAX_TOKEN_SHARE = 0.5
"""A latent counts as firing on many tokens if at most this share of its activation is on its commonest token."""
NAMED_BY_LABEL = 0.05
"""A latent is named by its best label if its F1 exceeds that of its rule less this much (`captions`)."""
CLEAR_F1 = 0.75
"""The overview's example of a rule that holds has at least this F1, if any has: below it, the strongest firings may be
among those that the rule misses."""
N_OVERVIEWS = 4
"""Number of choices of latents for the overview, which its button shows one after the other."""
MIN_FOLLOWING = 0.01
"""Least share of a latent's firings that a token follows for the latent's caption to name it as raised."""
N_RAISED = 2
"""Number of tokens raised by a latent that tell it from others of the same rule or label."""
_DISTANCE = re.compile(r"\bwithin \d+ tokens\b")
"""Wordings of rules that look further than the tokens next to a firing."""
_LETTER = re.compile(r"[^\W_]")
"""A letter or a digit. The text around firings of rules whose tokens have none is rows of signs, which tell little
on the overview."""
_WORD = re.compile(r" [^\W\d_]{2,}|[A-Z][a-z]+")
MIN_WORDS = 3
"""Least number of tokens of a rule that the overview shows as an example of words that belong together."""
MAX_IN_WORDS = 0.25
"""Largest share of the stored firings of such an example that stand before another letter, as pieces of words do."""
SURELY_LEARNT = 0.9
"""The least probability of being learnt at which the overview calls a feature learnt."""


class OverviewExample(NamedTuple):
    latent: int
    why: str
    """What the latent is an example of, in a few words."""
    choice: str
    """How it was chosen."""


class Surroundings(NamedTuple):
    """The kind of text in which a latent fires."""

    label: str
    share: float
    """The share of its firings in it."""


CHOICES = {
    "A clear rule": f"Of the features that surely have one meaning and whose rule has an F1 of {CLEAR_F1} or more: "
    "first those whose rule is a list of words; of these, the one with the largest sure effect.",
    "Looks back over several tokens": f"Of the features that surely have one meaning and whose rule looks further back "
    f"than one token: first those with an F1 of {CLEAR_F1} or more, then those with a sure effect; of equals, the one "
    "whose rule predicts the most varied tokens.",
    "Learnt, without an effect": f"Of the features that are learnt with a probability of {SURELY_LEARNT} or more and "
    "have no sure effect, the one whose rule predicts the most varied tokens.",
    "The clearest senses": "Of the polysemantic features, first those that surely are, then those whose rules name no "
    "part of a character; of these, the one whose senses have the clearest rules and divide its firings most evenly.",
    "An effect beyond one token": "The largest effect that is surely above that of its null, of a feature that is not "
    "single-token; first those whose rule names letters or digits.",
    "Largest effect of one token": "The largest sure effect of a single-token feature.",
}
"""What the overview shows, and how each is chosen."""


def table_columns(
    features: FeatureStore, table: pd.DataFrame, ranking: pd.DataFrame, effects: pd.DataFrame | None = None
) -> dict[str, list]:
    """Return the table as column → list over the latents. Verdicts, labels and kinds of text are given as indices into
    their lists of names. A label that a latent detects with an F1 below MIN_F1 is left out. A latent's kind of text is
    its label in `surroundings`; `kind_share` is the share of its firings there. `raises` has what tells latents of the
    same rule or label from each other. `stored` has a bit for each of its commonest tokens, which is set if an example
    has that token; `token_shares` are the shares of its firings that are on each, in [0, 1]. `at_strongest` is the
    share of its strongest firings at which its rule holds.
    ranking: `ReportInputs.verdicts`.
    effects: one row for each latent that was ablated."""
    tested = ranking.mask(ranking["verdict"].isin(WITHOUT_SCORES))
    verdicts, verdict = _encode_names(ranking["verdict"])
    named = table["best_label"].where(table["best_label_f1"] >= MIN_F1) if "best_label" in table else None
    labels, label = _encode_names(pd.Series(None, table.index, dtype=object) if named is None else named)
    commonest = commonest_tokens(features, N_TOP_TOKENS)
    tokens, stored = top_tokens(features, commonest), _stored_tokens(features, commonest)
    shares = dict[int, list[float]]()
    for latent, _, n in commonest:
        share = n / int(table["n_active"][latent])
        shares.setdefault(latent, []).append(round(share, 3 if share < 0.0995 else 2))  # two digits in per cent
    around = pd.DataFrame.from_dict(surroundings(features), orient="index", columns=list(Surroundings._fields))
    around = around.reindex(table.index)
    kinds, kind = _encode_names(around["label"])
    ablated = pd.DataFrame(index=table.index)
    if effects is not None:
        known = effects.dropna(subset=["beyond_null_low"])  # an effect in one sequence alone has no interval
        ablated = known.set_index("latent").reindex(table.index)
    return {
        "verdicts": verdicts,
        "labels": labels,
        "verdict": verdict,
        "monosemanticity": _numbers(tested, "monosemanticity"),
        "sure": _column(tested, "sure"),
        "low": _numbers(tested, "ci_low"),
        "high": _numbers(tested, "ci_high"),
        "learnt": _numbers(tested, "learnt"),
        "senses": _numbers(tested, "n_senses"),
        "effect": _numbers(ablated, "beyond_null", 2),
        "effect_low": _numbers(ablated, "beyond_null_low", 2),
        "effect_high": _numbers(ablated, "beyond_null_high", 2),
        "explanation": [text or "" for text in _column(ranking, "explanation")],
        "explanation_f1": _numbers(ranking, "explanation_f1"),
        "raises": _raised_by_alike(features, table, ranking),
        "at_strongest": [
            number(_recall_at_strongest(*parts), 2)
            for parts in zip(ranking["explanation_precision"], ranking["explanation_f1_by_interval"], strict=True)
        ],
        "density": _numbers(table, "density"),
        "max": _numbers(table, "max"),
        "fvu_rise": _numbers(table, "fvu_rise"),
        "tokens": [tokens.get(latent, []) for latent in range(len(table))],
        "token_shares": [shares.get(latent, []) for latent in range(len(table))],
        "stored": [stored.get(latent, 0) for latent in range(len(table))],
        "kinds": kinds,
        "kind": kind,
        "kind_share": _numbers(around, "share", 2),
        "label": label,
        "label_f1": _numbers(table, "best_label_f1"),
    }


def _raised_by_alike(features: FeatureStore, table: pd.DataFrame, ranking: pd.DataFrame) -> list[list[str]]:
    """Return for each latent that the page would name like another one, by the same label or rule, the first tokens
    among those it raises most that do follow its firings, without parts of characters and variants in case and space;
    none for the other latents, or if these tokens are not known."""
    raised: list[list[str]] = [[] for _ in range(len(table))]
    if "top_logit_tokens" not in table:
        return raised
    names = pd.Series(_column(ranking, "explanation"), table.index, dtype=object).replace("", None)
    if "best_label" in table:
        best = table["best_label_f1"]
        f1 = ranking["explanation_f1"].fillna(0).to_numpy()
        names = names.mask((best >= MIN_F1) & (best > f1 - NAMED_BY_LABEL), table["best_label"])
    following = _following(features, table)
    for latent in np.flatnonzero(names.notna() & names.duplicated(keep=False)):
        tokens = table["top_logit_tokens"].iloc[latent]
        distinct = dict[str, str]()
        for text in (features.vocab[token] for token in (() if tokens is None else tokens)):
            if "⟨" not in text and text in following.get(int(latent), set()):
                distinct.setdefault(text.strip().lower() or text, text)
        raised[latent] = list(distinct.values())[:N_RAISED]
    return raised


def _following(features: FeatureStore, table: pd.DataFrame) -> dict[int, set[str]]:
    """Return for each latent the tokens that follow MIN_FOLLOWING of its firings or more."""
    n_active = table["n_active"].to_numpy()
    rows = features.sql('select latent, token, n from tokens where "offset" = 1')
    following: dict[int, set[str]] = {}
    for latent, token, n in rows.itertuples(index=False, name=None):
        if n >= MIN_FOLLOWING * n_active[latent]:
            following.setdefault(latent, set()).add(features.vocab[token])
    return following


def _recall_at_strongest(precision: float, f1_by_interval: Sequence[float] | float) -> float:
    """Return the recall R in the highest interval of the activation, from its F1 = 2 P R / (P + R). NaN if no held-out
    firing lies in it, or if the ranking has no intervals."""
    if not isinstance(f1_by_interval, Sequence | np.ndarray) or not len(f1_by_interval):
        return np.nan
    f1 = float(f1_by_interval[-1])
    return min(f1 * precision / (2 * precision - f1), 1) if f1 else f1


def top_tokens(features: FeatureStore, commonest: Iterable[tuple[int, int, int]]) -> dict[int, list[str]]:
    """Return each latent's `commonest_tokens` as text."""
    top: dict[int, list[str]] = {}
    for latent, token, _ in commonest:
        top.setdefault(latent, []).append(features.vocab[token])
    return top


def _stored_tokens(features: FeatureStore, commonest: Iterable[tuple[int, int, int]]) -> dict[int, int]:
    """Return for each latent the sum of 2^k over the places k among its `commonest_tokens` whose token is that of one
    of its stored examples."""
    examples = features.sql('select distinct latent, "row" from examples')
    fires_on = features.tokens.reshape(-1).numpy()[examples["row"].to_numpy(np.int64)].tolist()
    pairs = set(zip(examples["latent"].tolist(), fires_on, strict=True))
    bits = dict.fromkeys(examples["latent"].tolist(), 0)
    places = Counter[int]()
    for latent, token, _ in commonest:
        bits[latent] = bits.get(latent, 0) + (((latent, token) in pairs) << places[latent])
        places[latent] += 1
    return bits


def commonest_tokens(features: FeatureStore, n: int) -> list[tuple[int, int, int]]:
    """Return each latent with each of the `n` token ids on which it fires most often, the commonest first, and how
    often it fires on that."""
    tokens = features.sql(f"""
        select latent, token, n from tokens where "offset" = 0
        qualify row_number() over (partition by latent order by n desc, token) <= {n}
        order by latent, n desc, token""")
    return list(zip(*(tokens[name].tolist() for name in ("latent", "token", "n")), strict=True))


def shares_in_words(features: FeatureStore) -> dict[int, float]:
    """Return for each latent the share of its stored firings whose next token goes on with a letter or digit."""
    examples = features.sql('select latent, "row" from examples')
    begins = np.array([token[:1].isalnum() for token in features.vocab])
    goes_on = np.pad(begins[features.tokens.numpy()][:, 1:], ((0, 0), (0, 1)))
    shares = examples.assign(goes_on=goes_on.reshape(-1)[examples["row"]]).groupby("latent")["goes_on"].mean()
    return dict(zip(shares.index.tolist(), shares.tolist(), strict=True))


def surroundings(features: FeatureStore) -> dict[int, Surroundings]:
    """Return each latent with the label that holds at half of its firings or more; of several such labels, the
    rarest."""
    inside = features.sql("""
        select latent, label, precision from labels where precision >= 0.5
        qualify row_number() over (partition by latent order by precision / n_label desc, label) = 1""")
    rows = zip(*(inside[name].tolist() for name in ("latent", "label", "precision")), strict=True)
    return {latent: Surroundings(label, share) for latent, label, share in rows}


def _encode_names(column: pd.Series) -> tuple[list[str], list[int | None]]:
    """Return the names in order, and the place of each value among them, or None for a missing value."""
    codes, names = pd.factorize(column, sort=True)
    return list(names), [int(code) if code >= 0 else None for code in codes]


def _column(table: pd.DataFrame, name: str) -> list[Any]:
    """Return the values, with None for a missing value."""
    if name not in table:
        return [None] * len(table)
    return table[name].astype(object).where(table[name].notna(), None).tolist()


def _numbers(table: pd.DataFrame, name: str, digits: int = N_DIGITS) -> list:
    return [number(value, digits) for value in _column(table, name)]


def overview_examples(
    table: pd.DataFrame,
    ranking: pd.DataFrame,
    senses: Mapping[int, Sequence[Mapping[str, Any]]],
    effects: pd.DataFrame | None = None,
    in_words: Mapping[int, float] | None = None,
) -> list[list[OverviewExample]]:
    """Choose one latent of each of several kinds (CHOICES) for the overview, N_OVERVIEWS times. Each time one is chosen
    that was not chosen before, if there is one.
    senses: the senses of each latent with more than one. in_words: `shares_in_words`."""
    verdict = ranking["verdict"]
    ablated = (
        pd.DataFrame(columns=["beyond_null", "beyond_null_low"]) if effects is None else effects.set_index("latent")
    )
    low = ablated["beyond_null_low"].sort_values(ascending=False, kind="stable")
    low = low[low > 0]
    readable = worth_a_look(ranking.assign(token_entropy=table.get("token_entropy")), len(ranking))
    label_f1 = table["best_label_f1"].fillna(0) if "best_label_f1" in table else pd.Series(0.0, table.index)
    ruled = [j for j in readable if label_f1[j] < max(MIN_F1, ranking["explanation_f1"][j] - NAMED_BY_LABEL)]

    def is_unclear(latent: int) -> bool:
        return ranking["explanation_f1"][latent] < CLEAR_F1

    def is_of_words(latent: int) -> bool:
        is_whole = (in_words or {}).get(latent, 0) <= MAX_IN_WORDS
        return is_whole and _lists_words(str(ranking.loc[latent, "explanation"]))

    def characters_of(latent: int) -> frozenset[str]:
        rule = read_rule(str(ranking.loc[latent, "explanation"]))
        return frozenset("".join(token.text for token in tokens_of(rule)).strip())

    def names_text(latent: int) -> bool:
        return any(map(_LETTER.match, characters_of(latent)))

    def names_cut_characters(latent: int) -> bool:
        return any("⟨" in str(sense.get("rule")) for sense in senses[latent])

    clear = sorted(ruled, key=lambda j: (is_unclear(j), j not in low.index))
    by_words = sorted(ruled, key=lambda j: (is_unclear(j), not is_of_words(j), -low.get(j, 0)))
    without = ablated.index[ablated["beyond_null_low"] <= 0]
    clarity = {
        latent: min(sense.get("share") or 0 for sense in parts[:2]) * min(sense["f1"] for sense in parts)
        for latent, parts in senses.items()
        if verdict[latent] == POLYSEMANTIC and all((sense.get("f1") or 0) >= MIN_F1 for sense in parts)
    }
    kinds = {
        "A clear rule": by_words,
        "Looks back over several tokens": [j for j in clear if _DISTANCE.search(str(ranking.loc[j, "explanation"]))],
        "Learnt, without an effect": [j for j in readable if ranking["learnt"][j] >= SURELY_LEARNT and j in without],
        "The clearest senses": sorted(
            clarity, key=lambda j: (not ranking["sure"][j], names_cut_characters(j), -clarity[j])
        ),
    }
    of_one_token = (verdict[low.index] == SINGLE_TOKEN).to_numpy()
    by_effect: dict[str, list[int]] = {
        "An effect beyond one token": sorted(low.index[~of_one_token], key=lambda j: not names_text(j)),
        "Largest effect of one token": low.index[of_one_token].tolist(),
    }
    chosen = set[int]()
    draws = []
    for _ in range(N_OVERVIEWS):
        drawn = list[OverviewExample]()
        shown = set[frozenset[str]]()
        for why, latents in (kinds | by_effect).items():
            left = [j for j in latents if j not in chosen]
            unlike = (j for j in left if characters_of(j) not in shown)  # the same tokens twice teach a reader less
            for latent in [next(unlike, left[0])] if left else []:
                chosen.add(latent)
                shown.add(characters_of(latent))
                by = f", {ablated['beyond_null'][latent]:+.2g} nats" if why in by_effect else ""
                drawn.append(OverviewExample(latent, why + by, CHOICES[why]))
        draws.append(drawn)
    return draws


def _lists_words(rule: str) -> bool:
    """Return whether a rule is a list of at least MIN_WORDS tokens that begin a word, by a space or a capital, and are
    of one alphabet. Pieces of words say less to a reader."""
    tokens = [token.text for token in listed_tokens(read_rule(rule))]
    begin_words = all(_WORD.fullmatch(token) for token in tokens)
    return begin_words and len(tokens) >= MIN_WORDS and len({token.isascii() for token in tokens}) == 1


def page_order(
    table: pd.DataFrame, ranking: pd.DataFrame, examples: Sequence[Sequence[OverviewExample]] = ()
) -> list[int]:
    """Return the latents in the order in which a newcomer should meet them. First come the latents that are worth a
    look, after every two of them one of the overview's `examples` with another verdict. Then come those that surely
    have one meaning and whose rule holds (first on many tokens, then on one token). Then come other latents with a sure
    verdict, single-token, unsure, not judged, faint and, last, dead latents. Each group is sorted by the rule's F1 (if
    the rows are not text, by the F1 of the best label), then by the variance that a latent explains or, if that is
    unknown, by the sum of its activations."""
    verdict, n_active = ranking["verdict"], table["n_active"]
    sure = ranking["sure"].eq(True)
    good = sure & (verdict == MONOSEMANTIC) & rule_holds(ranking)
    groups = [  # the first condition that holds decides; latents with a lower number come first
        (7, n_active == 0),
        (6, verdict == FAINT),
        (0, good & (ranking["token_share"] <= MAX_TOKEN_SHARE)),
        (1, good),
        (3, verdict == SINGLE_TOKEN),
        (2, sure & verdict.isin(BY_PROBABILITY)),
        (4, verdict.isin(BY_PROBABILITY)),
    ]
    conditions = [condition.to_numpy() for _, condition in groups]
    group = np.select(conditions, [number for number, _ in groups], default=5)
    explains = table["fvu_rise"] if "fvu_rise" in table and table["fvu_rise"].notna().any() else None
    contribution = (table["mean"] * n_active if explains is None else explains).fillna(0)
    f1 = ranking["explanation_f1"].fillna(0)
    if "best_label_f1" in table:  # without text, only labels distinguish latents
        f1 = f1.mask(verdict == NO_CONTEXT, table["best_label_f1"].fillna(0))
    readable = worth_a_look(ranking.assign(token_entropy=table.get("token_entropy")), N_FIRST)
    unlike = [shown.latent for draw in examples for shown in draw if verdict[shown.latent] != MONOSEMANTIC][
        : len(readable) // 2
    ]
    by_turns = zip_longest(readable[::2], readable[1::2], unlike)
    shown = [j for turn in by_turns for j in turn if j is not None]
    others = np.lexsort((ranking.index, -contribution, -f1, group)).tolist()
    first = set(shown)
    return shown + [latent for latent in others if latent not in first]
