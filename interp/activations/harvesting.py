"""Harvest: run a model over tokens and store the activations at its hooks.

In:  any hooked model, tokens [seq, pos] or floats [input, …], hook names.
Out: an ActivationStore: for each hook, the activation x [d] at each (seq, pos) whose token is not excluded, as a row
     with the id seq · n_ctx + pos. `harvest_stores` fills several stores in one pass, each with its own hooks; the
     bytes are the same as from separate harvests.

1. One forward pass per batch reads all hooks, in eval mode and without gradients, and ends when the last has fired.
2. Rows of excluded tokens and positions are dropped. `interp.activations.store_writer` writes the others, drops
   outliers and keeps statistics. Outliers are determined first, on sequences spread evenly over the text.

Afterwards the model is unchanged: no hook stays, and training mode and gradients are as before.

Under `torchrun` batches are assigned to the processes in turn, and the first process collects the rows of all, in
order, and writes them. The bytes of the store are the same as with one process (with the same number of threads per
process, on the same kind of device), and any number of processes can finish an interrupted one.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any, Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor

from interp.activations.harvest_options import Dtype, RowOptions
from interp.activations.hooks import (
    Model,
    canonical_names,
    evaluating,
    has_hook,
    hooked_rows,
    hooks_of,
    module_of,
    resolve_hooks,
)
from interp.activations.model_passes import (
    ModelPasses,
    TokenBatches,
    check_model_takes,
    concatenate_tokens,
    weights_digest,
)
from interp.activations.remote_store import remove_store_objects
from interp.activations.remote_writer import PartWriter
from interp.activations.shard_writer import ShardWriter, StoreConfig
from interp.activations.sources import StoredRows, first_rows
from interp.activations.store import ActivationStore
from interp.activations.store_writer import StoreWriter
from interp.checks.errors import InterpError
from interp.checks.limits import PositiveInt, Seed, check_value
from interp.runtime.processes import Processes, processes
from interp.runtime.progress import Progress, no_progress
from interp.runtime.progress_bar import shows_progress
from interp.storage.addresses import RemoteAddress, as_path
from interp.storage.folders import check_output

MAX_DIFFERENCE = 0.1
"""Largest relative difference ‖a − b‖ / ‖b‖ at which activations count as those of the same model: far above the
difference between float32 and bfloat16, and far below that from another model of the same shape."""


@shows_progress
def harvest(
    model: Model,
    tokens: TokenBatches,
    hook_names: Sequence[str],
    out: str | Path,
    *,
    dtype: Dtype = "bfloat16",
    batch_size: int = 64,
    exclude: Sequence[int] = (),
    exclude_positions: Sequence[int] = (),
    max_norm: float | Literal["auto"] | None = "auto",
    rows_per_shard: int | None = None,
    seed: int = 0,
    overwrite: bool = False,
    progress: Progress = no_progress,
) -> ActivationStore:
    """Store the activations of `hook_names` over `tokens` in the folder `out`.

    `tokens` are ids [seq, pos], or a finite generator of batches of them. For a model that reads floats (images, audio,
    rows) they are its inputs, and each counts as a sequence (`hooks.hooked_rows`). A hook with several names in the
    model (`model.layers.3`, `blocks.3.hook_resid_post`) is stored under the first of them, and can be accessed by all.

    A finished store of the same config is opened unchanged, and an interrupted one is finished, to the same bytes.

    `out` may be an address that fsspec writes to, such as s3://bucket/store (`activations.remote_store`): no disk is
    needed, and an interrupted harvest resumes on any machine.

    Under `torchrun` all processes call this with the same arguments, and `out` is a folder that all of them can access.
    Each gets the opened store, or the error of the process that failed; the first one reports progress.

    dtype: type of the stored numbers.
    batch_size: sequences in one forward pass.
    exclude: token ids whose rows are left out, and counted.
    exclude_positions: positions of a sequence that are left out, and counted.
    max_norm: rows whose norm at any hook is above this many times the median norm are left out, and counted. "auto":
        only where a few such rows hold most of the variance (`RowOptions`); None: all rows are kept.
    rows_per_shard: rows of a shard, about; None: 64 MiB.
    seed: of the order of the rows.
    overwrite: repeat a finished harvest, and replace any other store.
    progress: called with (tokens done, all tokens, note).

    Raises ValueError for an unknown hook, for tokens that the model does not accept, for activations that are not
    finite (with hook, sequence and position), and if `out` contains a store of another config (with the differences);
    OSError if the disk is full.

    Example:

        store = harvest(model, tokens, ["blocks.15.hook_resid_post"], "store", exclude=model.special_ids)
        for x in store.batches("blocks.15.hook_resid_post", batch_size=2048, seed=0):
            ...  # Float[Tensor, "batch d"]
    """
    rows = RowOptions(
        dtype=dtype, batch_size=batch_size, exclude=exclude, exclude_positions=exclude_positions, max_norm=max_norm
    )
    [store] = harvest_stores(
        model,
        tokens,
        {out: hook_names},
        rows,
        rows_per_shard=rows_per_shard,
        seed=seed,
        overwrite=overwrite,
        progress=progress,
    )
    return store


def harvest_stores(
    model: Model,
    tokens: TokenBatches,
    hooks_by_folder: Mapping[str | Path, Sequence[str]],
    rows: RowOptions,
    *,
    rows_per_shard: int | None = None,
    seed: int = 0,
    overwrite: bool = False,
    progress: Progress = no_progress,
) -> list[ActivationStore]:
    """Fill several stores in one pass of the model over `tokens`, and return them; `harvest` describes the rest.

    hooks_by_folder: the hooks of each store, by its folder. A row is left out of a store only for its norm at one of
    that store's own hooks.
    """
    check_value("rows_per_shard", rows_per_shard, PositiveInt | None)
    check_value("seed", seed, Seed)
    inputs = concatenate_tokens(tokens)
    stores = {as_path(out): canonical_names(model, names) for out, names in hooks_by_folder.items()}
    every_hook = list(chain(*stores.values()))
    passes = ModelPasses.of(model, inputs, every_hook, rows)
    layout = {"rows_per_shard": rows_per_shard, "seed": seed}
    made_of = {"kind": "activations", "source": "harvest", **passes.made_of(), **layout}
    made_of_each = {out: made_of | {"hook_names": names} for out, names in stores.items()}
    world = processes()
    world.check_alike([made_of, *made_of_each.values()], "harvests")
    if not overwrite:
        made_of_each = {
            out: made_of for out, made_of in made_of_each.items() if not world.recover_finished(out, made_of)
        }
    if made_of_each:
        with ExitStack() as folders, evaluating(passes.module):
            new = {
                folders.enter_context(_open_output(world, out, made_of, overwrite)): made_of
                for out, made_of in made_of_each.items()
            }
            _Harvest(passes, world, progress).fill(new)
    return [ActivationStore.open(out) for out in stores]


@contextmanager
def _open_output(
    world: Processes, out: Path | RemoteAddress, made_of: Mapping[str, Any], overwrite: bool
) -> Iterator[Any]:
    """Yield the place to write a store: a folder that becomes `out`, or the address itself, where the manifest
    completes the store."""
    if isinstance(out, RemoteAddress):
        world.first_does(partial(remove_store_objects, out) if overwrite else partial(check_output, out, made_of))
        yield out
    else:
        with world.atomic_folder(out, made_of, resumes=True, overwrite=overwrite) as new:
            yield new


@dataclass(frozen=True)
class _Harvest:
    """The forward passes of a harvest, which the processes of the run divide."""

    passes: ModelPasses
    world: Processes
    progress: Progress

    def fill(self, made_of_each: Mapping[Path | RemoteAddress, Mapping[str, Any]]) -> None:
        """Run the model over the sequences that the stores lack; in each round, each process runs a batch. The first
        process writes."""
        world = self.world
        widths = world.all_do(self.passes.widths)
        n_seq = len(self.passes.tokens)
        with ExitStack() as opened:
            stores = made_of_each.items() if world.is_first else ()
            new = [partial(self._new_writer, out, made_of, widths, len(stores)) for out, made_of in stores]
            writers = world.all_do(lambda: [opened.enter_context(new_writer()) for new_writer in new])
            world.all_do(partial(self._find_limits, writers))
            position = torch.tensor([min((writer.position for writer in writers), default=0)])
            starts = range(int(world.all_gather(position)[0]), n_seq, self.passes.options.batch_size)
            for done in range(0, len(starts), world.count):
                together = starts[done : done + world.count]
                rows = world.all_do(partial(self._rows_of_round, together))
                acts = {name: world.all_gather(x) for name, x in rows.items()}
                world.all_do(partial(self._add, writers, together, acts))
            world.all_do(partial(self._finish, writers))

    def _new_writer(
        self, out: Path | RemoteAddress, made_of: Mapping[str, Any], widths: Mapping[str, int], n_stores: int
    ) -> StoreWriter:
        passes = self.passes
        config = StoreConfig(
            widths={name: widths[name] for name in made_of["hook_names"]},
            dtype=passes.options.dtype,
            rows_per_shard=made_of["rows_per_shard"],
            seed=made_of["seed"],
            n_ids=len(passes),
            n_ctx=passes.n_ctx,
            made_of=made_of,
        )
        shard_rows = config.shard_rows(passes.row_ids(), config.n_shards(passes.n_rows))
        files = (
            PartWriter(out, config, shard_rows)
            if isinstance(out, RemoteAddress)
            else ShardWriter(out, config, shard_rows, sharing=n_stores)
        )
        return StoreWriter(files, batch_rows=min(passes.options.batch_size, len(passes.tokens)) * passes.n_ctx)

    def _find_limits(self, writers: Sequence[StoreWriter]) -> None:
        """Set the norm limits of the writers that have none yet."""
        writers = [writer for writer in writers if writer.outliers is None and not writer.limits]
        if not writers:
            return
        if self.passes.options.max_norm is not None:
            self.progress(0, len(self.passes), "norms of a sample")
        limits, outliers = self.passes.norm_limits()
        for writer in writers:
            writer.limits, writer.outliers = _select_hooks(limits, writer), _select_hooks(outliers, writer)

    def _batch(self, start: int) -> Int[Tensor, " seq"]:
        return torch.arange(start, min(start + self.passes.options.batch_size, len(self.passes.tokens)))

    def _rows_of_round(self, starts: Sequence[int]) -> dict[str, Float[Tensor, "row d"]]:
        """Return the rows of this process's batch of a round; none if there are fewer batches than processes."""
        has_one = self.world.rank < len(starts)
        _, acts = self.passes.run(self._batch(starts[self.world.rank]) if has_one else torch.arange(1))
        return acts if has_one else {name: x[:0] for name, x in acts.items()}

    def _add(self, writers: Sequence[StoreWriter], starts: Sequence[int], acts: Mapping[str, Tensor]) -> None:
        """Write the rows of a round, batch by batch, to the writers that lack them."""
        if not writers:
            return
        first, n_ctx = 0, self.passes.n_ctx
        for start in starts:
            batch = self._batch(start)
            row_ids, stop = start * n_ctx + self.passes.kept_rows(batch), start + len(batch)
            rows_of_batch = slice(first, first + len(row_ids))
            for writer in writers:
                if writer.position <= start:
                    writer.add(row_ids, {name: acts[name][rows_of_batch] for name in writer.config.widths}, stop)
            first = rows_of_batch.stop
            self.progress(stop * n_ctx, len(self.passes), "tokens" if self.passes.is_text else "positions")

    def _finish(self, writers: Sequence[StoreWriter]) -> None:
        passes = self.passes
        for writer in writers:
            aliases = {name: others for name, others in passes.aliases.items() if name in writer.config.widths}
            writer.finish(passes.tokens if passes.is_text else None, passes.excluded, passes.name, aliases)


