"""Files that are whole or not there: written beside their place and renamed, so that a kill leaves the old one."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def atomic(file: str | Path) -> Iterator[Path]:
    """A path to write to that becomes `file` when the block ends; after an error `file` stays as it was."""
    file = Path(file)
    temporary = file.with_name(f"{file.name}.tmp")
    try:
        yield temporary
        os.replace(temporary, file)
    finally:
        temporary.unlink(missing_ok=True)
