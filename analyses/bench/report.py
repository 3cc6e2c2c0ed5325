"""How fast is the report for each feature, compared with SAEDashboard's pages of the same model, tokens and features?

    python -m analyses.bench.report --peer PYTHON [--sequences 1024] [--features 256] [--threads 2] [--rounds 1]

Claim tested: a feature's page takes at most a twentieth of SAEDashboard's time, on the same machine and threads, in one
run, one after the other. PYTHON is the interpreter of a separate environment, because SAEDashboard needs a
TransformerLens below 3:

    python -m venv DASH && DASH/bin/pip install sae-dashboard 'sae-lens>=6.8' 'pyarrow<20' 'datasets==3.6.0'

The model has two layers, d_model 128, MLP 512, vocabulary 4096, context 128 and random weights; the text is
Shakespeare. The dictionary is a TopK of 4096 random latents, 32 a token, on blocks.1.mlp.hook_post. Ours is timed from
the model and the tokens to the page of all latents: harvest, scan, write. SAEDashboard is timed from the same start to
its HTML file of the first `--features` latents. It works in batches of 256 features and passes over the text again for
each batch. results.json lists what each page holds. Without SAEDashboard only ours is timed, and the results say why.
"""

import argparse
import json
import statistics
import subprocess
import tempfile
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F

from analyses.bench.subject import D_MLP, HOOK, N_CTX, shakespeare, size_of, transformers_tokenizer, two_layers
from interp import SAE, harvest, scan_features, write_report
from interp.sae import TopK
from interp.storage.files import write_json, write_tensors
from models.transformer import Transformer

K, TARGET = 32, 20.0
OURS, PEER = "interp, report", "SAEDashboard, feature pages"
HOLDS = {
    OURS: "every latent: density, activation histogram, 20 strongest examples and examples by interval, top tokens, "
    "positive and negative logits, co-activating and similar latents; a searched and sorted table, a map",
    PEER: "the latents asked for: activation and logit histograms, top examples and examples by interval with the loss "
    "effect a token, positive and negative logits, neuron alignment, correlated neurons and latents",
}
SIZES = ("n_layers", "d_model", "d_head", "n_heads", "d_mlp", "d_vocab", "n_ctx")
CONFIG = (*SIZES, "act_fn", "eps", "normalization_type")


def main(arguments: list[str] | None = None) -> dict[str, Any]:
    options = parse(arguments)
    torch.set_num_threads(options.threads)
    tokens, tokenizer = shakespeare(options.sequences * N_CTX)
    model = two_layers(tokenizer).eval()
    sae = random_dictionary(options.d_sae)
    runs: dict[str, list[dict[str, Any]]] = {OURS: [], PEER: []}
    skipped = None
    with tempfile.TemporaryDirectory() as folder:
        write_subject(Path(folder), model, tokenizer, tokens, sae)
        for turn in range(options.rounds):
            runs[OURS].append(ours(Path(folder) / f"ours-{turn}", model, tokenizer, tokens, sae))
            theirs = peer(options, Path(folder))
            if isinstance(theirs, str):
                skipped = theirs
            else:
                check_same_codes(model, tokens, sae, theirs["codes_of_8_sequences"])
                runs[PEER].append(theirs)
    results = summary(runs) | {
        "skipped": skipped,
        "tokens": tokens.numel(),
        "threads": options.threads,
        "rounds": options.rounds,
        "versions": {name: version(name) for name in ("interp", "torch")},
    }
    write_json(options.out / "results.json", results)
    print(json.dumps(results, indent=2))
    return results


