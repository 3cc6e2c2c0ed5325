"""Activations on disk: what a harvest writes, and everything after it reads.

In: the folder that `store_writer` writes. Out: shards of rows, batches in a random order, statistics.

    store = ActivationStore.open(path)
    for acts in store.batches(hook, 4096, seed=0):              # Float[Tensor, "4096 d"]
        ...
    for acts in store.batches([hook_a, hook_b], 4096, seed=0):  # Float[Tensor, "4096 d_a+d_b"], of the same rows
        ...

Every tensor is checked against the manifest when it is first read: a single damaged byte is an error with the file's
name.
"""

import logging
from collections.abc import Iterable, Sequence
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from interp.activations.batch_import import import_batches
from interp.activations.batches import BatchReader, HookRows
from interp.activations.hidden_states import import_hidden_states
from interp.activations.hooks import DEFAULT_HOOK_NAME, as_hook_names
from interp.activations.outliers import is_within, outliers_among
from interp.activations.remote_reader import RemoteFiles
from interp.activations.remote_store import read_remote_manifest
from interp.activations.row_statistics import (
    TENSORS,
    ActivationStatistics,
    evenly_spaced_rows,
    n_sample_rows,
    running_sums,
    statistics_of,
)
from interp.activations.shards import (
    DTYPES,
    ROW_IDS,
    STATISTICS_FILE,
    STORE_REMEDY,
    TOKENS_FILE,
    StoreFiles,
    read_store_manifest,
)
from interp.activations.sources import Provenance, RowLimit, Shard, canonical_name_in
from interp.checks.errors import DamagedError, InterpError
from interp.display.cards import card, show_facts
from interp.runtime.progress import Progress, no_progress
from interp.runtime.progress_bar import shows_progress
from interp.storage.addresses import RemoteAddress, address_of
from interp.storage.artifacts import folder_of
from interp.storage.files import digest, digest_file
from interp.storage.manifests import MADE_OF, MANIFEST

log = logging.getLogger(__name__)


