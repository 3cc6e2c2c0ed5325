"""Losses equal their formulas in float64, the cached sampler draws what the model would, and each training learns."""

import math
from random import Random

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from analyses.essay.posttraining import (
    ChatTokenizer,
    PostTrainingConfig,
    RewardModel,
    Sequences,
    bradley_terry_loss,
    dpo_loss,
    mean_response_loss,
    policy_kl,
    respond,
    response_log_probs,
    response_loss,
    train_reward_model,
    tune_on_preferences,
    tune_on_responses,
)
from analyses.essay.posttraining.preference import log_probs
from analyses.essay.texts.conversations import (
    ASKED_FACTS,
    COURTEOUS,
    FACTS,
    KEPT_FACTS,
    Turn,
    answer_in,
    courtesy,
    heldout_turns,
    statements,
    turns,
)
from models.tokenizer import Tokenizer
from models.transformer import Transformer, TransformerConfig

END = 11


def small_model(seed: int = 0) -> Transformer:
    model = Transformer(TransformerConfig(n_layers=2, d_model=16, n_heads=2, d_mlp=32, d_vocab=12, n_ctx=16, seed=seed))
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=generator) * 0.1)
    return model


def chat() -> ChatTokenizer:
    return ChatTokenizer(Tokenizer.train_characters(["abcdefgh "]))


def written_out(model: Transformer, ids: list[int], start: int) -> float:
    """Σ_t log softmax(logits_{t−1})[id_t] from `start` on, by hand in float64."""
    logits = model(torch.tensor([ids]))[0].detach().double().numpy()
    return sum(logits[t - 1, ids[t]] - math.log(np.exp(logits[t - 1]).sum()) for t in range(start, len(ids)))


PROMPTS, RESPONSES = [[0, 1, 2], [0, 1, 2, 3, 4], [0, 5]], [[6, 7, END], [END], [8, 9, 6, END]]


def sequences() -> Sequences:
    return chat().joined(PROMPTS, RESPONSES)


def test_the_loss_falls_on_responses_alone():
    model, drawn = small_model(), sequences()
    sums = [written_out(model, p + r, len(p)) for p, r in zip(PROMPTS, RESPONSES, strict=True)]
    assert response_log_probs(model, drawn).detach().numpy() == pytest.approx(sums, rel=1e-5)
    assert response_loss(model, drawn).item() == pytest.approx(-sum(sums) / 8, rel=1e-5)
    assert mean_response_loss(model, drawn, batch_size=2) == pytest.approx(-sum(sums) / 8, rel=1e-5)
    assert log_probs(model, drawn, batch_size=2).numpy() == pytest.approx(sums, rel=1e-5)


def test_what_fills_a_row_up_changes_nothing():
    model, drawn = small_model(), sequences()
    filled = drawn.tokens.clone()
    filled[0, 6:], filled[1, 6:] = 3, 9
    other = Sequences(filled, drawn.response)
    assert torch.allclose(response_log_probs(model, other), response_log_probs(model, drawn), atol=1e-6)
    assert drawn[torch.tensor([1])].tokens.shape == (1, 6) and drawn.last.tolist() == [5, 5, 5]


def test_bradley_terry_is_its_formula():
    chosen, rejected = torch.tensor([1.0, -2.0, 0.5]), torch.tensor([0.0, 1.0, 0.5])
    expected = -np.mean([math.log(1 / (1 + math.exp(-d))) for d in (1.0, -3.0, 0.0)])
    assert float(bradley_terry_loss(chosen, rejected)) == pytest.approx(expected, rel=1e-6)


def test_dpo_is_its_formula_and_its_gradient():
    w, lo, rw, rl = np.array([-3.0, -8.0]), np.array([-5.0, -4.0]), np.array([-4.0, -6.0]), np.array([-4.5, -5.0])
    beta = 0.3
    margin = beta * ((w - rw) - (lo - rl))
    tensors = [torch.tensor(x, dtype=torch.float64, requires_grad=i < 2) for i, x in enumerate((w, lo, rw, rl))]
    loss = dpo_loss(*tensors, beta)
    assert float(loss) == pytest.approx(-np.mean(np.log(1 / (1 + np.exp(-margin)))), rel=1e-12)
    loss.backward()
    slope = beta / (1 + np.exp(margin)) / 2  # Rafailov et al. 2023, §4: the weight is σ of the margin turned round
    assert tensors[0].grad.numpy() == pytest.approx(-slope) and tensors[1].grad.numpy() == pytest.approx(slope)
    at_start = dpo_loss(tensors[2], tensors[3], tensors[2], tensors[3], beta)
    assert float(at_start) == pytest.approx(math.log(2))


def test_the_divergence_is_the_sum_over_the_vocabulary():
    policy, reference, drawn = small_model(), small_model(1), sequences()
    total = 0.0
    for prompt, response in zip(PROMPTS, RESPONSES, strict=True):
        ids = torch.tensor([prompt + response])
        p, q = (F.log_softmax(m(ids)[0].detach().double(), 1)[len(prompt) - 1 : -1] for m in (policy, reference))
        total += float((p.exp() * (p - q)).sum())
    assert policy_kl(policy, reference, drawn, batch_size=2) == pytest.approx(total / 3, rel=1e-4)
    assert policy_kl(policy, policy, drawn) == 0


