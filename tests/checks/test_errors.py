"""Errors that a caller can tell apart: each is raised where it is meant, and is a ValueError."""

import ast
import pickle
import re
from pathlib import Path

import pytest
import torch

import interp
from interp import DamagedError, InterpError, InUseError, OverwriteError, TooLargeError
from interp.checks.free_memory import check_memory
from interp.checks.json_values import validate_json
from interp.storage.files import open_tensors, read_json, write_atomically, write_json, write_tensors
from interp.storage.folders import atomic_folder, check_not_in_use, check_output_file
from interp.storage.locks import lock_folder
from interp.storage.manifests import verify

ROOT = Path(__file__).parents[2]
KINDS = (DamagedError, InUseError, OverwriteError, TooLargeError)
WORDS = re.compile(
    r"(is|are) damaged|is altered|is truncated|in use by|another process is|other work|already exists|GB of memory"
)
"""What an error with a class of its own says."""


@pytest.fixture
def finished(tmp_path):
    with atomic_folder(tmp_path / "finished", {"k": 1}) as new:
        write_json(new / "x.json", {"x": 1})
    return tmp_path / "finished"


def test_the_kinds_are_value_errors_with_one_base():
    for kind in KINDS:
        assert kind.__bases__ == (InterpError,) and issubclass(kind, ValueError)
        assert getattr(interp, kind.__name__) is kind
        assert str(pickle.loads(pickle.dumps(kind("x is damaged: make it again")))) == "x is damaged: make it again"


def test_a_changed_missing_or_foreign_file_is_damaged(finished, tmp_path):
    (finished / "x.json").write_text('{\n "x": 2\n}')
    with pytest.raises(DamagedError, match="x.json is altered"):
        verify(finished)
    (finished / "x.json").unlink()
    with pytest.raises(DamagedError, match="x.json is missing"):
        verify(finished)
    (tmp_path / "cut.json").write_text('{"x": ')
    with pytest.raises(DamagedError, match="not valid JSON"):
        read_json(tmp_path / "cut.json", "write it again")
    with pytest.raises(DamagedError, match="x=.one. must be a whole number"):
        validate_json(dict[str, int], {"x": "one"}, "file", "write it again")
    write_tensors(cut := tmp_path / "cut.safetensors", {"x": torch.ones(4)})
    cut.write_bytes(cut.read_bytes()[:-1])
    with pytest.raises(DamagedError, match="write it again"), open_tensors(cut, "write it again"):
        pass


def test_what_another_process_writes_is_in_use(tmp_path):
    with lock_folder(tmp_path / "a"), write_atomically(tmp_path / "b.json"):
        with pytest.raises(InUseError, match="a is in use"):
            check_not_in_use(tmp_path / "a")
        with pytest.raises(InUseError, match="is writing"):
            write_json(tmp_path / "b.json", {})


def test_other_work_is_not_overwritten(finished, tmp_path):
    for made_of in ({"k": 2}, {}):
        with pytest.raises(OverwriteError, match="holds other work"), atomic_folder(finished, made_of):
            pass
    with pytest.raises(OverwriteError, match="already exists"):
        check_output_file(finished.parent / "finished")
    with pytest.raises(OverwriteError, match="belongs to"):
        check_output_file(finished / "x.json")
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "notes.txt").write_text("mine")
    with pytest.raises(OverwriteError, match="was not written by interp"), atomic_folder(tmp_path / "mine", {}):
        pass


def test_a_file_changed_since_is_not_overwritten_and_the_error_says_how(finished):
    (finished / "x.json").write_text('{\n "x": 2\n}')
    with pytest.raises(OverwriteError) as error, atomic_folder(finished, {"k": 1}):
        pass
    assert re.fullmatch(
        r".*/x.json is altered: its SHA-256 differs from the one in manifest.json; "
        r"choose another folder, or replace it with overwrite=True \(--overwrite\)",
        str(error.value),
    )


def test_more_than_the_free_memory_is_too_large():
    with pytest.raises(TooLargeError, match="this needs 1,000,000.0 GB of memory, .*: take less"):
        check_memory(10**15, "this", "take less")


def test_what_is_refused_has_its_class():
    """No refusal is a bare ValueError, and one that says what a kind means is raised as that kind."""
    bare = []
    for file in (*(ROOT / "interp").rglob("*.py"), *(ROOT / "models").rglob("*.py")):
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.Call) and (name := ast.unparse(node.func)) in ("ValueError", "InterpError"):
                text = "".join(str(part.value) for part in ast.walk(node) if isinstance(part, ast.Constant))
                if name == "ValueError" or WORDS.search(text):
                    bare.append(f"{file.relative_to(ROOT)}:{node.lineno}: {text}")
    assert not bare
