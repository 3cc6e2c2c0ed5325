"""Progress of a command. Under `torchrun` only the first process prints."""

import sys
import threading
import time
from typing import Any

from interp.runtime.torchrun import is_first

_SECONDS_A_LINE = 10.0
_SECONDS_OF_SILENCE = 60.0
_SECONDS_MEASURED = 1.0
_SECONDS_OF_LONG_WORK = 60.0
_LINE = "{desc}: {n:,} of {total:,}, {remaining} left{postfix}"


class Bar:
    """Progress of one long step, passed to the library as `progress`. On a terminal it is tqdm's bar; elsewhere, as in
    the log of a job, a plain line every ten seconds, or after a minute without progress. If a step will take a minute
    or more, the first line appears after one measured second.

    Work before a step's first progress, such as compiling, is not measured, as it does not recur."""

    def __init__(self, name: str):
        self.name = name
        self._on_terminal = sys.stderr.isatty()
        self._last_line = time.monotonic()
        self._total: int | None = None
        self._done = 0
        self._note = ""
        self._first: tuple[float, int] | None = None
        """The time and amount of the step's first progress."""
        self._is_told = False
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
        if now - self._last_line >= _SECONDS_A_LINE or (is_long and not self._is_told):
            self._last_line = now
            self._is_told = True
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
        self._is_told = False
        if self._on_terminal:
            from tqdm import tqdm

            self._step = tqdm(
                total=total,
                initial=done,
                desc=self.name,
                leave=False,
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
