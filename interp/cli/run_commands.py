"""From text to activations: `demo` and `run` for all stages, `train-model`, `harvest`; and `warm-up`."""

import argparse
import tempfile
import time
from pathlib import Path
from typing import Annotated, Any, Literal

from interp.cli.console import Bar, is_first
from interp.cli.paths import as_written
from interp.locks import check_free
from interp.pipeline.config import RunConfig
from interp.pipeline.execution import run_stages
from interp.pipeline.run_folder import Run
from interp.pipeline.stage import STAGES, Stage


def demo_command(
    *,
    quick: Annotated[bool, "a smaller model and dictionary, within a minute"] = False,
    out: Annotated[Path | None, "the run folder (default runs/demo, or runs/demo-quick)"] = None,
    redo: Annotated[bool, "run stages again whose configuration changed"] = False,
) -> None:
    """the main job, on the text that ships with the install

    Labelled text, a small transformer, activations, a sparse autoencoder, feature statistics, a ranking and a page.
    A run that was cut off goes on where it stood."""
    out = out or Path("runs/demo-quick" if quick else "runs/demo")
    check_free(out)
    _show_stages(RunConfig.quick() if quick else RunConfig(), out, None, redo)


def run_command(
    config: Annotated[Path, "a .toml file"],
    *,
    out: Annotated[Path | None, "the run folder (default runs/NAME for NAME.toml)"] = None,
    until: Annotated[str | None, "stop after this stage"] = None,
    redo: Annotated[bool, "run stages again whose configuration changed"] = False,
) -> None:
    """the same stages from a configuration file

    The stages of `interp demo`, as a configuration file has them. What is done is skipped, what was cut off goes on.
    A configuration names only what differs from the demo:

        [corpus]
        source = "files"            # or mixture, shakespeare, python, jsonl, huggingface, …
        paths = ["texts/*.txt"]
        [model]
        preset = "small"            # or essay, one-layer
        [harvest]
        hook_name = "blocks.1.hook_resid_post"
        [sae]
        architecture = "batchtopk"  # `interp train-sae --help` names all
        d_sae = 8192
        k = 32
        [wider]
        factor = 2                  # a second dictionary, to see which features split (default: none)"""
    if until is not None and until not in STAGES:
        raise ValueError(f"--until {until} is not a stage; the stages are {', '.join(STAGES)}")
    out = out or Path("runs") / config.stem
    check_free(out)
    _show_stages(RunConfig.from_toml(config), out, until, redo)


def add_stages(parser: argparse.ArgumentParser) -> None:
    """To the help of `interp run`."""
    lines = "\n".join(f"  {stage.name:12s} {stage.help}" for stage in STAGES.values())
    parser.epilog = f"stages:\n{lines}"


def train_model_command(
    config: Annotated[Path, "a .toml file, as of `interp run`"],
    *,
    out: Annotated[Path, "the run folder"],
    redo: Annotated[bool, "train again if the configuration changed"] = False,
) -> None:
    """text → tokenizer, labelled tokens and a trained model

    The first two stages of a run: labelled tokens and a trained transformer.
    OUT then holds corpus/tokenizer, corpus/train, corpus/val and model/, which other commands take."""
    _show_stages(RunConfig.from_toml(config), out, "model", redo)


def harvest_command(
    model: Annotated[Path, "a model folder, as train-model writes it"],
    tokens: Annotated[Path, "a folder of labelled tokens, as train-model writes it"],
    *,
    hook: Annotated[list[str], "may be given several times"],
    out: Annotated[Path, "the folder of the store"],
    max_tokens: Annotated[int | None, "harvest only so many tokens, from the start"] = None,
    dtype: Literal["bfloat16", "float16", "float32"] = "bfloat16",
    batch_size: Annotated[int, "sequences a forward"] = 64,
    exclude: Annotated[tuple[int, ...], "token ids to leave out (default 0, <|bos|>)"] = (0,),
    max_norm: Annotated[float | None, "leave out rows above this multiple of the median norm"] = None,
    seed: int = 0,
) -> None:
    """model + tokens → activation store

    Run tokens through a model and keep the activations at one or more hooks, rows shuffled, in one forward pass."""
    from interp.harvest import harvest
    from models.corpus import LabelledTokens
    from models.transformer import Transformer

    ids = LabelledTokens.load(as_written(tokens)).tokens
    if max_tokens is not None:
        if max_tokens < 1:
            raise ValueError(f"--max-tokens {max_tokens} must be at least 1; leave it out to harvest all")
        ids = ids[: max(1, max_tokens // ids.shape[1])]
    options: Any = {"dtype": dtype, "batch_size": batch_size, "max_norm": max_norm, "seed": seed}
    with Bar("harvest") as bar:
        store = harvest(
            Transformer.load(as_written(model)), ids, hook, out, exclude=tuple(exclude), progress=bar, **options
        )
    if is_first():
        print(f"{len(store):,} rows of {', '.join(f'{h} ({store.d(h)})' for h in store.hook_names)} in {out}")


def warm_up_command() -> None:
    """compile the numerical kernels once

    They are kept, so that the first run does not wait (`make demo` does this)."""
    with tempfile.TemporaryDirectory() as folder:
        run_stages(RunConfig.tiny(), Path(folder) / "run", progress=Bar)


def _show_stages(config: RunConfig, out: Path, until: str | None, redo: bool) -> None:
    begin = time.monotonic()
    bar = Bar("")

    def progress(stage: str) -> Bar:
        bar.name = stage
        return bar

    def finished(stage: Stage, manifest: dict[str, Any], ran: bool) -> None:
        bar.close()
        print(stage.line(manifest) + ("" if ran else "  (done before)"), flush=True)

    run = run_stages(config, out, until=until, redo=redo, progress=progress, finished=finished)
    print(f"{'total':12s} {time.monotonic() - begin:7.1f} s")
    if until in (None, "report"):
        print(f"\nfive features to begin with\n{_showcase(run)}")
        print(f"\nOpen {(run.path / run.results('report')['page']).resolve()}")


def _showcase(run: Run) -> str:
    """Monosemantic features of many tokens, no two with the same words, those first that the words predict best."""
    table = run.ranking.query("verdict == 'monosemantic' and token_share < 0.25")
    table = table.sort_values("explanation_f1", ascending=False, kind="stable").drop_duplicates("explanation")
    return "\n".join(
        f"  #{r.latent:<6d} {r.monosemanticity:.2f}  F1 {r.explanation_f1:.2f}  {r.explanation}"
        for r in table.head(5).itertuples()
    )
