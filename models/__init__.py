"""Language models to study and the text they learn from: corpus, tokenizer, transformer, training.

from models import load_model
model = load_model("gpt2")            # or a folder, a GGUF file, a model object: see `models.loading`
"""

from collections.abc import Callable
from importlib import import_module
from typing import Any

_PLACES = {
    "load_model": "models.loading",
    "load_tokenizer": "models.pretrained",
    "vocab_strings": "models.pretrained_tokenizer",
    "PretrainedTokenizer": "models.pretrained_tokenizer",
    "LanguageModel": "models.language_model",
    "tokenize": "models.tokenizing",
    "LabelledTokens": "models.tokens",
    "Tokenizer": "models.tokenizer",
    "Transformer": "models.transformer",
}
__all__ = list(_PLACES)
DTYPES = ("auto", "float32", "bfloat16", "float16")
"""What a model's weights may be loaded as; auto: as they are stored."""
Progress = Callable[[int, int, str], None]
"""Long work calls it with what is done, the total and a note."""


def __getattr__(name: str) -> Any:
    """Import a name's module when the name is first used: importing `models` loads no torch."""
    if name not in _PLACES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}; it has {', '.join(__all__)}")
    return getattr(import_module(_PLACES[name]), name)
