"""Predictions of steering against their definitions by hand, and the useful range of doses."""

import pandas as pd
import pytest
import torch

from interp.activations.hooks import capture, resolve_hooks
from interp.effects import add, dose_response, intervene, pin, steer
from interp.effects.steering import Steered
from interp.evaluation.baselines import RandomDictionary
from models import load_model
from tests.foreign_models import D_MODEL, FAMILIES, foreign_model, foreign_tokenizer
from tests.foreign_models import N_CTX as SLIDES
from tests.small_models import POST, V, ours, sae, scanned, seeded, transcoder


@pytest.fixture
def tokens():
    return torch.randint(0, V, (7, 9), generator=seeded(0))


def test_tokens_that_the_dictionary_was_not_taught_are_not_steered(tokens, tmp_path):
    model, dictionary = ours(), sae().double()
    features = scanned(model, POST, dictionary, tokens, tmp_path)
    latent, untaught = int(features.table()["max"].idxmax()), tokens[:, 1].unique().tolist()
    dictionary.metadata["exclude_special_tokens"] = untaught
    written = steer(model, POST, dictionary, features, {latent: 3}, tokens[:, :3], n_tokens=4, temperature=0)
    action = {latent: pin(3 * float(features.table().set_index("latent")["max"][latent]))}
    row = tokens[:, :3]
    for _ in range(4):
        taught = ~torch.isin(row, torch.tensor(untaught))
        with torch.no_grad(), intervene(model, POST, dictionary, action, positions=taught):
            row = torch.cat([row, model(row)[:, -1:].argmax(-1)], 1)
    assert torch.equal(written, row)


def test_padding_counts_in_no_cost_of_a_dose(tokens, tmp_path):
    """The model is causal, so that what stands before the padding costs the same."""
    model, dictionary = ours(), sae().double()
    pad = V - 1
    tokens = (tokens % pad)[:, :5]
    padded = torch.cat([tokens, tokens.new_full((len(tokens), 4), pad)], 1)
    dictionary.metadata["exclude_special_tokens"] = [pad]
    features = scanned(model, POST, dictionary, padded, tmp_path)
    latent = int(features.table()["max"].idxmax())
    doses = dose_response(
        model, POST, dictionary, features, latent, multiples=[2], sequences=7, n_tokens=1, concept=[1, 1]
    )
    for token in (-1, V):
        with pytest.raises(ValueError, match=f"token id {token} occurs"):
            dose_response(model, POST, dictionary, features, latent, concept=[1, token])
    action = {latent: pin(2 * float(features.table().set_index("latent")["max"][latent]))}
    with torch.no_grad():
        clean = model(tokens).log_softmax(-1)
        with intervene(model, POST, dictionary, action):
            steered = model(tokens).log_softmax(-1)
    targets = padded[:, 1 : tokens.shape[1] + 1]  # the first token of the padding is predicted
    for row, log_p in zip(doses.itertuples(), (clean, steered), strict=True):
        loss = torch.nn.functional.nll_loss(log_p.flatten(0, 1), targets.flatten())
        assert row.loss == pytest.approx(float(loss), rel=1e-4)
        assert row.kl == pytest.approx(float((clean.exp() * (clean - log_p)).sum(-1).mean()), rel=1e-4, abs=1e-9)
        assert row.concept == pytest.approx(float(log_p[..., 1].exp().mean()), rel=1e-4)


def test_tokens_that_the_model_rules_out_have_no_part_in_the_kl_of_a_dose(tokens, tmp_path):
    """A vocabulary that is padded with logits of -inf costs what one costs whose padding is very unlikely."""
    model, dictionary, tokens = ours(), sae().double(), tokens % (V - 1)
    features = scanned(model, POST, dictionary, tokens, tmp_path)
    latent = int(features.table()["max"].idxmax())
    kls = []
    for padding in (-1e4, -float("inf")):
        model.unembed.b_U.data[-1] = padding
        kls.append(dose_response(model, POST, dictionary, features, latent, multiples=[2], sequences=7, n_tokens=1).kl)
    assert kls[0][1] > 0
    pd.testing.assert_series_equal(*kls)


def test_a_dose_continues_the_text_and_not_its_padding(tokens, tmp_path, monkeypatch):
    model, dictionary = ours(), sae().double()
    pad = V - 1
    tokens = tokens % pad
    tokens[0, 4:] = tokens[1, 6:] = tokens[2, 1:] = pad
    tokens[3, :4] = pad  # the last of them opens the text
    dictionary.metadata["exclude_special_tokens"] = [pad]
    features = scanned(model, POST, dictionary, tokens, tmp_path)
    latent = int(features.table()["max"].idxmax())
    prompts = []
    sample = Steered.sample

    def record(steered, given, *options):
        prompts.extend(map(tuple, given.tolist()))
        return sample(steered, given, *options)

    monkeypatch.setattr(Steered, "sample", record)
    doses = dose_response(model, POST, dictionary, features, latent, multiples=[2], sequences=7, n_tokens=3)
    halves = [tokens[0, :2], tokens[1, :3], tokens[2, :1], tokens[3, 3:6], *tokens[4:, :4]]
    assert sorted(prompts) == sorted(2 * [tuple(half.tolist()) for half in halves])
    assert doses[["fires", "activation"]].notna().all(axis=None)


def test_positions_that_the_dictionary_was_not_taught_are_not_steered(tokens, tmp_path):
    model, dictionary = ours(), sae().double()
    features = scanned(model, POST, dictionary, tokens, tmp_path)
    latent = int(features.table()["max"].idxmax())
    dictionary.metadata["exclude_positions"] = [0, 2, 99]
    written = steer(model, POST, dictionary, features, {latent: 3}, tokens[:, :4], n_tokens=1, temperature=0)
    action = {latent: pin(3 * float(features.table().set_index("latent")["max"][latent]))}
    with torch.no_grad(), intervene(model, POST, dictionary, action, positions=[1, 3]):
        assert torch.equal(written[:, -1], model(tokens[:, :4])[:, -1].argmax(-1))


