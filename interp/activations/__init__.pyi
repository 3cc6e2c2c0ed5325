from .joined_store import JoinedStore as JoinedStore
from .joined_store import join_stores as join_stores
from .row_statistics import ActivationStatistics as ActivationStatistics
from .sources import ActivationSource as ActivationSource
from .sources import StoredRows as StoredRows
from .store import ActivationStore as ActivationStore
from .stream import ActivationStream as ActivationStream
