"""How much faster are scan, ranking and effects if two processes divide them, each on a core of its own?

    python -m analyses.bench.processes runs/demo [--processes 2] [--latents 512] [--out runs/bench_processes]

Claim tested: two processes take at most 1 / 1.7 of the time of one, each with one thread. What does not shrink is what
every process does by itself: it starts, opens the text and reads the codes. Effects fall just short of
the claim.

The jobs run under `torchrun`. Each process counts its own processor seconds, from the start of Python to the end of the
job, which other work on the machine disturbs least. The speed is derived from them, as if each process had a core to
itself: the seconds of one process over those of the process that takes longest. Seconds that a process waits for others
are not counted. Effects are those of a random sample of latents. Writes results.json, where jobs that were measured
before stay.
"""

import argparse
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from analyses.bench.peers import versions
from interp import Run, rank_features, scan_features
from interp.effects import feature_effects
from interp.effects.ablation_plan import draw_latents
from interp.runtime.processes import processes
from interp.storage.files import read_json, write_json

JOBS = ("scan", "ranking", "effects")


def main() -> None:
    o = parse()
    if o.job:
        work(o)
        return
    o.out.mkdir(parents=True, exist_ok=True)
    settings = {"run": o.run.name, "processes": o.processes, "latents": o.latents}
    results = {"jobs": {}, "settings": settings, "versions": versions()}
    if (file := o.out / "results.json").exists() and (before := read_json(file, "delete it"))["settings"] == settings:
        results["jobs"] = before["jobs"]
    for job in o.jobs:
        results["jobs"][job] = measure(job, o)
        write_json(file, results)


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path, help="a finished run folder")
    parser.add_argument("--jobs", choices=JOBS, nargs="+", default=JOBS)
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--latents", type=int, default=2048, help="latents whose effects are measured")
    parser.add_argument("--out", type=Path, default=Path("runs/bench_processes"))
    parser.add_argument("--job", choices=JOBS, help="do this, in one of the processes")
    return parser.parse_args()


def measure(job: str, o: argparse.Namespace) -> dict[str, Any]:
    """Do a job in one process, then in several; their processor seconds."""
    seconds = {}
    for count in (1, o.processes):
        torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(count)]
        options = [str(o.run), f"--latents={o.latents}", f"--out={o.out}", f"--job={job}"]
        command = [*torchrun, "-m", "analyses.bench.processes", *options]
        subprocess.run(command, check=True, env={**os.environ, "OMP_NUM_THREADS": "1"})
        files = [o.out / f"{job}-{count}-{rank}.json" for rank in range(count)]
        seconds[count] = [json.loads(file.read_text()) for file in files]
    row = {"one": seconds[1][0], "each": seconds[o.processes], "faster": seconds[1][0] / max(seconds[o.processes])}
    print(job, row, flush=True)
    return row


def work(o: argparse.Namespace) -> None:
    world, run = processes(), Run(o.run)
    if o.job == "scan":
        inputs = {"model": run.model, "vocab": run.tokenizer.display(), "labels": run.harvested.labels}
        scan_features(run.sae, run.store, run.hook_name, o.out / f"scanned by {world.count}", overwrite=True, **inputs)
    elif o.job == "ranking":
        rank_features(run.features, labels=run.harvested.labels)
    else:
        latents = draw_latents(run.features, o.latents, seed=0)
        feature_effects(run.model, run.hook_name, run.sae, run.features, latents=latents)
    write_json(o.out / f"{o.job}-{world.count}-{world.rank}.json", time.process_time())


if __name__ == "__main__":
    main()
