"""The commands on features: `scan` gathers statistics, `rank` gives verdicts, `effects` ablates, `report` writes a
page."""

import dataclasses
import glob
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from textwrap import fill
from typing import TYPE_CHECKING, Annotated, Any

from typer import Argument, Option

from interp.checks.errors import InterpError
from interp.cli.field_flags import FieldFlags
from interp.cli.paths import (
    OVERWRITE,
    PART,
    TABLES,
    check_writable,
    hook_to_scan,
    load_named_model,
    load_named_sae,
    only_hook,
    read_table,
    say_which_hook,
    write_table,
)
from interp.features.scan_config import ScanConfig
from interp.runtime.progress_bar import Bar
from interp.runtime.torchrun import is_first, is_shared
from interp.storage.addresses import address_of
from interp.storage.artifacts import find, is_run
from interp.storage.parts import parse_part
from interp.verdict.ranking_config import RankingConfig

if TYPE_CHECKING:
    import pandas as pd

    from interp.activations import ActivationStore
    from interp.features.feature_store import FeatureStore
    from interp.pipeline.run_folder import Run

_RANK_FLAGS = {"n_shifts": "--shifts", "use_labels": "--labels", "judge_faint": "--faint"}


def scan_command(
    sae: Annotated[
        str,
        Argument(
            help="the folder of an SAE (ours, SAELens's or sparsify's) or run, SAELens's RELEASE:ID, or `neurons`"
        ),
    ],
    store: Annotated[str, Argument(help="an activation store, as harvest writes it, its address, or a run folder")],
    *,
    out: Annotated[str, Option(help="the folder of the feature store, or an address such as s3://bucket/features")],
    hook: Annotated[
        str | None, Option(help="(default: the one that the SAE was trained on, or the store's only one)")
    ] = None,
    model: Annotated[str | None, Option(help="the model that was harvested: folder, name, .gguf file")] = None,
    tokenizer: Annotated[Path | None, Option(help="the tokenizer folder (default: next to the tokens)")] = None,
    tokens: Annotated[Path | None, Option(help="the labelled tokens that were harvested")] = None,
    max_neurons: Annotated[int, Option(help="for `neurons`: how many, the strongest, fire at a token")] = 32,
    settings: Annotated[dict[str, Any], FieldFlags(lambda: [ScanConfig])],
    part: Annotated[str | None, PART] = None,
    join: Annotated[str | None, Option(metavar="GLOB", help="the folders of all parts that --part made")] = None,
    overwrite: Annotated[bool, OVERWRITE] = False,
) -> None:
    """SAE + store → feature store

    Statistics, examples and logit effects of every latent, as Parquet tables in OUT.
    --model adds logit effects and readable tokens, --tokens adds the labels that the text carries.
    A part encodes its rows of the store; --join reads the codes of all parts and does the rest.

    \b
        interp scan SAE STORE --part 3/16 --out parts/3
        interp scan SAE STORE --join 'parts/*' --model MODEL --out OUT
        torchrun --nproc-per-node 2 -m interp scan SAE STORE --model MODEL --out OUT"""
    check_writable("--out", out, anywhere=True)
    own_part, parts = _parts(part, join)
    if part:
        remedy = "a part has codes alone: give the rest where --join makes the tables"
        _refuse_beside("--part", remedy, settings, model=model, tokenizer=tokenizer, tokens=tokens)
    from interp.evaluation.baselines import NeuronDictionary
    from interp.features.scan_features import scan_features, scan_part
    from interp.pipeline.opening import open_any

    config = ScanConfig(**settings)
    with Bar("scan") as bar:
        acts = open_any(store, "activations")
        if sae == "neurons":
            d = acts.d(only_hook(acts, hook))
            dictionary: Any = NeuronDictionary(d, k=min(d, max_neurons))
        else:
            dictionary = load_named_sae(sae)
        named = hook_to_scan(acts, hook, dictionary)
        if part is not None:
            scan_part(dictionary, acts, named, out, part=own_part, overwrite=overwrite, progress=bar)
            return _print_once(f"part {part} in {out}")
        opened = load_named_model(model) if model else None
        labels, vocab = _text(acts, tokens, tokenizer)
        vocab = vocab or (opened.tokenizer.display() if opened and opened.tokenizer else None)
        if opened is not None and vocab is not None and len(vocab) > opened.d_vocab:
            raise InterpError(
                f"--model {model} has {opened.d_vocab} tokens, but the tokenizer has {len(vocab)}: name the model's "
                "own with --tokenizer"
            )
        features = scan_features(
            dictionary,
            acts,
            named,
            out,
            model=opened,
            vocab=vocab,
            labels=labels,
            config=config,
            parts=parts,
            overwrite=overwrite,
            progress=bar,
        )
    _print_once(f"{features.d_sae:,} features in {out}")


