"""Read the metrics of a training, of a language model or of a dictionary: a line of JSON per row."""

import json
from pathlib import Path
from typing import TYPE_CHECKING

from interp.checks.errors import DamagedError
from interp.storage.manifests import verify

if TYPE_CHECKING:
    import pandas as pd


def read_metrics(file: Path) -> "pd.DataFrame":
    """Read the complete lines of a metrics.jsonl. The last line of a running training may be incomplete. Raises
    ValueError for a damaged line."""
    import pandas as pd

    verify(file)
    try:
        text = file.read_text(encoding="utf-8")
        return pd.DataFrame([json.loads(line) for line in text[: text.rfind("\n") + 1].splitlines()])
    except ValueError as error:
        raise DamagedError(f"{file} is damaged, a line of it is not valid JSON ({error}): train again") from error
