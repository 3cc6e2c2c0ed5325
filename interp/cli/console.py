"""What the command line shows and reads: progress, errors in one line, and values written as in TOML.

Under `torchrun` the first process speaks.
"""

import errno
import os
import sys
import threading
import time
import tomllib
import traceback
from typing import Any

_LIBRARIES = (
    ("safetensors", "SafetensorError"),
    ("pyarrow", "ArrowException"),
    ("duckdb", "Error"),
    ("sqlite3", "Error"),
)
"""Errors of libraries about a file that they read or write, which are no ValueError."""
_FULL = (f"os error {errno.ENOSPC}", "No space left on device", "database or disk is full")
_NO_MEMORY = ("not enough memory", "can't allocate memory", "Allocation failed")
_LONGEST = 2000
"""Characters of an error: a library may quote the whole of a damaged file."""
_SECONDS_A_LINE, _SECONDS_OF_SILENCE = 10.0, 60.0
_SECONDS_MEASURED, _SECONDS_OF_LONG_WORK = 1.0, 60.0
_LINE = "{desc}: {n:,} of {total:,}, {remaining} left{postfix}"


def is_first() -> bool:
    """Tell whether this is the only process, or the first of those that `torchrun` started."""
    return "MASTER_ADDR" not in os.environ or os.environ.get("RANK", "0") == "0"


def is_shared() -> bool:
    """Tell whether this is one of several processes that `torchrun` started."""
    return int(os.environ.get("WORLD_SIZE", "1")) > 1


def is_expected(error: BaseException) -> bool:
    """Tell whether an error is about the input, the disk or the memory; other errors are ours, and keep their
    traceback."""
    loaded = [(sys.modules[name], kind) for name, kind in _LIBRARIES if name in sys.modules]
    kinds = (ValueError, OSError, MemoryError, *(getattr(module, kind) for module, kind in loaded))
    return isinstance(error, kinds) or _is_out_of_memory(error)


def is_from_library(error: BaseException) -> bool:
    """Whether code outside `interp` and `models` raised an error: its message may not say what to do."""
    *_, (frame, _) = traceback.walk_tb(error.__traceback__)
    return frame.f_globals.get("__name__", "").partition(".")[0] not in ("interp", "models")


def one_line(error: BaseException) -> str:
    """Write an error on one line, with the remedy where the disk or the memory is full."""
    if isinstance(error, OSError) and error.errno and error.filename and error.errno != errno.ENOSPC:
        return f"{printable(str(error.filename))}: {error.strerror}"
    message = printable(str(error)) or type(error).__name__
    if (isinstance(error, OSError) and error.errno == errno.ENOSPC) or any(words in message for words in _FULL):
        file = f" ({printable(str(error.filename))})" if isinstance(error, OSError) and error.filename else ""
        return f"the disk is full{file}: free some space and run the same command again"
    if _is_out_of_memory(error):
        return f"there is not enough memory ({message}): lower the batch size, the latents or the tokens"
    return message


def printable(text: str) -> str:
    """Return the text on one line, its control characters written out: a name from a file must not steer the
    terminal."""
    line = "".join(letter if letter.isprintable() else repr(letter)[1:-1] for letter in " ".join(text.split()))
    return line if len(line) <= _LONGEST else f"{line[: _LONGEST // 2]} … {line[-_LONGEST // 2 :]}"


def usage_line(error: Any) -> str:
    """Says what is wrong with the words of a command (typer's error), the nearest option, and where to read on."""
    message = printable(error.format_message()).removesuffix(".")
    if near := getattr(error, "possibilities", None):
        message = f"{printable(error.message)}. Did you mean {', '.join(map(printable, near))}?"
    elif hasattr(error.__cause__, "errors"):  # pydantic says what a value should be, and not what it was
        value = error.__cause__.errors()[0]["input"]
        message = message.replace("Invalid value for", f"Invalid value {value!r} for").replace("Value error, ", "")
    context = getattr(error, "ctx", None)
    return f"{message} (see {context.command_path if context else 'interp'} --help)"


def _is_out_of_memory(error: BaseException) -> bool:
    return isinstance(error, MemoryError) or (
        isinstance(error, RuntimeError) and any(words in str(error) for words in _NO_MEMORY)
    )


