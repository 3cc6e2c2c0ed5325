"""Write folders that appear complete or not at all, with a manifest of what they hold and what made them.

    with whole_folder(out, made_of) as new: …        # fill `new`, which becomes `out` when the block ends
    is_finished(out, made_of)                        # whether `out` is the finished result of the same work
    verify(folder / "sae_weights.safetensors")       # a file or a folder, against the nearest manifest that lists it
    with locked(folder): …                           # a writer holds the folder; a second one is refused

This is the rule for everything that writes a folder. `made_of` says what the work depends on, as digests and settings.
Unfinished work is in `OUT.unfinished`, where the same work resumes after a kill. `out` may be a new folder, an empty
one, or one with earlier work: the same work is kept, other work is replaced only if the caller passes
`overwrite=True`, and files that interp did not write are never touched. Nothing is written inside a run folder
or another finished folder. A single file, which no manifest says to be ours, is replaced only with `overwrite=True`
(`check_output_file`).

`out` may be an address, such as s3://bucket/features. The work then lies in ~/.cache/interp, where it goes on after a
kill, with a note (begun.json) at the address, and is put there once it is whole (`remote_folders.upload`).

The lock is the system's, on the folder itself (flock): it leaves no file, and is released when the process ends in any
way.

A manifest lists the folder's files with their sizes and SHA-256 sums. Files that a manifest further inside lists are
compared with that one, and the outer manifest has only their sizes. Files that no manifest lists, such as those of
another program, are not checked. A file is read for its sum once per process, unless it changes; with INTERP_VERIFY=0
(`interp --no-verify`) only sizes are compared.
"""

import fcntl
import json
import logging
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from interp.storage.addresses import (
    Address,
    address_of,
    cache_folder,
    check_local,
    read_object,
    remove_object,
    write_object,
)
from interp.storage.files import as_json, digest, digest_file, digest_json, read_json, write_json
from interp.storage.folder_kinds import RUN_FILE
from interp.storage.remote_folders import BEGUN, MANIFEST, UNFINISHED, listed_files, upload

log = logging.getLogger(__name__)

MADE_OF, EDITABLE = "made_of", "editable"
_OF_WORK = {BEGUN, f"{BEGUN}.tmp", "new", "old", "new.unfinished"}
_SHOWN = 60
_OF_THE_SYSTEM = (".DS_Store", "Thumbs.db")

_verified: set[tuple[str, int, int, int]] = set()
"""Path, inode, size and time of change."""


@contextmanager
def locked(folder: str | Path, *, name: str | Path | None = None) -> Iterator[None]:
    """Hold the lock of a folder, which is created if necessary, and removed if it is empty after the block.

    Raises ValueError while another process holds it, and for an address such as s3://…; `name` is the folder's name in
    the error.
    """
    check_local(folder)
    folder = Path(folder)
    made = not folder.exists()
    handle = _open_locked(folder, name or folder)
    try:
        yield
    finally:
        if made and folder.is_dir() and not any(folder.iterdir()):
            folder.rmdir()
        os.close(handle)


@contextmanager
def whole_folder(
    out: str | Path,
    made_of: Mapping[str, Any],
    *,
    resume: bool | None = None,
    overwrite: bool = False,
    editable: bool = False,
    run: Path | None = None,
) -> Iterator[Path]:
    """Yield a folder to fill. When the block ends it replaces `out`; after an error or a kill `out` is unchanged.

    made_of: JSON of what its content depends on; it is written to a manifest at the end, unless the block wrote one.
    resume: True resumes interrupted work with the same `made_of`, False starts again; None is for a block that cannot
    resume: after an error its files are removed.
    overwrite: replace other work, and our files that were changed since.
    editable: people and other tools may change the files, and `verify` accepts the changes; without `overwrite` a
    changed folder is still not replaced.
    run: the run folder that this folder belongs to, if any; writing inside another run folder is refused.

    Raises ValueError for an `out` that may not be written or replaced (`check_output`), and while another process
    writes it.
    """
    address, work = address_of(out), unfinished(out)
    made_of = as_json(made_of)
    check_output(out, made_of, overwrite=overwrite, run=run)
    work.parent.mkdir(parents=True, exist_ok=True)
    with locked(work, name=address or out):
        restore_replaced(out)
        check_output(out, made_of, overwrite=overwrite, run=run)
        new = work / "new"
        was_whole = MADE_OF in (read_manifest(new) or {})  # and what it went through may be gone
        if was_whole or not (resume and _made_of_interrupted(work) == made_of):
            for path in (new, unfinished(new)):
                shutil.rmtree(path, ignore_errors=True)
        begun = {MADE_OF: made_of, "resumes": resume is not None}
        if address is not None:
            write_object(address / BEGUN, json.dumps(begun).encode())
        write_json(work / BEGUN, begun)
        new.mkdir(exist_ok=True)
        try:
            yield new
            if _made_of_finished(new) != made_of:
                write_manifest(new, {MADE_OF: made_of, **({EDITABLE: True} if editable else {})})
            _put_in_place(out)
        except BaseException:
            if resume is None or not any(path.is_file() and path.name != BEGUN for path in work.rglob("*")):
                shutil.rmtree(work)
                if address is not None:
                    with suppress(OSError):  # what went wrong before is to be told
                        remove_object(address / BEGUN)
            raise
        shutil.rmtree(work)


