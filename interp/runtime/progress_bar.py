"""The progress of long work, shown. Under `torchrun` only the first process prints.

A command shows a `Bar`. So does by default each public function with a keyword `progress` (`shows_progress`), as long
as a person watches: at a terminal and in a notebook, but not in a pipe or a file. tqdm's variable TQDM_DISABLE=1 hides
these bars.
"""

import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import wraps
from typing import Any, TypeVar, cast

from interp.runtime.progress import Progress, no_progress
from interp.runtime.torchrun import is_first

Function = TypeVar("Function", bound=Callable[..., Any])
_SECONDS_A_LINE = 10.0
_SECONDS_OF_SILENCE = 60.0
_SECONDS_MEASURED = 1.0
_SECONDS_OF_LONG_WORK = 60.0
_SECONDS_OF_SHORT_WORK = 2.0
_LINE = "{desc}: {n:,} of {total:,}, {remaining} left{postfix}"


class Bar:
    """Progress of one long step, passed to the library as `progress`. On a terminal and in a notebook it is tqdm's
    bar; elsewhere, as in the log of a job, a plain line every ten seconds, or after a minute without progress. If a
    step will take a minute or more, the first line appears after one measured second.

    Work before a step's first progress, such as compiling, is not measured, as it does not recur.

    seconds_hidden: how long a step runs before a bar appears on a terminal or in a notebook."""

    def __init__(self, name: str, *, seconds_hidden: float = 0.0):
        self.name = name
        self._seconds_hidden = seconds_hidden
        self._on_terminal = _is_watched()
        self._last_line = time.monotonic()
        self._total: int | None = None
        self._done = 0
        self._note = ""
        self._first: tuple[float, int] | None = None
        """The time and amount of the step's first progress."""
        self._has_shown_line = False
        self._step: Any = None
        self._timer: threading.Timer | None = None

    def __call__(self, done: int, total: int, note: str) -> None:
        if not is_first():
            return
        if total != self._total or done < self._done:
            self._begin_step(done, total)
        self._done = done
        self._note = note
        if self._on_terminal:
            self._step.set_postfix_str(note, refresh=False)
            self._step.update(done - self._step.n)
            return
        now = time.monotonic()
        rate, is_measured = self._rate(now)
        is_long = is_measured and total - done >= _SECONDS_OF_LONG_WORK * rate
        if now - self._last_line >= _SECONDS_A_LINE or (is_long and not self._has_shown_line):
            self._last_line = now
            self._has_shown_line = True
            print(self._line(done, total, now, note, rate), file=sys.stderr, flush=True)
            self._schedule_status()

    def close(self) -> None:
        """Remove the bar from the terminal."""
        if self._step is not None:
            self._step.close()
        self._step, self._total = None, None
        if self._timer is not None:
            self._timer.cancel()

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
        self._first = None
        self._has_shown_line = False
        if self._on_terminal:
            from tqdm import tqdm

            self._step = tqdm(
                total=total,
                initial=done,
                desc=self.name,
                leave=False,
                delay=self._seconds_hidden,
                dynamic_ncols=True,
                bar_format="{bar:20} " + _LINE,
                file=sys.stderr,
            )
        else:
            self._schedule_status()

    def _schedule_status(self) -> None:
        """Start the timer that prints that the step is still running, unless a line is printed before."""
        if self._timer is not None:
            self._timer.cancel()
        self._timer = threading.Timer(_SECONDS_OF_SILENCE, self._repeat_status)
        self._timer.daemon = True
        self._timer.start()

    def _repeat_status(self) -> None:
        if self._total is None:  # closed meanwhile
            return
        minutes = (time.monotonic() - self._began) / 60
        after = f"still running after {minutes:.0f} min" + (f", {self._note}" if self._note else "")
        print(f"{self.name}: {self._done:,} of {self._total:,}, {after}", file=sys.stderr, flush=True)
        self._schedule_status()

    def _rate(self, now: float) -> tuple[float, bool]:
        """Return how much is done per second, and whether that was measured for long enough to be shown."""
        if self._first is None and self._done > self._initial:
            self._first = now, self._done
        elif self._first is not None and now - self._first[0] >= _SECONDS_MEASURED:
            return (self._done - self._first[1]) / (now - self._first[0]), self._done > self._first[1]
        return (self._done - self._initial) / max(now - self._began, 1e-9), False

    def _line(self, done: int, total: int, now: float, note: str, rate: float) -> str:
        from tqdm import tqdm

        return tqdm.format_meter(
            done,
            total,
            now - self._began,
            prefix=self.name,
            rate=rate or None,
            bar_format=_LINE,
            postfix=note,
            initial=self._initial,
        )


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
