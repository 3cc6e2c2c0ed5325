"""Activations on disk: the store that a harvest leaves and that everything after it reads."""

from interp.activations.batches import ActivationBatches
from interp.activations.joined import JoinedStore, join_stores
from interp.activations.moments import ActivationStatistics, geometric_median
from interp.activations.store import ActivationStore, Shard

__all__ = [
    "ActivationBatches",
    "ActivationStatistics",
    "ActivationStore",
    "JoinedStore",
    "Shard",
    "geometric_median",
    "join_stores",
]
