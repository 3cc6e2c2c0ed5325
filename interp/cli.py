"""The command line: `interp COMMAND`, also `python -m interp COMMAND`.

`demo` and `run` build a run folder stage by stage; the other commands do one stage each on files that you name.
Bad input ends with one line on standard error and exit code 2.
"""

import argparse
import errno
import os
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from interp.console import Bar, show_stages, verdicts

STAGE_HELP = "corpus, model, activations, sae, features, neurons, quality, concepts, ranking, report"


def main(arguments: Sequence[str] | None = None) -> int:
    parser = _parser()
    options = parser.parse_args(arguments)
    if options.command is None:
        parser.print_help()
        return 0
    _quiet_libraries()
    try:
        options.command(options)
    except (ValueError, OSError) as error:
        if options.traceback:
            raise
        print(f"interp: {_one_line(error)}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("interp: interrupted; run the same command again to go on", file=sys.stderr)
        return 130
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="interp",
        description="Dictionary learning on language models: from raw text to ranked, explained features.",
        epilog="Start with `interp demo --quick` and open the page it names. `interp COMMAND --help` explains each.",
    )
    parser.add_argument("--traceback", action="store_true", help="show where an error came from")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND")
    parser.set_defaults(command=None)
    for add in (_add_demo, _add_run, _add_train_model, _add_harvest, _add_train_sae, _add_scan, _add_rank, _add_report):
        add(commands)
    _add_export(commands)
    _add_warm_up(commands)
    return parser


