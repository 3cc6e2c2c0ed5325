"""Modular addition and parity against formulas written out, and the analysis from end to end."""

import math

import numpy as np
import pandas as pd
import pytest
import torch
import torch.nn.functional as F

from analyses.essay import grokking
from analyses.essay.grokking_claims import addition_claims
from analyses.essay.toys.modular_addition import (
    AdditionConfig,
    accuracies,
    advance,
    fourier_power,
    hidden,
    keep_frequencies,
    largest,
    logits,
    n_frequencies,
    start,
)
from analyses.essay.toys.parity import ParityConfig, distractor_share, train_parity
from tests.analyses.essay.prose import hold_to_prose

TINY = AdditionConfig(p=5, d_embed=4, d_hidden=6, lr=0.01)


@pytest.mark.parametrize("activation", ["square", "relu"])
def test_logits_are_the_formula_written_out(activation):
    config = AdditionConfig(p=5, d_embed=4, d_hidden=6, activation=activation)
    training = start(config, [0, 1], [1.0])
    scores = logits(training.weights, torch.arange(25).repeat(2, 1), config)
    E, W_a, W_b, W_out = (training.weights[name][1] for name in ("E", "W_a", "W_b", "W_out"))
    a, b = 3, 2
    z = E[a] @ W_a + E[b] @ W_b
    expected = (z**2 if activation == "square" else z.clamp(min=0)) @ W_out
    torch.testing.assert_close(scores[1, a * 5 + b], expected)


def test_each_instance_is_trained_as_torch_s_adamw_trains_it_alone():
    seeds, decays, steps = [3, 4], [1.0, 0.0], 6
    together = advance(start(TINY, seeds, decays), steps, TINY, []).training
    for place, (decay, seed) in enumerate((decay, seed) for decay in decays for seed in seeds):
        alone = start(TINY, [seed], [decay])
        weights = [weight[0].clone().requires_grad_() for weight in alone.weights.values()]
        optimizer = torch.optim.AdamW(weights, lr=0.01, betas=TINY.betas, weight_decay=decay)
        pairs = alone.order[0, : TINY.n_train]
        a, b = pairs // 5, pairs % 5
        for _ in range(steps):
            E, W_a, W_b, W_out = weights
            loss = F.cross_entropy((E[a] @ W_a + E[b] @ W_b).square() @ W_out, (a + b) % 5)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        for mine, theirs in zip(together.weights.values(), weights, strict=True):
            torch.testing.assert_close(mine[place], theirs.detach(), atol=2e-5, rtol=1e-4)


def test_training_in_two_parts_is_training_in_one():
    whole = advance(start(TINY, [0], [1.0, 0.0]), 10, TINY, [0, 5, 10])
    half = advance(start(TINY, [0], [1.0, 0.0]), 5, TINY, [0, 5, 10])
    rest = advance(half.training, 10, TINY, [0, 5, 10])
    assert half.curves.steps + rest.curves.steps == whole.curves.steps == [0, 5, 10]
    for name, weight in whole.training.weights.items():
        assert torch.equal(weight, rest.training.weights[name])
    assert torch.equal(torch.cat([half.curves.test_loss, rest.curves.test_loss]), whole.curves.test_loss)


