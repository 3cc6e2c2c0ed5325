"""What fires on a text, against the dictionary itself on the model's activations."""

import copy
from dataclasses import replace

import pandas as pd
import pytest
import torch

from interp import TopKConfig, features_of, harvest, train_sae
from interp.activations.hooks import capture, resolve_hooks
from models import load_model
from tests.foreign_models import TEXTS, foreign_model, foreign_tokenizer

HOOK, TEXT = "blocks.1.hook_resid_post", "The river runs under cold water."


@pytest.fixture(scope="module")
def model():
    tokenizer = foreign_tokenizer("llama")
    return load_model(foreign_model("llama", len(tokenizer)), tokenizer=tokenizer)


@pytest.fixture(scope="module")
def sae(model, tmp_path_factory):
    ids = [i for text in TEXTS for i in model.tokenizer.encode(text, add_special_tokens=False)]
    tokens = torch.tensor(ids[: 60 * 20]).view(60, 20)
    store = harvest(model, tokens, [HOOK], tmp_path_factory.mktemp("store"))
    return train_sae(store, HOOK, TopKConfig(d_sae=40, k=4, tokens=2_000, batch_size=256))


def test_the_codes_are_the_dictionarys_on_the_models_activations(model, sae, monkeypatch):
    read = features_of(model, "model.layers.1", sae, TEXT)
    ids = [model.tokenizer.bos_id, *model.tokenizer.encode(TEXT, add_special_tokens=False)]
    assert read.tokens.tolist() == ids and "".join(read.token_strings[1:]).strip() == TEXT
    with torch.no_grad():
        acts = capture(model, torch.tensor([ids]), resolve_hooks(model, [HOOK]))[HOOK][0]
        z = sae.encode(acts)
    z[0] = 0  # BOS means nothing to it
    torch.testing.assert_close(read.codes.dense(), z)
    firings = read.firings()
    assert len(firings) == int((z > 0).sum()) and firings.activation.is_monotonic_decreasing
    first = firings.iloc[0]
    assert z[first.position, first.latent] == z.max() and first.token == read.token_strings[first.position]
    latents = read.latents()
    assert set(latents.latent) == set((z > 0).any(0).nonzero().flatten().tolist())
    by_hand = [(float(z[:, j].max()), int((z[:, j] > 0).sum())) for j in latents.latent]
    told = latents[["activation", "n_firings"]].itertuples(index=False, name=None)
    assert [pytest.approx(each) for each in by_hand] == list(told)
    assert torch.equal(features_of(model, HOOK, sae, torch.tensor(ids)).codes.dense(), read.codes.dense())
    assert "latents fire" in repr(read) and "river" in read._repr_html_()
    strongest = read.latents().iloc[0]
    assert str(read).splitlines()[2].split()[0] == str(strongest.latent)
    rule = {"monosemanticity": 0.9, "explanation": "<b> of rivers", "explanation_f1": 0.8}
    ranked = replace(read, ranking=pd.DataFrame([{"latent": latent, **rule} for latent in range(sae.d_sae)]))
    assert "explanation</th>" in ranked._repr_html_() and "explanation" not in read._repr_html_()
    assert ranked._repr_html_().count("&lt;b&gt; of rivers (F1 0.80)") == min(len(latents), 12)
    monkeypatch.setattr("interp.features.text_features._N_SHOWN_LATENTS", 1)
    assert len(read.latents()) > 1
    for shown in (str(read), read._repr_html_()):
        assert f"{len(read.latents()) - 1} more in `latents()`." in shown


@pytest.mark.parametrize(
    ("metadata", "left_out"),
    [
        ({"exclude_positions": [2, 99]}, [0, 2]),
        ({"seqpos_slice": [1, None], "context_size": 20}, [0]),  # SAELens has null for no bound
        ({"seqpos_slice": [2, -16], "context_size": 20}, [0, 1, 4, 5, 6]),
        ({"exclude_positions": [1], "seqpos_slice": [2, 4], "context_size": 4}, [0, 1]),  # later ones: never seen
    ],
)
def test_what_training_left_out_has_no_features(model, sae, metadata, left_out):
    ids = torch.tensor([model.tokenizer.bos_id, *model.tokenizer.encode(TEXT, add_special_tokens=False)][:7])
    limited = copy.copy(sae)
    limited.metadata = metadata
    fires = features_of(model, HOOK, limited, ids).codes.dense().any(1)
    assert (~fires).nonzero().flatten().tolist() == left_out


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda model, sae: features_of(model, sae, HOOK, TEXT), r"the order is \(model, hook, dictionary\)"),
        (lambda model, sae: features_of(model, HOOK, sae, [TEXT]), "text is a list of strings: give one string"),
        (lambda model, sae: features_of(sae, HOOK, model, TEXT), r"the order is \(model, hook, dictionary\)"),
        (lambda model, sae: features_of(model, HOOK, sae, ""), "there is no text"),
        (lambda model, sae: features_of(model, HOOK, sae, torch.zeros(2, 3).long()), r"the token ids are \(2, 3\)"),
        (lambda model, sae: features_of(model, HOOK, sae, TEXT * 20), "longer than the model's context of 64"),
        (lambda model, sae: features_of(model.inner, "model.layers.1", sae, TEXT), "the model has no tokenizer"),
    ],
)
def test_features_of_refuses_what_it_cannot_read(model, sae, call, said):
    with pytest.raises(ValueError, match=said):
        call(model, sae)


def test_a_run_reads_a_text(tiny_run):
    read = tiny_run.activations("Good morrow, my lord")
    assert len(read.token_strings) == len(read.tokens) > 3 and len(read.firings())
    assert read.codes.d_sae == tiny_run.sae.d_sae
