"""Folders that list their files with sizes and SHA-256 sums, used by one process at a time."""

import json
import multiprocessing
import os
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from interp.checks.errors import OverwriteError
from interp.storage.artifacts import find_artifact
from interp.storage.files import open_tensors, read_json, write_atomically, write_json, write_tensors, write_text
from interp.storage.folders import (
    atomic_folder,
    check_not_in_use,
    check_output_file,
    is_finished,
    recover_finished,
    unfinished_folder,
)
from interp.storage.locks import lock_folder, open_locked
from interp.storage.manifests import MANIFEST, has_all_files, read_manifest, verify, write_manifest


@pytest.fixture
def folder(tmp_path):
    """Return a folder with a folder in it that has a manifest of its own."""
    (tmp_path / "inner").mkdir()
    write_text(tmp_path / "inner" / "weights", "w" * 100)
    write_manifest(tmp_path / "inner", {"kind": "inner"})
    write_text(tmp_path / "table", "t" * 100)
    write_manifest(tmp_path, {"kind": "outer", "loss": 0.1, "pair": (1, 2)})
    return tmp_path


def flip(file, byte=0, bit=0):
    data = bytearray(file.read_bytes())
    data[byte] ^= 1 << bit
    file.write_bytes(data)


def test_a_manifest_lists_every_file_and_leaves_an_inner_folder_to_its_own(folder):
    files = read_manifest(folder)["files"]
    assert set(files) == {"table", "inner/weights", f"inner/{MANIFEST}"}
    assert "sha256" in files["table"] and "sha256" in files[f"inner/{MANIFEST}"]
    assert files["inner/weights"] == {"bytes": 100}
    assert has_all_files(folder, read_manifest(folder))
    verify(folder)
    verify(folder / "table")
    verify(folder / "inner" / "weights")


