"""The packages that are installed here."""

from importlib.metadata import PackageNotFoundError, version


def versions_of(*names: str) -> dict[str, str]:
    """Return the version of each package that is installed; the others are left out."""
    versions = {}
    for name in names:
        try:
            versions[name] = version(name)
        except PackageNotFoundError:
            continue
    return versions
