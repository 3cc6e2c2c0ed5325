"""Manifests: what a finished folder holds and what made it.

    write_manifest(folder, {"made_of": …})           # the last file of a folder: its files, with sizes and SHA-256 sums
    verify(folder / "sae_weights.safetensors")       # a file or a folder, against the nearest manifest that lists it

A file that the manifest of an inner folder lists is compared with that one; the outer manifest has only its size. Files
that no manifest lists, such as those of another program, are not checked. A process reads each file once to compare its
sum, and again only if the file changes. With INTERP_VERIFY=0 (`interp --no-verify`) only sizes are compared.
"""

import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from interp.checks.errors import DamagedError
from interp.storage.addresses import RemoteAddress, read_object
from interp.storage.files import digest_file, digest_json, json_roundtrip, parse_any_json, read_any_json, write_json
from interp.storage.packages import versions_of

MANIFEST = "manifest.json"
RUN_FILE = "run.toml"
"""The file that identifies a run folder: its whole configuration."""
MADE_OF = "made_of"
"""The key of what the folder's content depends on, as digests and settings."""
EDITABLE_KEY = "editable"
"""The key that says that people and other tools may change the files."""
SYSTEM_FILES = (".DS_Store", "Thumbs.db")
"""Files that a file manager leaves, and changes, in a folder that somebody looks at. No folder's content has them."""
_OWN_KEYS = ("versions", "files", "sha256", "format")
"""Keys of which each manifest has at least three. A file with at most one of them is another program's, such as a
browser extension's: damage to one bit of ours changes one key at most."""
_MAX_SHOWN = 60

_verified: set[tuple[str, int, int, int]] = set()
"""Path, inode, size and time of change."""


def write_manifest(folder: Path, content: Mapping[str, Any]) -> dict[str, Any]:
    """Write the last file of a folder, with an entry for each of its files (`manifest_of`). Returns the written
    content."""
    manifest = manifest_of(content, dict(_listing(folder)))
    write_json(folder / MANIFEST, manifest)
    return manifest


