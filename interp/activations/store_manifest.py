"""The manifest of an activation store: what must be in it, and what of it must fit the files beside it.

A store is refused before any memory is taken by what its manifest says: rows, widths and sizes must be those that the
files have, so that no number in it can be larger than the store itself.
"""

from pathlib import Path
from typing import Annotated, Any, NotRequired

from pydantic import Field

from interp.activations.shards import DTYPES, FORMAT, ROW_IDS, STATISTICS, ShardLayout, columns_of
from interp.files import read_json
from interp.validated import STRICT, Amount, Count, Digest, FileName, TypedDict, validated

REMEDY = "harvest the store again"


class _Hook(TypedDict):
    __pydantic_config__ = STRICT  # type: ignore[misc]
    d: Count
    mean_norm: Annotated[float, Field(ge=0)]
    variance: float
    second_moment_rows: Amount
    geometric_median_rows: Amount


class _Shard(TypedDict):
    __pydantic_config__ = STRICT  # type: ignore[misc]
    file: FileName
    n_rows: Amount
    bytes: Amount
    sha256: dict[str, Digest]


class _File(TypedDict):
    __pydantic_config__ = STRICT  # type: ignore[misc]
    bytes: Amount
    sha256: Digest


class _Outliers(TypedDict):
    """Of a sample of the rows, before any was left out: shares above the limit, or above 10 × the median norm."""

    __pydantic_config__ = STRICT  # type: ignore[misc]
    median_norm: float
    rows: float
    variance: float


class Manifest(TypedDict):
    __pydantic_config__ = STRICT  # type: ignore[misc]
    format: str
    config: dict[str, Any]
    model_name: NotRequired[str]
    prepend_bos: NotRequired[bool]
    dtype: str
    n_rows: Count
    n_ids: Count
    n_ctx: Count | None
    excluded: dict[str, Amount]
    norm_limits: NotRequired[dict[str, Annotated[float, Field(gt=0)]] | None]
    outliers: NotRequired[dict[str, _Outliers]]
    hooks: Annotated[dict[str, _Hook], Field(min_length=1)]
    shards: Annotated[list[_Shard], Field(min_length=1, max_length=1 << 20)]
    files: dict[FileName, _File]


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
    columns = columns_of(n_ids, {hook: entry["d"] for hook, entry in manifest["hooks"].items()}, manifest["dtype"])
    for shard in shards:
        size, names = ShardLayout(shard["n_rows"], columns).size, {ROW_IDS, *manifest["hooks"]}
        if shard["bytes"] != size:
            return f"{shard['file']} is said to have {shard['bytes']} bytes, its rows and hooks take {size}"
        if shard["sha256"].keys() != names:
            return f"{shard['file']} has sums of {', '.join(shard['sha256'])}, not of {', '.join(names)}"
    return ""
