"""SAELens as the oracle: what we save it reads, what it saves we read, and both compute the same."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from interp.cli import main
from interp.codes.sparse_codes import SparseCodes
from interp.sae import (
    SAE,
    BatchTopKConfig,
    Encoder,
    MatchingPursuit,
    Threshold,
    TopK,
    TopKConfig,
    load_sae,
)
from interp.sae.architectures.sae_config import SAEConfig
from interp.sae.model import Crosscoder, Transcoder
from tests.tiny import is_dictionary

sae_lens = pytest.importorskip("sae_lens")
pytestmark = pytest.mark.filterwarnings("ignore:decoder_init_norm must be set")

D_IN, D_SAE, D_OUT = 12, 40, 7
HOOK = "blocks.0.hook_resid_post"
close = {"rtol": 1e-5, "atol": 1e-5}


def random(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def thresholds(seed: int = 9) -> Threshold:
    return Threshold(torch.rand(D_SAE, generator=torch.Generator().manual_seed(seed)))


ENCODERS: dict[str, Encoder] = {
    "topk": TopK(5),
    "jumprelu": thresholds(),
    "standard": Threshold(torch.zeros(D_SAE)),
    "matching_pursuit": MatchingPursuit(6),
    "transcoder": Threshold(torch.zeros(D_SAE)),
    "skip_transcoder": Threshold(torch.zeros(D_SAE)),
    "jumprelu_transcoder": thresholds(),
    "jumprelu_skip_transcoder": thresholds(),
    "crosscoder": thresholds(),
    "topk_transcoder": TopK(5),
}
SAELENS = [kind for kind in ENCODERS if kind not in ("crosscoder", "topk_transcoder")]


def dictionary(kind: str, config: SAEConfig | None = None) -> SAE:
    transcodes = "transcoder" in kind
    W_dec = random(D_SAE, D_OUT if transcodes else D_IN, seed=1)
    W_dec = W_dec / W_dec.norm(dim=1, keepdim=True) if kind == "matching_pursuit" else W_dec
    given: dict[str, Any] = {"W_enc": random(D_IN, D_SAE), "W_dec": W_dec, "b_enc": random(D_SAE, seed=2)}
    given |= {"b_dec": random(W_dec.shape[1], seed=3), "encoder": ENCODERS[kind], "config": config}
    given["metadata"] = {"hook_name": HOOK}
    if transcodes:
        given["metadata"] = {"hook_name": "blocks.0.hook_resid_mid", "hook_name_out": "blocks.0.hook_mlp_out"}
        return Transcoder(**given, W_skip=random(D_IN, D_OUT, seed=5) if "skip" in kind else None)
    if kind == "crosscoder":
        return Crosscoder(**given, widths=(5, 7), scales=(1.5, 0.25))
    return SAE(**given)


@pytest.fixture
def x() -> torch.Tensor:
    return random(100, D_IN, seed=4)


@pytest.mark.parametrize("kind", SAELENS)
def test_saelens_reads_what_we_save(tmp_path, x, kind):
    sae = dictionary(kind)
    sae.save(tmp_path, format="saelens")
    theirs = sae_lens.SAE.load_from_disk(tmp_path)
    torch.testing.assert_close(theirs.encode(x), sae.encode(x), **close)
    torch.testing.assert_close(theirs(x), sae(x), **close)
    assert theirs.cfg.architecture() == kind and sae.preferred_format == "saelens"
    assert theirs.cfg.metadata.hook_name == sae.metadata["hook_name"]
    assert theirs.cfg.metadata.hook_name_out == sae.metadata.get("hook_name_out")
    assert "prepend_bos" not in theirs.cfg.metadata, "it is not known, so SAELens asks for it"


@pytest.mark.parametrize("kind", [kind for kind in ENCODERS if kind not in SAELENS] + ["negative"])
def test_what_saelens_cannot_hold_names_the_other_format(tmp_path, kind):
    sae = dictionary("jumprelu" if kind == "negative" else kind)
    if kind == "negative":
        sae.encoder = Threshold(torch.full((D_SAE,), -0.1))
    assert sae.preferred_format == "interp"
    with pytest.raises(ValueError, match="format='interp'"):
        sae.save(tmp_path, format="saelens")


@pytest.mark.parametrize("format", ["saelens", "interp"])
@pytest.mark.parametrize("kind", ENCODERS)
def test_what_we_save_comes_back(tmp_path, x, kind, format):
    config = (TopKConfig if kind == "topk" else BatchTopKConfig)(d_sae=D_SAE, tokens=10, k=5)
    sae = dictionary(kind, config)
    if format == "saelens" and kind not in SAELENS:
        return
    sae.save(tmp_path, format=format)
    again = load_sae(tmp_path)
    assert type(again) is type(sae) and again.config == config
    assert torch.equal(again.encode(x), sae.encode(x)) and torch.equal(again(x), sae(x))
    assert again.metadata["hook_name"] == sae.metadata["hook_name"] and "interp" not in again.metadata
    again.save(tmp_path / "twice", format=format)
    assert json.loads((tmp_path / "twice/cfg.json").read_text()) == json.loads((tmp_path / "cfg.json").read_text())
    tensors, twice = (load_file(folder / "sae_weights.safetensors") for folder in (tmp_path, tmp_path / "twice"))
    assert tensors.keys() == twice.keys() and all(torch.equal(tensors[name], twice[name]) for name in tensors)


def test_our_format_keeps_the_precision(tmp_path):
    sae = dictionary("jumprelu").double()
    sae.save(tmp_path, format="interp")
    again = load_sae(tmp_path)
    assert again.W_dec.dtype == torch.float64 and torch.equal(again.W_enc, sae.W_enc)


def test_a_crosscoder_keeps_its_hooks(tmp_path):
    crosscoder = dictionary("crosscoder")
    crosscoder.metadata["hook_names"] = ("blocks.0.hook_resid_post", "blocks.1.hook_resid_post")
    crosscoder.save(tmp_path, format="interp")
    again = load_sae(tmp_path)
    assert (again.widths, again.scales) == ((5, 7), (1.5, 0.25)) and again.hook_names == crosscoder.hook_names
    assert torch.equal(again.decoder_norms(), crosscoder.decoder_norms())


@pytest.mark.parametrize("kind", ["topk", "jumprelu", "matching_pursuit"])
def test_codes_are_the_latents(x, kind):
    sae = dictionary(kind)
    assert is_dictionary(sae) and (sae.d_in, sae.d_sae) == (D_IN, D_SAE)
    codes = sae.codes(x)
    assert isinstance(codes, SparseCodes)
    torch.testing.assert_close(codes.dense(), sae.encode(x), **close)
    torch.testing.assert_close(sae.decode(codes), sae.decode(sae.encode(x)), **close)
    with pytest.raises(ValueError, match=r"codes are of rows \[row, 12\], not of \[10, 10, 12\]: join axes"):
        sae.codes(x.view(10, 10, D_IN))
    with pytest.raises(ValueError, match="row 3 of those to encode contains NaN or infinity"):
        sae.codes(x.index_fill(0, torch.tensor([3, 5]), float("nan")))
    with pytest.raises(ValueError, match="the rows are a ndarray: give a tensor"):
        sae.codes(x.numpy())


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("kind", ["topk", "jumprelu", "matching_pursuit"])
def test_codes_of_a_dictionary_in_half_precision_are_read_by_scipy_and_decoded(x, kind, dtype):
    sae = dictionary(kind).to(dtype)
    codes = sae.codes(x)
    assert codes.scipy()[:, [0, 3]].dtype == "float32"
    expected = codes.dense() @ sae.W_dec.float() + sae.b_dec.float()
    torch.testing.assert_close(sae.decode(codes).float(), expected, rtol=0.02, atol=0.1)


def test_gradients_flow_to_the_inputs_and_latents(x):
    sae = dictionary("topk")
    x.requires_grad_()
    sae(x.view(10, 10, D_IN)).square().sum().backward()
    assert x.grad is not None and x.grad.abs().sum() > 0


def theirs_with(prefix: str, kind: str = "SAE", **fields: Any) -> Any:
    """Return one of SAELens's dictionaries, with random weights; `prefix` as in TopKSAE."""
    theirs = getattr(sae_lens, prefix + kind)(
        getattr(sae_lens, f"{prefix}{kind}Config")(d_in=D_IN, d_sae=D_SAE, **fields)
    )
    with torch.no_grad():
        for i, parameter in enumerate(theirs.parameters()):
            parameter.copy_(random(*parameter.shape, seed=i) * 0.7 + 0.1)
    return theirs


