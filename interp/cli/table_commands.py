"""The commands `rank` and `effects`, each of which makes the table of a stage: the verdict on each latent, and its
ablation.

The table of a run folder is written to its stage, which then runs again; that of a feature store, or of a part of the
latents, to a file.
"""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from textwrap import fill
from typing import TYPE_CHECKING, Annotated, Any

from typer import Argument, Option

from interp.checks.errors import InterpError
from interp.cli.command_arguments import (
    OVERWRITE,
    TABLES,
    check_source,
    load_named_model,
    load_named_sae,
    print_used_hook,
    read_table,
    write_table,
)
from interp.cli.field_flags import FieldFlags
from interp.cli.part_flags import JOIN, PART, named_parts, refuse_beside
from interp.runtime.progress_bar import Bar
from interp.runtime.torchrun import is_first, is_shared
from interp.storage.artifacts import is_run
from interp.verdict.ranking_config import RankingConfig

if TYPE_CHECKING:
    import pandas as pd

    from interp.features.feature_store import FeatureStore
    from interp.pipeline.run import Run


def rank_command(
    source: Annotated[Path, Argument(help="a run folder, or a feature store as scan writes it")],
    *,
    out: Annotated[
        str | None, Option(help="a .parquet or .csv file, here or at an address; needed for a feature store")
    ] = None,
    settings: Annotated[dict[str, Any], FieldFlags(lambda: [RankingConfig], default="the run's, or {}")],
    twin: Annotated[
        Path | None,
        Option(help="a run or scan of the same tokens from another seed: is each latent found? none: leave it out"),
    ] = None,
    part: Annotated[str | None, PART] = None,
    join: Annotated[str | None, JOIN] = None,
    overwrite: Annotated[bool, OVERWRITE] = False,
) -> None:
    """run folder or feature store → ranking

    Rank latents from monosemantic to polysemantic, each measure with its null, and print the first rows. The
    ranking of a run folder is written to its stage, RUN/ranking, unless it is there already with the same
    settings; that of a feature store is written to --out.

    \b
        interp rank FEATURES --part 3/16 --out parts/3.parquet
        interp rank FEATURES --join 'parts/*.parquet' --out ranking.parquet
        torchrun --nproc-per-node 2 -m interp rank FEATURES --out ranking.parquet"""
    in_run = check_source(source, out, "the ranking's file", *TABLES, overwrite=overwrite)
    own_part, parts = _table_parts(part, join, out, settings, twin=twin)
    if not in_run and settings.get("use_labels"):
        raise InterpError(f"--use-labels: {source} is not a run folder, and a feature store does not keep label masks")
    from interp.pipeline.readers import open_any
    from interp.pipeline.stages.ranking import open_twin, rank_latents
    from interp.verdict.ranking import join_rankings, rank_features

    twin_place: Path | None = None
    if twin is not None and str(twin) != "none":
        scan = open_any(twin, "features")
        twin_place = twin.resolve() if is_run(twin) else scan.path.resolve()  # a run has a scan of each hook
    if in_run and twin is not None:
        settings["twin"] = None if twin_place is None else str(twin_place)

    run = open_any(source, "run") if in_run else None
    if run is not None and out is None:
        section = dataclasses.replace(run.config.ranking, **settings)
        return _run_in_place(run, "ranking", section, lambda table, _: _ranking_summary(table))
    features = open_any(source, "features")
    if parts:
        table = join_rankings(_read_parts(parts, features), parts)
    else:
        with Bar("ranking") as bar:
            if run is not None:
                table = rank_latents(run, dataclasses.replace(run.config.ranking, **settings), bar, own_part)
            else:
                twin_features = open_twin(None if twin_place is None else str(twin_place), features.meta["hook_name"])
                table = rank_features(features, twin=twin_features, part=own_part, progress=bar, **settings)
    _write_and_print(table, out, _ranking_summary(table), run)


def _ranking_summary(table: "pd.DataFrame") -> str:
    from interp.pipeline.stages import LINE_WIDTH
    from interp.pipeline.stages.ranking import verdicts_summary
    from interp.verdict.ranking_tables import N_ROWS, Ranking
    from interp.verdict.verdict_shares import verdict_counts

    counts = fill(verdicts_summary(verdict_counts(table)), LINE_WIDTH, break_on_hyphens=False)
    return f"{counts}{_twin_line(table)}\n{Ranking(table).head(N_ROWS).rows_as_text()}"


def _twin_line(table: "pd.DataFrame") -> str:
    """Return the line on the twin, for a ranking with one."""
    r = table["twin_correlation"].dropna()
    if r.empty:
        return ""
    tested = f"(median of {len(r):,} tested)"
    return f"\ntwin_correlation {r.median():.2f} {tested}; ½ or more for {(r >= 0.5).mean():.0%}"


def _effects_configs() -> list[type]:
    from interp.pipeline.sections import EffectsSection

    return [EffectsSection]


