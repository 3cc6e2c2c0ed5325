"""The stage `sae`: a dictionary for each hook, trained or loaded."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from interp.checks.errors import InterpError
from interp.pipeline import timings
from interp.pipeline.config import RunConfig
from interp.pipeline.costs import Cost, Sizes
from interp.pipeline.readers import lazy_call, read_curve, reader_of
from interp.pipeline.run import Run
from interp.pipeline.sections import LoadedSAESection
from interp.pipeline.stages import NEXT_LINE, stage
from interp.runtime.progress import Progress
from interp.storage.artifacts import folder_of
from interp.storage.files import digest_file, digest_json

MEASURED_ROWS = 1 << 16
"""Rows on which a loaded dictionary is measured."""
MANY_TIMES = 10
"""Passes over the rows above which a training says how many it made: FVU is then too good for other text."""


def _check_loaded(config: RunConfig) -> None:
    if isinstance(config.sae, LoadedSAESection) and len(config.harvest.hook_names) > 1:
        raise InterpError(
            f"[sae] load = {config.sae.load!r} is the dictionary of one hook, and [harvest] names "
            f"{', '.join(config.harvest.hook_names)}: name its own"
        )
    if isinstance(config.sae, LoadedSAESection) and config.harvest.output_hook:
        raise InterpError(
            f"[harvest] output_hook = {config.harvest.output_hook!r} is only for trained transcoders: leave it out"
        )


def training_cost(sizes: Sizes, tokens: float) -> Cost:
    """Estimate the cost of a training. A step encodes its rows; decodes, and takes the gradient of, what fires (six
    reads and writes of a decoder row per firing); and Adam reads and writes seven numbers per weight."""
    from interp.sae.training_run import training_bytes

    config = sizes.config.sae
    weights = (sizes.d_in + sizes.d_out) * sizes.d_sae
    if isinstance(config, LoadedSAESection):
        return Cost(disk=4 * weights, memory=4 * weights)
    steps = tokens / config.batch_size
    moved = 28 * weights * steps + 24 * tokens * sizes.l0 * sizes.d_out
    memory = training_bytes(config, sizes.d_in + sizes.d_out)
    training = Cost(
        disk=4 * weights, scratch=12 * weights, memory=memory, moved=moved, seconds=timings.TRAINING_STEP * steps
    )
    return training + sizes.encoding_cost(tokens)


def _sae_cost(sizes: Sizes) -> Cost:
    """Estimate the cost of all hooks' dictionaries: one after the other, or at once where no activations are kept. Then
    the model runs in each epoch, and a batch holds the rows of all hooks."""
    n_hooks, tokens = len(sizes.config.harvest.hook_names), getattr(sizes.config.sae, "tokens", 0)
    cost = training_cost(sizes, tokens).times(n_hooks)
    if (buffer_mb := sizes.config.harvest.buffer_mb) is None:
        return cost
    passes = sizes.forward_cost(tokens, before=1)
    batch = 4 * sizes.config.sae.batch_size * sum(sizes.widths.values())
    return cost + passes + Cost(memory=passes.memory + 1e6 * buffer_mb + batch + n_hooks * cost.memory)


def _stream_or_loaded(run: Run) -> dict[str, Any]:
    """Return the hooks of the one stream on which dictionaries are trained, or digests of the weights, settings and
    metadata of a dictionary that is loaded from a folder, of those that are read, so that changes are noticed. Where
    they are gone, the run has it."""
    config = run.config.sae
    if not isinstance(config, LoadedSAESection):
        return {} if run.config.harvest.buffer_mb is None else {"hooks": list(run.hooks)}
    if not Path(config.load).expanduser().is_dir():
        before = (run.manifest("sae") or {}).get("config", {})
        return {name: before[name] for name in ("loaded",) if name in before}
    from interp.codes.dictionary import Metadata
    from interp.sae.formats.dictionary_files import possible_files
    from interp.sae.formats.dictionary_format import CONFIG_FILE, read_config

    folder = folder_of(config.load, "sae")
    digests = {file.name: digest_file(file) for file in possible_files(folder) if file.is_file()}
    if CONFIG_FILE in digests:
        cfg = read_config(folder)
        metadata = cfg.get("metadata") or {}
        meant = {name: cfg[name] for name in cfg if name not in ("metadata", "device") and "version" not in name}
        read = {name: metadata[name] for name in (*Metadata.__annotations__, "interp") if name in metadata}
        digests[CONFIG_FILE] = digest_json([meant, read])
    return {"loaded": digests}


def _summary(results: dict[str, Any]) -> str:
    config = results.get("config", results)
    line = (
        f"{results['steps']:,} steps, FVU {results['fvu']:.3f}, L0 {results['l0']:.1f}, of {config['d_sae']:,} latents "
        f"{results['dead']:.1%} dead and {results['faint']:.1%} faint in training"
    )
    times = config.get("tokens", 0) / results.get("rows", math.inf)
    if times <= MANY_TIMES:
        return line
    return f"{line}{NEXT_LINE}each row was read {times:.0f} times: with more text fewer latents die"


@stage(
    version=8,
    made_for="all hooks",
    inputs=("activations",),
    outside_inputs=_stream_or_loaded,
    outside_words={"loaded": "files of the loaded dictionary", "hooks": "hooks of its stream"},
    cost=_sae_cost,
    reduced_by=("sae.d_sae", "sae.batch_size"),
    check=_check_loaded,
    config={"sae": lazy_call("interp.sae:TopKConfig", d_sae=4096, k=8, tokens=3_000_000)},
    other_sections=("harvest",),
    extended_by=("architecture", "encoder", "format of dictionaries"),
    opens={"sae": (".", reader_of("sae")), "sae_curve": ("metrics.jsonl", read_curve)},
    summary=_summary,
)
def sae(runs: Sequence[Run], folders: Sequence[Path], progress: Progress) -> list[dict[str, Any]]:
    """a sparse autoencoder or transcoder, trained on the activations, or an autoencoder that is loaded"""
    from interp.sae import train_sae, train_saes
    from interp.sae.training_run import read_results

    config, placed = runs[0].config.sae, list(zip(runs, folders, strict=True))
    if isinstance(config, LoadedSAESection):
        return [_load(run, config, folder) for run, folder in placed]
    if runs[0].config.harvest.buffer_mb is None:
        for run, folder in placed:
            train_sae(run.store, run.hook_name, config, output_hook=run.output_hook, out=folder, progress=progress)
    else:
        hooks: dict[str | Path, list[str]] = {folder: list(run.results("activations")["d"]) for run, folder in placed}
        train_saes(runs[0].stream(), hooks, config, progress=progress)
    rows = runs[0].results("activations")["rows"]
    return [{**read_results(folder), "rows": rows} for folder in folders]


def _load(run: Run, config: LoadedSAESection, folder: Path) -> dict[str, Any]:
    from interp.activations.hooks import check_trained_hook, hooks_of
    from interp.activations.sources import first_rows
    from interp.codes.dictionary import check_one_hook
    from interp.codes.training_exclusions import norm_limit_on
    from interp.evaluation.quality import evaluate_reconstruction
    from interp.sae import load_sae

    loaded = load_sae(config.load, config.sae_id)
    hook_name = run.hook_name
    check_one_hook(loaded)
    if loaded.kind == "transcoder":
        raise InterpError(f"{config.load} is a transcoder: [sae] load takes an autoencoder, which writes what it reads")
    check_trained_hook(loaded, hook_name, hooks_of(run.model), "the model")
    if loaded.d_in != run.store.d(hook_name):
        raise InterpError(
            f"{config.load} has inputs of width {loaded.d_in}, {hook_name} of {run.store.d(hook_name)}: "
            "name its own hook in [harvest]"
        )
    loaded.save(folder)
    limit = norm_limit_on(loaded, run.store, hook_name)
    shard = first_rows(run.store, hook_name).within(limit)
    if not len(shard.acts):
        raise InterpError(
            f"none of the first rows of {hook_name} has a norm within {limit}, the limit of {config.load}: check that "
            "it was trained on this model and hook"
        )
    measured = evaluate_reconstruction(loaded, shard.acts[:MEASURED_ROWS].float())
    return {
        "steps": 0,
        "d_sae": loaded.d_sae,
        "fvu": measured.fvu,
        "l0": measured.l0,
        "dead": measured.dead_share,
        "faint": measured.faint_share,
    }