FOLDERS: list[tuple[str, dict[str, Any]]] = [
    *[(prefix, {"apply_b_dec_to_input": b}) for prefix in ("JumpReLU", "Standard", "Gated") for b in (True, False)],
    *[
        ("TopK", {"k": 6, "apply_b_dec_to_input": b, "rescale_acts_by_decoder_norm": r})
        for b in (True, False)
        for r in (True, False)
    ],
    ("MatchingPursuit", {"apply_b_dec_to_input": False, "max_iterations": 4}),
    ("MatchingPursuit", {"residual_threshold": 2.0, "stop_on_duplicate_support": False}),
    ("MatchingPursuit", {}),
]


@pytest.mark.parametrize(("prefix", "fields"), FOLDERS)
def test_we_read_saelens_folders(tmp_path, x, prefix, fields):
    theirs = theirs_with(prefix, **fields)
    if prefix == "MatchingPursuit":
        theirs.W_dec.data /= theirs.W_dec.data.norm(dim=1, keepdim=True)
    theirs.save_model(tmp_path)
    ours = load_sae(tmp_path)
    torch.testing.assert_close(ours.encode(x), theirs.encode(x), **close)
    torch.testing.assert_close(ours.codes(x).dense(), theirs.encode(x), **close)
    torch.testing.assert_close(ours(x), theirs(x), **close)
    assert ours.config is None and (ours.encode(x) > 0).any()
    ours.save(tmp_path / "again")
    torch.testing.assert_close(sae_lens.SAE.load_from_disk(tmp_path / "again")(x), theirs(x), **close)


