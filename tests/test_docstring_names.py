"""What docstrings name exists: each name with a dot between backticks, such as `module.NAME` or `Class.method`."""

import ast
import re
from importlib import import_module
from importlib.util import find_spec
from inspect import getsource
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[1]
FILES = {
    ".".join(file.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): file.read_text()
    for package in ("interp", "models", "analyses")
    for file in (ROOT / package).rglob("*.py")
}
"""The text of each module, by its name."""
CODE = "\n".join(FILES.values())
NAME = re.compile(r"`([A-Za-z_]\w*(?:\.[A-Za-z_]\w*)+)(?:\([^`]*\))?`")
ENDINGS = {"json", "jsonl", "toml", "md", "txt", "yaml", "safetensors", "parquet", "js", "pyi", "tmp", "unfinished"}
"""What follows the dot in the name of a file or folder."""
ELSEWHERE = {"delphi.latents.LatentDataset", "activation_function.threshold"}
"""A class of a package that is not installed, and a tensor in another tool's file."""


def dotted_names(text: str) -> list[str]:
    """Return the names in the docstrings of a module, those of attributes and constants too."""
    values = (node.value for node in ast.walk(ast.parse(text)) if isinstance(node, ast.Expr))
    docstrings = [value.value for value in values if isinstance(value, ast.Constant) and isinstance(value.value, str)]
    return [name for docstring in docstrings for name in NAME.findall(docstring)]


def has(thing: Any, names: list[str]) -> bool:
    """Return whether a module or class has an attribute, which has one of the next name, and so on. Of an instance the
    attributes are known that its class annotates or sets."""
    if not names:
        return True
    if hasattr(thing, names[0]):
        return has(getattr(thing, names[0]), names[1:])
    bases = [base for base in getattr(thing, "__mro__", ()) if base.__module__ in FILES]
    return any(re.search(rf"^    {names[0]}:|self\.{names[0]}\b", getsource(base), re.M) for base in bases)


def exists(name: str, module: str) -> bool:
    """Return whether a name in a docstring of a module of ours is that of another, by its last names, or of something
    in one; of something that the module itself, or another package, has; or of an attribute of a variable."""
    first, *rest = parts = name.split(".")
    is_argument = re.search(rf"\b{first}: ", FILES[module])
    for n in range(len(parts), 0, -1):
        named = [known for known in FILES if f".{known}".endswith(f".{'.'.join(parts[:n])}")]
        if named and (n == len(parts) or any(has(import_module(known), parts[n:]) for known in named)):
            return True
        if named and not is_argument:
            return False
    defining = [known for known, text in FILES.items() if re.search(rf"^class {first}\b", text, re.M)]
    if defining:
        return any(has(import_module(known), parts) for known in defining)
    if has(import_module(module), parts) or (find_spec(first) and has(import_module(first), rest)):
        return True
    return len(parts) == 2 and bool(re.search(rf"^    (def )?{rest[0]}\b[(:]|self\.{rest[0]}\b", CODE, re.M))


@pytest.mark.parametrize("package", ["interp", "models"])
def test_each_dotted_name_of_a_docstring_exists(package):
    modules = [module for module in FILES if module.partition(".")[0] == package]
    named = {(name, module) for module in modules for name in dotted_names(FILES[module])}
    named = {pair for pair in named if pair[0] not in ELSEWHERE and pair[0].rpartition(".")[2] not in ENDINGS}
    assert len(named) > 10
    missing = [f"{name} in {module}" for name, module in sorted(named) if not exists(name, module)]
    assert not missing, missing


def test_a_name_that_does_not_exist_is_found():
    module = "interp.verdict.explanations"
    names = ("explanations.SCORING", "explanations.SCORED", "Run.has", "Run.had", "torch.arange", "torch.arrange")
    assert [name for name in names if exists(name, module)] == ["explanations.SCORING", "Run.has", "torch.arange"]
