"""The commands on dictionaries: `train-sae` trains one or a sweep, `export` writes one in another format."""

import dataclasses
import inspect
import itertools
import re
import textwrap
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer
from typer import Argument, Option

from interp.checks.errors import InterpError
from interp.cli.command_arguments import OVERWRITE, check_writable_folder, load_named_sae, only_hook
from interp.cli.error_lines import one_line
from interp.cli.field_flags import FieldFlags
from interp.cli.option_groups import HOW_IT_RUNS
from interp.cli.toml_values import assignment, toml_values
from interp.runtime.progress_bar import Bar
from interp.runtime.torchrun import is_first
from interp.storage.addresses import RemoteAddress, address_of, as_path
from interp.storage.artifacts import is_run
from interp.storage.remote_folders import local_path

if TYPE_CHECKING:
    from interp.sae import SAEConfig


def _architectures(incomplete: str) -> list[str]:
    """List architectures, for the shell's completion."""
    from interp.sae import ARCHITECTURES

    return [name for name in ARCHITECTURES if name.startswith(incomplete)]


def _formats(incomplete: str) -> list[str]:
    """List formats in which a dictionary can be written, for the shell's completion."""
    from interp.sae.formats.dictionary_files import written_formats

    return [name for name in written_formats() if name.startswith(incomplete)]


def _architecture_configs() -> Mapping[str, type]:
    """Return the configs of all registered architectures by name, including the user's own."""
    from interp.sae import ARCHITECTURES

    return ARCHITECTURES


_ARCHITECTURE_FLAGS = FieldFlags(
    _architecture_configs,
    choice="architecture",
    given={"tokens": "all rows of the store, once"},
    as_text=True,
    each_field=True,
)


def _show_fields(architecture: str | None) -> None:
    if architecture is not None:
        from interp.sae.architectures.sae_config import architecture_named

        print("\n".join(field_lines(architecture_named(architecture))))
        raise typer.Exit


def train_sae_command(
    store: Annotated[
        list[str], Argument(help="an activation store, as harvest writes it, its address, or a run folder")
    ],
    *,
    out: Annotated[str, Option(help="the dictionary's folder, or its address; a sweep writes OUT/0, OUT/1, …")],
    hook: Annotated[
        list[str] | None,
        Option(help="needed only if the store has several; for a run, its own unless you name another"),
    ] = None,
    output_hook: Annotated[str | None, Option(help="the hook that a transcoder writes")] = None,
    architecture: Annotated[
        str, Option(help="which latents fire, as listed above", autocompletion=_architectures)
    ] = "topk",
    fields: Annotated[
        str | None,
        Option(
            metavar="ARCHITECTURE",
            help="list the fields of this architecture with their defaults and sources, and exit",
            is_eager=True,
            callback=_show_fields,
            autocompletion=_architectures,
        ),
    ] = None,
    settings: Annotated[dict[str, Any], _ARCHITECTURE_FLAGS],
    sweep: Annotated[list[str] | None, Option(help="FIELD=A,B: a dictionary for each value; may be repeated")] = None,
    log: Annotated[
        Literal["tensorboard", "wandb"] | None, Option(help="also send the metrics there", rich_help_panel=HOW_IT_RUNS)
    ] = None,
    shards: Annotated[
        int,
        Option(
            help="under torchrun: divide the latents among this many processes, if one device cannot hold them",
            rich_help_panel=HOW_IT_RUNS,
        ),
    ] = 1,
    overwrite: Annotated[bool, OVERWRITE] = False,
) -> None:
    """activation store → dictionary

    Train a dictionary on a hook of an activation store. An interrupted training resumes at its last checkpoint. Several
    --hook share the latents of a crosscoder; --output-hook makes a transcoder.
    Several stores of the same rows are named: base=STORE tuned=STORE --hook base/NAME --hook tuned/NAME.

    \b
        interp train-sae STORE --architecture jumprelu --d-sae 8192 --target-l0 32 --out OUT
        interp train-sae STORE --d-sae 8192 --sweep k=16,32,64 --log tensorboard --out OUT
        torchrun --nproc-per-node 2 -m interp train-sae STORE --d-sae 8192 --k 32 --out OUT
        torchrun --nproc-per-node 8 -m interp train-sae STORE --d-sae 1048576 --shards 8 --out OUT"""
    check_writable_folder("--out", out, anywhere=True)
    from interp.runtime.processes import processes
    from interp.sae import train_sae, train_sharded, train_sweep

    if shards != 1 and sweep:
        raise InterpError(f"--shards {shards} trains one dictionary, but --sweep trains several: leave one of them out")
    options: Any = {"out": out, "output_hook": output_hook, "log": log, "overwrite": overwrite}
    with Bar("sae") as bar:
        opened, hooks, configs = processes().all_do(lambda: _prepared(store, hook, architecture, settings, sweep or []))
        if sweep:
            train_sweep(opened, hooks, configs, progress=bar, **options)
        elif shards != 1:
            train_sharded(opened, hooks, configs[0], shards=shards, progress=bar, **options)
        else:
            train_sae(opened, hooks, configs[0], progress=bar, **options)
    folder = as_path(out)
    folders = [folder / str(i) for i in range(len(configs))] if sweep else [folder]
    for folder in folders if is_first() else []:
        print(_line(folder, sweep or []))


