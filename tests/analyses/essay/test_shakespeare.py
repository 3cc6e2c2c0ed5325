"""The Shakespeare analyses at tiny size: leaks, units and losses against what can be written out, then the whole."""

import numpy as np
import pytest
import torch

from analyses.essay import cross_entropy, shakespeare
from analyses.essay.cross_entropy import three_ways, written_out
from analyses.essay.shakespeare_measures import contrast, generated, leak, shuffled_contrast, unit_activations
from analyses.essay.shakespeare_models import HELD_OUT, PROMPT, Corpus, read_corpus
from analyses.essay.toys.unmasked import UnmaskedTransformer
from models.documents import Document
from models.tokenizer import Tokenizer
from models.transformer import Transformer, TransformerConfig
from tests.analyses.essay.prose import hold_to_prose

CONFIG = TransformerConfig(n_layers=2, d_model=16, n_heads=2, d_mlp=24, d_vocab=12, n_ctx=10, seed=1, act_fn="relu")
TOKENS = torch.randint(2, 12, (6, 10), generator=torch.Generator().manual_seed(0))


def small_corpus() -> Corpus:
    text = "the cat sat on the mat\n" * 40
    documents = [Document(text, (), "here", "cat")]
    return Corpus(documents, documents, Tokenizer.train_characters([text]))


def test_the_loss_of_training_is_the_formula_with_every_term():
    losses = three_ways(Transformer(CONFIG), TOKENS)
    assert losses["training"] == pytest.approx(losses["formula"], abs=1e-6)
    assert losses["library"] == pytest.approx(losses["formula"], abs=1e-6)


def test_the_formula_by_hand():
    """Two classes with odds 3 to 1 and 1 to 1: −(ln ¾ + ln ½) / 2."""
    logits = torch.tensor([[[np.log(3), 0.0], [0.0, 0.0]]])
    assert written_out(logits, torch.tensor([[0, 1]])) == pytest.approx(-(np.log(3 / 4) + np.log(1 / 2)) / 2, rel=1e-6)


def test_a_causal_leak_lies_on_and_right_of_the_diagonal():
    causal, unmasked = (leak(kind(CONFIG), TOKENS[:1]) for kind in (Transformer, UnmaskedTransformer))
    assert (np.tril(causal, -1) == 0).all() and (np.diag(causal) > 0).all() and (np.triu(causal) > 0)[0].all()
    assert (unmasked > 0).all()


def test_the_units_are_those_of_the_hooks_after_the_activation_function():
    model = Transformer(CONFIG)
    acts = unit_activations(model, TOKENS)
    _, cache = model.run_with_cache(TOKENS, return_cache_object=False)
    pre = cache["blocks.1.mlp.hook_pre"].flatten(0, 1)
    assert acts.shape == (60, 48)
    torch.testing.assert_close(acts[:, 24:], pre.relu(), atol=1e-5, rtol=1e-5)


def test_what_the_character_before_adds_is_of_pairs_over_singles():
    """Against η² of both groupings, by the groups' means one by one."""
    model = Transformer(CONFIG)
    acts = unit_activations(model, TOKENS).view(6, 10, 48)[:, 1:].reshape(54, 48).double()

    def share(groups):
        means = torch.stack([acts[[g == other for other in groups]].mean(0) for g in groups])
        return (means - acts.mean(0)).square().sum(0) / (acts - acts.mean(0)).square().sum(0)

    singles = TOKENS[:, 1:].flatten().tolist()
    pairs = list(zip(TOKENS[:, :-1].flatten().tolist(), singles, strict=True))
    measured = contrast(model, TOKENS)
    assert measured[0] == pytest.approx(float(share(singles).nanmean()))
    assert measured[2] == pytest.approx(float((share(pairs) - share(singles)).nanmean()))


def test_shuffles_differ_and_leave_the_model_as_it_was():
    model = Transformer(CONFIG)
    before = contrast(model, TOKENS)
    null = shuffled_contrast(model, TOKENS, 3)
    assert null.shape == (3, 4) and len(np.unique(null[:, 0])) == 3
    np.testing.assert_array_equal(contrast(model, TOKENS), before)


def test_samples_do_not_count_their_prompts():
    corpus = small_corpus()
    config = TransformerConfig(n_layers=1, d_model=8, n_heads=1, d_mlp=8, d_vocab=corpus.tokenizer.vocab_size, n_ctx=8)
    prompts = torch.tensor([corpus.tokenizer.encode("the cat", add_special_tokens=False)] * 3)
    made = generated(Transformer(config), prompts, 20, corpus, temperature=1.0, seed=0)
    assert len(made.texts) == 3 and not any(text.startswith("the cat") for text in made.texts)
    assert 0.5 < made.distance <= 1


def test_the_prompt_s_play_is_held_out():
    corpus = read_corpus(1000)
    assert len(corpus.train) == 36 and {play.name for play in corpus.held_out} == set(HELD_OUT)
    assert not any("*" in play.text for play in corpus.train)
    assert corpus.tokenizer.decode(corpus.prompt()[0].tolist()) == PROMPT


def test_the_quick_runs_write_claims_and_figures_of_the_same_models(tmp_path):
    arguments = ["--quick", "--threads", "1", "--out"]
    results = shakespeare.main([*arguments, str(tmp_path / "shakespeare")])
    rows = [claim["row"] for claim in results["claims"]]
    assert rows == ["2a", "2b", "2c", "2d", "2e", "3a", "3b", "4a", "4b", "4c", "4d"]
    by_row = dict(zip(rows, results["claims"], strict=True))
    assert by_row["2a"]["holds"] and by_row["2c"]["holds"] and by_row["4c"]["holds"] is None
    assert {"Before training", "After 50 rounds", "Without the mask"} < set(results["values"]["generations"])
    trained = {file: file.stat().st_mtime_ns for file in (tmp_path / "shakespeare" / "work").rglob("weights.*")}
    losses = cross_entropy.main([*arguments, str(tmp_path / "cross_entropy")])
    assert losses["claims"][0]["row"] == "5a" and losses["claims"][0]["holds"]
    assert trained == {file: file.stat().st_mtime_ns for file in (tmp_path / "shakespeare" / "work").rglob("weights.*")}
    for folder in ("shakespeare", "cross_entropy"):
        hold_to_prose(folder, tmp_path / folder)
