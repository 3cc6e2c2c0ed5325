"""Folders of circuit-tracer's transcoders: what is read computes what was written."""

import pytest
import torch
from safetensors.torch import load_file, save_file

from interp.checks.errors import DamagedError, InterpError
from interp.sae import Threshold, TopK, load_transcoders
from interp.sae.model import Transcoder
from tests.circuit_tracer_folder import write_circuit_tracer

D_MODEL, D_SAE = 12, 40


def transcoders() -> dict[str, Transcoder]:
    generator = torch.Generator().manual_seed(0)

    def normal(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=generator)

    return {
        f"blocks.{layer}.hook_resid_mid": Transcoder(
            W_enc=normal(D_MODEL, D_SAE),
            W_dec=normal(D_SAE, D_MODEL),
            b_enc=normal(D_SAE),
            b_dec=normal(D_MODEL),
            W_skip=normal(D_MODEL, D_MODEL),
            encoder=TopK(6),
            metadata={"hook_name_out": f"blocks.{layer}.hook_mlp_out"},
        )
        for layer in range(2)
    }


def test_transcoders_of_circuit_tracer_are_read(tmp_path) -> None:
    own = transcoders()
    write_circuit_tracer(tmp_path / "theirs", own)
    read = load_transcoders(tmp_path / "theirs")
    assert list(read) == list(own)
    x = torch.randn(5, D_MODEL)
    for name, each in read.items():
        torch.testing.assert_close(each(x), own[name](x), atol=1e-5, rtol=1e-4)
        assert each.metadata["hook_name_out"] == own[name].metadata["hook_name_out"]
    layer = tmp_path / "theirs" / "layer_0.safetensors"
    for k, shown in (([6.5], r"6\.5"), ([6, 6], r"\(6, 6\)"), ([float("nan")], "nan")):
        save_file(load_file(layer) | {"k": torch.tensor(k)}, layer)
        with pytest.raises(DamagedError, match=rf"layer_0\.safetensors: k={shown} must be a whole number"):
            load_transcoders(tmp_path / "theirs")
    save_file({name: tensor for name, tensor in load_file(layer).items() if name != "k"}, layer)
    config = tmp_path / "theirs" / "config.yaml"
    config.write_text(config.read_text() + "activation: topk\n")
    with pytest.raises(ValueError, match=r"layer_0\.safetensors has no k, .* add its k"):
        load_transcoders(tmp_path / "theirs")
    config.write_text(config.read_text() + "k: 6\n")
    assert load_transcoders(tmp_path / "theirs")[next(iter(own))].encoder == TopK(6)
    config.write_text(config.read_text().replace("activation: topk", "activation: relu"))
    assert isinstance(load_transcoders(tmp_path / "theirs")[next(iter(own))].encoder, Threshold)
    (tmp_path / "theirs" / "layer_1.safetensors").write_bytes(b"\x08")
    with pytest.raises(ValueError, match="layer_1"):
        load_transcoders(tmp_path / "theirs")
    unnumbered = tmp_path / "theirs" / "layer_x.safetensors"
    unnumbered.touch()
    with pytest.raises(ValueError, match=r"layer_x\.safetensors is not named after a layer"):
        load_transcoders(tmp_path / "theirs")
    config.write_text("model_kind: cross_layer_transcoder\n")
    with pytest.raises(
        InterpError, match=r"config\.yaml has model_kind='cross_layer_transcoder', which is not"
    ) as refused:
        load_transcoders(tmp_path / "theirs")
    assert not isinstance(refused.value, DamagedError), "the folder is whole, and another reader's"
    config.write_text("model_kind: transcoder_set\nfeature_input_hook: 1\nfeature_output_hook: x\n")
    with pytest.raises(DamagedError, match="feature_input_hook is not a name"):
        load_transcoders(tmp_path / "theirs")
    config.write_text("!!python/object/apply:os.system [echo]")
    with pytest.raises(ValueError, match=r"config\.yaml"):
        load_transcoders(tmp_path / "theirs")
    with pytest.raises(ValueError, match=r"config\.yaml"):
        load_transcoders(tmp_path)
