"""A stage whose results change has another version: otherwise a run that exists would keep its old results.

`stage_results.json` has a line for each stage: the fingerprint of what it is made of (`pipeline.states`), in which its
version is, and what it then gave in a short run. Training is so short that what a processor and its threads round
changes most numbers by less than 5 %, and none by 20 %. The numbers of a definition that is changed differ by more; a
small change of one passes unseen. The text is generated, the same with each version of Python. After a version was
raised, write the file anew:

    python -m tests.pipeline.test_stage_versions
"""

import json
import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from interp.pipeline.execution import run_stages
from interp.pipeline.run import Run
from interp.pipeline.stages import STAGES
from models.text_sources.generated import FORMATS
from tests.tiny import TINY

COMMAND = "python -m tests.pipeline.test_stage_versions"
FILE = Path(__file__).with_name("stage_results.json")
SHORT = TINY.replace(
    corpus=replace(TINY.corpus, shares=dict.fromkeys(FORMATS, 1 / len(FORMATS))),
    training=replace(TINY.training, tokens=3_000),
    harvest=replace(TINY.harvest, tokens=8_000),
    sae=replace(TINY.sae, k=2, tokens=6_000),
    quality=replace(TINY.quality, tokens=2_000),
    effects=replace(TINY.effects, sequences=2),
    nulls=replace(TINY.nulls, tokens=4_000, sae_tokens=3_000, latents=16),
)
LAST_MEASURED = "names"
"""The page after it shows the results of the others, and is compared with them in `tests/report`."""
TOLERANCE = 0.2
"""The relative change of a number that may be one of rounding: some firings of untrained latents come and go."""
UNSTABLE = ("histograms.parquet", "_low", "_high", "sure_", "dead", "seconds", "bytes_per_value")
"""Parts of the names of numbers that change by more: ends of intervals, shares of few latents (one of 64 is dead on a
processor, and two on another), and times."""


def results_of(run: Run) -> dict[str, dict]:
    """Return of each stage its fingerprint and its numbers: the number of rows of each table and the mean magnitude of
    each column, or the results in its manifest if it writes no table."""
    return {name: stage_results(run.folder(name), run.manifest(name)) for name in STAGES if run.has(name)}


def stage_results(folder: Path, manifest: dict) -> dict:
    numbers = {}
    for file in sorted(folder.glob("*.parquet")):
        table = pd.read_parquet(file).select_dtypes(["number", "bool"]).astype(float)
        means = table.replace([np.inf, -np.inf], np.nan).abs().mean()
        numbers |= {f"{file.name} {column}": mean for column, mean in means.items()} | {file.name: float(len(table))}
    numbers = numbers or pd.json_normalize(manifest["results"]).to_dict("records")[0]
    stable = {
        name: value if isinstance(value, int) else float(f"{value:.3g}")
        for name, value in numbers.items()
        if isinstance(value, int | float) and not np.isnan(value) and not any(part in name for part in UNSTABLE)
    }
    return {"fingerprint": manifest["fingerprint"][:16], "numbers": stable}


def forgotten(before: dict[str, dict], now: dict[str, dict]) -> list[str]:
    """Return a message for each stage that gives other numbers from the same inputs, settings and version."""
    messages, differ = [], set()
    for name, results in now.items():
        old = before.get(name, {})
        if old.get("fingerprint") != results["fingerprint"] or differ.intersection(STAGES[name].all_inputs):
            differ.add(name)  # as it may, or must after what it reads
        elif changes := changed_numbers(old["numbers"], results["numbers"]):
            differ.add(name)
            messages.append(
                f"the stage {name} gives other results than its version {STAGES[name].version} did ({changes}): raise "
                f"its version in interp/pipeline/stages/{name}.py, then run `{COMMAND}`"
            )
    return messages


def changed_numbers(before: dict, now: dict) -> str:
    """Return which numbers differ in words, or "" if none does: whole numbers by any amount."""
    if before.keys() != now.keys():
        return "other numbers: " + ", ".join(sorted(before.keys() ^ now.keys()))
    return ", ".join(
        f"{name}: {before[name]}, now {value}"
        for name, value in now.items()
        if not (np.isclose(value, before[name], TOLERANCE) if isinstance(value, float) else value == before[name])
    )


@pytest.mark.usefixtures("tiny_run")  # which has compiled the loops
def test_a_stage_with_other_results_has_another_version(tmp_path):
    before = json.loads(FILE.read_text())
    now = results_of(run_stages(SHORT, tmp_path / "run", until=LAST_MEASURED))
    assert not (messages := forgotten(before, now)), "\n".join(messages)
    outdated = [name for name in now if before.get(name, {}).get("fingerprint") != now[name]["fingerprint"]]
    assert not outdated, f"other versions or settings of {', '.join(outdated)}: run `{COMMAND}`"


def main() -> None:
    """Write the file anew, unless a stage with other results has the version that it had."""
    with tempfile.TemporaryDirectory() as folder:
        now = results_of(run_stages(SHORT, Path(folder) / "run", until=LAST_MEASURED))
    before = json.loads(FILE.read_text()) if FILE.exists() else {}
    if messages := forgotten(before, now):
        raise SystemExit("\n".join(messages))
    FILE.write_text("{\n" + ",\n".join(f'"{name}": {json.dumps(results)}' for name, results in now.items()) + "\n}\n")


if __name__ == "__main__":
    main()
