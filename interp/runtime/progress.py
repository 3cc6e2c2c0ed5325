"""Long work reports its progress by calling a `Progress`."""

from collections.abc import Callable, Mapping
from itertools import accumulate

Progress = Callable[[int, int, str], None]
"""Called with (done, total, note) as long work goes on; the note names the unit or the step."""


def no_progress(done: int, total: int, note: str) -> None:
    """Show nothing: a `Progress`."""


def in_percent(progress: Progress, shares: Mapping[str, float]) -> Progress:
    """Make a `Progress` for the steps of one job that reports the percent of the whole to `progress`. shares: roughly
    the part of the time that each step takes, by its note, in their order; they sum to 1."""
    before = dict(zip(shares, [0.0, *accumulate(shares.values())], strict=False))

    def tell(done: int, total: int, note: str) -> None:
        progress(round(100 * (before[note] + shares[note] * done / max(total, 1))), 100, note)

    return tell
