"""`train-sae`: activations → dictionaries, one or a sweep; `export`: a dictionary in another format."""

import argparse
import ast
import dataclasses
import inspect
import itertools
import json
import textwrap
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from interp.cli.console import Bar, assignment, is_first, one_line, toml_value, toml_values
from interp.cli.paths import only_hook
from interp.pipeline.validation import architecture_named, field_types, is_needed, plain, sae_config, type_name

if TYPE_CHECKING:
    from interp.sae import SAEConfig


def train_sae_command(
    store: Annotated[tuple[str, ...], "an activation store, as harvest writes it"],
    *,
    out: Annotated[Path, "the dictionary's folder; a sweep writes OUT/0, OUT/1, …"],
    hook: Annotated[list[str] | None, "needed only where the store holds several"] = None,
    target: Annotated[str | None, "the hook that a transcoder writes"] = None,
    architecture: str = "topk",
    set: Annotated[list[str] | None, "FIELD=VALUE, the same as --FIELD VALUE; several times"] = None,
    sweep: Annotated[list[str] | None, "FIELD=A,B: a dictionary for each value; several times"] = None,
    log: Annotated[Literal["tensorboard", "wandb"] | None, "send the metrics there too"] = None,
    redo: Annotated[bool, "begin from the start, whatever OUT holds"] = False,
) -> None:
    """activation store → dictionary

    Train a dictionary on a hook of an activation store; cut off, it goes on from its last checkpoint.
    Several --hook share the latents of a crosscoder; --target makes a transcoder, which reads --hook and writes that.
    Several stores of the same rows are named: base=STORE tuned=STORE --hook base/NAME --hook tuned/NAME.

        interp train-sae STORE --architecture jumprelu --d-sae 8192 --target-l0 32 --out OUT
        interp train-sae STORE --d-sae 8192 --sweep k=16,32,64 --log tensorboard --out OUT
        torchrun --nproc-per-node 2 -m interp train-sae STORE --d-sae 8192 --k 32 --out OUT"""
    from interp.sae import train_sae, train_sweep
    from interp.storage.processes import processes

    asked = store, hook, architecture, set or [], sweep or []
    opened, hooks, configs = processes().all_do(lambda: _prepared(*asked))
    options: Any = {"out": out, "target": target, "log": log, "resume": not redo}
    with Bar("sae") as bar:
        if sweep:
            saes = train_sweep(opened, hooks, configs, progress=bar, **options)
        else:
            saes = [train_sae(opened, hooks, configs[0], progress=bar, **options)]
    for i, sae in enumerate(saes if is_first() else []):
        print(_line(sae, out / str(i) if sweep else out, sweep or []))


def add_fields(parser: argparse.ArgumentParser) -> None:
    """To `interp train-sae`: an option for each field of any architecture that is registered."""
    from interp.sae import ARCHITECTURES

    parser.usage = "%(prog)s STORE [STORE ...] --out OUT [--FIELD VALUE ...]"
    parser.add_argument("--fields", action=_Fields, nargs=0, help="list those of the --architecture before it")
    group = parser.add_argument_group("fields", f"of the architectures {', '.join(ARCHITECTURES)}")
    added: set[str] = set()
    for kind in ARCHITECTURES.values():
        said, hints = _field_docstrings(kind), field_types(kind)
        for name in (name for name in hints if name not in added):
            flags = [f"--{name.replace('_', '-')}"] + (["--max-tokens"] if name == "tokens" else [])
            help = said.get(name, "").split(". ")[0].replace("%", "%%")
            shown: Any = {"metavar": type_name(hints[name]), "help": textwrap.fill(help, 90)}
            group.add_argument(*flags, action=_Set, dest=name, default=argparse.SUPPRESS, **shown)
        added |= hints.keys()


class _Set(argparse.Action):
    def __call__(self, parser: argparse.ArgumentParser, namespace: Any, values: Any, _: str | None = None) -> None:
        namespace.set = [*(namespace.set or []), f"{self.dest}={values}"]


class _Fields(argparse.Action):
    def __call__(self, parser: argparse.ArgumentParser, namespace: Any, *_: Any) -> None:
        try:
            print("\n".join(field_lines(architecture_named(namespace.architecture))))
        except ValueError as error:
            parser.error(str(error))
        parser.exit()


