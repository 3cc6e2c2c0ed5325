"""From text to activations: `demo` and `run` for all stages, `train-model`, `harvest`; and `warm-up`."""

import argparse
import tempfile
from pathlib import Path
from typing import Any

from interp.cli.console import Bar, say, show_stages
from interp.cli.parsing import command

STAGE_HELP = "corpus, model, activations, sae, features, neurons, quality, concepts, ranking, nulls, wider, report"


def add_demo(commands: Any) -> None:
    text = """\
The main job on the text that ships with the install: labelled text, a small transformer, activations, a sparse
autoencoder, feature statistics, a ranking and a page. A run that was cut off goes on where it stood."""
    parser = command(commands, "demo", _demo, "the main job, on the text that ships with the install", text)
    parser.add_argument("--quick", action="store_true", help="a smaller model and dictionary, within a minute")
    parser.add_argument("--out", type=Path, help="the run folder (default runs/demo, or runs/demo-quick)")
    parser.add_argument("--redo", action="store_true", help="run stages again whose configuration changed")


def _demo(options: argparse.Namespace) -> None:
    from interp.pipeline.config import RunConfig

    out = options.out or Path("runs/demo-quick" if options.quick else "runs/demo")
    config = RunConfig.quick() if options.quick else RunConfig()
    show_stages(config, out, "report", options.redo)


def add_run(commands: Any) -> None:
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
    architecture = "batchtopk"  # or topk, matryoshka, jumprelu, relu, gated, matching_pursuit
    d_sae = 8192
    k = 32
    [wider]
    factor = 2                  # a second dictionary, to see which features split (default: none)"""
    parser = command(commands, "run", _run, "the same stages from a configuration file", text)
    parser.add_argument("config", type=Path, metavar="CONFIG.toml")
    parser.add_argument("--out", type=Path, help="the run folder (default runs/NAME for NAME.toml)")
    parser.add_argument("--until", default="report", metavar="STAGE", help="stop after this stage (default report)")
    parser.add_argument("--redo", action="store_true", help="run stages again whose configuration changed")


def _run(options: argparse.Namespace) -> None:
    from interp.pipeline.config import RunConfig
    from interp.pipeline.stages import STAGES

    names = [stage.name for stage in STAGES]
    if options.until not in names:
        raise ValueError(f"--until {options.until} is not a stage; the stages are {', '.join(names)}")
    out = options.out or Path("runs") / options.config.stem
    show_stages(RunConfig.from_toml(options.config), out, options.until, options.redo)


def add_train_model(commands: Any) -> None:
    text = """\
The first two stages of a run: labelled tokens and a trained transformer.
OUT then holds corpus/tokenizer, corpus/train, corpus/val and model/, which the commands below take."""
    parser = command(
        commands, "train-model", _train_model, "text → tokenizer, labelled tokens and a trained model", text
    )
    parser.add_argument("config", type=Path, metavar="CONFIG.toml")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--redo", action="store_true", help="train again if the configuration changed")


def _train_model(options: argparse.Namespace) -> None:
    from interp.pipeline.config import RunConfig

    show_stages(RunConfig.from_toml(options.config), options.out, "model", options.redo)


def add_harvest(commands: Any) -> None:
    text = (
        "Run tokens through a model and keep the activations at one or more hooks, rows shuffled, in one forward pass."
    )
    parser = command(commands, "harvest", _harvest, "model + tokens → activation store", text)
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
    say(f"{len(store):,} rows of {', '.join(f'{h} ({store.d(h)})' for h in store.hook_names)} in {options.out}")


def add_warm_up(commands: Any) -> None:
    text = "Compile the numerical kernels, which are kept, so that the first run does not wait (`make demo` does this)."
    command(commands, "warm-up", _warm_up, "compile the numerical kernels once", text)


def _warm_up(options: argparse.Namespace) -> None:
    from interp.pipeline.config import RunConfig
    from interp.pipeline.run import run_stages

    with tempfile.TemporaryDirectory() as folder:
        run_stages(RunConfig.tiny(), Path(folder) / "run", progress=Bar)
