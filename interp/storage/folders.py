"""Write folders that appear complete or not at all.

    with atomic_folder(out, made_of) as new: …        # fill `new`, which becomes `out` when the block ends
    is_finished(out, made_of)                        # whether `out` is the finished result of the same work
    recover_finished(out, made_of)                   # the same, after what a killed process finished is put in place

This is the rule for everything that writes a folder. `made_of` says what the work depends on, as digests and settings,
and the folder's manifest records it (`manifests`). Unfinished work is in `OUT.unfinished`, where the same work resumes
after a kill. `out` may be a new folder, an empty one, or one with earlier work. The same work is kept. Other
work is replaced only if the caller passes `overwrite=True`. Files that interp did not write are never touched. Nothing
is written inside a run folder, or over what a finished folder around it has. A single file has no manifest that says
whose it is, so it is replaced only with `overwrite=True` (`check_output_file`).

What a kill leaves, and what deals with it. Each of these runs before new work begins, in the process that makes the
same result again:

    out      out.unfinished          when                                  what follows
    -------  ----------------------  ------------------------------------  -----------------------------------------
    earlier  begun.json, new/        new is being filled                   the same work resumes, or begins again
    earlier  begun.json, new/ whole  new is not in place yet               `recover_finished` puts it there
    none     begun.json, new/, old/  out has moved to old, new not to out  `restore_replaced` moves old back
    new      begun.json, old/        old is not deleted yet                `restore_replaced` deletes it
    new      begun.json              the note is not deleted yet           `recover_finished` deletes out.unfinished

A manifest is the last file of new that is written, so that a folder with one is whole.

`out` may be an address, such as s3://bucket/features. The work then lies in ~/.cache/interp, where it goes on after a
kill, with a note (begun.json) at the address. Once it is complete, it is uploaded (`remote_folders.upload`).
"""

import json
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from interp.checks.errors import DamagedError, OverwriteError
from interp.storage.addresses import RemoteAddress, as_local_path, as_path, cache_folder, remove_object, write_object
from interp.storage.files import digest, json_roundtrip, write_json
from interp.storage.locks import lock_folder
from interp.storage.manifests import (
    EDITABLE_KEY,
    MADE_OF,
    MANIFEST,
    RUN_FILE,
    SYSTEM_FILES,
    describe_differences,
    listed_files,
    made_of_finished,
    read_manifest,
    read_optional_json,
    verify,
    write_manifest,
)
from interp.storage.remote_folders import BEGUN, UNFINISHED, upload

_UNFINISHED_FILES = {BEGUN, f"{BEGUN}.tmp", "new", "old", "new.unfinished", *SYSTEM_FILES}
_REPLACE = "choose another folder, or replace it with overwrite=True (--overwrite)"


@contextmanager
def atomic_folder(
    out: str | Path,
    made_of: Mapping[str, Any],
    *,
    resumes: bool = False,
    overwrite: bool = False,
    editable: bool = False,
    run: Path | None = None,
) -> Iterator[Path]:
    """Yield a folder to fill. When the block ends it replaces `out`; after an error or a kill `out` is unchanged.

    made_of: a JSON value that identifies the inputs and settings of the content. It goes into the manifest when the
    block ends, unless the block wrote a manifest itself.
    resumes: whether the block can continue from the files that it wrote before an error or a kill. They are then kept,
    and the same work finds them, with `overwrite` too; otherwise they are deleted.
    overwrite: replace other work, and our files that were changed since.
    editable: people and other tools may change the files, and `verify` accepts the changes; without `overwrite` a
    changed folder is still not replaced.
    run: the run folder that this folder belongs to, if any; writing inside another run folder is refused.

    Raises OverwriteError for an `out` that may not be written or replaced (`check_output`), and InUseError while
    another process writes it.
    """
    out = as_path(out)
    unfinished = unfinished_folder(out)
    made_of = json_roundtrip(made_of)
    check_output(out, made_of, overwrite=overwrite, run=run)
    unfinished.parent.mkdir(parents=True, exist_ok=True)
    with lock_folder(unfinished, name=out):
        restore_replaced(out)
        check_output(out, made_of, overwrite=overwrite, run=run)
        new = unfinished / "new"
        # Finished work may have deleted its checkpoints, so it cannot resume. Another manifest is that of a folder
        # which this work made in its own, as a stage makes a dictionary: it is found again.
        was_whole = (read_manifest(new) or {}).get(MADE_OF) == made_of
        if was_whole or not resumes or _made_of_interrupted(unfinished) != made_of:
            for path in (new, unfinished_folder(new)):
                shutil.rmtree(path, ignore_errors=True)
        begun = {MADE_OF: made_of, "resumes": resumes}
        if isinstance(out, RemoteAddress):
            write_object(out / BEGUN, json.dumps(begun).encode())
        write_json(unfinished / BEGUN, begun)
        new.mkdir(exist_ok=True)
        try:
            yield new
            if made_of_finished(new) != made_of:
                write_manifest(new, {MADE_OF: made_of, **({EDITABLE_KEY: True} if editable else {})})
            _put_in_place(out)
        except BaseException:
            if not resumes or not any(path.is_file() and path.name != BEGUN for path in unfinished.rglob("*")):
                shutil.rmtree(unfinished)
                if isinstance(out, RemoteAddress):
                    with suppress(OSError):  # the first error is the one to report
                        remove_object(out / BEGUN)
            raise
        shutil.rmtree(unfinished)


