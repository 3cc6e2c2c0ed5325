"""Divide work among the threads of a process.

After a parallel operation torch's threads spin for milliseconds, waiting for the next one. A loop that runs between two
such operations finds the cores taken and takes longer. So all the work of a training step is divided here.
Inside `torch_on_one_thread`, torch uses only the thread that calls it, and `loop_in_threads` and `map_in_threads` run
both loops and torch operations on as many threads as torch would have used. The calling thread begins at once, and
those of a pool join when they have woken. Their work must release the interpreter's lock and write only to its own part
of the result, so that results do not depend on the number of threads.
"""

import os
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import contextmanager
from contextvars import ContextVar
from functools import lru_cache
from itertools import islice
from typing import Any, TypeVar

import torch

Piece = TypeVar("Piece")
Result = TypeVar("Result")
_SPANS_PER_THREAD = 4
_MIN_WORK = 1 << 19
"""Least work of a span, in multiplications: a tenth of a millisecond, about the time that a thread takes to wake."""
_threads: ContextVar[int | None] = ContextVar("threads", default=None)


@contextmanager
def torch_on_one_thread(for_ours: int | None = None) -> Iterator[None]:
    """Restrict torch to the calling thread inside the block; our threads may use all of torch's, or `for_ours`."""
    before = torch.get_num_threads()
    token = _threads.set(for_ours or _thread_count())
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
        _threads.reset(token)


@contextmanager
def torch_on_all_threads() -> Iterator[None]:
    """Give torch its threads back within `torch_on_one_thread`, for work that only torch does."""
    before = torch.get_num_threads()
    torch.set_num_threads(_thread_count())
    try:
        yield
    finally:
        torch.set_num_threads(before)


def loop_in_threads(n: int, work: int, loop: Callable[..., Result], *arguments: Any) -> list[Result]:
    """Run loop(*arguments, start, stop) over 0..n, in spans distributed over the threads; return the result of each
    span.

    `work`: the approximate number of multiplications, or steps of similar length, in the whole loop. A small loop runs
    in the calling thread.
    """
    spans = min(_thread_count() * _SPANS_PER_THREAD, n, work // _MIN_WORK)
    if _thread_count() == 1 or spans < 2:
        return [loop(*arguments, 0, n)]
    cuts = [n * i // spans for i in range(spans + 1)]
    return map_in_threads(list(zip(cuts[:-1], cuts[1:], strict=True)), lambda span: loop(*arguments, *span))


def slices(n: int, size: int) -> list[slice]:
    """Cut 0..n into slices of `size`; at least one."""
    return [slice(start, min(start + size, n)) for start in range(0, max(n, 1), size)]


def map_in_threads(pieces: Sequence[Piece], task: Callable[[Piece], Result]) -> list[Result]:
    """Compute [task(piece) for piece in pieces], distributed over the threads."""
    threads = _thread_count()
    if threads == 1 or len(pieces) < 2:
        return [task(piece) for piece in pieces]
    results = dict[int, Result]()
    remaining = iter(range(len(pieces)))

    def work() -> None:
        for i in remaining:
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


def compute_ahead(work: Callable[[Any], Result], items: Iterable[Any], n_threads: int) -> Iterator[Result]:
    """Yield work(item) for each item, in order; `n_threads` items are computed ahead."""
    with ThreadPoolExecutor(n_threads) as pool:
        waiting = (pool.submit(work, item) for item in items)
        ahead = deque(islice(waiting, n_threads))
        while ahead:
            result = ahead.popleft().result()
            ahead.extend(islice(waiting, 1))
            yield result


def _thread_count() -> int:
    return _threads.get() or torch.get_num_threads()


@lru_cache(maxsize=1)
def _pool(threads: int, process: int) -> ThreadPoolExecutor:
    """Return the one pool of this process: the threads of a parent do not survive a fork.

    Each of its threads sets torch to one thread (which takes effect at torch's next operation). This also sets torch's
    default for new threads, so the default is restored once all have started.
    """
    before = torch.get_num_threads()
    started = threading.Barrier(threads + 1)

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
