"""Choose the order in which to look at the latents, and those that the overview shows.

In: features and ranking, with one row per latent (also dead latents), in the same order. Out: latents.
"""

import re
from collections.abc import Mapping, Sequence
from itertools import islice, zip_longest
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from interp.display.byte_parts import has_parts
from interp.display.verdict_names import (
    BY_PROBABILITY,
    FAINT,
    IDLE,
    MONOSEMANTIC,
    POLYSEMANTIC,
    SINGLE_TOKEN,
)
from interp.features.feature_store import FeatureStore
from interp.report.naming import MARGIN
from interp.statistics.cutoffs import MIN_F1
from interp.text.predicate_kinds import AROUND
from interp.text.rules import Rule, first_tokens, read_rule
from interp.verdict.ranking_tables import N_FIRST, rule_holds, worth_a_look

MAX_TOKEN_SHARE = 0.5
"""A latent counts as firing on many tokens if at most this share of its activation is on its commonest token."""
MIN_RECALL = 0.5
"""Least share of its firings at which the rule of a latent holds that comes first: a rule that leaves most of them
unsaid shows a newcomer something else than its title."""
CLEAR_F1 = 0.9
"""The overview's example of a clear rule has at least this F1, if any has."""
N_OVERVIEWS = 4
"""Number of choices of latents for the overview, which its button shows one after the other."""
N_SHOWN = 6
"""Number of latents in each."""
_LETTER = re.compile(r"[^\W_]")
"""A letter or a digit. The text around firings of rules whose tokens have none is rows of signs, which tell little
on the overview."""
_WORD = re.compile(r" [^\W\d_]{2,}|[A-Z][a-z]+")
MIN_WORDS, MAX_WORDS = 2, 4
"""Least and largest number of tokens of a rule that the overview shows as an example of words that belong together: it
names them all."""
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


CHOICES = {
    "A clear rule": f"Of the features that surely have one meaning and whose rule has an F1 of {CLEAR_F1} or more: "
    f"first those whose rule is a list of at most {MAX_WORDS} words; of these, the one whose rule has the largest F1.",
    "Looks back over several tokens": "Of the features that surely have one meaning and whose rule looks further back "
    "than one token, the one whose rule has a high F1 and predicts varied tokens.",
    "Learnt, without an effect": f"Of the features that are learnt with a probability of {SURELY_LEARNT} or more and "
    "have no sure effect, the one whose rule predicts the most varied tokens.",
    "The clearest senses": "Of the polysemantic features, first those that surely are, then those whose rules name no "
    "part of a character; of these, the one whose senses have the clearest rules and divide its firings most evenly.",
    "An effect beyond one token": "The largest effect that is surely above that of its null, of a feature that is not "
    "single-token; first those whose rule names no part of a character, and of these those with letters or digits.",
    "Largest effect of one token": "The largest sure effect of a single-token feature.",
}
"""What the overview shows, and how each is chosen."""


NEXT = (
    "Next in the table's order",
    "The first in the order of the table whose commonest token is on no other card.",
)
"""What the overview says of a latent that is an example of none of these."""


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
    ruled = [j for j in readable if label_f1[j] < max(MIN_F1, ranking["explanation_f1"][j] - MARGIN)]

    def rule_of(latent: int) -> Rule:
        row = ranking.loc[latent]
        return read_rule(row["explanation"], row.get("explanation_json"))

    def is_of_words(latent: int) -> bool:
        is_whole = (in_words or {}).get(latent, 0) <= MAX_IN_WORDS
        return is_whole and _lists_words(rule_of(latent))

    def looks_back(latent: int) -> bool:
        return any(atom.subject == AROUND for atom in rule_of(latent))

    def characters_of(latent: int) -> frozenset[str]:
        return frozenset("".join(token for atom in rule_of(latent) for token in atom.tokens).strip())

    def names_text(latent: int) -> bool:
        return any(map(_LETTER.match, characters_of(latent)))

    def name_cut_characters(*rules: Rule) -> bool:
        return any(has_parts(token) for rule in rules for atom in rule for token in atom.tokens)

    def by_readability(latent: int) -> tuple[bool, bool]:
        return name_cut_characters(rule_of(latent)), not names_text(latent)

    def by_senses(latent: int) -> tuple[bool, bool, float]:
        rules = [read_rule(sense.get("rule"), sense.get("rule_json")) for sense in senses[latent]]
        return not ranking["sure"][latent], name_cut_characters(*rules), -clarity[latent]

    def by_clarity(latent: int) -> tuple[bool, bool, float]:
        f1 = ranking["explanation_f1"][latent]
        return f1 < CLEAR_F1, not is_of_words(latent), -f1

    without = ablated.index[ablated["beyond_null_low"] <= 0]
    clarity = {
        latent: min(sense.get("share") or 0 for sense in parts[:2]) * min(sense["f1"] for sense in parts)
        for latent, parts in senses.items()
        if verdict[latent] == POLYSEMANTIC and all((sense.get("f1") or 0) >= MIN_F1 for sense in parts)
    }
    kinds = {
        "A clear rule": sorted(ruled, key=by_clarity),
        "Looks back over several tokens": [j for j in ruled if looks_back(j)],
        "Learnt, without an effect": [j for j in readable if ranking["learnt"][j] >= SURELY_LEARNT and j in without],
        "The clearest senses": sorted(clarity, key=by_senses),
    }
    of_one_token = (verdict[low.index] == SINGLE_TOKEN).to_numpy()
    by_effect: dict[str, list[int]] = {
        "An effect beyond one token": sorted(low.index[~of_one_token], key=by_readability),
        "Largest effect of one token": low.index[of_one_token].tolist(),
    }
    chosen = set[int]()
    draws = []
    for _ in range(N_OVERVIEWS):
        drawn = list[OverviewExample]()
        seen = set[frozenset[str]]()
        for why, latents in (kinds | by_effect).items():
            remaining = [j for j in latents if j not in chosen]
            unlike = (j for j in remaining if characters_of(j) not in seen)  # the same tokens twice teach a reader less
            for latent in [next(unlike, remaining[0])] if remaining else []:
                chosen.add(latent)
                seen.add(characters_of(latent))
                by = f", {ablated['beyond_null'][latent]:+.2g} nats" if why in by_effect else ""
                drawn.append(OverviewExample(latent, why + by, CHOICES[why]))
        draws.append(drawn)
    return draws


