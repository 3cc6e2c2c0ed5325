"""Read and write the folder of a dictionary in any format, and read SAELens's releases.

The config that a dictionary was trained with is in `cfg.json` under metadata → `interp`; it stays there if its
architecture is not imported. Nothing that is read can run code. Damaged files raise a ValueError that names the file
and the fault.
"""

from collections.abc import Sequence
from pathlib import Path

from torch import Tensor

from interp.checks.arguments import check_finite
from interp.checks.errors import DamagedError, InterpError
from interp.sae.formats.dictionary_format import FORMATS, DictionaryFormat, EncodedFiles
from interp.sae.formats.saelens import ids_of_release, read_release
from interp.sae.formats.stored_dictionary import StoredDictionary
from interp.storage.artifacts import check_exists, looks_like_path
from interp.storage.manifests import verify


def written_formats() -> dict[str, DictionaryFormat]:
    """Return the formats that can be written, by name."""
    return {name: format for name, format in FORMATS.items() if format.encode is not None}


def possible_files(folder: Path) -> list[Path]:
    """Return the files that a dictionary in this folder may have, those of all formats, whether or not they exist."""
    names = (name for format in FORMATS.values() for name in (*format.files, *format.optional_files))
    return [folder / name for name in dict.fromkeys(names)]


def encode_files(stored: StoredDictionary, format: str) -> EncodedFiles:
    """Return a dictionary as files of a format. Raises ValueError for an unknown format, or one that cannot represent
    the dictionary."""
    encode = FORMATS[format].encode if format in FORMATS else None
    if encode is None:
        raise InterpError(f"format={format!r} is not one that can be written: {', '.join(written_formats())} can")
    return encode(stored)


def read_dictionary(path_or_release: str | Path, sae_id: str | None) -> StoredDictionary:
    """Return the dictionary in a folder or of a release. Raises DamagedError, naming the file, for damaged files, and
    for weights that are not finite once scales and norms are folded in."""
    stored = _read(path_or_release, sae_id)
    tensors = {name: getattr(stored, name) for name in ("W_enc", "W_dec", "b_enc", "b_dec", "W_skip")}
    tensors |= {name: value for name, value in vars(stored.encoder).items() if isinstance(value, Tensor)}
    try:
        check_finite(**tensors)
    except ValueError as error:
        raise DamagedError(f"{path_or_release}: {error}") from None
    return stored


def _read(path_or_release: str | Path, sae_id: str | None) -> StoredDictionary:
    folder = Path(path_or_release)
    for file in possible_files(folder) if folder.is_dir() else ():
        verify(file)
    if candidates := [format for format in FORMATS.values() if (folder / format.files[0]).exists()]:
        if sae_id is not None:
            raise InterpError(f"{folder} is one dictionary's folder, not a release with {sae_id!r}: leave sae_id out")
        return _format_of(folder, candidates).read(folder)
    if sae_id is None and looks_like_path(str(folder)):
        check_exists(folder, "sae")
    if not folder.is_dir() and sae_id is None and (ids := ids_of_release(str(folder))):
        shown = ", ".join(ids[:3]) + (" …" if len(ids) > 3 else "")
        spelling = f"on the command line {folder}:{ids[0]}"
        raise InterpError(f"the release {folder} has {len(ids)} dictionaries: give a sae_id, as {shown} ({spelling})")
    if folder.is_dir() or sae_id is None:
        inner = sorted({file.parent.name for name in _first_files() for file in folder.glob(f"*/{name}")})
        remedy = f"give one of its folders ({', '.join(inner)})" if inner else "give the folder of a saved dictionary"
        wanted = " or ".join(_first_files())
        raise InterpError(f"{folder} contains no {wanted}: {remedy}, or a SAELens release together with a sae_id")
    return read_release(str(path_or_release), sae_id)


def _format_of(folder: Path, candidates: Sequence[DictionaryFormat]) -> DictionaryFormat:
    """Return the format of a folder that has the first file of these formats."""
    missing = {format.name: [name for name in format.files if not (folder / name).exists()] for format in candidates}
    for format in candidates:
        if not missing[format.name] and format.owns(folder):
            return format
    if not all(missing.values()):
        raise InterpError(f"{folder} is a dictionary in none of the formats {', '.join(missing)}")
    nearest = min(missing.values(), key=len)
    raise DamagedError(f"{folder} is not a complete dictionary: {', '.join(nearest)} is missing")


def _first_files() -> list[str]:
    return list(dict.fromkeys(format.files[0] for format in FORMATS.values()))
