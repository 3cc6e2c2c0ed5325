"""How long does a training step of a dictionary take, compared with the peers and with the least that any step needs?

    python -m analyses.bench.sae                     three sizes, batch 2048, two threads, and nothing else running
    python -m analyses.bench.sae --sizes medium --tables parts reader precision
    python -m analyses.bench.sae --device cuda --sizes wide
    python -m analyses.bench.sae --quick             a tiny size, for the tests

Claims tested, on two cores at d_in 512, d_sae 8192, k 32:  TopK and BatchTopK ≥ 12 × SAELens TopK in fp32, ≥ 4 ×
sparsify in fp32, ≤ 2.5 × the floor; at d_in 768, d_sae 24576 ≥ 3 × sparsify; JumpReLU, L1 and Matryoshka ≥ 8 ×
SAELens's own at L0 ≈ 32; reading from a store keeps ≥ 0.95 of the rate of the step alone. On a GPU at d_in 2304, d_sae
65536, k 64, batch 8192: ≥ 3 × SAELens, ≥ 1.2 × sparsify.

All contenders take one step per round, in turn, on the same random activations; medians are reported. A contender with
long steps sits out the later rounds (`n` counts its rounds). The floor is the encoder's matmul (in bfloat16 if the
processor has units for it) plus a fused Adam step over both weight matrices. Peers are timed if they are installed
(`bench.peers`), in fp32 unless stated otherwise. Architectures without a fixed k, ours and theirs, start at biases or
thresholds at which k latents fire on average; `L0` is the number that fired in the last round. Ratios say how many
times faster than that peer; `floor` counts floors. `MB` (of the first size) is the peak memory of three steps in a
separate process, minus what the process held before they were set up. Scaling: the step as only d_sae or only k
changes, from a quarter to four times that of the first size.
"""

import argparse
import json
import logging
import statistics
import subprocess
import sys
import time
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch

from analyses.bench.peers import Contender, versions
from analyses.bench.sae_details import parts, precision, reader
from analyses.bench.step_contenders import QUICK, SIZES, Size, built, entrants, random_rows

LEAST_ROUNDS = 3
TABLES = ("speed", "memory", "scaling", "parts", "reader", "precision")
OWN_PEER = {
    "TopK": "TopK",
    "BatchTopK": "BatchTopK",
    "Matryoshka": "MatryoshkaBatchTopK",
    "JumpReLU": "JumpReLU",
    "ReLU": "Standard",
    "Gated": "Gated",
}


class Row(NamedTuple):
    name: str
    ms: float
    tokens_per_second: float
    l0: float | None
    rounds: int
    ratios: dict[str, float | None]
    peak_mb: float | None


def main(arguments: list[str] | None = None) -> dict[str, Any]:
    o = parse(arguments)
    torch.set_num_threads(o.threads)
    warnings.filterwarnings("ignore")
    sizes = {"quick": QUICK} if o.quick else {name: SIZES[name] for name in o.sizes}
    size = next(iter(sizes.values()))
    if o.only:
        print(peak_of(o.only, size, o.device))
        return {}
    results: dict[str, Any] = {"settings": {**vars(o), "out": str(o.out)}, "versions": versions(), "speed": {}}
    peaks = memory(size, next(iter(sizes)), o) if "memory" in o.tables else {}
    for name, each in sizes.items() if "speed" in o.tables else ():
        results["speed"][name] = [row._asdict() for row in speed(each, o, peaks if each is size else {})]
    if "scaling" in o.tables:
        results["scaling"] = scaling(size, o)
    data = random_rows(size, o.device)
    if "parts" in o.tables:
        results["parts"] = show_times("parts of a step of our TopK", timed(parts(data, size.d_sae, size.k), o))
    if "reader" in o.tables:
        results["reader"] = reader(size, rounds=2 if o.quick else 5, steps=8 if o.quick else 100)
    if "precision" in o.tables:
        results["precision"] = precision(size, tokens=4_000 if o.quick else 400_000)
    if o.out:
        o.out.mkdir(parents=True, exist_ok=True)
        (o.out / "results.json").write_text(json.dumps(results, indent=1))
    return results


