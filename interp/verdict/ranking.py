"""Rank all latents in one table, from monosemantic to polysemantic. It says which latents have one meaning, and how
certain that is.

In: a FeatureStore, or any codes of tokens. Out: one row per latent (ties: by latent). A latent that was not tested has
NaN for its probabilities. The columns of the verdict:

    latent                   index in the dictionary
    verdict                  one word (`verdicts` lists them)
    monosemanticity          probability of one meaning (`calibration`)
    ci_low, ci_high          its 95 % interval over the firings sampled and the sources calibrated on
    sure                     whether that interval lies on one side of ½. An unsure latent gets the likelier of the two
                             verdicts, monosemantic or polysemantic
    learnt                   probability that the model learnt it, and that it is not a statistic of the text seen
                             through random weights (`learnt`). NaN also if there is no evidence, and for a hook that
                             is not after the model's last block

The columns of the meaning:

    explanation              words that predict where it fires, chosen on the fit half (`interp.verdict`); "" if none
    explanation_json         the rule itself, for programs (`text.rules`); "" if none
    explanation_f1, _precision, _recall, _n_examples, _f1_by_interval
                             scores of the rule on all tokens of the held-out half (`explanations`)
    n_senses                 number of parts into which its firings fall (`similarity`); 0 if it was not tested. A
                             polysemantic latent has 1 if its firings share no meaning and form no distinct parts
    senses                   one dictionary per sense, the largest first (`verdict.senses`); [] for one sense or none
    shared                   the main predicate that its firings share, in words (`similarity.most_shared`)
    shared_share             the share of them at which it holds, by their weight in the verdict
    shared_kind              the kind of that predicate (`text.predicate_kinds`)
    shared_json              the predicate itself, for programs (`text.rules`); "" if none

The columns with the basis of the verdict:

    concentration, evenness
                             the statistics behind the probability (`similarity`)
    token_entropy, …, density
                             the measures of `verdict.measures`
    n_active, n_sequences    firings, and sequences fired in
    evidence                 one dictionary for each statistic of the verdict (`similarity.STATISTIC_NAMES`), n_senses
                             and each measure; `ranking_evidence` gives them as a table

An entry of `evidence` has `measure`, `value`, `z` (standard deviations above its null), and `null_low` and `null_high`
(the null's central 95 % for a latent of that size). `z` and this band are None if there is no null, or if the
latent is dead or too rare.

Cost: the codes are read four times: for all evidence and samples, and to count the rules that are proposed, shortened
and scored (`explanations`). A twin and its null each take one more pass.
Limits: a verdict is about the text that was scanned. It uses no labels and no language model. `analyses/scorecard`
measures how often it is right. A meaning that no kind of predicate expresses, such as an idea or a tone, is not seen.
Two meanings that share a script, topic or form that is rare in the text count as one. monosemanticity and n_senses do
not use the token share, so they may be low for a single-token latent.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
import pandas as pd
import torch
from jaxtyping import Bool, Float64, Int, Int64

from interp.checks.arguments import check_latents
from interp.checks.errors import InterpError
from interp.codes.code_chunks import CodeSource
from interp.codes.latent_strengths import is_faint
from interp.display.verdict_names import DEAD, DENSE, FAINT, NO_CONTEXT, UNTESTED
from interp.features.feature_store import FeatureStore
from interp.features.scan_checks import check_part_tables, check_twin, scan_identity
from interp.runtime.processes import Processes, processes
from interp.runtime.progress import Progress, no_progress, percent_of_steps
from interp.runtime.progress_bar import shows_progress
from interp.storage.files import digest
from interp.storage.job_parts import check_part
from interp.storage.manifests import MADE_OF
from interp.text.rules import atoms_json
from interp.verdict.calibration import Calibration
from interp.verdict.coded_text import CodedText
from interp.verdict.evidence import READING, ChunkListener, FiringEvidence, collect_evidence
from interp.verdict.explanations import CHOOSING, PROPOSING, SCORING, SHORTENING
from interp.verdict.firing_comparison import COMPARING
from interp.verdict.learnt import LearntFit, learnt_inputs
from interp.verdict.measure_nulls import (
    Masks,
    NullComparison,
    SampledCodes,
    check_labels,
    circular_shifts,
    compare_measures,
)
from interp.verdict.measures import AFTER_MEASURES, BEFORE_MEASURES, MEASURES, RULE_SCORES, WordMass, measure_values
from interp.verdict.ranking_config import N_SHIFTS, RankingConfig
from interp.verdict.ranking_tables import N_FIRST, RANKING_FORMAT, Ranking, evidence_rows, worth_a_look
from interp.verdict.rule_search import FitFirings
from interp.verdict.senses import describe
from interp.verdict.similarity import STATISTIC_NAMES
from interp.verdict.verdicts import MAX_DENSITY, verdict_columns

IN_WORDS = ("explanation", "explanation_json", "shared", "shared_kind", "shared_json")
"""The columns with text."""
_SHARE_OF_TIME = {
    READING: 0.12,
    COMPARING: 0.34,
    PROPOSING: 0.31,
    CHOOSING: 0.11,
    SHORTENING: 0.06,
    SCORING: 0.06,
}
"""About what fraction of a ranking's time each step takes, for its progress."""


