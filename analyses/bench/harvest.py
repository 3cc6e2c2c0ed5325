"""How fast is a harvest compared with the forward pass that it needs, and with SAELens?

    python -m analyses.bench.harvest [--tokens 400000] [--rounds 3] [--threads 2] [--out runs/bench_harvest]

Claims tested: `harvest` runs at ≥ 0.8 of the rate of the model's own forward pass up to the hooked layer and ≥ 5× the
rate of SAELens's `CacheActivationsRunner(shuffle=True)`. It stores ≤ 2.05 bytes a value, all files included.

The model has two layers, d_model 128, MLP 512, vocabulary 4096, context 128 and random weights. The text is
Shakespeare, and the hook is blocks.1.mlp.hook_post. All contenders run in one process, in turn, `--rounds` times.
Medians are reported, so other load on the machine affects all contenders alike. `ratio` is the median over rounds of
the rate divided by that of the forward pass of the same model in the same round. CPU seconds (all threads) are given
too, because they do not grow when other work slows the machine down.

If the weights of SmolLM2-135M are installed, it is timed too (bf16, layer 15 of 30).

SAELens fills whole buffers (2 GB by default), so it caches more tokens than were requested. Its rate is given twice: in
tokens requested, which a user waits for, and in tokens stored, which the machine does. Writes results.json.
"""

import argparse
import platform
import shutil
import statistics
import tempfile
import time
import warnings
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from analyses.bench.subject import (
    D_MLP,
    HOOK,
    N_CTX,
    PeerHarvest,
    Timing,
    saelens_harvest,
    shakespeare,
    size_of,
    transformers_tokenizer,
    two_layers,
)
from interp.activations import ActivationStore
from interp.activations.harvesting import harvest
from interp.storage.files import write_json
from models.corpus import CorpusConfig, load_documents
from models.loading import load_model, smollm2_file, to_hooked_transformer
from models.tokenizing import tokenize

REAL_LAYER, REAL_SEQUENCES, REAL_BATCH = 15, 128, 16


def main() -> None:
    args = parse_arguments()
    torch.set_num_threads(args.threads)
    warnings.filterwarnings("ignore")
    tokens, tokenizer = shakespeare(args.tokens)
    ours = two_layers(tokenizer)
    with tempfile.TemporaryDirectory(dir=args.scratch) as scratch:
        hooked = to_hooked_transformer(ours, transformers_tokenizer(tokenizer, Path(scratch) / "tokenizer"))
        store, peer = Path(scratch) / "store", Path(scratch) / "peer"
        contenders: dict[str, Callable[[], object]] = {
            "HookedTransformer, forward alone": lambda: forward(hooked, tokens, args.batch_size),
            "HookedTransformer, harvest": lambda: harvest_into(store, hooked, tokens, args.batch_size),
            "our Transformer, forward alone": lambda: forward(ours, tokens, args.batch_size),
            "our Transformer, harvest": lambda: harvest_into(store, ours, tokens, args.batch_size),
        }
        rows = summarise(time_in_turn(contenders, args.rounds), tokens.numel())
        if args.peer_rounds:
            peer_runs = [saelens_harvest(peer, hooked, tokens, HOOK) for _ in range(args.peer_rounds)]
            rows += peer_rows(peer_runs, tokens.numel())
        rows += real_model_rows(Path(scratch) / "real", args.rounds)
        bytes_per_value = size_of(store) / (tokens.numel() * D_MLP)
        reading = reading_of(ActivationStore.open(store))
    results = {
        "rows": rows,
        "bytes_per_value": round(bytes_per_value, 4),
        "reading": reading,
        "tokens": tokens.numel(),
        "rounds": args.rounds,
        "threads": args.threads,
        "batch_size": args.batch_size,
        "versions": {"python": platform.python_version(), **{n: version(n) for n in ("torch", "sae-lens")}},
    }
    report(results)
    args.out.mkdir(parents=True, exist_ok=True)
    write_json(args.out / "results.json", results)


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tokens", type=int, default=400_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--batch-size", type=int, default=64, help="sequences a forward pass; SAELens has its own 32")
    parser.add_argument("--peer-rounds", type=int, default=1, help="rounds of SAELens; 0 leaves it out")
    parser.add_argument(
        "--scratch", type=Path, help="where the stores go and are deleted; by default the temporary folder"
    )
    parser.add_argument("--out", type=Path, default=Path("runs/bench_harvest"))
    return parser.parse_args()


@torch.no_grad()
def forward(model, tokens: torch.Tensor, batch_size: int) -> None:
    for batch in tokens.long().split(batch_size):
        model(batch, stop_at_layer=2)


def harvest_into(out: Path, model, tokens: torch.Tensor, batch_size: int) -> None:
    shutil.rmtree(out, ignore_errors=True)
    harvest(model, tokens, [HOOK], out, batch_size=batch_size)