def parse(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--sizes", nargs="+", choices=SIZES, default=list(SIZES)[:3], help="the first is what the rest use"
    )
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--seconds", type=float, default=10.0, help="a contender's steps take about this long at most")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--no-peers", action="store_true")
    parser.add_argument(
        "--tables",
        nargs="+",
        choices=TABLES,
        default=list(TABLES[:3]),
        help="also: parts, what our step consists of; reader, training from a store beside the step alone; precision, "
        "what bfloat16 changes in picks and in the result",
    )
    parser.add_argument("--quick", action="store_true", help=f"the size {tuple(QUICK)}, 2 rounds")
    parser.add_argument("--only", help=argparse.SUPPRESS)
    parser.add_argument("--out", type=Path, help="folder for results.json")
    options = parser.parse_args(arguments)
    if options.device == "cuda" and not torch.cuda.is_available():
        parser.error("--device cuda: torch finds no GPU here")
    if options.quick:
        options.rounds, options.seconds = 2, 1.0
    return options


def speed(size: Size, o: argparse.Namespace, peaks: Mapping[str, float]) -> list[Row]:
    data = random_rows(size, o.device)
    seconds, l0 = interleaved(built(entrants(data, size, not o.no_peers)), o.rounds, o.seconds)
    ms = {name: statistics.median(times) * 1e3 for name, times in seconds.items()}
    rows = [
        Row(name, each, size.batch / each * 1e3, l0[name], len(seconds[name]), ratios(name, ms), peaks.get(name))
        for name, each in ms.items()
    ]
    print(f"\nd_in={size.d_in} d_sae={size.d_sae} k={size.k} batch={size.batch} threads={o.threads} on {o.device}")
    heads = ("SAELens", "its own", "sparsify", "floor")
    print(f"{'':38}{'ms':>8}{'tokens/s':>10}{'L0':>7}{'n':>4}" + "".join(f"{head:>9}" for head in (*heads, "MB")))
    for row in rows:
        l0 = "" if row.l0 is None else f"{row.l0:.1f}"
        line = f"{row.name:38}{row.ms:8.1f}{row.tokens_per_second:10,.0f}{l0:>7}{row.rounds:4}"
        line += "".join(f"{'' if r is None else f'{r:.1f} ×':>9}" for r in row.ratios.values())
        print(line + ("" if row.peak_mb is None else f"{row.peak_mb:9.0f}"))
    return rows


def ratios(name: str, ms: Mapping[str, float]) -> dict[str, float | None]:
    kind = name.removeprefix("interp ")
    own_peer = f"SAELens {OWN_PEER[kind]}" if kind in OWN_PEER else ""
    references = {"saelens_topk": "SAELens TopK", "saelens_own": own_peer, "sparsify": "sparsify TopK"}
    times = {key: ms[peer] / ms[name] if peer in ms else None for key, peer in references.items()}
    return times | {"floors": ms[name] / ms["floor"]}


def interleaved(
    entries: Mapping[str, Contender], rounds: int, seconds: float
) -> tuple[dict[str, list[float]], dict[str, float | None]]:
    """Return the seconds of each step after two steps that are not counted, and the L0 of the last step."""
    durations: dict[str, list[float]] = {name: [] for name in entries}
    allowed: dict[str, int] = {}
    l0: dict[str, float | None] = {}
    for i in range(-2, rounds):
        for name, entry in entries.items():
            if i >= allowed.get(name, rounds):
                continue
            settle()
            start = time.perf_counter()
            result = entry.step(i + 2)
            settle()
            elapsed = time.perf_counter() - start
            l0[name] = entry.l0(result)
            if i < 0:
                allowed[name] = min(rounds, max(LEAST_ROUNDS, round(seconds / elapsed)))
            else:
                durations[name].append(elapsed)
    return durations, l0


