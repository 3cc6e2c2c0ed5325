"""An encoder of a user's own: a class in a script, with which dictionaries are trained, saved and read back."""

from dataclasses import dataclass
from typing import Any, ClassVar

import pytest
import torch
from torch import Tensor

from interp import ActivationStore, TopKConfig, load_sae, train_sae
from interp.sae import SAE, Encoder, StoredEncoder, TopK
from interp.sae.architectures.encoders import ENCODERS, Weights
from interp.sae.file_tensors import FileTensors, read_whole_number

D_IN, D_SAE = 8, 24


@dataclass(frozen=True, eq=False)
class Staircase(Encoder):
    """z = pre where it is above its latent's step, rounded down to a multiple of it; at most `most` steps."""

    name: ClassVar[str] = "test_staircase"
    step: Tensor
    most: int

    def encode(self, x: Tensor, weights: Weights) -> Tensor:
        pre = x @ weights.encoder_rows.T + weights.b_enc
        return (pre / self.step).floor().clamp(0, self.most) * self.step

    def scaled(self, scale: float) -> "Staircase":
        return Staircase(self.step / scale, self.most)

    def to_stored(self) -> StoredEncoder:
        return StoredEncoder({"most": self.most}, {"step": self.step})

    @classmethod
    def from_stored(cls, settings: dict[str, Any], parts: FileTensors, d_sae: int, source: str) -> "Staircase":
        return cls(parts.pop("step", d_sae), read_whole_number(settings, "most", source, limit=100))


@dataclass(frozen=True, kw_only=True)
class StaircaseConfig(TopKConfig):
    """Trained as a TopK; what is trained rounds."""

    architecture: ClassVar[str] = "test_staircase"

    def trained_encoder(self, weights: dict[str, Tensor], state: dict[str, float]) -> Staircase:  # type: ignore[override]
        return Staircase(torch.linspace(0.1, 0.5, self.d_sae), 3)


def weights(seed: int = 0) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    W_dec = torch.randn(D_SAE, D_IN, generator=generator)
    return {"W_enc": W_dec.T, "W_dec": W_dec, "b_enc": torch.zeros(D_SAE), "b_dec": torch.ones(D_IN)}


def test_it_is_trained_saved_and_read_back(tmp_path):
    x = torch.randn(600, D_IN, generator=torch.Generator().manual_seed(1))
    store = ActivationStore.from_batches(x, tmp_path / "store", dtype="float32")
    config = StaircaseConfig(d_sae=D_SAE, tokens=2000, batch_size=100, k=3, device="cpu")
    sae = train_sae(store, "activations", config, tmp_path / "sae")
    again = load_sae(tmp_path / "sae")
    assert isinstance(again.encoder, Staircase) and again.encoder.most == 3 and again.config == config
    assert torch.equal(again.encoder.step, sae.encoder.step) and sae.preferred_format == "interp"
    z = again.encode(x)
    assert (z > 0).any() and torch.equal(z, sae.encode(x)) and torch.equal(again.codes(x).dense(), z)


def test_saelens_has_no_architecture_for_it(tmp_path):
    with pytest.raises(ValueError, match="no architecture for this sae with the encoder Staircase.*format='interp'"):
        SAE(**weights(), encoder=Staircase(torch.ones(D_SAE), 3)).save(tmp_path, format="saelens")
    SAE(**weights(), encoder=Staircase(torch.ones(D_SAE), 3)).save(tmp_path)
    assert load_sae(tmp_path).encoder.most == 3


def test_loading_names_an_encoder_that_was_not_imported(tmp_path, monkeypatch):
    SAE(**weights(), encoder=Staircase(torch.ones(D_SAE), 3)).save(tmp_path, format="interp")
    monkeypatch.delitem(ENCODERS, "test_staircase")
    with pytest.raises(ValueError, match="test_staircase.* is not known; .*topk.*: import the module"):
        load_sae(tmp_path)


def test_save_refuses_an_encoder_without_a_stored_form(tmp_path):
    class Silent(Staircase):
        to_stored = Encoder.to_stored

    with pytest.raises(ValueError, match="the encoder Silent has no form on disk: give it a name, to_stored"):
        SAE(**weights(), encoder=Silent(torch.ones(D_SAE), 3)).save(tmp_path, format="interp")
    assert not list(tmp_path.iterdir())


def test_save_refuses_an_encoder_tensor_named_as_a_weight(tmp_path):
    class Clashing(Staircase):
        def to_stored(self) -> StoredEncoder:
            return StoredEncoder({}, {"W_dec": self.step})

    with pytest.raises(ValueError, match="calls a tensor W_dec"):
        SAE(**weights(), encoder=Clashing(torch.ones(D_SAE), 3)).save(tmp_path, format="interp")


class Clashing(Staircase):
    name: ClassVar[str] = "test_clashing"

    def __init__(self) -> None:
        vars(self).update(codes=torch.ones(D_SAE))


def test_a_tensor_named_as_a_member_of_a_dictionary_is_refused():
    with pytest.raises(ValueError, match="has a member codes: give the encoder's tensor another name"):
        SAE(**weights(), encoder=Clashing())


def test_another_encoder_takes_the_place_of_the_first():
    sae = SAE(**weights(), encoder=Staircase(torch.ones(D_SAE), 3))
    assert sae.state_dict().keys() == {*weights(), "step"}
    sae.encoder = TopK(2)
    assert sae.encoder == TopK(2) and sae.state_dict().keys() == weights().keys()


def test_other_buffers_of_a_dictionary_are_none_of_its_encoders():
    sae = SAE(**weights(), encoder=Staircase(torch.ones(D_SAE), 3))
    sae.register_buffer("mean", torch.zeros(D_IN))
    assert vars(sae.encoder).keys() == {"step", "most"}
    with pytest.raises(ValueError, match="has a member codes"):
        sae.encoder = Clashing()
    assert torch.equal(sae.encoder.step, torch.ones(D_SAE)), "the one before is kept"
    sae.encoder = TopK(2)
    assert vars(sae.encoder).keys() == {"k"} and sae.state_dict().keys() == {*weights(), "mean"}


def test_registering_a_second_encoder_of_the_same_name_is_refused():
    with pytest.raises(ValueError, match="encoder 'topk' is already registered: choose another name"):

        class Other(Staircase):
            name: ClassVar[str] = "topk"
