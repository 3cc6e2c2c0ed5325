"""The place of this process among those that `torchrun` started, from the environment alone: nothing is set up, and
torch is not imported."""

import os


def rank_and_count() -> tuple[int, int]:
    """Return this process's rank and the number of processes; (0, 1) without `torchrun`."""
    if not {"RANK", "WORLD_SIZE"} <= os.environ.keys():
        return 0, 1
    return int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])


def is_first() -> bool:
    """Return whether this is the only process, or the first one of `torchrun`."""
    return rank_and_count()[0] == 0


def is_shared() -> bool:
    """Return whether this is one of several processes of `torchrun`."""
    return rank_and_count()[1] > 1