def real_model_rows(out: Path, rounds: int) -> list[dict[str, object]]:
    """Time the real model's blocks up to the hooked one alone, and the harvest from them. Returns no rows if the model
    is not installed."""
    try:
        weights = smollm2_file()
    except ValueError as error:
        print(f"SmolLM2 is left out: {error}")
        return []
    model = load_model(str(weights), dtype="bfloat16")
    documents = load_documents(CorpusConfig(source="shakespeare", characters=200_000))
    tokens = tokenize(documents, model.tokenizer, N_CTX).tokens[:REAL_SEQUENCES]
    decoder: Any = next(module for module in model.modules() if hasattr(module, "layers"))
    blocks = decoder.layers

    @torch.no_grad()
    def forward_alone() -> None:
        decoder.layers = blocks[: REAL_LAYER + 1]
        try:
            for batch in tokens.long().split(REAL_BATCH):
                decoder(batch, use_cache=False)
        finally:
            decoder.layers = blocks

    def harvest_it() -> None:
        """Harvest without the sample that finds outliers, which of so few tokens would be most of them."""
        shutil.rmtree(out, ignore_errors=True)
        harvest(model, tokens, [f"model.layers.{REAL_LAYER}"], out, batch_size=REAL_BATCH, max_norm=None)

    contenders: dict[str, Callable[[], object]] = {
        "SmolLM2-135M, forward alone": forward_alone,
        "SmolLM2-135M, harvest": harvest_it,
    }
    return summarise(time_in_turn(contenders, rounds), tokens.numel())


def time_in_turn(contenders: dict[str, Callable[[], object]], rounds: int) -> dict[str, list[Timing]]:
    timings: dict[str, list[Timing]] = {name: [] for name in contenders}
    for _ in range(rounds):
        for name, run in contenders.items():
            wall, cpu = time.perf_counter(), time.process_time()
            run()
            timings[name].append(Timing(time.perf_counter() - wall, time.process_time() - cpu))
            print(f"{name}: {timings[name][-1].wall:.1f} s", flush=True)
    return timings


def summarise(timings: dict[str, list[Timing]], n_tokens: int) -> list[dict[str, object]]:
    rows = []
    for name, runs in timings.items():
        alone = f"{name.partition(',')[0]}, forward alone"
        pairs = list(zip(timings[alone], runs, strict=True))
        rows.append(
            {
                "name": name,
                "tokens_per_second": round(n_tokens / statistics.median(run.wall for run in runs)),
                "ratio": round(statistics.median(base.wall / run.wall for base, run in pairs), 3),
                "cpu_seconds": round(statistics.median(run.cpu for run in runs), 2),
                "cpu_ratio": round(statistics.median(base.cpu / run.cpu for base, run in pairs), 3),
                "wall_seconds": [round(run.wall, 3) for run in runs],
            }
        )
    return rows


def peer_rows(runs: list[PeerHarvest], n_asked: int) -> list[dict[str, object]]:
    wall = statistics.median(run.timing.wall for run in runs)
    row = {"cpu_seconds": round(statistics.median(run.timing.cpu for run in runs), 2), "wall_seconds": round(wall, 3)}
    return [
        {"name": "SAELens, of tokens asked for", "tokens_per_second": round(n_asked / wall), **row},
        {"name": "SAELens, of tokens stored", "tokens_per_second": round(runs[0].n_stored / wall), **row},
    ]


def reading_of(store: ActivationStore) -> dict[str, float]:
    """Return rows a second of an epoch in batches of 4096 (the first checks the sums), and seconds to go on in its
    middle."""
    rates = []
    for _ in range(2):
        start = time.perf_counter()
        n_rows = sum(len(batch) for batch in store.batches(HOOK, 4096))
        rates.append(n_rows / (time.perf_counter() - start))
    batches = store.batches(HOOK, 4096, epochs=None)
    state = batches.state_dict() | {"row": 5 * len(store) // 2}
    start = time.perf_counter()
    batches.load_state_dict(state)
    next(batches)
    return {
        "first_epoch_rows_per_second": round(rates[0]),
        "later_rows_per_second": round(rates[1]),
        "seconds_to_resume": round(time.perf_counter() - start, 3),
    }


def report(results: dict) -> None:
    print(f"{'':36}{'tokens/s':>10}{'ratio':>8}{'CPU s':>9}{'CPU ratio':>11}")
    rates = {row["name"]: row["tokens_per_second"] for row in results["rows"]}
    for row in results["rows"]:
        line = f"{row['name']:36}{row['tokens_per_second']:10,}{row.get('ratio', ''):>8}"
        print(f"{line}{row['cpu_seconds']:9.2f}{row.get('cpu_ratio', ''):>11}")
    for name in rates:
        if name.startswith("SAELens"):
            times = [rates[f"{model}, harvest"] / rates[name] for model in ("HookedTransformer", "our Transformer")]
            print(
                f"harvest / {name}: {times[0]:.1f} × on the same HookedTransformer, {times[1]:.1f} × on our Transformer"
            )
    print(f"bytes a value, all files: {results['bytes_per_value']}")
    reading = results["reading"]
    print(
        f"reading: {reading['first_epoch_rows_per_second']:,} rows/s with the sums checked, then "
        f"{reading['later_rows_per_second']:,}; going on in mid-epoch after {reading['seconds_to_resume']} s"
    )


if __name__ == "__main__":
    main()
