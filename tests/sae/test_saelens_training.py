"""SAELens as the oracle for training and for splicing: the same loss, the same gradients, the same logits."""

from typing import Any

import pytest
import torch

from interp.activations import ActivationStatistics
from interp.evaluation.quality import evaluate_dictionary
from interp.sae import (
    BatchTopKConfig,
    GatedConfig,
    JumpReLUConfig,
    MatchingPursuitConfig,
    MatryoshkaConfig,
    ReLUConfig,
    SAEConfig,
    Threshold,
    TopK,
    TopKConfig,
    load_sae,
)
from interp.sae.hook_scales import HookScales
from interp.sae.learner import Learner
from interp.sae.model import SAE, Transcoder
from models.loading import to_hooked_transformer
from models.transformer import Transformer, TransformerConfig

sae_lens = pytest.importorskip("sae_lens")
pytestmark = [
    pytest.mark.filterwarnings("ignore:HookedTransformer is deprecated"),
    pytest.mark.filterwarnings("ignore:decoder_init_norm must be set"),
]

D_IN, D_SAE, ROWS = 12, 40, 60
OURS: dict[str, Any] = {"d_sae": D_SAE, "tokens": 6400, "batch_size": ROWS, "device": "cpu"}
FREE: dict[str, Any] = {**OURS, "unit_norm": False}
THRESHOLD = 0.25


