"""The section [model]: the transformer that a run trains, or the pretrained model that it loads."""

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from interp.checks.errors import InterpError
from interp.checks.limits import CheckedFields, PositiveInt, Seed
from interp.storage.files import digest_file
from models.pretrained import MODEL_SOURCES, named_model
from models.sources import ModelDtype

if TYPE_CHECKING:
    from models.layers import TransformerConfig


@dataclass(frozen=True, kw_only=True)
class ModelSection(CheckedFields):
    source: str = "train"
    """`train`: the small transformer, on the corpus. Otherwise the source of a pretrained model, which has its own
    tokenizer: one of `MODEL_SOURCES`; `interp run --help` lists them."""
    name: str = ""
    """The name or folder of a pretrained model, or the path of a GGUF file."""
    revision: str | None = None
    """A revision of a Hugging Face name: a branch, tag or commit."""
    dtype: ModelDtype = "auto"
    """The type of a pretrained model's weights; auto: as they are stored."""
    n_ctx: PositiveInt = 128
    """Tokens per sequence."""
    preset: str = "one-layer"
    """To train: a name in `models.layers.PRESETS`; the fields below override it if they are given."""
    n_layers: PositiveInt | None = None
    d_model: PositiveInt | None = None
    n_heads: PositiveInt | None = None
    d_mlp: PositiveInt | None = None
    act_fn: str | None = None
    seed: Seed = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.source not in ("train", *MODEL_SOURCES):
            raise InterpError(f"source={self.source!r} must be one of train, {', '.join(MODEL_SOURCES)}")
        if self.is_trained and self.name:
            raise InterpError(f"name={self.name!r} names a pretrained model: give its source too")
        if not self.is_trained and not self.name:
            raise InterpError(f"source {self.source!r} needs name: {MODEL_SOURCES[self.source].takes}")

    @property
    def is_slow(self) -> bool:
        """Whether loading it is so slow that the run stores its weights."""
        return not self.is_trained and MODEL_SOURCES[self.source].slow

    @property
    def is_trained(self) -> bool:
        """Whether the run trains the model, on its corpus."""
        return self.source == "train"

    def pretrained(self) -> Any:
        """Return the pretrained model, loaded once per process."""
        return _load(self.source, self.name, self.revision, self.dtype)

    def hooked(self, d_vocab: int = 2) -> Any:
        """Return a model for inspecting its hooks: the pretrained one, or one to be trained, without weights and with a
        vocabulary of `d_vocab`."""
        if not self.is_trained:
            return self.pretrained()
        import torch

        from models.transformer import Transformer

        with torch.device("meta"):
            return Transformer(self.transformer(d_vocab))

    def transformer(self, d_vocab: int) -> "TransformerConfig":
        from models.layers import TransformerConfig

        fields = ("n_ctx", "n_layers", "d_model", "n_heads", "d_mlp", "act_fn", "seed")
        changed = {name: value for name in fields if (value := getattr(self, name)) is not None}
        return TransformerConfig.preset(self.preset, d_vocab=d_vocab, **changed)


@lru_cache(maxsize=1)
def _load(source: str, name: str, revision: str | None, dtype: str) -> Any:
    from models import load_model

    model = load_model(f"{source}:{name}", dtype=dtype, revision=revision)
    if model.tokenizer is None:
        raise InterpError(f"[model] name = {name!r} has no tokenizer with its weights: it cannot read text")
    return model


def model_of_folder(folder: Path) -> Any:
    """Open the folder of the stage `model`: a transformer trained here, or the pretrained model that it names."""
    from models import load_model

    described = named_model(folder)
    return load_model(folder) if described is None else _load(*described)


def model_files(config: ModelSection) -> dict[str, str]:
    """Return digests of the files of a pretrained model that lies in a folder."""
    path = Path(config.name).expanduser()
    if config.is_trained or not path.exists():
        return {}
    files = [path] if path.is_file() else sorted(file for file in path.iterdir() if file.is_file())
    return {file.name: digest_file(file) for file in files}
