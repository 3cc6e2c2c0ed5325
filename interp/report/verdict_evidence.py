"""Prepare the evidence for each verdict for the page: measures with their nulls, the rule's numbers, and the senses.

In: a ranking, whose column `evidence` has, for each latent, a list of {measure, value, z, null_low, null_high}. Out: a
description of each measure, once for the page, and the rows of each latent, [index of the measure, value, z,
null_low, null_high]. A measure that is not known here is shown by its name. Each sense has its rule and examples
(`contexts`).
"""

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from interp.checks.errors import InterpError
from interp.display.verdict_names import ONE_MEANING_VERDICTS
from interp.features.feature_store import FeatureStore
from interp.report.contexts import Contexts
from interp.report.json_text import number
from interp.statistics.cutoffs import MIN_F1
from interp.text.rules import Atom, Rule, first_tokens, read_predicates, read_rule, tokens_like, words_of
from interp.verdict.calibration import Calibration
from interp.verdict.measures import MEASURES, STATISTIC_TEXTS, title_and_meaning
from interp.verdict.similarity import STATISTIC_NAMES

EVIDENCE_COLUMNS = ("latent", "measure", "value", "z", "null_low", "null_high")
SHOWN_ELSEWHERE = ("density",)
DECIDING_MEASURES = (*STATISTIC_NAMES, "token_share")
"""The measures that determine the probability of one meaning, and those that identify a single-token latent."""
OUTLIER_SHARE = 0.01
"""Share of the latents that may lie beyond an end of a bar."""
SHIFTED_FIRINGS = "the same firings, circularly shifted against the text"
RANDOM_DIRECTIONS = "random directions"
DECODER_LIKE_DIRECTIONS = "random directions, as anisotropic as the decoder"
AFTER_ANY_TOKEN = "what follows any token"
OTHER_NULLS = {"nearest_twin": RANDOM_DIRECTIONS}
NULL_DESCRIPTIONS = {
    "shift": SHIFTED_FIRINGS,
    "directions": DECODER_LIKE_DIRECTIONS,
    "ranks": AFTER_ANY_TOKEN,
    "none": "",
}
"""For each kind of null of a measure, a description of the null that gives its z and band."""
EXPLANATION_FIELDS = ("precision", "recall", "f1_by_interval")
SENSE_FIELDS = ("share", "f1", "precision", "recall", "n", "monosemanticity", "by_chance", "promoted")
N_STRONGEST, N_WEAK, N_FOLLOWING = 5, 3, 8


class MeasureRow(NamedTuple):
    name: str
    """The name of its column."""
    title: str
    meaning: str
    null: str
    """A description of the null that gives the z and the band. "" for a measure without a null."""
    domain: tuple[float, float] | None
    """The ends of its bar, between which nearly all latents and nearly all of their nulls lie. None for a measure
    without a bar."""
    decides: bool
    """Whether the verdict depends on it."""
    weight: float | None
    """By how much one unit of it raises the logit of the probability of one meaning. None if it does not."""
    boundary: float | None
    """The value that is evidence neither for one meaning nor against it. If all measures with a weight have this value,
    the probability is ½."""


class VerdictEvidence(NamedTuple):
    measures: list[MeasureRow]
    rows: dict[int, list[list]]
    """Latent → [index in `measures`, value, z, null_low, null_high], with None for a missing number."""


def verdict_evidence(
    table: pd.DataFrame, tested: Collection[int], calibration: Mapping[str, float] | None = None
) -> VerdictEvidence:
    """Return the measures and each latent's evidence.
    table: has EVIDENCE_COLUMNS.
    tested: the latents over which the bars extend.
    calibration: the `Calibration.coefficients` of the verdicts; by default, those of the package."""
    table = table[table[["value", "z"]].notna().any(axis=1) & ~table["measure"].isin(SHOWN_ELSEWHERE)]
    measures: list[MeasureRow] = []
    rows: dict[int, list[list]] = {}
    weights = dict(calibration or Calibration.load().coefficients())
    bias = weights.pop("bias")
    total = sum(weights.values())
    boundary = -bias / total if total else None
    for index, (name, part) in enumerate(table.groupby("measure", sort=False)):
        title, meaning = title_and_meaning(str(name))
        has_null = bool(part[["z", "null_low"]].notna().to_numpy().any())
        domain = _domain(part[part["latent"].isin(tested)])
        null = _null(str(name)) if has_null else ""
        weight, middle = (weights[str(name)], boundary) if name in weights else (None, None)
        decides = name in DECIDING_MEASURES
        measures.append(MeasureRow(str(name), title, meaning, null, domain, decides, weight, middle))
        for latent, *numbers in part[["latent", *EVIDENCE_COLUMNS[2:]]].itertuples(index=False, name=None):
            rows.setdefault(int(latent), []).append([index, *(number(value) for value in numbers)])
    return VerdictEvidence(measures, rows)


