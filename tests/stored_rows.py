"""The rows of an activation store, for tests of what is in it."""

import torch

from interp.activations import ActivationStore


def rows_of(store: ActivationStore, hook: str) -> dict[int, torch.Tensor]:
    parts = [store.shard(i, hook) for i in range(store.n_shards)]
    return {int(i): x for part in parts for i, x in zip(part.row_ids, part.acts, strict=True)}
