"""The manifest of an activation store: what must be in it, and the files beside it, read as it says.

A store is refused before any memory is taken by what its manifest says: rows, widths and sizes must be those that the
files have, so that no number in it can be larger than the store itself. Bytes are held against their sums when they
are first read.
"""

from pathlib import Path
from typing import Annotated, Any, NotRequired

from pydantic import Field
from safetensors import SafetensorError
from safetensors.torch import load
from torch import Tensor
from typing_extensions import TypedDict

from interp.activations.shards import DTYPES, FORMAT, ROW_IDS, STATISTICS, Column, ShardLayout, columns_of
from interp.checks import Amount, Count, Digest, FileName, Finite, validated
from interp.files import digest, read_json

REMEDY = "harvest the store again"


class _Hook(TypedDict):
    d: Count
    mean_norm: Annotated[Finite, Field(ge=0)]
    variance: Finite
    second_moment_rows: Amount
    geometric_median_rows: Amount


class _Shard(TypedDict):
    file: FileName
    n_rows: Amount
    bytes: Amount
    sha256: dict[str, Digest]


class _File(TypedDict):
    bytes: Amount
    sha256: Digest


class _Outliers(TypedDict):
    """Of a sample of the rows, before any was left out: shares above the limit, or above 10 × the median norm."""

    median_norm: Finite
    rows: Finite
    variance: Finite


class Manifest(TypedDict):
    format: str
    config: dict[str, Any]
    model_name: NotRequired[str]
    prepend_bos: NotRequired[bool]
    dtype: str
    n_rows: Count
    n_ids: Count
    n_ctx: Count | None
    excluded: dict[str, Amount]
    norm_limits: NotRequired[dict[str, Annotated[Finite, Field(gt=0)]] | None]
    outliers: NotRequired[dict[str, _Outliers]]
    hooks: Annotated[dict[str, _Hook], Field(min_length=1)]
    shards: Annotated[list[_Shard], Field(min_length=1, max_length=1 << 20)]
    files: dict[FileName, _File]


class StoreFiles:
    """The tensors of a store. Raises ValueError, naming the file, for one that is not as it was written."""

    def __init__(self, path: Path, manifest: dict[str, Any]):
        self.path, self.manifest = path, manifest
        self.layouts = [ShardLayout(shard["n_rows"], _columns(manifest)) for shard in manifest["shards"]]
        self._checked: set[tuple[int, str]] = set()

    def column(self, i: int, into: Tensor | None = None, *, name: str) -> Tensor:
        """Of shard i; in the memory of `into`, if that is given."""
        file = self._shard(i)
        tensor = self.layouts[i].read(file, name, into=into)
        if (i, name) not in self._checked:
            if digest(tensor) != self.manifest["shards"][i]["sha256"][name]:
                raise _altered(file, f"its tensor {name!r}")
            self._checked.add((i, name))
        return tensor

    def small(self, name: str) -> dict[str, Tensor]:
        """A file beside the shards."""
        data = (self.path / name).read_bytes()
        if digest(data) != self.manifest["files"][name]["sha256"]:
            raise _altered(self.path / name, "it")
        try:
            return load(data)
        except SafetensorError as error:
            raise ValueError(f"{self.path / name} is damaged ({error}): {REMEDY}") from None

    def verify(self) -> None:
        """Every byte of all files."""
        check_sizes(self.path, self.manifest)
        self._checked.clear()
        for i, layout in enumerate(self.layouts):
            with open(self._shard(i), "rb") as stream:
                if stream.read(len(layout.header)) != layout.header:
                    raise _altered(self._shard(i), "its header")
            for column in layout.columns:
                self.column(i, name=column.name)
        for name in self.manifest["files"]:
            self.small(name)

    def _shard(self, i: int) -> Path:
        return self.path / self.manifest["shards"][i]["file"]


def read_store_manifest(file: Path) -> dict[str, Any]:
    """Raises ValueError for one that is damaged, or does not fit itself or the files beside it."""
    manifest = read_json(file, REMEDY)
    if manifest.get("format") != FORMAT:
        raise ValueError(f"{file} is not the manifest of an activation store of format {FORMAT}: {REMEDY}")
    validated(Manifest, manifest, file, REMEDY)
    if wrong := _misfit(manifest):
        raise ValueError(f"{file} is damaged, {wrong}: {REMEDY}")
    return manifest


def check_sizes(path: Path, manifest: dict[str, Any]) -> None:
    """Raises ValueError for a file that is missing, or of another size than the manifest says."""
    sizes = {shard["file"]: shard["bytes"] for shard in manifest["shards"]}
    for name, size in (sizes | {name: entry["bytes"] for name, entry in manifest["files"].items()}).items():
        file = path / name
        if not file.exists():
            raise ValueError(f"{file} is missing: {REMEDY}")
        found = file.stat().st_size
        if found != size:
            what = "truncated" if found < size else "altered"
            raise ValueError(f"{file} is {what}: {found} bytes, {size} were written; {REMEDY}")


def _altered(file: Path, what: str) -> ValueError:
    return ValueError(f"{file} is altered: {what} has another SHA-256 than the manifest says; {REMEDY}")


def _columns(manifest: dict[str, Any]) -> tuple[Column, ...]:
    widths = {hook: entry["d"] for hook, entry in manifest["hooks"].items()}
    return columns_of(manifest["n_ids"], widths, manifest["dtype"])


def _misfit(manifest: dict[str, Any]) -> str:
    """What of it does not fit the rest; "" if all does."""
    if manifest["dtype"] not in DTYPES:
        return f"dtype = {manifest['dtype']!r} is none of {', '.join(DTYPES)}"
    n_rows, n_ids, n_ctx, shards = (manifest[key] for key in ("n_rows", "n_ids", "n_ctx", "shards"))
    there = sum(shard["n_rows"] for shard in shards)
    if n_rows != there or n_rows > n_ids:
        return f"n_rows = {n_rows}, but its shards have {there} rows of {n_ids} ids"
    if n_ctx is not None and n_ids % n_ctx:
        return f"n_ids = {n_ids} is no multiple of n_ctx = {n_ctx}"
    if STATISTICS not in manifest["files"]:
        return f"it lists no {STATISTICS}"
    for shard in shards:
        size, names = ShardLayout(shard["n_rows"], _columns(manifest)).size, {ROW_IDS, *manifest["hooks"]}
        if shard["bytes"] != size:
            return f"{shard['file']} is said to have {shard['bytes']} bytes, its rows and hooks take {size}"
        if shard["sha256"].keys() != names:
            return f"{shard['file']} has sums of {', '.join(shard['sha256'])}, not of {', '.join(names)}"
    return ""
