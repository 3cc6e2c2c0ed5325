"""The layers: a package imports only from those above it in the docstring of `interp`, and `models` imports only the
lowest packages of the library."""

import ast
import graphlib
import importlib
import re
import subprocess
import sys
from collections import defaultdict
from pathlib import Path

import pytest

from tests.forked import run_python
from tests.imports import ROOT, files_near, imported_modules, module_of, modules_of_public_names

PACKAGES = re.findall(r"^    (\w+) {2,}", ast.get_docstring(ast.parse((ROOT / "interp/__init__.py").read_text())), re.M)
"""The packages of the library from the ground up, as the docstring of `interp` lists them."""
JOINS = {"pipeline", "cli"}
FORBIDDEN = {"utils", "base", "common", "types", "runner", "manager"}


def package_of(file: Path) -> str:
    return file.relative_to(ROOT / "interp").parts[0].removesuffix(".py")


INTERP = [
    file
    for file in sorted((ROOT / "interp").rglob("*.py"))
    if file.parent != ROOT / "interp" or file.stem != "__init__"
]


def test_each_package_has_its_place_in_the_docstring_of_interp():
    assert sorted(PACKAGES) == sorted(file.parent.name for file in (ROOT / "interp").glob("*/__init__.py"))


def test_imports_go_down():
    for file in INTERP:
        package = package_of(file)
        lower = set(PACKAGES) if package == "__main__" else {package, *PACKAGES[: PACKAGES.index(package)]}
        for name in imported_modules(file):
            parts = name.split(".")
            if parts[0] == "interp" and len(parts) > 1 and parts[1] in PACKAGES:
                assert parts[1] in lower, f"{file} imports {name}, which `interp/__init__.py` lists below it"
            if parts[0] == "models":
                assert package in JOINS, f"{file} imports {name}: only {', '.join(sorted(JOINS))} join the two"
            assert parts[0] not in ("analyses", "tests"), f"{file} imports {name}, which is not installed"


def test_nothing_else_needs_the_evidence_for_claims_and_scores():
    """So that these folders can be frozen or deleted, with their folders in `tests/analyses`."""
    folders = [ROOT / name for name in (".ci", "interp", "models", "tests")]
    for file in (file for folder in folders for file in folder.rglob("*.py") if "analyses" not in file.parts):
        for name in imported_modules(file):
            assert not re.match(r"analyses\.(essay|claims|scorecard)\b", name), f"{file} imports {name}"


def graph_of(*packages: str) -> dict[str, set[str]]:
    """Module → the modules of these packages that it imports. Imports in a package's own `__init__` do not count: they
    only re-export names."""
    files = {module_of(file): file for package in packages for file in (ROOT / package).rglob("*.py")}
    for package in packages:
        del files[package]

    def home(name: str) -> str:
        while name not in files and "." in name:
            name = name.rpartition(".")[0]
        return name

    return {
        module: {there for name in imported_modules(file) if (there := home(name)) in files} - {module}
        for module, file in files.items()
    }


def test_no_module_imports_itself_through_others():
    try:
        graphlib.TopologicalSorter(graph_of("interp", "models")).prepare()
    except graphlib.CycleError as error:
        raise AssertionError(f"a cycle of imports: {' imports '.join(reversed(error.args[1]))}") from None


def optional_files() -> list[tuple[set[Path], int, set[Path]]]:
    """Return the rows of the table of CONTRIBUTING.md: files that can be taken out, about how many lines they have,
    and the files that import them."""
    rows = re.findall(r"^\| (`.*?) \| ([\d,]+) \|.*\| (`.*`) \|$", (ROOT / "CONTRIBUTING.md").read_text(), re.M)
    return [
        (files_named(files), int(lines.replace(",", "")), files_named(importers)) for files, lines, importers in rows
    ]


def files_named(cell: str) -> set[Path]:
    """Return the files of `interp` that a cell of the table names, such as `effects/{graph*,supernodes}.py`."""
    found = set[Path]()
    for before, names, after in re.findall(r"`([^`{]*)(?:\{(.*?)\})?([^`]*)`", cell):
        for name in names.split(","):
            matches = set((ROOT / "interp").glob(f"{before}{name}{after}"))
            assert matches, f"CONTRIBUTING.md names {before}{name}{after}, which does not exist"
            found |= matches
    return found


