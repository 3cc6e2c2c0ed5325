"""Harvest: run a model over tokens and store what its hooks see.

In:  any hooked model, tokens [seq, pos], hook names.
Out: an ActivationStore: for each hook, the activation x [d] at each (seq, pos) whose token is not excluded, as a row
     with the id seq · n_ctx + pos.

1. One forward pass a batch, in eval mode and without gradients. All hooks are read in it, and it ends when the last has
   fired.
2. Rows of excluded tokens and positions go; `interp.activations.scatter` takes the others, drops outliers, keeps
   statistics, writes. What is an outlier is found before, on a sample of sequences spread evenly over the text.

The model is given back as it was: no hook stays, training mode and gradients are as before.

Under `torchrun` the processes share out the forward passes: each next batch goes to the next process, and the first
process takes the rows of all, in order, and writes. The store is the same to the byte as one process's (with as many
threads each, on the same kind of device), and one that was cut off can be finished by any number of processes.
"""

from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from interp.activations import ActivationStore
from interp.activations.kept_rows import KeptRows
from interp.activations.outliers import SAMPLE_ROWS, NormSample, check_max_norm, limits_of
from interp.activations.scatter import ScatterWriter
from interp.activations.shards import MANIFEST, ScatterConfig, check_dtype, check_same
from interp.files import Progress, digest, digest_json, no_progress
from interp.hooks import Hook, Model, evaluating, has_hook, hooked_rows, module_of, name_of, resolve_hooks, size_of
from interp.locks import locked
from interp.processes import Processes, processes

_SEQUENCES_AT_ONCE = 2048
MAX_UNLIKE = 0.1
"""Of activations of one model in two precisions, of their norm: 1 % in bfloat16, 77 % in another model of one layer."""
_OTHER = "give the model that was harvested"


def harvest(
    model: Model,
    tokens: Int[Tensor, "seq pos"],
    hook_names: Sequence[str],
    out: str | Path,
    *,
    dtype: str = "bfloat16",
    batch_size: int = 64,
    exclude: Sequence[int] = (),
    exclude_positions: Sequence[int] = (),
    max_norm: float | Literal["auto"] | None = "auto",
    rows_per_shard: int | None = None,
    seed: int = 0,
    resume: bool = True,
    progress: Progress | None = None,
) -> ActivationStore:
    """Store the activations of `hook_names` over `tokens` in the folder `out`.

    `batch_size` counts sequences a forward pass. A shard has about `rows_per_shard` rows (by default 64 MiB). With
    `resume`, a finished store of the same config is opened as it is, and one that was cut off is finished, to the same
    bytes. `progress` is told (tokens done, tokens in all, note).

    Left out and counted are rows of the token ids `exclude`, at the positions `exclude_positions` of a sequence, and
    with a norm above `max_norm` × the median norm of a sample (8,192 tokens) at any hook. "auto" sets that limit, 10 ×
    the median, at the hooks where a few rows above it hold most of the variance (`activations.outliers`), and warns;
    None keeps all. The limits are in the store (`norm_limits`), and what is made of the store obeys them.

    Under `torchrun` all processes call this with the same arguments, and `out` is a folder that all of them see. Each
    gets the opened store, or the error of the one that failed; the first one tells progress.

    Raises ValueError on an unknown hook, on tokens the model cannot take, on activations that are not finite (naming
    hook, sequence and position) and if `out` holds a store of another config (naming what differs); OSError if the
    disk is full.
    """
    names = (hook_names,) if isinstance(hook_names, str) else tuple(dict.fromkeys(hook_names))
    hooks, module = resolve_hooks(model, names), module_of(model)
    check_dtype(dtype)
    check_max_norm(max_norm)
    if batch_size < 1:
        raise ValueError(f"batch_size={batch_size} must be at least 1")
    _check_tokens(module, tokens)
    tokens = tokens.detach().cpu()
    kept = KeptRows(tokens, exclude, exclude_positions)
    positions = {"exclude_positions": sorted(set(exclude_positions))} if exclude_positions else {}
    origin = {
        "source": "harvest",
        "hook_names": list(names),
        "shape": list(tokens.shape),
        "tokens": digest(*(block.int() for block in tokens.split(_SEQUENCES_AT_ONCE))),
        "weights": _fingerprint(module),
        "dtype": dtype,
        "batch_size": batch_size,
        "exclude": sorted({int(token) for token in exclude}),
        **positions,
        "max_norm": max_norm,
        "rows_per_shard": rows_per_shard,
        "seed": seed,
    }
    team = processes()
    _check_alike(team, origin)
    with locked(out, team):
        if not team.all_do(lambda: resume and (Path(out) / MANIFEST).exists()):
            with evaluating(module):
                _write(_Passes(module, hooks, kept, batch_size, team), Path(out), origin, resume, progress)
    store = ActivationStore.open(out)
    check_same(store.manifest["config"], origin, Path(out))
    return store


