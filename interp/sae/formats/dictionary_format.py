"""Register a format of dictionaries: one function, which reads a folder.

    @dictionary_format("sparsify", files=("cfg.json", "sae.safetensors"))
    def read_sparsify(folder):
        \"\"\"One line of help.\"\"\"
        ...
        return StoredDictionary(…)              # the dictionary in a folder that has these files

    @dictionary_format("interp", files=("cfg.json", "sae_weights.safetensors"), encode=to_native)
    def read_native(folder): …                  # a format that is also written

`load_sae`, `SAE.save`, the commands and the search for a dictionary in a folder know each format that is registered.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from torch import Tensor

from interp.runtime.registry import register
from interp.sae.file_tensors import FileTensors
from interp.sae.formats.stored_dictionary import StoredDictionary
from interp.storage.artifacts import check_identifying_file, register_identifying_file
from interp.storage.files import read_json, read_tensors, write_json, write_tensors

CONFIG_FILE = "cfg.json"
WEIGHTS_FILE = "sae_weights.safetensors"
_REMEDY = "save it again, or download it again"


class EncodedFiles(NamedTuple):
    """A dictionary encoded in one format."""

    cfg: dict[str, Any]
    tensors: dict[str, Tensor]
    weights_file: str = WEIGHTS_FILE

    def write(self, folder: Path) -> None:
        write_tensors(folder / self.weights_file, self.tensors)
        write_json(folder / CONFIG_FILE, self.cfg)


@dataclass(frozen=True, kw_only=True)
class DictionaryFormat:
    """A format of a dictionary's folder."""

    name: str
    help: str
    read: Callable[[Path], StoredDictionary]
    """Reads a folder. Raises DamagedError, naming the file, for damaged files."""
    files: tuple[str, ...]
    """The files that each folder has. The first one tells that a folder is a dictionary."""
    optional_files: tuple[str, ...] = ()
    """Files that it reads if they exist."""
    owns: Callable[[Path], bool] = lambda folder: True
    """Returns whether a folder with these files is in this format, if several formats have files of these names."""
    encode: Callable[[StoredDictionary], EncodedFiles] | None = None
    """Returns the files of a dictionary; None for a format that is only read. Raises ValueError for a dictionary that
    the format cannot represent."""


FORMATS: dict[str, DictionaryFormat] = {}
"""The formats by name."""


def dictionary_format(
    name: str, **facts: Any
) -> Callable[[Callable[[Path], StoredDictionary]], Callable[[Path], StoredDictionary]]:
    """Register the function below, which reads a folder, as a format; its docstring is the help. `facts` are the fields
    of `DictionaryFormat` after `read`. Raises ValueError if another format has the name, or
    if its first file tells that a folder is something else."""

    def decorate(read: Callable[[Path], StoredDictionary]) -> Callable[[Path], StoredDictionary]:
        new = DictionaryFormat(name=name, help=" ".join((read.__doc__ or "").split()), read=read, **facts)
        check_identifying_file("sae", new.files[0])
        register(FORMATS, name, new, "format of dictionaries", lambda format: format.read)
        register_identifying_file("sae", new.files[0])
        return read

    return decorate


def read_config(folder: Path) -> dict[str, Any]:
    """Return the content of a dictionary's `cfg.json`. Raises DamagedError if it is not a JSON object."""
    return read_json(folder / CONFIG_FILE, _REMEDY)


def read_optional_config(file: Path) -> dict[str, Any]:
    """Return the content of a JSON file beside the dictionary; {} if there is none."""
    return read_json(file, _REMEDY) if file.exists() else {}


def read_weights(file: Path) -> FileTensors:
    """Return the tensors of a file. Raises DamagedError if it is damaged."""
    return FileTensors(read_tensors(file, _REMEDY), str(file))
