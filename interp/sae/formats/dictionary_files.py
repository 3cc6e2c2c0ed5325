"""Read and write the folder of a dictionary in any format, and read SAELens's releases.

A folder has a `cfg.json`, and the tensors in `sae_weights.safetensors` (formats `interp` and `saelens`) or in
`sae.safetensors` (`sparsify`). The config that a dictionary was trained with is in `cfg.json` under metadata →
`interp`; it stays there if its architecture is not imported. Nothing that is read can run code. Damaged files raise a
ValueError that names the file and the fault.
"""

from pathlib import Path
from typing import Any, NamedTuple

from torch import Tensor

from interp.checks.arguments import check_finite
from interp.checks.errors import DamagedError, InterpError
from interp.sae.file_tensors import FileTensors
from interp.sae.formats.native import from_native, to_native
from interp.sae.formats.saelens import from_saelens, to_saelens
from interp.sae.formats.sparsify import from_sparsify
from interp.sae.formats.stored_dictionary import StoredDictionary
from interp.storage.artifacts import check_exists, looks_like_path
from interp.storage.files import read_json, read_tensors, write_json, write_tensors
from interp.storage.manifests import verify

CONFIG_FILE = "cfg.json"
WEIGHTS_FILE = "sae_weights.safetensors"
_SPARSIFY_WEIGHTS = "sae.safetensors"
_SCALER = "activation_scaler.json"
"""SAELens's file of a scale of the inputs, beside some dictionaries."""
_REMEDY = "save it again, or download it again"


class EncodedFiles(NamedTuple):
    """A dictionary encoded in one format."""

    cfg: dict[str, Any]
    tensors: dict[str, Tensor]

    def write(self, folder: Path) -> None:
        write_tensors(folder / WEIGHTS_FILE, self.tensors)
        write_json(folder / CONFIG_FILE, self.cfg)


def encode_files(stored: StoredDictionary, format: str) -> EncodedFiles:
    """Return a dictionary as files of a format. Raises ValueError for an unknown format, or one that cannot represent
    the dictionary."""
    if format not in ("saelens", "interp"):
        raise InterpError(f"format={format!r} is not known; 'saelens' and 'interp' are")
    return EncodedFiles(*(to_native(stored) if format == "interp" else to_saelens(stored)))


def read_dictionary(path_or_release: str | Path, sae_id: str | None) -> StoredDictionary:
    """Return the dictionary in a folder or of a release. Raises DamagedError, naming the file, for damaged files, and
    for weights that are not finite once scales and norms are folded in."""
    stored = _read(path_or_release, sae_id)
    tensors = {name: getattr(stored, name) for name in ("W_enc", "W_dec", "b_enc", "b_dec", "W_skip")}
    tensors["threshold"] = getattr(stored.encoder, "threshold", None)
    try:
        check_finite(**tensors)
    except ValueError as error:
        raise DamagedError(f"{path_or_release}: {error}") from None
    return stored


def _read(path_or_release: str | Path, sae_id: str | None) -> StoredDictionary:
    folder = Path(path_or_release)
    for file in (CONFIG_FILE, WEIGHTS_FILE, _SPARSIFY_WEIGHTS, _SCALER) if folder.is_dir() else ():
        verify(folder / file)
    if (folder / CONFIG_FILE).exists():
        if sae_id is not None:
            raise InterpError(f"{folder} is one dictionary's folder, not a release with {sae_id!r}: leave sae_id out")
        return _from_folder(folder)
    if sae_id is None and looks_like_path(str(folder)):
        check_exists(folder, "sae")
    if not folder.is_dir() and sae_id is None and (ids := _ids_of(str(folder))):
        shown = ", ".join(ids[:3]) + (" …" if len(ids) > 3 else "")
        spelling = f"on the command line {folder}:{ids[0]}"
        raise InterpError(f"the release {folder} has {len(ids)} dictionaries: give a sae_id, as {shown} ({spelling})")
    if folder.is_dir() or sae_id is None:
        inner = sorted(file.parent.name for file in folder.glob(f"*/{CONFIG_FILE}"))
        remedy = f"give one of its folders ({', '.join(inner)})" if inner else "give the folder of a saved dictionary"
        raise InterpError(f"{folder} contains no {CONFIG_FILE}: {remedy}, or a SAELens release together with a sae_id")
    return _from_release(str(path_or_release), sae_id)


def read_config(folder: Path) -> dict[str, Any]:
    """Return the content of a dictionary's `cfg.json`. Raises DamagedError if it is not a JSON object."""
    return read_json(folder / CONFIG_FILE, _REMEDY)


def _from_folder(folder: Path) -> StoredDictionary:
    cfg = read_config(folder)
    source = str(folder / CONFIG_FILE)
    weights = folder / (_SPARSIFY_WEIGHTS if (folder / _SPARSIFY_WEIGHTS).exists() else WEIGHTS_FILE)
    if not weights.exists():
        raise DamagedError(f"{folder} is not a complete dictionary: {WEIGHTS_FILE} is missing")
    parts = FileTensors(read_tensors(weights, _REMEDY), str(weights))
    if weights.name == _SPARSIFY_WEIGHTS:
        return from_sparsify(cfg, parts, source)
    if cfg.get("architecture") == "interp":
        return from_native(cfg, parts, source)
    scaler = read_json(folder / _SCALER, _REMEDY) if (folder / _SCALER).exists() else {}
    return from_saelens(cfg, parts, source, scaler)


def _ids_of(release: str) -> list[str]:
    """Return the dictionaries of a release that SAELens knows by name."""
    from sae_lens.loading.pretrained_saes_directory import get_pretrained_saes_directory

    known = get_pretrained_saes_directory()
    return list(known[release].saes_map) if release in known else []


def _from_release(release: str, sae_id: str) -> StoredDictionary:
    import sae_lens

    source = f"{release}, {sae_id}"
    try:
        loaded = sae_lens.SAE.from_pretrained(release, sae_id)
    except OSError as error:
        reason = str(error).strip().partition("\n")[0]
        raise InterpError(
            f"{source} could not be downloaded: load it once while online, it then stays in the Hugging Face cache "
            f"({reason})"
        ) from error
    except ValueError as error:
        raise InterpError(f"{source} is not a dictionary that SAELens knows: {error}") from error
    return from_saelens(loaded.cfg.to_dict(), FileTensors(loaded.state_dict(), source), source, {})
