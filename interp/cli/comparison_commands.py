"""The command `compare`, of two dictionaries or of two texts."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from typer import Argument, Option

from interp.checks.errors import InterpError
from interp.cli.command_arguments import OVERWRITE, check_writable_folder
from interp.cli.option_groups import HOW_IT_RUNS
from interp.runtime.progress_bar import Bar

if TYPE_CHECKING:
    import pandas as pd
    import plotly.graph_objects as go

    from interp.compare import Pair
    from interp.features.feature_store import FeatureStore

FOLDER = "a run folder, a feature store or an SAE's folder"


def compare_command(
    first: Annotated[Path, Argument(help=FOLDER)],
    second: Annotated[Path, Argument(help=FOLDER)],
    *,
    out: Annotated[Path | None, Option(help="a folder for the tables and figures")] = None,
    seed: Annotated[int, Option(help="seed of intervals and nulls", min=0, rich_help_panel=HOW_IT_RUNS)] = 0,
    overwrite: Annotated[bool, OVERWRITE] = False,
) -> None:
    """two dictionaries or two texts → what they share, what differs

    Compare seeds (decoders matched one to one), widths (and what splits) or models (activations on one text), each
    with its null. Scans of the same tokens allow the most comparisons: `interp scan` both over one store. Scans of two
    texts by one dictionary are compared as corpora: which latents fire in more documents of one than of the other. For
    run folders a document is one of the run's text; otherwise it is a sequence of tokens."""
    if out is not None:
        check_writable_folder("--out", out)
    if first.resolve() == second.resolve():
        raise InterpError(f"{first} would be compared with itself: name two folders")
    from interp.compare import open_pair
    from interp.storage.files import write_parquet
    from interp.storage.folders import atomic_folder

    pair = open_pair(first, second)
    made_of = {"kind": "comparison", "first": pair.first.identity, "second": pair.second.identity, "seed": seed}
    print(pair)
    if out is None:
        _compared(pair, seed)
        return
    with atomic_folder(out, made_of, overwrite=overwrite) as new:
        results = _compared(pair, seed)
        for name, (table, figure) in results.items():
            write_parquet(new / f"{name}.parquet", table)
            figure.write_html(new / f"{name}.html", include_plotlyjs="directory")
    print(f"{', '.join(results)} in {out}")


def _compared(pair: "Pair", seed: int) -> dict[str, tuple["pd.DataFrame", "go.Figure"]]:
    results = {}
    if pair.by == "corpora":
        results["corpora"] = _corpora(pair, seed)
    elif pair.by != "models":
        results["stability"] = _stability(pair, seed)
    if pair.by == "widths" and pair.share_text:
        results["splitting"] = _splitting(pair, seed)
    if pair.share_text:
        results["universality"] = _universality(pair, seed)
    return results


def _corpora(pair: "Pair", seed: int) -> tuple["pd.DataFrame", "go.Figure"]:
    from interp import Run, figures
    from interp.compare import corpora
    from interp.storage.manifests import RUN_FILE

    a, b = pair.first.features, pair.second.features
    assert a is not None and b is not None
    runs = [Run(side.path) if (side.path / RUN_FILE).is_file() else None for side in (pair.first, pair.second)]
    first, second = (None if run is None else run.harvested.document_ids for run in runs)
    ranking = next((run.ranking for run in runs if run is not None and run.has("ranking")), None)
    with Bar("documents") as bar:
        compared = corpora(a, b, documents=(first, second), ranking=ranking, seed=seed, progress=bar)
    print(compared)
    return compared.table, figures.corpus_differences(compared.table, names=compared.names)


def _stability(pair: "Pair", seed: int) -> tuple["pd.DataFrame", "go.Figure"]:
    from interp import figures
    from interp.compare import stability

    sides = [pair.first, pair.second]
    with Bar("directions"):
        matched = stability(*(side.W_dec[side.alive] for side in sides), seed=seed)  # type: ignore[index]
    pairs = f"{len(matched.table):,} matched pairs"
    print(f"directions    PW-MCC {matched.mcc} of {pairs}, {matched.chance:.3f} of random ones")
    print(
        f"              share of |cosine| ≥ {matched.threshold} {matched.share}, of random {matched.chance_share:.3f}"
    )
    alive = {name: side.alive[matched.table[name]] for name, side in zip(("latent", "other"), sides, strict=True)}
    table = matched.table.assign(**alive)
    return table, figures.matched_cosines(table, threshold=matched.threshold)


def _splitting(pair: "Pair", seed: int) -> tuple["pd.DataFrame", "go.Figure"]:
    from interp import figures
    from interp.compare import splitting

    narrow, wide = sorted((pair.first, pair.second), key=lambda side: side.d_sae)
    assert narrow.features is not None and wide.features is not None  # they share their text
    with Bar("splitting") as bar:
        split = splitting(narrow.features, wide.features, seed=seed, progress=bar)
    fates = split.children["children"]
    gone = int((fates == 0).sum())
    print(
        f"splitting     {split.n_split:,} of {len(fates):,} narrow latents split, {gone:,} have no part in the wide one"
    )
    shares = f"{split.share_with_parent:.0%}, on shifted text {split.null:.0%}"
    print(f"              share of {split.n_wide:,} wide latents that are part of a narrow one {shares}")
    names = [_names(features) for features in (narrow.features, wide.features)]
    return split.edges, figures.splitting([split.edges], names=names)


def _names(features: "FeatureStore") -> dict[int, str]:
    from interp.report.columns import commonest_tokens, top_tokens

    tokens_of = top_tokens(features, commonest_tokens(features, 3))
    return {latent: "|".join([f"#{latent}", *tokens]) for latent, tokens in tokens_of.items()}


def _universality(pair: "Pair", seed: int) -> tuple["pd.DataFrame", "go.Figure"]:
    import pandas as pd

    from interp import figures
    from interp.compare import universality

    tables = {}
    sides = {"first": pair.first.features, "second": pair.second.features}
    for (name, ours), (other, theirs) in (tuple(sides.items()), tuple(reversed(sides.items()))):
        assert ours is not None and theirs is not None
        with Bar("activations") as bar:
            best = universality(ours, theirs, seed=seed, progress=bar)
        median = f"{best.median} over {len(best.table):,} latents"
        print(f"activations   median r of {name} in {other} {median}, on shifted text {best.null}")
        tables[f"{name} in {other}"] = best.table
    table = pd.concat([table.assign(direction=name) for name, table in tables.items()], ignore_index=True)
    return table, figures.universality(tables)
