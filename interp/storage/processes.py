"""Shares work among the processes of a run under `torchrun`, one a device, and among the threads of a process.

    torchrun --nproc-per-node 2 script.py                                         # one machine
    torchrun --nnodes 2 --nproc-per-node 8 --rdzv-endpoint HOST:29500 script.py   # on each of two machines

Without it there is one process, whose sums and rows are its own. All processes must call the same methods in the same
order. One that is gone or stuck is a RuntimeError in the others.

After a parallel operation torch's threads spin for milliseconds, waiting for the next one. A loop that runs between two
such operations finds the cores taken, and needs twice its time. So all the work of a training step is shared out here:
inside `torch_on_one_thread`, torch keeps to the thread that calls it, and `share` and `share_pieces` run loops and
torch operations alike on as many threads as torch would have used: the one that calls begins at once, and those of a
pool join it when they have woken. What they run must release the interpreter's lock, and write to its own part of the
result: then results do not depend on the number of threads.
"""

import atexit
import os
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import ExitStack, contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from datetime import timedelta
from functools import lru_cache
from itertools import islice
from pathlib import Path
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from jaxtyping import Shaped
from torch import Tensor

from interp.storage.files import digest_json
from interp.storage.folders import unfinished, whole_folder

Piece = TypeVar("Piece")
Result = TypeVar("Result")
_TIMEOUT = timedelta(minutes=30)
_SPANS_PER_THREAD = 4
_MIN_WORK = 1 << 19
"""Least work of a span, in products: a tenth of a millisecond, about what a thread takes to wake."""
_threads: ContextVar[int | None] = ContextVar("threads", default=None)


@dataclass(frozen=True)
class Processes:
    """This process, number `rank` of `count`. Others that are gone, or silent for half an hour, are a RuntimeError."""

    rank: int = 0
    count: int = 1

    @property
    def is_first(self) -> bool:
        return self.rank == 0

    def sum_(self, tensor: Shaped[Tensor, "..."]) -> Shaped[Tensor, "..."]:
        """Add up over all processes, in place: the same bits in every process, and in every run of as many."""
        if self.count > 1:
            whole = tensor.contiguous()
            with self._speaking():
                dist.all_reduce(whole)
            if whole is not tensor:
                tensor.copy_(whole)
        return tensor

    def gather(self, tensor: Shaped[Tensor, "row ..."]) -> Shaped[Tensor, "all_rows ..."]:
        """The rows of all processes, in the order of the ranks. Each may have another number of rows, or none."""
        if self.count == 1:
            return tensor
        with self._speaking():
            sizes = [tensor.new_zeros(1, dtype=torch.int64) for _ in range(self.count)]
            dist.all_gather(sizes, torch.full_like(sizes[0], len(tensor)))
            lengths = torch.cat(sizes).tolist()
            padded = tensor.new_zeros(max(lengths), *tensor.shape[1:])
            padded[: len(tensor)] = tensor
            parts = [torch.empty_like(padded) for _ in range(self.count)]
            if padded.numel():
                dist.all_gather([_bytes(part) for part in parts], _bytes(padded))
        return torch.cat([part[:length] for part, length in zip(parts, lengths, strict=True)])

    def gather_values(self, value: Result) -> list[Result]:
        """The values of all processes, in the order of the ranks: anything that pickles, for tables."""
        if self.count == 1:
            return [value]
        values: list[Any] = [None] * self.count
        with self._speaking():
            dist.all_gather_object(values, value)
        return values

    def check_alike(self, work: Any, does: str) -> None:
        """Check that all processes were called with the same, which `work` says in JSON. Raises ValueError in all of
        them if not; `does` is what the error says that they do."""
        digests = self.gather_values(digest_json(work))
        unlike = [rank for rank, each in enumerate(digests) if each != digests[0]]
        if unlike:
            raise ValueError(
                f"process {unlike[0]} {does} something else than process 0: give all the same inputs and options"
            )

    def all_do(self, work: Callable[[], Result]) -> Result:
        """Do `work` and return its result. Where it fails in one process it fails in all, a ValueError as one."""
        if self.count == 1:
            return work()
        failure: Exception | None = None
        try:
            result = work()
        except Exception as error:
            failure = error
        report = "" if failure is None else f"{self.rank} {type(failure).__name__} {failure}\0"
        heard = bytes(self.gather(torch.tensor(list(report.encode()), dtype=torch.uint8)).tolist()).decode()
        if failure is not None:
            raise failure
        if heard:
            rank, kind, text = heard.split("\0")[0].split(" ", 2)
            value = kind == "ValueError"
            raise ValueError(text) if value else RuntimeError(f"process {rank} of {self.count}: {kind}: {text}")
        return result

    @contextmanager
    def whole_folder(self, out: str | Path, made_of: Mapping[str, Any], **options: Any) -> Iterator[Path]:
        """A folder that the first process fills, and all may read (`folders.whole_folder`)."""
        with ExitStack() as stack:
            new = whole_folder(out, made_of, **options)
            self.all_do(lambda: stack.enter_context(new) if self.is_first else None)
            yield unfinished(out) / "new"
            self.all_do(stack.close)

    @contextmanager
    def _speaking(self) -> Iterator[None]:
        try:
            yield
        except RuntimeError as error:
            raise RuntimeError(
                f"process {self.rank} of {self.count} lost the others: one has failed or is stuck, "
                f"or their group cannot send from this device ({error})"
            ) from error


