"""Every architecture trained for real: what it learns and saves."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from analyses.bench.recovery_presets import picking
from interp.activations import ActivationStore, join_stores
from interp.sae import (
    ARCHITECTURES,
    BatchTopKConfig,
    Crosscoder,
    GatedConfig,
    JumpReLUConfig,
    MatchingPursuitConfig,
    MatryoshkaConfig,
    ReLUConfig,
    SAEConfig,
    TopKConfig,
    Transcoder,
    load_sae,
    train_sae,
)
from interp.sae.architectures.sae_config import config_from_dict, config_to_dict
from interp.sae.hook_scales import HookScales
from interp.sae.learner import Learner
from tests.trainings import CONFIGS, OCTOBER_2023, planted, shared, steps

CPU = torch.device("cpu")
HOOK = "activations"
ROOT = Path(__file__).parents[2]
each_config = pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS)


FIXED = {"k_start": 4, "resample_at": (), "aux_coefficient": 1.0}
"""In some 100 steps k has no time to fall."""
quick = shared | {"tokens": 30_000, "lr": 8e-3}
"""Half the steps, at twice the rate."""


@pytest.fixture(scope="module")
def store(tmp_path_factory) -> ActivationStore:
    return ActivationStore.from_batches(planted(), tmp_path_factory.mktemp("store"), dtype="float32")


@pytest.fixture(scope="module")
def other(tmp_path_factory) -> ActivationStore:
    rows = planted(d=12, seed=3) * 3
    return ActivationStore.from_batches(rows, tmp_path_factory.mktemp("other"), dtype="float32")


@pytest.fixture
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def unexplained(x: torch.Tensor, x_hat: torch.Tensor) -> float:
    return float((x_hat - x).square().sum() / (x - x.mean(0)).square().sum())


@each_config
def test_each_is_saved_and_read_back_with_fast_and_dense_codes_alike(store, tmp_path, config):
    sae, x = train_sae(store, HOOK, config, tmp_path), planted()
    codes = sae.codes(x)
    torch.testing.assert_close(codes.dense(), sae.encode(x), rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(sae.decode(codes), sae(x), rtol=1e-4, atol=1e-4)
    assert 0 < codes.nnz / len(x) < 30 and len(sae.codes(x[:0])) == 0
    rows = steps(tmp_path)
    assert [row["step"] for row in rows] == list(range(1, 26)) and rows[-1]["fvu"] < rows[0]["fvu"]
    again = load_sae(tmp_path)
    assert again.config == config and torch.equal(again.encode(x), sae.encode(x))
    if config.unit_norm:
        torch.testing.assert_close(sae.W_dec.norm(dim=1), torch.ones(48))


@each_config
def test_a_state_dict_and_a_move_include_all_that_encoding_reads(store, config):
    x = planted(200)
    sae, other = (learner_for(replace(config, seed=seed), store).sae({}) for seed in (0, 1))
    for tensor in sae.state_dict().values():
        tensor += 0.1 * torch.rand(tensor.shape, generator=torch.Generator().manual_seed(2))
    assert not torch.equal(other.encode(x), sae.encode(x))
    other.load_state_dict(sae.state_dict())
    assert torch.equal(other.encode(x), sae.encode(x)) and torch.equal(other.codes(x).dense(), sae.codes(x).dense())
    z = sae.encode(x)
    for dtype in (torch.float64, torch.float32):
        moved = other.to(dtype)
        tensors = [*moved.parameters(), *(value for value in vars(moved.encoder).values() if torch.is_tensor(value))]
        assert len(tensors) == len(sae.state_dict()) and {tensor.dtype for tensor in tensors} == {dtype}
        torch.testing.assert_close(moved.encode(x.to(dtype)).float(), z, rtol=1e-4, atol=1e-4)
    assert torch.equal(other.encode(x), z)
    moved = other.to("meta")
    assert {tensor.device.type for tensor in moved.state_dict().values()} == {"meta"}
    assert moved.encode(x.to("meta")).shape == z.shape


@pytest.mark.parametrize(
    ("config", "least"),
    [
        (TopKConfig(**quick, **FIXED, k=4), 0.85),
        (BatchTopKConfig(**quick, **FIXED, k=4), 0.75),
        (MatryoshkaConfig(**quick, **FIXED, k=4, groups=(0.5, 0.5)), 0.72),
        (JumpReLUConfig(**quick, target_l0=4, bandwidth=0.5), 0.7),
        (ReLUConfig(**quick, l1=0.5), 0.9),
        (GatedConfig(**quick, l1=0.5), 0.6),
        (MatchingPursuitConfig(**quick, k=4), 0.9),
    ],
    ids=lambda value: getattr(value, "architecture", None),
)
def test_each_learns_planted_directions(store, tmp_path, config, least):
    """As many random directions come to a mean cosine of 0.53 with their nearest."""
    sae, x = train_sae(store, HOOK, config, tmp_path), planted()
    fvu = unexplained(x, sae(x))
    assert fvu < 0.2
    if isinstance(config, TopKConfig | BatchTopKConfig):
        assert sae.codes(x).nnz / len(x) == pytest.approx(config.k, rel=0.15)
        assert json.loads((tmp_path / "results.json").read_text())["fvu"] == pytest.approx(fvu, abs=0.05)
    assert steps(tmp_path)[-1]["tokens"] == 29_952 and not list(tmp_path.glob("checkpoint*"))
    directions = torch.nn.functional.normalize(torch.randn(32, 16, generator=torch.Generator().manual_seed(0)), dim=1)
    best = (torch.nn.functional.normalize(sae.W_dec, dim=1) @ directions.T).max(0).values
    assert best.mean() > least


def test_jumprelu_reaches_the_target_l0(store):
    """The target is below what reconstruction alone would give: with a fixed pull L0 would end at 4."""
    options = {"target_l0": 3, "coefficient": 0.1, "bandwidth": 0.5}
    sae = train_sae(store, HOOK, JumpReLUConfig(**quick, **options))
    assert sae.codes(planted()).nnz / 3000 == pytest.approx(3, rel=0.1)


def test_jumprelu_trains_on_rows_that_are_all_alike(tmp_path):
    same = ActivationStore.from_batches(torch.ones(500, 16), tmp_path, dtype="float32")
    config = JumpReLUConfig(**shared, target_l0=4)
    assert train_sae(same, HOOK, config)(torch.ones(1, 16)) == pytest.approx(1.0, abs=1e-3)


def test_matching_pursuit_counts_a_latent_that_a_row_picks_twice_once(store):
    learner = learner_for(MatchingPursuitConfig(**shared, k=16), store)
    codes = learner.sae({}).codes(planted(200))
    result = learner.step(planted(200))
    assert result.l0 == codes.nnz / 200 < 16
    torch.testing.assert_close(learner.strongest[0], codes.maxima() * float(learner.input_scales[0]))


def test_a_crosscoder_explains_both_hooks_with_latents_they_share(store, other, tmp_path):
    both = join_stores({"a": store, "b": other})
    hooks = ["a/activations", "b/activations"]
    for config in (
        BatchTopKConfig(**quick | {"tokens": 20_000}, **FIXED, k=4),
        ReLUConfig(**quick | {"tokens": 20_000}, l1=0.5),
    ):
        coder = train_sae(both, hooks, config, tmp_path / config.architecture)
        assert isinstance(coder, Crosscoder) and coder.hook_names == tuple(hooks) and coder.widths == (16, 12)
        x = torch.cat([planted(), planted(d=12, seed=3) * 3], dim=1)
        for part, reconstructed in zip(coder.parts(x), coder.parts(coder(x)), strict=True):
            assert unexplained(part, reconstructed) < 0.25
        norms = coder.decoder_norms()
        fires = coder.codes(x).dense().gt(0).float().mean(0) > 0.01
        share = (norms / norms.sum(1, keepdim=True))[fires]
        assert 0.3 < share[:, 0].median() < 0.7
        again = load_sae(tmp_path / config.architecture)
        assert isinstance(again, Crosscoder) and torch.equal(again(x), coder(x)) and again.scales == coder.scales


@pytest.mark.parametrize(("kind", "skip"), [(TopKConfig, False), (BatchTopKConfig, True)], ids=["plain", "skip"])
def test_a_transcoder_predicts_one_hook_from_the_other(store, other, tmp_path, kind, skip):
    """The gradients of every kind, with a skip path and without, are those of `test_gradients`."""
    both = join_stores({"a": store, "b": other})
    config = kind(**quick, k=4, skip=skip)
    coder = train_sae(both, "a/activations", config, tmp_path, output_hook="b/activations")
    assert isinstance(coder, Transcoder) and (coder.d_in, coder.d_out) == (16, 12)
    x, y = planted(), planted(d=12, seed=3) * 3
    assert unexplained(y, coder(x)) < 0.5
    assert (coder.W_skip is not None) == skip
    assert torch.equal(load_sae(tmp_path)(x), coder(x))


def test_a_skip_takes_what_is_linear(store, tmp_path):
    """Where the output is a linear map of the input, the skip path leaves the latents nothing to explain."""
    matrix = torch.randn(16, 16, generator=torch.Generator().manual_seed(4))
    mapped = ActivationStore.from_batches(planted() @ matrix, tmp_path / "mapped", dtype="float32")
    both = join_stores({"a": store, "b": mapped})
    results = [
        train_sae(
            both,
            "a/activations",
            TopKConfig(**quick | {"tokens": 16_000}, k=2, skip=skip),
            output_hook="b/activations",
        )
        for skip in (False, True)
    ]
    plain, skipped = (unexplained(planted() @ matrix, coder(planted())) for coder in results)
    assert skipped < 0.25 * plain


def learner_for(config: SAEConfig, store: ActivationStore) -> Learner:
    return Learner(config, HookScales(inputs=(store.statistics(HOOK),)), CPU)


def test_resampling_begins_dead_latents_anew(store):
    def dead_share(at: tuple[float, ...]) -> float:
        fields = OCTOBER_2023 | shared | {"tokens": 256 * 40, "resample_at": at}
        config = ReLUConfig(**fields, l1=0.2, dead_after=1024)
        learner, batches = learner_for(config, store), store.batches(HOOK, 256, epochs=None)
        learner.weights["b_enc"][:30] = -50.0
        for _ in range(40):
            result = learner.step(next(batches))
        return result.dead

    assert dead_share(()) >= 30 / 48
    assert dead_share((0.3, 0.5)) < 10 / 48


def test_a_dictionary_is_loaded_on_a_device_by_its_name(store, tmp_path):
    W_dec = train_sae(store, HOOK, TopKConfig(d_sae=8, k=2, tokens=8, batch_size=8), tmp_path).W_dec
    assert torch.equal(load_sae(tmp_path, device="auto").W_dec.cpu(), W_dec)
    with pytest.raises(ValueError, match="device='cuda:99' does not exist on this machine"):
        load_sae(tmp_path, device="cuda:99")
    with pytest.raises(ValueError, match="path_or_release is None: give the folder of a dictionary"):
        load_sae(None)


def test_no_latent_is_resampled_after_the_last_step():
    for n_steps in range(1, 40):
        config = TopKConfig(d_sae=8, k=1, tokens=10 * n_steps, batch_size=10)
        assert all(0 < step < n_steps for step in config.resampling_steps)
        assert config.resampling_steps or n_steps < 3


def test_the_pre_activation_loss_draws_dead_latents_back(store, monkeypatch):
    def dead_share() -> float:
        fields = shared | {"tokens": 256 * 60, "lr": 1e-2}
        config = JumpReLUConfig(**fields, coefficient=1.0, dead_after=512)
        learner, batches = learner_for(config, store), store.batches(HOOK, 256, epochs=None)
        learner.weights["b_enc"][:24] = -6.0
        for _ in range(60):
            result = learner.step(next(batches))
        return result.dead

    drawn_back = dead_share()
    monkeypatch.setattr(JumpReLUConfig, "revival_loss", SAEConfig.revival_loss)
    assert drawn_back < 0.5 * dead_share()


def test_rows_of_outlying_norm_train_nothing(store):
    rows, about = planted(256), store.statistics(HOOK)
    spoilt = torch.cat([rows, 100 * rows[:5]])
    limits = (), (5 * about.mean_norm,)
    one, two = (Learner(TopKConfig(**shared, k=4), HookScales(inputs=(about,), limits=each), CPU) for each in limits)
    assert one.step(rows).loss == pytest.approx(two.step(spoilt).loss, rel=1e-6)
    torch.testing.assert_close(one.weights["encoder_rows"], two.weights["encoder_rows"])


def test_the_gradient_is_that_of_the_logarithm_of_the_loss_and_clipped(store):
    """Adam's running mean after one step is a tenth of the gradient that it got."""
    for clip in (0.1, 50.0):
        config = TopKConfig(**shared, k=4, clip=clip, unit_norm=False)
        learner = learner_for(config, store)
        descent = learner.loss_and_gradients(learner.scale_rows(planted(256))[0])
        whole = {name: gradient.tensor() / descent.loss for name, gradient in descent.gradients.items()}
        norm = sum(float(gradient.square().sum()) for gradient in whole.values()) ** 0.5
        learner.update(descent.gradients, descent.loss)
        for name, gradient in whole.items():
            torch.testing.assert_close(10 * learner.means[name], gradient * min(1, clip / norm))
        assert norm > clip if clip < 1 else norm < clip


