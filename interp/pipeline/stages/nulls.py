"""The stage `nulls`: the verdicts on dictionaries that cannot have learnt what the run's did."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from interp.display.verdict_names import MONOSEMANTIC, ONE_MEANING_ROW, SINGLE_TOKEN
from interp.pipeline import timings
from interp.pipeline.costs import Cost, Sizes
from interp.pipeline.readers import lazy_call
from interp.pipeline.run import Run
from interp.pipeline.stages import LEFT_OUT, NEXT_LINE, NOT_FOR_TRANSCODERS, rows_by_name, stage
from interp.pipeline.stages.activations import harvest_cost
from interp.pipeline.stages.ranking import VERDICT_WORDS, verdict_settings
from interp.pipeline.stages.sae import training_cost
from interp.runtime.progress import Progress

if TYPE_CHECKING:
    import pandas as pd


def by_dictionary(shares: "pd.DataFrame") -> dict[str, Any]:
    """Return dictionary → verdict → the shares for a line of the command line."""
    columns = ["verdict", "n", "share", "ci_low", "ci_high", "sure_share", "sure_low", "sure_high"]
    firing = shares.dropna(subset=["share"]).groupby("dictionary", sort=False)
    return {str(name): rows_by_name(rows[columns], "verdict") for name, rows in firing}


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
    from interp.compare.nulls_config import NullsWork

    if sizes.config.harvest.output_hook:
        return Cost()
    settings = sizes.config.nulls
    work = NullsWork.of(settings, sizes.config.sae, sizes.model)
    training = training_cost(sizes, work.tokens)
    rows = min(max(settings.tokens, work.tokens), sizes.rows)
    harvest = harvest_cost(sizes, rows, {sizes.hooks[0]: sizes.d_in})
    harvests = replace(harvest.times(work.other_models), disk=0, scratch=work.other_models * harvest.disk)
    n_judged = settings.latents * (work.dictionaries + 1)
    judging = Cost(seconds=timings.READING_PREDICATES + timings.JUDGED_LATENT * n_judged)
    memory = Cost(memory=3 * sizes.weight_bytes + work.from_store * training.memory)
    encoding = sizes.encoding_cost(settings.tokens * work.dictionaries)
    return training.times(work.dictionaries) + judging + harvests + encoding + memory


@stage(
    version=9,
    inputs=("model", "activations", "sae", "features", "neurons"),
    cost=_nulls_cost,
    reduced_by=("nulls.sae_tokens", "nulls.tokens", "sae.d_sae"),
    config={"nulls": lazy_call("interp.compare.nulls_config:NullsConfig", sae_tokens=1_000_000)},
    other_sections=("harvest", "sae"),
    extended_by=("kind of predicate", "null"),
    outside_inputs=lambda run: verdict_settings(),
    outside_words=VERDICT_WORDS,
    opens={"nulls": (".", lazy_call("interp.compare.null_dictionaries:Nulls.read"))},
    summary=nulls_summary,
)
def nulls(run: Run, folder: Path, progress: Progress) -> dict[str, Any]:
    """the same verdicts for a twin seed, neurons, and dictionaries that learnt nothing of the model"""
    from interp.compare.null_dictionaries import compare_with_nulls

    if run.output_hook is not None:
        return {LEFT_OUT: NOT_FOR_TRANSCODERS}
    config = run.config.harvest
    progress(0, 1, nulls_effort(run))
    nulls = compare_with_nulls(
        run.features,
        run.store,
        run.hook_name,
        run.model,
        folder,
        config=run.sae.config,
        neurons=run.neurons,
        baseline_name=run.results("neurons")["basis"],
        nulls_config=run.config.nulls,
        batch_size=config.batch_size,
        progress=progress,
    )
    match, chance = (float(nulls.twins[column].mean()) for column in ("cosine", "frozen_cosine"))
    return {"shares": by_dictionary(nulls.shares), "twin": {"mean_cosine": match, "by_chance": chance}}


def nulls_effort(run: Run) -> str:
    """Return the amount of training and harvesting for the nulls, with its duration estimated from the run's own
    training and harvest."""
    from interp.compare.nulls_config import NullsWork

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