def train_sae_help() -> str:
    """Write the help of `train-sae`, with the registered architectures."""
    from interp.sae import ARCHITECTURES

    lines = "\n".join(
        textwrap.fill(f"  {name:16s} {first_sentence(each)}", 100, subsequent_indent=" " * 19)
        for name, each in ARCHITECTURES.items()
    )
    return f"{inspect.cleandoc(train_sae_command.__doc__ or '')}\n\n\b\nArchitectures:\n{lines}"


def first_sentence(config_class: type) -> str:
    """Return the first sentence of the docstring of a class; nothing if it has none of its own."""
    doc = " ".join(inspect.cleandoc(vars(config_class).get("__doc__") or "").split())
    return re.split(r"\.(?: (?=[A-Z])|$)", doc)[0]


def field_lines(config_class: type) -> list[str]:
    """Return a line for each field with its name, type and default, followed by its docstring."""
    from interp.checks.config_fields import field_docs, field_types, is_needed, to_toml_value, type_name

    hints = field_types(config_class)
    docs = field_docs(config_class)
    lines = []
    for field in dataclasses.fields(config_class):
        default = "needed" if is_needed(field) else f"default {to_toml_value(field.default)}"
        lines.append(f"{field.name:22s} {type_name(hints[field.name]):16s} {default}")
        lines += textwrap.wrap(docs.get(field.name, ""), 100, initial_indent="    ", subsequent_indent="    ")
    return lines


def _prepared(
    paths: list[str],
    hook: list[str] | None,
    architecture: str,
    settings: dict[str, Any],
    sweep: list[str],
) -> tuple[Any, Any, list["SAEConfig"]]:
    """Return the store, its hooks and the configs. Raises ValueError, in each process, for impossible combinations."""
    from interp.pipeline.run import Run
    from interp.sae.architectures.sae_config import config_from_dict

    try:
        store = _open_stores(paths)
        if len(store) == 0:
            raise InterpError(f"{' '.join(paths)} has no rows to train on: harvest more tokens")
        if not hook and len(paths) == 1 and address_of(paths[0]) is None and is_run(paths[0]):
            hook = [Run(paths[0]).hook_name]
        hooks = hook if hook and len(hook) > 1 else only_hook(store, hook[0] if hook else None)
        for name in hooks if isinstance(hooks, list) else [hooks]:
            store.statistics(name)
    except OSError as error:
        raise InterpError(one_line(error)) from error
    values = {"tokens": len(store), "architecture": architecture, **settings}
    swept = {name: toml_values(text) for name, text in map(assignment, sweep)}
    combinations = [dict(zip(swept, combination, strict=True)) for combination in itertools.product(*swept.values())]
    return store, hooks, [config_from_dict(values | combination) for combination in combinations]


def _line(folder: Path | RemoteAddress, sweep: list[str]) -> str:
    """Describe the results of a training; in a sweep, with the values of the swept fields."""
    from interp.sae.formats.native import is_native
    from interp.sae.training_run import read_results

    local = local_path(folder)
    r = read_results(local)
    config = r["config"]
    title = "Transcoder" if "output_hook" in config else "SAE" if isinstance(config["hook"], str) else "Crosscoder"
    values = "".join(f"{name}={config[name]} " for name, _ in map(assignment, sweep))
    readers = "interp reads it" if is_native(local) else "interp, SAELens and SAEBench read it"
    idle = f"{r['dead']:.1%} of {config['d_sae']:,} latents dead, {r['faint']:.1%} faint"
    reached = f"FVU {r['fvu']:.3f}, L0 {r['l0']:.1f}, {idle}"
    return f"{title} in {folder}: {values}{reached} ({readers})"


def _open_stores(paths: list[str]) -> Any:
    from interp.activations import join_stores
    from interp.pipeline.readers import open_any

    if len(paths) == 1:
        return open_any(paths[0], "activations")
    for path in paths:
        if "=" not in path:
            raise InterpError(f"several stores need names: NAME=STORE, not {path}")
    path_of_name = dict(path.split("=", 1) for path in paths)
    if len(path_of_name) < len(paths):
        raise InterpError(f"two stores have one name: give each of {' '.join(paths)} its own")
    return join_stores({name: open_any(path, "activations") for name, path in path_of_name.items()})


def export_command(
    sae: Annotated[
        str, Argument(help="the folder of an SAE (ours, SAELens's or sparsify's) or run, or SAELens's RELEASE:ID")
    ],
    *,
    out: Annotated[str, Option(help="the folder to write, or its address")],
    format: Annotated[str, Option(help="the format", autocompletion=_formats)] = "saelens",
    overwrite: Annotated[bool, OVERWRITE] = False,
) -> None:
    """dictionary → a folder in another format"""
    check_writable_folder("--out", out, anywhere=True)
    load_named_sae(sae).save(out, format=format, overwrite=overwrite)
    print(out)


def export_help() -> str:
    """Write the help of `export`, with the formats that can be written."""
    from interp.sae.formats.dictionary_files import written_formats

    lines = (f"{format.name}: {format.help}." for format in written_formats().values())
    return "\n\n".join([export_command.__doc__ or "", *lines])
