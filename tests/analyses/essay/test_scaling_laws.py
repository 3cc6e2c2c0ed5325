"""The source's probabilities, the fits of laws to planted ones, and the analysis from end to end."""

import itertools

import numpy as np
import pytest
import torch

from analyses.essay import scaling_laws
from analyses.essay.scaling_laws_claims import Laws, claims
from analyses.essay.scaling_laws_fits import bootstrap_scaling_law, fit_scaling_law
from analyses.essay.texts.generator import Source, SourceConfig
from tests.analyses.essay.prose import hold_to_prose

SMALL = SourceConfig(d_vocab=3, weights=(0.5, 0.2, 0.3), seed=4)


def test_the_probabilities_of_all_sequences_of_a_length_sum_to_one():
    source = Source(SMALL)
    every = torch.tensor(list(itertools.product(range(3), repeat=4)))
    assert source.log_probs(every).sum(1).exp().sum() == pytest.approx(1.0)


def test_a_probability_is_the_mixture_written_out():
    source = Source(SMALL)
    tokens = torch.tensor([[1, 0, 2, 1]])
    first, second = source.tables
    zipf = np.array([1, 1 / 2, 1 / 3]) / (11 / 6)
    expected = [
        zipf[1],
        (0.5 * zipf[0] + 0.2 * (first[1] == 0).item()) / 0.7,
        0.5 * zipf[2] + 0.2 * (first[0] == 2).item() + 0.3 * (second[1 * 3 + 0] == 2).item(),
        0.5 * zipf[1] + 0.2 * (first[2] == 1).item() + 0.3 * (second[0 * 3 + 2] == 1).item(),
    ]
    np.testing.assert_allclose(source.log_probs(tokens)[0].exp(), expected)
    assert source.floor(tokens) == pytest.approx(-np.mean(np.log(expected[1:])))


def test_text_comes_as_often_as_its_probability_says():
    source = Source(SMALL)
    tokens = source.sample(40_000, 3, seed=1)
    every = torch.tensor(list(itertools.product(range(3), repeat=3)))
    p = source.log_probs(every).sum(1).exp().numpy()
    counts = np.bincount((tokens * torch.tensor([9, 3, 1])).sum(1).numpy(), minlength=27)
    assert (np.abs(counts - 40_000 * p) < 5 * np.sqrt(40_000 * p + 1)).all()


def test_text_depends_on_its_seed_alone_and_the_language_on_the_source():
    one, other = Source(SMALL), Source(SMALL)
    assert (one.sample(5, 6, seed=3) == other.sample(5, 6, seed=3)).all()
    assert (one.sample(50, 6, seed=3) != one.sample(50, 6, seed=4)).any()
    with pytest.raises(ValueError, match="sum to 1"):
        SourceConfig(weights=(0.5, 0.4))


X = np.array([1e3, 3e3, 1e4, 3e4, 1e5])


@pytest.mark.parametrize(
    ("shape", "truth"),
    [
        ("power law", lambda x: 1.5 + (400 / x) ** 0.4),
        ("exponential", lambda x: 1.5 + 0.8 * np.exp(-x / 2e4)),
        ("stretched", lambda x: 1.5 + 0.8 * np.exp(-0.01 * np.sqrt(x))),
    ],
)
def test_a_planted_law_is_found_and_the_others_fit_worse(shape, truth):
    fits = {name: fit_scaling_law(X, truth(X), name) for name in ("power law", "exponential", "stretched")}
    assert fits[shape].floor == pytest.approx(1.5, abs=1e-4)
    np.testing.assert_allclose(fits[shape](X * 10), truth(X * 10), atol=1e-4)
    assert min(fits, key=lambda name: fits[name].residual) == shape
    if shape == "power law":
        assert fits[shape].rate == pytest.approx(0.4, abs=1e-4) and fits[shape].scale == pytest.approx(400, rel=1e-3)
        assert fit_scaling_law(X, truth(X), floor=1.5).rate == pytest.approx(0.4, abs=1e-5)


def test_the_aic_is_that_of_normal_residuals():
    generator = np.random.default_rng(0)
    loss = 1 + X**-0.3 + generator.normal(0, 0.01, 5)
    fit = fit_scaling_law(X, loss)
    assert fit.aic == pytest.approx(5 * np.log(np.mean((fit(X) - loss) ** 2)) + 8, rel=1e-6)


def test_fit_scaling_law_interval_covers_the_planted_exponent():
    exact = np.repeat((1 + (400 / X) ** 0.4)[:, None], 3, 1)
    low, high = bootstrap_scaling_law(X, exact, n=20).rate
    assert low == pytest.approx(0.4, abs=1e-3) and high == pytest.approx(0.4, abs=1e-3)
    noisy = exact + np.random.default_rng(1).normal(0, 0.005, exact.shape)
    rate, floor = bootstrap_scaling_law(X, noisy, n=100)
    assert rate[0] < 0.4 < rate[1] and floor[0] < 1 < floor[1]


def test_claims_hold_on_a_planted_power_law_and_not_on_an_exponential():
    def laws(truth):
        noise = np.random.default_rng(2).normal(0, 2e-3, (5, 3))
        table = scaling_laws.pd.DataFrame(
            [
                {"parameters": x, "seed": seed, "loss": truth(x) + noise[i, seed]}
                for i, x in enumerate(X)
                for seed in range(3)
            ]
        )
        return Laws.of(table, "parameters", 50)

    power = laws(lambda x: 1.5 + (400 / x) ** 0.4)
    other = laws(lambda x: 1.5 + 0.9 * np.exp(-x / 1e4))
    assert [claim.holds for claim in claims({"parameters": power, "data": power}, 1.5)] == [
        True,
        True,
        True,
        True,
        None,
        None,
    ]
    assert [claim.holds for claim in claims({"parameters": other, "data": other}, 1.5)][1] is False


def test_quick_run_counts_weights(tmp_path):
    results = scaling_laws.main(["--quick", "--threads", "1", "--out", str(tmp_path)])
    width, layers = 4, 2
    block = 4 * (width * width + width) + 2 * 4 * width * width + 4 * width + width + 4 * width
    assert results["values"]["losses"][0]["parameters"] == layers * block + 2 * width
    assert {claim["row"] for claim in results["claims"]} == {"21a", "21b", "21c", "21d", "21e", "21f"}
    hold_to_prose("scaling_laws", tmp_path)