def effects_command(
    source: Annotated[Path, Argument(help="a run folder, or a feature store as scan writes it")],
    *,
    sae: Annotated[
        str | None,
        Option(help="the dictionary that was scanned: its folder, or SAELens's RELEASE:ID (default: the run's)"),
    ] = None,
    model: Annotated[str | None, Option(help="the model that was harvested (default: the run's)")] = None,
    out: Annotated[
        str | None, Option(help="a .parquet or .csv file, here or at an address; needed for a feature store")
    ] = None,
    settings: Annotated[dict[str, Any], FieldFlags(_effects_configs, default="the run's, or {}")],
    part: Annotated[str | None, PART] = None,
    join: Annotated[str | None, JOIN] = None,
    overwrite: Annotated[bool, OVERWRITE] = False,
) -> None:
    """run folder or feature store → the effect of each latent

    Ablate latents one at a time in the model: loss and KL without each, next to an equally large change along other
    latents. The table of a run folder is written to its stage, RUN/effects, unless it is there already with the same
    settings; that of a feature store is written to --out.

    \b
        interp effects FEATURES --sae SAE --model MODEL --part 3/16 --out parts/3.parquet
        interp effects FEATURES --join 'parts/*.parquet' --out effects.parquet
        torchrun --nproc-per-node 2 -m interp effects RUN --out effects.parquet"""
    in_run = check_source(source, out, "the table's file", *TABLES, overwrite=overwrite)
    own_part, parts = _table_parts(part, join, out, settings, sae=sae, model=model)
    if in_run and (sae or model):
        raise InterpError(f"--{'sae' if sae else 'model'}: {source} is a run folder, which has its own")
    missing = [f"--{name}" for name, given in {"sae": sae, "model": model}.items() if not given]
    if missing and not in_run and not parts:
        raise InterpError(
            f"{source} is a feature store, not a run folder: name what was scanned with {' and '.join(missing)}"
        )
    from interp.effects import join_effects
    from interp.pipeline.readers import open_any
    from interp.pipeline.sections import EffectsSection
    from interp.pipeline.stages.effects import ablate_latents

    run = open_any(source, "run") if in_run else None
    if run is not None and out is None:
        return _run_in_place(run, "effects", dataclasses.replace(run.config.effects, **settings), _effects_summary)
    features = open_any(source, "features")
    if parts:
        table = join_effects(_read_parts(parts, features), parts)
    else:
        with Bar("effects") as bar:
            if run is not None:
                section = dataclasses.replace(run.config.effects, **settings)
                scanned = (run.model, run.hook_name, run.sae)
            else:
                assert model is not None and sae is not None
                section = EffectsSection(**settings)
                scanned = (load_named_model(model), features.meta["hook_name"], load_named_sae(sae))
            table = ablate_latents(*scanned, features, section, progress=bar, part=own_part)
    _write_and_print(table, out, _effects_summary(table, features), run)


def _effects_summary(table: "pd.DataFrame", features: "FeatureStore") -> str:
    from interp.pipeline.stages import NEXT_LINE
    from interp.pipeline.stages.effects import effects_results, effects_summary

    return effects_summary(effects_results(table, features)).replace(NEXT_LINE, "\n")


def _table_parts(
    part: str | None, join: str | None, out: str | None, settings: Mapping[str, Any], **options: Any
) -> tuple[tuple[int, int], list[str]]:
    """Return the part of a table that --part names and the parts that --join matches, as `_parts` does. Raises
    ValueError for options beside --join, and for a table, or a part of it, that may not be written to --out, or into a
    run folder for None."""
    own_part, parts = named_parts(part, join)
    if join:
        refuse_beside("--join", "the parts were made with their own", settings, **options)
    if (part or join or is_shared()) and out is None:
        raise InterpError("name the table's file with --out: only a single process may write into a run folder")
    if part and out is not None and not out.endswith(".parquet"):
        raise InterpError(f"--out {out} must end in .parquet: a .csv does not record which part it is")
    return own_part, parts


def _read_parts(parts: Sequence[str], features: "FeatureStore") -> list["pd.DataFrame"]:
    return [read_table("--join", Path(part), [], features) for part in parts]


def _write_and_print(table: "pd.DataFrame", out: str | None, summary: str, run: "Run | None") -> None:
    """Write a table to --out, and print what it says; of several processes, the first does."""
    assert out is not None  # check_source
    if not is_first():
        return
    write_table(table, out)
    print(f"{summary}\n{out}")
    if run is not None:
        print_used_hook(run)


def _run_in_place(
    run: "Run", stage: str, section: Any, summarise: "Callable[[pd.DataFrame, FeatureStore], str]"
) -> None:
    """Run a stage of a run again, with this section of its name, unless it has the same result already, and print what
    it has found."""
    from interp.pipeline.execution import finished_alone, run_alone
    from interp.pipeline.stages import STAGES

    config = run.config.replace(**{stage: section})
    manifest = finished_alone(run, stage, config)
    remark = "done before, with the same settings"
    if manifest is None:
        with Bar(stage) as bar:
            manifest = run_alone(run, stage, config=config, progress=bar)
        remark = f"`interp report {run.path}` writes its page again"
    if run.has(stage):  # effects are left out for a model that predicts no next tokens
        print(f"{summarise(getattr(run, stage), run.features)}\n{run.path_to(stage)}")
    else:
        print(STAGES[stage].summary_of(manifest))
    print(remark)
    print_used_hook(run)
