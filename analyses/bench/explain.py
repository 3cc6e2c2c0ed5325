"""How fast are the explanations of a feature store, how well do they predict, and how much memory do they take?

    python -m analyses.bench.explain runs/demo/features [--threads 2] [--out runs/bench_explain]

Claim tested: 4096 features of the demo are explained in 3 minutes or less on two CPU cores, and the rules hold on the
half of the text that was not used to choose them. The first run also compiles. Writes results.json.
"""

import argparse
import json
import platform
import resource
import time
from pathlib import Path

import numpy as np
import torch

from interp.features.feature_store import FeatureStore
from interp.verdict.coded_text import CodedText
from interp.verdict.explanations import Explanations, explain
from interp.verdict.rule_search import FitFirings


def main() -> None:
    args = parse_arguments()
    torch.set_num_threads(args.threads)
    features: FeatureStore = args.features
    before, start, cpu = peak_gb(), time.perf_counter(), time.process_time()
    explanations = explained(features, args.seed)
    results = {
        "tokens": features.tokens.numel(),
        "d_sae": features.d_sae,
        "seconds": round(time.perf_counter() - start, 1),
        "cpu_seconds": round(time.process_time() - cpu, 1),
        "peak_gb": round(peak_gb(), 2),
        "peak_gb_before": round(before, 2),
        **quality(explanations),
        "threads": args.threads,
        "seed": args.seed,
        "versions": {"python": platform.python_version(), "torch": torch.__version__, "numpy": np.__version__},
    }
    args.out.mkdir(parents=True, exist_ok=True)
    (args.out / "results.json").write_text(json.dumps(results, indent=2))
    print(json.dumps(results, indent=2))


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("features", type=Path, help="a feature store, as scan writes it")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=Path("runs/bench_explain"))
    options = parser.parse_args()
    try:
        options.features = FeatureStore.open(options.features)
    except (ValueError, OSError) as error:
        parser.error(str(error))
    return options


def explained(features: FeatureStore, seed: int) -> Explanations:
    text = CodedText.from_features(features)
    return explain(text, FitFirings.read(text, features.fit_half().numpy(), seed)).latents


def quality(explanations: Explanations) -> dict[str, float]:
    """Return the held-out F1 of the latents that have a rule."""
    is_scored = ~np.isnan(explanations.f1)
    f1 = explanations.f1[is_scored]
    return {
        "explained": int(is_scored.sum()),
        "f1_mean": round(float(f1.mean()), 4),
        "f1_median": round(float(np.median(f1)), 4),
        "f1_at_least_half": round(float((f1 >= 0.5).mean()), 4),
        "f1_fit_mean": round(float(explanations.f1_fit[is_scored].mean()), 4),
    }


def peak_gb() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6


if __name__ == "__main__":
    main()
