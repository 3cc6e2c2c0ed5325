"""Hold the rows that a dictionary is trained on: their hooks, their source (a store, or a model that runs meanwhile),
and the processes that divide them.
"""

from collections.abc import Sequence
from typing import Any

from interp.activations import ActivationSource
from interp.checks.errors import InterpError
from interp.runtime.processes import ProcessGrid
from interp.sae.hook_scales import HookScales


class TrainingRows:
    """The hooks with their scales, and what a dictionary records about its rows.

    Raises ValueError for an empty store, for no hook, and for a hook that is named twice.
    """

    def __init__(self, store: ActivationSource, hooks: Sequence[str], output_hooks: Sequence[str], grid: ProcessGrid):
        hooks = tuple(map(store.name_of, hooks))
        output_hooks = list(map(store.name_of, output_hooks))
        if len(store) == 0:
            raise InterpError("the store is empty: there is nothing to train on")
        if len({*hooks, *output_hooks}) < len([*hooks, *output_hooks]):
            raise InterpError(
                f"a hook is named twice: {', '.join([*hooks, *output_hooks])}. An autoencoder needs no output_hook"
            )
        self.store = store
        self.hook_names = (*hooks, *output_hooks)
        self.grid = grid
        row_limits = [store.row_limit(name) for name in self.hook_names]
        statistics = tuple(each.statistics for each in row_limits)
        limits = tuple(each.limit if each.has_outliers else None for each in row_limits)
        self.hook_scales = HookScales(inputs=statistics[: len(hooks)], outputs=statistics[len(hooks) :], limits=limits)
        name, read = ("hook_name", hooks[0]) if len(hooks) == 1 else ("hook_names", list(hooks))
        self.key: dict[str, Any] = {"store": store.digest, "hook": read}
        self.metadata: dict[str, Any] = {name: read}
        if output_hooks:
            self.key["output_hook"] = output_hooks[0] if len(output_hooks) == 1 else output_hooks
            self.metadata["hook_name_out"] = output_hooks[0]
        if len(output_hooks) > 1:
            self.metadata["hook_names_out"] = output_hooks
        self.metadata["context_size"] = store.n_ctx
        if store.weights is not None:
            self.metadata["model_weights"] = store.weights
        self.metadata |= _provenance(store)
        if len(hooks) == 1 and row_limits[0].limit is not None:
            self.metadata["norm_limit"] = row_limits[0].limit


def _provenance(store: ActivationSource) -> dict[str, Any]:
    """Return the provenance of the rows that a dictionary records, under SAELens's names if it has them."""
    rows = store.provenance
    about: dict[str, Any] = {}
    if store.weights is not None and rows.model_name is not None:
        about["model_name"] = rows.model_name
    if rows.exclude:
        about["exclude_special_tokens"] = rows.exclude
    if left_out := rows.exclude_positions:
        about["exclude_positions"] = left_out
        trained = [position for position in range(store.n_ctx or 0) if position not in left_out]
        if trained and len(trained) == trained[-1] + 1 - trained[0]:
            about["seqpos_slice"] = [trained[0], trained[-1] + 1]
    if rows.prepend_bos is not None:
        about["prepend_bos"] = rows.prepend_bos
    return about
