"""Activations of any model: harvested through hooks into a store and read in batches, or streamed and never stored."""

from interp.activations.batches import ActivationBatches
from interp.activations.joined import JoinedStore, join_stores
from interp.activations.row_statistics import ActivationStatistics, geometric_median
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