def _null(name: str) -> str:
    if name in MEASURES:
        return NULL_DESCRIPTIONS[MEASURES[name].null]
    return OTHER_NULLS.get(name, SHIFTED_FIRINGS) if name in STATISTIC_TEXTS else "its null"


def _domain(part: pd.DataFrame) -> tuple[float, float] | None:
    columns = (part[name].to_numpy(float) for name in ("value", "null_low", "null_high"))
    finite = [values[np.isfinite(values)] for values in columns]
    if not len(finite[0]):
        return None
    ends = [np.quantile(values, [OUTLIER_SHARE, 1 - OUTLIER_SHARE]) for values in finite if len(values)]
    low, high = float(min(low for low, _ in ends)), float(max(high for _, high in ends))
    return (number(low), number(high)) if high > low else None


def explanations(ranking: pd.DataFrame) -> dict[int, dict[str, Any]]:
    """Return the EXPLANATION_FIELDS of each latent that has an explanation, from its columns `explanation_…`."""
    columns = {f"explanation_{name}": name for name in EXPLANATION_FIELDS}
    rows = ranking.loc[ranking["explanation"].fillna("") != "", list(columns)].rename(columns=columns)
    return {
        int(latent): {str(name): _plain(value) for name, value in row.items()}
        for latent, row in zip(rows.index, rows.to_dict("records"), strict=True)
    }


def _plain(value: Any) -> Any:
    return [number(item, 3) for item in value] if hasattr(value, "__len__") else number(value, 3)


def most_shared(ranking: pd.DataFrame) -> dict[int, Atom]:
    """Return the main common property of each latent's firings, if the ranking has it."""
    rows = zip(ranking.index.tolist(), ranking["shared"].fillna(""), ranking["shared_json"], strict=True)
    return {latent: read_predicates([words], written)[0] for latent, words, written in rows if words}


def senses_in(ranking: pd.DataFrame) -> dict[int, list[Mapping[str, Any]]]:
    """Return the senses of each latent that has more than one, sorted by their share of its activation, the largest
    first. A sense with the rule of its latent, if that is taken to have one meaning, has the F1 of that."""
    cells = zip(ranking.index.tolist(), ranking["senses"].tolist(), strict=True)
    several = {j: cell for j, cell in cells if isinstance(cell, Sequence | np.ndarray) and len(cell) > 1}
    named = ranking[ranking["verdict"].isin(ONE_MEANING_VERDICTS)]
    f1_of = {(j, rule): f1 for j, rule, f1 in named[["explanation", "explanation_f1"]].itertuples(name=None)}

    def with_f1(latent: int, sense: Mapping[str, Any]) -> Mapping[str, Any]:
        f1 = f1_of.get((latent, sense.get("rule")))
        return sense if f1 is None else {**sense, "f1": f1}

    return {
        j: sorted((with_f1(j, sense) for sense in cell), key=lambda sense: -(sense.get("share") or 0))
        for j, cell in several.items()
    }


def sense_rows(senses: Mapping[int, list[Mapping[str, Any]]], n_rows: int) -> list[tuple[int, int, int]]:
    """Return the latent, the number of the sense and the row of each firing that is shown of a sense: first its
    strongest, then its weakest. Raises ValueError if a sense names a row that does not exist."""
    shown = [
        (latent, k, row)
        for latent, parts in senses.items()
        for k, sense in enumerate(parts)
        for row in _ids(sense, "rows", N_STRONGEST) + _ids(sense, "weak_rows", N_WEAK)
    ]
    if wrong := [row for *_, row in shown if not 0 <= row < n_rows]:
        raise InterpError(f"a sense has the row {wrong[0]}, but the store has {n_rows} rows")
    return shown