@shows_progress
def rank_features(
    features: FeatureStore,
    *,
    latents: Sequence[int] | int | None = None,
    part: tuple[int, int] = (0, 1),
    n_shifts: int = N_SHIFTS,
    nulls: int | None = None,
    seed: int = 0,
    use_labels: bool = False,
    judge_faint: bool = False,
    calibration: Calibration | None = None,
    labels: Masks | None = None,
    twin: FeatureStore | None = None,
    matches: pd.DataFrame | None = None,
    progress: Progress = no_progress,
) -> pd.DataFrame:
    """Rank all latents: first a dozen to begin with, which surely have one meaning and whose rules hold and differ,
    then from the most monosemantic on. The same store and seed give the same table.
    `help("interp.verdict.ranking")` describes its columns.

    latents: rank only these. Their values are the same as in a ranking of all latents: all codes are read, and the
    nulls are those of all latents. The rest of the time, which is most of it, is proportional to their number.

    Only `calibration`, `judge_faint` and `seed`, which draws the firings that are compared, change a verdict or the
    probability of one meaning. `attrs["features"]` of the table identifies the ranked features (`scan_identity`), and
    `attrs["calibration"]` has the `Calibration.coefficients`.

    Under `torchrun`, all processes call this with the same arguments. The latents and most of the work that serves all
    latents (`CodedText.world`) are divided among them, and each process gets the whole table.
    part: (rank, count), to rank only every count-th of the latents; `join_rankings` makes one table of all parts.
    n_shifts: circular shifts of the text, which give the null of each measure. Two suffice (`RankingConfig`).
    nulls: another name for `n_shifts`, whose value is not used if this is given.
    seed: of the shifts, and of the firings that are compared.
    use_labels: let explanations name the corpus's labels; verdicts never use them.
    judge_faint: test faint latents too, which have almost no effect, and give them a verdict like any other.
    calibration: by default, the one that ships with the package.
    labels: the masks that were scanned. The null of the measure `label_f1` needs them, as the store has only counts.
    twin: a scan of the same tokens with a dictionary from another seed, which is searched for each latent.
    matches: the matches with the dictionaries of the nulls (`compare.null_dictionaries.Nulls.twins`), for `learnt`.
    progress: called with (done, all, step) in percent.
    Raises ValueError if `features` is not a FeatureStore, for latents that do not exist, if n_shifts <
    1 or seed < 0, if use_labels is set without labels, if a mask or the twin does not belong to the scanned tokens,
    or for more parts than latents.

    Example:

        ranking = rank_features(features)
        ranking.query("verdict == 'monosemantic' and sure")[["latent", "monosemanticity", "explanation"]]
        ranking_evidence(ranking, 476)  # each measure of one latent, next to its null
    """
    if not isinstance(features, FeatureStore):
        raise InterpError(f"features is a {type(features).__name__}: open it first, FeatureStore.open(folder)")
    config = RankingConfig(
        n_shifts=n_shifts if nulls is None else nulls, seed=seed, use_labels=use_labels, judge_faint=judge_faint
    )
    chosen = _choose_latents(latents, features.d_sae)
    check_labels(features, labels, needed=config.use_labels)
    if twin is not None:
        check_twin(features, twin)
    calibration = calibration or Calibration.load()
    made_of = {
        **asdict(config),
        "calibration": calibration.coefficients(),
        "twin": None if twin is None else scan_identity(twin),
        "latents": digest(chosen),
        "text": features.has_text,
    }
    world = processes()
    rank, count = check_part(part)
    if count > len(chosen):
        raise InterpError(f"part={part!r}: there are {len(chosen)} latents to rank, so name at most as many parts")
    world.check_alike([scan_identity(features), made_of, rank, count], "ranks")

    own_latents = chosen[rank::count][world.rank :: world.count]
    is_own = np.isin(np.arange(features.d_sae), own_latents)
    tables = world.gather_results(
        lambda: _rank(
            features,
            is_own,
            config,
            calibration=calibration,
            labels=labels,
            twin=twin,
            matches=matches,
            world=world,
            progress=progress,
        )
    )
    ranking = _sort_rows([table for table in tables if len(table)], features.has_text)
    ranking.attrs |= {
        "format": RANKING_FORMAT,
        "features": scan_identity(features),
        "calibration": made_of["calibration"],
    }
    if count > 1:
        ranking.attrs |= {"part": list(part), MADE_OF: made_of}
    return ranking