def processes() -> Processes:
    """The processes of this run: of torch's default group; else of `torchrun`, whose group this sets up; else one.

    The group speaks NCCL between GPUs, gloo between CPUs. Each process makes the GPU of its local rank the current one.
    """
    if not dist.is_available():
        return Processes()
    if not dist.is_initialized():
        if not {"RANK", "WORLD_SIZE"} <= os.environ.keys():
            return Processes()
        gpus = torch.cuda.device_count() >= int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
        if gpus:
            torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", "0")))
        dist.init_process_group("cpu:gloo,cuda:nccl" if gpus else "gloo", timeout=_TIMEOUT)
        atexit.register(_leave)
    return Processes(dist.get_rank(), dist.get_world_size())


def device_named(name: str) -> torch.device:
    """`auto` is the GPU where there is one. Raises ValueError for one that is not there."""
    if name != "auto":
        try:
            torch.empty(0, device=name)
        except (RuntimeError, AssertionError, NotImplementedError) as error:
            raise ValueError(f"device={name!r} is not there on this machine: use 'cpu', or 'auto'") from error
        return torch.device(name)
    if torch.cuda.is_available():
        return torch.device("cuda")
    return torch.device("mps" if torch.backends.mps.is_available() else "cpu")


def part_of(n: int, rank: int, count: int) -> slice:
    """A rank's slice of n rows: contiguous, in the order of the ranks, as even as can be."""
    if not 0 <= rank < count:
        raise ValueError(f"part=({rank}, {count}) must be (rank, count) with the rank in 0..count-1")
    return slice(n * rank // count, n * (rank + 1) // count)


@contextmanager
def torch_on_one_thread(for_ours: int | None = None) -> Iterator[None]:
    """Leave torch's threads to ours for a while: all, or so many."""
    before, token = torch.get_num_threads(), _threads.set(for_ours or _number())
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
        _threads.reset(token)


@contextmanager
def torch_on_all_threads() -> Iterator[None]:
    """Within `torch_on_one_thread`, for work that is torch's alone."""
    before = torch.get_num_threads()
    torch.set_num_threads(_number())
    try:
        yield
    finally:
        torch.set_num_threads(before)


def share(n: int, work: int, loop: Callable[..., Result], *arguments: Any) -> list[Result]:
    """Run loop(*arguments, start, stop) over 0..n, in spans shared out among the threads; the result of each span.

    `work`: about how many products the whole loop does, or other steps as long. A small one runs in the calling thread.
    """
    spans = min(_number() * _SPANS_PER_THREAD, n, work // _MIN_WORK)
    if _number() == 1 or spans < 2:
        return [loop(*arguments, 0, n)]
    cuts = [n * i // spans for i in range(spans + 1)]
    return share_pieces(list(zip(cuts[:-1], cuts[1:], strict=True)), lambda span: loop(*arguments, *span))


def slices(n: int, size: int) -> list[slice]:
    """0..n in slices of so many, one at least."""
    return [slice(start, min(start + size, n)) for start in range(0, max(n, 1), size)]


def share_pieces(pieces: Sequence[Piece], task: Callable[[Piece], Result]) -> list[Result]:
    """[task(piece) for piece in pieces], shared out among the threads."""
    threads = _number()
    if threads == 1 or len(pieces) < 2:
        return [task(piece) for piece in pieces]
    results, left = dict[int, Result](), iter(range(len(pieces)))

    def work() -> None:
        for i in left:
            results[i] = task(pieces[i])

    pool = _pool(threads - 1, os.getpid())
    helpers = [pool.submit(work) for _ in range(min(threads, len(pieces)) - 1)]
    try:
        with torch_on_one_thread(for_ours=1):
            work()
    finally:
        joined = [helper for helper in helpers if not helper.cancel()]
        wait(joined)
    for helper in joined:
        helper.result()
    return [results[i] for i in range(len(pieces))]


def in_threads(work: Callable[[Any], Result], items: Iterable[Any], n_threads: int) -> Iterator[Result]:
    """work(item) of each item, in order; as many are made ahead as there are threads."""
    with ThreadPoolExecutor(n_threads) as pool:
        waiting = (pool.submit(work, item) for item in items)
        ahead = deque(islice(waiting, n_threads))
        while ahead:
            result = ahead.popleft().result()
            ahead.extend(islice(waiting, 1))
            yield result


def _leave() -> None:
    """Before the interpreter goes: a group that is still there then, its threads with it, now and then aborts it."""
    if dist.is_initialized():
        dist.destroy_process_group()


def _bytes(tensor: Tensor) -> Tensor:
    return tensor.view(-1).view(torch.uint8)


def _number() -> int:
    return _threads.get() or torch.get_num_threads()


@lru_cache(maxsize=1)
def _pool(threads: int, process: int) -> ThreadPoolExecutor:
    """One pool a process: the threads of a parent do not survive a fork.

    Each thread of it tells torch to keep to that thread (torch takes note when it is next asked). This also sets what
    torch takes for threads to come, so it is set back once all have started.
    """
    before, started = torch.get_num_threads(), threading.Barrier(threads + 1)

    def start() -> None:
        torch.set_num_threads(1)
        _threads.set(torch.get_num_threads())
        started.wait()

    pool = ThreadPoolExecutor(threads, thread_name_prefix=f"interp-{process}", initializer=start)
    for _ in range(threads):
        pool.submit(int)
    started.wait()
    torch.set_num_threads(before)
    return pool
