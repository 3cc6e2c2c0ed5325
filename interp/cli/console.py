"""What the command line shows: progress, and errors in one line. Under `torchrun` the first process speaks."""

import errno
import os
import shutil
import sys
import time


def is_first() -> bool:
    """Whether this is the only process, or of those that `torchrun` started the first."""
    return "MASTER_ADDR" not in os.environ or os.environ.get("RANK", "0") == "0"


def one_line(error: BaseException) -> str:
    if isinstance(error, OSError) and error.errno == errno.ENOSPC:
        place = f" ({error.filename})" if error.filename else ""
        return f"the disk is full{place}: free some space and run the same command again"
    return " ".join(str(error).split()) or type(error).__name__


class Bar:
    """Progress of one long step: a bar on a terminal, a line every ten seconds elsewhere."""

    def __init__(self, name: str):
        self.name, self._printed, self._terminal = name, time.monotonic(), sys.stderr.isatty()
        self._total, self._before, self._began = -1, 0, 0.0

    def __call__(self, done: int, total: int, note: str) -> None:
        now = time.monotonic()
        if total != self._total or done < self._before:
            self._total, self._before, self._began = total, done, now
        if not is_first() or now - self._printed < (0.1 if self._terminal else 10):
            return
        self._printed, fresh = now, done - self._before
        left = f" {_clock_time((now - self._began) / fresh * (total - done))} left" if fresh else ""
        line = f"{self.name}: {done:,} of {total:,}{left} {note}"
        if self._terminal:
            line = f"{'█' * round(20 * done / max(total, 1)):░<20s} {line}"[: shutil.get_terminal_size().columns - 1]
        print(f"\r{line}\x1b[K" if self._terminal else f"{line}\n", end="", file=sys.stderr, flush=True)

    def close(self) -> None:
        if self._terminal and is_first():
            print("\r\x1b[K", end="", file=sys.stderr, flush=True)

    def __enter__(self) -> "Bar":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _clock_time(seconds: float) -> str:
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{seconds:02d}" if hours else f"{minutes:02d}:{seconds:02d}"
