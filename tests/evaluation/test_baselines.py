import numpy as np
import pytest
import torch
from sklearn.decomposition import PCA

from interp.activations import ActivationStore
from interp.evaluation.baselines import NeuronDictionary, PCADictionary, RandomDictionary
from tests.tiny import is_dictionary


@pytest.fixture(scope="module")
def acts():
    generator = torch.Generator().manual_seed(0)
    mixing = torch.randn(8, 8, generator=generator)
    return torch.randn(3000, 8, generator=generator) @ mixing + 3


@pytest.fixture(scope="module")
def store(acts, tmp_path_factory):
    return ActivationStore.from_batches(acts, tmp_path_factory.mktemp("store"), dtype="float32", rows_per_shard=700)


def all_dictionaries(store):
    return {
        "pca": PCADictionary.fit(store, "activations", 3),
        "neurons": NeuronDictionary(8, 3),
        "signed neurons": NeuronDictionary(8, 3, signed=True),
        "positive neurons": NeuronDictionary(8),
        "random": RandomDictionary.fit(store, "activations", 20, 3),
    }


@pytest.mark.parametrize("name", ["pca", "neurons", "signed neurons", "positive neurons", "random"])
def test_dense_and_sparse_agree(store, acts, name):
    dictionary = all_dictionaries(store)[name]
    assert is_dictionary(dictionary)
    z, codes = dictionary.encode(acts), dictionary.codes(acts)
    assert (z >= 0).all() and torch.equal(codes.dense(), z)
    torch.testing.assert_close(dictionary.decode(codes), dictionary.decode(z))
    torch.testing.assert_close(dictionary(acts), z @ dictionary.W_dec + dictionary.b_dec)
    if dictionary.k:
        assert (codes.offsets.diff() == 3).all() and (z > 0).sum(1).max() <= 3


def test_pca_keeps_the_largest_coefficients_of_sklearns_components(store, acts):
    oracle = PCA(svd_solver="full").fit(acts.double().numpy())
    coefficients = oracle.transform(acts.double().numpy())
    small = np.argsort(-np.abs(coefficients), axis=1)[:, 3:]
    np.put_along_axis(coefficients, small, 0, 1)
    dictionary = PCADictionary.fit(store, "activations", 3)
    np.testing.assert_allclose(dictionary(acts), oracle.inverse_transform(coefficients), atol=2e-3)


def test_pca_of_a_store_without_second_moments_is_the_same(store, acts, monkeypatch):
    from_moments = PCADictionary.fit(store, "activations", 3)
    monkeypatch.setattr(type(store.statistics("activations")), "covariance", None)
    torch.testing.assert_close(PCADictionary.fit(store, "activations", 3)(acts), from_moments(acts), atol=1e-3, rtol=0)


def test_pca_with_every_component_is_exact(store, acts):
    torch.testing.assert_close(PCADictionary.fit(store, "activations", 8)(acts), acts, atol=1e-3, rtol=0)


def test_neurons_are_the_positive_activations(acts):
    assert torch.equal(NeuronDictionary(8).encode(acts), acts.relu())
    assert torch.equal(NeuronDictionary(8, 8, signed=True)(acts), acts)
    strongest = NeuronDictionary(8, 1).encode(acts)
    assert torch.equal(strongest.max(1).values, acts.max(1).values.relu())


def test_random_directions_follow_the_seed(store):
    first, again, other = (RandomDictionary.fit(store, "activations", 20, 3, seed=s) for s in (0, 0, 1))
    assert torch.equal(first.W_dec, again.W_dec) and not torch.equal(first.W_dec, other.W_dec)
    torch.testing.assert_close(first.W_dec.norm(dim=1), torch.ones(20))
    assert torch.equal(first.W_enc, first.W_dec.T)


def test_k_must_fit(store):
    with pytest.raises(ValueError, match=r"k=9 must be in 1\.\.8"):
        PCADictionary.fit(store, "activations", 9)
    with pytest.raises(ValueError, match=r"k=5 must be in 1\.\.d_sae=4"):
        NeuronDictionary(4, 5)