def test_a_tilde_is_the_folder_of_the_user(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    made_of = {"kind": "tokens"}
    with atomic_folder("~/tokens", made_of) as new:
        write_text(new / "row_characters.safetensors", "rows")
    assert is_finished("~/tokens", made_of) and recover_finished("~/tokens", made_of)
    assert find_artifact("~/tokens", "tokens").path == tmp_path / "home" / "tokens"
    with pytest.raises(OverwriteError, match="already exists"):
        check_output_file("~/tokens")
    with lock_folder("~/run"):
        write_json("~/run/run.json", {})
        assert read_json("~/run/run.json", "") == {}
    assert [path.name for path in tmp_path.iterdir()] == ["home"]


def test_a_file_manager_that_looks_into_a_folder_changes_nothing_of_it(tmp_path):
    folder, made_of = tmp_path / "codes", {"kind": "codes"}
    with pytest.raises(KeyboardInterrupt), atomic_folder(folder, made_of, resumes=True) as new:
        (new / "part").write_text("part")
        for place in (new, new.parent):
            (place / ".DS_Store").write_text("a look while it is written")
        raise KeyboardInterrupt
    with atomic_folder(folder, made_of, resumes=True) as new:
        assert (new / "part").exists()
    (folder / ".DS_Store").write_text("another look, after it was written")
    assert list(read_manifest(folder)["files"]) == ["part"]
    assert has_all_files(folder, read_manifest(folder))
    verify(folder)


@pytest.mark.parametrize("name", ["table", "inner/weights", f"inner/{MANIFEST}"])
def test_every_flipped_bit_is_refused_with_the_file_and_the_remedy(folder, name):
    whole = (folder / name).read_bytes()
    for byte in range(0, len(whole), 7):
        flip(folder / name, byte, byte % 8)
        with pytest.raises(ValueError, match=f"{name}.*(again with overwrite=True|JSON)"):
            verify(folder / name)
        (folder / name).write_bytes(whole)
    verify(folder)


def test_a_flipped_bit_of_the_manifest_itself_is_refused(folder):
    whole = (folder / MANIFEST).read_bytes()
    accepted = 0
    for byte in range(len(whole)):
        flip(folder / MANIFEST, byte, byte % 8)
        try:
            accepted += read_manifest(folder).get("sha256") is not None
        except ValueError as error:
            assert MANIFEST in str(error) and "again" in str(error)
        (folder / MANIFEST).write_bytes(whole)
    assert accepted == 0


@pytest.mark.parametrize("name", ["table", f"inner/{MANIFEST}", "inner/weights"])
def test_a_file_that_is_gone_or_cut_off_is_seen_by_size(folder, name):
    manifest = read_manifest(folder)
    os.truncate(folder / name, 50)
    assert not has_all_files(folder, manifest)
    (folder / name).unlink()
    assert not has_all_files(folder, manifest)
    with pytest.raises(ValueError, match=f"{name} is missing"):
        verify(folder)


def test_no_verify_skips_the_checksums(folder, monkeypatch):
    flip(folder / "table")
    monkeypatch.setenv("INTERP_VERIFY", "0")
    verify(folder)
    monkeypatch.delenv("INTERP_VERIFY")
    with pytest.raises(ValueError, match="SHA-256"):
        verify(folder)


def test_verify_accepts_files_that_no_manifest_lists(tmp_path):
    write_text(tmp_path / "cfg.json", "{}")
    verify(tmp_path)
    verify(tmp_path / "cfg.json")


@pytest.mark.parametrize(
    "manifest",
    ['{"manifest_version": 3, "name": "an extension", "version": "1.0"}', '["a.png"]', '{"files": ["results/scan"]}'],
)
def test_the_manifest_of_another_program_is_no_damaged_one(manifest, tmp_path):
    write_text(tmp_path / MANIFEST, manifest)
    (tmp_path / "results").mkdir()
    write_text(tmp_path / "results" / "ranking.csv", "latent\n0\n")
    verify(tmp_path / "results" / "ranking.csv")
    assert read_manifest(tmp_path) is None
    with atomic_folder(tmp_path / "results" / "scan", {"kind": "scan"}) as new:
        write_text(new / "table", "")
    assert is_finished(tmp_path / "results" / "scan", {"kind": "scan"})


def _hold(folder, ready, end):
    with lock_folder(folder):
        ready.set()
        end.wait(30)


def test_a_second_process_is_refused_while_a_folder_is_held(tmp_path):
    context = multiprocessing.get_context("fork")
    ready, end = context.Event(), context.Event()
    holder = context.Process(target=_hold, args=(tmp_path / "run", ready, end))
    holder.start()
    assert ready.wait(10)
    with pytest.raises(ValueError, match="run is in use by another process: wait until it has ended"):
        with lock_folder(tmp_path / "run"):
            pass
    holder.kill()
    holder.join()
    with lock_folder(tmp_path / "run"):
        write_text(tmp_path / "run" / "there", "")
    with lock_folder(tmp_path / "empty"):
        pass
    assert sorted(file.name for file in tmp_path.iterdir()) == ["run"], "a folder that stays empty goes"


def test_two_writers_of_one_file_do_not_mix(tmp_path):
    with write_atomically(tmp_path / "note") as temporary:
        temporary.write_text("first")
        with pytest.raises(ValueError, match="another process is writing"):
            write_text(tmp_path / "note", "second")
    assert (tmp_path / "note").read_text() == "first"


def test_tensors_of_every_dtype_round_trip_through_safetensors_with_the_usual_file_mode(tmp_path):
    dtypes = "float64 float32 float16 bfloat16 int64 int32 int16 int8 uint8 uint16 uint32 uint64 bool".split()
    tensors = {name: torch.arange(6).view(2, 3).to(getattr(torch, name)) for name in dtypes}
    tensors |= {"scalar": torch.tensor(3.5), "none": torch.empty(0, 4), "turned": torch.arange(6.0).view(2, 3).T}
    file = tmp_path / "all.safetensors"
    write_tensors(file, tensors, {"b": "2", "a": "1"})
    read = load_file(file)
    assert set(read) == set(tensors)
    for name, tensor in tensors.items():
        assert read[name].dtype == tensor.dtype and torch.equal(read[name], tensor), name
    with open_tensors(file, "") as stored:
        assert all(torch.equal(stored.get_tensor(name), tensor) for name, tensor in tensors.items())
        assert stored.metadata() == {"b": "2", "a": "1"}
    mask = os.umask(0o022)
    os.umask(mask)
    assert file.stat().st_mode & 0o777 == 0o666 & ~mask


def test_a_damaged_file_of_tensors_or_json_is_named_with_its_remedy(tmp_path):
    file = tmp_path / "x.safetensors"
    file.write_bytes(b"no tensors at all")
    with pytest.raises(ValueError, match="x.safetensors is damaged.*scan again"):
        open_tensors(file, "scan again").__enter__()
    write_tensors(file, {"a": torch.zeros(2)})
    with pytest.raises(ValueError, match="x.safetensors is damaged.*scan again"):
        with open_tensors(file, "scan again") as stored:
            stored.get_tensor("b")
    for text in ("", "[1]", '{"a"', "\xff"):
        (tmp_path / "x.json").write_text(text, encoding="latin-1")
        with pytest.raises(ValueError, match="x.json is damaged.*scan again"):
            read_json(tmp_path / "x.json", "scan again")
    write_json(tmp_path / "x.json", json.loads('{"a": 1}'))
    assert read_json(tmp_path / "x.json", "") == {"a": 1}


def test_a_folder_appears_whole_or_stays_as_it_was(tmp_path):
    folder = tmp_path / "codes"

    def make(text: str, fails: bool = False) -> None:
        with atomic_folder(folder, {"kind": "codes"}) as new:
            assert not any(new.iterdir())
            (new / "file").write_text(text)
            if fails:
                raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        make("nothing", fails=True)
    assert not list(tmp_path.iterdir())
    make("first")
    with pytest.raises(KeyboardInterrupt):
        make("second", fails=True)
    assert (folder / "file").read_text() == "first"
    make("second")
    assert (folder / "file").read_text() == "second" and list(tmp_path.iterdir()) == [folder]


def test_leftovers_of_a_killed_process_are_removed_or_restored(tmp_path):
    folder, made_of = tmp_path / "codes", {"kind": "codes"}
    with atomic_folder(folder, made_of) as new:
        (new / "file").write_text("first")
    with pytest.raises(KeyboardInterrupt), atomic_folder(folder, made_of, resumes=True, overwrite=True) as new:
        (new / "part").touch()
        raise KeyboardInterrupt
    folder.rename(unfinished_folder(folder) / "old")  # as if killed between the two renames
    assert not is_finished(folder, made_of) and (unfinished_folder(folder) / "old").exists()
    assert recover_finished(folder, made_of) and not (unfinished_folder(folder) / "old").exists()
    with pytest.raises(KeyboardInterrupt), atomic_folder(folder, made_of) as new:
        assert not any(new.iterdir()) and (folder / "file").read_text() == "first"
        raise KeyboardInterrupt
    assert list(tmp_path.iterdir()) == [folder]


def test_work_that_a_killed_process_finished_is_put_in_place_for_the_same_work_only(tmp_path):
    folder, made_of = tmp_path / "codes", {"kind": "codes"}
    with atomic_folder(folder, made_of) as new:
        (new / "file").write_text("finished")
    unfinished_folder(folder).mkdir()
    folder.rename(unfinished_folder(folder) / "new")  # as if killed before the folder was moved
    assert not recover_finished(folder, {"kind": "scores"}) and not folder.exists()
    assert recover_finished(folder, made_of) and list(tmp_path.iterdir()) == [folder]
    assert (folder / "file").read_text() == "finished"
    unfinished_folder(folder).mkdir()
    write_json(unfinished_folder(folder) / "begun.json", {"made_of": made_of, "resumes": True})
    assert recover_finished(folder, made_of) and list(tmp_path.iterdir()) == [folder], "as if killed after it was moved"


@pytest.mark.parametrize("resumes", [True, False])
def test_interrupted_work_is_resumed_or_discarded(tmp_path, resumes):
    folder, made_of = tmp_path / "codes", {"kind": "codes"}
    with pytest.raises(KeyboardInterrupt), atomic_folder(folder, made_of, resumes=True) as new:
        (new / "part-1").touch()
        raise KeyboardInterrupt
    with pytest.raises(KeyboardInterrupt), atomic_folder(folder, made_of, resumes=resumes) as new:
        assert (new / "part-1").exists() == resumes
        (new / "part-2").touch()
        raise KeyboardInterrupt
    assert unfinished_folder(folder).exists() == resumes
    with atomic_folder(folder, made_of, resumes=True) as new:
        assert (new / "part-2").exists() == resumes


def test_a_finished_part_of_interrupted_work_is_found_again(tmp_path):
    """A stage trains a dictionary in its own folder, and is cut off before its own manifest."""
    out, part = tmp_path / "stage", {"kind": "dictionary"}

    def work():
        with atomic_folder(out, {"stage": "sae"}, resumes=True) as new:
            made = not recover_finished(new, part)
            if made:
                with atomic_folder(new, part, resumes=True) as folder:
                    (folder / "weights").write_text("trained")
                raise RuntimeError
        return made

    with pytest.raises(RuntimeError):
        work()
    assert not work(), "the part is not made again"
    assert (out / "weights").read_text() == "trained" and is_finished(out, {"stage": "sae"})


def test_a_folder_replaces_other_work_only_with_overwrite(tmp_path):
    folder = tmp_path / "store"

    def make(k: int, fails: bool = False, **options) -> list[str]:
        with atomic_folder(folder, {"kind": "store", "k": k}, resumes=True, **options) as new:
            there = sorted(file.name for file in new.iterdir())
            (new / f"part-{k}").touch()
            if fails:
                raise KeyboardInterrupt
            return there

    with pytest.raises(KeyboardInterrupt):
        make(1, fails=True)
    with pytest.raises(ValueError, match="store was begun as other work: k is 1, not 2;.*overwrite=True"):
        make(2)
    assert make(1) == ["part-1"] and list(tmp_path.iterdir()) == [folder]
    assert is_finished(folder, {"kind": "store", "k": 1}) and not is_finished(folder, {"kind": "store", "k": 2})
    with pytest.raises(ValueError, match="store holds other work: k is 1, not 2;.*overwrite=True"):
        make(2)
    with pytest.raises(KeyboardInterrupt):
        make(2, fails=True, overwrite=True)
    assert is_finished(folder, {"kind": "store", "k": 1})
    assert make(2, overwrite=True) == ["part-2"] and is_finished(folder, {"kind": "store", "k": 2})


def test_what_was_not_written_here_is_never_replaced(tmp_path, monkeypatch):
    def make(folder: Path, **options) -> None:
        with atomic_folder(folder, {"kind": "store"}, overwrite=True, **options) as new:
            (new / "inner").mkdir()
            (new / "inner" / "file").touch()

    make(tmp_path / "ours")
    for name in ("mine.txt", "inner/mine.txt", "link"):
        mine = tmp_path / "ours" / name
        mine.symlink_to(tmp_path) if name == "link" else mine.write_text("mine")
        with pytest.raises(ValueError, match=f"{name} was not written by interp and would be lost"):
            make(tmp_path / "ours")
        mine.unlink()
    make(tmp_path / "ours")
    with pytest.raises(ValueError, match="inner belongs to .*ours"):
        make(tmp_path / "ours" / "inner")
    make(tmp_path / "ours" / "beside")  # whatever is new there
    (tmp_path / "theirs").mkdir()
    (tmp_path / "theirs" / "manifest.json").write_text('{"name": "a web page"}')
    (tmp_path / "file").touch()
    (tmp_path / "new.unfinished").mkdir()
    (tmp_path / "new.unfinished" / "mine").touch()
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "run.toml").touch()
    monkeypatch.chdir(tmp_path / "theirs")
    for name, message in {
        "theirs": "is the current folder",
        "theirs/..": "is the current folder",
        "file": "is a file",
        "new": "new.unfinished, where .* would be made, was not written by interp",
        "run": "is a run folder, which only",
        "run/sae": "lies in the run folder",
        "/proc": "or a disk",
    }.items():
        with pytest.raises(ValueError, match=message):
            make(tmp_path / name)
    make(tmp_path / "run" / "sae", run=tmp_path / "run")
    deep = tmp_path / "run" / "ranking" / "saved" / "mine"
    deep.mkdir(parents=True)
    (deep / "run.toml").touch()
    with pytest.raises(ValueError, match="saved/mine is a run folder, which only"):
        make(tmp_path / "run" / "ranking", run=tmp_path / "run")
    assert (deep / "run.toml").is_file()
    make(tmp_path / "theirs" / "new")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match=r"theirs/manifest.json was not written by interp"):
        make(tmp_path / "theirs")