def random(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@torch.no_grad()
def learner_like(theirs: Any, config: SAEConfig) -> Learner:
    """With their weights, in float64, on inputs as they are, and with their loss, which is not divided by V."""
    at = {"mean": torch.zeros(D_IN), "geometric_median": torch.zeros(D_IN), "second_moment": None}
    rows = {"n_rows": ROWS, "second_moment_rows": ROWS, "geometric_median_rows": ROWS}
    statistics = ActivationStatistics(**at, **rows, mean_norm=D_IN**0.5, variance=1.0)
    learner = Learner(config, HookScales(inputs=(statistics,)), torch.device("cpu"), torch.float64)
    learner.variance = 1.0
    weights = dict(theirs.named_parameters())
    for name, weight in learner.weights.items():
        source = weights["b_gate"] if name == "b_enc" and "b_gate" in weights else weights.get(name)
        weight.copy_(weights["W_enc"].T if name == "encoder_rows" else source.double())
    return learner


def theirs_with(prefix: str, **fields: Any) -> Any:
    """Return one of their dictionaries in training, in float64, with random weights and decoder rows of norm 1."""
    config = getattr(sae_lens, f"{prefix}TrainingSAEConfig")
    theirs = getattr(sae_lens, f"{prefix}TrainingSAE")(config(d_in=D_IN, d_sae=D_SAE, dtype="float64", **fields))
    with torch.no_grad():
        for i, (name, parameter) in enumerate(theirs.named_parameters()):
            if name != "threshold":
                parameter.copy_(random(*parameter.shape, seed=i) * 0.5)
        theirs.W_dec /= theirs.W_dec.norm(dim=1, keepdim=True)
    return theirs


def their_step(theirs: Any, x: torch.Tensor, coefficients: dict[str, float], dead: torch.Tensor | None = None) -> Any:
    from sae_lens.saes.sae import TrainStepInput

    given = {"sae_in": x, "coefficients": coefficients, "dead_neuron_mask": dead}
    output = theirs.training_forward_pass(TrainStepInput(**given, n_training_steps=0, is_logging_step=False))
    output.loss.backward()
    return output


def assert_same_gradients(theirs: Any, learner: Learner, x: torch.Tensor, loss: float, scale: float = 1.0) -> None:
    ours = learner.loss_and_gradients(x)
    assert ours.loss == pytest.approx(loss * scale, rel=1e-10)
    weights = dict(theirs.named_parameters())
    for name in learner.weights:
        gradient = ours.gradients[name].tensor()
        theirs_now = weights["W_enc"].grad.T if name == "encoder_rows" else weights[name].grad
        rtol = 1e-5 if name == "threshold" else 1e-9  # theirs is float32
        assert gradient.abs().max() > 0
        torch.testing.assert_close(gradient, theirs_now.double() * scale, rtol=rtol, atol=rtol * 0.1, msg=name)


@pytest.fixture
def x() -> torch.Tensor:
    return random(ROWS, D_IN, seed=9) * 2


TOPK: dict[str, Any] = {"k": 5, "rescale_acts_by_decoder_norm": False}
JUMP: dict[str, Any] = {
    "jumprelu_init_threshold": THRESHOLD,
    "jumprelu_bandwidth": 0.5,
    "pre_act_loss_coefficient": None,
}
WIDTHS = {"matryoshka_widths": [10, 20, D_SAE]}
PURSUIT: dict[str, Any] = {"residual_threshold": 0.0, "stop_on_duplicate_support": False, "max_iterations": 4}
JUMP_OURS: dict[str, Any] = {**FREE, "threshold": THRESHOLD, "bandwidth": 0.5, "coefficient_warmup": 0.0}
SAME: list[tuple[str, dict[str, Any], dict[str, float], SAEConfig, float]] = [
    ("Standard", {}, {"l1": 0.7}, ReLUConfig(**OURS, l1=0.7, l1_warmup=0.0), 1.0),
    ("TopK", TOPK, {}, TopKConfig(**OURS, k=5, k_start=5), 1.0),
    ("BatchTopK", TOPK, {}, BatchTopKConfig(**OURS, k=5, k_start=5), 1.0),
    (
        "MatryoshkaBatchTopK",
        TOPK | WIDTHS,
        {},
        MatryoshkaConfig(**OURS, k=5, k_start=5, groups=(0.25, 0.25, 0.5)),
        1 / 3,
    ),
    ("MatchingPursuit", PURSUIT, {}, MatchingPursuitConfig(**OURS, k=4), 1.0),
    ("JumpReLU", JUMP, {"l0": 0.3}, JumpReLUConfig(**JUMP_OURS, penalty="l0", coefficient=0.3), 1.0),
    (
        "JumpReLU",  # theirs is 2 / target · (l0 − target)², ours (l0 / target − 1)²
        {**JUMP, "jumprelu_sparsity_loss_mode": "quadratic", "target_l0": 8.0},
        {"l0": 0.3},
        JumpReLUConfig(**JUMP_OURS, penalty="target_l0", target_l0=8.0, coefficient=0.3 * 2 * 8.0),
        1.0,
    ),
]


@pytest.mark.parametrize(("prefix", "fields", "coefficients", "config", "scale"), SAME)
def test_loss_and_gradients_are_those_of_saelens(x, prefix, fields, coefficients, config, scale):
    theirs = theirs_with(prefix, **fields)
    loss = their_step(theirs, x, coefficients).loss.item()
    assert_same_gradients(theirs, learner_like(theirs, config), x, loss, scale)


def test_auxk_is_that_of_saelens_where_it_is_nearer_than_nothing(x):
    """Beyond, ours grows with the distance, theirs with its square; ours weighs less where little is left."""
    theirs, dead = theirs_with("TopK", **TOPK, aux_loss_coefficient=0.25), torch.zeros(D_SAE, dtype=torch.bool)
    dead[[3, 11, 17, 30]] = True
    with torch.no_grad():
        theirs.W_enc[:, dead], theirs.b_enc[dead] = 0.0, 0.0
        missing = x - theirs(x)
        u, _, v = torch.linalg.svd(torch.linalg.lstsq(x - theirs.b_dec, missing).solution)
        theirs.W_enc[:, dead], theirs.W_dec[dead] = 1e-3 * u[:, :4], v[:4]
    output = their_step(theirs, x, {}, dead)
    assert output.losses["mse_loss"].item() > 1 / 12  # the FVU, V being 1
    learner = learner_like(theirs, TopKConfig(**OURS, k=5, k_start=5, aux_coefficient=0.25))
    learner.since_fired[dead] = learner.config.dead_tokens
    assert_same_gradients(theirs, learner, x, output.loss.item())


def test_the_encoder_gradients_of_a_gated_dictionary_equal_saelenss(x):
    """Theirs lets the auxiliary loss and the penalty move the decoder as well; the paper holds it fixed there."""
    theirs = theirs_with("Gated")
    loss = their_step(theirs, x, {"l1": 0.4}).loss.item()
    ours = learner_like(theirs, GatedConfig(**OURS, l1=0.4, l1_warmup=0.0)).loss_and_gradients(x)
    assert ours.loss == pytest.approx(loss, rel=1e-10)
    weights = {"encoder_rows": theirs.W_enc.grad.T, "b_enc": theirs.b_gate.grad}
    weights |= {"b_mag": theirs.b_mag.grad, "r_mag": theirs.r_mag.grad}
    for name, gradient in weights.items():
        torch.testing.assert_close(ours.gradients[name].tensor(), gradient, rtol=1e-9, atol=1e-10, msg=name)


def model_with_hooks() -> tuple[Transformer, Any, torch.Tensor]:
    torch_model = Transformer(TransformerConfig(n_layers=2, d_model=D_IN, n_heads=2, d_mlp=24, d_vocab=23, n_ctx=10))
    plain = to_hooked_transformer(torch_model)
    hooked = sae_lens.HookedSAETransformer(plain.cfg)
    hooked.load_state_dict(plain.state_dict())
    return torch_model, hooked, torch.randint(0, 23, (3, 10), generator=torch.Generator().manual_seed(0))


def small(kind: type[SAE], encoder: Any, **metadata: str) -> SAE:
    weights = {"W_enc": random(D_IN, D_SAE), "W_dec": random(D_SAE, D_IN, seed=1), "b_enc": random(D_SAE, seed=2)}
    weights |= {"b_dec": random(D_IN, seed=3)}
    return kind(**{name: weight.float() for name, weight in weights.items()}, encoder=encoder, metadata=metadata)


@pytest.mark.parametrize("encoder", [TopK(5), Threshold(torch.full((D_SAE,), 0.3))])
def test_a_saved_dictionary_splices_into_a_hooked_sae_transformer(tmp_path, encoder):
    model, hooked, tokens = model_with_hooks()
    hook_name = "blocks.0.hook_resid_post"
    sae = small(SAE, encoder, hook_name=hook_name)
    sae.save(tmp_path)
    spliced = hooked.run_with_saes(tokens, saes=[sae_lens.SAE.load_from_disk(tmp_path)])
    expected = model.run_with_hooks(tokens, fwd_hooks=[(hook_name, lambda acts, hook: sae(acts))])
    torch.testing.assert_close(spliced, expected, rtol=1e-4, atol=1e-4)
    assert not torch.allclose(spliced, hooked(tokens), atol=1e-2)


def test_a_saved_transcoder_splices_into_a_hooked_sae_transformer(tmp_path):
    model, hooked, tokens = model_with_hooks()
    reads, writes = "blocks.0.hook_resid_mid", "blocks.0.hook_mlp_out"
    transcoder = small(Transcoder, Threshold(torch.full((D_SAE,), 0.3)), hook_name=reads, hook_name_out=writes)
    transcoder.save(tmp_path)
    spliced = hooked.run_with_saes(tokens, saes=[sae_lens.SAE.load_from_disk(tmp_path)])
    _, cache = model.run_with_cache(tokens)
    expected = model.run_with_hooks(tokens, fwd_hooks=[(writes, lambda acts, hook: transcoder(cache[reads]))])
    torch.testing.assert_close(spliced, expected, rtol=1e-4, atol=1e-4)
    assert not torch.allclose(spliced, hooked(tokens), atol=1e-2)
    quality = evaluate_dictionary(model, reads, load_sae(tmp_path), tokens)
    y, losses = cache[writes], -spliced[:, :-1].log_softmax(-1).gather(-1, tokens[:, 1:, None])
    fvu = (y - transcoder(cache[reads])).square().sum() / (y - y.mean((0, 1))).square().sum()
    assert [quality.fvu, quality.ce_spliced] == pytest.approx([float(fvu), float(losses.detach().mean())], rel=1e-3)
