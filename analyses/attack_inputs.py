"""Hostile inputs for the command line: what does `interp` do with text, files and options that nobody should give it?

    toml        configurations: broken text, and every field with values that cannot be
    arguments   every option of every command with such values, and words that are no command
    corpus      text files: other encodings, no text, one endless line, …
    jsonl       lines that are no JSON, or other JSON than was asked for
    manifest    JSON files and the headers of tensor files in a finished run: cut, altered, of another shape

`cases(seed, n)` gives n of them, the same for the same seed; `run(seed, n, folder)` tries each (`attack_trial`).

    python -m analyses.attack_inputs --n 1400 --out runs/attack-inputs
"""

import argparse
import json
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from random import Random
from typing import Any

from analyses.attack_cases import arguments, corpus, jsonl, toml
from analyses.attack_files import manifest
from analyses.attack_trial import Case, attempt, summary

KINDS = {"toml": toml, "arguments": arguments, "corpus": corpus, "jsonl": jsonl, "manifest": manifest}
SMALL: dict[str, dict[str, Any]] = {
    "corpus": {"source": "dna", "characters": 120_000, "val_fraction": 0.2},
    "tokenizer": {"vocab_size": 300},
    "model": {"n_ctx": 32, "d_model": 16, "n_heads": 2, "d_mlp": 32, "n_layers": 1},
    "training": {"tokens": 4_096, "batch_size": 16},
    "harvest": {"tokens": 12_000, "batch_size": 16},
    "sae": {"d_sae": 16, "k": 2, "tokens": 8_192, "batch_size": 512},
    "quality": {"tokens": 2_000, "batch_size": 16},
    "nulls": {"tokens": 4_000, "sae_tokens": 4_000, "latents": 16},
}
"""A run whose every stage takes a second."""


def cases(seed: int, n: int, run: Path) -> Iterator[Case]:
    """n cases, of each kind in turn. `run` is the finished run whose files are damaged."""
    made = {kind: make(Random(f"{seed}:{kind}"), run) for kind, make in KINDS.items()}
    for i in range(n):
        yield next(made[list(made)[i % len(made)]])


def run(seed: int, n: int, folder: Path, *, finished: Path | None = None, workers: int = 2) -> list[dict[str, Any]]:
    """A row a case. `finished`: the run folder that is damaged; one is made where there is none."""
    finished = (finished or small_run(folder / "finished")).resolve()
    places = [folder.resolve() / f"case-{i}" for i in range(n)]
    with ThreadPoolExecutor(workers) as pool:
        return list(pool.map(attempt, cases(seed, n, finished), [finished] * n, places))


def small_run(folder: Path) -> Path:
    from interp.pipeline.config import RunConfig
    from interp.pipeline.execution import run_stages

    return run_stages(RunConfig.from_dict(SMALL), folder).path


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--n", type=int, default=1400)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=Path("runs/attack-inputs"))
    options = parser.parse_args()
    rows = run(options.seed, options.n, options.out)
    (options.out / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    for kind, counts in summary(rows).items():
        print(f"{kind:10s} {', '.join(f'{verdict} {n}' for verdict, n in sorted(counts.items()))}")
    sys.exit(any(row["verdict"] != "ok" for row in rows))


if __name__ == "__main__":
    main()
