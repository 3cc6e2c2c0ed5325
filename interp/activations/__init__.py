"""Activations of any model: harvested through hooks into a store and read in batches, or streamed and never stored."""

from interp.activations.batches import ActivationBatches
from interp.activations.joined_store import JoinedStore, join_stores
from interp.activations.row_statistics import ActivationStatistics, geometric_median
from interp.activations.sources import ActivationSource, Shard, StoredRows
from interp.activations.store import ActivationStore
from interp.activations.stream import ActivationStream

__all__ = [
    "ActivationBatches",
    "ActivationSource",
    "ActivationStatistics",
    "ActivationStore",
    "ActivationStream",
    "JoinedStore",
    "Shard",
    "StoredRows",
    "geometric_median",
    "join_stores",
]