def settle() -> None:
    """Wait for the GPU to finish."""
    if torch.cuda.is_initialized():
        torch.cuda.synchronize()


def timed(steps: Mapping[str, Callable[[], object]], o: argparse.Namespace) -> dict[str, float]:
    """Return the median milliseconds."""
    entries = {name: Contender(lambda i, step=step: step(), lambda nothing: None) for name, step in steps.items()}
    durations, _ = interleaved(entries, o.rounds, o.seconds)
    return {name: statistics.median(times) * 1e3 for name, times in durations.items()}


def show_times(title: str, times: Mapping[str, float]) -> dict[str, float]:
    print(f"\n{title}")
    for name, ms in times.items():
        print(f"  {name:44}{ms:9.2f} ms")
    return dict(times)


def scaling(size: Size, o: argparse.Namespace) -> dict[str, dict[str, dict[str, float]]]:
    """Return the milliseconds of a step when only d_sae, or only k, changes."""
    widths = [size._replace(d_sae=size.d_sae * f // 4) for f in (1, 2, 4, 8, 16)]
    ks = [size._replace(k=max(1, size.k * f // 4)) for f in (1, 2, 4, 8, 16)]
    wanted = ("floor", "interp TopK", "interp BatchTopK", "sparsify TopK")
    speeds: dict[str, dict[str, dict[str, float]]] = {}
    for axis, sizes in {"d_sae": widths, "k": ks}.items():
        speeds[axis] = {}
        print(f"\nscaling in {axis}, ms a step:  {', '.join(wanted)}")
        for each in sizes:
            data, chosen = random_rows(each, o.device), {}
            entries = entrants(data, each, not o.no_peers)
            chosen = built({name: entries[name] for name in wanted if name in entries})
            durations, _ = interleaved(chosen, o.rounds, o.seconds)
            times = {name: statistics.median(seconds) * 1e3 for name, seconds in durations.items()}
            speeds[axis][str(getattr(each, axis))] = times
            print(f"  {getattr(each, axis):8}" + "".join(f"{ms:10.1f}" for ms in times.values()))
    return speeds


def memory(size: Size, size_name: str, o: argparse.Namespace) -> dict[str, float]:
    """Return peak megabytes of each contender."""
    chosen = ["--quick"] if size_name == "quick" else ["--sizes", size_name]
    chosen += ["--device", o.device]
    peaks: dict[str, float] = {}
    for name in entrants(random_rows(size, o.device), size, not o.no_peers):
        command = [sys.executable, "-m", "analyses.bench.sae", "--only", name, *chosen, "--threads", str(o.threads)]
        done = subprocess.run(command, capture_output=True, text=True, cwd=Path(__file__).parents[2])
        if done.returncode:
            print(f"memory of {name} left out: {done.stderr.strip().splitlines()[-1]}")
        else:
            peaks[name] = float(done.stdout.split()[-1])
    return peaks


def peak_of(name: str, size: Size, device: str) -> float:
    """Return the peak memory, after a first step at the quick size has loaded and compiled all code."""
    entrants(random_rows(QUICK, device), QUICK, True)[name]().step(0)
    build = entrants(random_rows(size, device), size, True)[name]
    is_cuda = device == "cuda"
    before = torch.cuda.memory_allocated() / 2**20 if is_cuda else process_mb("VmRSS")
    contender = build()
    for i in range(3):
        contender.step(i)
    return (torch.cuda.max_memory_allocated() / 2**20 if is_cuda else process_mb("VmHWM")) - before


def process_mb(field: str) -> float:
    """Return a field of Linux's status of this process. The peak of getrusage would include the parent's memory."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith(f"{field}:"))


if __name__ == "__main__":
    logging.basicConfig(level=logging.WARNING)
    main()
