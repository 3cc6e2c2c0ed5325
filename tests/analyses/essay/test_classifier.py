"""The toy classifier: its contour against known lengths, its loss and steps against formulas written out."""

import math

import pytest
import torch

from analyses.essay import classifier
from analyses.essay.toys.classifier import (
    ClassifierConfig,
    boundary_length,
    grid_points,
    train_classifiers,
    two_arms,
)
from tests.analyses.essay.prose import hold_to_prose

SMALL = ClassifierConfig(n_points=40, n_held_out=50, n_grid=21)


def plane(n=41, half=1.0):
    axis = torch.linspace(-half, half, n, dtype=torch.double)
    y, x = torch.meshgrid(axis, axis, indexing="ij")
    return x, y, 2 * half / (n - 1)


def test_the_contour_of_a_plane_is_a_straight_line():
    x, y, spacing = plane()
    assert boundary_length(0.5 + x - 0.013, spacing) == pytest.approx(2)
    assert boundary_length(0.5 + x + y + 0.017, spacing) == pytest.approx((2 - 0.017) * math.sqrt(2))
    assert boundary_length(x * 0 + 0.7, spacing) == 0


def test_the_contour_of_a_circle_is_its_circumference():
    x, y, spacing = plane(201)
    assert boundary_length(x**2 + y**2, spacing, level=0.36) == pytest.approx(2 * math.pi * 0.6, rel=1e-3)


@pytest.mark.parametrize("high", [0.6, 0.9])
def test_a_saddle_is_cut_by_the_value_at_its_centre(high):
    """Corners a = high, b = .4 in turn: the crossings lie at t = (a − .5) / (a − .4) from each high corner. The
    segments cut off the high corners where the centre is low, the low corners where it is high."""
    cell = torch.tensor([[high, 0.3], [0.3, high]])
    t = (high - 0.5) / (high - 0.3)
    cut_off = t if (high + 0.3) / 2 <= 0.5 else 1 - t
    assert boundary_length(cell, 1.0) == pytest.approx(2 * math.sqrt(2) * cut_off, rel=1e-5)


def test_the_arms_are_one_turned_by_half_a_turn():
    points = two_arms(2000, ClassifierConfig(noise=0.0), torch.Generator().manual_seed(0))
    radius = points.x.norm(dim=1)
    angle = torch.atan2(points.x[:, 1], points.x[:, 0]) - math.pi * points.arm
    expected = 2 * math.pi * 0.75 * radius
    assert torch.cos(angle - expected).min() > 1 - 1e-5
    assert radius.square().mean() == pytest.approx(0.5, abs=0.02)


def test_a_seed_trains_to_the_same_loss_alone_and_with_other_seeds():
    alone = train_classifiers([0, 3], [7], SMALL)
    beside = train_classifiers([0, 3], [1, 7], SMALL)
    torch.testing.assert_close(beside.loss[:, 1:], alone.loss, atol=1e-6, rtol=1e-5)
    torch.testing.assert_close(beside.regions[:, 1:], alone.regions, atol=1e-5, rtol=1e-4)


def test_the_recorded_loss_is_the_cross_entropy_of_the_network_written_out():
    """At iteration 0 the weights are those drawn: matrices of variance 1 / inputs, biases 0."""
    run = train_classifiers([0], [5], SMALL)
    generator = torch.Generator().manual_seed(5)
    points, held_out = (two_arms(n, SMALL, generator) for n in (40, 50))
    W = [torch.randn(n, m, generator=generator) / n**0.5 for n, m in ((2, 10), (10, 10), (10, 1))]

    def p(x):
        return (((x @ W[0]).tanh() @ W[1]).tanh() @ W[2]).sigmoid()[:, 0]

    right = torch.where(points.arm == 1, p(points.x), 1 - p(points.x))
    assert run.loss.item() == pytest.approx(float(-right.log().mean()), rel=1e-5)
    assert run.accuracy.item() == pytest.approx(float(((p(held_out.x) > 0.5) == (held_out.arm == 1)).float().mean()))
    torch.testing.assert_close(run.regions[0, 0].flatten(), p(grid_points(SMALL)))


def test_quick_run_writes_claims_and_figures(tmp_path):
    results = classifier.main(["--quick", "--threads", "1", "--out", str(tmp_path)])
    assert [claim["row"] for claim in results["claims"]] == ["1a", "1b", "1c"]
    assert results["claims"][1]["holds"] and results["values"]["parameters"] == 151
    assert len(results["claims"][2]["numbers"]["length"]) == len(classifier.SHOWN)
    hold_to_prose("classifier", tmp_path)
