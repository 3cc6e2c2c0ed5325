"""Harvest: run a model over tokens and store what its hooks see.

In:  any hooked model, tokens [seq, pos], hook names.
Out: an ActivationStore: for each hook, the activation x [d] at each (seq, pos) whose token is not excluded, as a row
     with the id seq · n_ctx + pos.

1. One forward pass a batch, in eval mode and without gradients. All hooks are read in it, and it ends when the last has
   fired: a hook raises an exception that `capture` expects, so any model can be stopped anywhere.
2. Rows of excluded tokens go; `interp.activations.scatter` takes the others, drops outliers, keeps statistics, writes.

The model is given back as it was: no hook stays, training mode and gradients are as before.

Under `torchrun` the processes share out the forward passes: each next batch goes to the next process, and the first
process takes the rows of all, in order, and writes. The store is the same to the byte as one process's (with as many
threads each, on the same kind of device), and one that was cut off can be finished by any number of processes.
"""

import difflib
import hashlib
import json
import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from interp.activations import ActivationStore
from interp.activations.scatter import ScatterConfig, ScatterWriter
from interp.activations.shards import DTYPES, MANIFEST, check_dtype, check_same, count_shards, digest, shard_sizes
from interp.processes import Processes, processes

Model = nn.Module | tuple[nn.Module, Mapping[str, nn.Module]]
Progress = Callable[[int, int, str], None]

_log = logging.getLogger(__name__)


def harvest(
    model: Model,
    tokens: Int[Tensor, "seq pos"],
    hook_names: Sequence[str],
    out: str | Path,
    *,
    dtype: str = "bfloat16",
    batch_size: int = 64,
    exclude: Sequence[int] = (),
    max_norm: float | None = None,
    rows_per_shard: int | None = None,
    seed: int = 0,
    resume: bool = True,
    progress: Progress | None = None,
) -> ActivationStore:
    """Store the activations of `hook_names` over `tokens` in the folder `out`.

    `batch_size` counts sequences a forward pass. Rows of the token ids `exclude`, and rows whose norm is above
    `max_norm` × the median norm of the first batch at any hook, are left out and counted. A shard has about
    `rows_per_shard` rows (by default 64 MiB). With `resume`, a finished store of the same config is opened as it is,
    and one that was cut off is finished, to the same bytes. `progress` is told (tokens done, tokens in all, note).

    Under `torchrun` all processes call this with the same arguments, and `out` is a folder that all of them see. Each
    gets the opened store, or the error of the one that failed; the first one tells progress.

    Raises ValueError on an unknown hook, on tokens the model cannot take, on activations that are not finite (naming
    hook, sequence and position) and if `out` holds a store of another config (naming what differs); OSError if the
    disk is full.
    """
    names = (hook_names,) if isinstance(hook_names, str) else tuple(dict.fromkeys(hook_names))
    hooks = resolve_hooks(model, names)
    module = model[0] if isinstance(model, tuple) else model
    check_dtype(dtype)
    _check_tokens(module, tokens)
    if batch_size < 1:
        raise ValueError(f"batch_size={batch_size} must be at least 1")
    tokens = tokens.detach().cpu()
    keep = ~torch.isin(tokens, torch.tensor(list(exclude), dtype=tokens.dtype))
    if not keep.any():
        raise ValueError(
            f"no token is left to harvest: all {tokens.numel()} are among the excluded ids {list(exclude)}"
        )
    origin = {
        "source": "harvest",
        "hook_names": list(names),
        "shape": list(tokens.shape),
        "tokens": digest(tokens.int()),
        "weights": _fingerprint(module),
        "dtype": dtype,
        "batch_size": batch_size,
        "exclude": sorted({int(token) for token in exclude}),
        "max_norm": max_norm,
        "rows_per_shard": rows_per_shard,
        "seed": seed,
    }
    team = processes()
    _check_alike(team, origin)
    if team.all_do(lambda: resume and (Path(out) / MANIFEST).exists()):
        store = ActivationStore.open(out)
        check_same(store.manifest["config"], origin, Path(out))
        _log.info("%s is complete: %d rows", out, len(store))
        return store
    with _evaluating(module), torch.no_grad():
        passes = _Passes(module, hooks, tokens, keep, batch_size, team)
        widths = {name: x.shape[1] for name, x in passes.probe.items()}
        writer = _writer(passes, out, _scatter_config(widths, keep, origin), resume)
        with writer or nullcontext():
            _fill(writer, passes, progress)
            team.all_do(partial(_finish, writer, passes))
    return ActivationStore.open(out)


