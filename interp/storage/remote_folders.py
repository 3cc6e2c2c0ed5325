"""Finished folders at addresses: written with their manifest last, and read through a local copy.

    path = local_path("s3://bucket/features")        # a verified local copy
    upload(folder, RemoteAddress("s3://bucket/sae"))       # every file, and then manifest.json

Without its manifest a folder at an address is not considered finished: readers refuse an interrupted upload, and the
next upload replaces it. Copies lie in ~/.cache/interp and stay there; whoever needs the space deletes them.
"""

import errno
import hashlib
import json
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from interp.checks.errors import DamagedError, InterpError
from interp.storage.addresses import (
    RemoteAddress,
    as_path,
    cache_folder,
    fetch_file,
    has_object,
    read_object,
    remove_object,
    write_file,
    write_object,
)
from interp.storage.files import digest_file, parse_json
from interp.storage.manifests import MANIFEST, check_manifest, listed_files, read_optional_json

BEGUN = "begun.json"
UNFINISHED = ".unfinished"
_UPLOADING = "uploading.json"
"""The note of all files that an interrupted upload may have left, those of the folder that it replaces included."""
_REMEDY = "copy the folder there again, or make it again with overwrite=True"


def local_path(path: str | Path) -> Path:
    """Return a local path: the path itself or, for an address, a copy of the finished folder there, or of the named
    part of one. Raises ValueError if there is no folder of ours, and DamagedError if it is not
    whole."""
    address = as_path(path)
    if isinstance(address, Path):
        return address
    above, _, name = address.rpartition("/")
    for folder, inside in ((address, ""), (RemoteAddress(above), name)):
        with suppress(FileNotFoundError):
            data = read_object(folder / MANIFEST)
            copy = _copy_of(folder, data)
            if (copy / inside).exists():
                return copy / inside
    if has_object(address / BEGUN):
        raise DamagedError(f"{address} holds a folder that is not finished: run what writes it again")
    raise InterpError(f"{address} holds no finished folder: copy one there, its {MANIFEST} last")


def upload(folder: Path, address: RemoteAddress) -> None:
    """Upload a finished folder to an address, replacing any existing one."""
    names = listed_files(folder) or set()
    before = (listed_files(address) or set()) | set(read_optional_json(address / _UPLOADING, f"delete {address}") or ())
    write_object(address / _UPLOADING, json.dumps(sorted(before | names)).encode())
    remove_object(address / MANIFEST)
    for name in sorted(names - {MANIFEST}):
        write_file(address / name, folder / name)
    write_file(address / MANIFEST, folder / MANIFEST)
    for name in (*sorted(before - names), BEGUN, _UPLOADING):
        remove_object(address / name)


def _copy_of(address: RemoteAddress, manifest: bytes) -> Path:
    """Return a copy of the folder with this manifest, made if it does not exist."""
    cache = cache_folder()
    copy = cache / hashlib.sha256(manifest).hexdigest()[:32]
    if copy.exists():
        return copy
    cache.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(dir=cache, prefix="copying-") as folder:
        new = Path(folder) / "new"
        new.mkdir()
        (new / MANIFEST).write_bytes(manifest)
        _fill(address, new, manifest)
        try:
            new.rename(copy)
        except OSError as error:
            if error.errno not in (errno.EEXIST, errno.ENOTEMPTY):  # these: another process was first
                raise
    return copy


def _fill(address: RemoteAddress, folder: Path, data: bytes) -> None:
    """Copy the files in a manifest, of which these are the bytes. Raises DamagedError for a file that is missing or
    differs from the manifest."""
    manifest = _parse_manifest(data, address / MANIFEST)
    if "shards" in manifest:
        raise InterpError(f"{address} is an activation store, which ActivationStore.open reads where it lies")
    editable = bool(manifest.get("editable"))
    sums = {}
    for name in manifest["files"]:
        if not (folder / name).resolve().is_relative_to(folder.resolve()):
            raise DamagedError(f"{address / MANIFEST} lists {name}, which lies outside the folder")
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        try:
            fetch_file(address / name, folder / name)
        except FileNotFoundError:
            raise DamagedError(f"{address / name} is missing, but {MANIFEST} lists it: {_REMEDY}") from None
        sums[name] = digest_file(folder / name)
    for listing in [MANIFEST, *(name for name in sums if name.endswith(f"/{MANIFEST}"))]:
        files = _parse_manifest((folder / listing).read_bytes(), address / listing)["files"]
        for name, entry in {} if editable else files.items():
            below = listing.removesuffix(MANIFEST) + name
            if sums[below] != entry.get("sha256", sums[below]):
                raise DamagedError(
                    f"{address / below} is altered: it has another SHA-256 than {listing} says; {_REMEDY}"
                )


def _parse_manifest(data: bytes, address: RemoteAddress) -> dict[str, Any]:
    return check_manifest(parse_json(data, address, _REMEDY), address, _REMEDY)
