"""A package that is built holds `interp` and `models`, with the files that they read, and nothing else."""

import ast
import fnmatch
import importlib.util
import os
import re
import subprocess
import sys
import tomllib
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest

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


def names(requirements):
    return {re.split(r"[;>=\[]", name)[0].strip().lower().replace("_", "-") for name in requirements}


def imported(node, *, at_once):
    """Return the packages that a syntax tree imports: all, or those `at_once`, together with its module."""
    if isinstance(node, ast.Import):
        found = {alias.name.split(".")[0] for alias in node.names}
    elif isinstance(node, ast.ImportFrom):
        found = {str(node.module).split(".")[0]}
    elif isinstance(node, ast.expr) or (at_once and isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)):
        found = set()
    elif at_once and isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
        found = set()
    else:
        found = {name for child in ast.iter_child_nodes(node) for name in imported(child, at_once=at_once)}
    return found - sys.stdlib_module_names - {"interp", "models"}


def test_each_package_that_is_imported_is_declared_and_an_extra_only_where_it_is_used():
    """A file that imports a package of an extra can itself be imported without it."""
    extras = {extra: names(needed) for extra, needed in PROJECT["project"]["optional-dependencies"].items()}
    optional = set[str]().union(*(extras[extra] for extra in extras if extra != "dev")) | {"triton"}
    assert optional - {"wandb"} <= extras["dev"]
    needed = names(PROJECT["project"]["dependencies"])
    packages = packages_distributions() | {"llvmlite": ["numba"], "traitlets": ["anywidget"]}  # which bring them
    used = set[str]()
    for file in (*(ROOT / "interp").rglob("*.py"), *(ROOT / "models").rglob("*.py")):
        tree = ast.parse(file.read_text())
        for at_once in (True, False):
            modules = imported(tree, at_once=at_once)
            found = names(package for module in modules for package in packages.get(module, [module]))
            allowed = needed if at_once and file.name != "triton_kernels.py" else needed | optional
            assert found <= allowed, (file, found - allowed)
            used |= found
    assert needed - used == {"faker"}  # `models.text_sources.generated` imports its word lists by their names


def test_what_the_project_needs_is_pinned():
    pinned = {line.split("==")[0].lower() for line in (ROOT / "constraints.txt").read_text().splitlines()}
    needed = PROJECT["project"]["dependencies"] + PROJECT["project"]["optional-dependencies"]["dev"]
    missing = names(needed) - {"torch", "triton"} - {name.replace("_", "-") for name in pinned} - pinned
    assert not missing, missing


def test_an_upper_bound_names_the_files_that_depend_on_more_than_a_public_interface():
    lines = (ROOT / "pyproject.toml").read_text("utf-8").splitlines()
    bounded = [line for line in lines if re.match(r'  "[\w-]+>=[\d.]+,<', line)]
    assert len(bounded) == sum("<" in requirement for requirement in PROJECT["project"]["dependencies"]) >= 5
    for line in bounded:
        files = re.findall(r"[\w/]+\.py", line)
        assert files and all((ROOT / file).is_file() for file in files), line


@pytest.fixture(scope="module")
def install():
    spec = importlib.util.spec_from_file_location("install", ROOT / ".ci" / "install.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def only_these_settings(monkeypatch, tmp_path):
    """Let pip read one file, and return its path."""
    for name in os.environ:
        if name.startswith("PIP_"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("PIP_CONFIG_FILE", str(tmp_path / "pip.conf"))
    for name in ("XDG_CONFIG_DIRS", "XDG_CONFIG_HOME", "HOME"):
        monkeypatch.setenv(name, str(tmp_path / "none"))
    return tmp_path / "pip.conf"


def test_uv_takes_packages_from_where_pip_would(install, only_these_settings, monkeypatch):
    only_these_settings.write_text(
        "[global]\nindex-url = https://one.example/simple\nproxy = http://proxy.example\ntimeout = 9\n"
        "find-links =\n  /wheels\n  /more wheels.html\n[install]\nno-index = true\ncert = /own.pem\n"
        "[list]\nformat = json\n"
    )
    monkeypatch.setenv("PIP_INDEX_URL", "https://two.example/simple")
    monkeypatch.setenv("PIP_NO_CACHE_DIR", "off")
    settings = install.pip_settings()
    command = " ".join(install.uv_command(settings))
    assert "--default-index https://two.example/simple" in command and "one.example" not in command
    assert "--find-links /wheels --find-links /more --find-links wheels.html" in command, "pip splits at each space"
    assert "--cert /own.pem" in command and command.endswith("--no-index")
    environment = install.uv_environment(settings)
    assert environment["ALL_PROXY"] == "http://proxy.example" and environment["UV_HTTP_TIMEOUT"] == "9"
    assert environment["PATH"].startswith(str(Path(sys.executable).parent))


@pytest.mark.parametrize("uv", ["works", "fails", "is missing"])
def test_pip_installs_only_where_uv_does_not(uv, install, monkeypatch):
    asked = []

    def run(command, **options):
        asked.append(" ".join(command[:4]) if command[0] != "uv" else "uv")
        if command[0] == "uv" and uv == "is missing":
            raise FileNotFoundError("uv")
        return subprocess.CompletedProcess(command, 2 if command[0] == "uv" and uv == "fails" else 0, stdout="")

    monkeypatch.setattr(install.subprocess, "run", run)
    monkeypatch.setattr(sys, "argv", ["install.py", "-e", "."])
    with pytest.raises(SystemExit) as end:
        install.main()
    assert end.value.code == 0
    assert asked[1:] == (["uv"] if uv == "works" else ["uv", f"{sys.executable} -m pip install"])
