"""A user's own code, by the path of its file: an architecture, a source of text or of models, a stage.

A file is run only because the user named it: in a configuration, `plugins = ["mine.py"]`, which `interp run` reads, or
with `interp COMMAND --import mine.py`. What it registers can then be used by name, like the parts of the library. A run
folder keeps the path and the digest of each file in its `run.toml`. Opening a run, or any other folder, does not run
code.

A file counts in the stages that can use what it registers (`Stage.extended_by`): once edited, it makes these again, and
those that read them. A measure that is tried out is best in a file of its own.
"""

import importlib.util
import sys
from collections.abc import Mapping
from pathlib import Path

from interp.checks.errors import InterpError
from interp.runtime.registry import registered_in
from interp.storage.artifacts import check_exists
from interp.storage.files import digest_code

_imported = list[str]()
"""The names of the modules that this process has imported, in their order."""


def import_plugin(file: str | Path) -> str:
    """Run a Python file, once in a process, and return its digest. Raises ValueError if it is not a Python file, or not
    Python; errors of the code itself are passed on."""
    file = Path(file).expanduser().resolve()
    plugin = plugin_digest(file)
    name = _module_name(file, plugin)
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
    return plugin


def n_imported() -> int:
    """Return how many plugins this process has imported. Each can change what a configuration means."""
    return len(_imported)


def check_imported(plugins: Mapping[str, str], where: Path) -> None:
    """Check that this process has imported the plugins of the run folder `where`, in the versions that made it. Raises
    ValueError if not."""
    for file, plugin in plugins.items():
        if registered_by(file, plugin) is None:
            raise InterpError(
                f"{where} was made with {file}: add --import {file}, or make it again if the file changed"
            )


def registered_by(file: str, plugin: str) -> set[tuple[str, str]] | None:
    """Return the noun and the name of all that a plugin has registered, as in `registry.register`; None if this process
    has not imported it in the version with the digest `plugin`."""
    module = sys.modules.get(_module_name(Path(file), plugin))  # of a file of this name, wherever it is now
    return None if module is None else {entry for entry, files in registered_in.items() if module.__file__ in files}


def plugin_digest(file: Path) -> str:
    """Return the digest of the code of a Python file. Raises ValueError if it is not a Python file, or not Python."""
    check_exists(file)
    if not file.is_file() or file.suffix != ".py":
        raise InterpError(f"{file} is not a Python file: a plugin's name ends in .py")
    try:
        return digest_code(file.read_bytes())
    except SyntaxError as error:
        raise InterpError(f"{file} is not Python, line {error.lineno}: {error.msg}") from None


def _module_name(file: Path, plugin: str) -> str:
    return f"{file.stem}_{plugin[:12]}"
