"""Loops and cycles against planted ones; correlation and lift by numpy."""

import numpy as np
import pytest
import torch

from analyses.claims.automata import NEIGHBOURS, automaton, lifts, shuffled_tokens
from interp import FeatureStore
from interp.codes.sparse_codes import SparseCodes
from interp.evaluation.baselines import FixedDictionary
from models.transformer import Transformer, TransformerConfig

V, D = 64, 64


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """Latent j fires on token j; 0 writes its own token, 1 and 2 one another's, all others random ones."""
    generator = torch.Generator().manual_seed(1)
    tokens = torch.randint(0, V, (40, 16), generator=generator)
    model = Transformer(TransformerConfig(n_layers=1, d_model=D, n_heads=2, d_mlp=8, d_vocab=V, n_ctx=16)).double()
    with torch.no_grad():
        model.W_U.copy_(torch.eye(D)[:, :V] - 1 / D)
    W_dec = 0.3 * torch.randn(20, D, generator=generator)
    for latent, written in ((0, 0), (1, 2), (2, 1)):
        W_dec[latent] = 5 * torch.eye(D)[written]
    dictionary = FixedDictionary(torch.zeros(D, 20), W_dec, torch.zeros(D), None)
    z = torch.nn.functional.one_hot(tokens.flatten(), V)[:, :20].float()
    features = FeatureStore.from_codes(tokens, SparseCodes.from_dense(z), tmp_path_factory.mktemp("store"), W_dec=W_dec)
    return features, model, dictionary


def test_planted_loops_and_cycles_are_above_every_shuffle(world):
    features, model, dictionary = world
    found = automaton(features, model, "blocks.0.hook_resid_post", dictionary, min_fired=3)
    loops, cycles = found.above()
    assert loops.latent.tolist()[0] == 0 and loops.effect.iloc[0] > 0.9
    assert cycles[["latent", "other"]].to_numpy().tolist() == [[1, 2]]
    assert len(loops) == 1 and 0 < found.null_loop < 0.9 and 0 < found.null_cycle < 0.9


def test_the_effect_is_a_weighted_correlation_and_lift_a_count(world):
    features, model, dictionary = world
    found = automaton(features, model, "blocks.0.hook_resid_post", dictionary, min_fired=3, shuffles=1)
    tokens = features.tokens.numpy()
    n = np.bincount(tokens.ravel(), minlength=V)
    written = dictionary.W_dec.numpy() - dictionary.W_dec.numpy().mean(1, keepdims=True)
    for row in found.loops.head(5).itertuples():
        told = np.eye(V)[row.latent]
        pair = np.cov(written[row.latent], told, aweights=n, ddof=0)
        assert row.effect == pytest.approx(pair[0, 1] / np.sqrt(pair[0, 0] * pair[1, 1]), abs=1e-5)
    before, behind = tokens[:, :-1].ravel(), tokens[:, 1:].ravel()
    lift = lifts(features, np.arange(20))
    for i, j in ((0, 0), (3, 5), (5, 3)):
        both = ((before == i) & (behind == j)).sum()
        assert lift[i, j] == pytest.approx(both * len(before) / ((before == i).sum() * (behind == j).sum()))


def test_what_cannot_be_an_automaton_is_refused(world):
    features, model, dictionary = world
    with pytest.raises(ValueError, match="min_fired=999"):
        automaton(features, model, "blocks.0.hook_resid_post", dictionary, min_fired=999)
    with pytest.raises(ValueError, match="no direct path from ln_final.hook_scale"):
        automaton(features, model, "ln_final.hook_scale", dictionary, min_fired=3)


def test_a_shuffle_moves_every_token_and_none_far():
    order = np.random.default_rng(0).permutation(100)
    places = shuffled_tokens(order, np.random.default_rng(1))
    rank = np.argsort(order)
    assert sorted(places) == list(range(100)) and (places != np.arange(100)).all()
    assert (rank[places] // NEIGHBOURS == rank // NEIGHBOURS).all()