@pytest.mark.parametrize("kind", [TopKConfig, BatchTopKConfig, MatryoshkaConfig])
def test_the_recovery_preset_lets_k_fall_and_yields_to_what_is_given(kind):
    config = picking(kind, d_sae=48, k=4, tokens=25_600, seed=3)
    assert type(config) is kind and config.seed == 3 and config.batch_size == 256 and not config.unit_norm
    assert [config.k_at(step, 64) for step in (0, 50, 100)] == [12, 8, 4]
    assert picking(kind, d_sae=48, k=20, tokens=25_600).k_start == 48
    plain = kind(d_sae=48, k=4, tokens=25_600)
    assert [plain.k_at(0, d_in) for d_in in (16, 48, 64, 999)] == [4, 6, 8, 8], "an eighth of d_in, 2 k at most"
    assert picking(kind, d_sae=4096, k=4, tokens=25_600).lr == config.lr / 4
    assert picking(kind, d_sae=48, k=4, tokens=25_600, lr=1e-3, k_start=5).lr == 1e-3


def test_the_recovery_preset_finds_planted_directions(store):
    """32 of them in 16 dimensions; a latent has found one if they are closer than any two of these are."""
    truth = torch.nn.functional.normalize(torch.randn(32, 16, generator=torch.Generator().manual_seed(0)), dim=1)
    config = picking(BatchTopKConfig, d_sae=32, k=2, tokens=30_000, device="cpu")
    rows = torch.nn.functional.normalize(train_sae(store, HOOK, config).W_dec, dim=1)
    nearest = (rows @ truth.T).max(0).values
    others = (truth @ truth.T - 2 * torch.eye(32)).max()
    assert (nearest > others).float().mean() > 0.8


