"""Latents of planted kinds are told apart, and the closed form equals a least-squares fit of one row a latent."""

import numpy as np
import pytest
import torch

from analyses.essay.model_diffing import LatentScaling, diff_table, latent_scaling, mean_difference, relative_norms
from interp.sae import Crosscoder, Threshold

D = 6


def planted(n: int = 4000) -> torch.Tensor:
    """Six exclusive-or-not concepts along the axes, each on a fifth of the rows: 0 shared, 1 the second model's alone,
    2 in the first at half the strength, 3 written with another latent, 4 the first model's alone, 5 shared."""
    z = torch.rand(n, D, generator=torch.Generator().manual_seed(0)) + 0.5
    z = z * (torch.rand(n, D, generator=torch.Generator().manual_seed(1)) < 0.2)
    first = z * torch.tensor([1.0, 0.0, 0.5, 1.0, 1.0, 1.0])
    second = z * torch.tensor([1.0, 1.0, 1.0, 1.0, 0.0, 1.0])
    return torch.cat([first, second], 1)


def crosscoder(scales=(1.0, 1.0)) -> Crosscoder:
    """Its latents: the six concepts, what of 2 and 3 is in the first model left out; and 6, which writes 3 there."""
    W_enc, W_dec = torch.zeros(2 * D, D + 1), torch.zeros(D + 1, 2 * D)
    for j in range(D):
        side = 0 if j == 4 else D
        W_enc[side + j, j] = 1
        W_dec[j, D + j] = 0.0 if j == 4 else 1.0
        W_dec[j, j] = 0.0 if j in (1, 2, 3) else 1.0
    W_enc[3, 6], W_dec[6, 3] = 1, 1
    rule = Threshold(torch.zeros(D + 1))
    return Crosscoder(
        W_enc=W_enc,
        W_dec=W_dec,
        b_enc=torch.zeros(D + 1),
        b_dec=torch.zeros(2 * D),
        encoder=rule,
        widths=(D, D),
        scales=scales,
    )


def test_relative_norms_run_from_the_first_models_alone_to_the_seconds():
    norms = torch.tensor([[1.0, 0.0], [2.0, 2.0], [0.0, 3.0], [1.0, 2.0], [0.0, 0.0]])
    assert relative_norms(norms).tolist() == [0, 0.5, 1, 0.75, 0.5]


def test_latent_scaling_separates_shrunk_and_decoupled_latents_from_genuine_ones():
    coder, x = crosscoder(), planted()
    table = diff_table(coder, latent_scaling(coder, x.split(1000))).set_index("latent")
    assert table["kind"].tolist() == ["shared", "second", "second", "second", "first", "shared", "first"]
    assert table.loc[[0, 5], "nu_error"].tolist() == pytest.approx([1, 1], abs=1e-6)
    assert table.loc[1, ["nu_error", "nu_reconstruction"]].tolist() == pytest.approx([0, 0], abs=0.15)
    assert table.loc[2, "nu_error"] == pytest.approx(0.5, abs=1e-6)  # half of it is in the first model's error
    assert table.loc[3, "nu_error"] == pytest.approx(0, abs=1e-6)
    assert table.loc[3, "nu_reconstruction"] == pytest.approx(1, abs=1e-6)  # and here all, in the reconstruction
    assert table.index[table["genuine"]].tolist() == [1, 4]


def test_the_closed_form_is_the_least_squares_fit():
    generator = torch.Generator().manual_seed(3)
    given = {"W_enc": torch.randn(8, 5, generator=generator), "W_dec": torch.randn(5, 8, generator=generator)}
    given |= {"b_enc": torch.rand(5, generator=generator), "b_dec": torch.randn(8, generator=generator)}
    coder = Crosscoder(**given, encoder=Threshold(torch.zeros(5)), widths=(4, 4), scales=(1.5, 0.5))
    x = torch.randn(300, 8, generator=generator)
    found = latent_scaling(coder, x.split(70))
    z = coder.encode(x).double().numpy()
    W, scales = coder.W_dec.double().numpy(), np.repeat([1.5, 0.5], 4)
    error = ((x - coder(x)).double().numpy() * scales).reshape(300, 2, 4)
    written = (z @ W * scales).reshape(300, 2, 4)
    rows = (W * scales).reshape(5, 2, 4)
    for j in range(5):
        owner = int(np.linalg.norm(rows[j], axis=1).argmax())
        one = (z[:, j, None] * rows[j, owner]).ravel()[:, None]  # the latent's contribution, as one regressor

        def beta(y, one=one):
            return np.linalg.lstsq(one, y.ravel(), rcond=None)[0][0]

        back = [error[:, m] + z[:, j, None] * rows[j, m] for m in (0, 1)]
        assert float(found.nu_error[j]) == pytest.approx(beta(back[1 - owner]) / beta(back[owner]), rel=1e-4)
        expected = beta(written[:, 1 - owner]) / beta(written[:, owner])
        assert float(found.nu_reconstruction[j]) == pytest.approx(expected, rel=1e-4)
    halves = x.reshape(300, 2, 4).double()
    for m in (0, 1):
        variance = (halves[:, m] - halves[:, m].mean(0)).square().sum() * float(scales[4 * m]) ** 2
        assert found.fvu[m] == pytest.approx(float((error[:, m] ** 2).sum() / variance), rel=1e-4)
    assert found.l0 == pytest.approx((z > 0).sum() / 300) and found.fired.tolist() == (z > 0).sum(0).tolist()


def test_the_mean_difference_and_its_share():
    x = torch.tensor([[0.0, 0.0, 2.0, 1.0], [1.0, 1.0, 3.0, 0.0]])  # differences (2, 1) and (2, -1)
    found = mean_difference(x.split(1))
    assert found.direction.tolist() == [2, 0] and found.explained == pytest.approx(8 / 10)
    assert mean_difference([torch.cat([x, x], 1)]).explained == 0


def test_rare_latents_are_left_out_and_other_crosscoders_refused():
    coder, x = crosscoder(), planted(40)
    fired = latent_scaling(coder, [x]).fired
    assert len(diff_table(coder, latent_scaling(coder, [x]), min_fired=8)) == int((fired >= 8).sum()) < 7
    coder.widths = (4, 8)
    with pytest.raises(ValueError, match=r"\(4, 8\)"):
        latent_scaling(coder, [x])
    with pytest.raises(ValueError, match="scaling is of 3 latents, the crosscoder has 7"):
        diff_table(crosscoder(), LatentScaling(*[torch.zeros(3)] * 3, (0, 0), 0))
    with pytest.raises(ValueError, match="the rows are 5 wide: two models"):
        mean_difference([torch.zeros(2, 5)])


class BatchesOfHooks(list):
    hook_names = ("b", "a")


def test_batches_of_the_hooks_in_another_order_are_refused():
    coder = crosscoder()
    coder.metadata["hook_names"] = ["a", "b"]
    with pytest.raises(ValueError, match="the batches are of b, a, the crosscoder reads a, b"):
        latent_scaling(coder, BatchesOfHooks([planted(40)]))
