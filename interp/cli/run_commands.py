"""Runs: `demo` and `run` for all stages, `warm-up`; of a finished one `explore`, its
page with its model behind it, and `publish`, the formats of other tools and the Hugging Face hub."""

import argparse
import tempfile
import time
from pathlib import Path
from typing import Annotated, Any, Literal

from interp.cli.console import Bar
from interp.pipeline.config import RunConfig
from interp.pipeline.execution import run_stages
from interp.pipeline.run_folder import Run
from interp.pipeline.stages import STAGES, Stage
from interp.storage.folders import check_free

UPLOAD = "hub: upload to this repository, NAME/REPOSITORY (default: write the folder only)"


def demo_command(
    *,
    quick: Annotated[bool, "a smaller model and dictionary, within a minute"] = False,
    model: Annotated[Literal["smollm2"] | None, "a real language model instead of the small one trained here"] = None,
    out: Annotated[Path | None, "the run folder (default runs/demo, runs/demo-quick or runs/smollm2)"] = None,
    redo: Annotated[bool, "run stages again whose configuration changed"] = False,
) -> None:
    """the main job, on the text that ships with the install

    Labelled text, a small transformer, activations, a sparse autoencoder, feature statistics, a ranking and a page.
    A run that was cut off goes on where it stood. `--model smollm2` (`make demo-smollm2` fetches it) runs the same on a
    language model of 135 million parameters, on plays, Python source and documentation: about 40 minutes."""
    if model and quick:
        raise ValueError(f"--quick is of the small model: leave it out with --model {model}")
    out = out or Path("runs") / (model or ("demo-quick" if quick else "demo"))
    check_free(out)
    config = RunConfig.smollm2() if model else RunConfig.quick() if quick else RunConfig()
    _show_stages(config, out, None, redo)


def run_command(
    config: Annotated[Path, "a .toml file"],
    *,
    out: Annotated[Path | None, "the run folder (default runs/NAME for NAME.toml)"] = None,
    until: Annotated[str | None, "stop after this stage"] = None,
    redo: Annotated[bool, "run stages again whose configuration changed"] = False,
) -> None:
    """the same stages from a configuration file

    The stages of `interp demo`, as a configuration file has them. What is done is skipped, what was cut off goes on.
    A configuration names only what differs from the demo; OUT/run.toml then has every section and field:

        [corpus]
        source = "files"            # the sources of text and of models are listed below
        paths = ["texts/*.txt"]
        [model]
        preset = "small"            # or essay, one-layer; a pretrained one instead:
        source = "huggingface"
        name = "openai-community/gpt2"       # or a folder, or a .gguf file
        [harvest]
        hook_name = "blocks.1.hook_resid_post"
        [sae]
        architecture = "batchtopk"  # `interp train-sae --help` names all
        d_sae = 8192
        k = 32                      # or load = "FOLDER or SAELens release", in place of these"""
    if until is not None and until not in STAGES:
        raise ValueError(f"--until {until} is not a stage; the stages are {', '.join(STAGES)}")
    out = out or Path("runs") / config.stem
    check_free(out)
    _show_stages(RunConfig.from_toml(config), out, until, redo)


def add_stages(parser: argparse.ArgumentParser) -> None:
    """Add the stages, and the sources of text and of models, to the help of `interp run`."""
    from models.corpus import TEXT_SOURCES
    from models.pretrained import MODEL_SOURCES
    from models.sources import source_help

    stages = "\n".join(f"  {stage.name:12s} {stage.help}" for stage in STAGES.values())
    parser.epilog = (
        f"stages:\n{stages}\n\n"
        f"[corpus] source, beside mixture:\n{source_help(TEXT_SOURCES)}\n\n"
        f"[model] source, beside train:\n{source_help(MODEL_SOURCES)}"
    )


def warm_up_command() -> None:
    """compile the numerical kernels once

    They are kept, so that the first run does not wait (`make demo` does this)."""
    with tempfile.TemporaryDirectory() as folder:
        run_stages(RunConfig.tiny(), Path(folder) / "run", progress=Bar)


