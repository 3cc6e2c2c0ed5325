"""`train-sae`: activations → dictionaries, one or a sweep; `export`: a dictionary in another format."""

import argparse
import itertools
from pathlib import Path
from typing import TYPE_CHECKING, Any

from interp.cli.console import Bar, is_first, training_line
from interp.cli.parsing import command, one_line, only_hook

if TYPE_CHECKING:
    from interp.sae import SAEConfig

SAE_FLAGS = {
    "--d-sae": "latents",
    "--k": "active latents a token (batchtopk, matryoshka: on average; default 32)",
    "--l1": "weight of the penalty (relu, gated)",
    "--target-l0": "active latents a token (jumprelu)",
    "--tokens --max-tokens": "tokens to train on, several epochs if need be (default: the store once)",
    "--batch-size": "tokens a step",
    "--lr": "peak learning rate (default: the width law)",
    "--seed": "of the weights and of the order of the rows",
}


def add_train_sae(commands: Any) -> None:
    text = """\
Train a dictionary on a hook of an activation store; cut off, it goes on from its last checkpoint.
Several --hook share the latents of a crosscoder; --target makes a transcoder, which reads --hook and writes another.
Several stores of the same rows are named: base=STORE tuned=STORE --hook base/NAME --hook tuned/NAME.

Architectures: topk, batchtopk, matryoshka, jumprelu, relu, gated, matching_pursuit.
--set FIELD=VALUE reaches each field, --fields lists them; --sweep k=16,32 trains OUT/0, OUT/1 in one pass.

    interp train-sae STORE --architecture jumprelu --d-sae 8192 --target-l0 32 --out OUT
    interp train-sae STORE --d-sae 8192 --sweep k=16,32,64 --log tensorboard --out OUT
    torchrun --nproc-per-node 2 -m interp train-sae STORE --d-sae 8192 --k 32 --out OUT"""
    parser = command(commands, "train-sae", _train_sae, "activation store → dictionary", text)
    parser.add_argument("store", nargs="+", help="an activation store, as harvest writes it")
    parser.add_argument("--hook", action="append", metavar="NAME", help="needed only where the store holds several")
    parser.add_argument("--target", metavar="NAME", help="the hook that a transcoder writes")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--architecture", default="topk", metavar="NAME", help="see above (default topk)")
    parser.add_argument("--fields", action=_Fields, nargs=0, help="list those of the --architecture before it")
    for flag, help in SAE_FLAGS.items():
        parser.add_argument(*flag.split(), metavar="N", help=help)
    parser.add_argument("--device", help="auto, cpu, cuda or mps")
    parser.add_argument("--set", action="append", default=[], metavar="FIELD=VALUE", help="any field; several times")
    parser.add_argument("--sweep", action="append", default=[], metavar="FIELD=A,B", help="a dictionary for each value")
    parser.add_argument("--log", choices=("tensorboard", "wandb"), help="send the metrics there too")
    parser.add_argument("--redo", action="store_true", help="begin anew, whatever OUT holds")


class _Fields(argparse.Action):
    def __call__(self, parser: argparse.ArgumentParser, namespace: Any, *_: Any) -> None:
        from interp.pipeline.config import sae_fields

        try:
            lines = sae_fields(namespace.architecture)
        except ValueError as error:
            parser.error(str(error))
        print("\n".join(lines))
        parser.exit()


def _train_sae(options: argparse.Namespace) -> None:
    from interp.processes import processes
    from interp.sae import train_sae, train_sweep

    def prepare() -> tuple[Any, Any, list["SAEConfig"]]:
        try:
            store = _open_stores(options.store)
            if len(store) == 0:
                raise ValueError(f"{' '.join(options.store)} is empty: there is nothing to train on")
            hook = _hooks(store, options.hook)
            for name in [hook] if isinstance(hook, str) else hook:
                store.statistics(name)
            return store, hook, _sae_configs(options, len(store))
        except OSError as error:
            raise ValueError(one_line(error)) from error

    store, hook, configs = processes().all_do(prepare)
    given: Any = {"out": options.out, "target": options.target, "log": options.log, "resume": not options.redo}
    with Bar("sae") as bar:
        if options.sweep:
            saes = train_sweep(store, hook, configs, progress=bar, **given)
        else:
            saes = [train_sae(store, hook, configs[0], progress=bar, **given)]
    for i, sae in enumerate(saes if is_first() else []):
        folder = options.out / str(i) if options.sweep else options.out
        readers = "interp, SAELens and SAEBench read it" if sae.preferred_format == "saelens" else "interp reads it"
        print(training_line(type(sae).__name__, folder, options.sweep, readers))


def _open_stores(places: list[str]) -> Any:
    from interp.activations import ActivationStore, join_stores

    if len(places) == 1:
        return ActivationStore.open(places[0])
    for place in places:
        if "=" not in place:
            raise ValueError(f"several stores need names: NAME=STORE, not {place}")
    return join_stores({name: ActivationStore.open(path) for name, _, path in (p.partition("=") for p in places)})


def _hooks(store: Any, hooks: list[str] | None) -> str | list[str]:
    return hooks if hooks and len(hooks) > 1 else only_hook(store, hooks[0] if hooks else None)


def _sae_configs(options: argparse.Namespace, rows: int) -> list["SAEConfig"]:
    from interp.pipeline.config import sae_config, toml_value, toml_values

    flags = [flag.split()[0].removeprefix("--").replace("-", "_") for flag in SAE_FLAGS] + ["device"]
    given = {name: toml_value(text) for name in flags if (text := getattr(options, name)) is not None}
    given = {"tokens": rows, "architecture": options.architecture} | given
    given |= {name: toml_value(text) for name, text in map(_assignment, options.set)}
    swept = {name: toml_values(text) for name, text in map(_assignment, options.sweep)}
    each = [given | dict(zip(swept, values, strict=True)) for values in itertools.product(*swept.values())]
    return [sae_config(one.pop("architecture"), one) for one in each]


def _assignment(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not (name and equals and value):
        raise ValueError(f"{text!r} must be FIELD=VALUE")
    return name.strip().replace("-", "_"), value


def add_export(commands: Any) -> None:
    text = """\
Write a dictionary in another format.
saelens: as sae_lens.SAE.load_from_disk reads it. interp: any dictionary, bit for bit, for interp."""
    parser = command(commands, "export", _export, "dictionary → folder in another format", text)
    parser.add_argument("sae", help="the folder of an SAE (ours, SAELens's or sparsify's) or a SAELens release")
    parser.add_argument("--sae-id", help="which SAE of a release")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--format", default="saelens", choices=("saelens", "interp"))


def _export(options: argparse.Namespace) -> None:
    from interp.sae import load_sae

    load_sae(options.sae, options.sae_id).save(options.out, format=options.format)
    print(options.out)
