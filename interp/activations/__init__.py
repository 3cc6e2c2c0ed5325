"""Activations of any model: harvested through hooks into a store and read in batches, or streamed and never stored."""

from interp.activations.joined_store import JoinedStore as JoinedStore
from interp.activations.joined_store import join_stores as join_stores
from interp.activations.row_statistics import ActivationStatistics as ActivationStatistics
from interp.activations.row_statistics import geometric_median as geometric_median
from interp.activations.sources import ActivationSource as ActivationSource
from interp.activations.sources import StoredRows as StoredRows
from interp.activations.store import ActivationStore as ActivationStore
from interp.activations.stream import ActivationStream as ActivationStream
