"""The progress of long work, shown. Under `torchrun` only the first process prints.

A command shows a `Bar`. So does by default each public function with a keyword `progress` (`shows_progress`), as long
as a person watches: at a terminal and in a notebook, but not in a pipe or a file. tqdm's variable TQDM_DISABLE=1 hides
these bars.
"""

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import wraps
from typing import Any, TypeVar, cast

from interp.runtime.progress import Progress, no_progress
from interp.runtime.torchrun import is_first

Function = TypeVar("Function", bound=Callable[..., Any])
_SECONDS_A_LINE = 10.0
_SECONDS_OF_SHORT_WORK = 2.0
_LINE = "{desc}: {n:,} of {total:,}, {remaining} left{postfix}"


class Bar:
    """Progress of one long step, passed to the library as `progress`. On a terminal and in a notebook it is tqdm's
    bar; elsewhere, as in the log of a job, a plain line every ten seconds.

    seconds_hidden: how long a step runs before a bar appears on a terminal or in a notebook."""

    def __init__(self, name: str, *, seconds_hidden: float = 0.0):
        self.name = name
        self._seconds_hidden = seconds_hidden
        self._on_terminal = _is_watched()
        self._last_line = time.monotonic()
        self._total: int | None = None
        self._done = 0
        self._bar: Any = None

    def __call__(self, done: int, total: int, note: str) -> None:
        if not is_first():
            return
        if total != self._total or done < self._done:
            self._begin_step(done, total)
        self._done = done
        if self._on_terminal:
            self._bar.set_postfix_str(note, refresh=False)
            self._bar.update(done - self._bar.n)
            return
        now = time.monotonic()
        if now - self._last_line >= _SECONDS_A_LINE:
            self._last_line = now
            print(self._line(done, total, now, note), file=sys.stderr, flush=True)

    def close(self) -> None:
        """Remove the bar from the terminal."""
        if self._bar is not None:
            self._bar.close()
        self._bar, self._total = None, None

    def __enter__(self) -> "Bar":
        self(0, 1, "starting")
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _begin_step(self, done: int, total: int) -> None:
        self.close()
        self._total = total
        self._initial = done
        self._began = time.monotonic()
        if self._on_terminal:
            from tqdm import tqdm

            self._bar = tqdm(
                total=total,
                initial=done,
                desc=self.name,
                leave=False,
                delay=self._seconds_hidden,
                dynamic_ncols=True,
                bar_format="{bar:20} " + _LINE,
                file=sys.stderr,
            )

    def _line(self, done: int, total: int, now: float, note: str) -> str:
        from tqdm import tqdm

        elapsed = now - self._began
        meter = {"prefix": self.name, "bar_format": _LINE, "postfix": note, "initial": self._initial}
        return tqdm.format_meter(done, total, elapsed, **meter)


_shown: list[str] = []
"""The names of the functions whose progress is shown, or was silenced. What they call shows no bar of its own."""


@contextmanager
def bar_by_default(name: str, *, seconds_hidden: float = 0.0) -> Iterator[Progress]:
    """Yield the progress of work whose caller chose none: a bar if a person watches, but nothing inside other work
    (`no_bars_inside`)."""
    if _shown or not _is_watched():
        yield no_progress
        return
    with no_bars_inside(name), Bar(name, seconds_hidden=seconds_hidden) as bar:
        yield bar


@contextmanager
def no_bars_inside(name: str) -> Iterator[None]:
    """Let functions that are called meanwhile show no bar by default, as the work of this name shows its own."""
    _shown.append(name)
    try:
        yield
    finally:
        _shown.pop()


def shows_progress(function: Function) -> Function:
    """Show a bar of a function's progress if it takes more than some seconds, unless its caller gave `progress`."""

    @wraps(function)
    def shown(*arguments: Any, **keywords: Any) -> Any:
        name = function.__name__
        if "progress" in keywords:
            with no_bars_inside(name):
                return function(*arguments, **keywords)
        with bar_by_default(name, seconds_hidden=_SECONDS_OF_SHORT_WORK) as progress:
            return function(*arguments, **keywords, progress=progress)

    return cast(Function, shown)


def _is_watched() -> bool:
    """Return whether a person sees what is printed: at a terminal, or in a notebook."""
    shell = getattr(sys.modules.get("IPython"), "get_ipython", lambda: None)()
    return sys.stderr.isatty() or getattr(shell, "kernel", None) is not None
