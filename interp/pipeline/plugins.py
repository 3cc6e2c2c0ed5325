"""A user's own code, by the path of its file: an architecture, a source of text or of models, a stage.

A file is run only because the user named it: in a configuration, `plugins = ["mine.py"]`, which `interp run` reads, or
with `interp COMMAND --import mine.py`. What it registers can then be used by name, like the parts of the library. A run
folder keeps the path and the SHA-256 of each file in its `run.toml`. Opening a run, or any other folder, does not run
code.
"""

import importlib.util
import sys
from collections.abc import Mapping
from pathlib import Path

from interp.checks.errors import InterpError
from interp.storage.artifacts import check_exists
from interp.storage.files import digest_file

_imported = list[str]()
"""The names of the modules that this process has imported, in their order."""


def import_plugin(file: str | Path) -> str:
    """Run a Python file, once in a process, and return its SHA-256. Raises ValueError if it is not a Python file;
    errors of the file itself are passed on."""
    file = Path(file).expanduser().resolve()
    digest = plugin_digest(file)
    name = _module_name(file, digest)
    if name not in sys.modules:
        spec = importlib.util.spec_from_file_location(name, file)
        assert spec is not None and spec.loader is not None
        # It is registered before it runs: dataclasses look up their module there.
        sys.modules[name] = importlib.util.module_from_spec(spec)
        try:
            spec.loader.exec_module(sys.modules[name])
        except BaseException:
            del sys.modules[name]
            raise
        _imported.append(name)
    return digest


def n_imported() -> int:
    """Return how many plugins this process has imported. Each can change what a configuration means."""
    return len(_imported)


def check_imported(plugins: Mapping[str, str], where: Path) -> None:
    """Check that this process has imported the plugins of the run folder `where`, in the versions that made it. Raises
    ValueError if not."""
    for file, digest in plugins.items():
        if _module_name(Path(file), digest) not in sys.modules:
            raise InterpError(
                f"{where} was made with {file}: add --import {file}, or make it again if the file changed"
            )


def plugin_digest(file: Path) -> str:
    """Return the SHA-256 of a Python file. Raises ValueError if it is not a Python file."""
    check_exists(file)
    if not file.is_file() or file.suffix != ".py":
        raise InterpError(f"{file} is not a Python file: a plugin's name ends in .py")
    return digest_file(file)


def _module_name(file: Path, digest: str) -> str:
    return f"{file.stem}_{digest[:12]}"
