"""The loops that numba has compiled and keeps, beside the files of the package.

numba compiles a loop again once its own file has changed, but not once another file has, whose loops or classes it
uses: it would go on with the old ones, or fail where one is gone.
"""

from contextlib import suppress
from pathlib import Path

_PACKAGE = Path(__file__).parents[1]


def forget_outdated_loops(package: Path = _PACKAGE) -> None:
    """Let numba compile the loops of a package again that are older than any of its files with loops."""
    indices = list(package.rglob("__pycache__/*.nbi"))  # each named FILE.LOOP-LINE.PYTHON.nbi
    files = {index.parent.parent / f"{index.name.split('.')[0]}.py" for index in indices}
    changed = max((file.stat().st_mtime for file in files if file.is_file()), default=0)
    with suppress(OSError):  # another process has removed it, or nothing may be written here
        for index in indices:
            if index.stat().st_mtime < changed:
                index.unlink()
