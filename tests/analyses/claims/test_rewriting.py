"""Rules on new text against a reader that goes position by position, and a model that is rewritten in planted words."""

import shutil

import numpy as np
import pandas as pd
import pytest
import torch

from analyses.claims.rewriting import exchanged_latents, loss_in_words, main, rewrite_in_words, rule_of_text
from analyses.claims.rule_strengths import cases, first_that_hold, learn_strengths
from interp import Run
from interp.activations.harvesting import harvest
from interp.codes.sparse_codes import SparseCodes
from interp.evaluation.baselines import FixedDictionary
from interp.features.feature_store import FeatureStore
from interp.text.positions import Positions
from interp.text.predicate_kinds import PREDICATE_KINDS, kinds_in
from interp.text.predicates import Predicates
from interp.text.rules import MAX_ATOMS, in_order, rule_json
from interp.verdict.rule_counts import NumberedRules
from models.transformer import Transformer, TransformerConfig
from tests.analyses.claims.atoms import WORDS, an_atom, atom_holds

HOOK = "blocks.0.hook_resid_post"


def text_of(n_seq, n_ctx, seed=0):
    tokens = np.random.default_rng(seed).integers(0, len(WORDS), (n_seq, n_ctx)).astype(np.int32)
    return Predicates.count(tokens, len(WORDS), WORDS)


def random_rules(predicates, n, seed=0):
    rng, corpus = np.random.default_rng(seed), predicates.text
    every = Positions(corpus, np.arange(corpus.tokens.size))

    def atom(kind):
        values = np.unique(PREDICATE_KINDS[kind].values(every))
        values = values[values >= 0] if values[-1] >= 0 else np.zeros(1, int)
        values = rng.choice(values, min(rng.integers(1, 4), len(values)), replace=False)
        return an_atom(kind, *values.tolist())

    def rule():
        kinds = rng.choice(list(kinds_in(corpus)), rng.integers(1, MAX_ATOMS + 1), replace=False)
        return tuple(atom(str(kind)) for kind in kinds)

    return [rule() for _ in range(n)]


def rule_holds(rule, text, seq, pos):
    return all(atom_holds(atom, text, seq, pos) for atom in rule)