@pytest.mark.parametrize("prefix", ["", "Skip", "JumpReLU", "JumpReLUSkip"])
def test_we_read_saelens_transcoders(tmp_path, x, prefix):
    theirs = theirs_with(prefix, "Transcoder", d_out=D_OUT, apply_b_dec_to_input=False)
    theirs.save_model(tmp_path)
    ours = load_sae(tmp_path)
    assert isinstance(ours, Transcoder) and (ours.W_skip is not None) == ("Skip" in prefix)
    torch.testing.assert_close(ours.encode(x), theirs.encode(x), **close)
    torch.testing.assert_close(ours(x), theirs(x), **close)


@pytest.mark.parametrize("prefix", ["BatchTopK", "MatryoshkaBatchTopK"])
@pytest.mark.parametrize("rescale", [True, False])
def test_a_checkpoint_of_a_batchtopk_training_is_read_with_its_threshold(tmp_path, x, prefix, rescale):
    extra = {"matryoshka_widths": [10, D_SAE]} if prefix.startswith("Matryoshka") else {}
    theirs = theirs_with(prefix, "TrainingSAE", k=4.0, rescale_acts_by_decoder_norm=rescale, **extra)
    theirs.topk_threshold.fill_(0.8)
    theirs.save_model(tmp_path / "checkpoint")
    theirs.save_inference_model(tmp_path / "inference")
    inference = sae_lens.SAE.load_from_disk(tmp_path / "inference")
    ours = load_sae(tmp_path / "checkpoint")
    torch.testing.assert_close(ours.encode(x), inference.encode(x), **close)
    torch.testing.assert_close(ours(x), inference(x), **close)


@pytest.mark.parametrize("prefix", ["TopK", "BatchTopK", "MatchingPursuit"])
def test_the_input_scale_of_a_checkpoint_is_folded(tmp_path, x, prefix):
    fields = {"normalize_activations": "expected_average_only_in"} | ({} if prefix == "MatchingPursuit" else {"k": 4})
    theirs = theirs_with(prefix, "TrainingSAE", **fields)
    if prefix == "MatchingPursuit":
        theirs.W_dec.data /= theirs.W_dec.data.norm(dim=1, keepdim=True)
    if prefix == "BatchTopK":
        theirs.topk_threshold.fill_(0.8)
    theirs.save_model(tmp_path)
    with pytest.raises(ValueError, match="fold_activation_norm_scaling_factor"):
        load_sae(tmp_path)
    (tmp_path / "activation_scaler.json").write_text(json.dumps({"scaling_factor": 1.7}))
    theirs.fold_activation_norm_scaling_factor(1.7)
    theirs.save_inference_model(tmp_path / "folded")
    torch.testing.assert_close(load_sae(tmp_path)(x), sae_lens.SAE.load_from_disk(tmp_path / "folded")(x), **close)