def test_a_transcoder_is_steered_at_the_hook_that_is_named_as_if_its_metadata_named_it(tokens, tmp_path):
    model, dictionary, reads = ours(), transcoder().double(), "blocks.1.hook_resid_mid"
    features = scanned(model, reads, dictionary, tokens, tmp_path)
    latent = int(features.table()["max"].idxmax())
    steered = model, reads, dictionary, features, {latent: 3}, tokens[:, :3]
    doses = model, reads, dictionary, features, latent
    text, table = steer(*steered, n_tokens=4, temperature=0), dose_response(*doses, sequences=3, n_tokens=2)
    assert table.kl.iloc[-1] > 0
    writes = dictionary.metadata.pop("hook_name_out")
    assert torch.equal(steer(*steered, n_tokens=4, temperature=0, output_hook=writes), text)
    pd.testing.assert_frame_equal(dose_response(*doses, sequences=3, n_tokens=2, output_hook=writes), table)
    for refused in (lambda: steer(*steered, n_tokens=1), lambda: dose_response(*doses)):
        with pytest.raises(ValueError, match="name that hook with output_hook="):
            refused()


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"multiples": {0: float("inf")}}, "multiple=inf must be a finite number"),
        ({"multiples": {0: "x"}}, "multiple='x' must be a number"),
        ({"multiples": {9999: 1.0}}, "latent 9999 must be a whole number in 0.."),
        ({"multiples": {0: 1e300}}, "logits are NaN: hold its latents at lower values"),
        ({"n_tokens": 1.5}, "n_tokens=1.5 must be a whole number"),
        ({"n_tokens": True}, "n_tokens=True must be a whole number"),
        ({"seed": -1}, "seed=-1 must be at least 0"),
        ({"seed": 1 << 70}, f"seed={1 << 70} must be"),
        ({"temperature": "a"}, "temperature='a' must be a number"),
        ({"temperature": float("nan")}, "temperature=nan must be a finite number"),
    ],
)
def test_numbers_with_which_no_text_can_be_written_are_named(tokens, tmp_path, changed, message):
    model, dictionary = ours(), sae().double()
    features = scanned(model, POST, dictionary, tokens, tmp_path)
    arguments = {"multiples": {0: 2.0}, "prompt": tokens[:1], "n_tokens": 2, **changed}
    with pytest.raises(ValueError, match=message):
        steer(model, POST, dictionary, features, **arguments)


def test_a_dose_that_is_not_finite_is_named(tokens, tmp_path):
    model, dictionary = ours(), sae().double()
    features = scanned(model, POST, dictionary, tokens, tmp_path)
    with pytest.raises(ValueError, match="multiple=nan must be a finite number"):
        dose_response(model, POST, dictionary, features, 0, multiples=[1.0, float("nan")])


def test_steering_reads_no_whole_table_of_the_scan(tokens, tmp_path, monkeypatch):
    model, dictionary = ours(), sae().double()
    features = scanned(model, POST, dictionary, tokens, tmp_path)
    monkeypatch.setattr(type(features), "table", lambda *_: pytest.fail("each click would read all examples"))
    assert steer(model, POST, dictionary, features, {0: 2.0}, tokens[:1], n_tokens=2).shape == (1, tokens.shape[1] + 2)


@pytest.mark.parametrize("family", FAMILIES)
def test_a_model_that_keeps_its_keys_and_values_writes_the_same_and_reads_each_token_once(family, monkeypatch):
    tokenizer = foreign_tokenizer(family)
    model = load_model(foreign_model(family, len(tokenizer)), tokenizer=tokenizer)
    dictionary = RandomDictionary(D_MODEL, 20, 4)
    tokens = torch.randint(4, 100, (2, SLIDES + 6), generator=seeded(0))
    tokens[:, [0, 9]] = tokenizer.bos_token_id
    rows = capture(model, tokens[:, :SLIDES], resolve_hooks(model, ["blocks.1.hook_resid_post"]))
    norms = rows["blocks.1.hook_resid_post"].norm(dim=-1).flatten()
    dictionary.metadata = {"norm_limit": float(norms.detach().quantile(0.9)), "exclude_positions": [1, 11]}
    actions = {3: pin(4.0), 7: add(-2.0)}
    steered = Steered(model, "blocks.1.hook_resid_post", dictionary, actions)
    read = []
    count = model.inner.get_input_embeddings().register_forward_hook(lambda _, ids, __: read.append(ids[0].shape[1]))
    sampled = steered.sample(tokens[:, : SLIDES - 5], 8, 1.0, 5)
    count.remove()
    assert read == [SLIDES - 5, 1, 1, 1, 1, 1, SLIDES, SLIDES], "the last two no longer fit, and are read with a window"
    kept = None
    for end in range(7, 14):
        logits, kept = steered._next(tokens[:, :end], kept)
        torch.testing.assert_close(logits, steered.logits(tokens[:, :end])[:, -1], atol=1e-4, rtol=0)
    free = Steered(model, "blocks.1.hook_resid_post", dictionary, {}).logits(tokens[:, :13])[:, -1]
    assert kept is not None and (logits - free).abs().max() > 1e-2
    monkeypatch.setattr(type(model), "cache_reader", property(lambda self: self))
    assert torch.equal(sampled, steered.sample(tokens[:, : SLIDES - 5], 8, 1.0, 5))