def _command(commands: Any, name: str, run: Callable, help: str, description: str) -> argparse.ArgumentParser:
    parser = commands.add_parser(
        name, help=help, description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.set_defaults(command=run)
    return parser


def _add_demo(commands: Any) -> None:
    text = """\
The main job on the text that ships with the install: labelled text, a small transformer, activations, a sparse
autoencoder, feature statistics, a ranking and a page. A run that was cut off goes on where it stood."""
    parser = _command(commands, "demo", _demo, "the main job, on the text that ships with the install", text)
    parser.add_argument("--quick", action="store_true", help="a smaller model and dictionary, within a minute")
    parser.add_argument("--out", type=Path, help="the run folder (default runs/demo, or runs/demo-quick)")
    parser.add_argument("--redo", action="store_true", help="run stages again whose configuration changed")


def _demo(options: argparse.Namespace) -> None:
    from interp.config import RunConfig

    out = options.out or Path("runs/demo-quick" if options.quick else "runs/demo")
    config = RunConfig.quick() if options.quick else RunConfig()
    show_stages(config, out, "report", options.redo)


def _add_run(commands: Any) -> None:
    text = f"""\
The same stages from a configuration file. What is done is skipped, what was cut off goes on.
Stages: {STAGE_HELP}

A configuration names only what differs from the demo:

    [corpus]
    source = "files"            # or mixture, shakespeare, python, jsonl, huggingface, …
    paths = ["texts/*.txt"]
    [model]
    preset = "small"            # or essay, one-layer
    [harvest]
    hook_name = "blocks.1.hook_resid_post"
    [sae]
    architecture = "batchtopk"  # or topk
    d_sae = 8192
    k = 32"""
    parser = _command(commands, "run", _run, "the same stages from a configuration file", text)
    parser.add_argument("config", type=Path, metavar="CONFIG.toml")
    parser.add_argument("--out", type=Path, help="the run folder (default runs/NAME for NAME.toml)")
    parser.add_argument("--until", default="report", metavar="STAGE", help="stop after this stage (default report)")
    parser.add_argument("--redo", action="store_true", help="run stages again whose configuration changed")


def _run(options: argparse.Namespace) -> None:
    from interp.config import RunConfig
    from interp.run import STAGES

    names = [stage.name for stage in STAGES]
    if options.until not in names:
        raise ValueError(f"--until {options.until} is not a stage; the stages are {', '.join(names)}")
    out = options.out or Path("runs") / options.config.stem
    show_stages(RunConfig.from_toml(options.config), out, options.until, options.redo)


def _add_train_model(commands: Any) -> None:
    text = """\
The first two stages of a run: labelled tokens and a trained transformer.
OUT then holds corpus/tokenizer, corpus/train, corpus/val and model/, which the commands below take."""
    parser = _command(
        commands, "train-model", _train_model, "text → tokenizer, labelled tokens and a trained model", text
    )
    parser.add_argument("config", type=Path, metavar="CONFIG.toml")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--redo", action="store_true", help="train again if the configuration changed")


def _train_model(options: argparse.Namespace) -> None:
    from interp.config import RunConfig

    show_stages(RunConfig.from_toml(options.config), options.out, "model", options.redo)


def _add_harvest(commands: Any) -> None:
    text = (
        "Run tokens through a model and keep the activations at one or more hooks, rows shuffled, in one forward pass."
    )
    parser = _command(commands, "harvest", _harvest, "model + tokens → activation store", text)
    parser.add_argument("model", type=Path, help="a model folder, as train-model writes it")
    parser.add_argument("tokens", type=Path, help="a folder of labelled tokens, as train-model writes it")
    parser.add_argument("--hook", action="append", required=True, metavar="NAME", help="may be given several times")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--max-tokens", type=int, help="harvest only so many tokens, from the start")
    parser.add_argument("--dtype", default="bfloat16", choices=("bfloat16", "float16", "float32"))
    parser.add_argument("--batch-size", type=int, default=64, help="sequences a forward (default 64)")
    parser.add_argument(
        "--exclude", type=int, nargs="*", default=[0], help="token ids to leave out (default 0, <|bos|>)"
    )
    parser.add_argument("--max-norm", type=float, help="leave out rows above this multiple of the median norm")
    parser.add_argument("--seed", type=int, default=0)


def _harvest(options: argparse.Namespace) -> None:
    from interp.harvest import harvest
    from models.corpus import LabelledTokens
    from models.transformer import Transformer

    tokens = LabelledTokens.load(options.tokens).tokens
    if options.max_tokens:
        tokens = tokens[: max(1, options.max_tokens // tokens.shape[1])]
    with Bar("harvest") as bar:
        store = harvest(
            Transformer.load(options.model),
            tokens,
            options.hook,
            options.out,
            dtype=options.dtype,
            batch_size=options.batch_size,
            exclude=tuple(options.exclude),
            max_norm=options.max_norm,
            seed=options.seed,
            progress=bar,
        )
    print(f"{len(store):,} rows of {', '.join(f'{h} ({store.d(h)})' for h in store.hook_names)} in {options.out}")


def _add_train_sae(commands: Any) -> None:
    text = "Train a sparse autoencoder on a hook of an activation store; cut off, it goes on from its last checkpoint."
    parser = _command(commands, "train-sae", _train_sae, "activation store → sparse autoencoder", text)
    parser.add_argument("store", type=Path, help="an activation store, as harvest writes it")
    parser.add_argument("--hook", metavar="NAME", help="needed only where the store holds several")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--architecture", default="topk", choices=("topk", "batchtopk"))
    parser.add_argument("--d-sae", type=int, required=True, help="latents")
    parser.add_argument("--k", type=int, required=True, help="active latents a token (batchtopk: on average)")
    parser.add_argument(
        "--max-tokens", type=int, required=True, dest="tokens", help="tokens to train on; several epochs if need be"
    )
    parser.add_argument("--batch-size", type=int, help="tokens a step")
    parser.add_argument("--lr", type=float, help="peak learning rate (default: the width law)")
    parser.add_argument("--seed", type=int)
    parser.add_argument("--device", help="auto, cpu, cuda or mps")


def _train_sae(options: argparse.Namespace) -> None:
    from interp.activations import ActivationStore
    from interp.config import ARCHITECTURES
    from interp.sae import train_sae

    store = ActivationStore.open(options.store)
    hook = _only_hook(store, options.hook)
    kind = ARCHITECTURES[options.architecture]
    names = ("d_sae", "k", "tokens", "batch_size", "lr", "seed", "device")
    given = {name: getattr(options, name) for name in names if getattr(options, name) is not None}
    with Bar("train-sae") as bar:
        train_sae(store, hook, kind(**given), out=options.out, progress=bar)
    print(f"SAE in {options.out} (interp, SAELens and SAEBench read it)")


def _add_scan(commands: Any) -> None:
    text = """\
Statistics, examples and logit effects of every latent, as Parquet tables in OUT.
--model adds logit effects and readable tokens, --tokens adds the labels that the text carries."""
    parser = _command(commands, "scan", _scan, "SAE + store → feature store", text)
    parser.add_argument("sae", help="an SAE folder (ours or SAELens's) or a SAELens release name")
    parser.add_argument("store", type=Path, help="an activation store, as harvest writes it")
    parser.add_argument("--hook", metavar="NAME", help="needed only where the store holds several")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--model", type=Path, help="the model folder")
    parser.add_argument("--tokenizer", type=Path, help="the tokenizer folder (default: beside the tokens)")
    parser.add_argument("--tokens", type=Path, help="the labelled tokens that were harvested")


def _scan(options: argparse.Namespace) -> None:
    from interp.activations import ActivationStore
    from interp.features import scan_features
    from interp.sae import load_sae
    from models.corpus import LabelledTokens
    from models.tokenizer import Tokenizer
    from models.transformer import Transformer

    store = ActivationStore.open(options.store)
    labelled = LabelledTokens.load(options.tokens) if options.tokens else None
    tokenizer = options.tokenizer or (options.tokens.parent / "tokenizer" if options.tokens else None)
    with Bar("scan") as bar:
        features = scan_features(
            load_sae(options.sae),
            store,
            _only_hook(store, options.hook),
            options.out,
            model=Transformer.load(options.model) if options.model else None,
            vocab=Tokenizer.load(tokenizer).display() if tokenizer else None,
            labels=labelled[: len(store.tokens)].labels if labelled and store.tokens is not None else None,
            progress=bar,
        )
    print(f"{features.d_sae:,} features in {options.out}")


def _add_rank(commands: Any) -> None:
    text = "Rank the latents of a feature store from monosemantic to polysemantic, each score beside its null."
    parser = _command(commands, "rank", _rank, "feature store → ranking", text)
    parser.add_argument("features", type=Path, help="a feature store, as scan writes it")
    parser.add_argument("--out", type=Path, required=True, help="a .parquet or .csv file")
    parser.add_argument("--nulls", type=int, default=2, help="shifted texts for the null distributions (default 2)")
    parser.add_argument("--seed", type=int, default=0)


def _rank(options: argparse.Namespace) -> None:
    from interp.features import FeatureStore
    from interp.ranking import rank_features

    if options.out.suffix not in (".parquet", ".csv"):
        raise ValueError(f"--out {options.out} must end in .parquet or .csv")
    features = FeatureStore.open(options.features)
    with Bar("rank") as bar:
        table = rank_features(features, nulls=options.nulls, seed=options.seed, progress=bar)
    temporary = options.out.with_name(options.out.name + ".tmp")
    temporary.parent.mkdir(parents=True, exist_ok=True)
    table.to_parquet(temporary, index=False) if options.out.suffix == ".parquet" else table.to_csv(
        temporary, index=False
    )
    os.replace(temporary, options.out)
    print(verdicts({str(name): int(n) for name, n in table.verdict.value_counts().items()}))


def _add_report(commands: Any) -> None:
    text = "Write a page that works offline from a run folder or a feature store."
    parser = _command(commands, "report", _report, "run folder or feature store → page", text)
    parser.add_argument("source", type=Path, help="a run folder, or a feature store")
    parser.add_argument("--out", type=Path, required=True, help="the page's folder")


def _report(options: argparse.Namespace) -> None:
    from interp.features import FeatureStore
    from interp.report import write_report

    is_run = (options.source / "run.toml").is_file()
    with Bar("report") as bar:
        page = write_report(options.source if is_run else FeatureStore.open(options.source), options.out, progress=bar)
    print(page)


def _add_export(commands: Any) -> None:
    text = "Write an SAE so that sae_lens.SAE.load_from_disk reads it."
    parser = _command(commands, "export", _export, "SAE → SAELens folder", text)
    parser.add_argument("sae", help="an SAE folder")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--format", default="saelens", choices=("saelens",))


def _export(options: argparse.Namespace) -> None:
    from interp.sae import load_sae

    load_sae(options.sae).save(options.out, format=options.format)
    print(options.out)


def _add_warm_up(commands: Any) -> None:
    text = "Compile the numerical kernels, which are kept, so that the first run does not wait (`make demo` does this)."
    _command(commands, "warm-up", _warm_up, "compile the numerical kernels once", text)


def _warm_up(options: argparse.Namespace) -> None:
    from interp.config import RunConfig
    from interp.run import run_stages

    with tempfile.TemporaryDirectory() as folder:
        run_stages(RunConfig.tiny(), Path(folder) / "run", progress=Bar)


def _only_hook(store: Any, hook: str | None) -> str:
    if hook is None and len(store.hook_names) > 1:
        raise ValueError(f"the store holds {', '.join(store.hook_names)}: say which with --hook")
    return hook or store.hook_names[0]


def _one_line(error: BaseException) -> str:
    if isinstance(error, OSError) and error.errno == errno.ENOSPC:
        place = f" ({error.filename})" if error.filename else ""
        return f"the disk is full{place}: free some space and run the same command again"
    return " ".join(str(error).split()) or type(error).__name__


def _quiet_libraries() -> None:
    """Libraries that warn about their own internals would bury our lines; --traceback brings nothing back of them."""
    import warnings

    warnings.filterwarnings("ignore")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "true")
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")


if __name__ == "__main__":
    sys.exit(main())
