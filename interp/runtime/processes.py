"""Divide work among the processes of a run under `torchrun`, one per device.

    torchrun --nproc-per-node 2 script.py                                         # one machine
    torchrun --nnodes 2 --nproc-per-node 8 --rdzv-endpoint HOST:29500 script.py   # on each of two machines

Without `torchrun` there is one process, whose sums and rows are its own. All processes must call the same methods in
the same order. If one is gone or stuck, the others get a RuntimeError. `ProcessGrid` arranges the processes in a grid,
for a dictionary that is divided among the processes of a grid row.
"""

import atexit
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import timedelta
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import torch
import torch.distributed as dist
from jaxtyping import Shaped
from torch import Tensor

from interp.checks.errors import DamagedError, InterpError, InUseError, OverwriteError, TooLargeError
from interp.runtime.torchrun import rank_and_count
from interp.storage.files import digest_json
from interp.storage.folders import atomic_folder, is_finished, recover_finished, unfinished_folder
from interp.storage.job_parts import check_part

Result = TypeVar("Result")
_TIMEOUT = timedelta(minutes=30)
_REFUSALS = (DamagedError, InUseError, OverwriteError, TooLargeError, InterpError, ValueError, OSError, MemoryError)
"""Errors about the input, the disk or the memory, which are the same in all processes; each before its base."""
_REPORTED = "_reported_to_all_processes"
"""The attribute of an error that all processes raise already, so that an outer `all_do` must not report it again."""


