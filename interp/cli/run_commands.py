"""The commands that make runs: `demo` and `run` do all stages, `plan` estimates what they need, `warm-up` compiles."""

import inspect
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from typer import Argument, Option

from interp.checks.errors import InterpError
from interp.cli.command_arguments import check_writable_folder
from interp.cli.graph_command import graph_command
from interp.runtime.progress_bar import Bar
from interp.storage.artifacts import check_exists

if TYPE_CHECKING:
    from interp.pipeline.config import RunConfig
    from interp.pipeline.run import Run
    from interp.pipeline.stages import Stage


def _stage_names(incomplete: str) -> list[tuple[str, str]]:
    """List stages with their help, for the shell's completion."""
    from interp.pipeline.stages import STAGES

    return [(stage.name, stage.help) for stage in STAGES.values() if stage.name.startswith(incomplete)]


CONFIG_REMEDY = "write one with what differs from the demo (`interp run --help` has an example)"
PROMPTS = {
    "bracket": "    def __init__(self, name",
    "play": "To be, or not to",
}
"""The prompts whose graphs `demo --circuits` draws, by the names of the pages."""
REDO = Option("--redo", help="run finished stages again if what they depend on changed")


def demo_command(
    *,
    quick: Annotated[bool, Option("--quick", help="a smaller model and dictionary, in about two minutes")] = False,
    model: Annotated[
        str | None,
        Option(metavar="smollm2", help="a real language model instead of the small one; `interp run` takes any other"),
    ] = None,
    circuits: Annotated[
        bool, Option("--circuits", help="a model of four layers, transcoders of its MLPs, and graphs of two prompts")
    ] = False,
    out: Annotated[Path | None, Option(help="the run folder (default runs/demo, runs/demo-quick, …)")] = None,
    redo: Annotated[bool, REDO] = False,
) -> None:
    """embedded text → model, SAE, ranked features, page

    Labelled text, a small transformer, activations, a sparse autoencoder, feature statistics, a ranking and a page. An
    interrupted run resumes. `--model smollm2` (`make demo-smollm2` fetches it) does the same for a language model of
    135 million parameters, on plays, Python source and documentation: about 40 minutes. `--circuits` adds pages that
    trace a deeper model's next token back to the prompt (`interp graph`)."""
    options = [f"--{name}" for name, given in {"quick": quick, "model": model, "circuits": circuits}.items() if given]
    if len(options) > 1:
        raise InterpError(f"{' and '.join(options)} make different demos: name one of them")
    if model not in (None, "smollm2"):
        raise InterpError(
            f"the demo has smollm2 alone, not {model}: `interp run --help` says how to take any other model"
        )
    out = out or Path("runs") / (model or ("circuits" if circuits else "demo-quick" if quick else "demo"))
    check_writable_folder("--out", out)
    from interp.pipeline.config import RunConfig

    if not circuits:
        config = RunConfig.smollm2() if model else RunConfig.quick() if quick else RunConfig()
        _show_stages(config, out, None, redo)
        return
    _show_stages(RunConfig.circuits(), out, None, redo)
    folder = out.resolve()  # the name of "." is empty
    for page, prompt in PROMPTS.items():
        print(f"\n{prompt}")
        graph_command(out, prompt, out=folder.with_name(f"{folder.name}-graphs") / f"{page}.html", overwrite=True)


def run_command(
    config: Annotated[Path, Argument(help="a .toml file")],
    *,
    out: Annotated[Path | None, Option(help="the run folder (default runs/NAME for NAME.toml)")] = None,
    until: Annotated[str | None, Option(help="stop after this stage", autocompletion=_stage_names)] = None,
    redo: Annotated[bool, REDO] = False,
) -> None:
    """the same stages from a configuration file

    The stages of `interp demo`, with the settings of a configuration file. Finished stages are skipped, and interrupted
    ones resume. Several hooks get a dictionary each, from one pass of the model: OUT is the run folder of the first
    hook, and OUT/hooks/HOOK the run folder of each other one, for any command that takes a run folder. A configuration
    names only what differs from the demo; OUT/run.toml then has every section and field:

    \b
        plugins = ["mine.py"]       # your own code, run first: architectures, sources, stages
        [corpus]
        source = "files"            # the sources of text and of models are listed below
        paths = ["texts/*.txt"]
        [model]
        preset = "small"            # or essay, one-layer; a pretrained one instead:
        source = "huggingface"
        name = "openai-community/gpt2"       # or a folder, or a .gguf file
        [harvest]
        hook_name = "blocks.1.hook_resid_post"      # or hook_names = ["…", "…"], or "all mlps" for transcoders
        [sae]
        architecture = "batchtopk"  # `interp train-sae --help` names all
        d_sae = 8192
        k = 32                      # or load = "FOLDER or SAELens release", instead of these"""
    check_exists(config, remedy=CONFIG_REMEDY)
    out = out or Path("runs") / config.stem
    check_writable_folder("--out", out)
    from interp.checks.config_fields import check_names
    from interp.pipeline.config import RunConfig
    from interp.pipeline.stages import STAGES

    run_config = RunConfig.from_toml(config, import_plugins=True)  # a plugin may add stages
    if until is not None:
        check_names([until], list(STAGES), "--until: stage")
    _show_stages(run_config, out, until, redo)


