"""The sparse gradients of every architecture against a loss over dense latents, stated a second time, in float64."""

import dataclasses
from functools import partial

import pytest
import torch

from analyses.gradient_check import check_gradients
from interp.activations import ActivationStatistics
from interp.sae import (
    BatchTopKConfig,
    GatedConfig,
    JumpReLUConfig,
    MatchingPursuitConfig,
    MatryoshkaConfig,
    ReLUConfig,
    SAEConfig,
    TopK,
    TopKConfig,
    sparse_ops,
)
from interp.sae.architectures.thresholds import ramp
from interp.sae.encode_rows import encode
from interp.sae.hook_scales import HookScales
from interp.sae.learner import Learner
from interp.sae.sparse_ops import (
    Encoded,
    RowGradient,
    Support,
    at_latents,
    latent_rows,
    row_norms,
    sparse_decode,
    sparse_encode,
    squared_error,
)
from tests.trainings import OCTOBER_2023

D_IN, D_SAE, ROWS, STEP = 16, 48, 120, 40
shared = {"d_sae": D_SAE, "tokens": 100 * 64, "batch_size": 64, "device": "cpu"}


class JumpReLU(torch.autograd.Function):
    """z = pre where pre > θ; ∂z/∂θ = −(θ / ε) · [|pre − θ| < ε / 2]."""

    @staticmethod
    def forward(ctx, pre, threshold, width):
        ctx.save_for_backward(pre, threshold)
        ctx.width = width
        return pre * (pre > threshold)

    @staticmethod
    def backward(ctx, slope):
        pre, threshold = ctx.saved_tensors
        near = ((pre - threshold).abs() < ctx.width / 2) * slope
        return slope * (pre > threshold), -(threshold / ctx.width) * near.sum(0), None


class Step(torch.autograd.Function):
    """[pre > θ]; ∂/∂θ = −(1 / ε) · [|pre − θ| < ε / 2]."""

    @staticmethod
    def forward(ctx, pre, threshold, width):
        ctx.save_for_backward(pre, threshold)
        ctx.width = width
        return (pre > threshold).to(pre)

    @staticmethod
    def backward(ctx, slope):
        pre, threshold = ctx.saved_tensors
        near = ((pre - threshold).abs() < ctx.width / 2) * slope
        return None, -near.sum(0) / ctx.width, None


def statistics(d: int, seed: int) -> ActivationStatistics:
    median = torch.randn(d, generator=torch.Generator().manual_seed(seed))
    return ActivationStatistics(
        mean=median,
        mean_norm=2.0 + seed,
        variance=3.0,
        second_moment=None,
        geometric_median=median,
        n_rows=100,
        second_moment_rows=0,
        geometric_median_rows=100,
    )


SITES = {
    "autoencoder": HookScales(inputs=(statistics(D_IN, 0),)),
    "crosscoder": HookScales(inputs=(statistics(D_IN, 0), statistics(9, 1))),
    "transcoder": HookScales(inputs=(statistics(D_IN, 0),), outputs=(statistics(11, 2),)),
}


def learner_for(config: SAEConfig, site: HookScales, n_dead: int = 0) -> Learner:
    """Return a learner in the middle of its run, its weights away from where they began."""
    learner = Learner(config, site, torch.device("cpu"), torch.float64)
    generator = torch.Generator().manual_seed(5)
    for name, weight in learner.weights.items():
        weight += torch.randn(weight.shape, generator=generator, dtype=torch.float64) * 0.2
        if name == "threshold":
            weight.abs_()
    if config.unit_norm:
        learner.weights["W_dec"] /= learner.weights["W_dec"].norm(dim=1, keepdim=True)
    learner.steps_done = STEP
    dead = torch.randperm(D_SAE, generator=generator)[:n_dead].sort().values
    learner.since_fired[dead] = config.dead_tokens
    return learner


def inputs(site: HookScales) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(7)
    x = torch.randn(ROWS, site.d_in, generator=generator, dtype=torch.float64)
    return x, x if site.tied else torch.randn(ROWS, site.d_out, generator=generator, dtype=torch.float64)