def test_folders_of_old_releases_are_read_as_saelens_reads_them(tmp_path, x):
    """Of the heads of an attention, and with the factors of 1 that were written for a while."""
    theirs = theirs_with("Standard", "SAE")
    theirs.save_model(tmp_path)
    old = {"architecture": "standard", "d_in": D_IN, "d_sae": D_SAE, "dtype": "float32", "activation_fn_str": "relu"}
    old |= {"hook_name": "blocks.0.attn.hook_z", "model_name": "gpt2-small", "finetuning_scaling_factor": False}
    (tmp_path / "cfg.json").write_text(json.dumps(old | {"sae_lens_training_version": "3.0.0"}))
    weights = tmp_path / "sae_weights.safetensors"
    save_file({**load_file(weights), "scaling_factor": torch.ones(D_SAE)}, weights)
    again, ours = sae_lens.SAE.load_from_disk(tmp_path), load_sae(tmp_path)
    assert again.cfg.reshape_activations == "hook_z" and ours.metadata["hook_name"] == "blocks.0.attn.hook_z"
    heads = x.view(len(x), 3, -1)
    torch.testing.assert_close(ours.encode(heads.flatten(1)), again.encode(heads), **close)
    torch.testing.assert_close(ours(heads.flatten(1)).view_as(heads), again(heads), **close)


def test_configs_of_before_version_6_are_read(tmp_path, x):
    theirs = theirs_with("TopK", k=6)
    theirs.save_model(tmp_path)
    old = {"d_in": D_IN, "d_sae": D_SAE, "dtype": "float32", "hook_point": HOOK, "normalize_activations": False}
    old |= {"activation_fn_str": "topk", "activation_fn_kwargs": {"k": 6}, "apply_b_dec_to_input": True}
    (tmp_path / "cfg.json").write_text(json.dumps(old))
    ours = load_sae(tmp_path)
    torch.testing.assert_close(ours.encode(x), theirs.encode(x), **close)
    assert ours.metadata["hook_name"] == HOOK


def test_a_config_that_is_none_of_saelens_is_named(tmp_path):
    theirs_with("TopK", k=6).save_model(tmp_path)
    (tmp_path / "cfg.json").write_text(json.dumps({"activation_fn": "topk", "activation_fn_kwargs": None}))
    with pytest.raises(ValueError, match="cfg.json is not a config of any SAELens version"):
        load_sae(tmp_path)


def test_load_sae_loads_a_release_through_saelens(monkeypatch, x):
    theirs = sae_lens.TopKSAE(sae_lens.TopKSAEConfig(d_in=D_IN, d_sae=D_SAE, k=6))
    asked = []
    monkeypatch.setattr(sae_lens.SAE, "from_pretrained", lambda *names: asked.append(names) or theirs)
    ours = load_sae("a-release", "layer-3")
    assert asked == [("a-release", "layer-3")]
    torch.testing.assert_close(ours.encode(x), theirs.encode(x), **close)


def test_commands_load_one_of_a_release_by_its_name_and_id(monkeypatch, tmp_path):
    theirs = sae_lens.TopKSAE(sae_lens.TopKSAEConfig(d_in=D_IN, d_sae=D_SAE, k=6))
    asked = []
    monkeypatch.setattr(sae_lens.SAE, "from_pretrained", lambda *names: asked.append(names) or theirs)
    assert main(["export", "a-release:layer_3/width_16k", "--out", str(tmp_path / "sae")]) == 0
    assert asked == [("a-release", "layer_3/width_16k")]
    torch.testing.assert_close(load_sae(tmp_path / "sae").W_dec, theirs.W_dec)


def test_a_release_without_an_id_names_some():
    message = (
        "release gpt2-small-res-jb has 13 dictionaries: give a sae_id, as blocks.0.*line gpt2-small-res-jb:blocks.0"
    )
    with pytest.raises(ValueError, match=message):
        load_sae("gpt2-small-res-jb")


