"""The stage `ranking`: the verdict on each latent."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from interp.checks.config_fields import values_of
from interp.display.verdict_looks import verdict_words
from interp.display.verdict_names import MONOSEMANTIC, POLYSEMANTIC, VERDICTS
from interp.pipeline import timings
from interp.pipeline.config import RunConfig
from interp.pipeline.costs import Cost, Sizes
from interp.pipeline.readers import lazy_call
from interp.pipeline.run import Run
from interp.pipeline.sections import RankingSection
from interp.pipeline.stages import stage
from interp.runtime.progress import Progress
from interp.storage.addresses import as_path
from interp.storage.artifacts import is_run
from interp.storage.files import digest_json, write_parquet
from interp.verdict.ranking_config import RankingConfig

if TYPE_CHECKING:
    import pandas as pd

    from interp.features.feature_store import FeatureStore


def verdicts_summary(counts: Mapping[str, Any]) -> str:
    """Return the counts of `verdict_counts` in one line."""
    parts = []
    for verdict, count in counts["verdicts"].items():
        notes = [(counts["unsure"].get(verdict, 0), "unsure")]
        if verdict == POLYSEMANTIC:
            notes.append((counts["inseparable"], "without separable senses"))
        if verdict == MONOSEMANTIC:
            notes.append((counts.get("without_rule", 0), "for which no rule holds"))
        note = ", ".join(f"{n:,} {words}" for n, words in notes if n)
        parts.append(f"{count:,} {verdict_words(verdict)}" + (f" ({note})" if note else ""))
    return ", ".join(parts)


def open_twin(twin: str | None, hook_name: str) -> "FeatureStore | None":
    """Return the twin's scan, in which latents are searched for; of a run of several hooks, the scan at the same hook
    if there is one."""
    from interp.features.feature_store import FeatureStore

    if twin is None:
        return None
    if is_run(twin) and hook_name in (twin_run := Run(twin)).hooks:
        return FeatureStore.open(twin_run.at(hook_name).path)
    return FeatureStore.open(twin)


def _check_twin(config: RunConfig) -> None:
    open_twin(config.ranking.twin, config.harvest.hook_names[0])


VERDICT_WORDS = {"fits": "fits of the calibration", "verdicts": "names of verdicts"}
"""What `verdict_settings` are called where one has changed."""


def verdict_settings() -> dict[str, Any]:
    """Return what tables of verdicts depend on besides the run. They are made again with other names of verdicts, and
    after the calibration or the fit of `learnt` was fitted again."""
    from interp.verdict.fit_files import digest_fits

    return {"verdicts": list(VERDICTS), "fits": digest_fits()}


def _verdicts_and_twin(run: Run) -> dict[str, Any]:
    """Return the settings of verdicts, and the digest of the twin: if its folder was deleted, the one that the present
    ranking was made with."""
    twin = run.config.ranking.twin
    if twin is None:
        return verdict_settings()
    is_gone = isinstance(path := as_path(twin), Path) and not path.exists()
    if is_gone and (made := run.manifest("ranking")) is not None and "twin" in made["config"]:
        return verdict_settings() | {"twin": made["config"]["twin"]}
    opened = open_twin(twin, run.config.harvest.hook_name)
    assert opened is not None
    return verdict_settings() | {"twin": digest_json(opened.inputs)}


def _ranking_cost(sizes: Sizes) -> Cost:
    """Estimate the cost. Of each token: the predicates that hold there are read and rules are counted on them, its
    window is looked up, and its firings are sampled and, for the nulls, shifted and scanned. Some 30 bytes of each are
    held, besides the corpus, and 48 of each firing that is shifted."""
    from interp.verdict.measure_nulls import MAX_SAMPLED_LATENTS, MAX_SHIFTED_FIRINGS

    sampled = min(1, MAX_SAMPLED_LATENTS / sizes.d_sae) * sizes.firings
    shifted = min(MAX_SHIFTED_FIRINGS, sizes.config.ranking.n_shifts * sampled)
    return Cost(
        disk=600 * sizes.d_sae,
        memory=sizes.weight_bytes + sizes.corpus_bytes + 30 * sizes.rows + 48 * shifted,
        seconds=timings.READING_PREDICATES + timings.JUDGED_LATENT * sizes.d_sae + timings.JUDGED_ROW * sizes.rows,
    )


@stage(
    version=12,
    inputs=("corpus", "features"),
    cost=_ranking_cost,
    optional=("nulls",),
    check=_check_twin,
    config={"ranking": RankingSection},
    extended_by=("measure", "kind of predicate"),
    outside_inputs=_verdicts_and_twin,
    outside_words=VERDICT_WORDS,
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

    labels = run.harvested.labels
    return rank_features(
        run.features,
        labels=labels,
        twin=open_twin(config.twin, run.config.harvest.hook_name),
        matches=run.nulls.twins if run.has("nulls") else None,
        part=part,
        progress=progress,
        **values_of(RankingConfig, config) | {"use_labels": config.use_labels and bool(labels)},
    )