def _print_once(line: str) -> None:
    if is_first():
        print(line)


def _parts(part: str | None, join: str | None) -> tuple[tuple[int, int], list[str]]:
    """Return the part that --part names, by default all, and the paths that --join matches, by default none."""
    if part and join:
        raise InterpError("--part makes a part and --join merges all parts: give only one of the two")
    return parse_part(part or "1/1"), _matches("--join", join)


def _refuse_beside(flag: str, remedy: str, settings: Mapping[str, Any], **options: Any) -> None:
    """Refuse settings, and options other than None, since `flag` does not use them. Raises ValueError if there are
    any."""
    names = [name for name, value in options.items() if value is not None] + list(settings)
    if names:
        given = ", ".join(f"--{name.replace('_', '-')}" for name in names)
        raise InterpError(f"{flag} does not use {given}: {remedy}")


def _table_parts(
    part: str | None, join: str | None, out: str | None, settings: Mapping[str, Any], **options: Any
) -> tuple[tuple[int, int], list[str]]:
    """Return the part of a table that --part names and the parts that --join matches, as `_parts` does. Raises
    ValueError for options beside --join, and for a table, or a part of it, that may not be written to --out, or into a
    run folder for None."""
    own_part, parts = _parts(part, join)
    if join:
        _refuse_beside("--join", "the parts were made with their own", settings, **options)
    if (part or join or is_shared()) and out is None:
        raise InterpError("name the table's file with --out: only a single process may write into a run folder")
    if part and out is not None and not out.endswith(".parquet"):
        raise InterpError(f"--out {out} must end in .parquet: a .csv does not record which part it is")
    return own_part, parts


def _matches(flag: str, pattern: str | None) -> list[str]:
    """Return the paths that match a glob, sorted; an empty list for None. Raises ValueError if nothing matches."""
    if pattern is None:
        return []
    if not (matches := sorted(glob.glob(pattern))):
        raise InterpError(f"{flag} {pattern} matches nothing: name the output of --part, such as 'parts/*'")
    return matches


def _text(store: "ActivationStore", tokens: Path | None, tokenizer: Path | None) -> tuple[Any, list[str] | None]:
    """Read labels and vocabulary. Raises ValueError if the store was not harvested from all of these tokens, and if the
    tokenizer did not make them."""
    import torch

    from interp.pipeline.opening import open_any
    from models.tokenizer import MIN_ENCODED_AGAIN, share_encoded_again

    file = find(tokens, "tokens").path if tokens else None
    labelled = open_any(file, "tokens") if file else None
    folder = tokenizer or (file.parent / "tokenizer" if file else None)
    spelt = open_any(folder, "tokenizer") if folder else None
    if labelled is not None and store.tokens is not None:
        labelled = labelled[: len(store.tokens)]
        if not torch.equal(labelled.tokens.int(), store.tokens):
            raise InterpError(f"--tokens {tokens} are not the tokens that {store.path} was harvested from: give those")
    if labelled is not None and spelt is not None and labelled.tokenizer not in ("", spelt.digest):
        raise InterpError(f"the tokenizer {folder} did not make --tokens {tokens}: name its own with --tokenizer")
    share = 1.0 if spelt is None or store.tokens is None else share_encoded_again(spelt, store.tokens)
    if share < MIN_ENCODED_AGAIN:
        raise InterpError(
            f"the tokenizer {folder} did not make the tokens of {store.path}: it gives the same ids for only "
            f"{share:.0%} of their text; name their own tokenizer with --tokenizer"
        )
    return None if labelled is None else labelled.labels, None if spelt is None else spelt.display()