def is_finished(out: str | Path, made_of: Mapping[str, Any]) -> bool:
    """Return whether `out` is the finished result of this work. What a process had finished when it was killed is put
    there."""
    made_of = as_json(made_of)
    place, work = address_of(out) or Path(out), unfinished(out)
    if (work / "old").is_dir() or (work / "new" / MANIFEST).is_file():
        with locked(work, name=out):
            restore_replaced(out)
            is_ours = (read_manifest(work / "new") or {}).get(MADE_OF) == made_of
            if is_ours and _made_of_finished(place) is None:
                check_output(out, made_of)
                _put_in_place(out)
                shutil.rmtree(work)
    return _made_of_finished(place) == made_of


def restore_replaced(out: str | Path) -> None:
    """Restore a folder that a killed process had moved away, or delete it if its replacement is in place."""
    old = unfinished(out) / "old"
    if old.exists() and not Path(out).exists():
        old.rename(Path(out).resolve())
    elif old.exists():
        shutil.rmtree(old)


def unfinished(out: str | Path) -> Path:
    """Return the folder of the unfinished work on `out`: the files are in its `new`, next to a note of `made_of`. For
    an address it is a folder of this machine's cache."""
    address = address_of(out)
    place = Path(out).resolve() if address is None else cache_folder() / digest(address)[:32]
    return place.with_name(f"{place.name}{UNFINISHED}")


def interrupted_work(out: str | Path) -> Any:
    """Return the `made_of` of interrupted work on a folder that can resume; None if there is none."""
    return _made_of_interrupted(unfinished(out))


def check_output(
    out: str | Path, made_of: Mapping[str, Any] | None = None, *, overwrite: bool = False, run: Path | None = None
) -> None:
    """Check that a folder may be written at `out`: it does not exist, is empty or was written by interp, and its
    finished or interrupted work is the same (or anything, if `made_of` is None) or may be overwritten. Raises
    ValueError if not."""
    if (address := address_of(out)) is not None:
        if made_of is not None and not overwrite:
            _check_same_work(address, address, address, made_of)
        return
    folder = Path(out).resolve()
    work = unfinished(out)
    check_outside(out, run=run)
    if (folder / RUN_FILE).is_file():
        raise ValueError(f"{out} is a run folder, which only `interp run` writes: name another")
    if folder.is_mount() or Path.cwd().is_relative_to(folder):
        raise ValueError(f"{out} is the current folder, or a disk: name a folder inside it")
    if folder.exists() and not folder.is_dir():
        raise ValueError(f"{out} is a file: name a folder")
    if strange := _first_foreign_file(folder, any_file=run is None):
        raise ValueError(
            f"{strange} was not written by interp and would be lost: choose another folder, or move it away"
        )
    if work.exists() and not {file.name for file in work.iterdir()} <= _OF_WORK:
        raise ValueError(f"{work}, where {out} would be made, was not written by interp: choose another folder")
    if made_of is None or overwrite:
        return
    _check_same_work(out, folder, work, made_of)
    try:
        verify(folder, edited=False)
    except ValueError as error:
        changed = str(error).partition(";")[0]
        raise ValueError(
            f"{changed}, and would be lost: choose another folder, or replace it with overwrite=True (--overwrite)"
        ) from None


def _check_same_work(out: str | Path, folder: Path | Address, work: Path | Address, made_of: Mapping[str, Any]) -> None:
    for made_before, how in ((_made_of_finished(folder), "holds"), (_made_of_interrupted(work), "was begun as")):
        if made_before is not None and (differs := differences(made_before, as_json(made_of))):
            raise ValueError(
                f"{out} {how} other work: {differs}; choose another folder, or replace it with overwrite=True "
                "(--overwrite)"
            )


