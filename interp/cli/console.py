"""What the command line shows: progress, and errors in one line. Under `torchrun` the first process speaks."""

import errno
import os
import shutil
import sys
import time


def is_first() -> bool:
    """Whether this is the only process, or of those that `torchrun` started the first."""
    return "MASTER_ADDR" not in os.environ or os.environ.get("RANK", "0") == "0"


_LIBRARIES = (("safetensors", "SafetensorError"), ("pyarrow", "ArrowException"), ("duckdb", "Error"))
"""Errors that are no ValueError; where a file is read they are one, and here is what slipped through."""
_LONGEST = 2000
_FULL = (f"os error {errno.ENOSPC}", "No space left on device")
_NO_MEMORY = ("not enough memory", "can't allocate memory", "Allocation failed")


def is_expected(error: BaseException) -> bool:
    """Whether it speaks of the input, the disk or the memory; other errors are ours, and show where they came from."""
    loaded = [(sys.modules[name], kind) for name, kind in _LIBRARIES if name in sys.modules]
    kinds = (ValueError, OSError, MemoryError, RecursionError, *(getattr(module, kind) for module, kind in loaded))
    return isinstance(error, kinds) or _lacks_memory(error)


def one_line(error: BaseException) -> str:
    said = " ".join(str(error).split()) or type(error).__name__
    said = "".join(letter if letter.isprintable() else repr(letter)[1:-1] for letter in said)
    said = said if len(said) <= _LONGEST else f"{said[: _LONGEST // 2]} … {said[-_LONGEST // 2 :]}"
    if (isinstance(error, OSError) and error.errno == errno.ENOSPC) or any(words in said for words in _FULL):
        place = f" ({error.filename})" if isinstance(error, OSError) and error.filename else ""
        return f"the disk is full{place}: free some space and run the same command again"
    if _lacks_memory(error):
        return f"there is not enough memory ({said}): lower the batch size, the latents or the tokens"
    if isinstance(error, RecursionError):
        return f"the input is nested too deeply ({said}): write it flat"
    return said


def _lacks_memory(error: BaseException) -> bool:
    said = str(error)
    return isinstance(error, MemoryError) or (isinstance(error, RuntimeError) and any(w in said for w in _NO_MEMORY))


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
