"""The stage `activations`: what the model computes at the hooks of the run's dictionaries."""

from collections.abc import Mapping, Sequence
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

from interp.checks.errors import InterpError
from interp.pipeline import timings
from interp.pipeline.config import RunConfig
from interp.pipeline.costs import Cost, Sizes
from interp.pipeline.readers import reader_of
from interp.pipeline.run import Run
from interp.pipeline.sections import HarvestSection
from interp.pipeline.stages import stage
from interp.runtime.progress import Progress

if TYPE_CHECKING:
    from interp.activations import ActivationStore


def _check_hooks(config: RunConfig) -> None:
    """Check that the model has the hooks and leaves some positions, before it is trained, and that a pretrained one
    returns a vector for each token there."""
    import torch

    from interp.activations.hooks import canonical_names, evaluating, hooked_rows, resolve_hooks

    n_ctx, left_out = config.model.n_ctx, set(config.harvest.exclude_positions)
    if (last := max(left_out, default=0)) >= n_ctx or len(left_out) == n_ctx:
        wrong = f"holds {last}" if last >= n_ctx else "holds all"
        raise InterpError(f"[harvest] exclude_positions {wrong}: a sequence has the positions 0 to {n_ctx - 1}")
    model = config.model.hooked()
    main_name = {name: canonical_names(model, name)[0] for name in config.harvest.hook_names}
    for name, main in main_name.items():
        if same := [other for other in main_name if main_name[other] == main and other != name]:
            raise InterpError(f"[harvest] hook_names has {name} and {same[0]}, which are the same hook: name it once")
    pairs = [config.at(name).harvest.hooks_in(model) for name in main_name]
    if config.harvest.output_hook and (same := [pair[0] for pair in pairs if len(pair) < 2]):
        raise InterpError(f"[harvest] output_hook = {config.harvest.output_hook!r} is {same[0]} itself: leave it out")
    hooks = resolve_hooks(model, list(chain(*pairs)))
    if not config.model.is_trained:
        with evaluating(model):
            hooked_rows(model, torch.zeros(1, 2, dtype=torch.long), hooks)


def harvest_cost(sizes: Sizes, rows: float, widths: Mapping[str, int]) -> Cost:
    """Estimate the cost of one pass up to the hooks, and of a store of these widths, whose bytes are written and
    digested."""
    from interp.activations.shards import ShardLayout, columns_of

    disk = ShardLayout(round(rows), columns_of(round(rows), widths, sizes.config.harvest.dtype)).size
    shown = sizes.config.harvest.batch_size * sizes.n_ctx * sum(widths.values())
    passes = sizes.forward_cost(rows, before=1)
    return passes + Cost(disk=disk, memory=passes.memory + 4 * shown, seconds=timings.STORED_BYTE * disk)


def _activations_cost(sizes: Sizes) -> Cost:
    if sizes.config.harvest.buffer_mb is not None:
        return sizes.forward_cost(0)
    return harvest_cost(sizes, sizes.rows, sizes.widths)


def _open_store(folder: Path) -> "ActivationStore":
    if not folder.is_dir():
        raise InterpError(
            f"{folder.parent.parent} keeps no activations ([harvest] buffer_mb): `Run.stream` gives them from the model"
        )
    return reader_of("activations")(folder)


@stage(
    version=8,
    made_for="all hooks",
    cost=_activations_cost,
    reduced_by=("harvest.tokens",),
    inputs=("corpus", "model"),
    config={"harvest": HarvestSection},
    check=_check_hooks,
    opens={"store": ("store", _open_store)},
    summary=lambda r: (
        f"{r['rows']:,} rows, "
        + (f"{r['bytes_per_value']:.3f} bytes a value: " if "bytes_per_value" in r else "none kept: ")
        + ", ".join(f"{name} ({d})" for name, d in r["d"].items())
    ),
)
def activations(runs: Sequence[Run], folders: Sequence[Path], progress: Progress) -> list[dict[str, Any]]:
    """the activations of the training text at the dictionary's hook and the neurons' one, rows shuffled"""
    from interp.activations.harvesting import harvest_stores

    run = runs[0]
    hooks = dict[str | Path, list[str]]()
    if run.config.harvest.buffer_mb is not None:
        return [_stream_results(run) for run in runs]
    for run_of_hook, folder in zip(runs, folders, strict=True):
        hooks[folder / "store"] = run_of_hook.config.harvest.hooks_in(run.model)
    stores = harvest_stores(
        run.model,
        run.harvested.tokens,
        hooks,
        run.config.harvest.rows(exclude=run.tokenizer.special_ids),
        seed=run.config.harvest.seed,
        progress=progress,
    )
    return [_harvest_results(store) for store in stores]


def _stream_results(run: Run) -> dict[str, Any]:
    """Return what the activations at the hooks of a run will be, when the model runs."""
    from interp.activations.hooks import evaluating
    from interp.activations.model_passes import ModelPasses

    config = run.config.harvest
    options = config.rows(exclude=run.tokenizer.special_ids)
    passes = ModelPasses.of(run.model, run.harvested.tokens, config.hooks_in(run.model), options)
    with evaluating(passes.module):
        widths = passes.widths()
    return {"rows": passes.n_rows, "excluded": sum(passes.excluded.values()), "d": widths, "aliases": passes.aliases}


def _harvest_results(store: "ActivationStore") -> dict[str, Any]:
    size = sum(file.stat().st_size for file in Path(store.path).iterdir())
    widths = {name: store.d(name) for name in store.hook_names}
    per_value = size / len(store) / sum(widths.values())
    return {"rows": len(store), "excluded": sum(store.excluded.values()), "d": widths, "bytes_per_value": per_value}