def rank_command(
    source: Annotated[Path, Argument(help="a run folder, or a feature store as scan writes it")],
    *,
    out: Annotated[
        str | None, Option(help="a .parquet or .csv file, here or at an address; needed for a feature store")
    ] = None,
    settings: Annotated[dict[str, Any], FieldFlags(lambda: [RankingConfig], _RANK_FLAGS, "the run's, or {}")],
    twin: Annotated[
        Path | None,
        Option(help="a run or scan of the same tokens from another seed: is each latent found? none: leave it out"),
    ] = None,
    part: Annotated[str | None, PART] = None,
    join: Annotated[str | None, Option(metavar="GLOB", help="the .parquet files of all parts that --part made")] = None,
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
    in_run = _check_source(source, out, "the ranking's file", *TABLES, overwrite=overwrite)
    own_part, parts = _table_parts(part, join, out, settings, twin=twin)
    if not in_run and settings.get("use_labels"):
        raise InterpError(f"--labels: {source} is not a run folder, and a feature store does not keep label masks")
    from interp.pipeline.opening import open_any
    from interp.pipeline.stages import LINE_WIDTH
    from interp.pipeline.stages.ranking import rank_latents, verdicts_summary
    from interp.verdict.ranking import join_rankings, rank_features
    from interp.verdict.ranking_tables import N_ROWS, Ranking
    from interp.verdict.verdict_shares import verdict_counts

    without_twin = str(twin) == "none"
    twin_features = None if twin is None or without_twin else open_any(twin, "features")
    if in_run and twin is not None:
        settings["twin"] = None if twin_features is None else str(twin_features.path.resolve())

    def make(run: "Run | None", features: "FeatureStore", bar: Bar) -> "pd.DataFrame":
        if run is not None:
            return rank_latents(run, dataclasses.replace(run.config.ranking, **settings), bar, own_part)
        return rank_features(features, twin=twin_features, part=own_part, progress=bar, **settings)

    def summarise(table: "pd.DataFrame", _: "FeatureStore") -> str:
        counts = fill(verdicts_summary(verdict_counts(table)), LINE_WIDTH, break_on_hyphens=False)
        return f"{counts}{_twin_line(table)}\n{Ranking(table).head(N_ROWS).rows_as_text()}"

    _make_table("ranking", source, out, settings, make, parts, join_rankings, summarise)


def _make_table(
    stage: str,
    source: Path,
    out: str | None,
    options: Mapping[str, Any],
    make: "Callable[[Run | None, FeatureStore, Bar], pd.DataFrame]",
    parts: Sequence[str],
    join_tables: "Callable[[Sequence[pd.DataFrame], Sequence[str]], pd.DataFrame]",
    summarise: "Callable[[pd.DataFrame, FeatureStore], str]",
) -> None:
    """Make the table of a stage, or join its parts, write it to --out, and print what it says. Without --out the stage
    of a run is run again."""
    from interp.pipeline.opening import open_any

    run = open_any(source, "run") if is_run(source) else None
    if run is not None and out is None:
        return _run_in_place(run, stage, dataclasses.replace(getattr(run.config, stage), **options), summarise)
    features = open_any(source, "features")
    if parts:
        table = join_tables([read_table("--join", Path(part), [], features) for part in parts], parts)
    else:
        with Bar(stage) as bar:
            table = make(run, features, bar)
    assert out is not None  # _check_source
    if not is_first():
        return
    write_table(table, out)
    print(f"{summarise(table, features)}\n{out}")
    if run is not None:
        say_which_hook(run)


def _check_source(source: Path, out: str | None, noun: str, *endings: str, overwrite: bool = False) -> bool:
    """Return whether the source is a run folder, which has a place for results. Raises ValueError, before slow
    libraries are imported, if it is neither a run folder nor a feature store, if --out is missing for a feature store,
    or if --out cannot be written."""
    find(source, "run", "features")
    if out is not None:
        check_writable("--out", out, *endings, overwrite=overwrite, anywhere=True)
    elif is_run(source):
        check_writable("the run folder", source, run=source)
        find(source, "features")
    else:
        raise InterpError(f"{source} is a feature store, not a run folder: name {noun} with --out")
    return is_run(source)


def _twin_line(table: "pd.DataFrame") -> str:
    """Return the line on the twin, for a ranking with one."""
    r = table["twin_correlation"].dropna()
    if r.empty:
        return ""
    tested = f"(median of {len(r):,} tested)"
    return f"\ntwin_correlation {r.median():.2f} {tested}; ½ or more for {(r >= 0.5).mean():.0%}"


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
    say_which_hook(run)


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
    join: Annotated[str | None, Option(metavar="GLOB", help="the .parquet files of all parts that --part made")] = None,
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
    in_run = _check_source(source, out, "the table's file", *TABLES, overwrite=overwrite)
    own_part, parts = _table_parts(part, join, out, settings, sae=sae, model=model)
    if in_run and (sae or model):
        raise InterpError(f"--{'sae' if sae else 'model'}: {source} is a run folder, which has its own")
    missing = [f"--{name}" for name, given in {"sae": sae, "model": model}.items() if not given]
    if missing and not in_run and not parts:
        raise InterpError(
            f"{source} is a feature store, not a run folder: name what was scanned with {' and '.join(missing)}"
        )
    from interp.effects import join_effects
    from interp.pipeline.sections import EffectsSection
    from interp.pipeline.stages import NEXT_LINE
    from interp.pipeline.stages.effects import ablate_latents, effects_results, effects_summary

    def make(run: "Run | None", features: "FeatureStore", bar: Bar) -> "pd.DataFrame":
        if run is not None:
            config = dataclasses.replace(run.config.effects, **settings)
            return ablate_latents(run.model, run.hook_name, run.sae, features, config, bar, own_part)
        assert model is not None and sae is not None
        opened, dictionary = load_named_model(model), load_named_sae(sae)
        config = EffectsSection(**settings)
        return ablate_latents(opened, features.meta["hook_name"], dictionary, features, config, bar, own_part)

    def summarise(table: "pd.DataFrame", features: "FeatureStore") -> str:
        return effects_summary(effects_results(table, features)).replace(NEXT_LINE, "\n")

    _make_table("effects", source, out, settings, make, parts, join_effects, summarise)


def report_command(
    source: Annotated[Path, Argument(help="a run folder, or a feature store")],
    *,
    out: Annotated[
        str | None, Option(help="the page's folder, here or at an address; needed for a feature store")
    ] = None,
    ranking: Annotated[Path | None, Option(help="a .parquet file, as rank writes it (default: the run's)")] = None,
    overwrite: Annotated[bool, OVERWRITE] = False,
) -> None:
    """run folder or feature store → page

    Write a page that works offline. The page of a run folder is written to its stage, RUN/report/page, or to --out;
    that of a feature store, or with another --ranking, to --out."""
    in_run = _check_source(source, out, "the page's folder")
    if ranking is not None and out is None:
        raise InterpError(f"--ranking {ranking} is not the run's own: name a folder for its page with --out")
    if ranking is not None and ranking.suffix != ".parquet":
        raise InterpError(f"--ranking {ranking} must end in .parquet: a .csv does not hold the senses")
    from interp.pipeline.opening import open_any
    from interp.report import write_report

    tables: dict[str, Any] = {}
    if ranking is not None:
        tables["ranking"] = read_table("--ranking", ranking, [], open_any(source, "features"))
    subject = open_any(source, "run" if in_run else "features")
    with Bar("report") as bar:
        if out is None:
            from interp.pipeline.execution import run_alone

            page = source / run_alone(subject, "report", progress=bar)["results"]["page"]
        else:
            page = write_report(subject, out, overwrite=overwrite, progress=bar, **tables)
    if in_run:
        say_which_hook(subject)
    print(address_of(page) or page)