def _select_hooks(by_hook: Mapping[str, Any] | None, writer: StoreWriter) -> dict[str, Any] | None:
    return None if by_hook is None else {name: by_hook[name] for name in writer.config.widths if name in by_hook}


@torch.no_grad()
def check_harvested(store: StoredRows, model: Model, hook: str) -> None:
    """Check that the model reproduces the store's activations at a hook. Raises ValueError if it does not.

    A model with the same weights passes, whatever it calls its hooks. Any other is run on one sequence, and may differ
    by MAX_DIFFERENCE, to allow for half precision. Rows that were not harvested cannot be checked, and are accepted.
    """
    module = module_of(model)
    if store.weights is None or store.tokens is None or store.weights == weights_digest(module):  # last: it reads all
        return
    if not has_hook(model, hook):
        if any(name.endswith(f".{hook}") for name in hooks_of(model)):  # the model within another module
            return
        raise InterpError(
            f"the model has no hook {hook}, and its weights differ from {store.location}'s: give the model that "
            "was harvested"
        )
    shard = first_rows(store, hook)
    n_ctx = store.tokens.shape[1]
    seq = int(shard.row_ids[0]) // n_ctx
    tokens = store.tokens[seq : seq + 1]
    is_of_seq = shard.row_ids // n_ctx == seq
    check_model_takes(module, tokens)
    with evaluating(module):
        acts = hooked_rows(module, tokens, resolve_hooks(model, [hook]))[hook].float().cpu()
    stored = shard.acts[is_of_seq].float()
    if acts.shape[1] != stored.shape[1]:
        raise InterpError(
            f"{hook} has width {acts.shape[1]} in the model, {stored.shape[1]} in {store.location}: give the model "
            "that was harvested"
        )
    error = (acts[shard.row_ids[is_of_seq] - seq * n_ctx] - stored).norm()
    difference = float(error / stored.norm().clamp(min=1e-30))
    if difference > MAX_DIFFERENCE:
        raise InterpError(
            f"the model's {hook} differs by {difference:.0%} from the activations in {store.location}: give the model "
            "that was harvested"
        )
