"""Edges between features of two layers: ablation by hand, attribution by finite differences, hooks gone at the end."""

import numpy as np
import pandas as pd
import pytest
import torch

from interp.activations.hooks import capture, resolve_hooks
from interp.effects import ABLATE, Action, feature_edges, intervene
from interp.evaluation.baselines import RandomDictionary
from models import load_model
from tests.foreign_models import D_MODEL, foreign_model, foreign_tokenizer
from tests.small_models import D, V, ours, sae, seeded, transcoder

UP, DOWN = "blocks.0.hook_resid_post", "blocks.1.hook_resid_post"


@pytest.fixture
def prompts():
    return torch.randint(0, V, (3, 7), generator=seeded(2))


def read(model, hook, dictionary, row, at, latent):
    acts = capture(model, row[None], resolve_hooks(model, [hook]))[hook].detach()[0, at]
    return float(acts @ dictionary.W_enc[:, latent])


@pytest.mark.parametrize("kind", ["residual stream", "transcoders"])
def test_edges_are_those_found_by_hand(kind, prompts):
    model, later, at = ours(), sae().double(), torch.tensor([6, 3, 5])
    earlier, up = sae().double(), UP
    if kind == "transcoders":
        earlier, up = transcoder().double(), "blocks.0.hook_resid_mid"
        earlier.metadata["hook_name_out"] = "blocks.0.hook_mlp_out"
    table = feature_edges(model, prompts, (up, earlier), (DOWN, later), positions=at, targets=2)
    assert set(table.prompt) == {0, 1, 2} and table.groupby("prompt").downstream.nunique().max() == 2
    assert (table.position.to_numpy() == at[table.prompt].numpy()).all()
    for row in table.iloc[:: max(1, len(table) // 12)].itertuples():
        here = (model, DOWN, later, prompts[row.prompt], row.position, row.downstream)
        clean = read(*here)
        with intervene(model, up, earlier, {row.upstream: ABLATE}):
            ablated = read(*here)
        nudged = []
        for times in (1 - 2**-14, 1 + 2**-14):
            with intervene(model, up, earlier, {row.upstream: Action(times, 0.0)}):
                nudged.append(read(*here))
        assert row.ablation == pytest.approx(clean - ablated, rel=1e-4, abs=1e-6)
        assert row.attribution == pytest.approx((nudged[1] - nudged[0]) * 2**13, rel=1e-3, abs=1e-5)
    assert table.ablation.abs().max() > 1e-3


def test_tokens_that_the_earlier_dictionary_was_not_taught_have_no_edge(prompts):
    model, earlier, later = ours(), sae().double(), sae().double()
    whole = feature_edges(model, prompts, (UP, earlier), (DOWN, later), targets=2)
    untaught = prompts[:, :4].unique().tolist()
    earlier.metadata["exclude_special_tokens"] = untaught
    table = feature_edges(model, prompts, (UP, earlier), (DOWN, later), targets=2)
    taught = ~torch.isin(prompts, torch.tensor(untaught))
    for row in table.itertuples():
        here = (model, DOWN, later, prompts[row.prompt], row.position, row.downstream)
        clean = read(*here)
        with intervene(model, UP, earlier, {row.upstream: ABLATE}, positions=taught[row.prompt, None]):
            assert row.ablation == pytest.approx(clean - read(*here), rel=1e-4, abs=1e-6)
    fires = (earlier.encode(capture(model, prompts, resolve_hooks(model, [UP]))[UP].detach()) > 0) & taught[..., None]
    kept = whole[[bool(fires[row.prompt, :, row.upstream].any()) for row in whole.itertuples()]]
    assert 0 < len(table) < len(whole) and (table.upstream.to_numpy() == kept.upstream.to_numpy()).all()


def test_targets_are_the_latents_that_fire_most_strongly(prompts):
    model, later = ours(), sae().double()
    table = feature_edges(model, prompts, (UP, sae().double()), (DOWN, later), targets=1, ablate=False)
    acts = capture(model, prompts, resolve_hooks(model, [DOWN]))[DOWN].detach()[:, -1]
    z = later.encode(acts)
    for prompt, rows in table.groupby("prompt"):
        assert set(rows.downstream) == {int(z[prompt].argmax())}
        np.testing.assert_allclose(rows.activation, float(z[prompt].max()))
    assert table.ablation.isna().all()


def test_prompts_may_be_texts_each_behind_the_token_that_opens_it():
    tokenizer = foreign_tokenizer("llama")
    model = load_model(foreign_model("llama", len(tokenizer)), tokenizer=tokenizer)
    texts = ["The river runs", "Cold water sings under the old trees"]
    hooks = [f"blocks.{layer}.hook_resid_post" for layer in (0, 2)]
    dictionaries = [(hook, RandomDictionary(D_MODEL, 20, 4, seed=seed)) for seed, hook in enumerate(hooks)]
    table = feature_edges(model, texts, *dictionaries, targets=2)
    for number, text in enumerate(texts):
        ids = torch.tensor([tokenizer.encode(text)])
        assert ids[0, 0] == tokenizer.bos_token_id
        part = table[table.prompt == number].reset_index(drop=True)
        assert part.position.eq(ids.shape[1] - 1).all() and len(part) > 4
        for each in (ids, text):
            alone = feature_edges(model, each, *dictionaries, targets=2).assign(prompt=number)
            pd.testing.assert_frame_equal(part, alone, rtol=1e-3, atol=1e-4)
    beyond = torch.tensor([table.position.max(), table.position.max()])  # of the first text, it is padding
    with pytest.raises(ValueError, match="must be one a prompt"):
        feature_edges(model, texts, *dictionaries, positions=beyond)
    with pytest.raises(ValueError, match="and the model has no tokenizer"):
        feature_edges(model.inner, texts, ("model.layers.0", sae().double()), ("model.layers.2", sae().double()))


def test_hooks_are_gone_after_an_error_and_mistakes_are_named(prompts):
    model, later = ours(), sae().double()

    def stop(*told):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        feature_edges(model, prompts, (UP, sae().double()), (DOWN, later), progress=stop)
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())
    with pytest.raises(ValueError, match="name the earlier one first"):
        feature_edges(model, prompts, (DOWN, later), (UP, sae().double()))
    with pytest.raises(ValueError, match="is where both dictionaries are"):
        feature_edges(model, prompts, (UP, sae().double()), (UP, later))
    with pytest.raises(ValueError, match=r"positions \[7, 7, 7\] must be one a prompt, of 0..\[6, 6, 6\]"):
        feature_edges(model, prompts, (UP, later), (DOWN, later), positions=torch.tensor([7, 7, 7]))
    for none in ([], prompts[:0]):
        with pytest.raises(ValueError, match="there are no prompts"):
            feature_edges(model, none, (UP, later), (DOWN, later))
    with pytest.raises(ValueError, match="has no W_enc"):
        bare = type("Bare", (), {"W_dec": torch.eye(D), "kind": "sae", "metadata": {}})()
        feature_edges(model, prompts, (UP, later), (DOWN, bare))
