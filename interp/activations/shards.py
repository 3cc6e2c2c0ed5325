"""The files of an activation store: the layout of a shard, the requirements on the manifest, and checked reading.

A shard of n rows is one safetensors file: `row_ids` [n], then a tensor [n, d] a hook, each at an offset that depends
only on n and the widths. So a shard can be filled in any order by plain writes, and every safetensors reader can open
it.

The manifest is checked before memory is allocated by it: rows, widths and sizes must match the files, so that no number
in it can be larger than the store itself. Bytes are checked against their checksums when they are first read.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, NamedTuple, NotRequired

import torch
from jaxtyping import Float
from pydantic import Field
from safetensors import SafetensorError
from safetensors.torch import load
from torch import Tensor
from typing_extensions import TypedDict

from interp.checks.errors import DamagedError, InterpError
from interp.checks.json_values import AtLeastOne, AtLeastZero, Digest, FileName, Finite, validate_json
from interp.storage.addresses import RemoteAddress
from interp.storage.artifacts import check_exists
from interp.storage.files import digest, digest_file, read_json, read_tensors, tensors_header
from interp.storage.folders import unfinished_folder
from interp.storage.format_numbers import check_format
from interp.storage.manifests import MANIFEST, check_manifest, check_size

DTYPES = {"bfloat16": torch.bfloat16, "float16": torch.float16, "float32": torch.float32}
STORE_FORMAT = "interp.activations/1"
ROW_IDS = "row_ids"
PROGRESS_FILE, TOKENS_FILE, STATISTICS_FILE = (f"{name}.safetensors" for name in ("progress", "tokens", "statistics"))
STORE_REMEDY = "harvest the store again"


class ShardColumn(NamedTuple):
    """One tensor of a shard: [row] if width is 0, else [row, width]."""

    name: str
    dtype: torch.dtype
    width: int

    @property
    def row_bytes(self) -> int:
        return self.dtype.itemsize * max(self.width, 1)


@dataclass(frozen=True)
class ShardLayout:
    """The places of a shard's tensors in its safetensors file: its header, then the columns in order."""

    n_rows: int
    columns: tuple[ShardColumn, ...]

    @property
    def header(self) -> bytes:
        return self.header_with(None)

    def header_with(self, metadata: Mapping[str, str] | None) -> bytes:
        shapes = {c: (self.n_rows, c.width) if c.width else (self.n_rows,) for c in self.columns}
        entries = ((c.name, c.dtype, shape, self.n_rows * c.row_bytes) for c, shape in shapes.items())
        return tensors_header(entries, metadata, align=64)

    @property
    def size(self) -> int:
        return len(self.header) + self.n_rows * sum(column.row_bytes for column in self.columns)

    def column(self, name: str) -> ShardColumn:
        return next(column for column in self.columns if column.name == name)

    def offset(self, name: str, row: int = 0) -> int:
        """Return the byte at which a row of a column starts."""
        before = self.columns[: self.columns.index(self.column(name))]
        rows = self.n_rows * sum(column.row_bytes for column in before)
        return len(self.header) + rows + row * self.column(name).row_bytes

    def buffer(self, name: str, n_rows: int | None = None, into: Tensor | None = None) -> Tensor:
        """Return memory for the first `n_rows` rows (all by default) of a column; that of `into` if given."""
        column = self.column(name)
        n_rows = self.n_rows if n_rows is None else n_rows
        n_values = n_rows * max(column.width, 1)
        values = torch.empty(n_values, dtype=column.dtype) if into is None else into.view(-1)[:n_values]
        return values.view(n_rows, column.width) if column.width else values

    def read(self, file: Path, name: str, n_rows: int | None = None, *, into: Tensor | None = None) -> Tensor:
        """Return the first `n_rows` rows (all by default) of a column, in the memory of `into` if given."""
        tensor = self.buffer(name, n_rows, into)
        data = tensor.view(-1).view(torch.uint8).numpy()
        with open(file, "rb") as stream:
            stream.seek(self.offset(name))
            n_bytes = stream.readinto(data.data)
        if n_bytes < len(data):
            raise DamagedError(f"{file} is truncated: {n_bytes} bytes of {name!r}, {len(data)} expected")
        return tensor


class _Hook(TypedDict):
    d: AtLeastOne
    mean_norm: Annotated[Finite, Field(ge=0)]
    variance: Finite
    second_moment_rows: AtLeastZero
    geometric_median_rows: AtLeastZero