def recover_finished(out: str | Path, made_of: Mapping[str, Any], *, run: Path | None = None) -> bool:
    """Put in place what a killed process had moved away, or had finished of this work without moving it. Returns
    whether `out` is the finished result of this work.
    run: as in `atomic_folder`.

    Raises InUseError while another process writes `out`, and OverwriteError if `out` may not be written
    (`check_output`)."""
    out = as_path(out)
    unfinished = unfinished_folder(out)
    new = unfinished / "new"
    was_put_in_place = unfinished.is_dir() and not new.exists()
    if was_put_in_place or (unfinished / "old").is_dir() or (new / MANIFEST).is_file():
        with lock_folder(unfinished, name=out):
            restore_replaced(out)
            is_same_work = (read_manifest(new) or {}).get(MADE_OF) == json_roundtrip(made_of)
            if is_same_work and made_of_finished(out) is None:
                check_output(out, made_of, run=run)
                _put_in_place(out)
            if not new.exists():
                shutil.rmtree(unfinished)
    return is_finished(out, made_of)


def is_finished(out: str | Path, made_of: Mapping[str, Any]) -> bool:
    """Return whether `out` is the finished result of this work."""
    return made_of_finished(as_path(out)) == json_roundtrip(made_of)


def restore_replaced(out: str | Path) -> None:
    """Restore a folder that a killed process had moved away, or delete it if its replacement is in place."""
    old = unfinished_folder(out) / "old"
    if not old.exists():
        return
    if (folder := as_local_path(out)).exists():
        shutil.rmtree(old)
    else:
        old.rename(folder.resolve())


def unfinished_folder(out: str | Path) -> Path:
    """Return the folder of the unfinished work on `out`: the files are in its `new`, next to a note of `made_of`. For
    an address it is a folder of this machine's cache."""
    out = as_path(out)
    folder = cache_folder() / digest(out)[:32] if isinstance(out, RemoteAddress) else out.resolve()
    return folder.with_name(f"{folder.name}{UNFINISHED}")


def interrupted_work(out: str | Path) -> Any:
    """Return the `made_of` of interrupted work on a folder that can resume; None if there is none."""
    return _made_of_interrupted(unfinished_folder(out))


def check_output(
    out: str | Path, made_of: Mapping[str, Any] | None = None, *, overwrite: bool = False, run: Path | None = None
) -> None:
    """Check that a folder may be written at `out`: it does not exist, is empty or was written by interp, and its
    finished or interrupted work is the same (or anything, if `made_of` is None) or may be overwritten. Raises
    OverwriteError if not."""
    out = as_path(out)
    if isinstance(out, RemoteAddress):
        if made_of is not None and not overwrite:
            _check_same_work(out, out, out, made_of)
        return
    folder = out.resolve()
    unfinished = unfinished_folder(out)
    check_outside(out, run=run)
    if folder.is_mount() or Path.cwd().is_relative_to(folder):
        raise OverwriteError(f"{out} is the current folder, or a disk: name a folder inside it")
    if folder.exists() and not folder.is_dir():
        raise OverwriteError(f"{out} is a file: name a folder")
    if inner := next(folder.rglob(RUN_FILE), None):
        raise OverwriteError(f"{inner.parent} is a run folder, which only `interp run` writes: name another")
    if strange := _first_foreign_file(folder, any_file=run is None):
        raise OverwriteError(
            f"{strange} was not written by interp and would be lost: choose another folder, or move it away"
        )
    if unfinished.exists() and not {file.name for file in unfinished.iterdir()} <= _UNFINISHED_FILES:
        raise OverwriteError(
            f"{unfinished}, where {out} would be made, was not written by interp: choose another folder"
        )
    if made_of is None or overwrite:
        return
    _check_same_work(out, folder, unfinished, made_of)
    try:
        verify(folder, edited=False, remedy=_REPLACE)
    except DamagedError as error:
        raise OverwriteError(str(error)) from None