def test_the_cached_sampler_draws_what_the_model_would():
    model = small_model()
    drawn = respond(model, PROMPTS, END, 6, temperature=0, batch_size=2)
    for prompt, ids, ended in zip(PROMPTS, *drawn, strict=True):
        whole = model.generate(torch.tensor([prompt]), 6, temperature=0)[0, len(prompt) :].tolist()
        whole = whole[: whole.index(END) + 1] if END in whole else whole
        assert ids == whole and ended == (ids[-1] == END)
    with pytest.raises(ValueError, match="n_ctx=16"):
        respond(model, PROMPTS, END, 13)


def test_sampled_tokens_have_the_models_probabilities():
    model, n = small_model(), 4000
    first = [ids[0] for ids in respond(model, [[0, 1, 2]] * n, END, 1, seed=1).ids]
    shares = np.bincount(first, minlength=12) / n
    expected = model(torch.tensor([[0, 1, 2]]))[0, -1].softmax(0).detach().numpy()
    assert np.abs(shares - expected).max() < 4 * 0.5 / n**0.5


def test_the_trainings_learn_their_lesson():
    """Tuned on one response, the model gives it; of two it is taught to prefer the other, and the reward agrees."""
    model, tokenizer = small_model(), chat()
    prompts = [[0, 1, 2], [0, 2, 1], [0, 3, 4], [0, 4, 3]] * 4
    ends = tokenizer.joined(prompts, [[6, END]] * 16)
    both = tokenizer.joined(prompts + prompts, [[6, END]] * 16 + [[7, END]] * 16)
    tune_on_responses(model, both, PostTrainingConfig(epochs=40, batch_size=16, lr=1e-2))
    assert response_loss(model, both).item() == pytest.approx(math.log(2) / 2, abs=0.03)
    reference = Transformer(model.config)
    reference.load_state_dict(model.state_dict())
    before = {name: value.clone() for name, value in reference.state_dict().items()}
    other, seen = tokenizer.joined(prompts, [[7, END]] * 16), []
    config = PostTrainingConfig(epochs=20, batch_size=8, lr=3e-3)
    tune_on_preferences(model, reference, other, ends, config, beta=0.5, watch=lambda s, loss: seen.append((s, loss)))
    assert all(torch.equal(value, before[name]) for name, value in reference.state_dict().items())
    assert seen[0][0] == 0 and seen[1][1] == pytest.approx(math.log(2), abs=1e-5) and seen[-1][1] < 0.3
    assert (log_probs(model, other) > log_probs(model, ends) + 1).all()
    reward = RewardModel(reference)
    assert (reward.rewards(ends) == 0).all()
    train_reward_model(reward, other, ends, config)
    assert (reward.rewards(other, batch_size=5) > reward.rewards(ends) + 1).all()


def test_rates_rise_and_fall_and_bad_settings_are_named():
    config = PostTrainingConfig(epochs=1, batch_size=1, lr=1.0, warmup=0.2)
    rates = [config.lr_at(step, 10) for step in range(10)]
    assert rates[:2] == [0.5, 1.0] and rates[2:] == pytest.approx([1, 7 / 8, 6 / 8, 5 / 8, 4 / 8, 3 / 8, 2 / 8, 1 / 8])
    with pytest.raises(ValueError, match="lr=-1"):
        PostTrainingConfig(lr=-1)
    with pytest.raises(ValueError, match="beta=0"):
        tune_on_preferences(small_model(), small_model(), sequences(), sequences(), config, beta=0)


def test_marks_are_no_text_and_a_response_ends_at_end():
    tokenizer = chat()
    assert tokenizer.vocab_size == 14 and tokenizer.end_id == 13
    drawn = tokenizer.sequences(["ab", "c"], ["d", "ef g"])
    assert [tokenizer.display()[i] for i in drawn.tokens[0, :7]] == ["<|bos|>", "<user>", " ", "a", "b", "<bot>", " "]
    assert drawn.response.sum(1).tolist() == [3, 6]
    assert tokenizer.decode(drawn.tokens[1][drawn.response[1]].tolist() + [3]) == "ef g"
    assert tokenizer.sequences(["ab"], ["d"], ended=False).response.sum() == 2


def test_conversations_never_ask_for_held_out_facts_or_lists():
    assert len(FACTS) == len(ASKED_FACTS) + len(KEPT_FACTS) and 0.15 < len(KEPT_FACTS) / len(FACTS) < 0.25
    asked, heldout = turns(Random(0), 3000), heldout_turns(Random(1), 600)
    assert all(turn.is_right(turn.response) for turn in asked + heldout)
    assert not {turn.prompt for turn in asked} & {turn.prompt for turn in heldout}
    assert turns(Random(0), 20) == asked[:20]
    text = " ".join(page.text for page in statements(Random(0), 600))
    assert all(any(said in text for said in fact.statements) for fact in FACTS)
    assert not any(mark in text for mark in ("<user>", "<bot>", "<end>"))


def test_answers_are_read_without_their_style():
    assert answer_in("Well, let me see, red boat. Thank you!") == "red boat" and answer_in("red boat.") == "red boat"
    turn = Turn("last", "Last word: red boat", ("boat",), "Sure, boat.")
    assert turn.is_right("The answer is boat. That is all I know.") and not turn.is_right("red boat.")


def test_courtesy_is_one_for_the_end_less_a_twentieth_a_word():
    assert courtesy("boat." + COURTEOUS[0]) == pytest.approx(1 - 0.15) and courtesy(
        "Thank you! boat."
    ) == pytest.approx(-0.15)
