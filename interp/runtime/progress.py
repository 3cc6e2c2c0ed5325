"""Long work reports its progress by calling a `Progress`."""

from collections.abc import Callable, Mapping
from itertools import accumulate

Progress = Callable[[int, int, str], None]
"""Called with (done, total, note) during long work; the note names the unit or the step."""


def no_progress(done: int, total: int, note: str) -> None:
    """Show nothing: a `Progress`."""


def split_progress(progress: Progress, n: int) -> list[Progress]:
    """Make a `Progress` for each of n jobs that run together. `progress` shows one job, of which each is the same
    share."""
    shares = [0.0] * n

    def of_job(job: int) -> Progress:
        def report(done: int, total: int, note: str) -> None:
            shares[job] = done / max(total, 1)
            progress(round(total * sum(shares)), total * n, note)

        return report

    return [of_job(job) for job in range(n)]


def percent_of_steps(progress: Progress, shares: Mapping[str, float]) -> Progress:
    """Make a `Progress` for the steps of one job that reports the percent of the whole to `progress`.
    shares: the approximate fraction of the time that each step takes, by its note, in the order of the steps; they sum
    to 1. A step that has no share leaves the percent as it is."""
    before = dict(zip(shares, [0.0, *accumulate(shares.values())], strict=False))
    percent = 0

    def report(done: int, total: int, note: str) -> None:
        nonlocal percent
        if note in shares:
            percent = round(100 * (before[note] + shares[note] * done / max(total, 1)))
        progress(percent, 100, note)

    return report