def resolve_hooks(model: Model, hook_names: Sequence[str]) -> dict[str, nn.Module]:
    """The submodule whose output each hook name stands for.

    A TransformerLens model (HookedRootModule, HookedTransformer, TransformerBridge) is asked for its hook points, a
    pair (module, {name: submodule}) for its map, any other torch module for its submodules' names.
    Raises ValueError that names the nearest names if there is no such hook.
    """
    known: Any
    if isinstance(model, tuple):
        known = model[1]
    elif hasattr(model, "hook_dict"):
        known = model.hook_dict
    else:
        known = {name: module for name, module in model.named_modules() if name}
    if not hook_names:
        raise ValueError("hook_names is empty: name at least one hook")
    for name in hook_names:
        if name not in known:
            near = difflib.get_close_matches(name, known, n=4, cutoff=0.4) or list(known)[:4]
            raise ValueError(f"the model has no hook {name!r}; the nearest are {', '.join(near)}")
    return {name: known[name] for name in hook_names}


def capture(module: nn.Module, tokens: Int[Tensor, "seq pos"], hooks: Mapping[str, nn.Module]) -> dict[str, Tensor]:
    """What the hooked submodules put out in one forward pass, which ends when the last of them has fired.

    A submodule that runs more than once counts with its first run; of a tuple the first entry counts.
    """
    found: dict[str, Tensor] = {}

    def hook_for(name: str) -> Callable[[nn.Module, Any, Any], None]:
        def record(_: nn.Module, __: Any, output: Any) -> None:
            if name in found:
                return
            acts = output[0] if isinstance(output, tuple) else output
            if len(found) + 1 < len(hooks):  # the model runs on, and may write into it
                acts = acts.clone()
            found[name] = acts
            if len(found) == len(hooks):
                raise _Captured

        return record

    handles = []
    try:
        handles += [submodule.register_forward_hook(hook_for(name)) for name, submodule in hooks.items()]
        module(tokens)
    except _Captured:
        return {name: found[name] for name in hooks}
    finally:
        for handle in handles:
            handle.remove()
    silent = ", ".join(repr(name) for name in hooks if name not in found)
    raise ValueError(f"the model's forward pass never reaches {silent}: choose a hook that fires")


class _Captured(Exception):
    """Ends a forward pass from within."""


@dataclass(frozen=True)
class _Passes:
    """The forward passes of a harvest, and the processes that share them out."""

    module: nn.Module
    hooks: Mapping[str, nn.Module]
    tokens: Int[Tensor, "seq pos"]
    keep: Bool[Tensor, "seq pos"]
    batch_size: int
    team: Processes

    @cached_property
    def probe(self) -> dict[str, Float[Tensor, "row d"]]:
        """Rows of the first sequence: what each hook's rows look like."""
        return self.team.all_do(lambda: _rows(self.module, self.tokens[:1], self.hooks))

    def kept(self, start: int) -> Int[Tensor, " row"]:
        """Which rows of the batch from sequence `start` on are no excluded tokens, counted from its first."""
        return self.keep[start : start + self.batch_size].flatten().nonzero().squeeze(1)

    def run(self, start: int) -> dict[str, Float[Tensor, "row d"]]:
        batch, kept = self.tokens[start : start + self.batch_size], self.kept(start)
        acts = _rows(self.module, batch, self.hooks)
        if len(kept) < batch.numel():
            acts = {name: x[kept.to(x.device)] for name, x in acts.items()}
        return acts

    def receive(self, start: int, rank: int) -> dict[str, Float[Tensor, "row d"]]:
        """What another process got from `run`."""
        n_rows = len(self.kept(start))
        return {name: self.team.receive_(x.new_empty(n_rows, x.shape[1]), rank) for name, x in self.probe.items()}


def _writer(passes: _Passes, out: str | Path, config: ScatterConfig, resume: bool) -> ScatterWriter | None:
    """The first process writes."""
    rows = passes.batch_size * passes.tokens.shape[1]
    return passes.team.all_do(
        lambda: ScatterWriter(out, config, batch_rows=rows, resume=resume) if passes.team.is_first else None
    )


def _fill(writer: ScatterWriter | None, passes: _Passes, progress: Progress | None) -> None:
    """Run the model over the sequences that the writer has not got yet: in each round, a batch in each process."""
    team = passes.team
    position = torch.tensor([0 if writer is None else writer.position])
    starts = range(int(team.gather(position)[0]), len(passes.tokens), passes.batch_size)
    for done in range(0, len(starts), team.count):
        together = starts[done : done + team.count]
        acts = team.all_do(partial(_run_own, passes, together))
        team.all_do(partial(_hand_over, writer, passes, together, acts, progress))


def _run_own(passes: _Passes, starts: Sequence[int]) -> dict[str, Float[Tensor, "row d"]]:
    """This process's batch of a round; none where a last round has fewer batches than there are processes."""
    return passes.run(starts[passes.team.rank]) if passes.team.rank < len(starts) else {}