@pytest.mark.parametrize(
    ("error", "message"), [(ConnectionError, "could not be downloaded"), (ValueError, "knows: no")]
)
def test_a_release_that_cannot_be_had_gives_one_line(monkeypatch, error, message):
    def fail(*names: str) -> None:
        raise error("no such name\nand more" if error is ConnectionError else "no such name")

    monkeypatch.setattr(sae_lens.SAE, "from_pretrained", fail)
    with pytest.raises(ValueError, match=f"a-release, layer-3.*{message}") as caught:
        load_sae("a-release", "layer-3")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"architecture": "abstopk"}, "'abstopk' cannot be read; standard, jumprelu"),
        ({"architecture": "temporal"}, "'temporal' cannot be read"),
        ({"normalize_activations": "layer_norm"}, "'layer_norm' cannot be read; .* through sae_lens"),
        ({"normalize_activations": "constant_norm_rescale"}, "one by one"),
        ({"normalize_activations": "covariance_whitening"}, "fold_activation_whitening"),
        ({"reshape_activations": "hook_q"}, "only 'none' and 'hook_z' can"),
        ({"k": 41}, "k=41 must be at most 40"),
        ({"k": None}, "k=None"),
        ({"k": float("nan")}, "k=nan"),
        ({"d_in": 13}, "d_in=13 but the weights"),
        (
            {"metadata": {"sae_lens_version": "6.0.0", "interp": {"architecture": "topk", "d_sae": 40}}},
            "metadata.interp is not",
        ),
    ],
)
def test_what_cannot_be_read_is_refused_with_a_remedy(tmp_path, changes, message):
    dictionary("topk").save(tmp_path)
    cfg = json.loads((tmp_path / "cfg.json").read_text())
    (tmp_path / "cfg.json").write_text(json.dumps(cfg | changes))
    with pytest.raises(ValueError, match=f"cfg.json: .*{message}"):
        load_sae(tmp_path)


@pytest.mark.parametrize("config", [{"architecture": "of a script", "k": 5}, {"architecture": "topk", "of_2027": 1}])
def test_a_config_with_an_unknown_architecture_or_field_stays_in_the_metadata(tmp_path, x, config):
    sae = dictionary("topk")
    sae.metadata["interp"] = config
    sae.save(tmp_path)
    again = load_sae(tmp_path)
    assert again.config is None and again.metadata["interp"] == sae.metadata["interp"]
    assert torch.equal(again(x), sae(x))


@pytest.mark.parametrize(
    "architecture, changes, said",
    [
        ("matching_pursuit", {"max_iterations": 2**31}, "max_iterations=2147483648 must be at most"),
        ("matching_pursuit", {"residual_threshold": float("nan")}, "residual_threshold=nan must be a finite number"),
        ("matching_pursuit", {"residual_threshold": -1}, "residual_threshold=-1 must be at least 0"),
        ("matching_pursuit", {"residual_threshold": True}, "residual_threshold=True must be a number"),
        ("topk", {"apply_b_dec_to_input": "false"}, "apply_b_dec_to_input='false' must be true or false"),
        ("topk", {"rescale_acts_by_decoder_norm": "no"}, "rescale_acts_by_decoder_norm='no' must be true or false"),
        ("topk", {"k": float("inf")}, "k=inf must be a whole number"),
        ("topk", {"d_in": "12"}, "d_in=12 but the weights"),
        ("topk", {"metadata": {"sae_lens_version": "6", "hook_name": 3}}, "hook_name=3 must be text"),
        ("topk", {"metadata": {"sae_lens_version": "6", "exclude_special_tokens": ["x"]}}, "exclude_special_tokens"),
    ],
)
def test_numbers_of_a_foreign_config_are_strict(tmp_path, architecture, changes, said):
    dictionary(architecture).save(tmp_path)
    cfg = json.loads((tmp_path / "cfg.json").read_text())
    (tmp_path / "cfg.json").write_text(json.dumps(cfg | changes))
    with pytest.raises(ValueError, match=re.escape(said)):
        load_sae(tmp_path)


