"""Stores of activations at an address (s3://bucket/store): written without a disk, read through a bounded cache.

    begun.json              the inputs of the store, while it is unfinished
    part-00000.safetensors  some rows, those of each shard together: row_ids [row] and one tensor [row, d] a hook. Its
                            header says where the rows of each shard end, has a SHA-256 of each shard's rows of each
                            tensor, and the state of the harvest after them
    tokens.safetensors, statistics.safetensors, manifest.json        as in a folder; the manifest comes last

Rows are buffered until a part is full (256 MB), and are written at once while the next part fills. Each part has rows
of all shards, and a shard is the concatenation of its rows in all parts: the same rows in the same order as in a
folder, so that reading shard by shard is a shuffle of all rows here as well.

A local store that was copied to an address can also be read there, a range of a shard at a time.

An interrupted harvest resumes after the last finished part, with the same rows, on any machine. Reading requests a
range of each part, checks it against its checksum, and caches it in a temporary folder of at most INTERP_CACHE_GB (10)
until the process ends; `ActivationBatches` reads the next shard while the rows of one are used. Two processes that
write the same store are not locked out: they write the same bytes.
"""

import json
from typing import Any

from typing_extensions import TypedDict

from interp.activations.shards import STORE_FORMAT, STORE_REMEDY, check_store_manifest
from interp.checks.errors import DamagedError, InterpError
from interp.checks.json_values import AtLeastOne, AtLeastZero, Digest, FileName, validate_json
from interp.storage.addresses import RemoteAddress, has_object, read_object, remove_object
from interp.storage.files import digest, parse_json
from interp.storage.manifests import MANIFEST, check_manifest, listed_files
from interp.storage.remote_folders import BEGUN

REMOTE_FORMAT = f"{STORE_FORMAT}/parts"


class _Part(TypedDict):
    file: FileName
    bytes: AtLeastZero
    head: AtLeastOne
    """Bytes of the header."""
    sha256: Digest
    """SHA-256 of the header."""


class _Parts(TypedDict):
    shards: list[dict[str, AtLeastZero]]
    parts: list[_Part]


def read_remote_manifest(address: RemoteAddress) -> tuple[dict[str, Any], str]:
    """Return the manifest of a finished store, and its digest. Raises ValueError if there is none, and
    DamagedError for a damaged one."""
    try:
        data = read_object(address / MANIFEST)
    except FileNotFoundError:
        if has_object(address / BEGUN):
            raise DamagedError(
                f"{address} holds a store that was cut off: run the same harvest again to finish it"
            ) from None
        raise InterpError(f"{address} holds no activation store: `interp harvest` makes one") from None
    manifest = parse_json(data, address / MANIFEST, STORE_REMEDY)
    if manifest.get("format") != REMOTE_FORMAT:
        return check_store_manifest(manifest, address / MANIFEST), digest(data)
    manifest = check_manifest(manifest, address / MANIFEST, STORE_REMEDY)
    parts = {name: manifest.get(name) for name in ("shards", "parts")}
    validate_json(_Parts, parts, address / MANIFEST, STORE_REMEDY)
    return manifest, digest(data)


def remove_store_objects(address: RemoteAddress) -> None:
    """Remove a store, the manifest first: without it the store is not considered finished."""
    listed = listed_files(address) or set()
    for name in (MANIFEST, BEGUN, *sorted(listed - {MANIFEST})):
        remove_object(address / name)
    number = 0
    while has_object(address / part_name(number)):
        remove_object(address / part_name(number))
        number += 1


def part_name(number: int) -> str:
    return f"part-{number:05d}.safetensors"


def contents_of(header: bytes) -> dict[str, Any]:
    """Return what the header of a part says besides the places of its columns."""
    return json.loads(json.loads(header[8:])["__metadata__"]["head"])