def join_rankings(parts: Sequence[pd.DataFrame], names: Sequence[str] | None = None) -> pd.DataFrame:
    """Join all parts of a ranking into the table that `rank_features` returns for all latents.
    names: names of the parts in errors.

    Raises ValueError for parts of different rankings, and for duplicate or missing parts.
    """
    made_of = check_part_tables(parts, names)
    ranking = _sort_rows(parts, made_of["text"])
    ranking.attrs |= {
        "format": RANKING_FORMAT,
        "features": parts[0].attrs["features"],
        "calibration": made_of["calibration"],
    }
    return ranking


def _sort_rows(tables: Sequence[pd.DataFrame], has_text: bool) -> pd.DataFrame:
    """Sort the rows of all tables: those to begin with (`worth_a_look`), then the most monosemantic first. Without
    text, they are sorted by how well they detect a label."""
    rows = pd.concat([pd.DataFrame(table) for table in tables], ignore_index=True).sort_values("latent")
    columns = "monosemanticity" if has_text else ["label_f1", "n_active"]
    rows = rows.sort_values(columns, ascending=False, kind="stable", ignore_index=True)
    first = worth_a_look(rows, N_FIRST)
    return Ranking(rows.loc[[*first, *rows.index.difference(first)]].reset_index(drop=True))