def explore_command(
    run: Annotated[Path, "a finished run folder"],
    *,
    port: Annotated[int, "of this machine; 0: any that is free"] = 8000,
) -> None:
    """run → its page with the model behind it

    Type a text and see which features fire at each token and what each adds to the next one; hold features and compare
    what the model writes. Stars, labels and notes are kept in RUN/notes.json. Only this machine is served; from another
    one, `ssh -L 8000:127.0.0.1:8000 MACHINE` brings the page there."""
    if not 0 <= port < 1 << 16:
        raise ValueError(f"--port {port} must be in 0..{(1 << 16) - 1}")
    opened = Run(run)
    from interp.report.live import Explorer

    with Explorer(opened, port) as server:
        print(f"{server.address}  (Ctrl-C ends it)", flush=True)
        server.serve_forever()


def publish_command(
    run: Annotated[Path, "a finished run folder"],
    *,
    out: Annotated[Path, "the folder to write"],
    to: Literal["neuronpedia", "delphi", "hub"],
    model_id: Annotated[str | None, "neuronpedia: its name of the model; delphi: the tokenizer's"] = None,
    layer: Annotated[int, "neuronpedia: of the hook"] = 0,
    sae_set: Annotated[str | None, "neuronpedia: its name of the dictionaries"] = None,
    repo: Annotated[str | None, UPLOAD] = None,
) -> None:
    """run → files for Neuronpedia, Delphi or the hub

    neuronpedia: a feature's dashboard in JSON, as SAEDashboard writes it. delphi: all firings, as its latent cache.
    hub: the dictionary with a card of the run's numbers; it stays here unless --repo is given."""
    from interp import exchange

    opened = Run(run)
    if repo and to != "hub":
        raise ValueError(f"--repo {repo} is for --to hub, not for {to}")
    if to == "neuronpedia" and not (model_id and sae_set):
        raise ValueError("--to neuronpedia needs --model-id and --sae-set, the names of the source there")
    if to == "delphi" and not model_id:
        raise ValueError("--to delphi needs --model-id, by which transformers finds the tokenizer")
    written = out
    with Bar("publish") as bar:
        if to == "neuronpedia":
            named: Any = {"model_id": model_id, "layer": layer, "sae_set": sae_set}
            exchange.write_neuronpedia(opened.features, out, **named, progress=bar)
        elif to == "delphi":
            written = exchange.write_delphi(opened.features, out, model_name=str(model_id), progress=bar)
        else:
            written = exchange.write_hub_folder(opened, out)
    print(exchange.upload_to_hub(written, repo) if repo else written)


def _show_stages(config: RunConfig, out: Path, until: str | None, redo: bool) -> None:
    begin, bar = time.monotonic(), Bar("")

    def progress(stage: str) -> Bar:
        bar.name = stage
        return bar

    def finished(stage: Stage, manifest: dict[str, Any], ran: bool) -> None:
        bar.close()
        print(stage.line(manifest) + ("" if ran else "  (done before)"), flush=True)

    run = run_stages(config, out, until=until, redo=redo, progress=progress, finished=finished)
    print(f"{'total':12s} {time.monotonic() - begin:7.1f} s")
    if until in (None, "report"):
        print(f"\nfeatures to begin with\n{_showcase(run)}")
        print(f"\nOpen {(run.path / run.results('report')['page']).resolve()}")


def _showcase(run: Run) -> str:
    """The page's choice, a line a feature."""
    from interp.report import worth_showing

    ranking = run.ranking.sort_values("latent", ignore_index=True)
    return "\n".join(
        f"  #{r.latent:<6d} {r.monosemanticity:.2f}  F1 {r.explanation_f1:.2f}  {r.explanation}"
        for r in ranking.loc[worth_showing(run.features.table(), ranking)].itertuples()
    )
