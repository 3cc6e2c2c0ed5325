"""The commands that show what was found: `report` writes the page of a run or a feature store, `explore` serves a run's
page with its model, and `publish` writes a run's results in the formats of other tools."""

from pathlib import Path
from typing import Annotated, Any, Literal

from typer import Argument, Option

from interp.checks.errors import InterpError
from interp.cli.command_arguments import (
    OVERWRITE,
    check_source,
    check_writable_folder,
    print_used_hook,
    read_table,
    renew_page,
)
from interp.cli.graph_command import serve_page
from interp.runtime.progress_bar import Bar
from interp.storage.addresses import address_of
from interp.storage.artifacts import find_artifact


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
    in_run = check_source(source, out, "the page's folder")
    if ranking is not None and out is None:
        raise InterpError(f"--ranking {ranking} is not the run's own: name a folder for its page with --out")
    if ranking is not None and ranking.suffix != ".parquet":
        raise InterpError(f"--ranking {ranking} must end in .parquet: a .csv does not hold the senses")
    from interp.pipeline.readers import open_any
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
        print_used_hook(subject)
    print(address_of(page) or page)


def explore_command(
    run: Annotated[Path, Argument(help="a finished run folder")],
    *,
    port: Annotated[int, Option(help="a port of this machine; 0 is any free port", min=0, max=(1 << 16) - 1)] = 8000,
) -> None:
    """run → its page together with the model

    Type a text and see which features fire at each token and how each contributes to the next one; steer with features
    and compare what the model writes. Stars, labels and notes are kept in RUN/notes.json. The server is for this
    machine only; to see the page on another one, use `ssh -L 8000:127.0.0.1:8000 MACHINE` there."""
    find_artifact(run, "run")
    from interp.report.live.local_server import check_port

    check_port(port)
    print(f"opening {run} and its model …", flush=True)
    from interp.pipeline.readers import open_any
    from interp.report.live import Explorer

    opened = open_any(run, "run")
    print_used_hook(opened)
    renew_page(opened)
    with Explorer(opened, port) as server:
        serve_page(server)


def publish_command(
    run: Annotated[Path, Argument(help="a finished run folder")],
    *,
    out: Annotated[Path, Option(help="the folder to write")],
    to: Annotated[Literal["neuronpedia", "delphi", "hub"], Option(help="whose format")],
    model_id: Annotated[str | None, Option(help="neuronpedia: the model's name there; delphi: the tokenizer's")] = None,
    layer: Annotated[
        int | None, Option(help="neuronpedia: the layer of the hook (default: as its name says)", min=0)
    ] = None,
    sae_set: Annotated[str | None, Option(help="neuronpedia: the name of the dictionaries there")] = None,
    repo: Annotated[
        str | None, Option(help="hub: upload to this repository, NAME/REPOSITORY (default: write the folder only)")
    ] = None,
    overwrite: Annotated[bool, OVERWRITE] = False,
) -> None:
    """run → files for Neuronpedia, Delphi or the hub

    neuronpedia: the dashboards of features in JSON, as SAEDashboard writes them. delphi: all firings, as its latent
    cache. hub: the dictionary with a card of the run's numbers; nothing is uploaded unless --repo is given."""
    if repo and to != "hub":
        raise InterpError(f"--repo {repo} is for --to hub, not for {to}")
    if to == "neuronpedia" and not (model_id and sae_set):
        raise InterpError("--to neuronpedia needs --model-id and --sae-set, the names of the source there")
    if to == "delphi" and not model_id:
        raise InterpError("--to delphi needs --model-id, with which transformers finds the tokenizer")
    find_artifact(run, "run")
    check_writable_folder("--out", out)
    from interp import exchange
    from interp.activations.hooks import layer_of
    from interp.pipeline.readers import open_any

    opened = open_any(run, "run")

    written = out
    with Bar("publish") as bar:
        if to == "neuronpedia":
            layer = layer_of(opened.hook_name) if layer is None else layer
            if layer is None:
                raise InterpError(f"{opened.hook_name} does not name its layer: give --layer")
            exchange.write_neuronpedia(
                opened.features,
                out,
                model_id=str(model_id),
                layer=layer,
                sae_set=str(sae_set),
                overwrite=overwrite,
                progress=bar,
            )
        elif to == "delphi":
            written = exchange.write_delphi(
                opened.features, out, model_name=str(model_id), overwrite=overwrite, progress=bar
            )
        else:
            written = exchange.write_hub_folder(opened, out, overwrite=overwrite)
    print_used_hook(opened)
    print(exchange.upload_to_hub(written, repo) if repo else written)
