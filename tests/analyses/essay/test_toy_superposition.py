"""The toys of superposition: gradients against autograd, closed forms against enumeration and Monte Carlo."""

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose

from analyses.essay.toys import binary_neuron, hidden_neurons, phase_change, superposition
from analyses.essay.toys.superposition import Recipe


@pytest.mark.parametrize("relu", [True, False])
def test_the_gradient_is_that_of_the_written_loss(relu):
    generator = torch.Generator().manual_seed(0)
    W, b = torch.randn(3, 2, 5, generator=generator), torch.randn(3, 5, 1, generator=generator) / 3
    importance, density = torch.rand(3, 5, generator=generator), torch.tensor([0.2, 0.6, 1.0])
    x = superposition.sparse_uniform(torch.rand(5, 64, generator=generator), density)
    found = superposition.gradient(W, b, x, importance, relu=relu)
    W.requires_grad_(), b.requires_grad_()
    x_hat = W.mT @ W @ x + b
    x_hat = x_hat.relu() if relu else x_hat
    (importance[..., None] * (x_hat - x) ** 2).sum((0, 1)).mean().backward()
    assert_allclose(found[0], W.grad, atol=1e-5)
    assert_allclose(found[1], b.grad, atol=1e-5)


def test_the_gradient_of_hidden_neurons_is_that_of_the_written_loss():
    generator = torch.Generator().manual_seed(0)
    W_in, W_out = torch.randn(2, 3, 4, generator=generator), torch.randn(2, 4, 3, generator=generator)
    b, importance = torch.randn(2, 4, 1, generator=generator) / 3, torch.rand(2, 4, generator=generator)
    x, y = hidden_neurons.sample(torch.rand(4, 64, generator=generator), torch.tensor([0.5, 1.0]), "absolute")
    found = hidden_neurons.gradient(W_in, W_out, b, x, y, importance)
    weights = [each.requires_grad_() for each in (W_in, W_out, b)]
    y_hat = (W_out @ (W_in @ x).relu() + b).relu()
    (importance[..., None] * (y_hat - y) ** 2).sum((0, 1)).mean().backward()
    for mine, weight in zip(found, weights, strict=True):
        assert_allclose(mine, weight.grad, atol=1e-5)


def test_samples_are_sparse_and_uniform():
    u = torch.rand(4, 50_000, generator=torch.Generator().manual_seed(0))
    x = superposition.sparse_uniform(u, torch.tensor([0.1, 1.0]))
    assert_allclose((x > 0).float().mean((1, 2)), [0.1, 1], atol=0.005)
    assert_allclose([each[each > 0].mean() for each in x], [0.5, 0.5], atol=0.01)
    assert_allclose([each[each > 0].std() for each in x], [12**-0.5, 12**-0.5], atol=0.01)
    signed, size = hidden_neurons.sample(u, torch.tensor([0.1]), "absolute")
    assert ((signed == 0) == (x[:1] == 0)).all() and abs(signed[signed != 0].mean()) < 0.02
    assert (size == signed.abs()).all() and signed.min() < -0.95


def test_the_loss_of_known_weights():
    """The identity costs nothing; nothing at all costs Σ I_i E x² = Σ I_i density / 3."""
    W = torch.stack([torch.eye(3), torch.zeros(3, 3)])
    importance, density = torch.tensor([[1.0, 2.0, 3.0]] * 2), torch.tensor([0.3, 0.3])
    found = superposition.losses(W, torch.zeros(2, 3), density, importance, samples=2**16)
    assert found[0] < 1e-10 and found[1] == pytest.approx(6 * 0.1, rel=0.03)


def test_the_linear_twin_learns_the_most_important_features():
    importance = torch.tensor([[1.0, 0.2, 0.7, 0.1]])
    found = superposition.train(torch.tensor([0.5]), importance, 2, relu=False, recipe=Recipe(steps=400, lr=0.03))
    assert_allclose(found.W[0].T @ found.W[0], np.diag([1.0, 0, 1, 0]), atol=0.05)


def test_blocks_cover_all_instances_and_do_not_change_the_result(monkeypatch):
    density, importance = torch.linspace(0.1, 1, 5), torch.ones(5, 4)
    recipe = Recipe(steps=5, batch_size=8)
    whole = superposition.train(density, importance, 2, recipe=recipe)
    monkeypatch.setattr(superposition, "CACHED", 64)
    assert [block.start for block in superposition.blocks(5, 32)] == [0, 2, 4]
    assert_allclose(superposition.train(density, importance, 2, recipe=recipe).W, whole.W, atol=1e-6)


def test_the_binary_neuron_for_four_equal_features():
    p, fires = np.full(4, 0.25), binary_neuron.assignments(4)
    assert len({tuple(row) for row in fires}) == 16
    cross, squared = (binary_neuron.best_loss(p, fires, loss) for loss in ("cross-entropy", "MSE"))
    on = fires.sum(1)
    assert_allclose(cross[on == 1], 0.75 * np.log(3))
    assert_allclose(cross[on == 2], np.log(2))
    assert_allclose(cross[on == 0], np.log(4))
    assert_allclose(squared[(on > 0) & (on < 4)], 0.5, atol=1e-12)
    assert_allclose(squared[on == 0], 0.75)


