"""SAELens as the oracle: what we save it reads, what it saves we read, and both compute the same."""

import json

import pytest
import torch

from interp.codes import SparseCodes
from interp.dictionary import Dictionary
from interp.sae import SAE, BatchTopKConfig, TopKConfig, load_sae
from interp.sae.selection import Threshold, TopK

sae_lens = pytest.importorskip("sae_lens")

D_IN, D_SAE = 12, 40
close = {"rtol": 1e-5, "atol": 1e-5}


def random(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def dictionary(kind: str) -> SAE:
    config = {"topk": TopKConfig, "batchtopk": BatchTopKConfig}[kind](d_sae=D_SAE, tokens=10, k=5)
    rule = TopK(5) if kind == "topk" else Threshold(torch.rand(D_SAE, generator=torch.Generator().manual_seed(9)))
    return SAE(
        W_enc=random(D_IN, D_SAE),
        W_dec=random(D_SAE, D_IN, seed=1),
        b_enc=random(D_SAE, seed=2),
        b_dec=random(D_IN, seed=3),
        rule=rule,
        config=config,
        metadata={"hook_name": "blocks.0.hook_resid_post"},
    )


@pytest.fixture
def x() -> torch.Tensor:
    return random(100, D_IN, seed=4)


@pytest.mark.parametrize("kind", ["topk", "batchtopk"])
def test_saelens_reads_what_we_save(tmp_path, x, kind):
    sae = dictionary(kind)
    sae.save(tmp_path, format="saelens")
    theirs = sae_lens.SAE.load_from_disk(tmp_path)
    torch.testing.assert_close(theirs.encode(x), sae.encode(x), **close)
    torch.testing.assert_close(theirs.decode(theirs.encode(x)), sae(x), **close)
    assert theirs.cfg.metadata.hook_name == "blocks.0.hook_resid_post"
    assert theirs.cfg.architecture() == ("topk" if kind == "topk" else "jumprelu")


@pytest.mark.parametrize("kind", ["topk", "batchtopk"])
def test_what_we_save_comes_back(tmp_path, x, kind):
    sae = dictionary(kind)
    sae.save(tmp_path)
    again = load_sae(tmp_path)
    assert torch.equal(again.encode(x), sae.encode(x))
    assert again.config == sae.config and again.metadata["hook_name"] == "blocks.0.hook_resid_post"
    assert "interp" not in again.metadata
    again.save(tmp_path / "twice")
    assert json.loads((tmp_path / "twice/cfg.json").read_text()) == json.loads((tmp_path / "cfg.json").read_text())


@pytest.mark.parametrize("kind", ["topk", "batchtopk"])
def test_codes_are_the_latents(x, kind):
    sae = dictionary(kind)
    assert isinstance(sae, Dictionary) and (sae.d_in, sae.d_sae) == (D_IN, D_SAE)
    codes = sae.codes(x)
    assert isinstance(codes, SparseCodes)
    torch.testing.assert_close(codes.dense(), sae.encode(x), **close)
    torch.testing.assert_close(sae.decode(codes), sae.decode(sae.encode(x)), **close)


def test_gradients_flow_to_the_inputs_and_latents(x):
    sae = dictionary("topk")
    x.requires_grad_()
    sae(x.view(10, 10, D_IN)).square().sum().backward()
    assert x.grad is not None and x.grad.abs().sum() > 0


@pytest.mark.parametrize("rescale", [True, False])
@pytest.mark.parametrize("b_dec_to_input", [True, False])
@pytest.mark.parametrize("architecture", ["topk", "jumprelu", "standard"])
def test_we_read_saelens_folders(tmp_path, x, architecture, b_dec_to_input, rescale):
    extra = {"topk": {"k": 6, "rescale_acts_by_decoder_norm": rescale}}.get(architecture, {})
    prefix = {"topk": "TopK", "jumprelu": "JumpReLU", "standard": "Standard"}[architecture]
    cfg = getattr(sae_lens, f"{prefix}SAEConfig")(d_in=D_IN, d_sae=D_SAE, apply_b_dec_to_input=b_dec_to_input, **extra)
    theirs = getattr(sae_lens, f"{prefix}SAE")(cfg)
    with torch.no_grad():
        for i, parameter in enumerate(theirs.parameters()):
            parameter.copy_(random(*parameter.shape, seed=i) * 0.7 + 0.1)
    theirs.save_model(tmp_path)
    ours = load_sae(tmp_path)
    norms = theirs.W_dec.norm(dim=1) if extra.get("rescale_acts_by_decoder_norm") else torch.ones(D_SAE)
    torch.testing.assert_close(ours.encode(x), theirs.encode(x), **close)
    torch.testing.assert_close(ours.decode(ours.encode(x)), theirs(x), **close)
    torch.testing.assert_close(ours.W_dec * norms[:, None], theirs.W_dec.detach(), **close)
    assert ours.config is None


def test_a_release_goes_through_saelens(monkeypatch, x):
    theirs = sae_lens.TopKSAE(sae_lens.TopKSAEConfig(d_in=D_IN, d_sae=D_SAE, k=6))
    asked = []
    monkeypatch.setattr(sae_lens.SAE, "from_pretrained", lambda *names: asked.append(names) or theirs)
    ours = load_sae("a-release", "layer-3")
    assert asked == [("a-release", "layer-3")]
    torch.testing.assert_close(ours.encode(x), theirs.encode(x), **close)


def test_what_cannot_be_read_is_refused_with_a_remedy(tmp_path):
    with pytest.raises(ValueError, match="holds no cfg.json"):
        load_sae(tmp_path)
    sae = dictionary("topk")
    sae.save(tmp_path)
    cfg = json.loads((tmp_path / "cfg.json").read_text())
    (tmp_path / "cfg.json").write_text(json.dumps({**cfg, "architecture": "gated"}))
    with pytest.raises(ValueError, match="'gated' cannot be read"):
        load_sae(tmp_path)
    (tmp_path / "cfg.json").write_text(json.dumps({**cfg, "normalize_activations": "layer_norm"}))
    with pytest.raises(ValueError, match="layer_norm"):
        load_sae(tmp_path)
    (tmp_path / "sae_weights.safetensors").unlink()
    with pytest.raises(ValueError, match="sae_weights.safetensors is missing"):
        load_sae(tmp_path)
    with pytest.raises(ValueError, match="format='pickle'"):
        sae.save(tmp_path, format="pickle")