@each_config
def test_configs_go_through_json(config):
    assert config_from_dict(json.loads(json.dumps(config_to_dict(config)))) == config
    assert ARCHITECTURES[config.architecture] is type(config)


def test_a_share_of_no_whole_latent_adds_no_prefix():
    assert MatryoshkaConfig(d_sae=16, k=2, tokens=100).ends == (2, 4, 8, 16)
    assert MatryoshkaConfig(d_sae=64, k=2, tokens=100).ends == (2, 6, 14, 30, 64)


def test_an_unknown_field_is_refused():
    with pytest.raises(ValueError, match="topk field 'ema' does not exist"):
        config_from_dict(config_to_dict(TopKConfig(d_sae=48, tokens=100)) | {"ema": 0.9})


@pytest.mark.parametrize(
    ("kind", "changes", "message"),
    [
        (ReLUConfig, {"l1": -1.0}, "l1=-1.0 must be at least 0"),
        (JumpReLUConfig, {"coefficient": -2.0}, "coefficient=-2.0 must be at least 0"),
        (JumpReLUConfig, {"target_l0": 49}, "target_l0=49.0 must be at most d_sae=48"),
        (JumpReLUConfig, {"target_l0": 0.0, "penalty": "l0"}, "target_l0=0.0 must be above 0"),
        (JumpReLUConfig, {"bandwidth": 0.0}, "bandwidth=0.0 must be above 0"),
        (MatryoshkaConfig, {"k": 49}, "k=49 must be in 1..d_sae=48"),
        (TopKConfig, {"k": 49}, "k=49 must be in 1..d_sae=48"),
        (BatchTopKConfig, {"k": 0}, "k=0 must be in"),
        (TopKConfig, {"tokens": 0}, "tokens=0"),
        (TopKConfig, {"lr": -1.0}, "lr=-1.0"),
        (TopKConfig, {"decay": 1.5}, "decay=1.5"),
        (BatchTopKConfig, {"aux_coefficient": -0.1}, "aux_coefficient=-0.1"),
        (TopKConfig, {"dead_after": 0}, "dead_after=0"),
        (MatryoshkaConfig, {"groups": (0.5, 0.4)}, "must be positive shares that sum to 1"),
        (TopKConfig, {"k_start": 0}, "k_start=0 must be in"),
        (TopKConfig, {"k": 8, "k_start": 7}, "k_start=7 must be at least k=8, to which k falls: raise it"),
        (MatchingPursuitConfig, {"unit_norm": False}, "needs unit_norm=True"),
        (ReLUConfig, {"resample_at": (1.5,)}, "resample_at=1.5 must be below 1"),
        (MatchingPursuitConfig, {"resample_at": (0.5,)}, "no resample_at"),
        (GatedConfig, {"resample_at": (-1.0,)}, "resample_at=-1.0 must be above 0"),
    ],
)
def test_configs_refuse_bad_values(kind, changes, message):
    with pytest.raises(ValueError, match=message.replace("(", r"\(").replace(")", r"\)")):
        kind(**{**shared, **changes})


def test_what_does_not_go_together_is_refused(store, other):
    both = join_stores({"a": store, "b": other})
    hooks = ["a/activations", "b/activations"]
    with pytest.raises(ValueError, match="reads and writes one hook"):
        train_sae(both, hooks, MatchingPursuitConfig(**shared, k=4))
    with pytest.raises(ValueError, match="give train_sae an output_hook"):
        train_sae(store, HOOK, TopKConfig(**shared, k=4, skip=True))
    with pytest.raises(ValueError, match="has no activations of"):
        train_sae(store, "elsewhere", TopKConfig(**shared, k=4))