def picked(pre: torch.Tensor, config: SAEConfig, k: int) -> torch.Tensor:
    if isinstance(config, TopKConfig):
        least = pre.sort(dim=1, descending=True).values[:, k - 1 : k]
    else:
        least = pre.flatten().sort(descending=True).values[k * len(pre) - 1]
    return torch.where((pre >= least) & (pre > 0), pre, 0)


def norms(W_dec: torch.Tensor, site: HookScales) -> torch.Tensor:
    return sum(part.norm(dim=1) for part in W_dec.split(list(site.widths), dim=1))


def dense_loss(learner: Learner, x: torch.Tensor, y: torch.Tensor, p: dict[str, torch.Tensor]) -> torch.Tensor:
    """Return the loss as the docstrings of `architectures` state it, without what revives."""
    c, site, variance = learner.config, learner.hook_scales, learner.variance
    centred = x - p["b_dec"] if site.tied else x
    if isinstance(c, MatchingPursuitConfig):
        residual = centred
        for _ in range(c.k):
            best = (residual @ p["W_dec"].T).argmax(1)
            value = (residual * p["W_dec"][best]).sum(1, keepdim=True).relu()
            residual = residual - value * p["W_dec"][best]
        return residual.square().sum() / (len(x) * variance)
    pre = centred @ p["encoder_rows"].T + p["b_enc"]
    penalty, extra = x.new_zeros(()), x.new_zeros(())
    match c:
        case TopKConfig() | BatchTopKConfig():
            z = picked(pre, c, c.k_at(STEP, x.shape[1]))
        case ReLUConfig():
            z = pre.relu()
            size = z * (norms(p["W_dec"], site) if not c.unit_norm or len(site.widths) > 1 else 1)
            penalty = c.l1 * ramp(STEP + 1, c.l1_warmup, c.steps) * size.sum()
        case GatedConfig():
            u, gate = pre - p["b_enc"], pre.relu()
            z = (pre > 0) * (p["r_mag"].exp() * u + p["b_mag"]).relu()
            frozen = gate @ p["W_dec"].detach() + p["b_dec"].detach() - y
            frozen = frozen + (x @ p["W_skip"].detach() if c.skip else 0)
            extra, penalty = frozen.square().sum(), c.l1 * gate.sum()
        case JumpReLUConfig():
            width = c.bandwidth
            z = JumpReLU.apply(pre, p["threshold"], width)
            counts = Step.apply(pre, p["threshold"], width).sum(1)
            if c.penalty == "l0":
                penalty = c.coefficient * counts.sum()
            else:
                penalty = c.coefficient * variance * (counts / learner.architecture_state["tau"] - 1).square().sum()
            penalty = penalty * ramp(STEP + 1, c.coefficient_warmup, c.steps)
    skipped = x @ p["W_skip"] if c.skip else 0
    ends = getattr(c, "ends", (D_SAE,))
    errors = [(z[:, :end] @ p["W_dec"][:end] + p["b_dec"] + skipped - y).square().sum() / len(ends) for end in ends]
    return (sum(errors) + extra + penalty) / (len(x) * variance)