class _Shard(TypedDict):
    file: FileName
    n_rows: AtLeastZero
    bytes: AtLeastZero
    sha256: dict[str, Digest]


class _File(TypedDict):
    bytes: AtLeastZero
    sha256: Digest


class _Outliers(TypedDict):
    """Outliers in a sample, before any was left out: shares above the limit, or above 10 × the median norm."""

    median_norm: Finite
    rows: Finite
    variance: Finite


class _Manifest(TypedDict):
    format: str
    made_of: dict[str, Any]
    model_name: NotRequired[str]
    aliases: NotRequired[dict[str, list[str]]]
    prepend_bos: NotRequired[bool]
    dtype: str
    n_rows: AtLeastOne
    n_ids: AtLeastOne
    n_ctx: AtLeastOne | None
    excluded: dict[str, AtLeastZero]
    norm_limits: dict[str, Annotated[Finite, Field(gt=0)]] | None
    """The norm above which rows were left out, by hook; a hook without outliers, or of imported rows, has none. None,
    not {}, if all rows were to be kept (`max_norm=None`)."""
    outliers: NotRequired[dict[str, _Outliers]]
    hooks: Annotated[dict[str, _Hook], Field(min_length=1)]
    shards: Annotated[list[_Shard], Field(min_length=1, max_length=1 << 20)]
    files: dict[FileName, _File]


class StoreFiles:
    """The tensors of a store. Raises DamagedError, with the file, if it was changed."""

    def __init__(self, path: Path, manifest: dict[str, Any]):
        self.path, self.manifest = path, manifest
        self.layouts = [ShardLayout(shard["n_rows"], columns_in(manifest)) for shard in manifest["shards"]]
        self._checked: set[tuple[int, str]] = set()

    def column(self, index: int, into: Tensor | None = None, *, name: str) -> Tensor:
        """Return a column of shard `index`; in the memory of `into`, if that is given."""
        file = self._shard(index)
        tensor = self.layouts[index].read(file, name, into=into)
        if (index, name) not in self._checked:
            if digest(tensor) != self.manifest["shards"][index]["sha256"][name]:
                raise damaged_part_error(file, f"its tensor {name!r}")
            self._checked.add((index, name))
        return tensor

    def side_file(self, name: str) -> dict[str, Tensor]:
        """Return a file next to the shards, mapped: its bytes are not held beside what is made of them."""
        file = self.path / name
        if digest_file(file) != self.manifest["files"][name]["sha256"]:
            raise damaged_part_error(file, "it")
        return read_tensors(file, STORE_REMEDY)

    def verify(self) -> None:
        """Check every byte of all files."""
        _check_sizes(self.path, self.manifest)
        self._checked.clear()
        for i, layout in enumerate(self.layouts):
            with open(self._shard(i), "rb") as stream:
                if stream.read(len(layout.header)) != layout.header:
                    raise damaged_part_error(self._shard(i), "its header")
            for column in layout.columns:
                self.column(i, name=column.name)
        for name in self.manifest["files"]:
            self.side_file(name)

    def _shard(self, index: int) -> Path:
        return self.path / self.manifest["shards"][index]["file"]


def as_stored_in_float32(x: Float[Tensor, "row d"], stored: torch.dtype) -> Float[Tensor, "row d"]:
    """Return rows in float32, rounded first if they are to be stored in float16: it may overflow, which must be seen
    before they are stored."""
    return x.to(stored).float() if stored == torch.float16 else x.float()


def overflow_hint(stored: torch.dtype) -> str:
    """Return what an error about activations that are not finite says of the type in which they are stored."""
    return "; float16 ends at 65504, bfloat16 does not" if stored == torch.float16 else ""


def columns_of(n_ids: int, widths: Mapping[str, int], dtype: str) -> tuple[ShardColumn, ...]:
    """Return the columns of a store whose row ids lie in 0..n_ids-1 and whose hooks have these widths."""
    ids = ShardColumn(ROW_IDS, torch.int32 if n_ids <= 2**31 else torch.int64, 0)
    return ids, *(ShardColumn(name, DTYPES[dtype], d) for name, d in widths.items())


def remove_store_files(folder: Path) -> None:
    """Remove a store's files, finished or not; other files stay."""
    for name in (
        MANIFEST,
        PROGRESS_FILE,
        TOKENS_FILE,
        STATISTICS_FILE,
    ):  # the manifest first: without it the store is not considered finished
        (folder / name).unlink(missing_ok=True)
        (folder / f"{name}.tmp").unlink(missing_ok=True)
    for pattern in ("shard-*.partial", "shard-*.safetensors", "shard-*.tmp"):
        for file in folder.glob(pattern):
            file.unlink(missing_ok=True)