def parse(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--peer", help="the Python that has SAEDashboard; without it ours is timed alone")
    parser.add_argument("--sequences", type=int, default=1024, help=f"of {N_CTX} tokens")
    parser.add_argument("--features", type=int, default=256, help="of SAEDashboard; ours are all")
    parser.add_argument("--d-sae", type=int, default=4096)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--out", type=Path, default=Path("runs/bench_report"))
    options = parser.parse_args(arguments)
    options.out.mkdir(parents=True, exist_ok=True)
    return options


def random_dictionary(d_sae: int) -> SAE:
    directions = F.normalize(torch.randn(d_sae, D_MLP, generator=torch.Generator().manual_seed(0)), dim=1)
    zeros = {"b_enc": torch.zeros(d_sae), "b_dec": torch.zeros(D_MLP)}
    return SAE(
        W_enc=directions.T.contiguous(), W_dec=directions, **zeros, encoder=TopK(K), metadata={"hook_name": HOOK}
    )


def ours(out: Path, model: Transformer, tokenizer: Any, tokens: torch.Tensor, sae: SAE) -> dict[str, Any]:
    vocab = [tokenizer.decode([token]) for token in range(tokenizer.vocab_size)]
    wall, cpu = time.perf_counter(), time.process_time()
    store = harvest(model, tokens, [HOOK], out / "store")
    features = scan_features(sae, store, HOOK, out / "features", model=model, vocab=vocab)
    write_report(features, out / "page")
    took = {"wall_seconds": time.perf_counter() - wall, "cpu_seconds": time.process_time() - cpu}
    return {"features": sae.d_sae, **took, "bytes": size_of(out / "page")}


def write_subject(folder: Path, model: Transformer, tokenizer: Any, tokens: torch.Tensor, sae: SAE) -> None:
    transformers_tokenizer(tokenizer, folder / "tokenizer")
    config_file = folder / "tokenizer" / "tokenizer_config.json"
    named = {"tokenizer_class": "PreTrainedTokenizerFast"}  # no other class of transformers 4 reads it
    write_json(config_file, json.loads(config_file.read_text()) | named)
    config = {name: getattr(model.cfg, name) for name in CONFIG} | {"default_prepend_bos": False, "model_name": "local"}
    write_json(folder / "model.json", {"hook": HOOK, "config": config})
    write_tensors(folder / "model.safetensors", dict(model.state_dict()))
    write_tensors(folder / "tokens.safetensors", {"tokens": tokens.contiguous()})
    sae.save(folder / "sae", format="saelens")


def peer(options: argparse.Namespace, folder: Path) -> dict[str, Any] | str:
    """Return the numbers that the script with SAEDashboard printed, or the reason why there are none."""
    if options.peer is None:
        return "no --peer was named"
    script = Path(__file__).with_name("dashboard_peer.py")
    sizes = ["--features", str(options.features), "--threads", str(options.threads)]
    done = subprocess.run([options.peer, script, folder, *sizes], capture_output=True, text=True)
    if done.returncode:
        return (done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[-1]
    return json.loads(done.stdout.strip().splitlines()[-1])


@torch.no_grad()
def check_same_codes(model: Transformer, tokens: torch.Tensor, sae: SAE, theirs: float) -> None:
    _, cache = model.run_with_cache(tokens[:8].long(), names_filter=HOOK)
    ours = float(sae.encode(cache[HOOK].flatten(0, 1)).sum())
    if abs(ours - theirs) > 1e-3 * ours:
        raise ValueError(f"the activations of the first 8 sequences sum to {ours}, SAEDashboard's to {theirs}")


def summary(runs: dict[str, list[dict[str, Any]]]) -> dict[str, Any]:
    """Return one row per tool, and how many times longer SAEDashboard takes per feature, in wall time and in CPU
    time."""
    rows = [row(name, timings) for name, timings in runs.items() if timings]
    both = len(rows) > 1
    ratio, cpu_ratio = (rows[1][key] / rows[0][key] if both else None for key in ("ms_a_feature", "cpu_ms_a_feature"))
    claim = {"claim": f"a feature takes at most 1/{TARGET:.0f} of SAEDashboard's time", "holds": None}
    if both:
        claim["holds"] = ratio >= TARGET
    return {
        "rows": rows,
        "ratio": ratio,
        "cpu_ratio": cpu_ratio,
        "claims": [claim],
        "peer_versions": runs[PEER][0]["versions"] if runs[PEER] else None,
    }


def row(name: str, runs: list[dict[str, Any]]) -> dict[str, Any]:
    wall, cpu = (statistics.median(run[kind] for run in runs) for kind in ("wall_seconds", "cpu_seconds"))
    n = runs[0]["features"]
    return {
        "name": name,
        "features": n,
        "wall_seconds": round(wall, 2),
        "cpu_seconds": round(cpu, 2),
        "ms_a_feature": round(1000 * wall / n, 2),
        "cpu_ms_a_feature": round(1000 * cpu / n, 2),
        "kilobytes_a_feature": round(runs[0]["bytes"] / 1000 / n, 1),
        "holds": HOLDS[name],
    }


if __name__ == "__main__":
    main()