def field_lines(kind: type) -> list[str]:
    """Of each field a line with its name, type and default, and what its docstring says."""
    hints, said, lines = field_types(kind), _field_docstrings(kind), []
    for field in dataclasses.fields(kind):
        default = "needed" if is_needed(field) else f"default {plain(field.default)}"
        lines.append(f"{field.name:22s} {type_name(hints[field.name]):16s} {default}")
        lines += textwrap.wrap(said.get(field.name, ""), 100, initial_indent="    ", subsequent_indent="    ")
    return lines


def _field_docstrings(kind: type) -> dict[str, str]:
    """The string below each field, in the source of the class and of those it comes from, on one line."""
    said: dict[str, str] = {}
    for each in reversed([each for each in kind.__mro__ if dataclasses.is_dataclass(each)]):
        try:
            body = ast.parse(textwrap.dedent(inspect.getsource(each))).body[0]
        except OSError:  # typed at a prompt: there is no source
            continue
        assert isinstance(body, ast.ClassDef)
        for field, below in itertools.pairwise(body.body):
            match field, below:
                case ast.AnnAssign(target=ast.Name(id=name)), ast.Expr(value=ast.Constant(value=str(text))):
                    said[name] = " ".join(text.split())
    return said


def _prepared(
    places: tuple[str, ...], hook: list[str] | None, architecture: str, set: list[str], sweep: list[str]
) -> tuple[Any, Any, list["SAEConfig"]]:
    """The store, its hooks and the configs. A ValueError for all that cannot be, so that each process hears of it."""
    try:
        store = _open_stores(places)
        if len(store) == 0:
            raise ValueError(f"{' '.join(places)} is empty: there is nothing to train on")
        hooks = hook if hook and len(hook) > 1 else only_hook(store, hook[0] if hook else None)
        for name in hooks if isinstance(hooks, list) else [hooks]:
            store.statistics(name)
    except OSError as error:
        raise ValueError(one_line(error)) from error
    given: dict[str, Any] = {"tokens": len(store), "architecture": architecture}
    given |= {name: toml_value(text) for name, text in map(assignment, set)}
    swept = {name: toml_values(text) for name, text in map(assignment, sweep)}
    each = [given | dict(zip(swept, values, strict=True)) for values in itertools.product(*swept.values())]
    return store, hooks, [sae_config(one.pop("architecture"), one) for one in each]


def _line(sae: Any, folder: Path, sweep: list[str]) -> str:
    """What the training reached; of a sweep, with the values of the swept fields."""
    r = json.loads((folder / "results.json").read_text(encoding="utf-8"))
    values = "".join(f"{name}={r['config'][name]} " for name, _ in map(assignment, sweep))
    readers = "interp, SAELens and SAEBench read it" if sae.preferred_format == "saelens" else "interp reads it"
    reached = f"FVU {r['fvu']:.3f}, L0 {r['l0']:.1f}, {r['dead']:.1%} dead, {r['faint']:.1%} faint"
    return f"{type(sae).__name__} in {folder}: {values}{reached} ({readers})"


def _open_stores(places: tuple[str, ...]) -> Any:
    from interp.activations import ActivationStore, join_stores

    if len(places) == 1:
        return ActivationStore.open(places[0])
    for place in places:
        if "=" not in place:
            raise ValueError(f"several stores need names: NAME=STORE, not {place}")
    return join_stores({name: ActivationStore.open(path) for name, _, path in (p.partition("=") for p in places)})


def export_command(
    sae: Annotated[str, "the folder of an SAE (ours, SAELens's or sparsify's) or a SAELens release"],
    *,
    out: Annotated[Path, "the folder to write"],
    sae_id: Annotated[str | None, "which SAE of a release"] = None,
    format: Literal["saelens", "interp"] = "saelens",
) -> None:
    """dictionary → folder in another format

    saelens: as sae_lens.SAE.load_from_disk reads it. interp: any dictionary, bit for bit, for interp."""
    from interp.sae import load_sae

    load_sae(sae, sae_id).save(out, format=format)
    print(out)
