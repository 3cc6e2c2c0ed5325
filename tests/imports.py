"""What files import, and so which tests are near what has changed: those that `pytest --changed` runs."""

import ast
import functools
import re
import subprocess
from pathlib import Path

ROOT = Path(__file__).parents[1]


@functools.cache
def imported_modules(file: Path) -> frozenset[str]:
    """Absolute names of all that is imported anywhere in the file: inside functions, and for type checking too."""
    names, tree = set[str](), ast.parse(file.read_text())
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{file} imports relatively; name the module in full"
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    return frozenset(names)


def module_of(file: Path) -> str:
    return ".".join(file.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


def modules_of_public_names() -> dict[str, str]:
    """Return the module of each name that the stub of a package offers, as `interp.sae.topk` of `interp.TopKConfig`."""
    public = {}
    for stub in ROOT.glob("interp/**/__init__.pyi"):
        for module, name in re.findall(r"from \.(\S+) import (\w+)", stub.read_text()):
            public[f"{module_of(stub)}.{name}"] = f"{module_of(stub)}.{module}"
    return {full: public.get(f"{module}.{full.rpartition('.')[2]}", module) for full, module in public.items()}


@functools.cache
def files_near_changes() -> set[Path]:
    """Return the files of tests near what differs from main, in commits or not yet."""
    commands = "git diff --name-only --merge-base main", "git ls-files --others --exclude-standard"
    told = [subprocess.run(each.split(), cwd=ROOT, check=True, capture_output=True, text=True) for each in commands]
    return files_near({ROOT / name for each in told for name in each.stdout.splitlines()})


def files_near(changed: set[Path]) -> set[Path]:
    """Return the files of tests that changed, that import a changed file, or one that imports it, and those of the
    packages of changed files."""
    folders = [ROOT / name for name in ("interp", "models", "tests")]
    files = {module_of(file): file for folder in folders for file in folder.rglob("*.py")}
    public = modules_of_public_names()

    def imported(file: Path) -> set[Path]:
        names = {public.get(name, name) for name in imported_modules(file)}
        return {files[part] for name in names for part in (name, name.rpartition(".")[0]) if part in files}

    imports = {file: imported(file) for file in files.values()}
    near = changed | {file for file in imports if imports[file] & changed}
    tests = {file for file in imports if file.name.startswith("test_")}
    packages = {ROOT / "tests" / part for file in changed - tests for part in file.relative_to(ROOT).parts[:2]}
    return {file for file in tests if file in near or imports[file] & near or packages & set(file.parents)}