def test_rules_on_new_text_hold_where_a_reader_position_by_position_says():
    text = text_of(5, 15)
    units = [random_rules(text, n, seed) for seed, n in enumerate((3, 1, 0, 4, 2))]
    held = first_that_hold(text, slice(1, 5), NumberedRules.of(units, text)).dense().numpy()
    expected = np.zeros_like(held)
    starts = np.cumsum([0, *map(len, units)])
    for row in range(len(expected)):
        for unit, start in zip(units, starts, strict=False):
            which = [rule_holds(rule, text, 1 + row // 15, row % 15) for rule in unit]
            if any(which):
                expected[row, start + which.index(True)] = 1
    assert 0 < expected.mean() < 0.5 and (held == expected).all()


def test_rules_are_read_as_they_were_written():
    text = text_of(2, 9)
    rules = random_rules(text, 50)
    assert [rule_of_text(rule_json(rule), text.text) for rule in rules] == list(map(in_order, rules))
    for broken in (
        '[["token", [99], [["x"]]]]',
        '[["token", [1], ["x"]]]',
        '[["token", [1], []]]',
        '[["place", "nowhere", 0]]',
        '[["odd", [1], [["x"]]]]',
        '[["label", [0], [["x"]]]]',
        "[",
        "[]",
    ):
        with pytest.raises(ValueError, match="rank"):
            rule_of_text(broken, text.text)


def test_a_case_is_a_conjunction_with_one_token():
    after = an_atom("previous", 4, 5)
    assert cases((an_atom("token", 0, 1), after)) == [(an_atom("token", 0), after), (an_atom("token", 1), after)]
    assert cases((after,)) == [(after,)] and cases(()) == []


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """Latent 0 fires at "a" (strength 1) or "b" (3), 1 after "(", 2 at half of all commas, 3 at random."""
    folder, rng = tmp_path_factory.mktemp("rewriting"), np.random.default_rng(1)
    text = text_of(256, 16, seed=3)
    tokens = text.text.tokens
    z = np.zeros((*tokens.shape, 4), np.float32)
    z[..., 0] = (tokens == 0) + 3 * (tokens == 1)
    z[:, 1:, 1] = 2 * (tokens[:, :-1] == 4)
    z[..., 2] = (tokens == 13) & (rng.random(tokens.shape) < 0.5)
    z[..., 3] = rng.random(tokens.shape) < 0.1
    codes = SparseCodes.from_dense(torch.from_numpy(z.reshape(-1, 4)))
    features = FeatureStore.from_codes(torch.from_numpy(tokens), codes, folder / "features", vocab=WORDS)
    rules = [(an_atom("token", 0, 1),), (an_atom("previous", 4),), (an_atom("token", 13),), ()]
    return text, z, features, rules


def test_strengths_are_means_over_the_places_of_the_fit_half(world):
    text, z, features, rules = world
    strengths, tokens = learn_strengths(features, text, rules), text.text.tokens
    fit = features.fit_half().numpy()
    at_comma = z[fit][tokens[fit] == 13][:, 2].mean()
    assert strengths.elsewhere[:3] == pytest.approx([0, 0, 0]) and strengths.elsewhere[3] == pytest.approx(
        z[fit][..., 3].mean()
    )
    assert strengths.rises == pytest.approx([1, 3, 2, at_comma])
    held = z[~fit].reshape(-1, 4)
    predicted = np.zeros_like(held)
    predicted[:, 2] = np.where(tokens[~fit].reshape(-1) == 13, at_comma, 0)
    share = 1 - np.square(held - predicted)[:, 2].sum() / np.square(held - held.mean(0))[:, 2].sum()
    assert strengths.shares[:3] == pytest.approx([1, 1, share]) and 0.3 < share < 0.7
    assert abs(strengths.shares[3]) < 0.01
    new = text.with_text(text_of(3, 16, seed=9).text.tokens)
    rises = strengths.rises_on(new, slice(0, 3)).dense().numpy().reshape(3, 16, 4)
    assert rises[..., 0] == pytest.approx((new.text.tokens == 0) + 3.0 * (new.text.tokens == 1))
    assert rises[..., 3].max() == 0


def test_rules_are_exchanged_among_latents_of_about_equal_density():
    rules = [(an_atom("token", 0),)] * 40 + [()] * 3
    density = np.arange(43)[::-1]
    out = exchanged_latents(rules, density, seed=0)
    assert sorted(out) == list(range(43)) and (out[:40] != np.arange(40)).all() and (out[40:] == range(40, 43)).all()
    assert abs(out - np.arange(43)).max() < 32


@pytest.fixture(scope="module")
def rewritten(tmp_path_factory):
    """Return a model whose activations a dictionary of tokens and of previous tokens gives in full, and rules that say
    so."""
    folder = tmp_path_factory.mktemp("model")
    config = TransformerConfig(n_layers=1, d_model=32, n_heads=2, d_mlp=8, d_vocab=16, n_ctx=12, act_fn="relu")
    model = Transformer(config)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.3 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(1)))
    tokens = torch.from_numpy(text_of(300, 12, seed=5).text.tokens)
    store = harvest(model, tokens, [HOOK], folder / "store", dtype="float32", max_norm=None)
    return folder, model, tokens, store


def ranking_of(rules):
    written = [rule_json(rule) if rule else "" for rule in rules]
    return pd.DataFrame({"latent": range(len(rules)), "explanation_json": written})


def share_of_mean(losses):
    """Return the share of what mean ablation costs, which is the value of uninformative words."""
    return (losses.ce_mean_ablated - losses.ce_spliced) / (losses.ce_mean_ablated - losses.ce_clean)