@pytest.mark.parametrize("loss", ["cross-entropy", "MSE"])
def test_the_closed_form_is_the_best_a_read_out_reaches(loss):
    """Against gradient descent over the read-out alone, for a p that is not uniform."""
    p = torch.tensor([0.55, 0.25, 0.15, 0.05])
    fires = torch.tensor([[True, False, False, False], [False, True, True, False], [True, True, True, True]])
    u, c = torch.zeros(3, 4, requires_grad=True), torch.zeros(3, 4, requires_grad=True)
    optimizer = torch.optim.Adam([u, c], lr=0.05)
    for _ in range(1500):
        optimizer.zero_grad()
        reached = binary_neuron.expected_loss(p, fires.float(), u, c, loss)
        reached.sum().backward()
        optimizer.step()
    assert_allclose(reached.detach(), binary_neuron.best_loss(p.double().numpy(), fires.numpy(), loss), atol=2e-3)


def test_cross_entropy_depends_on_the_firing_rate_alone():
    p = np.array([0.55, 0.25, 0.15, 0.05])
    fires = binary_neuron.assignments(4)[1:-1]
    mass = fires @ p
    coin = -mass * np.log(mass) - (1 - mass) * np.log(1 - mass)
    found = binary_neuron.best_loss(p, fires, "cross-entropy")
    assert_allclose(found, -(p * np.log(p)).sum() - coin)
    assert (
        binary_neuron.smaller_half(fires[found.argmin()]) == 1 and fires[found.argmin()][0] != fires[found.argmin()][1]
    )


def test_training_a_switch_ends_at_the_loss_of_its_assignment():
    p = torch.full((4,), 0.25)
    found = binary_neuron.train_binary(p, "cross-entropy", restarts=40)
    best = binary_neuron.best_loss(p.double().numpy(), found.fires.numpy(), "cross-entropy")
    assert np.median(found.loss.numpy() - best) < 0.02 and (found.loss.numpy() > best - 1e-5).all()
    assert best.min() == pytest.approx(np.log(2))


def test_a_real_neuron_tells_all_features_apart():
    p = torch.full((4,), 0.25)
    by_hand = [binary_neuron.parabola_loss(p, sharpness) for sharpness in (1, 10, 30)]
    assert by_hand[0] < np.log(2) and by_hand[1] < 1e-3 and by_hand[2] < 1e-9
    assert binary_neuron.train_real(p, restarts=8, steps=600)[-1].min() < 0.3


@pytest.mark.parametrize("p", [1.0, 0.4, 0.05])
def test_phase_losses_against_a_grid(p):
    """Integrals on a fine midpoint grid of [0, 1]², for several biases."""
    x = (np.arange(1000) + 0.5) / 1000
    first, second = x[:, None], x[None, :]
    above, below = phase_change.antipodal_losses(p)
    for b in (-0.7, -0.2, 0.0, 0.3, 0.9):
        error = lambda mine, other, b=b: np.mean((np.maximum(mine - other + b, 0) - mine) ** 2)  # noqa: E731
        none = (1 - p) ** 2 * max(b, 0) ** 2 + p * (1 - p) * (error(first, 0) + error(0, second))
        expected = none + p**2 * error(first, second)
        assert_allclose(above(b) if b >= 0 else below(-b), expected, atol=1e-5)
    grid = np.linspace(0, 1, 1001)
    assert phase_change.antipodal_loss(p) == pytest.approx(min(above(grid).min(), below(grid).min()), abs=1e-6)
    assert phase_change.unrepresented_loss(p) == pytest.approx(p * np.mean(x**2) - (p * np.mean(x)) ** 2, abs=1e-6)


def test_phase_losses_against_monte_carlo():
    """The pure arrangements as weights, their losses by sampling."""
    p, r = 0.2, 0.6
    above, below = phase_change.antipodal_losses(p)
    grid = np.linspace(0, 1, 2001)
    best = min([(above(b), b) for b in grid] + [(below(b), -b) for b in grid])[1]
    W = torch.tensor([[[1.0, 0, 0], [0, 1, 0]], [[1.0, -1, 0], [0, 0, 1]], [[1.0, 0, 0], [0, 1, -1]]])
    b = torch.tensor([[0, 0, p / 2], [best, best, 0], [0, best, best]], dtype=torch.float32)
    importance = torch.tensor([[1, 1, r]] * 3)
    sampled = superposition.losses(W, b, torch.full((3,), p), importance, samples=2**20)
    assert_allclose(sampled, phase_change.state_losses(r, p, 3), rtol=0.02)
    assert phase_change.state_of_extra(W).tolist() == [0, 1, 2]
    with pytest.raises(ValueError, match="n=4 must be 2 or 3"):
        phase_change.state_losses(1, 0.5, 4)


def test_polysemantic_neurons_by_hand():
    W = torch.tensor([[1.0, 0.1, 0], [0.6, -0.5, 0], [0.01, 0.01, 0.01]])
    several, alive = hidden_neurons.polysemantic(W)
    assert several.tolist() == [False, True, False] and alive.tolist() == [True, True, False]


@pytest.mark.parametrize("task", ["copy", "absolute"])
def test_hidden_neurons_learn_what_they_can_hold(task):
    """With neurons enough and dense features, the loss comes near 0."""
    m = 3 if task == "copy" else 6
    found = hidden_neurons.train_networks(
        torch.full((6,), 0.5), torch.ones(6, 3), m, task, recipe=Recipe(steps=800, batch_size=64, lr=0.02)
    )
    assert found.loss.min() < 0.02 and found.W_out.shape == (6, 3, m)