def manifest_of(content: Mapping[str, Any], files: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """Return a manifest: the "versions" of interp or those of `content`, `content`, the "files", each with its "bytes"
    and "sha256", and its own "sha256". Raises TypeError for content that is not JSON."""
    manifest = json_roundtrip({"versions": versions_of("interp"), **content, "files": files})
    return {**manifest, "sha256": digest_json(manifest)}


def read_manifest(folder: Path | RemoteAddress) -> dict[str, Any] | None:
    """Read a folder's manifest; None if there is none of interp. Raises DamagedError if it was changed since it was
    written."""
    manifest = _read_unchecked(folder)
    return None if manifest is None else check_manifest(manifest, folder / MANIFEST, _remedy(folder))


def check_manifest(manifest: dict[str, Any], file: Path | RemoteAddress, remedy: str) -> dict[str, Any]:
    """Return a manifest. Raises DamagedError, naming its file, if it was changed since it was written."""
    content = {name: value for name, value in manifest.items() if name != "sha256"}
    if manifest.get("sha256") != digest_json(content):
        raise DamagedError(f"{file} is altered: {remedy}")
    return manifest


def verify(path: str | Path, *, edited: bool = True, remedy: str | None = None) -> None:
    """Compare the files at or below `path` with the nearest manifest that lists them.
    Raises DamagedError for the first file that is missing or changed.
    edited: accept changes to editable files.
    remedy: the end of the error; None for how to make the files again."""
    path = Path(path).absolute()
    for folder in (path, *path.parents[:3]):
        manifest = read_manifest(folder) or {}
        files = manifest.get("files")
        if isinstance(files, dict):
            if edited and manifest.get(EDITABLE_KEY):
                return
            below = {name: entry for name, entry in files.items() if path in (folder / name, *(folder / name).parents)}
            for name, entry in below.items():
                _compare(folder, name, entry, remedy or _remedy(folder))
            for name in below:
                if name.endswith(f"/{MANIFEST}"):
                    verify((folder / name).parent, remedy=remedy)
            if below:
                return


def has_all_files(folder: Path, manifest: dict[str, Any]) -> bool:
    """Return whether all files in the folder's manifest exist with the listed sizes."""
    sizes = {folder / name: entry["bytes"] for name, entry in manifest["files"].items()}
    return all(file.is_file() and file.stat().st_size == size for file, size in sizes.items())


def check_size(file: Path, n_bytes: int, remedy: str) -> None:
    """Check the size of a file. Raises DamagedError if it is missing or has another size."""
    if not file.is_file():
        raise DamagedError(f"{file} is missing: {remedy}")
    if (size := file.stat().st_size) != n_bytes:
        fault = "truncated" if size < n_bytes else "altered"
        raise DamagedError(f"{file} is {fault}: {size} bytes, {n_bytes} were written; {remedy}")


def describe_differences(before: Any, now: Mapping[str, Any]) -> str:
    """Return, in words, the differences between the settings of two works; "" if there are none."""
    before = before if isinstance(before, dict) else {}
    names = [name for name in sorted({*before, *now}) if before.get(name) != now.get(name)]
    if before.get("kind") != now.get("kind"):
        names = ["kind"]
    return "; ".join(_difference(name, repr(before.get(name)), repr(now.get(name))) for name in names)


def read_optional_json(file: Path | RemoteAddress, remedy: str) -> Any:
    """Read a JSON value, local or at an address; None if there is none."""
    if isinstance(file, Path):
        return read_any_json(file, remedy) if file.is_file() else None
    try:
        return parse_any_json(read_object(file), file, remedy)
    except FileNotFoundError:
        return None


def made_of_finished(folder: Path | RemoteAddress) -> Any:
    """Return the `made_of` of a finished folder; None if it is not a finished folder."""
    manifest = read_manifest(folder)
    return None if manifest is None else manifest.get(MADE_OF, {})


def listed_files(folder: Path | RemoteAddress) -> set[str] | None:
    """Return the files that a folder's manifest lists, and the manifest; None if it has none of interp, or a damaged
    one."""
    try:
        manifest = _read_unchecked(folder) or {}
        inside = (*manifest.get("shards", ()), *manifest.get("parts", ()))
        return {MANIFEST, *manifest["files"], *(entry["file"] for entry in inside if "file" in entry)}
    except (DamagedError, PermissionError, TypeError, KeyError, AttributeError):
        return None


def _read_unchecked(folder: Path | RemoteAddress) -> dict[str, Any] | None:
    """Read a folder's manifest, whether or not it was changed; None if there is none of interp."""
    manifest = read_optional_json(folder / MANIFEST, _remedy(folder))
    is_ours = isinstance(manifest, dict) and sum(key in manifest for key in _OWN_KEYS) > 1
    return manifest if is_ours else None


def _remedy(folder: Path | RemoteAddress) -> str:
    """Return the remedy for a damaged folder: for a stage's folder, or one inside it, to run the stage again."""
    again = f"make {folder} again with overwrite=True (--overwrite)"
    if isinstance(folder, RemoteAddress):
        return again
    for stage in (folder, *folder.parents[:2]):
        if (stage.parent / RUN_FILE).is_file():
            return f"delete {stage} and `interp run` makes it again"
    return f"{again}, or delete its {MANIFEST} if you changed it yourself"


def _difference(name: str, before: str, now: str) -> str:
    return f"{name} is {before}, not {now}" if max(len(before), len(now)) <= _MAX_SHOWN else f"not the same {name}"


def _listing(folder: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """List each file below the folder, except its manifest, files that are still being written, and SYSTEM_FILES."""
    answered: set[Path] = set()
    for inner in folder.rglob(f"*/{MANIFEST}"):
        read_manifest(inner.parent)  # so that a damaged one is an error
        answered |= {inner.parent / name for name in (listed_files(inner.parent) or set()) - {MANIFEST}}
    for file in sorted(folder.rglob("*")):
        if not file.is_file() or file == folder / MANIFEST or file.suffix == ".tmp" or file.name in SYSTEM_FILES:
            continue
        sums = {} if file in answered else {"sha256": digest_file(file)}
        yield file.relative_to(folder).as_posix(), {"bytes": file.stat().st_size, **sums}


def _compare(folder: Path, name: str, entry: dict[str, Any], remedy: str) -> None:
    file = folder / name
    check_size(file, entry["bytes"], remedy)
    stat = file.stat()
    key = str(file), stat.st_ino, stat.st_size, stat.st_mtime_ns
    if "sha256" not in entry or key in _verified or os.environ.get("INTERP_VERIFY") == "0":
        return
    if digest_file(file) != entry["sha256"]:
        raise DamagedError(f"{file} is altered: its SHA-256 differs from the one in {MANIFEST}; {remedy}")
    _verified.add(key)
