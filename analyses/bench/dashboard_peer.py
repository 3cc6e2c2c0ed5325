"""Time SAEDashboard's pages for the subject of `analyses.bench.report`.

Run this script with the Python in which SAEDashboard is installed; it needs an older TransformerLens than ours.

    PYTHON analyses/bench/dashboard_peer.py FOLDER --features 256 --threads 2

FOLDER holds model.json and model.safetensors (a HookedTransformer), tokenizer/, tokens.safetensors and sae/ (SAELens's
format). The script prints one line of JSON and imports nothing from this project.
"""

import argparse
import json
import time
import warnings
from importlib.metadata import version
from pathlib import Path

import torch


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--features", type=int, default=256)
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    warnings.filterwarnings("ignore")
    torch.set_num_threads(options.threads)
    print(json.dumps(measure(options.folder, options.features)))


def measure(folder: Path, n_features: int) -> dict:
    from sae_dashboard.data_writing_fns import save_feature_centric_vis
    from sae_dashboard.sae_vis_data import SaeVisConfig
    from sae_dashboard.sae_vis_runner import SaeVisRunner
    from sae_lens import SAE

    model, tokens = subject(folder)
    sae = SAE.load_from_disk(folder / "sae", device="cpu")
    sae.cfg.rescale_acts_by_decoder_norm = True  # the runner requires it; the decoder's norms are 1
    hook = json.loads((folder / "model.json").read_text())["hook"]
    with torch.no_grad():
        _, cache = model.run_with_cache(tokens[:8], names_filter=hook)
        codes = sae.encode(cache[hook])
    config = SaeVisConfig(
        hook_point=hook,
        features=list(range(n_features)),
        minibatch_size_features=min(256, n_features),
        minibatch_size_tokens=64,
        device="cpu",
        dtype="float32",
    )
    wall, cpu = time.perf_counter(), time.process_time()
    data = SaeVisRunner(config).run(encoder=sae, model=model, tokens=tokens)
    page = folder / "dashboard.html"
    save_feature_centric_vis(sae_vis_data=data, filename=page)
    return {
        "features": n_features,
        "wall_seconds": time.perf_counter() - wall,
        "cpu_seconds": time.process_time() - cpu,
        "bytes": page.stat().st_size,
        "codes_of_8_sequences": float(codes.sum()),
        "versions": {name: version(name) for name in ("sae-dashboard", "sae-lens", "transformer-lens", "torch")},
    }


def subject(folder: Path) -> tuple:
    """Return the model, and tokens [seq, pos]."""
    from safetensors.torch import load_file
    from transformer_lens import HookedTransformer, HookedTransformerConfig
    from transformers import AutoTokenizer

    fields = json.loads((folder / "model.json").read_text())["config"]
    tokenizer = AutoTokenizer.from_pretrained(folder / "tokenizer")
    model = HookedTransformer(HookedTransformerConfig(**fields, device="cpu"), tokenizer=tokenizer)
    buffers = {name: value for name, value in model.state_dict().items() if name.endswith((".mask", ".IGNORE"))}
    model.load_state_dict({**load_file(folder / "model.safetensors"), **buffers})
    return model.eval(), load_file(folder / "tokens.safetensors")["tokens"].long()


if __name__ == "__main__":
    main()
