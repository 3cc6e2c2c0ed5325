"""Several activation stores read as one, their hooks side by side.

    both = join_stores({"base": store_a, "tuned": store_b})
    for acts in both.batches(["base/ln_final", "tuned/ln_final"], 4096, seed=0):      # Float[Tensor, "4096 d_a+d_b"]
        ...

The stores must hold the same rows in the same shards: those of harvests over the same tokens with the same seed,
excluded tokens and number of shards, and without outliers left out (these are not the same in two models).
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

from interp.activations.batches import ShardColumn
from interp.activations.row_statistics import ActivationStatistics
from interp.activations.shards import ROW_IDS, TOKENS
from interp.activations.store import ActivationStore, Shard, named_hooks


class JoinedStore(ActivationStore):
    """Rows of several stores side by side: those of the first, with the activations of all. Made by `join_stores`.

    A hook is called "<store>/<its name there>".
    """

    def __init__(self, stores: Mapping[str, ActivationStore]):
        first = next(iter(stores.values()))
        fingerprint = " ".join(f"{name}/{store.fingerprint}" for name, store in stores.items())
        super().__init__(first.path, first.manifest, fingerprint)
        self.stores = stores

    @property
    def hook_names(self) -> tuple[str, ...]:
        return tuple(f"{name}/{hook}" for name, store in self.stores.items() for hook in store.hook_names)

    def d(self, hook: str) -> int:
        store, name = self.of(hook)
        return store.d(name)

    def statistics(self, hook: str) -> ActivationStatistics:
        store, name = self.of(hook)
        return store.statistics(name)

    def shard(self, i: int, hook: str) -> Shard:
        store, name = self.of(hook)
        return store.shard(i, name)

    def columns(self, hook: str | Sequence[str]) -> tuple[ShardColumn, ...]:
        found = [(hook_name, *self.of(hook_name)) for hook_name in named_hooks(hook)]
        return tuple(replace(store.columns(name)[0], hook_name=hook_name) for hook_name, store, name in found)

    @property
    def weights(self) -> str | None:
        """None, as several models have no one digest."""
        return None

    @property
    def norm_limits(self) -> dict[str, float]:
        stores = self.stores.items()
        return {f"{name}/{hook}": limit for name, store in stores for hook, limit in store.norm_limits.items()}

    @property
    def keeps_outliers(self) -> bool:
        return all(store.keeps_outliers for store in self.stores.values())

    def verify(self) -> None:
        for store in self.stores.values():
            store.verify()

    def of(self, hook: str) -> tuple[ActivationStore, str]:
        """The store of a hook, and the hook's name in it."""
        name, _, there = hook.partition("/")
        if name not in self.stores or there not in self.stores[name].hook_names:
            known = ", ".join(self.hook_names)
            raise ValueError(f"the joined stores have no activations of {hook!r}; they have {known}")
        return self.stores[name], there


def join_stores(stores: Mapping[str, ActivationStore]) -> JoinedStore:
    """The stores as one; no file is written or copied.

    Raises ValueError, naming the store and what differs, where their rows are not the same in each shard.
    """
    if not stores:
        raise ValueError("stores is empty: name at least one store to join")
    for name in stores:
        if not name or "/" in name:
            rule = "hooks are called '<store>/<hook>', by a name without '/'"
            raise ValueError(f"a store cannot be called {name!r}: {rule}")
    (first, one), *others = stores.items()
    for name, other in others:
        for what, of in _ROWS.items():
            if of(one) != of(other):
                raise ValueError(
                    f"{name!r} ({other.path}) does not hold the rows of {first!r} ({one.path}): {what}. Harvest both "
                    "over the same tokens, with the same seed, exclude and rows_per_shard, and with max_norm=None"
                )
    return JoinedStore(dict(stores))


_ROWS: dict[str, Callable[[ActivationStore], object]] = {
    "their sequences have other lengths": lambda store: store.n_ctx,
    "their tokens differ": lambda store: store.manifest["files"].get(TOKENS, {}).get("sha256"),
    "their shards have other numbers of rows": lambda store: store.shard_rows,
    "their shards hold other rows": lambda store: [shard["sha256"][ROW_IDS] for shard in store.manifest["shards"]],
}
"""What must be equal, by what is said where it is not; the sums in the manifest stand for the contents."""