def check_output_file(file: str | Path, *, overwrite: bool = False) -> None:
    """Check that a single file may be written: it does not exist, or may be overwritten. Raises ValueError if not, or
    if it would lie in a run folder or belong to another finished folder."""
    check_outside(file)
    if os.path.lexists(file) and not overwrite:
        raise ValueError(f"{file} already exists: name another file, or replace it with overwrite=True (--overwrite)")


def check_outside(out: str | Path, *, run: Path | None = None) -> None:
    """Check that a path lies in no other result. Raises ValueError inside a run folder other than `run`, and for a file
    or folder of a finished folder."""
    check_local(out)
    path = Path(out).resolve()
    for folder, parent in zip((path, *path.parents), path.parents, strict=False):
        if (folder.name == "new" and (parent / BEGUN).is_file()) or (run is not None and folder == run.resolve()):
            return
        if (parent / RUN_FILE).is_file() and (run is None or parent != run.resolve()):
            raise ValueError(f"{out} lies in the run folder {parent}, which only `interp run` writes: name another")
        name = path.relative_to(parent).as_posix()
        if any(f"{file}/".startswith(f"{name}/") for file in _listed_files(parent) or ()):
            raise ValueError(f"{out} belongs to {parent}, according to its {MANIFEST}: name another")


def check_free(folder: str | Path) -> None:
    """Check that no other process is writing the folder, before slow libraries are imported. Raises ValueError if one
    is."""
    for path in (Path(folder), unfinished(folder)):
        if path.is_dir():
            with locked(path, name=folder):
                pass


def write_manifest(folder: Path, content: Mapping[str, Any]) -> dict[str, Any]:
    """Write the last file of a folder: `content`, its "files", and its own "sha256". Returns the written content.
    Raises TypeError for content that is not JSON."""
    manifest = as_json({**content, "files": dict(_listing(folder))})
    manifest["sha256"] = digest_json(manifest)
    write_json(folder / MANIFEST, manifest)
    return manifest


def read_manifest(folder: Path | Address) -> dict[str, Any] | None:
    """Read a folder's manifest; None if there is none. Raises ValueError if it was changed since it was written."""
    file = folder / MANIFEST
    manifest = _read_note(file, _remedy(folder))
    if manifest is None:
        return None
    content = {name: value for name, value in manifest.items() if name != "sha256"}
    is_store = "sha256" not in manifest and "format" in manifest  # opening one lists every entry
    if not is_store and manifest.get("sha256") != digest_json(content):
        raise ValueError(f"{file} is altered: {_remedy(folder)}")
    return manifest


def verify(path: str | Path, *, edited: bool = True) -> None:
    """Compare the files at or below `path` with the nearest manifest that lists them.
    Raises ValueError for the first file that is missing or changed.
    edited: accept changes to editable files."""
    path = Path(path).absolute()
    for folder in (path, *path.parents[:3]):
        manifest = read_manifest(folder) or {}
        files = manifest.get("files")
        if isinstance(files, dict):
            if edited and manifest.get(EDITABLE):
                return
            below = {name: entry for name, entry in files.items() if path in (folder / name, *(folder / name).parents)}
            for name, entry in below.items():
                _compare(folder, name, entry)
            for name in below:
                if name.endswith(f"/{MANIFEST}"):
                    verify((folder / name).parent)
            if below:
                return


def differences(before: Any, now: Mapping[str, Any]) -> str:
    """Return, in words, the differences between the settings of two works; "" if there are none."""
    before = before if isinstance(before, dict) else {}
    names = [name for name in sorted({*before, *now}) if before.get(name) != now.get(name)]
    if before.get("kind") != now.get("kind"):
        names = ["kind"]
    return "; ".join(_difference(name, repr(before.get(name)), repr(now.get(name))) for name in names)


def _difference(name: str, before: str, now: str) -> str:
    return f"{name} is {before}, not {now}" if max(len(before), len(now)) <= _SHOWN else f"not the same {name}"


def check_size(file: Path, n_bytes: int, remedy: str) -> None:
    """Check the size of a file. Raises ValueError if it is missing or has another size."""
    if not file.is_file():
        raise ValueError(f"{file} is missing: {remedy}")
    if (size := file.stat().st_size) != n_bytes:
        fault = "truncated" if size < n_bytes else "altered"
        raise ValueError(f"{file} is {fault}: {size} bytes, {n_bytes} were written; {remedy}")