def _rank(
    features: FeatureStore,
    chosen: Bool[np.ndarray, " d_sae"],
    config: RankingConfig,
    *,
    calibration: Calibration,
    labels: Masks | None,
    twin: FeatureStore | None,
    matches: pd.DataFrame | None,
    world: Processes,
    progress: Progress,
) -> pd.DataFrame:
    """Rank the chosen latents. Returns their rows, in any order. Each process of the world has latents of its own, or
    none."""
    faint = np.zeros(features.d_sae, bool) if config.judge_faint else _mark_faint(features)
    if not features.has_text:
        return _rows_without_text(features, faint, chosen, twin)
    progress = percent_of_steps(progress, _SHARE_OF_TIME)
    text = CodedText.from_features(features, world)
    shifts = circular_shifts(text.n_seq, text.n_ctx, config.n_shifts, int((text.maxima > 0).sum()), config.seed)
    sampled = SampledCodes(features, shifts, config.seed, world)
    rule_sample = FitFirings(text.d_sae, text.n_ctx, features.fit_half().numpy(), config.seed)
    listeners = [sampled.add, lambda chunk: rule_sample.add(chunk.of_latents(chosen))]
    columns, evidence = _verdicts(
        text, config, faint=faint, chosen=chosen, calibration=calibration, listeners=listeners, progress=progress
    )
    latent_rules, senses = describe(
        features,
        text,
        evidence,
        sample=rule_sample,
        chosen=chosen & ~faint,
        labels=labels if config.use_labels else None,
        progress=progress,
    )
    rule = {f"explanation_{name}": list(getattr(latent_rules, name)) for name in RULE_SCORES}
    values = measure_values(features, twin=twin, computed={"token_share": columns["token_share"]})
    comparisons = compare_measures(
        values,
        features,
        sampled,
        evidence.testable,
        evidence.effective_groups,
        labels=labels,
        twin=twin,
        seed=config.seed,
    )
    learnt = LearntFit.load().probability(learnt_inputs(features, matches))
    columns = {
        **values,
        **columns,
        **rule,
        "explanation": latent_rules.phrases,
        "senses": senses,
        "shared_json": [atoms_json(evidence.observed.shared.get((j, 0), ())[:1]) for j in range(features.d_sae)],
        "learnt": np.where(np.isin(columns["verdict"], UNTESTED), np.nan, learnt),
        "n_sequences": features.column("n_sequences").astype(int),
    }
    return _rows_of_text(columns, evidence, values, comparisons, chosen)


@shows_progress
def rank_codes(
    tokens: Int[torch.Tensor, "seq pos"],
    codes: CodeSource,
    *,
    vocab: Sequence[str] | None = None,
    n_shifts: int = N_SHIFTS,
    seed: int = 0,
    calibration: Calibration | None = None,
    faint: Bool[np.ndarray, " d_sae"] | None = None,
    progress: Progress = no_progress,
) -> pd.DataFrame:
    """Rank any codes (rows seq * n_ctx + pos) without a feature store, and without rules in words. The table has the
    columns of `rank_features` except explanations, senses and columns of the features table.

    vocab: one string per token id; without it the spelling of tokens is unknown.
    n_shifts: as in `rank_features`.
    faint: latents that are not tested (`interp.codes.latent_strengths.is_faint`), if any.
    Raises ValueError if n_shifts < 1 or seed < 0, if codes, vocab or faint do not belong to these tokens and codes, or
    if codes are out of range.
    """
    config = RankingConfig(n_shifts=n_shifts, seed=seed)
    text = CodedText.from_codes(tokens, codes, vocab)
    left_out = np.zeros(codes.d_sae, bool) if faint is None else np.asarray(faint)
    if left_out.shape != (codes.d_sae,):
        raise InterpError(f"faint has the shape {left_out.shape}, and needs a value for each of {codes.d_sae} latents")
    everything = np.ones(codes.d_sae, bool)
    columns, evidence = _verdicts(
        text,
        config,
        faint=left_out,
        chosen=everything,
        calibration=calibration or Calibration.load(),
        progress=progress,
    )
    measures = {"token_share": columns["token_share"]}
    return _sort_rows([_rows_of_text(columns, evidence, measures, {}, everything)], has_text=True)


def _verdicts(
    text: CodedText,
    config: RankingConfig,
    *,
    faint: Bool[np.ndarray, " d_sae"],
    chosen: Bool[np.ndarray, " d_sae"],
    calibration: Calibration,
    listeners: Sequence[ChunkListener] = (),
    progress: Progress,
) -> tuple[dict[str, Any], FiringEvidence]:
    """Collect the evidence of the chosen latents and judge those that are not faint. Returns the columns of the
    verdict, in the order of the latents, and the evidence."""
    calibration.warn_of_other_kinds()
    word_mass = WordMass(text.tokens, text.vocab, text.d_sae)
    evidence = collect_evidence(
        text,
        calibration,
        n_shifts=config.n_shifts,
        seed=config.seed,
        listeners=[lambda chunk: word_mass.add(chunk.of_latents(chosen)), *listeners],
        chosen=chosen & ~faint,
        progress=progress,
    )
    return verdict_columns(text, evidence, word_mass.largest_share, faint), evidence