@pytest.mark.parametrize("factor", [1e-39, 1e39, float("nan"), 0, -1, "2", True])
def test_weights_are_finite_after_folding_or_refused(tmp_path, factor):
    dictionary("topk").save(tmp_path)
    cfg = json.loads((tmp_path / "cfg.json").read_text())
    (tmp_path / "cfg.json").write_text(json.dumps(cfg | {"normalize_activations": "expected_average_only_in"}))
    (tmp_path / "activation_scaler.json").write_text(json.dumps({"scaling_factor": factor}))
    with pytest.raises(ValueError, match="contains NaN or infinity|scaling_factor=.* must be (above|a)"):
        load_sae(tmp_path)


def test_anything_but_a_dictionary_is_refused(tmp_path):
    with pytest.raises(ValueError, match="contains no cfg.json: give the folder"):
        load_sae(tmp_path)
    with pytest.raises(ValueError, match="nowhere does not exist"):
        load_sae(tmp_path / "nowhere")
    for layer in ("layers.1", "layers.0"):
        dictionary("topk").save(tmp_path / layer)
    with pytest.raises(ValueError, match=r"give one of its folders \(layers.0, layers.1\)"):
        load_sae(tmp_path)
    with pytest.raises(ValueError, match="format='pickle'"):
        dictionary("topk").save(tmp_path, format="pickle")


def damage(folder: Path, how: str) -> None:
    weights, cfg = folder / "sae_weights.safetensors", folder / "cfg.json"
    tensors = load_file(weights)
    match how:
        case "no weights":
            return weights.unlink()
        case "cut json":
            return cfg.write_text(cfg.read_text()[:40]) and None
        case "a list":
            return cfg.write_text("[1, 2]") and None
        case "cut weights":
            return weights.write_bytes(weights.read_bytes()[:-50]) and None
        case "missing":
            del tensors["b_dec"]
        case "shape":
            tensors["W_dec"] = tensors["W_dec"][:, :5].contiguous()
        case "infinite":
            tensors["b_enc"][3] = torch.inf
        case "integers":
            tensors["b_enc"] = tensors["b_enc"].int()
        case "more":
            tensors["scaling_factor"] = torch.full((D_SAE,), 2.0)
    save_file(tensors, weights)


@pytest.mark.parametrize("format", ["saelens", "interp"])
@pytest.mark.parametrize(
    ("how", "message"),
    [
        ("no weights", "sae_weights.safetensors is missing"),
        ("cut json", "cfg.json is damaged: it is not valid JSON"),
        ("a list", "cfg.json is damaged: it is not a JSON object"),
        ("cut weights", "sae_weights.safetensors is damaged"),
        ("missing", "sae_weights.safetensors has no tensor b_dec"),
        ("shape", r"sae_weights.safetensors: W_dec has shape \(40, 5\), but must have \(40, 12\)"),
        ("infinite", "sae_weights.safetensors: b_enc contains NaN"),
        ("integers", "b_enc has the type int32, but must be of floating point"),
        ("more", "sae_weights.safetensors contains tensors that cannot be interpreted: scaling_factor"),
    ],
)
def test_damage_is_named(tmp_path, how, message, format):
    dictionary("jumprelu").save(tmp_path, format=format)
    damage(tmp_path, how)
    with pytest.raises(ValueError, match=message):
        load_sae(tmp_path)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"kind": "probe"}, "kind='probe' must be one of transcoder"),
        ({"kind": ["sae"]}, "must be one of"),
        ({"metadata": ["x"]}, "metadata=.* must be an object"),
        ({"kind": "crosscoder"}, "widths=None"),
        ({"kind": "crosscoder", "widths": [5, 7], "scales": [1.0]}, "one number for each hook"),
        ({"kind": "crosscoder", "widths": [5, 5], "scales": [1.0, 1.0]}, "must sum to 12"),
        ({"encoder": {"kind": "magic"}}, "'magic'} is not known"),
        ({"encoder": None}, "encoder=None is not known"),
    ],
)
def test_a_damaged_config_of_ours_is_named(tmp_path, changes, message):
    dictionary("jumprelu").save(tmp_path, format="interp")
    cfg = json.loads((tmp_path / "cfg.json").read_text())
    (tmp_path / "cfg.json").write_text(json.dumps(cfg | changes))
    with pytest.raises(ValueError, match=f"cfg.json: .*{message}"):
        load_sae(tmp_path)