def _check_same_work(
    out: str | Path, folder: Path | RemoteAddress, unfinished: Path | RemoteAddress, made_of: Mapping[str, Any]
) -> None:
    for made_before, how in ((made_of_finished(folder), "holds"), (_made_of_interrupted(unfinished), "was begun as")):
        if made_before is not None and (differs := describe_differences(made_before, json_roundtrip(made_of))):
            raise OverwriteError(f"{out} {how} other work: {differs}; {_REPLACE}")


def check_output_file(file: str | Path, *, overwrite: bool = False) -> None:
    """Check that a single file may be written: it does not exist, or may be overwritten. Raises OverwriteError if not,
    or if it would lie in a run folder or belong to another finished folder."""
    file = as_local_path(file)
    check_outside(file)
    if os.path.lexists(file) and not overwrite:
        raise OverwriteError(
            f"{file} already exists: name another file, or replace it with overwrite=True (--overwrite)"
        )


def check_outside(out: str | Path, *, run: Path | None = None) -> None:
    """Check that a path lies in no other result. Raises OverwriteError inside a run folder other than `run`, and for a
    file or folder of a finished folder."""
    path = as_local_path(out).resolve()
    for folder, parent in zip((path, *path.parents), path.parents, strict=False):
        if (folder.name == "new" and (parent / BEGUN).is_file()) or (run is not None and folder == run.resolve()):
            return
        if (parent / RUN_FILE).is_file() and (run is None or parent != run.resolve()):
            raise OverwriteError(f"{out} lies in the run folder {parent}, which only `interp run` writes: name another")
        name = path.relative_to(parent).as_posix()
        if any(f"{file}/".startswith(f"{name}/") for file in listed_files(parent) or ()):
            raise OverwriteError(f"{out} belongs to {parent}, according to its {MANIFEST}: name another")


def check_not_in_use(folder: str | Path) -> None:
    """Check that no other process is writing the folder, before slow libraries are imported. Raises InUseError if one
    is."""
    for path in (as_local_path(folder), unfinished_folder(folder)):
        if path.is_dir():
            with lock_folder(path, name=folder):
                pass


def _put_in_place(out: Path | RemoteAddress) -> None:
    """Move or upload the finished work to `out`."""
    unfinished = unfinished_folder(out)
    if isinstance(out, RemoteAddress):
        upload(unfinished / "new", out)
    else:
        _swap(unfinished / "new", out.resolve(), unfinished / "old")


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


def _made_of_interrupted(unfinished: Path | RemoteAddress) -> Any:
    """Return the `made_of` of unfinished work that can resume; None if there is none."""
    remedy = f"delete {unfinished}" if isinstance(unfinished, Path) else "replace it with overwrite=True (--overwrite)"
    begun = read_optional_json(unfinished / BEGUN, remedy)
    if not isinstance(begun, dict | None):
        raise DamagedError(f"{unfinished / BEGUN} is damaged: it is not a JSON object: {remedy}")
    return begun.get(MADE_OF) if begun and begun.get("resumes") else None


def _first_foreign_file(folder: Path, *, any_file: bool) -> Path | None:
    """Return a file that interp did not write. any_file: count every file of a folder without our manifest."""
    listed = listed_files(folder)
    if not folder.is_dir() or (listed is None and not any_file):
        return None
    for file in sorted(folder.rglob("*")):
        name = file.relative_to(folder).as_posix()
        if not (name in (listed or ()) or file.name in SYSTEM_FILES or (file.is_dir() and not file.is_symlink())):
            return file
    return None
