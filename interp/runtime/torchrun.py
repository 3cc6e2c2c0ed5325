"""The place of this process among those that `torchrun` started, from the environment alone: nothing is set up, and
torch is not imported."""

import os


def rank_and_count() -> tuple[int, int]:
    """Return this process's rank and the number of processes; (0, 1) without `torchrun`."""
    if not {"RANK", "WORLD_SIZE"} <= os.environ.keys():
        return 0, 1
    return int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