def read_store_manifest(path: Path) -> dict[str, Any]:
    """Return the manifest of a finished store. Raises ValueError if there is none, and DamagedError for a manifest that
    is damaged, inconsistent, or does not match the files."""
    file = path / MANIFEST
    if not file.exists():
        if unfinished_folder(path).is_dir():
            raise DamagedError(f"{path} holds a store that was cut off: run the same harvest again to finish it")
        check_exists(path, "activations")
        raise InterpError(f"{path} holds no activation store, it has no {MANIFEST}: harvest it again")
    manifest = check_store_manifest(read_json(file, STORE_REMEDY), file)
    _check_sizes(path, manifest)
    return manifest


def check_store_manifest(manifest: dict[str, Any], file: Path | RemoteAddress) -> dict[str, Any]:
    """Return a manifest that belongs to a store and is consistent. Raises DamagedError, naming its file, if it is not
    one, or was changed since it was written."""
    check_format(manifest.get("format"), STORE_FORMAT, file)
    if manifest.get("format") != STORE_FORMAT:
        raise DamagedError(
            f"{file} is damaged, or is not the manifest of an activation store ({STORE_FORMAT}): {STORE_REMEDY}"
        )
    manifest = check_manifest(manifest, file, STORE_REMEDY)
    validate_json(_Manifest, manifest, file, STORE_REMEDY)
    if wrong := _misfit(manifest):
        raise DamagedError(f"{file} is damaged, {wrong}: {STORE_REMEDY}")
    return manifest


def side_file_tensors(data: bytes, manifest: dict[str, Any], file: Path | RemoteAddress) -> dict[str, Tensor]:
    """Return the tensors in the bytes of a file next to the shards. Raises DamagedError if they differ from the
    manifest."""
    if digest(data) != manifest["files"][file.name]["sha256"]:
        raise damaged_part_error(file, "it")
    try:
        return load(data)
    except SafetensorError as error:
        raise DamagedError(f"{file} is damaged ({error}): {STORE_REMEDY}") from None


def _check_sizes(path: Path, manifest: dict[str, Any]) -> None:
    """Check the sizes of the store's files. Raises DamagedError for a file that is missing or has another size than
    in the manifest."""
    sizes = {shard["file"]: shard["bytes"] for shard in manifest["shards"]}
    for name, size in (sizes | {name: entry["bytes"] for name, entry in manifest["files"].items()}).items():
        check_size(path / name, size, STORE_REMEDY)


def damaged_part_error(file: Path | RemoteAddress, part: str) -> DamagedError:
    return DamagedError(f"{file} is altered: {part} has another SHA-256 than the manifest says; {STORE_REMEDY}")


def columns_in(manifest: dict[str, Any]) -> tuple[ShardColumn, ...]:
    """Return the columns of the store that a manifest describes."""
    widths = {hook: entry["d"] for hook, entry in manifest["hooks"].items()}
    return columns_of(manifest["n_ids"], widths, manifest["dtype"])


def _misfit(manifest: dict[str, Any]) -> str:
    """Return the inconsistency in a manifest; "" if there is none."""
    if manifest["dtype"] not in DTYPES:
        return f"dtype = {manifest['dtype']!r} is none of {', '.join(DTYPES)}"
    n_rows, n_ids, n_ctx, shards = (manifest[key] for key in ("n_rows", "n_ids", "n_ctx", "shards"))
    rows_of_shards = sum(shard["n_rows"] for shard in shards)
    if n_rows != rows_of_shards or n_rows > n_ids:
        return f"n_rows = {n_rows}, but its shards have {rows_of_shards} rows of {n_ids} ids"
    if n_ctx is not None and n_ids % n_ctx:
        return f"n_ids = {n_ids} is not a multiple of n_ctx = {n_ctx}"
    if STATISTICS_FILE not in manifest["files"]:
        return f"it lists no {STATISTICS_FILE}"
    for shard in shards:
        size = ShardLayout(shard["n_rows"], columns_in(manifest)).size
        names = {ROW_IDS, *manifest["hooks"]}
        if shard["bytes"] != size:
            return f"{shard['file']} is listed with {shard['bytes']} bytes, its rows and hooks take {size}"
        if shard["sha256"].keys() != names:
            return f"{shard['file']} has sums of {', '.join(shard['sha256'])}, not of {', '.join(names)}"
    return ""