def senses_of(
    senses: Mapping[int, list[Mapping[str, Any]]],
    shown: Sequence[tuple[int, int, int]],
    contexts: Contexts,
    stored: Mapping[int, Mapping[int, float]] = MappingProxyType({}),
) -> dict[int, list[dict[str, Any]]]:
    """Return the senses as the page shows them, with the firings `shown` of them (`sense_rows`), the tokens that are
    `named` in what describes each, None if that names no tokens, and the `tokens` by which the page recognises the
    sense of any other firing: those that are named of no other sense. A sense without named tokens has those on which
    only it was seen to fire, and those that its own are like. Clusters have stragglers, so a named sense has no other
    tokens, even if it was seen to fire on them. `strongest` are the rows of its firings among all that are `stored`
    (`firings_by_strength`), the strongest first: of those on its tokens, or of those shown of it where none is;
    `fires_on` are the tokens of the first of these, or of those sampled where none is."""
    latents, numbers, rows = zip(*shown, strict=True) if shown else ((), (), ())
    examples: dict[tuple[int, int], list] = {}
    for latent, k, example in zip(latents, numbers, contexts.examples(numbers, latents, rows), strict=True):
        examples.setdefault((latent, k), []).append(example)
    tokens = contexts.features.tokens.reshape(-1)
    ids: dict[str, list[int]] = {}
    for token, string in enumerate(contexts.features.vocab):
        ids.setdefault(string, []).append(token)

    def ids_of(texts: Sequence[str]) -> set[int]:
        return {token for text in texts for token in ids.get(text, [])}

    accounts: dict[int, list[dict[str, Any]]] = {}
    for latent, parts in senses.items():
        fires_on = [tokens_at(contexts.features, _ids(sense, "rows")) for sense in parts]
        described = [_sense(sense, own) for sense, own in zip(parts, fires_on, strict=True)]
        rules = [described_by(sense) for sense in described]
        named = [ids_of(first_tokens(rule)) for rule in rules]
        named_by_any = {token for own in named for token in own}
        seen = [
            set(tokens[_ids(sense, "rows") + _ids(sense, "weak_rows")].tolist()) | ids_of(tokens_like(rule))
            for sense, rule in zip(parts, rules, strict=True)
        ]
        claimed = [own or fires_on - named_by_any for own, fires_on in zip(named, seen, strict=True)]
        n_claims = Counter(token for own in claimed for token in own)
        accounts[latent] = []
        for k, sense in enumerate(described):
            own = sorted(token for token in claimed[k] if n_claims[token] == 1)
            shown_of_it = examples.get((latent, k), [])
            value_of = {row: value for _, row, _, value, *_ in shown_of_it}
            on_its = {
                row: value for row, value in {**stored.get(latent, {}), **value_of}.items() if int(tokens[row]) in own
            }
            strongest = [row for row, _ in sorted((on_its or value_of).items(), key=lambda firing: -firing[1])]
            accounts[latent].append(
                sense
                | {"tokens": own, "named": sorted(named[k]) or None, "examples": shown_of_it}
                | {
                    "strongest": strongest,
                    "fires_on": tokens_at(contexts.features, strongest[:N_STRONGEST]) or fires_on[k],
                }
            )
    return accounts


def described_by(sense: Mapping[str, Any]) -> Rule | Atom:
    """Return the rule of a sense if it holds, else what most of its firings share; () where neither is known."""
    holds = sense["rule"] and (sense["f1"] is None or sense["f1"] >= MIN_F1)
    return sense["rule"] if holds else next(iter(sense["common"]), ())


def is_described_by_rule(sense: Mapping[str, Any]) -> bool:
    return bool(sense["rule"]) and words_of(described_by(sense)) == words_of(sense["rule"])


def _sense(sense: Mapping[str, Any], tokens: Sequence[str]) -> dict[str, Any]:
    """Return a sense as the page shows it. tokens: those of its strongest firings among those sampled."""
    words = [] if sense.get("common") is None else [str(each) for each in sense["common"]]
    common = read_predicates(words, sense.get("common_json"))
    rule: Rule | Atom = read_rule(sense.get("rule"), sense.get("rule_json"))
    if common and not sense.get("rule_json") and sense.get("f1") is None and words_of(rule) == words[0]:
        rule = without_itself(common[0], tokens)
    common.sort(key=lambda atom: _token_around(atom) in tokens)
    return (
        {name: number(sense.get(name)) for name in SENSE_FIELDS}
        | {"rule": rule, "common": [without_itself(atom, tokens) for atom in common]}
        | {"following": _ids(sense, "following", N_FOLLOWING)}
        | {"n_weak": len(_ids(sense, "weak_rows", N_WEAK))}
    )


def without_itself(atom: Atom, fires_on: Sequence[str]) -> Atom:
    """Return what firings have around them; if that is the token on which most of them are, this alone: a token is near
    itself."""
    is_itself = 2 * fires_on.count(_token_around(atom) or "") >= len(fires_on) > 0
    return atom._replace(kind="token") if _token_around(atom) is not None and is_itself else atom


def _token_around(atom: Atom) -> str | None:
    """Return the token that is around the firings; None if something else is said of them."""
    return next(iter(atom.tokens), None) if atom.kind == "around" else None


def tokens_at(features: FeatureStore, rows: Sequence[int]) -> list[str]:
    return [features.vocab[token] for token in features.tokens.reshape(-1)[list(rows)].tolist()]


def firings_by_strength(features: FeatureStore) -> dict[int, dict[int, float]]:
    """Return the rows of the stored firings of each latent with their activations, the strongest first."""
    rows = features.sql("""
        select latent, "row", max(value) as value from examples group by latent, "row"
        order by latent, value desc, "row" """)
    firings: dict[int, dict[int, float]] = {}
    for latent, row, value in zip(*(rows[name].tolist() for name in ("latent", "row", "value")), strict=True):
        firings.setdefault(latent, {})[row] = value
    return firings


def _ids(sense: Mapping[str, Any], name: str, most: int | None = None) -> list[int]:
    return [] if sense.get(name) is None else [int(item) for item in sense[name][:most]]
