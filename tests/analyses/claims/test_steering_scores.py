"""Predictions of steering against their definitions by hand, and whether they come true on a planted model."""

import numpy as np
import pytest
import torch

from analyses.claims.steering_scores import steering_scores, steering_success
from interp.effects import intervene, pin
from tests.small_models import POST, V, ours, planted, sae, scanned, seeded


@pytest.fixture
def tokens():
    return torch.randint(0, V, (7, 9), generator=seeded(0))


def test_scores_are_those_of_the_model_steered_by_hand(tokens, tmp_path):
    model, dictionary = ours(), sae().double()
    features = scanned(model, POST, dictionary, tokens, tmp_path)
    latents = features.sql("select latent from features where n_active > 3").latent[:4].tolist()
    table = steering_scores(features, model, POST, dictionary, latents, kl=0.2, sequences=7)
    assert table.multiple.notna().sum() >= 2 and table.latent.tolist() == latents
    z = features.codes[: len(features.codes)].dense()
    fires, flat = (z > 0).double(), tokens.flatten()
    maxima = features.table().set_index("latent")["max"]
    with torch.no_grad():
        clean = model(tokens).log_softmax(-1)
        for row in table.dropna().itertuples():
            with intervene(model, POST, dictionary, {row.latent: pin(row.multiple * maxima[row.latent])}):
                steered = model(tokens).log_softmax(-1)
            kl = (clean.exp() * (clean - steered)).sum(-1).mean()
            assert row.kl == pytest.approx(float(kl), rel=1e-5) and row.kl == pytest.approx(0.2, rel=0.05)
            share = np.array([float(fires[flat == t, row.latent].mean()) if (flat == t).any() else 0 for t in range(V)])
            rise = (steered.exp() - clean.exp()).flatten(0, 1).mean(0).numpy()
            assert row.self_output == pytest.approx(rise @ share, rel=1e-5)
            near = fires[:, row.latent].view(tokens.shape).clone()
            near[:, 1:] = near[:, 1:].maximum(near[:, :-1].clone())
            near = near.flatten()
            share_near = np.array([float(near[flat == t].mean()) if (flat == t).any() else 0 for t in range(V)])
            assert row.output == pytest.approx(rise @ share_near, rel=1e-5)
            own, told = fires[:, row.latent].numpy(), share[flat.numpy()]
            assert row.input == pytest.approx(np.var(told) / np.var(own))


def test_a_latent_that_brings_its_own_token_is_predicted_and_found_to(tmp_path):
    """Latent 0 fires on token 7 and brings it; latent 1 is taken off by the norm, and no dose of it costs anything."""
    model, dictionary = planted()
    u = dictionary.W_dec[0]
    with torch.no_grad():
        model.W_E[7] += 5 * u
        model.W_E[3] -= 5 * u
    tokens = torch.randint(8, V, (12, 9), generator=seeded(4))
    tokens[:, 2] = 7
    features = scanned(model, POST, dictionary, tokens, tmp_path)
    table = steering_scores(features, model, POST, dictionary, [0, 1], kl=1.0)
    assert min(table.output[0], table.self_output[0]) > 0.3 and table.input[0] == pytest.approx(1)
    assert np.isnan(table.multiple[1]) and np.isnan(table.output[1])
    found = steering_success(features, model, POST, dictionary, {0: table.multiple[0]}, prompt_tokens=2, n_tokens=6)
    assert 0.3 < found.self_success[0] < 1 and 0.3 < found.success[0] < 1
    assert not any(module._forward_hooks for module in model.modules())


def test_an_impossible_kl_and_a_silent_latent_are_refused(tokens, tmp_path):
    model, dictionary = ours(), sae().double()
    dictionary.b_enc[4] = -1e6
    features = scanned(model, POST, dictionary, tokens, tmp_path)
    with pytest.raises(ValueError, match="kl=0 must be above 0"):
        steering_scores(features, model, POST, dictionary, [0], kl=0)
    with pytest.raises(ValueError, match=r"latents \[4\] never fire"):
        steering_scores(features, model, POST, dictionary, [4])
    with pytest.raises(ValueError, match="n_tokens=0 must be at least 1"):
        steering_success(features, model, POST, dictionary, {0: 1.0}, n_tokens=0)


def test_scores_steer_no_tokens_that_the_dictionary_was_not_taught(tokens, tmp_path):
    model, dictionary = ours(), sae().double()
    features = scanned(model, POST, dictionary, tokens, tmp_path)
    latent, untaught = int(features.table()["max"].idxmax()), tokens[:, 1].unique().tolist()
    dictionary.metadata["exclude_special_tokens"] = untaught
    [score] = steering_scores(features, model, POST, dictionary, [latent], kl=0.3, sequences=7).itertuples()
    action = {latent: pin(score.multiple * float(features.table().set_index("latent")["max"][latent]))}
    taught = ~torch.isin(tokens, torch.tensor(untaught))
    with torch.no_grad():
        clean = model(tokens).log_softmax(-1)
        with intervene(model, POST, dictionary, action, positions=taught):
            steered = model(tokens).log_softmax(-1)
    assert score.kl == pytest.approx(float((clean.exp() * (clean - steered)).sum(-1).mean()), rel=1e-5)