class Bar:
    """Progress of one long step, passed to the library as `progress`: tqdm's bar on a terminal, and elsewhere, as in
    the log of a job, a plain line every ten seconds, or after a minute in which the step told nothing. Where a step
    will take a minute or more, the first line comes as soon as a second of it has been measured.

    What comes before a step's first advance, such as compiling, is not measured, as it is not done again."""

    def __init__(self, name: str):
        self.name = name
        self._on_terminal = sys.stderr.isatty()
        self._last_line = time.monotonic()
        self._total: int | None = None
        self._done = 0
        self._note = ""
        self._first: tuple[float, int] | None = None
        """When the step first advanced, and how far."""
        self._is_told = False
        self._step: Any = None
        self._timer: threading.Timer | None = None

    def __call__(self, done: int, total: int, note: str) -> None:
        if not is_first():
            return
        if total != self._total or done < self._done:
            self._begin_step(done, total)
        self._done, self._note = done, note
        if self._on_terminal:
            self._step.set_postfix_str(note, refresh=False)
            self._step.update(done - self._step.n)
            return
        now = time.monotonic()
        rate, is_measured = self._rate(now)
        is_long = is_measured and total - done >= _SECONDS_OF_LONG_WORK * rate
        if now - self._last_line >= _SECONDS_A_LINE or (is_long and not self._is_told):
            self._last_line, self._is_told = now, True
            print(self._line(done, total, now, note, rate), file=sys.stderr, flush=True)
            self._listen()

    def close(self) -> None:
        """Take the bar off the terminal."""
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
        self._first, self._is_told = None, False
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
            self._listen()

    def _listen(self) -> None:
        """Tell that the step goes on where it is silent from now on."""
        if self._timer is not None:
            self._timer.cancel()
        self._timer = threading.Timer(_SECONDS_OF_SILENCE, self._repeat_status)
        self._timer.daemon = True
        self._timer.start()

    def _repeat_status(self) -> None:
        if self._total is None:  # closed meanwhile
            return
        minutes = (time.monotonic() - self._began) / 60
        after = f"still at it after {minutes:.0f} min" + (f", {self._note}" if self._note else "")
        print(f"{self.name}: {self._done:,} of {self._total:,}, {after}", file=sys.stderr, flush=True)
        self._listen()

    def _rate(self, now: float) -> tuple[float, bool]:
        """Tell how much is done a second, and whether that was measured for long enough to be told."""
        if self._first is None and self._done > self._initial:
            self._first = now, self._done
        elif self._first is not None and now - self._first[0] >= _SECONDS_MEASURED:
            return (self._done - self._first[1]) / (now - self._first[0]), self._done > self._first[1]
        return (self._done - self._initial) / max(now - self._began, 1e-9), False

    def _line(self, done: int, total: int, now: float, note: str, rate: float) -> str:
        from tqdm import tqdm

        options: Any = {"prefix": self.name, "postfix": note, "bar_format": _LINE}
        return tqdm.format_meter(done, total, now - self._began, rate=rate or None, initial=self._initial, **options)


def toml_value(text: str) -> Any:
    """`text` as TOML reads it, and words without quotes as a string: 32, 1e-3, true, [0.5, 0.5], cosine.

    Raises ValueError for what begins like a list, a table or a quoted string and is none.
    """
    text = text.strip()
    try:
        return _parsed(f"{'0' if text.startswith('.') else ''}{text}")
    except tomllib.TOMLDecodeError:
        if text.startswith(("[", "{", '"', "'")):
            raise ValueError(f'{text} is no TOML value: write it like [1, 2], {{key = 1}} or "text"') from None
        return text


def toml_values(text: str) -> list[Any]:
    """Several values with commas between: 16,32 or [0.5, 0.5],[0.25, 0.75] or linear,cosine."""
    try:
        return _parsed(f"[{text}]")
    except tomllib.TOMLDecodeError:
        return [toml_value(item) for item in text.split(",")]


def assignment(text: str) -> tuple[str, str]:
    """FIELD=VALUE in two; dashes in the field's name are underscores."""
    name, equals, value = text.partition("=")
    if not (name and equals and value):
        raise ValueError(f"{text!r} must be FIELD=VALUE")
    return name.strip().replace("-", "_"), value


def _parsed(text: str) -> Any:
    return tomllib.loads(f"value = {text}")["value"]