def plan_command(
    config: Annotated[Path, Argument(help="a .toml file, as `interp run` takes it")],
    *,
    out: Annotated[Path | None, Option(help="the run folder (default runs/NAME for NAME.toml)")] = None,
) -> None:
    """configuration → what `interp run` needs, before any work

    Bytes on disk and of memory, operations, and seconds on this machine if nothing else runs, from about a second of
    measurement. If something does not fit, it suggests numbers that would. A pretrained model is loaded for its sizes.
    """
    check_exists(config, remedy=CONFIG_REMEDY)
    from interp.pipeline.config import RunConfig
    from interp.pipeline.costs import Speed
    from interp.pipeline.plan import Plan
    from interp.pipeline.stages import STAGES, check_config

    run_config = RunConfig.from_toml(config, import_plugins=True)
    check_config(STAGES.values(), run_config)
    print(Plan.of(run_config, out or Path("runs") / config.stem).text(Speed.measure()))


def run_help() -> str:
    """Write the help of `run`, with lists of the stages and of the sources of text and of models."""
    from interp.pipeline.stages import STAGES
    from models.corpus import TEXT_SOURCES
    from models.pretrained import MODEL_SOURCES
    from models.sources import source_help

    lists = {
        "Stages": "\n".join(f"  {stage.name:12s} {stage.help}" for stage in STAGES.values()),
        "[corpus] source, other than mixture": source_help(TEXT_SOURCES),
        "[model] source, other than train": source_help(MODEL_SOURCES),
    }
    lines = "".join(f"\n\n\b\n{title}:\n{text}" for title, text in lists.items())
    return inspect.cleandoc(run_command.__doc__ or "") + lines


def warm_up_command() -> None:
    """compile the numerical kernels

    The compiled kernels are kept, so that the first run does not wait for them (`make demo` does this)."""
    from interp.pipeline.config import RunConfig
    from interp.pipeline.execution import run_stages

    with tempfile.TemporaryDirectory() as folder, Bar("warm-up") as bar:
        run_stages(RunConfig.tiny(), Path(folder) / "run", progress=lambda stage: bar)


def _show_stages(config: "RunConfig", out: Path, until: str | None, redo: bool) -> None:
    from interp.pipeline.execution import run_stages

    begin = time.monotonic()
    bar = Bar("run")
    hook_names = config.with_named_hooks().harvest.hook_names
    n_finished: Counter[str] = Counter()  # stage → hooks for which it is finished

    def progress(stage: str) -> Bar:
        bar.name = stage
        return bar

    def on_finish(stage: "Stage", manifest: dict[str, Any], ran: bool) -> None:
        bar.close()
        lists_hooks = stage.name == "activations"
        names_its_hook = len(hook_names) > 1 and stage.made_for == "all hooks" and not lists_hooks
        hook_name = hook_names[n_finished[stage.name]] if names_its_hook else ""
        n_finished[stage.name] += 1
        print(stage.line(manifest, hook_name, is_new=ran), flush=True)

    def on_begin(run: "Run") -> None:
        bar.close()
        print(f"\n{run.hook_name}, in {run.path}", flush=True)

    with bar:
        whole = run_stages(
            config, out, until=until, redo=redo, progress=progress, on_finish=on_finish, on_begin=on_begin
        )
    print(f"{'total':12s} {time.monotonic() - begin:7.1f} s")
    if until in (None, "report"):
        for run in map(whole.at, whole.hooks):
            at_hook = f" at {run.hook_name}" if len(whole.hooks) > 1 else ""
            print(f"\nfeatures to begin with{at_hook}\n{_showcase(run)}")
            print(f"\nOpen {run.page.resolve()}")
            print(f"With the model: {_program()} explore {run.path}")


def _program() -> str:
    """Return how this program was called; it may be in an environment that is not active."""
    return sys.argv[0] if Path(sys.argv[0]).name == "interp" else "python -m interp"


def _showcase(run: "Run") -> str:
    """Return the page's choice of features, one line each."""
    from interp.display.byte_parts import name_byte_parts
    from interp.display.segments import to_text
    from interp.pipeline.stages import LINE_WIDTH
    from interp.text.short_rules import short_rule

    chosen = run.ranking.worth_a_look(6)
    if chosen.empty:
        return "  none: no latent surely has one meaning and a rule in words that holds"
    rules = (name_byte_parts(to_text(short_rule(row))) for row in chosen.to_dict("records"))
    lines = [
        f"  #{r.latent:<6d} {r.monosemanticity:.2f}  F1 {r.explanation_f1:.2f}  {rule}"
        for r, rule in zip(chosen.itertuples(), rules, strict=True)
    ]
    return "\n".join(line if len(line) <= LINE_WIDTH else f"{line[: LINE_WIDTH - 1]}…" for line in lines)
