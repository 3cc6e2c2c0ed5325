"""Absorption row by row, text that rules generate against latents that follow them, and planted communities."""

from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch

from analyses.claims.neighbourhoods import communities
from analyses.claims.rule_measures import absorption, sensitivity
from interp import FeatureStore
from interp.activations.hooks import capture, resolve_hooks
from interp.codes.sparse_codes import SparseCodes
from interp.evaluation.baselines import FixedDictionary
from interp.text.predicates import Predicates
from models.transformer import Transformer, TransformerConfig
from tests.analyses.claims.atoms import WORDS, an_atom, atom_holds

V, N_CTX = len(WORDS), 40
HOOK = "hook_embed"


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """Latent j fires on token j; 4 is silent after token 3, where 5, which writes in 4's direction, fires instead."""
    tokens = torch.randint(0, V, (30, N_CTX), generator=torch.Generator().manual_seed(0))
    z = torch.nn.functional.one_hot(tokens, V).float()
    taken = (tokens == 4) & (tokens.roll(1, 1) == 3)
    taken[:, 0] = False
    z[taken] = torch.eye(V)[5]
    W_dec = torch.eye(V)
    W_dec[5, 4] = 1
    store = FeatureStore.from_codes(
        tokens, SparseCodes.from_dense(z.flatten(0, 1)), tmp_path_factory.mktemp("store"), W_dec=W_dec, vocab=WORDS
    )
    return store, taken


def test_a_row_is_absorbed_where_another_supplies_the_direction(world):
    store, taken = world
    text = Predicates.count(store.tokens.numpy(), len(WORDS), WORDS)
    rules = {4: (an_atom("token", 4),), 6: (an_atom("token", 6, 7),)}
    four, six = absorption(store, text, rules).itertuples()
    n = int((store.tokens == 4).sum())
    assert four.n_rule == n and four.absorbed == pytest.approx(int(taken.sum()) / n)
    assert four.fires == pytest.approx(1 - four.absorbed) and four.taker == 5 and four.taker_share == 1
    assert 0 <= four.by_chance < 0.2 and six.absorbed == 0 and six.taker == -1 and 0 < six.fires < 1


def test_absorption_equals_a_loop_over_rows(world):
    store, _ = world
    generator = torch.Generator().manual_seed(2)
    z = torch.rand(store.tokens.numel(), 10, generator=generator)
    z = z * (torch.rand(z.shape, generator=generator) < 0.3)
    W = torch.randn(10, 6, generator=generator)
    folder = store.path.parent / "random"
    random = FeatureStore.from_codes(store.tokens, SparseCodes.from_dense(z), folder, W_dec=W, vocab=WORDS)
    text = Predicates.count(store.tokens.numpy(), len(WORDS), WORDS)
    rules = {2: (an_atom("before", 1, 2),), 7: (an_atom("token", 5, 6), an_atom("previous", 0, 1, 2, 3))}
    table = absorption(random, text, rules, min_share=0.6).set_index("latent")
    for latent, rule in rules.items():
        counts, unit = np.zeros(3), W[latent] / W[latent].norm()
        need = 0.6 * float(z[:, latent][z[:, latent] > 0].mean() * W[latent].norm())
        for row in range(len(z)):
            if all(atom_holds(atom, text, *divmod(row, N_CTX)) for atom in rule):
                others = [float(z[row, j] * (W[j] @ unit)) for j in range(10) if j != latent]
                fires = bool(z[row, latent] > 0)
                counts += [1, fires, not fires and max(others) >= need]
        assert table.n_rule[latent] == counts[0] > 20
        np.testing.assert_allclose([table.fires[latent], table.absorbed[latent]], counts[1:] / counts[0])


def test_a_latent_that_follows_its_rule_is_sensitive_to_it(world):
    store, _ = world
    model = Transformer(TransformerConfig(n_layers=1, d_model=V, n_heads=2, d_mlp=8, d_vocab=V, n_ctx=N_CTX)).eval()
    with torch.no_grad():
        model.embed.W_E.copy_(torch.eye(V))
    dictionary = FixedDictionary(torch.eye(V), torch.eye(V), torch.zeros(V), None)
    rules = {
        4: (an_atom("token", 4), an_atom("previous", 3)),
        6: (an_atom("previous", 6),),
        2: (an_atom("token", 2, 3),),
        9: (an_atom("label", 0),),
    }
    table = sensitivity(store, model, HOOK, dictionary, rules, windows=60).set_index("latent")
    assert table.sensitivity[4] == 1 and table.unchanged[4] < 0.3 and 40 < table.n[4] <= 60
    assert table.sensitivity[6] < 0.3, "the latent fires on the token, its rule says behind it"
    assert 0.25 < table.low[2] < table.sensitivity[2] < table.high[2] < 0.75 and table.unchanged[2] == 0
    assert table.n[9] == 0 and np.isnan(table.sensitivity[9])
    assert not any(module._forward_hooks for module in model.modules())
    acts = capture(model, store.tokens[:1].long(), resolve_hooks(model, [HOOK]))[HOOK]
    assert torch.equal(acts[0].argmax(-1), store.tokens[0].long())
    with pytest.raises(ValueError, match="windows=0 must be at least 1"):
        sensitivity(store, model, HOOK, dictionary, rules, windows=0)


def test_planted_communities_are_found_and_their_modularity_is_above_chance(tmp_path):
    generator = torch.Generator().manual_seed(0)
    tokens = torch.randint(0, 50, (40, 25), generator=generator)
    topic = torch.randint(0, 3, (1000, 1), generator=generator)
    z = (torch.arange(24) % 3 == topic) & (torch.rand(1000, 24, generator=generator) < 0.4)
    store = FeatureStore.from_codes(tokens, SparseCodes.from_dense(z.float()), tmp_path)
    found = communities(store, min_lift=1.2)
    groups = found.table.groupby("community")["latent"].agg(set)
    assert sorted(map(sorted, groups)) == [list(range(rest, 24, 3)) for rest in range(3)]
    assert found.null < 0.3 < found.modularity
    assert found.table.equals(communities(store, min_lift=1.2).table)
    with pytest.raises(ValueError, match="min_lift=99"):
        communities(store, min_lift=99)


def test_a_pair_that_is_listed_under_both_of_its_latents_is_one_edge():
    ends = np.random.default_rng(0).integers(300, size=(1200, 2))
    ends = np.unique(np.sort(ends[ends[:, 0] != ends[:, 1]], axis=1), axis=0)
    once = pd.DataFrame({"latent": ends[:, 0], "other": ends[:, 1], "jaccard": 0.5, "lift": 3.0})
    twice = pd.concat([once, once.rename(columns={"latent": "other", "other": "latent"})])
    found, expected = (communities(SimpleNamespace(table=lambda _, rows=rows: rows)) for rows in (twice, once))
    assert (found.modularity, found.null) == (expected.modularity, expected.null)
    assert found.null == pytest.approx(found.modularity, abs=0.03), "its ends were drawn at random"
