"""The packages that are installed here."""

from functools import cache
from importlib.metadata import PackageNotFoundError, version


def versions_of(*names: str) -> dict[str, str]:
    """Return the version of each package that is installed; the others are left out."""
    versions = {name: _version_of(name) for name in names}
    return {name: found for name, found in versions.items() if found is not None}


@cache  # every manifest has some, and reading one parses the package's whole description
def _version_of(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None
