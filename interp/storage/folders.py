"""A folder that is written: one process holds it, and a manifest says what it holds when it is finished.

    with locked(folder): …                           # whoever writes to a folder holds it; a second one is refused
    write_manifest(folder, {"stage": "sae", …})      # the last file of a folder; "files" and its own "sha256" are added
    verify(folder / "sae_weights.safetensors")       # a file or a folder, against the nearest manifest that lists it
    with whole_folder(out) as new: …                 # makes a folder that appears whole or not at all

The lock is the system's, on the folder itself (flock): it leaves no file, and ends with the process, however that ends.

A manifest lists the folder's files with their sizes and SHA-256 sums. A folder inside with a manifest of its own
answers for what that lists; the outer one has its size, and asks it. What no manifest lists, such as a folder of
another program, has nothing to be compared with. A file is read for its sum once a process, unless it changes; with
INTERP_VERIFY=0 (`interp --no-verify`) only sizes are compared.
"""

import fcntl
import logging
import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from interp.storage.files import as_json, digest_file, digest_json, read_json, write_json
from interp.storage.folder_kinds import RUN_FILE, check_local

log = logging.getLogger(__name__)

MANIFEST = "manifest.json"

_verified: set[tuple[str, int, int, int]] = set()
"""Path, inode, size and time of change."""


@contextmanager
def locked(folder: str | Path) -> Iterator[None]:
    """Hold the folder, which is made where it is not there and removed if the block leaves it empty.

    Raises ValueError while another process holds it, and for an address such as s3://….
    """
    check_local(folder)
    folder = Path(folder)
    made = not folder.exists()
    folder.mkdir(parents=True, exist_ok=True)
    handle = os.open(folder, os.O_RDONLY)
    try:
        _take(handle, folder)
        yield
    finally:
        if made and folder.is_dir() and not any(folder.iterdir()):
            folder.rmdir()
        os.close(handle)


@contextmanager
def whole_folder(folder: str | Path) -> Iterator[Path]:
    """A path to make a folder at, which takes the place of `folder` when the block ends; after an error `folder` stays.

    Whoever calls it holds the lock of what both lie in. What a process left that was killed meanwhile is removed, or
    put back where it was killed between the two renames.
    """
    folder = Path(folder)
    work = folder.with_name(f".{folder.name}-unfinished")
    new, old = work / "new", work / "old"
    if old.exists() and not folder.exists():
        old.rename(folder)
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir(parents=True)
    try:
        yield new
        if folder.exists():
            folder.rename(old)
        try:
            new.rename(folder)
        except OSError:
            if old.exists():
                old.rename(folder)
            raise
    finally:
        shutil.rmtree(work)


def check_free(folder: str | Path) -> None:
    """Raises ValueError while another process holds the folder: to be asked before libraries that take seconds."""
    if Path(folder).is_dir():
        with locked(folder):
            pass


def write_manifest(folder: Path, content: dict[str, Any], names: Sequence[str] | None = None) -> dict[str, Any]:
    """names: the files that it answers for, by default all. Raises TypeError for content that is no JSON. Returns what
    is written."""
    files = {name: entry for name, entry in _listing(folder) if names is None or name in names}
    manifest = as_json({**content, "files": files})
    manifest["sha256"] = digest_json(manifest)
    write_json(folder / MANIFEST, manifest)
    return manifest


def read_manifest(folder: Path) -> dict[str, Any] | None:
    """None where there is none. Raises ValueError for one that is not as it was written."""
    file = folder / MANIFEST
    if not file.is_file():
        return None
    manifest = read_json(file, _remedy(folder))
    content = {name: value for name, value in manifest.items() if name != "sha256"}
    is_store = "sha256" not in manifest and "format" in manifest  # whose opening looks at each entry
    if not is_store and manifest.get("sha256") != digest_json(content):
        raise ValueError(f"{file} is altered: {_remedy(folder)}")
    return manifest


def verify(path: str | Path) -> None:
    """Raises ValueError for the first file, of those that the nearest manifest lists at or below `path`, that is
    missing or not as it was written."""
    path = Path(path).absolute()
    for folder in (path, *path.parents[:3]):
        files = (read_manifest(folder) or {}).get("files")
        if isinstance(files, dict):
            below = {name: entry for name, entry in files.items() if path in (folder / name, *(folder / name).parents)}
            for name, entry in below.items():
                _compare(folder, name, entry)
            for name in below:
                if name.endswith(f"/{MANIFEST}"):
                    verify((folder / name).parent)
            if below:
                return


def check_size(file: Path, n_bytes: int, remedy: str) -> None:
    """Raises ValueError for a file that is missing, or of another size."""
    if not file.is_file():
        raise ValueError(f"{file} is missing: {remedy}")
    if (there := file.stat().st_size) != n_bytes:
        fault = "truncated" if there < n_bytes else "altered"
        raise ValueError(f"{file} is {fault}: {there} bytes, {n_bytes} were written; {remedy}")


def is_whole(folder: Path, manifest: dict[str, Any]) -> bool:
    """Whether all files that the folder's manifest lists are there, in their size."""
    places = {folder / name: entry["bytes"] for name, entry in manifest["files"].items()}
    return all(file.is_file() and file.stat().st_size == size for file, size in places.items())


def _take(handle: int, folder: Path) -> None:
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        busy = f"{folder} is in use by another process"
        raise ValueError(f"{busy}: wait until it has ended, or choose another folder") from None
    except OSError as error:
        log.warning("%s cannot be locked (%s): see that no other process writes to it", folder, error.strerror)


def _listing(folder: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """Each file below the folder but its manifest and what is still being written."""
    answered: set[Path] = set()
    for inner in folder.rglob(f"*/{MANIFEST}"):
        there = read_manifest(inner.parent) or {}
        names = [*there.get("files", ()), *(shard["file"] for shard in there.get("shards", ()))]
        answered |= {inner.parent / name for name in names}
    for file in sorted(folder.rglob("*")):
        if not file.is_file() or file == folder / MANIFEST or file.suffix == ".tmp":
            continue
        sums = {} if file in answered else {"sha256": digest_file(file)}
        yield file.relative_to(folder).as_posix(), {"bytes": file.stat().st_size, **sums}


def _compare(folder: Path, name: str, entry: dict[str, Any]) -> None:
    file = folder / name
    check_size(file, entry["bytes"], _remedy(folder))
    stat = file.stat()
    key = str(file), stat.st_ino, stat.st_size, stat.st_mtime_ns
    if "sha256" not in entry or key in _verified or os.environ.get("INTERP_VERIFY") == "0":
        return
    if digest_file(file) != entry["sha256"]:
        raise ValueError(f"{file} is altered: it has another SHA-256 than {MANIFEST} says; {_remedy(folder)}")
    _verified.add(key)


def _remedy(folder: Path) -> str:
    """The remedy for a damaged folder: of a stage's folder, or one inside it, that the run makes it again."""
    for stage in (folder, *folder.parents[:2]):
        if (stage.parent / RUN_FILE).is_file():
            return f"delete {stage} and `interp run` makes it again"
    return f"make {folder} again, or delete its {MANIFEST} if you changed it yourself"