def test_what_is_recorded_is_on_the_right_side_of_the_split():
    training = start(TINY, [0], [0.0])
    recorded = advance(training, 0, TINY, [0]).curves
    pairs = training.order[0]
    answers = (pairs // 5 + pairs % 5) % 5
    scores = logits(training.weights, training.order, TINY)[0]
    n = TINY.n_train
    assert n == 10 and sorted(pairs.tolist()) == list(range(25))
    torch.testing.assert_close(recorded.test_loss[0, 0], F.cross_entropy(scores[n:], answers[n:]))
    torch.testing.assert_close(recorded.train_loss[0, 0], F.cross_entropy(scores[:n], answers[:n]))
    expected = [
        (scores[:n].argmax(1) == answers[:n]).float().mean(),
        (scores[n:].argmax(1) == answers[n:]).float().mean(),
    ]
    torch.testing.assert_close(accuracies(training.weights, training.order, TINY)[0], torch.stack(expected))


def test_the_power_of_planted_waves_is_found_whatever_their_phase():
    a = torch.arange(67)[:, None]
    phases = torch.tensor([0.0, 0.4, 1.9])
    table = 3 * (2 * math.pi * 5 * a / 67 + phases).cos() + (2 * math.pi * 20 * a / 67 + phases).sin() + 7
    power = fourier_power(table)
    assert (
        power.shape == (33,) and power[4] == pytest.approx(0.9, abs=1e-5) and power[19] == pytest.approx(0.1, abs=1e-5)
    )
    assert n_frequencies(power, 0.89) == 1 and n_frequencies(power, 0.95) == 2
    assert largest(power, 0.95).nonzero()[:, 0].tolist() == [4, 19]
    alone = keep_frequencies(table, largest(power, 0.5))
    torch.testing.assert_close(alone, 3 * (2 * math.pi * 5 * a / 67 + phases).cos() + 7, atol=1e-4, rtol=1e-4)


def test_waves_of_a_few_frequencies_add_every_pair():
    """A network written by hand: cos and sin of each frequency in, products by squares, cos of the sum out."""
    p, frequencies = 11, (1, 2, 3)
    angle = 2 * math.pi * torch.arange(p)[:, None] * torch.tensor(frequencies) / p
    E = torch.cat([angle.cos(), angle.sin()], 1)  # [p, 6]
    eye = torch.eye(6)
    cross = torch.cat([eye[:, 3:], eye[:, :3]], 1)
    # Units: (x + y)² and (x − y)² of cos cos, sin sin, and of cos sin, sin cos; a quarter of their difference is x y.
    W_a = torch.cat([eye, eye, eye, eye], 1)
    W_b = torch.cat([eye, -eye, cross, -cross], 1)
    cos_out, sin_out = angle.cos().T, angle.sin().T
    same = torch.cat([cos_out, -cos_out]) / 4
    mixed = torch.cat([sin_out, sin_out]) / 4
    weights = {"E": E, "W_a": W_a, "W_b": W_b, "W_out": torch.cat([same, -same, mixed, -mixed])}
    config = AdditionConfig(p=p, d_embed=6, d_hidden=24)
    stacked = {name: weight[None] for name, weight in weights.items()}
    order = torch.arange(p * p)[None]
    scores = logits(stacked, order, config)[0]
    total = (order[0] // p + order[0] % p)[:, None]
    expected = sum((2 * math.pi * k * (total - torch.arange(p)) / p).cos() for k in frequencies)
    torch.testing.assert_close(scores, expected, atol=1e-4, rtol=1e-4)
    assert accuracies(stacked, order, config).min() == 1
    assert n_frequencies(fourier_power(E)) == 3 and hidden(stacked, order, config).shape == (1, 121, 24)


def test_the_share_on_distractors_is_a_ratio_of_absolute_sums():
    W = torch.tensor([[3.0, -1.0, 0.0, 1.0], [-1.0, 1.0, -1.0, 0.0]])
    assert distractor_share(W, 2) == pytest.approx(2 / 8)


def test_l1_finds_the_bits_that_matter():
    config = ParityConfig(n_bits=6, n_relevant=2, d_hidden=12, n_train=60, n_test=200, lr=0.02, steps=600)
    run = train_parity(config, [0, 1], [3e-3, 0.0], 100)
    assert run.steps == [0, *range(100, 601, 100)] and run.train_accuracy.shape == (7, 4)
    assert run.distractor_share[-1, :2].max() < 0.01 < run.distractor_share[-1, 2:].min()
    assert run.test_accuracy[-1, :2].min() == 1
    assert torch.equal(run.W_before[0], run.W_before[2]) and config.lr_at(599) == pytest.approx(0.02 * 2 / 600)


def test_delay_is_counted_from_the_records():
    steps = [50, 100, 6000]
    rows = [
        {"step": step, "record": i, "decay": decay, "seed": 0, "train_accuracy": float(i > 0), "test_accuracy": test}
        for decay, tests in ((1.0, (0.0, 0.1, 1.0)), (0.0, (0.0, 0.05, 0.02)))
        for i, (step, test) in enumerate(zip(steps, tests, strict=True))
    ]
    power = np.zeros((3, 2, 33))
    power[..., 0] = 1
    kept = {"alone": np.ones(2), "without": np.zeros(2), "whole": np.ones(2)}
    found = addition_claims(pd.DataFrame(rows), power, kept)
    assert [claim.holds for claim in found] == [True, True, True, True]
    assert found[0].numbers["gap"] == [5900] and found[1].numbers["best"] == [0.05]


def test_quick_run_writes_claims_and_figures(tmp_path):
    results = grokking.main(["--quick", "--threads", "1", "--out", str(tmp_path)])
    assert {claim["row"] for claim in results["claims"]} == {"22a", "22b", "22c", "22d", "22e", "22f"}
    hold_to_prose("grokking", tmp_path)