def test_files_that_may_be_edited_pass_until_they_would_be_lost(tmp_path):
    def make(**options) -> None:
        with atomic_folder(tmp_path / "card", {"kind": "card"}, editable=True, **options) as new:
            (new / "README.md").write_text("ours")

    make()
    make()
    (tmp_path / "card" / "README.md").write_text("mine")
    verify(tmp_path / "card")
    with pytest.raises(ValueError, match=r"README.md is altered.*overwrite=True"):
        make()
    make(overwrite=True)
    assert (tmp_path / "card" / "README.md").read_text() == "ours"


def _write_slowly(folder, ready, end):
    with atomic_folder(folder, {"kind": "store"}, resumes=True) as new:
        (new / "part").touch()
        ready.set()
        end.wait(30)


def test_a_second_writer_of_a_folder_is_refused_until_the_first_was_killed(tmp_path):
    context = multiprocessing.get_context("fork")
    ready, end = context.Event(), context.Event()
    writer = context.Process(target=_write_slowly, args=(tmp_path / "store", ready, end))
    writer.start()
    assert ready.wait(10)
    for check in (lambda: check_not_in_use(tmp_path / "store"), lambda: _write_slowly(tmp_path / "store", ready, end)):
        with pytest.raises(ValueError, match="store is in use by another process"):
            check()
    writer.kill()
    writer.join()
    assert not (tmp_path / "store").exists()
    with atomic_folder(tmp_path / "store", {"kind": "store"}, resumes=True) as new:
        assert (new / "part").exists()
    assert list(tmp_path.iterdir()) == [tmp_path / "store"]


def test_a_lock_is_held_of_the_file_that_replaced_the_one_opened_first(tmp_path):
    file = tmp_path / "note"
    write_text(file, "first")
    opened = []

    def open_file():
        opened.append(os.open(file, os.O_RDONLY))
        if len(opened) == 1:
            write_text(file, "second")
        return opened[-1]

    handle = open_locked(file, open_file)
    assert os.read(handle, 10) == b"second"
    with pytest.raises(BlockingIOError):
        open_locked(file, lambda: os.open(file, os.O_RDONLY))
    os.close(handle)
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(opened[0])
