"""Can the workbench be made to lose a result, change one silently, crash, hang or eat the memory?

    python -m analyses.attack --out runs/attack                      all kinds, some 3,000 cases: about two hours
    python -m analyses.attack --only damage --seed 1                 one kind, other cases
    python -m analyses.attack --quick --out runs/quick               a few of each, for the tests

Claim: none. No signal, traceback or silent change; each refusal is one line that names what is wrong and its remedy.

    damage      every file of a finished run, damaged in each way (`analyses.attack_damage`), checksums on
    codes       200 bits flipped in the sparse codes: with checksums all refused; without, none crashes
    toml, arguments, corpus, jsonl, manifest    1,400 hostile inputs (`analyses.attack_inputs`), checksums off
    kill, pair  runs that are killed, or made by two at once (`analyses.attack_runs`)

Writes results.json: the table by kind and verdict, every row that is not ok, the seed and the versions.
"""

import argparse
import json
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from pathlib import Path
from random import Random
from typing import Any

import torch

from analyses import attack_damage, attack_inputs, attack_runs
from analyses.attack_trial import attempt, summary
from analyses.bench.peers import versions
from interp.storage.files import write_json

KINDS = ("damage", "codes", "inputs", "kill", "pair")
COUNTS = {"damage": None, "codes": 200, "inputs": 1400, "kill": 10, "pair": 20}
QUICK = {"damage": 12, "codes": 8, "inputs": 5, "kill": 1, "pair": 1}
"""Cases of a kind; None: all that there are."""


def main(arguments: Sequence[str] | None = None) -> dict[str, dict[str, int]]:
    options = parse(arguments)
    torch.set_num_threads(1)  # as the runs that are held against it: last bits follow the number of threads
    finished = attack_inputs.small_run(options.out / "finished")
    rows: list[dict[str, Any]] = []
    for kind in options.only:
        rows += attacked(kind, options, finished)
        table = summary(rows)
        bad = [row for row in rows if row["verdict"] != "ok"]
        results = {"seed": options.seed, "versions": versions(), "cases": len(rows), "verdicts": table, "not_ok": bad}
        write_json(options.out / "results.json", results)
    print(json.dumps(table, indent=1))
    return table


def attacked(kind: str, options: argparse.Namespace, finished: Path) -> list[dict[str, Any]]:
    """A row a case."""
    n, rng = (QUICK if options.quick else COUNTS)[kind], Random(f"{options.seed}:{kind}")
    work = options.out / "work"
    if kind == "inputs":
        return attack_inputs.run(options.seed, n or 0, work / kind, finished=finished, workers=options.workers)
    if kind in ("kill", "pair"):
        disturbed: Iterator[dict[str, Any]] = getattr(attack_runs, kind)(rng, finished, work / kind)
        return list(islice(disturbed, n))
    cases = attack_damage.cases(kind, rng, finished, n)
    places = [(work / f"{kind}-{i}").resolve() for i in range(len(cases))]
    with ThreadPoolExecutor(options.workers) as pool:
        return list(pool.map(attempt, cases, [finished.resolve()] * len(cases), places))


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", nargs="+", choices=KINDS, default=list(KINDS))
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--out", type=Path, default=Path("runs/attack"))
    return parser.parse_args(arguments)


if __name__ == "__main__":
    main()
