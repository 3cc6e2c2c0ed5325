"""A format of a user's own: a script with one function, which every reader, writer and command then knows."""

from dataclasses import dataclass

import numpy as np
import pytest
import torch

from interp.cli import main
from interp.pipeline.readers import open_any
from interp.sae import SAE, TopK, load_sae
from interp.sae.formats import dictionary_format
from interp.sae.formats.stored_dictionary import StoredDictionary
from interp.storage import artifacts

SCRIPT = '''
import numpy as np
import torch

from interp.sae.architectures.topk import TopK
from interp.sae.formats.dictionary_format import EncodedFiles, dictionary_format
from interp.sae.formats.stored_dictionary import StoredDictionary


@dictionary_format("test_npz", files=("params.npz",))
def read_npz(folder):
    """NumPy's arrays"""
    arrays = {name: torch.from_numpy(array) for name, array in np.load(folder / "params.npz").items()}
    return StoredDictionary(encoder=TopK(int(arrays.pop("k"))), **arrays)


def encode(stored):
    return EncodedFiles({"made": "elsewhere"}, {"decoder": stored.W_dec.contiguous()}, "weights.safetensors")


@dictionary_format("test_decoder", files=("cfg.json", "weights.safetensors"), encode=encode)
def read_decoder(folder):
    """only the decoder"""
    raise NotImplementedError
'''


@pytest.fixture
def registries(monkeypatch):
    """Restore what the script registers."""
    formats, found = dict(dictionary_format.FORMATS), dict(artifacts.ARTIFACTS)
    yield
    for registry, before in ((dictionary_format.FORMATS, formats), (artifacts.ARTIFACTS, found)):
        registry.clear()
        registry.update(before)


def test_one_function_is_all_that_a_format_needs(tmp_path, registries, capsys):
    script, folder = tmp_path / "mine.py", tmp_path / "dictionaries" / "one"
    script.write_text(SCRIPT)
    folder.mkdir(parents=True)
    weights = {"W_enc": np.eye(4, 6), "W_dec": np.eye(6, 4), "b_enc": np.zeros(6), "b_dec": np.ones(4)}
    np.savez(folder / "params.npz", k=2, **weights)
    with pytest.raises(ValueError, match="contains no cfg.json:"):
        load_sae(folder)

    export = ["export", str(folder), "--import", str(script), "--out", str(tmp_path / "exported")]
    assert main(export) == 0
    for sae in (load_sae(folder), open_any(folder), open_any(folder, "sae"), load_sae(tmp_path / "exported")):
        assert type(sae) is SAE and sae.encoder == TopK(2)
        assert torch.equal(sae.W_dec, torch.eye(6, 4, dtype=sae.W_dec.dtype))
    with pytest.raises(ValueError, match=r"contains no cfg.json or params.npz: give one of its folders \(one\)"):
        load_sae(tmp_path / "dictionaries")

    assert main([*export, "--format", "test_npz", "--overwrite"]) == 2
    refused = "format='test_npz' is not one that can be written: interp, saelens, test_decoder can"
    assert refused in capsys.readouterr().err
    assert main([*export, "--format", "test_decoder", "--overwrite"]) == 0
    assert sorted(file.name for file in (tmp_path / "exported").iterdir()) == [
        "cfg.json",
        "manifest.json",
        "weights.safetensors",
    ]


def test_a_format_is_named_once(registries):
    with pytest.raises(ValueError, match="the format of dictionaries 'saelens' is already registered"):
        dictionary_format.dictionary_format("saelens", files=("other.json",))(load_sae)
    assert "other.json" not in artifacts.ARTIFACTS["sae"].identifying_files


def test_a_format_is_not_recognized_by_the_file_of_something_else(registries):
    with pytest.raises(ValueError, match="config.json is in each folder of a model's folder: name another file first"):
        dictionary_format.dictionary_format("test_clash", files=("config.json", "w.npz"))(load_sae)
    assert "test_clash" not in dictionary_format.FORMATS


@dataclass(frozen=True, eq=False)
class Levelled(TopK):
    levels: torch.Tensor


def test_a_tensor_of_any_encoder_that_is_not_finite_is_refused(tmp_path, registries):
    def read(folder):
        encoder = Levelled(2, torch.tensor([1.0, float("nan")]))
        return StoredDictionary(W_enc=W_dec.T, W_dec=W_dec, b_enc=W_dec[:, 0], b_dec=W_dec[0], encoder=encoder)

    W_dec = torch.eye(6, 4)
    dictionary_format.dictionary_format("test_levels", files=("levels.npz",))(read)
    (tmp_path / "levels.npz").touch()
    with pytest.raises(ValueError, match=r"levels \(2,\) contains NaN or infinity"):
        load_sae(tmp_path)
