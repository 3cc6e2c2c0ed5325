"""A package that is built holds `interp` and `models`, with the files that they read, and nothing else."""

import fnmatch
import re
import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))


def test_each_file_that_a_package_reads_is_shipped_with_it():
    data = PROJECT["tool"]["setuptools"]["package-data"]
    for package in ("interp", "models"):
        files = [file for file in (ROOT / package).rglob("*") if file.is_file() and "__pycache__" not in file.parts]
        others = {file.relative_to(ROOT / package).as_posix() for file in files if file.suffix != ".py"}
        assert "py.typed" in others
        left = {name for name in others if not any(fnmatch.fnmatch(name, pattern) for pattern in data[package])}
        assert not left, left


def test_lines_of_scripts_and_styles_are_as_short_as_those_of_python():
    width = PROJECT["tool"]["ruff"]["line-length"]
    files = [file for kind in ("js", "css") for file in (ROOT / "interp").rglob(f"*.{kind}")]
    assert len(files) > 20
    lines = ((file, n, line) for file in files for n, line in enumerate(file.read_text("utf-8").splitlines(), 1))
    long = [f"{file.relative_to(ROOT)}:{n}: {len(line)} characters" for file, n, line in lines if len(line) > width]
    assert not long, long


def test_only_the_two_packages_are_built():
    assert PROJECT["tool"]["setuptools"]["packages"]["find"]["include"] == ["interp*", "models*"]
    packages = {file.parent.name for file in ROOT.glob("*/__init__.py")}
    assert packages == {"interp", "models", "analyses", "tests"}


def test_what_the_project_needs_is_pinned():
    pinned = {line.split("==")[0].lower() for line in (ROOT / "constraints.txt").read_text().splitlines()}
    needed = PROJECT["project"]["dependencies"] + PROJECT["project"]["optional-dependencies"]["dev"]
    names = {re.split(r"[;>=\[]", name)[0].strip().lower() for name in needed} - {"torch", "triton"}
    missing = names - {name.replace("_", "-") for name in pinned} - pinned
    assert not missing, missing