def dense_auxk(
    learner: Learner, x: torch.Tensor, y: torch.Tensor, p: dict[str, torch.Tensor], beyond: bool | None = None
) -> torch.Tensor:
    dead, k_aux = learner.dead, max(1, learner.hook_scales.d_out // 2)
    error = learner.loss_and_gradients(x, y).forward.error
    fvu = error.square().sum().item() / (len(y) * learner.variance)
    every = max(1, -(-len(dead) // (2 * k_aux)))
    error, x = error[::every], x[::every]
    quiet = (x - p["b_dec"] if learner.hook_scales.tied else x) @ p["encoder_rows"][dead].T + p["b_enc"][dead]
    if len(dead) > k_aux:
        quiet = torch.where(quiet >= quiet.sort(dim=1, descending=True).values[:, k_aux - 1 : k_aux], quiet, 0)
    missed, there = (quiet @ p["W_dec"][dead] + error).square().sum(), error.square().sum()
    if beyond is not None:
        assert (missed > there) == beyond
    if missed > there:
        missed = 2 * (missed * there).sqrt() - there
    total = len(x) * learner.variance
    weight = learner.config.aux_coefficient * min(1, 12 * fvu) ** 3 * min(1, len(dead) / k_aux)
    return weight * missed / total


def check(learner: Learner, more=None) -> None:
    x, y = inputs(learner.hook_scales)
    descent = learner.loss_and_gradients(x, y)
    p = {name: weight.clone().requires_grad_() for name, weight in learner.weights.items()}
    loss = dense_loss(learner, x, y, p)
    if more is not None:
        loss = loss + more(learner, x, y, p)
    loss.backward()
    assert descent.loss == pytest.approx(loss.item(), rel=1e-9)
    for name, parameter in p.items():
        mine = descent.gradients[name].tensor()
        if parameter.grad is None:
            assert not mine.any(), name
            continue
        assert (mine - parameter.grad).norm() <= 1e-9 * parameter.grad.norm().clamp(min=1e-12), name


CONFIGS = {
    "topk": TopKConfig(**shared, k=4),
    "topk, k falling": TopKConfig(**shared, k=4, k_start=12, k_anneal=0.8),
    "batchtopk": BatchTopKConfig(**shared, k=4),
    "matryoshka": MatryoshkaConfig(**shared, k=6, groups=(0.25, 0.25, 0.5)),
    "relu, April 2024": ReLUConfig(**shared, l1=0.4),
    "relu, October 2023": ReLUConfig(**OCTOBER_2023 | shared, l1=0.4),
    "relu, warming up": ReLUConfig(**shared, l1=0.4, l1_warmup=0.9),
    "gated": GatedConfig(**shared, l1=0.4),
    "jumprelu, target l0": JumpReLUConfig(**shared, target_l0=5, bandwidth=0.6, coefficient_warmup=0.9),
    "jumprelu, l0": JumpReLUConfig(**shared, penalty="l0", coefficient=0.3, bandwidth=0.44),
    "jumprelu, free decoder": JumpReLUConfig(**shared, penalty="l0", coefficient=0.5, unit_norm=False),
}


@pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS)
def test_autoencoder_gradients_equal_float64_autograd(config):
    check(learner_for(config, SITES["autoencoder"]))


@pytest.mark.parametrize("name", ["topk", "batchtopk", "matryoshka", "relu, April 2024", "jumprelu, free decoder"])
def test_crosscoder_gradients_equal_float64_autograd(name):
    check(learner_for(CONFIGS[name], SITES["crosscoder"]))


def test_jumprelu_gradients_where_its_pull_has_moved_equal_float64_autograd():
    learner = learner_for(CONFIGS["jumprelu, target l0"], SITES["autoencoder"])
    learner.architecture_state = {"tau": 3.5}
    check(learner)


@pytest.mark.parametrize("skip", [False, True], ids=["plain", "skip"])
@pytest.mark.parametrize(
    "name", ["topk", "batchtopk", "matryoshka", "relu, April 2024", "gated", "jumprelu, target l0"]
)
def test_transcoder_gradients_equal_float64_autograd(name, skip):
    check(learner_for(dataclasses.replace(CONFIGS[name], skip=skip), SITES["transcoder"]))


def test_matching_pursuit_gradients_equal_float64_autograd():
    check(learner_for(MatchingPursuitConfig(**shared, k=6), SITES["autoencoder"]))


@pytest.mark.parametrize("n_dead", [3, 40])
@pytest.mark.parametrize("site", ["autoencoder", "crosscoder", "transcoder"])
@pytest.mark.parametrize("name", ["topk", "batchtopk"])
def test_auxk_gradients_equal_float64_autograd(name, site, n_dead):
    check(learner_for(CONFIGS[name], SITES[site], n_dead), dense_auxk)


@pytest.mark.parametrize("variance", [1.0, 1000.0], ids=["much is left", "little is left"])
def test_auxk_that_reconstructs_nothing_adds_what_is_left(variance):
    """3 dead latents of k_aux = 8. Below an FVU of a twelfth it weighs less, by the cube."""
    learner = learner_for(CONFIGS["topk"], SITES["autoencoder"], n_dead=3)
    learner.variance *= variance
    learner.weights["encoder_rows"][learner.dead] = 0
    learner.weights["b_enc"][learner.dead] = -1e-9
    x, _ = inputs(learner.hook_scales)
    descent = learner.loss_and_gradients(x)
    fvu = descent.forward.fvu
    weight = 1 if variance == 1 else (12 * fvu) ** 3
    assert (fvu < 1 / 12) == (variance > 1)
    assert descent.loss - fvu == pytest.approx(weight * learner.config.aux_coefficient * 3 / 8 * fvu, rel=1e-6)


@pytest.mark.parametrize("variance", [1.0, 1000.0], ids=["much is left", "little is left"])
@pytest.mark.parametrize("pre", [-0.01, -10.0], ids=["nearer than nothing", "far beyond"])
def test_auxk_gradients_equal_float64_autograd_on_both_sides_of_the_error(pre, variance):
    learner = learner_for(CONFIGS["topk"], SITES["autoencoder"], n_dead=3)
    learner.variance *= variance
    x, _ = inputs(learner.hook_scales)
    learner.weights["encoder_rows"][learner.dead] = 0
    learner.weights["b_enc"][learner.dead] = pre
    learner.weights["W_dec"][learner.dead] = torch.nn.functional.normalize(
        learner.loss_and_gradients(x).forward.error.mean(0), dim=0
    )
    check(learner, partial(dense_auxk, beyond=pre == -10))


@pytest.mark.parametrize("variance", [1.0, 1000.0], ids=["much is left", "little is left"])
@pytest.mark.parametrize("n_dead", [3, 40])
def test_pre_activation_loss_gradients_equal_float64_autograd(n_dead, variance):
    config = JumpReLUConfig(**shared, penalty="l0", coefficient=0.7, threshold=0.1, bandwidth=2.0, unit_norm=False)
    learner = learner_for(config, SITES["autoencoder"], n_dead)
    learner.variance *= variance
    x, _ = inputs(learner.hook_scales)
    fvu = learner.loss_and_gradients(x).forward.fvu
    assert (fvu < 1 / 12) == (variance > 1)

    def pulled(learner, x, y, p):
        dead, every = learner.dead, max(1, -(-n_dead // (2 * D_IN)))
        pre = (x[::every] - p["b_dec"]) @ p["encoder_rows"][dead].T + p["b_enc"][dead]
        below = (p["threshold"][dead] - pre).relu() * p["W_dec"][dead].norm(dim=1).detach()
        return 0.7 * min(1, 12 * fvu) ** 2 * below.sum() / (len(x[::every]) * learner.variance)

    check(learner, pulled)


def test_a_frozen_decoder_stays_as_it_was_drawn():
    learner = Learner(TopKConfig(**shared, k=4, freeze="decoder"), SITES["autoencoder"], torch.device("cpu"))
    before = {name: weight.clone() for name, weight in learner.weights.items()}
    x, _ = inputs(learner.hook_scales)
    learner.step(x.float())
    assert torch.equal(learner.weights["W_dec"], before["W_dec"])
    assert not torch.equal(learner.weights["encoder_rows"], before["encoder_rows"])


@pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS)
def test_single_precision_gradients_are_close_to_double(config):
    """Picks that differ between the precisions would show; none does on these rows."""
    site, results = SITES["autoencoder"], []
    x, _ = inputs(site)
    for dtype in (torch.float32, torch.float64):
        learner = Learner(config, site, torch.device("cpu"), dtype)
        learner.low_precision = False
        descent = learner.loss_and_gradients(x.to(dtype))
        results.append({name: descent.gradients[name].tensor() for name in learner.weights})
    for name, double in results[1].items():
        assert (results[0][name].double() - double).norm() <= 1e-6 * double.norm().clamp(min=1e-6), name


def test_each_operation_has_the_gradient_of_its_formula():
    """Of all that it is given, and the same whether it hands over a sum or the tensor."""
    generator = torch.Generator().manual_seed(3)
    shapes = {"x": (30, 8), "encoder": (40, 8), "b_enc": (40,), "W_dec": (40, 8), "b_dec": (8,), "y": (30, 8)}
    given = {
        name: torch.randn(shape, generator=generator, dtype=torch.float64).requires_grad_()
        for name, shape in shapes.items()
    }
    x, encoder, b_enc, W_dec, b_dec, y = given.values()
    some = torch.tensor([3, 7, 21])

    def sparse(encoder_into: RowGradient | None, decoder_into: RowGradient | None) -> torch.Tensor:
        centre = b_dec.detach()
        support = Support(encode(*(each.detach() for each in (x - centre, encoder, b_enc)), TopK(5)))
        values = sparse_encode(x - centre, encoder, b_enc, support, into=encoder_into)
        moved = Encoded(support, values * at_latents(b_enc, support).exp())
        parts = [
            sparse_decode(moved, W_dec, b_dec, into=decoder_into).pow(3).sum(),
            squared_error(moved, W_dec, b_dec, y, into=decoder_into).loss,
            squared_error(moved, W_dec, b_dec, y, ends=(10, 25, 40), into=decoder_into).loss,
            latent_rows(W_dec, some, decoder_into).pow(3).sum(),
            (row_norms(W_dec, (5, 3), decoder_into) * b_enc).sum(),
        ]
        return torch.stack(parts).sum()

    def dense() -> torch.Tensor:
        pre = (x - b_dec.detach()) @ encoder.T + b_enc
        z = picked(pre, CONFIGS["topk"], 5) * b_enc.exp()
        errors = [(z[:, :end] @ W_dec[:end] + b_dec - y).square().sum() for end in (40, 10, 25, 40)]
        norms = W_dec[:, :5].norm(dim=1) + W_dec[:, 5:].norm(dim=1)
        more = (z @ W_dec + b_dec).pow(3).sum() + W_dec[some].pow(3).sum() + (norms * b_enc).sum()
        return errors[0] + sum(errors[1:]) / 3 + more

    expected = torch.autograd.grad(dense(), list(given.values()))
    for unsummed in (False, True):
        into = [RowGradient(encoder), RowGradient(W_dec)] if unsummed else [None, None]
        for each in given.values():
            each.grad = None
        loss = sparse(*into)
        torch.testing.assert_close(loss, dense())
        loss.backward()
        found = dict(zip(given, (each.grad for each in given.values()), strict=True))
        if unsummed:
            assert found["encoder"] is None and len(into[0].sums) == 1
            assert into[1].other_parts and not into[0].other_parts
            found |= {"encoder": into[0].tensor(), "W_dec": into[1].tensor()}
            assert not into[0].sums
        for name, gradient in zip(given, expected, strict=True):
            torch.testing.assert_close(found[name], gradient, rtol=1e-9, atol=1e-9, msg=name)


def test_the_centre_of_an_input_gets_its_gradient_from_the_sums_of_the_latents():
    generator = torch.Generator().manual_seed(3)
    x, encoder, centre = (torch.randn(*n, generator=generator, dtype=torch.float64) for n in ((9, 8), (40, 8), (8,)))
    b_enc = x.new_zeros(40)
    centre.requires_grad_()
    centred = x - centre.detach()
    support = Support(encode(centred, encoder, b_enc, TopK(5)))
    sparse_encode(centred, encoder, b_enc, support, centre=centre).square().sum().backward()
    (expected,) = torch.autograd.grad(picked((x - centre) @ encoder.T, CONFIGS["topk"], 5).square().sum(), [centre])
    torch.testing.assert_close(centre.grad, expected)


@pytest.mark.parametrize(
    "config",
    [CONFIGS["gated"], CONFIGS["jumprelu, l0"], TopKConfig(**shared, k=4, freeze="decoder")],
    ids=["gated", "jumprelu", "frozen decoder"],
)
def test_one_line_checks_the_gradients_of_a_config(config):
    assert max(check_gradients(config).values()) < 1e-12


def test_a_gradient_that_is_not_that_of_the_loss_is_named(monkeypatch):
    monkeypatch.setattr(sparse_ops, "at_latents", lambda vector, support: vector.detach()[support.latents])
    with pytest.raises(
        ValueError, match="GatedConfig: with 0 dead latents the gradient of (b_enc|r_mag|encoder) differs"
    ):
        check_gradients(CONFIGS["gated"])
