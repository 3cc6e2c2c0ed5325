"""The stages that judge the features: `quality`, `concepts`, `nulls`, `ranking` and, at the end, `report`."""

import math
import os
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from interp.checks.errors import InterpError
from interp.display.verdict_looks import verdict_words
from interp.display.verdict_names import MONOSEMANTIC, ONE_MEANING_ROW, POLYSEMANTIC, SINGLE_TOKEN, VERDICTS
from interp.pipeline.config import RunConfig
from interp.pipeline.costs import Cost, Sizes
from interp.pipeline.opening import lazy_call, read_table
from interp.pipeline.run_folder import Run
from interp.pipeline.sections import QualityConfig, RankingSection
from interp.pipeline.stages import LEFT_OUT, NEXT_LINE, OF_AUTOENCODERS, stage
from interp.pipeline.stages.latents import training_cost
from interp.pipeline.stages.upstream import harvest_cost
from interp.runtime.options import values_of
from interp.runtime.progress import Progress
from interp.storage.artifacts import is_run
from interp.storage.files import digest_json, write_parquet
from interp.verdict.ranking_config import RankingConfig

if TYPE_CHECKING:
    import pandas as pd

    from interp.features.feature_store import FeatureStore
    from interp.report.panels import Panel

LATENT_SECONDS = 4.5e-3
"""Seconds to judge a latent: its senses, their rules and its nulls."""
TEXT_SECONDS = 3.0
"""Seconds to prepare the text for all latents."""


