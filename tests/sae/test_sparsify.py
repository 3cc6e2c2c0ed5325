"""Folders of EleutherAI's sparsify, written by hand: what they compute, computed from their formula."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from interp.sae import TopK, load_sae
from interp.sae.model import SAE, Transcoder

D_IN, D_SAE, K = 12, 40, 5
close = {"rtol": 1e-5, "atol": 1e-5}


def random(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def write(folder: Path, skips: bool = False, **changes: Any) -> dict[str, torch.Tensor]:
    folder.mkdir(parents=True, exist_ok=True)
    cfg = {"activation": "topk", "expansion_factor": 32, "normalize_decoder": True, "num_latents": D_SAE, "k": K}
    cfg |= {"multi_topk": False, "skip_connection": skips, "transcode": False, "d_in": D_IN} | changes
    tensors = {"encoder.weight": random(D_SAE, D_IN), "encoder.bias": random(D_SAE, seed=1)}
    tensors |= {"W_dec": random(D_SAE, D_IN, seed=2), "b_dec": random(D_IN, seed=3)}
    tensors |= {"W_skip": random(D_IN, D_IN, seed=4)} if skips else {}
    (folder / "cfg.json").write_text(json.dumps(cfg))
    save_file(tensors, folder / "sae.safetensors")
    return tensors


@pytest.mark.parametrize("skips", [False, True])
@pytest.mark.parametrize("transcode", [False, True])
def test_a_folder_computes_what_sparsify_does(tmp_path, transcode, skips):
    w = write(tmp_path, skips, transcode=transcode)
    x = random(60, D_IN, seed=5)
    pre = ((x if transcode else x - w["b_dec"]) @ w["encoder.weight"].T + w["encoder.bias"]).relu()
    z = pre * (pre >= pre.sort(dim=1, descending=True).values[:, K - 1 : K])
    y = z @ w["W_dec"] + w["b_dec"] + (x @ w["W_skip"].T if skips else 0)
    ours = load_sae(tmp_path)
    assert type(ours) is (Transcoder if transcode or skips else SAE) and ours.encoder == TopK(K) and ours.config is None
    torch.testing.assert_close(ours.encode(x), z, **close)
    torch.testing.assert_close(ours(x), y, **close)
    ours.save(tmp_path / "again", format="interp")
    assert torch.equal(load_sae(tmp_path / "again")(x), ours(x))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"activation": "groupmax"}, "activation='groupmax' .* cannot be read; only 'topk'"),
        ({"signed": True}, "activation=.topk. with signed=True cannot be read"),
        ({"k": 41}, "k=41 must be at most 40"),
    ],
)
def test_what_cannot_be_read_is_refused(tmp_path, changes, message):
    write(tmp_path, **changes)
    with pytest.raises(ValueError, match=f"cfg.json: {message}"):
        load_sae(tmp_path)


def test_the_folder_of_a_run_names_its_hook_points(tmp_path):
    for hook_point in ("layers.1.mlp", "layers.0.mlp"):
        write(tmp_path / hook_point)
    with pytest.raises(ValueError, match=r"give one of its folders \(layers.0.mlp, layers.1.mlp\)"):
        load_sae(tmp_path)