def with_next(
    draws: Sequence[Sequence[OverviewExample]], order: Sequence[int], ranking: pd.DataFrame, alike: Sequence[Any]
) -> list[list[OverviewExample]]:
    """Fill the choices of the overview up to N_SHOWN latents each, with the first in the `order` of the table that are
    not idle, and of which no two are `alike`. Nothing is said of them where no latent is an example of anything."""
    chosen = {example.latent for draw in draws for example in draw}
    is_idle = ranking["verdict"].isin(IDLE)
    seen = set[Any]()
    others: list[OverviewExample] = []
    for latent in order:
        if len(chosen) + len(others) >= N_SHOWN * len(draws):
            break
        if is_idle[latent] or latent in chosen or alike[latent] in seen:
            continue
        seen.add(alike[latent])
        others.append(OverviewExample(latent, *(NEXT if chosen else ("", ""))))
    remaining = iter(others)
    filled = [[*draw, *islice(remaining, N_SHOWN - len(draw))] for draw in draws]
    return [draw for draw in filled if draw]


def _lists_words(rule: Rule) -> bool:
    """Return whether a rule is a list of MIN_WORDS to MAX_WORDS tokens that begin a word, by a space or a capital, and
    are of one alphabet. Pieces of words say less to a reader."""
    tokens = first_tokens(rule) if len(rule) == 1 else []
    begin_words = all(_WORD.fullmatch(token) for token in tokens)
    return begin_words and MIN_WORDS <= len(tokens) <= MAX_WORDS and len({token.isascii() for token in tokens}) == 1


def page_order(
    table: pd.DataFrame,
    ranking: pd.DataFrame,
    f1: Sequence[float | None],
    examples: Sequence[Sequence[OverviewExample]] = (),
) -> list[int]:
    """Return the latents in the order in which a newcomer should meet them. First come the latents that are worth a
    look, by `f1`, after every two of them one of the overview's `examples` with another verdict that is not unsure.
    Then come those that surely have one meaning and whose rule holds, and tells most of their firings (first on many
    tokens, then on one token). Then come other latents with a sure verdict, single-token, unsure, not judged, faint
    and, last, dead latents. Each group is sorted by `f1`, that of what names each latent, those without one last, then
    by the variance that a latent explains or, if that is unknown, by the sum of its activations."""
    verdict, n_active = ranking["verdict"], table["n_active"]
    sure = ranking["sure"].eq(True)
    recall = ranking.get("explanation_recall", pd.Series(np.nan, ranking.index))
    tells_most = ~(recall < MIN_RECALL)
    good = sure & (verdict == MONOSEMANTIC) & rule_holds(ranking) & tells_most
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
    first_ones = worth_a_look(ranking.assign(token_entropy=table.get("token_entropy"))[tells_most], N_FIRST)
    readable = sorted(first_ones, key=lambda latent: -(f1[latent] or 0))
    others_shown = (shown.latent for draw in examples for shown in draw if verdict[shown.latent] != MONOSEMANTIC)
    unlike = [j for j in others_shown if sure[j] or verdict[j] not in BY_PROBABILITY][: len(readable) // 2]
    by_turns = zip_longest(readable[::2], readable[1::2], unlike)
    shown = [j for turn in by_turns for j in turn if j is not None]
    others = np.lexsort((ranking.index, -contribution, -np.array(f1, float), group)).tolist()
    first = set(shown)
    return shown + [latent for latent in others if latent not in first]


def shares_in_words(features: FeatureStore) -> dict[int, float]:
    """Return for each latent the share of its stored firings whose next token goes on with a letter or digit."""
    examples = features.sql('select latent, "row" from examples')
    begins = np.array([token[:1].isalnum() for token in features.vocab])
    goes_on = np.pad(begins[features.tokens.numpy()][:, 1:], ((0, 0), (0, 1)))
    shares = examples.assign(goes_on=goes_on.reshape(-1)[examples["row"]]).groupby("latent")["goes_on"].mean()
    return dict(zip(shares.index.tolist(), shares.tolist(), strict=True))