def test_what_is_optional_is_imported_only_where_contributing_says():
    rows = optional_files()
    assert len(rows) > 10
    public = modules_of_public_names()
    every = set[Path]().union(*(files for files, _, _ in rows))
    for files, lines, importers in rows:
        modules = {module_of(file) for file in files}
        found = sum(len(file.read_text().splitlines()) for file in files)
        assert abs(found / lines - 1) < 0.2, f"{sorted(files)[0]} and its like have {found} lines, not {lines}"
        users = set()
        for file in set(INTERP) - every:
            names = {public.get(name, name) for name in imported_modules(file)}
            if any(name in modules or name.rpartition(".")[0] in modules for name in names):
                users.add(file)
        assert users <= importers, f"{sorted(users - importers)} import {sorted(modules)[0]} and its like"
        assert importers - every <= users, f"{sorted(importers - every - users)} need not name {sorted(modules)[0]}"


def test_no_two_packages_share_a_file_name():
    """The files of stages are named after their stages instead."""
    folders_of = defaultdict(set)
    for file in (ROOT / "interp").rglob("*.py"):
        if file.stem not in ("__init__", "__main__") and file.parent.name != "stages":
            folders_of[file.stem].add(str(file.parent.relative_to(ROOT)))
    shared = {stem: folders for stem, folders in folders_of.items() if len(folders) > 1}
    assert not shared, shared


def test_models_import_only_checks_storage_and_runtime():
    """`models` uses the library's checks, files and progress, and knows nothing of what is done with a model."""
    ground = ("interp.checks.", "interp.storage.", "interp.runtime.")
    for file in (ROOT / "models").rglob("*.py"):
        above = {n for n in imported_modules(file) if n.split(".")[0] in ("interp", "analyses", "tests")}
        assert not {n for n in above if not n.startswith(ground)}, file


def test_figures_know_results_only():
    for file in (ROOT / "interp" / "figures").rglob("*.py"):
        heavy = {n for n in imported_modules(file) if n.split(".")[0] in ("torch", "sklearn", "transformer_lens")}
        assert not heavy, f"{file} computes: {heavy}"


def test_no_package_is_a_drawer():
    for package in ("interp", "models", "analyses"):
        for file in (ROOT / package).rglob("*.py"):
            assert file.stem not in FORBIDDEN, file


@pytest.mark.parametrize(
    "first", ["interp.activations.harvesting", "interp.features.feature_store", "interp.evaluation.quality"]
)
def test_public_names_do_not_depend_on_import_order(first):
    code = f"import {first}\nfrom interp import harvest\nassert callable(harvest), harvest"
    run_python(code, check=True, anew=("interp", "models"))


def test_every_public_name_exists():
    import interp

    for stub in ROOT.glob("interp/**/__init__.pyi"):
        package = importlib.import_module(".".join(stub.parent.relative_to(ROOT).parts))
        for name in package.__all__:
            assert getattr(package, name) is not None
    with pytest.raises(AttributeError, match="No interp attribute harvests"):
        interp.harvests  # noqa: B018


def test_importing_the_package_and_figures_is_light():
    """No heavy library is loaded by the package itself; the figures need no torch."""
    code = (
        "import sys, interp\n"
        "assert not {'torch', 'pandas', 'transformer_lens', 'sae_lens', 'plotly'} & set(sys.modules)\n"
        "from interp import figures\n"
        "heavy = {'torch', 'transformer_lens', 'sae_lens', 'numba', 'sklearn'} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT)


def test_sources_name_no_pickle():
    """Nothing that is loaded can run code."""
    pattern = re.compile(r"\bpickle\b|torch\.load\(|allow_pickle=True|(?<!\.)\b(eval|exec)\(")
    for package in ("interp", "models", "analyses"):
        for file in (ROOT / package).rglob("*.py"):
            code = "\n".join(line.split("#")[0] for line in file.read_text().splitlines())
            assert not pattern.search(code), f"{file}: {pattern.search(code)}"


def test_near_a_change_are_the_tests_of_its_package_of_what_imports_it_and_of_what_imports_that():
    def near(*changed: str) -> set[str]:
        return {str(file.relative_to(ROOT / "tests")) for file in files_near({ROOT / name for name in changed})}

    offsets = near("interp/codes/offsets.py")  # which text/lexer.py imports, among others
    assert {"codes/test_codes.py", "codes/test_offsets.py", "text/test_lexer.py"} <= offsets
    assert not {file for file in offsets if file.startswith(("checks/", "statistics/"))}
    assert "sae/test_logs.py" in near("interp/sae/kernels/triton_kernels.py"), "which is of its package"
    assert "test_options.py" in near("tests/test_options.py") and "test_options.py" not in offsets
    assert near("Makefile", "interp/gone.py") == set()