@dataclass(frozen=True)
class Processes:
    """This process, number `rank` of `count`. Raises RuntimeError if others are gone, or silent for half an hour."""

    rank: int = 0
    count: int = 1
    group: Any = None
    """torch's group of these processes, or None for all processes of the run."""

    @property
    def is_first(self) -> bool:
        return self.rank == 0

    def sum_(self, tensor: Shaped[Tensor, "..."]) -> Shaped[Tensor, "..."]:
        """Sum over all processes, in place: bitwise the same in every process, and in every run with the same number of
        processes."""
        if self.count > 1:
            whole = tensor.contiguous()
            with self._naming_lost_processes():
                dist.all_reduce(whole, group=self.group)
            if whole is not tensor:
                tensor.copy_(whole)
        return tensor

    def all_gather(
        self, tensor: Shaped[Tensor, "row ..."], *, same_length: bool = False
    ) -> Shaped[Tensor, "all_rows ..."]:
        """Return the rows of all processes, in the order of the ranks. The number of rows may differ between processes
        and may be 0; `same_length` promises that it does not differ, which saves exchanging it."""
        if self.count == 1:
            return tensor
        lengths = [len(tensor)] * self.count
        if not same_length:
            sizes = [tensor.new_zeros(1, dtype=torch.int64) for _ in range(self.count)]
            with self._naming_lost_processes():
                dist.all_gather(sizes, torch.full_like(sizes[0], len(tensor)), group=self.group)
                lengths = torch.cat(sizes).tolist()
        padded = tensor.new_zeros(max(lengths), *tensor.shape[1:])
        padded[: len(tensor)] = tensor
        parts = [torch.empty_like(padded) for _ in range(self.count)]
        if padded.numel():
            with self._naming_lost_processes():
                dist.all_gather([_bytes(part) for part in parts], _bytes(padded), group=self.group)
        return torch.cat([part[:length] for part, length in zip(parts, lengths, strict=True)])

    def broadcast(self, tensor: Shaped[Tensor, "..."], rank: int) -> Shaped[Tensor, "..."]:
        """Return the tensor of the process of that rank. All processes call this; the others pass a tensor of
        the same shape and dtype, which is filled."""
        if self.count > 1:
            with self._naming_lost_processes():
                dist.broadcast(tensor, group=self.group, group_src=rank)
        return tensor

    def all_gather_values(self, value: Result) -> list[Result]:
        """Return the values of all processes, in the order of the ranks. A value can be anything that pickles, such as
        a table."""
        if self.count == 1:
            return [value]
        values: list[Any] = [None] * self.count
        with self._naming_lost_processes():
            dist.all_gather_object(values, value, group=self.group)
        return values

    def check_alike(self, arguments: Any, does: str) -> None:
        """Check that all processes were called with the same arguments, a JSON value. Raises ValueError in all of them
        if not; `does` is the verb of the error."""
        digests = self.all_gather_values(digest_json(arguments))
        unlike = [rank for rank, value in enumerate(digests) if value != digests[0]]
        if unlike:
            raise InterpError(
                f"process {unlike[0]} {does} something other than process 0: give all processes the same inputs and "
                "options"
            )

    def all_do(self, task: Callable[[], Result]) -> Result:
        """Do a task and return its result. If it fails in one process it fails in all. An error of _REFUSALS, or of a
        class derived from one, has that class in the others, and any other error is a RuntimeError there.

        The task may call `all_do` and what is made of it (`gather_results`, `divide`), if it does so in all processes.
        It may exchange tensors only right after such a call: a process whose task failed is in `all_do`.
        """
        if self.count == 1:
            return task()
        failure: Exception | None = None
        try:
            result = task()
        except Exception as error:  # any error must reach the other processes, or they wait forever
            if getattr(error, _REPORTED, False):
                raise
            failure = error
        number = next((n for n, refusal in enumerate(_REFUSALS) if isinstance(failure, refusal)), len(_REFUSALS))
        report = "" if failure is None else f"{self.rank} {number} {type(failure).__name__} {failure}\0"
        encoded = list(report.encode("utf-8", "surrogatepass"))  # a path that is not UTF-8 has lone surrogates
        reports = bytes(self.all_gather(torch.tensor(encoded, dtype=torch.uint8)).tolist()).decode(
            "utf-8", "surrogatepass"
        )
        if failure is None and reports:
            rank, kind, name, text = reports.split("\0")[0].split(" ", 3)
            if int(kind) < len(_REFUSALS):
                failure = _REFUSALS[int(kind)](text)
            else:
                failure = RuntimeError(f"process {rank} of {self.count}: {name}: {text}")
        if failure is not None:
            setattr(failure, _REPORTED, True)
            raise failure
        return result

    def gather_results(self, task: Callable[[], Result]) -> list[Result]:
        """Do a task, and return the results of all processes, in the order of the ranks. They can be anything that
        pickles. If it fails in one process it fails in all."""
        return self.all_gather_values(self.all_do(task))

    def divide(self, tasks: Sequence[Callable[[], Result]]) -> list[Result]:
        """Do every count-th of the tasks, which are the same in all processes. Returns the results of all tasks, in
        their order."""
        results = self.gather_results(lambda: [task() for task in tasks[self.rank :: self.count]])
        return [results[number % self.count][number // self.count] for number in range(len(tasks))]

    def first_does(self, task: Callable[[], Any]) -> None:
        """Do a task in the first process while the others wait. If it fails, it fails in all."""
        self.all_do(lambda: task() if self.is_first else None)

    def recover_finished(self, out: str | Path, made_of: Mapping[str, Any]) -> bool:
        """Let the first process recover this work, and return whether `out` is its finished result."""
        self.first_does(lambda: recover_finished(out, made_of))
        return self.all_do(lambda: is_finished(out, made_of))

    @contextmanager
    def atomic_folder(self, out: str | Path, made_of: Mapping[str, Any], **options: Any) -> Iterator[Path]:
        """Yield a folder that the first process fills and all may read (`folders.atomic_folder`)."""
        with ExitStack() as stack:
            new = atomic_folder(out, made_of, **options)
            self.first_does(lambda: stack.enter_context(new))
            yield unfinished_folder(out) / "new"
            self.all_do(stack.close)

    @contextmanager
    def _naming_lost_processes(self) -> Iterator[None]:
        try:
            yield
        except torch.OutOfMemoryError:  # a RuntimeError of this process alone
            raise
        except RuntimeError as error:
            raise RuntimeError(
                f"process {self.rank} of {self.count} lost contact with the others: one has failed or hangs, or the "
                f"process group cannot send from this device ({error})"
            ) from error


SINGLE_PROCESS = Processes()
"""A single process, whatever started it."""


class ProcessGrid(NamedTuple):
    """The processes of a run in a grid. The processes of a grid row read the same rows of data, and each has a shard of
    the latents. The processes of a grid column have the same shard, and each reads a part of the data."""

    world: Processes = SINGLE_PROCESS
    """All processes of the run."""
    data: Processes = SINGLE_PROCESS
    """The grid column of this process."""
    shards: Processes = SINGLE_PROCESS
    """The grid row of this process."""

    @classmethod
    def of(cls, world: Processes, shards: int = 1) -> "ProcessGrid":
        """Arrange the processes in grid rows of that many shards. Raises ValueError if they do not fill a grid."""
        if shards < 1 or world.count % shards:
            raise InterpError(
                f"shards={shards} must divide the number of processes, {world.count}: start them with "
                f"torchrun --nproc-per-node {max(shards, 1)}"
            )
        row, column = divmod(world.rank, shards)
        if shards == 1:
            return cls(world, world, SINGLE_PROCESS)
        if shards == world.count:
            return cls(world, SINGLE_PROCESS, world)
        of_column, of_row = _groups(world.count, shards)
        return cls(world, Processes(row, world.count // shards, of_column), Processes(column, shards, of_row))


SINGLE_PROCESS_GRID = ProcessGrid()
"""A grid of a single process, with all rows and all latents."""


@lru_cache
def _groups(count: int, shards: int) -> tuple[Any, Any]:
    """Return torch's groups of this process: its grid column and its grid row."""
    grid = torch.arange(count).view(-1, shards)
    of_column, _ = dist.new_subgroups_by_enumeration(grid.T.tolist(), timeout=_TIMEOUT)
    of_row, _ = dist.new_subgroups_by_enumeration(grid.tolist(), timeout=_TIMEOUT)
    return of_column, of_row


def processes() -> Processes:
    """Return the processes of this run: torch's default group if there is one, else the group of `torchrun`, which is
    set up here, else a single process.

    The group speaks NCCL between GPUs, gloo between CPUs. Each process makes the GPU of its local rank the current one.
    """
    if not dist.is_available():
        return SINGLE_PROCESS
    if not dist.is_initialized():
        if rank_and_count() == (0, 1):
            return SINGLE_PROCESS
        gpus = torch.cuda.device_count() >= int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
        if gpus:
            torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", "0")))
        dist.init_process_group("cpu:gloo,cuda:nccl" if gpus else "gloo", timeout=_TIMEOUT)
        atexit.register(_leave_group)
    return Processes(dist.get_rank(), dist.get_world_size())


def slice_of_part(n: int, rank: int, count: int) -> slice:
    """Return a rank's slice of n rows: contiguous, in the order of the ranks, as even as possible. Raises ValueError as
    `check_part` does."""
    check_part((rank, count))
    return slice(n * rank // count, n * (rank + 1) // count)


def _leave_group() -> None:
    """Leave the group before the interpreter exits: its threads would sometimes abort the exit."""
    if dist.is_initialized():
        dist.destroy_process_group()


def _bytes(tensor: Tensor) -> Tensor:
    return tensor.view(-1).view(torch.uint8)
