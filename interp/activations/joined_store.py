"""Several activation stores read as one, their hooks side by side.

    both = join_stores({"base": store_a, "tuned": store_b})
    for acts in both.batches(["base/ln_final", "tuned/ln_final"], 4096, seed=0):      # Float[Tensor, "4096 d_a+d_b"]
        ...

The stores must hold the same rows in the same shards: they must come from harvests over the same tokens with the same
seed, excluded tokens and number of shards, and without leaving out outliers (these differ between models).
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

from jaxtyping import Int
from torch import Tensor

from interp.activations.batches import BatchReader, HookRows
from interp.activations.hooks import as_hook_names
from interp.activations.row_statistics import ActivationStatistics
from interp.activations.shards import TOKENS_FILE
from interp.activations.sources import Provenance, RowLimit, Shard
from interp.activations.store import ActivationStore
from interp.checks.errors import InterpError


class JoinedStore(BatchReader):
    """The rows of several stores side by side: the rows of the first, with the activations of all. Made by
    `join_stores`.

    A hook is called "<store>/<its name there>".
    """

    weights = None
    """Several models have no one digest."""

    def __init__(self, stores: Mapping[str, ActivationStore]):
        self.stores = stores
        self.digest = " ".join(f"{name}/{store.digest}" for name, store in stores.items())
        self._rows = next(iter(stores.values()))  # all hold the same

    def __len__(self) -> int:
        return len(self._rows)

    def __repr__(self) -> str:
        hooks = ", ".join(f"{hook} ({self.d(hook)})" for hook in self.hook_names)
        return f"JoinedStore({len(self):,} rows of {hooks})"

    @property
    def hook_names(self) -> tuple[str, ...]:
        return tuple(f"{name}/{hook}" for name, store in self.stores.items() for hook in store.hook_names)

    @property
    def location(self) -> str:
        """The folders, for messages."""
        return ", ".join(store.location for store in self.stores.values())

    @property
    def n_ctx(self) -> int | None:
        return self._rows.n_ctx

    @property
    def tokens(self) -> Int[Tensor, "seq pos"] | None:
        return self._rows.tokens

    @property
    def n_ids(self) -> int:
        return self._rows.n_ids

    @property
    def n_shards(self) -> int:
        return self._rows.n_shards

    @property
    def shard_rows(self) -> tuple[int, ...]:
        return self._rows.shard_rows

    @property
    def provenance(self) -> Provenance:
        """The origin of the rows; several models have no one name."""
        return self._rows.provenance._replace(model_name=None)

    @property
    def norm_limits(self) -> dict[str, float]:
        stores = self.stores.items()
        return {f"{name}/{hook}": limit for name, store in stores for hook, limit in store.norm_limits.items()}

    def name_of(self, hook: str) -> str:
        """Return the name of a hook in the joined store: "<store>/<its name in that store>"."""
        return f"{hook.partition('/')[0]}/{self.find(hook)[1]}"

    def d(self, hook: str) -> int:
        store, name = self.find(hook)
        return store.d(name)

    def statistics(self, hook: str) -> ActivationStatistics:
        store, name = self.find(hook)
        return store.statistics(name)

    def row_limit(self, hook: str) -> RowLimit:
        """Return the limit of a hook's rows and their statistics (`ActivationStore.row_limit`)."""
        store, name = self.find(hook)
        return store.row_limit(name)

    def shard(self, index: int, hook: str) -> Shard:
        store, name = self.find(hook)
        return store.shard(index, name)

    def columns(self, hook: str | Sequence[str]) -> tuple[HookRows, ...]:
        hooks = [(self.name_of(hook_name), *self.find(hook_name)) for hook_name in as_hook_names(hook)]
        return tuple(replace(store.columns(name)[0], hook_name=hook_name) for hook_name, store, name in hooks)

    def verify(self) -> None:
        """Check every byte. Raises ValueError with the first damaged file."""
        for store in self.stores.values():
            store.verify()

    def find(self, hook: str) -> tuple[ActivationStore, str]:
        """Return the store of a hook, and the hook's name in it."""
        store_name, _, hook_in_store = hook.partition("/")
        try:
            store = self.stores[store_name]
            return store, store.name_of(hook_in_store)
        except (KeyError, ValueError):
            known = ", ".join(self.hook_names)
            raise InterpError(f"the joined stores have no activations of {hook!r}; they have {known}") from None


def join_stores(stores: Mapping[str, ActivationStore]) -> JoinedStore:
    """Return the stores as one; no file is written or copied.

    Raises ValueError, with the store and the difference, if their rows are not the same in each shard.
    """
    if not stores:
        raise InterpError("stores is empty: name at least one store to join")
    for name in stores:
        if not name or "/" in name:
            raise InterpError(
                f"a store cannot be called {name!r}: hooks are called '<store>/<hook>', by a name without '/'"
            )
    (first_name, first), *others = stores.items()
    for name, other in others:
        for difference, fact in _MUST_BE_EQUAL.items():
            if fact(first) != fact(other):
                raise InterpError(
                    f"{name!r} ({other.path}) does not hold the rows of {first_name!r} ({first.path}): {difference}. "
                    "Harvest both over the same tokens, with the same seed, exclude and rows_per_shard, and with "
                    "max_norm=None"
                )
    return JoinedStore(dict(stores))


_MUST_BE_EQUAL: dict[str, Callable[[ActivationStore], object]] = {
    "their sequences have other lengths": lambda store: store.n_ctx,
    "their tokens differ": lambda store: store.manifest["files"].get(TOKENS_FILE, {}).get("sha256"),
    "their shards have other numbers of rows": lambda store: store.shard_rows,
    "their shards hold other rows": lambda store: list(map(store.digest_of_row_ids, range(store.n_shards))),
}
"""The properties that two stores must have in common, each with the message if it differs. Checksums represent the
contents."""