def _mark_faint(features: FeatureStore) -> Bool[np.ndarray, " d_sae"]:
    """Mark the latents that never fire strongly enough to be tested."""
    norms = None if features.W_dec is None else features.column("dec_norm")
    return np.asarray(is_faint(np.nan_to_num(features.column("max")).astype(np.float32), norms))


def _column_order() -> list[str]:
    """Return the columns of a ranking, in order, including the measures registered so far."""
    return [*BEFORE_MEASURES, *MEASURES, *AFTER_MEASURES]


def _rows_of_text(
    columns: Mapping[str, Any],
    evidence: FiringEvidence,
    measures: Mapping[str, Float64[np.ndarray, " d_sae"]],
    comparisons: Mapping[str, NullComparison],
    chosen: Bool[np.ndarray, " d_sae"],
) -> pd.DataFrame:
    """Return the rows of the chosen latents in a ranking of codes of text."""
    n_senses = np.where(evidence.observed.n_senses > 0, evidence.observed.n_senses, np.nan)
    statistics = {
        **{name: (evidence.statistic(name), evidence.null(name)) for name in STATISTIC_NAMES},
        "n_senses": (n_senses, evidence.senses_null),
        **{name: (values, comparisons.get(name)) for name, values in measures.items()},
    }
    return _table(columns, statistics, chosen)


def _rows_without_text(
    features: FeatureStore,
    faint: Bool[np.ndarray, " d_sae"],
    chosen: Bool[np.ndarray, " d_sae"],
    twin: FeatureStore | None,
) -> pd.DataFrame:
    """Return the rows of a ranking of codes without text, with the columns that do not need one."""
    n = features.d_sae
    n_active = features.column("n_active").astype(np.int64)
    density = n_active / max(features.meta["n_tokens"], 1)
    verdict = np.select([n_active == 0, faint, density > MAX_DENSITY], [DEAD, FAINT, DENSE], NO_CONTEXT)
    values = {
        name: np.full(n, np.nan) if measure.needs_text else measure(features, twin)
        for name, measure in MEASURES.items()
    }
    columns = {
        **dict.fromkeys(_column_order(), np.full(n, np.nan)),
        **values,
        **dict.fromkeys(IN_WORDS, np.full(n, "", dtype=object)),
        "latent": np.arange(n),
        "verdict": verdict,
        "sure": np.zeros(n, bool),
        "n_senses": np.zeros(n, int),
        "senses": pd.Series([[] for _ in range(n)]),
        "explanation_f1_by_interval": pd.Series([[] for _ in range(n)]),
        "n_active": n_active,
        "n_sequences": features.column("n_sequences").astype(int),
        "density": density,
    }
    return _table(columns, {name: (scores, None) for name, scores in values.items()}, chosen)


def _table(
    columns: Mapping[str, Any], statistics: Mapping[str, Any], chosen: Bool[np.ndarray, " d_sae"]
) -> pd.DataFrame:
    """Order the columns, and append the evidence.
    statistics: as in `evidence_rows`."""
    table = pd.DataFrame({name: pd.Series(columns[name]) for name in _column_order() if name in columns})[chosen]
    return table.assign(evidence=evidence_rows(statistics, table["latent"].to_numpy()))


def _choose_latents(latents: Sequence[int] | int | None, d_sae: int) -> Int64[np.ndarray, " latent"]:
    if latents is None:
        return np.arange(d_sae)
    return np.sort(check_latents([latents] if isinstance(latents, int | np.integer) else latents, d_sae))