class ActivationStore(BatchReader):
    """Rows x [row, d] of one or more hooks, all of the same tokens. Made by `harvest`, `from_batches` and
    `from_hidden_states`; `open` reads a finished one."""

    def __init__(self, path: Path | RemoteAddress, manifest: dict[str, Any], digest: str):
        self.path, self.manifest, self.digest = path, manifest, digest
        self._files = RemoteFiles(path, manifest) if isinstance(path, RemoteAddress) else StoreFiles(path, manifest)

    @classmethod
    def open(cls, path: str | Path) -> "ActivationStore":
        """Return the finished store in a folder, in a run folder, or at an address such as s3://bucket/store
        (`activations.remote_store`). Raises ValueError if there is none, or if one of its files is missing or has
        another size."""
        if (address := address_of(path)) is not None:
            return cls(address, *read_remote_manifest(address))
        folder = folder_of(path, "activations")
        return cls(folder, read_store_manifest(folder), digest_file(folder / MANIFEST))

    @classmethod
    def from_batches(
        cls,
        batches: Iterable[Float[Tensor, "batch d"]] | Float[Tensor, "row d"],
        out: str | Path,
        *,
        hook_name: str = DEFAULT_HOOK_NAME,
        dtype: str = "bfloat16",
        rows_per_shard: int | None = None,
        seed: int = 0,
        overwrite: bool = False,
    ) -> "ActivationStore":
        """Make a store from existing rows; row ids number them in order. `overwrite`: replace a store in `out`, once
        the new one is complete.

        Raises ValueError for batches that are empty, not 2-D, of different widths or not finite, and if `out` is not
        empty.
        """
        import_batches(
            batches,
            out,
            hook_name=hook_name,
            dtype=dtype,
            rows_per_shard=rows_per_shard,
            seed=seed,
            overwrite=overwrite,
        )
        return cls.open(out)

    @classmethod
    @shows_progress
    def from_hidden_states(
        cls,
        files: str | Path | Sequence[str | Path],
        hook_names: Sequence[str],
        out: str | Path,
        *,
        n_ctx: int | None = None,
        dtype: str = "bfloat16",
        model_name: str = "",
        overwrite: bool = False,
        progress: Progress = no_progress,
    ) -> "ActivationStore":
        """Make a store from the residual streams written by vLLM's `extract_hidden_states`, one safetensors file per
        prompt (`activations.hidden_states`). An interrupted import resumes.

        files: a folder, whose files are read in order of their names, or a list of files.
        hook_names: a name for each layer, in the order of `eagle_aux_hidden_state_layer_ids`; layer i is
        blocks.i.hook_resid_pre.
        n_ctx: tokens per sequence, into which longer prompts are split; by default the length of the longest prompt.
        Shorter ones are padded with token 0, which has no rows there. All rows are kept; training leaves outliers out
        (`row_limit`).

        Raises ValueError, with the file, if one is missing or damaged, has another number of layers, tokens or units
        than the others, or has activations that are not finite, and if `out` contains something else.
        """
        import_hidden_states(
            files,
            tuple(hook_names),
            out,
            n_ctx=n_ctx,
            dtype=dtype,
            model_name=model_name,
            overwrite=overwrite,
            progress=progress,
        )
        return cls.open(out)

    @property
    def hook_names(self) -> tuple[str, ...]:
        return tuple(self.manifest["hooks"])

    @property
    def aliases(self) -> dict[str, list[str]]:
        """Further names of the hooks in the model."""
        return dict(self.manifest.get("aliases", {}))

    def name_of(self, hook: str) -> str:
        """Return the store's name for a hook, from any of its names in the model. Raises ValueError if the store lacks
        it."""
        return canonical_name_in(hook, self.hook_names, self.aliases, self.path)

    def d(self, hook: str) -> int:
        return self._hook(hook)["d"]

    def __len__(self) -> int:
        return self.manifest["n_rows"]

    def __repr__(self) -> str:
        hooks = ", ".join(f"{hook} ({self.d(hook)})" for hook in self.hook_names)
        return f"ActivationStore({len(self):,} rows of {hooks}, {self.manifest['dtype']})"

    def _repr_html_(self) -> str:
        listed = (*self.manifest.get("parts", self.manifest["shards"]), *self.manifest["files"].values())
        size = sum(file["bytes"] for file in listed)
        unit = "positions" if self.tokens is None else "tokens"
        schema_fields = {
            "sequences of": f"{self.n_ctx} {unit}" if self.n_ctx else None,
            "shards": self.n_shards,
            **{f"left out ({why})": f"{n:,} rows" for why, n in self.excluded.items() if n},
            "on disk": f"{size / 1e6:,.0f} MB",
            "folder": self.path,
        }
        return card(self, show_facts(schema_fields))

    @property
    def n_ctx(self) -> int | None:
        """Tokens per sequence, or positions per input; None if the rows do not come from a model."""
        return self.manifest["n_ctx"]

    @property
    def n_ids(self) -> int:
        """Number of rows of all sequences, including excluded ones: all row ids are below it."""
        return self.manifest["n_ids"]

    @property
    def excluded(self) -> dict[str, int]:
        """Rows left out, by reason: `token` (id), `position` (in the sequence) and `norm` (outlier)."""
        return dict(self.manifest["excluded"])

    @property
    def norm_limits(self) -> dict[str, float]:
        """Norms above which rows were left out, by hook; a hook without a limit is not in it."""
        return dict(self.manifest["norm_limits"] or {})

    @property
    def keeps_outliers(self) -> bool:
        """Whether the store was made to keep all rows, whatever their norm (`max_norm=None`)."""
        return self.manifest["norm_limits"] is None

    @property
    def weights(self) -> str | None:
        """Digest of the weights of the model that was harvested; None if the rows were imported."""
        return self.manifest[MADE_OF].get("weights")

    @property
    def provenance(self) -> Provenance:
        """The origin of the rows, which a dictionary trained on them records."""
        return Provenance.of(self.manifest)

    @property
    def location(self) -> str:
        """The folder, for messages."""
        return str(self.path)

    @property
    def n_shards(self) -> int:
        return len(self._files.layouts)

    @property
    def shard_rows(self) -> tuple[int, ...]:
        return tuple(layout.n_rows for layout in self._files.layouts)

    @cached_property
    def tokens(self) -> Int[Tensor, "seq pos"] | None:
        """Token ids of all sequences, excluded rows included, mapped from their file; None if the rows are not
        text."""
        if TOKENS_FILE not in self.manifest["files"]:
            return None
        tokens = self._files.side_file(TOKENS_FILE).get("tokens", torch.empty(0))
        shape = (self.manifest["n_ids"] // (self.n_ctx or 1), self.n_ctx)
        if tuple(tokens.shape) != shape or tokens.is_floating_point() or int(tokens.int().min()) < 0:
            raise DamagedError(
                f"{self.path / TOKENS_FILE} does not hold the token ids {shape} of the store: {STORE_REMEDY}"
            )
        return tokens.int()

    def statistics(self, hook: str) -> ActivationStatistics:
        hook = self.name_of(hook)
        numbers = {**self._hook(hook)}
        stored = self._files.side_file(STATISTICS_FILE)
        numbers.pop("d")
        tensors: dict[str, Any] = {name: stored.get(f"{hook}/{name}") for name in TENSORS}
        for name in ("mean", "geometric_median"):
            tensor = tensors[name]
            if tensor is None or tuple(tensor.shape) != (self.d(hook),) or not bool(tensor.isfinite().all()):
                where = self.path / STATISTICS_FILE
                raise DamagedError(
                    f"{where} does not hold a finite {name} [{self.d(hook)}] of {hook!r}: {STORE_REMEDY}"
                )
        return ActivationStatistics(n_rows=len(self), **tensors, **numbers)

    def row_limit(self, hook: str) -> RowLimit:
        """Return the limit of a hook's rows and their statistics, which training needs first.

        A store that was made with a limit has no row above it, and one with max_norm=None keeps all rows. Any other is
        searched for outliers: if there are some (a warning is logged), the statistics are computed from one shard
        without them.
        """
        hook = self.name_of(hook)
        statistics = self.statistics(hook)
        if hook in self.norm_limits or self.keeps_outliers:
            return RowLimit(self.norm_limits.get(hook), False, statistics)
        acts = self._longest_shard(hook)
        outliers = outliers_among(acts, statistics, self.n_ctx)
        if not outliers.are_dominant:
            return RowLimit(None, False, statistics)
        log.warning("%s in %s: %s. Nothing is trained on these rows", hook, self.path, outliers.summary)
        ordinary_acts = acts[is_within(acts, outliers.limit)]
        sums = running_sums(ordinary_acts.double(), torch.linalg.vector_norm(ordinary_acts.float(), dim=1))
        sample = evenly_spaced_rows(ordinary_acts, n_sample_rows(acts.shape[1]))
        return RowLimit(outliers.limit, True, statistics_of(sums, len(ordinary_acts), sample))

    def _longest_shard(self, hook: str) -> Float[Tensor, "row d"]:
        """Return the activations of the longest shard, since some shards may be empty."""
        return self.shard(max(range(self.n_shards), key=self.shard_rows.__getitem__), hook).acts

    def shard(self, index: int, hook: str) -> Shard:
        """Read one shard into memory. Raises ValueError for a number that no shard has."""
        if not 0 <= index < self.n_shards:
            raise InterpError(f"shard {index} must be in 0..{self.n_shards - 1}, the shards of the store")
        return Shard(self.row_ids(index), self._files.column(index, name=self.name_of(hook)))

    def row_ids(self, index: int) -> Int[Tensor, " row"]:
        """Return the ids of a shard's rows, ascending."""
        return self._files.column(index, name=ROW_IDS).long()

    def digest_of_row_ids(self, index: int) -> str:
        """Return the SHA-256 of the ids of a shard's rows. The manifest of a store that was written to an address has
        none, so the ids are read."""
        recorded = self.manifest["shards"][index].get("sha256")
        return recorded[ROW_IDS] if recorded else digest(self._files.column(index, name=ROW_IDS))

    def columns(self, hook: str | Sequence[str]) -> tuple[HookRows, ...]:
        dtype = DTYPES[self.manifest["dtype"]]
        return tuple(
            HookRows(partial(self._files.column, name=name), self.d(name), dtype, name, f"{self.digest}/{name}")
            for name in map(self.name_of, as_hook_names(hook))
        )

    def verify(self) -> None:
        """Check every byte. Raises ValueError with the first damaged file."""
        self._files.verify()

    def _hook(self, hook: str) -> dict[str, Any]:
        return self.manifest["hooks"][self.name_of(hook)]