def _hand_over(
    writer: ScatterWriter | None,
    passes: _Passes,
    starts: Sequence[int],
    acts: Mapping[str, Float[Tensor, "row d"]],
    progress: Progress | None,
) -> None:
    """Write the rows of a round, batch after batch: the first process takes them from the others."""
    if writer is None:
        for x in acts.values():
            passes.team.send(x, 0)
        return
    failure, (n_seq, n_ctx) = None, passes.tokens.shape
    for rank, start in enumerate(starts):
        acts = acts if rank == 0 else passes.receive(start, rank)
        stop = min(start + passes.batch_size, n_seq)
        try:
            if failure is None:
                writer.add(start * n_ctx + passes.kept(start), acts, stop)
        except Exception as error:  # told once the others, which wait to hand over theirs, have done so
            failure = error
        if failure is None and progress is not None:
            progress(stop * n_ctx, n_seq * n_ctx, "tokens")
    if failure is not None:
        raise failure


def _finish(writer: ScatterWriter | None, passes: _Passes) -> None:
    if writer is not None:
        writer.finish(passes.tokens, n_excluded_tokens=int((~passes.keep).sum()))


def _check_alike(team: Processes, origin: Mapping[str, Any]) -> None:
    """Raises ValueError in all processes if they were not called with the same."""
    own = hashlib.sha256(json.dumps(origin, sort_keys=True).encode()).digest()
    sums = team.gather(torch.tensor([list(own)], dtype=torch.uint8))
    unlike = (sums != sums[0]).any(1).nonzero().flatten().tolist()
    if unlike:
        raise ValueError(
            f"process {unlike[0]} harvests something else than process 0: give all the same model, tokens and options"
        )


def _rows(module: nn.Module, tokens: Int[Tensor, "seq pos"], hooks: Mapping[str, nn.Module]) -> dict[str, Tensor]:
    """Each hook's activations as rows [seq · pos, d], heads side by side."""
    parameter = next(module.parameters(), None)
    on_device = tokens.long() if parameter is None else tokens.long().to(parameter.device)
    rows = {}
    for name, acts in capture(module, on_device, hooks).items():
        if not isinstance(acts, Tensor) or acts.ndim not in (3, 4) or acts.shape[:2] != tokens.shape:
            shape = tuple(acts.shape) if isinstance(acts, Tensor) else type(acts).__name__
            raise ValueError(
                f"hook {name!r} puts out {shape} for tokens {tuple(tokens.shape)}; "
                "[seq, pos, d] or [seq, pos, heads, d_head] is needed"
            )
        rows[name] = acts.detach().reshape(tokens.numel(), -1)
    return rows


def _scatter_config(widths: dict[str, int], keep: Bool[Tensor, "seq pos"], origin: Mapping[str, Any]) -> ScatterConfig:
    row_bytes = max(widths.values()) * DTYPES[origin["dtype"]].itemsize
    row_ids = keep.flatten().nonzero().squeeze(1).numpy()
    n_shards = count_shards(len(row_ids), row_bytes, origin["rows_per_shard"])
    return ScatterConfig(
        widths=widths,
        dtype=origin["dtype"],
        shard_rows=shard_sizes(row_ids, n_shards, origin["seed"]),
        n_ids=keep.numel(),
        n_ctx=keep.shape[1],
        seed=origin["seed"],
        max_norm=origin["max_norm"],
        origin=origin,
    )


def _check_tokens(module: nn.Module, tokens: Int[Tensor, "seq pos"]) -> None:
    if tokens.ndim != 2 or not tokens.numel() or tokens.is_floating_point():
        raise ValueError(f"tokens of shape {tuple(tokens.shape)} and {tokens.dtype} must be integers [seq, pos]")
    cfg = getattr(module, "cfg", None)
    n_ctx, d_vocab = getattr(cfg, "n_ctx", None), getattr(cfg, "d_vocab", None)
    if n_ctx is not None and tokens.shape[1] > n_ctx:
        raise ValueError(f"sequences of {tokens.shape[1]} tokens are longer than the model's context of {n_ctx}")
    low, high = int(tokens.min()), int(tokens.max())
    if low < 0 or (d_vocab is not None and high >= d_vocab):
        allowed = "at least 0" if d_vocab is None else f"in 0..{d_vocab - 1}"
        raise ValueError(f"token ids {low}..{high} must be {allowed}: were they made with the model's tokenizer?")


def _fingerprint(module: nn.Module) -> str:
    """SHA-256 of the model's weights: a store is not resumed with another model."""
    total = hashlib.sha256()
    for name, tensor in module.state_dict().items():
        if isinstance(tensor, Tensor):
            data = tensor.detach().cpu().contiguous().view(-1).view(torch.uint8)
            total.update(f"{name}{tuple(tensor.shape)}{tensor.dtype}".encode())
            total.update(np.ascontiguousarray(data.numpy()).data)
    return total.hexdigest()


@contextmanager
def _evaluating(module: nn.Module) -> Iterator[None]:
    """Eval mode, and every submodule's own mode again afterwards."""
    modes = [(submodule, submodule.training) for submodule in module.modules()]
    module.eval()
    try:
        yield
    finally:
        for submodule, training in modes:
            submodule.training = training