@dataclass(frozen=True)
class _Passes:
    """The forward passes of a harvest, and the processes that share them out."""

    module: nn.Module
    hooks: Mapping[str, Hook]
    rows: KeptRows
    batch_size: int
    team: Processes

    @property
    def tokens(self) -> Int[Tensor, "seq pos"]:
        return self.rows.tokens

    def kept(self, start: int) -> Int[Tensor, " row"]:
        """Which rows of the batch from sequence `start` on are kept, counted from its first."""
        return self.rows.of(slice(start, start + self.batch_size))

    def own(self, starts: Sequence[int]) -> dict[str, Float[Tensor, "row d"]]:
        """The rows of this process's batch of a round; none where there are fewer batches than processes."""
        rank = self.team.rank
        start = starts[min(rank, len(starts) - 1)]
        batch = self.tokens[start : start + self.batch_size] if rank < len(starts) else self.tokens[:1]
        kept = self.kept(start) if rank < len(starts) else torch.empty(0, dtype=torch.int64)
        acts = hooked_rows(self.module, batch, self.hooks)
        return acts if len(kept) == batch.numel() else {name: x[kept.to(x.device)] for name, x in acts.items()}

    def find_limits(self, writer: ScatterWriter | None, max_norm: float | str | None, progress: Progress) -> None:
        """Tell the writer what is an outlier, unless an earlier one was told."""
        if writer is None or writer.outliers is not None or writer.limits:
            return
        if max_norm is None:
            writer.limits = None
            return
        n_seq, n_ctx = self.tokens.shape
        progress(0, n_seq * n_ctx, "norms of a sample")
        samples = {name: NormSample() for name in self.hooks}
        n_sampled = min(n_seq, -(-SAMPLE_ROWS // n_ctx))
        for sequences in (torch.arange(n_sampled) * n_seq // n_sampled).split(self.batch_size):
            kept = self.rows.of(sequences)
            row_ids = sequences[kept // n_ctx] * n_ctx + kept % n_ctx
            for name, x in hooked_rows(self.module, self.tokens[sequences], self.hooks).items():
                samples[name].add(row_ids, x[kept.to(x.device)])
        writer.limits, writer.outliers = limits_of(samples, max_norm, self.tokens)

    def add(
        self, writer: ScatterWriter | None, starts: Sequence[int], acts: Mapping[str, Tensor], progress: Progress
    ) -> None:
        """Write the rows of a round, batch after batch."""
        if writer is None:
            return
        first, (n_seq, n_ctx) = 0, self.tokens.shape
        for start in starts:
            kept, stop = self.kept(start), min(start + self.batch_size, n_seq)
            writer.add(start * n_ctx + kept, {name: x[first : first + len(kept)] for name, x in acts.items()}, stop)
            first += len(kept)
            progress(stop * n_ctx, n_seq * n_ctx, "tokens")


def _write(passes: _Passes, out: Path, origin: Mapping[str, Any], resume: bool, progress: Progress | None) -> None:
    """Run the model over the sequences that the store has not got yet: in each round, a batch in each process."""
    team, (n_seq, n_ctx) = passes.team, passes.tokens.shape
    probe = team.all_do(lambda: hooked_rows(passes.module, passes.tokens[:1], passes.hooks))
    config = ScatterConfig(
        widths={name: x.shape[1] for name, x in probe.items()},
        **{key: origin[key] for key in ("dtype", "rows_per_shard", "seed")},
        n_ids=n_seq * n_ctx,
        n_ctx=n_ctx,
        origin=origin,
    )
    batch_rows = min(passes.batch_size, n_seq) * n_ctx
    make = partial(ScatterWriter, out, config, passes.rows, batch_rows=batch_rows, resume=resume)
    writer = team.all_do(lambda: make() if team.is_first else None)
    with writer or nullcontext():
        told = progress or no_progress
        team.all_do(lambda: passes.find_limits(writer, origin["max_norm"], told))
        position = torch.tensor([0 if writer is None else writer.position])
        starts = range(int(team.gather(position)[0]), n_seq, passes.batch_size)
        for done in range(0, len(starts), team.count):
            together = starts[done : done + team.count]
            acts = {name: team.gather(x) for name, x in team.all_do(partial(passes.own, together)).items()}
            team.all_do(partial(passes.add, writer, together, acts, told))
        about = passes.rows.excluded, name_of(passes.module)
        team.all_do(lambda: None if writer is None else writer.finish(passes.tokens, *about))


def _check_alike(team: Processes, origin: Mapping[str, Any]) -> None:
    """Raises ValueError in all processes if they were not called with the same."""
    sums = team.gather(torch.tensor([list(bytes.fromhex(digest_json(origin)))], dtype=torch.uint8))
    unlike = (sums != sums[0]).any(1).nonzero().flatten().tolist()
    if unlike:
        what = f"process {unlike[0]} harvests something else than process 0"
        raise ValueError(f"{what}: give all the same model, tokens and options")


@torch.no_grad()
def check_harvested(store: ActivationStore, model: Model, hook: str) -> None:
    """Raises ValueError unless the model gives the activations that the store holds at a hook.

    The same weights do; others are asked for one sequence, and half precision gives nearly the same. Of rows that were
    not harvested, and of a hook that the model calls otherwise, nothing is known.
    """
    module = module_of(model)
    if store.weights in (None, _fingerprint(module)) or store.tokens is None or not has_hook(model, hook):
        return
    shard, n_ctx = store.shard(0, hook), store.tokens.shape[1]
    seq = int(shard.row_ids[0]) // n_ctx
    tokens, of_it = store.tokens[seq : seq + 1], shard.row_ids // n_ctx == seq
    _check_tokens(module, tokens)
    with evaluating(module):
        found = hooked_rows(module, tokens, resolve_hooks(model, [hook]))[hook].float().cpu()
    there = shard.acts[of_it].float()
    if found.shape[1] != there.shape[1]:
        raise ValueError(f"{hook} has width {found.shape[1]} in the model, {there.shape[1]} in {store.path}: {_OTHER}")
    unlike = float((found[shard.row_ids[of_it] - seq * n_ctx] - there).norm() / there.norm().clamp(min=1e-30))
    if unlike > MAX_UNLIKE:
        raise ValueError(f"the model's {hook} is {unlike:.0%} off the activations in {store.path}: {_OTHER}")


def _check_tokens(module: nn.Module, tokens: Int[Tensor, "seq pos"]) -> None:
    if tokens.ndim != 2 or not tokens.numel() or tokens.is_floating_point():
        raise ValueError(f"tokens of shape {tuple(tokens.shape)} and {tokens.dtype} must be integers [seq, pos]")
    n_ctx, d_vocab = size_of(module, "n_ctx"), size_of(module, "d_vocab")
    if n_ctx is not None and tokens.shape[1] > n_ctx:
        raise ValueError(f"sequences of {tokens.shape[1]} tokens are longer than the model's context of {n_ctx}")
    low, high = int(tokens.min()), int(tokens.max())
    if low < 0 or (d_vocab is not None and high >= d_vocab):
        allowed = "at least 0" if d_vocab is None else f"in 0..{d_vocab - 1}"
        raise ValueError(f"token ids {low}..{high} must be {allowed}: were they made with the model's tokenizer?")


def _fingerprint(module: nn.Module) -> str:
    """SHA-256 of the model's weights: a store is not resumed with another model."""
    state = {name: tensor for name, tensor in module.state_dict().items() if isinstance(tensor, Tensor)}
    return digest(*(part for name, x in state.items() for part in (f"{name}{tuple(x.shape)}{x.dtype}", x)))