def is_whole(folder: Path, manifest: dict[str, Any]) -> bool:
    """Return whether all files in the folder's manifest exist with the listed sizes."""
    sizes = {folder / name: entry["bytes"] for name, entry in manifest["files"].items()}
    return all(file.is_file() and file.stat().st_size == size for file, size in sizes.items())


def _open_locked(folder: Path, name: str | Path) -> int:
    """Return an open descriptor that holds the lock of the folder now at this path, not of one that was replaced."""
    while True:
        folder.mkdir(parents=True, exist_ok=True)
        handle = os.open(folder, os.O_RDONLY)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(handle)
            raise ValueError(
                f"{name} is in use by another process: wait until it has ended, or choose another folder"
            ) from None
        except OSError as error:
            log.warning("%s cannot be locked (%s): make sure that no other process writes to it", name, error.strerror)
        if folder.exists() and os.path.samestat(os.fstat(handle), os.stat(folder)):
            return handle
        os.close(handle)


def _put_in_place(out: str | Path) -> None:
    """Make the finished work on `out` what is there."""
    address, work = address_of(out), unfinished(out)
    if address is None:
        _swap(work / "new", Path(out).resolve(), work / "old")
    else:
        upload(work / "new", address)


def _swap(new: Path, out: Path, old: Path) -> None:
    """Move `out` to `old` and `new` to `out`, or change nothing."""
    if out.exists():
        out.rename(old)
    try:
        new.rename(out)
    except OSError:
        if old.exists():
            old.rename(out)
        raise


def _read_note(file: Path | Address, remedy: str) -> dict[str, Any] | None:
    """Read a JSON object, local or at an address; None if there is none."""
    if isinstance(file, Path):
        return read_json(file, remedy) if file.is_file() else None
    try:
        content = json.loads(read_object(file))
    except FileNotFoundError:
        return None
    except ValueError as error:
        raise ValueError(f"{file} is damaged, it is not valid JSON ({error}): {remedy}") from None
    if not isinstance(content, dict):
        raise ValueError(f"{file} is damaged, it holds no named values: {remedy}")
    return content


def _made_of_finished(folder: Path | Address) -> Any:
    """Return the `made_of` of a finished folder; None if it is not a finished folder."""
    manifest = read_manifest(folder)
    return None if manifest is None else manifest.get(MADE_OF, manifest.get("config", {}))


def _made_of_interrupted(work: Path | Address) -> Any:
    """Return the `made_of` of unfinished work that can resume; None if there is none."""
    remedy = f"delete {work}" if isinstance(work, Path) else "replace it with overwrite=True (--overwrite)"
    begun = _read_note(work / BEGUN, remedy) or {}
    return begun.get(MADE_OF) if begun.get("resumes") else None


def _listed_files(folder: Path) -> set[str] | None:
    """Return the files that the folder's manifest lists; None if it has no manifest of interp, or a damaged one."""
    try:
        return listed_files(json.loads((folder / MANIFEST).read_bytes()))
    except (OSError, ValueError, TypeError, KeyError, AttributeError):
        return None


def _first_foreign_file(folder: Path, *, any_file: bool) -> Path | None:
    """Return a file that interp did not write. any_file: count every file of a folder without our manifest."""
    listed = _listed_files(folder)
    if not folder.is_dir() or (listed is None and not any_file):
        return None
    for file in sorted(folder.rglob("*")):
        name = file.relative_to(folder).as_posix()
        if not (name in (listed or ()) or file.name in _OF_THE_SYSTEM or (file.is_dir() and not file.is_symlink())):
            return file
    return None


def _listing(folder: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """List each file below the folder, except its manifest and files that are still being written."""
    answered: set[Path] = set()
    for inner in folder.rglob(f"*/{MANIFEST}"):
        manifest = read_manifest(inner.parent) or {}
        names = [*manifest.get("files", ()), *(shard["file"] for shard in manifest.get("shards", ()))]
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
        raise ValueError(f"{file} is altered: its SHA-256 differs from the one in {MANIFEST}; {_remedy(folder)}")
    _verified.add(key)


def _remedy(folder: Path | Address) -> str:
    """Return the remedy for a damaged folder: for a stage's folder, or one inside it, to run the stage again."""
    if isinstance(folder, Address):
        return f"make {folder} again with overwrite=True (--overwrite)"
    for stage in (folder, *folder.parents[:2]):
        if (stage.parent / RUN_FILE).is_file():
            return f"delete {stage} and `interp run` makes it again"
    return f"make {folder} again, or delete its {MANIFEST} if you changed it yourself"