def _quality_cost(sizes: Sizes) -> Cost:
    """Estimate the cost: one pass of all tokens up to the hook, and two downstream, unchanged and with the SAE; for a
    part of the tokens also with baselines and ablations."""
    from interp.evaluation.splice import PART_TOKENS

    part = sizes.held_out / max(1, sizes.held_out // PART_TOKENS)
    passes = sizes.passes(sizes.held_out, before=1, after=2) + sizes.passes(part, after=5)
    directions = 2 * sizes.held_out * sizes.d_in * sizes.d_sae
    picking = Cost(memory=passes.memory + 8 * sizes.d_in * sizes.d_sae, seconds=5e-9 * sizes.held_out * sizes.d_sae)
    return passes + sizes.encoding(sizes.held_out) + picking + Cost(float32_operations=directions)


@stage(
    inputs=("corpus", "model", "activations", "sae"),
    cost=_quality_cost,
    reduced_by=("quality.tokens",),
    config={"quality": QualityConfig},
    other_sections=("harvest", "sae"),
    opens={"quality": ("quality.parquet", read_table)},
    summary=lambda results: NEXT_LINE.join(
        f"{name}: FVU {r['fvu']:.3f}, L0 {r['l0']:.0f}, "
        + ("no loss of next tokens" if math.isnan(r["ce_clean"]) else f"CE recovered {r['ce_recovered']:.3f}")
        for name, r in results.items()
    ),
)
def quality(run: Run, folder: Path, progress: Progress) -> dict[str, Any]:
    """the dictionary spliced into the model: L0, FVU, cross-entropy recovered, compared with PCA and random
    directions"""
    from interp.codes.dictionary import Dictionary
    from interp.evaluation.baselines import NeuronDictionary, PCADictionary, RandomDictionary
    from interp.evaluation.quality import quality_table

    config, hook_name = run.config, run.hook_name
    d_in = run.sae.d_in
    k = min(d_in, getattr(config.sae, "k", None) or max(1, round(run.results("sae")["l0"])))
    seed = getattr(config.sae, "seed", 0)
    is_mlp = run.baseline == ("neurons", hook_name)
    dictionaries: dict[str, Dictionary] = {"SAE": run.sae}
    if run.sae.kind == "sae":  # the baselines reconstruct the hook that they read
        dictionaries |= {
            "PCA": PCADictionary.fit(run.store, hook_name, k=k),
            "neurons" if is_mlp else "coordinates": NeuronDictionary(d_in, k=k, signed=not is_mlp),
            "random": RandomDictionary.fit(run.store, hook_name, run.sae.d_sae, k=k, seed=seed),
        }
    table = quality_table(
        run.model,
        hook_name,
        dictionaries,
        run.held_out.tokens,
        baselines=[name for name in dictionaries if name != "SAE"],
        batch_size=config.quality.batch_size,
        exclude=run.tokenizer.special_ids,
        unigram_loss=run.results("model").get("unigram_cross_entropy"),
        progress=progress,
    )
    write_parquet(folder / "quality.parquet", table)
    return _group_rows(table, "dictionary")


def _concepts_panel(run: Run) -> "Panel":
    import pandas as pd

    from interp import figures
    from interp.report.panels import Panel

    concepts = run.concepts.sort_values("f1_feature", ascending=False)
    rival = run.baseline.singular
    if concepts.empty:
        return Panel(note="No concepts: the tokens carry no labels, or the neurons were not scanned.")
    table = pd.DataFrame({
        "Concept": concepts["label"].str.replace("_", " "),
        "Feature": concepts["feature"].map("{:.0f}".format, na_action="ignore"),
        "F1 of the feature": concepts["f1_feature"].map("{:.2f}".format, na_action="ignore"),
        rival.capitalize(): concepts["neuron"].map("{:.0f}".format, na_action="ignore"),
        f"F1 of the {rival}": concepts["f1_neuron"].map("{:.2f}".format, na_action="ignore"),
    })  # fmt: skip
    note = f"How well the best single feature and the best single {rival} detect each concept, on held-out text."
    return Panel(note=note, figure=figures.concept_dots(run.concepts), table=table)


@stage(
    inputs=("features", "neurons"),
    cost=lambda sizes: Cost(disk=1e4, seconds=0.2),
    opens={"concepts": ("concepts.parquet", read_table)},
    summary=lambda results: (
        "nothing to compare: the text has no labels"
        if not results
        else f"best feature beats best {next((r['rival'] for r in results.values() if 'rival' in r), 'neuron')} on "
        f"{sum(r['f1_feature'] > r['f1_neuron'] for r in results.values())} of {len(results)} labels"
    ),
    panel=_concepts_panel,
)
def concepts(run: Run, folder: Path, progress: Progress) -> dict[str, Any]:
    """the best latent and the best neuron (or coordinate) for each label, F1 on held-out text"""
    from interp.compare.concepts import concept_table

    if run.output_hook is not None:
        return {LEFT_OUT: OF_AUTOENCODERS}
    table = concept_table(run.features, run.neurons, rival=run.baseline.singular)
    write_parquet(folder / "concepts.parquet", table)
    return _group_rows(table, "label")


def _group_rows(table: "pd.DataFrame", key: str) -> dict[str, Any]:
    return {str(name): row for name, row in table.set_index(key).to_dict(orient="index").items()}


def by_dictionary(shares: "pd.DataFrame") -> dict[str, Any]:
    """Return dictionary → verdict → the shares for a line of the command line."""
    columns = ["verdict", "n", "share", "ci_low", "ci_high", "sure_share", "sure_low", "sure_high"]
    firing = shares.dropna(subset=["share"]).groupby("dictionary", sort=False)
    return {str(name): _group_rows(rows[columns], "verdict") for name, rows in firing}


def _n_tested(shares: Mapping[str, Mapping[str, Any]]) -> int:
    """Count the latents that the shares cover."""
    return sum(share["n"] for verdict, share in shares.items() if verdict != ONE_MEANING_ROW)


def nulls_summary(results: Mapping[str, Any]) -> str:
    """Return a line per dictionary: the share with one meaning among the latents neither dead nor faint (95 %
    interval), and its parts."""
    lines = []
    for name, shares in results["shares"].items():
        one_meaning = shares[ONE_MEANING_ROW]
        lines.append(
            f"{name + ':':20s} one meaning {one_meaning['share']:4.0%} of {_n_tested(shares):,} "
            f"({one_meaning['ci_low']:.0%} to {one_meaning['ci_high']:.0%}): "
            f"{shares[MONOSEMANTIC]['share']:.0%} monosemantic, {shares[SINGLE_TOKEN]['share']:.0%} single-token"
        )
    return NEXT_LINE.join(lines)


def _nulls_cost(sizes: Sizes) -> Cost:
    """Estimate the cost. Dictionaries learn from the store together, one more from each of the other models, which are
    harvested; all are encoded, and a sample of the latents of each is judged."""
    from interp.compare.null_dictionaries import NullsWork

    if sizes.config.harvest.output_hook:
        return Cost()
    settings = sizes.config.nulls
    work = NullsWork.of(settings, sizes.config.sae, sizes.model)
    training = training_cost(sizes, work.tokens)
    rows = min(max(settings.tokens, work.tokens), sizes.rows)
    harvest = harvest_cost(sizes, rows, {sizes.hooks[0]: sizes.d_in})
    harvests = replace(harvest.times(work.other_models), disk=0, scratch=work.other_models * harvest.disk)
    judging = Cost(seconds=TEXT_SECONDS + LATENT_SECONDS * settings.latents * (work.dictionaries + 1))
    memory = Cost(memory=3 * sizes.weight_bytes + work.from_store * training.memory)
    encoding = sizes.encoding(settings.tokens * work.dictionaries)
    return training.times(work.dictionaries) + judging + harvests + encoding + memory


@stage(
    inputs=("model", "activations", "sae", "features", "neurons"),
    cost=_nulls_cost,
    reduced_by=("nulls.sae_tokens", "nulls.tokens", "sae.d_sae"),
    config={"nulls": lazy_call("interp.compare.null_dictionaries:NullsConfig", sae_tokens=1_000_000)},
    other_sections=("harvest", "sae"),
    outside=lambda run: _verdict_settings(),
    opens={"nulls": (".", lazy_call("interp.compare.null_dictionaries:Nulls.read"))},
    summary=nulls_summary,
)
def nulls(run: Run, folder: Path, progress: Progress) -> dict[str, Any]:
    """the same verdicts for a twin seed, neurons, frozen dictionaries, and a shuffled and an untrained model"""
    from interp.compare.null_dictionaries import compare_with_nulls

    if run.output_hook is not None:
        return {LEFT_OUT: OF_AUTOENCODERS}
    config = run.config.harvest
    progress(0, 1, nulls_effort(run))
    nulls = compare_with_nulls(
        run.features,
        run.neurons,
        run.store,
        run.hook_name,
        run.model,
        run.sae.config,
        folder,
        baseline_name=run.baseline.name,
        nulls_config=run.config.nulls,
        batch_size=config.batch_size,
        progress=progress,
    )
    match, chance = (float(nulls.twins[column].mean()) for column in ("cosine", "frozen_cosine"))
    return {"shares": by_dictionary(nulls.shares), "twin": {"mean_cosine": match, "by_chance": chance}}


def nulls_effort(run: Run) -> str:
    """Return the amount of training and harvesting for the nulls, with its duration estimated from the run's own
    training and harvest."""
    from interp.compare.null_dictionaries import NullsWork

    settings = run.config.nulls
    work = NullsWork.of(settings, run.sae.config, run.model)
    words = f"to train {work.dictionaries} dictionaries and harvest {work.other_models} models, and then to judge them"
    sae, activations = run.manifest("sae"), run.manifest("activations")
    if sae is None or activations is None or run.sae.config is None:
        return words
    harvested = min(max(settings.tokens, work.tokens) / run.features.tokens.numel(), 1)
    seconds = work.dictionaries * sae["wall_seconds"] * work.tokens / run.sae.config.tokens
    seconds += work.other_models * activations["wall_seconds"] * harvested
    return f"about {max(1, round(seconds / 60))} min {words}"


def verdicts_summary(counts: Mapping[str, Any]) -> str:
    """Return the counts of `verdict_counts` in one line."""
    shown = []
    for verdict, count in counts["verdicts"].items():
        notes = [(counts["unsure"].get(verdict, 0), "unsure")]
        if verdict == POLYSEMANTIC:
            notes.append((counts["inseparable"], "without separable senses"))
        if verdict == MONOSEMANTIC:
            notes.append((counts.get("without_rule", 0), "for which no rule holds"))
        note = ", ".join(f"{n:,} {words}" for n, words in notes if n)
        shown.append(f"{count:,} {verdict_words(verdict)}" + (f" ({note})" if note else ""))
    return ", ".join(shown)


def _open_twin(twin: str | None, hook_name: str) -> "FeatureStore | None":
    """Return the twin's scan, in which latents are searched for; of a run of several hooks, the scan at the same hook
    if there is one."""
    from interp.features.feature_store import FeatureStore

    if twin is None:
        return None
    if is_run(twin) and hook_name in (twin_run := Run(twin)).hooks:
        return FeatureStore.open(twin_run.at(hook_name).path)
    return FeatureStore.open(twin)


def _check_twin(config: RunConfig) -> None:
    _open_twin(config.ranking.twin, config.harvest.hook_names[0])


def _verdict_settings() -> dict[str, Any]:
    """Return what tables of verdicts depend on besides the run. They are made again with other names of verdicts, and
    after the calibration or the fit of `learnt` was fitted again."""
    from interp.verdict.fitted import digest_fits

    return {"verdicts": list(VERDICTS), "fits": digest_fits()}


def _verdicts_and_twin(run: Run) -> dict[str, Any]:
    twin = _open_twin(run.config.ranking.twin, run.config.harvest.hook_name)
    return _verdict_settings() | ({} if twin is None else {"twin": digest_json(twin.inputs)})


def _other_pages(run: Run) -> dict[str, str]:
    """Return the addresses of the pages of the run's other hooks, seen from this one."""
    folder = run.path_to("page").parent
    others = [name for name in run.hooks if name != run.config.harvest.hook_name]
    return {name: quote(os.path.relpath(run.at(name).path_to("page"), folder)) for name in others}


def _ranking_cost(sizes: Sizes) -> Cost:
    """Estimate the cost. Of each token: the predicates that hold there are read and rules are counted on them, its
    window is looked up, and its firings are sampled and, for the nulls, shifted and scanned. Some 30 bytes of each are
    held, besides the corpus, and 48 of each firing that is shifted."""
    from interp.verdict.nulls import MAX_SAMPLED_LATENTS, MAX_SHIFTED_FIRINGS

    sampled = min(1, MAX_SAMPLED_LATENTS / sizes.d_sae) * sizes.firings
    shifted = min(MAX_SHIFTED_FIRINGS, sizes.config.ranking.n_shifts * sampled)
    return Cost(
        disk=600 * sizes.d_sae,
        memory=sizes.weight_bytes + sizes.corpus_bytes + 30 * sizes.rows + 48 * shifted,
        seconds=TEXT_SECONDS + LATENT_SECONDS * sizes.d_sae + 2.5e-6 * sizes.rows,
    )


@stage(
    inputs=("corpus", "features"),
    cost=_ranking_cost,
    optional=("nulls",),
    check=_check_twin,
    config={"ranking": RankingSection},
    outside=_verdicts_and_twin,
    opens={"ranking": ("ranking.parquet", lazy_call("interp.verdict.ranking_tables:read_ranking"))},
    summary=verdicts_summary,
)
def ranking(run: Run, folder: Path, progress: Progress) -> dict[str, Any]:
    """the probability that a latent has one meaning, its verdict, senses, evidence with its nulls, and explanation"""
    from interp.verdict.verdict_shares import verdict_counts

    table = rank_latents(run, run.config.ranking, progress)
    write_parquet(folder / "ranking.parquet", table)
    return verdict_counts(table)


def rank_latents(
    run: Run, config: RankingSection, progress: Progress, part: tuple[int, int] = (0, 1)
) -> "pd.DataFrame":
    """Return the ranking of a run's features, or a part of it, with the evidence of its labels and of the existing
    nulls."""
    from interp.verdict.ranking import rank_features

    if config.use_labels and not run.harvested.labels:
        raise InterpError(f"explanations are to name labels, but the corpus of {run.path} has none")
    return rank_features(
        run.features,
        labels=run.harvested.labels,
        twin=_open_twin(config.twin, run.config.harvest.hook_name),
        matches=run.nulls.twins if run.has("nulls") else None,
        part=part,
        progress=progress,
        **values_of(RankingConfig, config),
    )


def _report_cost(sizes: Sizes) -> Cost:
    """Estimate the cost. Each latent is described. Each token is written, with its labels looked up; and each firing is
    read five times: for the examples, positions, pairs of latents and senses (counts and tokens)."""
    return Cost(
        disk=1.1e6 + 2300 * sizes.d_sae + 1.13 * sizes.rows,
        memory=sizes.weight_bytes + sizes.corpus_bytes + 30 * sizes.rows,
        seconds=4 + 3.3e-3 * sizes.d_sae + 3.3e-7 * sizes.rows + 1.6e-7 * sizes.firings,
    )


@stage(
    inputs=("features",),
    cost=_report_cost,
    runs_last=True,
    outside=lambda run: {"pages": pages} if (pages := _other_pages(run)) else {},
    opens={"page": ("page/index.html", Path)},
    summary=lambda results: f"{results['bytes'] / 1e6:.1f} MB",
)
def report(run: Run, folder: Path, progress: Progress) -> dict[str, Any]:
    """a page that works offline, from file://"""
    from interp.report import write_report

    page = write_report(run, folder / "page", pages=_other_pages(run), progress=progress)
    files = [file for file in page.parent.rglob("*") if file.is_file()]
    return {"page": f"report/{page.relative_to(folder)}", "bytes": sum(file.stat().st_size for file in files)}
