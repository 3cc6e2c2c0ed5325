"""Does the memory for tokenizing grow with the text, and how soon does a corpus of many files yield its first document?

    python -m analyses.bench.streaming [--tokens 10 100] [--files 20000] [--out runs/bench_streaming]

Claims tested: from 10 to 100 million tokens (`tokenize_stream`), the peak memory of the process grows by at most 20 %,
and so does that of a process that then reads all tokens. Of 20,000 files, the first document comes in under five
seconds. The text consists of words drawn by Zipf's law. The tokenizer is a BPE of 4,096 entries, trained on a part of
the text. Mapped pages, which the system may drop, are not counted. Writes results.json.
"""

import argparse
import json
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from analyses.bench.peers import versions
from interp.storage.files import write_json
from models.corpus import CorpusConfig, stream_documents
from models.documents import Document
from models.streaming import tokenize_stream
from models.tokenizer import Tokenizer
from models.tokens import LabelledTokens

N_CTX, N_WORDS, WORDS_A_DOCUMENT = 128, 20_000, 350
TOKENS_A_DOCUMENT = 530
"""Number of tokens per document, as the tokenizer counts."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tokens", type=int, nargs="+", default=[10, 100], help="millions")
    parser.add_argument("--files", type=int, default=20_000)
    parser.add_argument("--out", type=Path, default=Path("runs/bench_streaming"))
    parser.add_argument("--alone", choices=ALONE, help="do this in this process")
    args = parser.parse_args()
    if args.alone:
        print(json.dumps(ALONE[args.alone](args)))
        return
    results: dict[str, Any] = {"versions": versions()}
    for millions in args.tokens:
        for name in ("tokenize", "read"):
            results[f"{name} {millions}M"] = row = in_a_process(name, args, "--tokens", str(millions))
            print(f"{name:9s} {millions:4d} million tokens:", row)
        shutil.rmtree(args.out / "tokens")
    results["begin"] = in_a_process("begin", args)
    print(f"{args.files:,} files:", results["begin"])
    write_json(args.out / "results.json", results)


def in_a_process(name: str, args: argparse.Namespace, *more: str) -> dict[str, float]:
    command = [sys.executable, "-m", "analyses.bench.streaming", "--alone", name, "--out", str(args.out), *more]
    command += ["--files", str(args.files)]
    return json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def tokenize(args: argparse.Namespace) -> dict[str, float]:
    tokenizer = Tokenizer.train_bpe((document.text for document in documents(2_000_000)), 4096)
    peak = Peak()
    start = time.process_time()
    sizes = tokenize_stream(
        documents(args.tokens[0] * 1_000_000), tokenizer, N_CTX, args.out / "tokens", progress=lambda *_: peak.look()
    )["train"]
    seconds = time.process_time() - start
    return {
        "tokens": sizes["tokens"],
        "megabytes": peak.megabytes,
        "tokens a processor second": round(sizes["tokens"] / seconds),
    }


def read(args: argparse.Namespace) -> dict[str, float]:
    """Read all rows in batches, in the way of a harvest."""
    peak = Peak()
    tokens = LabelledTokens.load(args.out / "tokens").tokens
    total = 0
    for batch in tokens.split(64):
        total += int(batch.sum())
        peak.look()
    return {"tokens": tokens.numel(), "megabytes": peak.megabytes, "sum": total}


def begin(args: argparse.Namespace) -> dict[str, float]:
    folder = args.out / "many"
    folder.mkdir(parents=True, exist_ok=True)
    for i, document in zip(range(args.files), documents(args.files * 1000), strict=False):
        (folder / f"{i:06d}.txt").write_text(document.text)
    start = time.perf_counter()
    next(stream_documents(CorpusConfig(source="files", paths=(f"{folder}/*.txt",), stream=True)))
    seconds = time.perf_counter() - start
    shutil.rmtree(folder)
    return {"files": args.files, "seconds": round(seconds, 3)}


class Peak:
    """The largest memory of this process, in megabytes, over the times at which `look` was called."""

    def __init__(self) -> None:
        self.megabytes = 0.0

    def look(self) -> None:
        status = Path("/proc/self/status").read_text()
        kilobytes = next(int(line.split()[1]) for line in status.splitlines() if line.startswith("RssAnon"))
        self.megabytes = max(self.megabytes, kilobytes / 1e3)


def documents(n_tokens: int) -> Iterator[Document]:
    """Yield documents that together have about `tokens` tokens."""
    generator = np.random.default_rng(0)
    letters = np.array(list("etaoinshrdlucmfwypvbgkjqxz"))
    words = ["".join(generator.choice(letters, size)) for size in generator.integers(2, 9, N_WORDS)]
    weights = 1 / np.arange(1, N_WORDS + 1)
    bounds = np.cumsum(weights / weights.sum())
    for i in range(n_tokens // TOKENS_A_DOCUMENT):
        drawn = np.searchsorted(bounds, generator.random(WORDS_A_DOCUMENT))
        yield Document(" ".join(words[j] for j in drawn.clip(max=N_WORDS - 1)), (), "words", f"{i}")


ALONE = {"tokenize": tokenize, "read": read, "begin": begin}

if __name__ == "__main__":
    main()