def test_words_of_single_tokens_are_the_lookup(rewritten):
    """Latents that are the token means, and rules that name the tokens: as good as the lookup, and permuted no better
    than the mean; the dictionary's row is what `quality` says."""
    folder, model, tokens, store = rewritten
    acts = torch.cat([store.shard(i, HOOK).acts for i in range(store.n_shards)])
    rows = torch.cat([store.row_ids(i) for i in range(store.n_shards)])
    token = tokens.reshape(-1)[rows].long()
    means = torch.stack([acts[token == t].mean(0) for t in range(16)])
    centre = acts.mean(0)
    dictionary = FixedDictionary((means - centre).pinverse(), means - centre, centre, 1)
    z = torch.nn.functional.one_hot(tokens.reshape(-1).long(), 16).float()
    features = FeatureStore.from_codes(
        tokens, SparseCodes.from_dense(z), folder / "features", W_dec=dictionary.W_dec, vocab=WORDS, hook_name=HOOK
    )
    ranking = ranking_of([(an_atom("token", t),) for t in range(16)])
    new = torch.from_numpy(text_of(40, 12, seed=8).text.tokens)
    found = rewrite_in_words(features, ranking, dictionary, store, model, new, batch_size=7)
    losses = found.losses.set_index("reconstruction")
    assert losses.ce_spliced["words"] == pytest.approx(losses.ce_spliced["token lookup"], abs=0.02)
    of_mean = share_of_mean(losses)
    assert of_mean["words"] > 0.2 > abs(of_mean["permuted rules"])
    assert found.shares.words_share.tolist() == pytest.approx([1] * 16)
    nothing = rewrite_in_words(features, ranking.assign(explanation_json=""), dictionary, store, model, new).losses
    assert share_of_mean(nothing)[1] == pytest.approx(0, abs=0.15)  # the mean, but that of other text


def test_rewrite_in_words_refuses_inputs_that_do_not_match(rewritten, world):
    _, model, tokens, store = rewritten
    _, _, features, rules = world
    ranking = ranking_of(rules)
    dictionary = FixedDictionary(torch.zeros(32, 4), torch.zeros(4, 32), torch.zeros(32), None)
    with pytest.raises(ValueError, match="other tokens"):
        rewrite_in_words(features, ranking, dictionary, store, model, tokens)
    with pytest.raises(ValueError, match="not of the features"):
        rewrite_in_words(features, ranking.assign(latent=99), dictionary, store, model, tokens)


def test_what_the_words_of_a_run_recover(tiny_run, tmp_path, capsys):
    run = Run(shutil.copytree(tiny_run.path, tmp_path / "run"))
    losses, shares = main([str(run.path)])
    recovered = losses.set_index("reconstruction")["ce_recovered"]
    assert list(recovered.index) == ["dictionary", "words", "token lookup", "permuted rules"]
    of_quality = run.quality.set_index("dictionary")["ce_recovered"]["SAE"]
    assert recovered["dictionary"] == pytest.approx(of_quality, abs=1e-4)
    assert len(shares) == run.features.d_sae and shares["words_share"].max() <= 1
    assert f"words {recovered['words']:.3f}" in capsys.readouterr().out
    assert (tmp_path / "run-words/loss_in_words.html").is_file()
    pd.testing.assert_frame_equal(pd.read_parquet(tmp_path / "run-words/shares.parquet"), shares)


LOSSES = pd.DataFrame({"reconstruction": ["dictionary", "words"], "ce_recovered": [0.9, -0.2]})
LOSSES = LOSSES.assign(ce_spliced=[3.2, 5.4], ce_clean=3.0, ce_nothing=5.0)


def test_rewritten_losses_lie_between_unigrams_and_the_model():
    drawn = loss_in_words(LOSSES)
    assert list(drawn.layout.yaxis.ticktext) == ["words", "zeros or unigrams", "dictionary", "model as it is"]
    assert list(drawn.data[0].x) == [-0.2, 0, 0.9, 1]
    with pytest.raises(ValueError, match="lacks the columns"):
        loss_in_words(LOSSES.drop(columns="ce_clean"))
