"""The commands that show what was found: `report` writes the page of a run or a feature store, `explore` serves a run's
page with its model, and `publish` writes a run's results in the formats of other tools."""

from dataclasses import fields
from pathlib import Path
from typing import Annotated, Any

from typer import Argument, Option

from interp.checks.config_fields import check_names, is_needed
from interp.checks.errors import InterpError
from interp.cli.command_arguments import (
    OVERWRITE,
    check_source,
    check_writable_folder,
    print_used_hook,
    read_table,
    renew_page,
    write_page,
)
from interp.cli.field_flags import FieldFlags, flag_of
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
            page = write_page(subject, bar)
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


def _results_formats(incomplete: str = "") -> list[str]:
    """List formats of results, for the shell's completion."""
    from interp.exchange.results_format import results_formats

    return [name for name in results_formats() if name.startswith(incomplete)]


def _publish_options() -> dict[str, type]:
    from interp.exchange.results_format import results_formats

    return {name: format.options for name, format in results_formats().items()}


def publish_command(
    run: Annotated[Path, Argument(help="a finished run folder")],
    *,
    out: Annotated[Path, Option(help="the folder to write")],
    to: Annotated[str, Option(help="whose format", autocompletion=_results_formats)],
    overwrite: Annotated[bool, OVERWRITE] = False,
    settings: Annotated[dict[str, Any], FieldFlags(_publish_options, choice="format", default="")],
) -> None:
    """run → files for Neuronpedia, Delphi or the hub"""
    from interp.exchange.results_format import results_formats

    formats = results_formats()
    check_names([to], list(formats), "--to: format")
    format = formats[to]
    known = {name: [field.name for field in fields(each.options)] for name, each in formats.items()}
    for name in settings:
        if name not in known[to]:
            others = " or ".join(other for other in formats if name in known[other])
            raise InterpError(f"{flag_of(name)} {settings[name]} is for --to {others}, not for {to}")
    needed = [field.name for field in fields(format.options) if is_needed(field)]
    if missing := [flag_of(name) for name in needed if name not in settings]:
        raise InterpError(f"--to {to} needs {' and '.join(missing)}")
    find_artifact(run, "run")
    check_writable_folder("--out", out)
    from interp.pipeline.readers import open_any

    opened = open_any(run, "run")
    with Bar("publish") as bar:
        written = format.publish(opened, out, format.options(**settings), overwrite=overwrite, progress=bar)
    print_used_hook(opened)
    print(written)


def publish_help() -> str:
    """Write the help of `publish`, with the formats and the options of each."""
    from interp.exchange.results_format import results_formats

    lines = [publish_command.__doc__ or ""]
    for name, format in results_formats().items():
        flags = [flag_of(each.name) + " (needed)" * is_needed(each) for each in fields(format.options)]
        lines.append(f"{name}: {format.help}. Options: {', '.join(flags) or 'none'}.")
    return "\n\n".join(lines)
