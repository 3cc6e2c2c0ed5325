"""The measures against their definitions written out, and against points whose modes are known."""

import numpy as np
import pytest
import torch
from scipy import stats

from interp.codes.reading import read_chunks
from interp.codes.sampling import FiringSampler, hashed
from interp.codes.sparse_codes import SparseCodes
from interp.metrics.null_scale import null_scale, rows_per_group
from interp.monosemanticity.calibration import Calibration, fit_calibration
from interp.monosemanticity.cohesion import NAMES, measure_cohesion
from interp.monosemanticity.contexts import FUTURE, PAST, fit_contexts
from interp.monosemanticity.evidence import collect_evidence
from interp.monosemanticity.firings import PairSummer
from interp.monosemanticity.senses import part_senses, sense_stability
from interp.monosemanticity.splits import CHANCE, FLOOR, Sample, best_split, candidate_splits, ratio_of, similarities
from interp.monosemanticity.views import NAMES as VIEWS
from interp.monosemanticity.views import fit_views, token_forms


def random_codes(rng, n_rows, d_sae, share=0.3):
    z = rng.gamma(2, 1, (n_rows, d_sae)) * (rng.random((n_rows, d_sae)) < share)
    return z.astype(np.float32), SparseCodes.from_dense(torch.from_numpy(z.astype(np.float32)))


def test_pair_sums_are_all_pairs_of_firings_in_different_groups():
    rng = np.random.default_rng(0)
    n_rows, per_group, dim = 60, 5, 4
    z, codes = random_codes(rng, n_rows, 3)
    e = rng.normal(size=(n_rows, 2 * dim)).astype(np.float32)
    summer = PairSummer(3, e.__getitem__, per_group, n_blocks=2)
    for chunk in read_chunks(codes, per_group, maxima=z.max(0)):
        summer.add(chunk)
    sums = summer.result()
    a, group = z / z.max(0), np.arange(n_rows) // per_group
    apart = group[:, None] != group[None, :]
    for latent in range(3):
        weights = np.outer(a[:, latent], a[:, latent]) * apart
        for block, part in enumerate((e[:, :dim], e[:, dim:])):
            expected = (weights * (part @ part.T)).sum() / weights.sum()
            assert sums.coherences[latent, block] == pytest.approx(expected, abs=1e-4)
        assert sums.n_groups[latent] == len(np.unique(group[z[:, latent] > 0]))


def test_a_burst_of_firings_earns_no_coherence():
    """Each sequence has a context of its own, and the latent fires in bursts: firings of one sequence are alike."""
    rng = np.random.default_rng(1)
    per_group, dim = 16, 32
    directions = rng.normal(size=(100, dim))
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    e = np.repeat(directions, per_group, 0).astype(np.float32)
    z = (np.arange(len(e)) % per_group < 8).astype(np.float32)[:, None]
    summer = PairSummer(1, np.hstack([e, e]).__getitem__, per_group, n_blocks=2)
    (chunk,) = read_chunks(SparseCodes.from_dense(torch.from_numpy(z)), per_group, maxima=z.max(0))
    summer.add(chunk)
    assert abs(summer.result().coherences[0, 0]) < 0.01


def hash_of(seed: int, row: int, latent: int) -> int:
    of_row = np.uint64(hashed(np.uint64(seed), np.uint64(row)))
    return int(hashed(of_row, np.uint64(latent))) >> 11


def test_a_sample_is_uniform_within_slices_and_takes_one_firing_a_group():
    rng = np.random.default_rng(2)
    n_rows, per_group = 3000, 10
    z, codes = random_codes(rng, n_rows, 2)
    sampler = FiringSampler(2, 4, 16, seed=3, rows_per_group=per_group)
    for chunk in read_chunks(codes, per_group, maxima=z.max(0)):
        sampler.add(chunk)
    for latent in range(2):
        slices = np.ceil(z[:, latent] / z[:, latent].max() * 4) - 1
        for part in range(4):
            best: dict[int, tuple[int, int]] = {}  # of each group the firing of the least key
            for row in np.flatnonzero(slices == part).tolist():
                group = row // per_group
                best[group] = min(best.get(group, (1 << 64, 0)), (hash_of(3, row, latent), row))
            rows = sampler.rows[latent, part]
            assert sorted(rows[rows >= 0]) == sorted(row for _, row in sorted(best.values())[:16])
    many = FiringSampler(1, 1, 500, seed=0, rows_per_group=1)
    for chunk in read_chunks(SparseCodes.from_dense(torch.ones(n_rows, 1))):
        many.add(chunk)
    assert stats.kstest(many.rows[0, 0] / n_rows, "uniform").pvalue > 1e-3


def test_an_embedding_sums_the_window_without_its_middle_and_stays_in_its_sequence():
    rng = np.random.default_rng(4)
    n_ctx = 40
    tokens = rng.integers(20, size=(50, n_ctx)).astype(np.int32)
    contexts = fit_contexts(torch.from_numpy(tokens), 20)
    embedded = contexts.embed(tokens, np.arange(tokens.size)).reshape(*tokens.shape, -1)
    for sequence, position in [(0, 0), (7, 20), (49, n_ctx - 1)]:
        reach = range(position - PAST, position + FUTURE + 1)
        window = [p for p in reach if 0 <= p < n_ctx and p != position]
        expected = contexts.summands[tokens[sequence, window]].sum(0) - contexts.mean
        np.testing.assert_allclose(embedded[sequence, position], expected / np.linalg.norm(expected), atol=1e-5)


def test_tokens_of_one_topic_get_like_vectors():
    rng = np.random.default_rng(5)
    topic = rng.integers(4, size=(200, 1))
    tokens = torch.from_numpy((topic * 10 + rng.integers(10, size=(200, 32))).astype(np.int32))
    vectors = fit_contexts(tokens, 41).token_vectors
    cosine = (vectors @ vectors.T)[:40, :40]
    same = np.arange(40)[:, None] // 10 == np.arange(40)[None, :] // 10
    assert cosine[same].mean() > 0.8 and cosine[~same].mean() < 0.1
    assert not vectors[40].any()


def test_token_ids_beyond_the_vocabulary_are_refused():
    with pytest.raises(ValueError, match="from 0 to 9, but the vocabulary has 5"):
        fit_contexts(torch.arange(10, dtype=torch.int32)[None], 5)


def test_null_z_is_standard_normal_under_the_null_at_every_size():
    rng = np.random.default_rng(7)
    size = rng.uniform(10, 1000, 4000)
    nulls, observed = (0.05 + rng.normal(size=(k, 4000)) / size for k in (2, 1))
    scale = null_scale(observed[0], nulls, size, size_exponent=1.0)
    z = scale.z
    inside = (scale.low <= observed[0]) & (observed[0] <= scale.high)
    assert inside.mean() == pytest.approx(0.95, abs=0.02)
    for part in (size < 200, size > 700):
        assert abs(z[part].mean()) < 0.15 and 0.85 < z[part].std() < 1.15
    shifted = null_scale(observed[0] + 10 / size, nulls, size, size_exponent=1.0)
    assert shifted.z.mean() == pytest.approx(10, abs=0.5)
    nothing = null_scale(np.array([np.nan, 1.0]), np.full((1, 2), np.nan), np.ones(2))
    assert all(np.isnan(part).all() for part in nothing)


def cloud(rng, centres, counts, spread=1.0):
    """Points of one view each around its own centre, in the other views noise; and which centre each has."""
    which = np.repeat(np.arange(len(counts)), counts)
    points = rng.normal(size=(len(which), 3, 16)).astype(np.float32) * spread
    for i, (view, centre) in enumerate(centres):
        points[which == i, view] += centre
    return points, which


def halves(n):
    return np.arange(n) % 2 == 1


def sample_of(points, test, mass=None, strong=None, density=0.01):
    n = len(points)
    mass = np.full(n, 1 / n) if mass is None else mass
    return Sample.of(points, test, mass[None], np.zeros(n, bool) if strong is None else strong, density)


def test_similarities_are_dot_products_of_weighted_means():
    rng = np.random.default_rng(8)
    points, mass = rng.normal(size=(40, 3, 4)).astype(np.float32), rng.random(30)
    own, test, side = np.sort(rng.permutation(40)[:30]), rng.random(30) < 0.5, rng.integers(-1, 2, 30)
    between, within, shared = similarities(points, own, test, side, mass)
    cells = [(side == s) & (test == t) for s in (0, 1) for t in (False, True)]
    means = [np.average(points[own[cell]], axis=0, weights=mass[cell]) for cell in cells]
    in_view = np.array([[means[i][v] @ means[i + 1][v] for v in range(3)] for i in (0, 2)])
    assert within == pytest.approx(in_view.max(1).min(), abs=1e-4)
    crossed = np.array([(means[0][v] @ means[3][v] + means[2][v] @ means[1][v]) / 2 for v in range(3)])
    crossed -= CHANCE * np.sqrt(np.maximum(in_view, 0).prod(0))
    assert between == pytest.approx(crossed.max(), abs=1e-4)
    assert shared == pytest.approx(np.log1p(np.maximum(crossed, 0)).sum(), abs=1e-4)
    assert ratio_of(between, within) == pytest.approx(
        (max(*crossed, 0) + FLOOR) / (max(in_view.max(1).min(), 0) + FLOOR)
    )


def lloyd(points, centres):
    """Centres, and the sum of squared distances to the nearer one."""
    for _ in range(10):
        side = np.square(points[:, None] - centres).sum(2).argmin(1)
        if not 0 < side.sum() < len(side):
            return centres, np.inf
        centres = np.stack([points[side == s].mean(0) for s in (0, 1)])
    return centres, np.square(points[:, None] - centres).sum(2).min(1).sum()


def test_splits_are_the_best_two_means_of_three_starts():
    """Of part of a latent's firings, in each view and in all: by points, where the library asks for products only."""
    rng = np.random.default_rng(15)
    every, which = cloud(rng, [(0, 4 * np.eye(16)[0]), (1, 3 * np.eye(16)[1])], (60, 60))
    test, chosen = rng.random(120) < 0.5, np.sort(rng.permutation(120)[:90])
    found = candidate_splits(sample_of(every, test).part(chosen))
    assert len(found) == 4
    for view, split in enumerate(found):
        points = (every if view == 3 else every[:, [view]]).reshape(120, -1)[chosen].astype(float)
        fit = points[~test[chosen]]
        mean = fit.mean(0)
        far = fit[np.square(fit - mean).sum(1).argmax()]
        other = fit[np.square(fit - far).sum(1).argmax()]
        direction = far - mean
        for _ in range(8):
            direction = (fit - mean).T @ ((fit - mean) @ direction)
            direction /= np.linalg.norm(direction)
        starts = [(mean - direction, mean + direction), (far, other), (mean, other)]
        centres, _ = min((lloyd(fit, np.stack(start)) for start in starts), key=lambda pair: pair[1])
        side = np.square(points[:, None] - centres).sum(2).argmin(1) == 1
        assert (side == split.side).all()
        assert split.part_share == pytest.approx(min(side.mean(), 1 - side.mean()))


def test_unrelated_parts_have_no_similarity_and_parts_of_one_meaning_have():
    rng = np.random.default_rng(9)
    e = np.eye(16, dtype=np.float32)
    apart, _ = cloud(rng, [(0, 5 * e[0]), (1, 5 * e[1])], (40, 40))
    # Two topics, but always after the same token: the third view holds them together.
    held, _ = cloud(rng, [(0, 5 * e[0]), (0, 5 * e[1])], (40, 40))
    held[:, 2] += 5 * e[2]
    assert best_split(candidate_splits(sample_of(apart, halves(80))), 0.2).between_within_ratio < 0.2
    assert best_split(candidate_splits(sample_of(held, halves(80))), 0.2).between_within_ratio > 0.9 - CHANCE


def test_a_split_needs_mass_on_either_side():
    rng = np.random.default_rng(10)
    e = np.eye(16, dtype=np.float32)
    points, which = cloud(rng, [(0, 6 * e[0]), (1, 6 * e[1])], (40, 40), spread=0.1)
    mass = np.where(which == 0, 0.95, 0.05) / 40
    splits = candidate_splits(sample_of(points, halves(80), mass))
    assert best_split(splits, 0.04).between_within_ratio < 0.1
    assert best_split(splits, 0.2) is None or best_split(splits, 0.2).between_within_ratio > 0.8


def test_cohesion_is_its_definition():
    rng = np.random.default_rng(11)
    points = rng.normal(0.5, 1, (60, 3, 8)).astype(np.float32)
    test, mass, strong = halves(60), rng.random(60), rng.random(60) < 0.5
    values = dict(zip(NAMES, measure_cohesion(sample_of(points, test, mass, strong)).values[0], strict=True))
    means = [np.average(points[part], axis=0, weights=mass[part]) for part in (~test, test)]
    along = np.array([[p[r] @ means[o][r] / np.linalg.norm(means[o][r]) for r in range(3)]
                      for p, o in zip(points, np.where(test, 0, 1), strict=True)])  # fmt: skip
    mean = np.average(along, axis=0, weights=mass)
    best = mean.argmax()
    assert values["effect_size"] == pytest.approx(mean[best], rel=1e-4)
    core = mass[along[:, best] > max(mean[best] / 2, 0.5)].sum() / mass.sum()
    assert values["core_share"] == pytest.approx(core, rel=1e-4)
    cell = {(s, t): np.average(points[(strong == s) & (test == t)], axis=0, weights=mass[(strong == s) & (test == t)])
            for s in (True, False) for t in (True, False)}  # fmt: skip
    own = (cell[True, False] * cell[True, True]).sum(1)
    across = ((cell[True, False] * cell[False, True]).sum(1) + (cell[True, True] * cell[False, False]).sum(1)) / 2
    r = own.argmax()
    assert values["consistency"] == pytest.approx((max(across[r], 0) + FLOOR) / (max(own[r], 0) + FLOOR), rel=1e-3)
    pairs = [(i, j) for i in np.flatnonzero(~test) for j in np.flatnonzero(test)]
    weights = [mass[i] * mass[j] for i, j in pairs]
    cosines = [
        np.average([points[i, r] @ points[j, r] / np.linalg.norm(points[i, r]) / np.linalg.norm(points[j, r])
                    for i, j in pairs], weights=weights)
        for r in (0, 1)  # surroundings and token, but not the rest
    ]  # fmt: skip
    assert values["cosine"] == pytest.approx(max(cosines), rel=1e-3)


def test_unshared_rarity_is_what_the_two_sides_leave_unexplained():
    """A latent of one token in a hundred: sides that share a direction worth ln(1 + 99) nats explain all of it."""
    rng = np.random.default_rng(16)
    e, strong = np.eye(16, dtype=np.float32), rng.random(160) < 0.5
    apart, _ = cloud(rng, [(0, 10 * e[0]), (0, 10 * e[1])], (80, 80), spread=0.1)
    held = apart.copy()
    held[:, 1] += np.float32(99**0.5) * e[2]
    for density in (0.01, 0.0001):
        rarity = [
            dict(
                zip(
                    NAMES,
                    measure_cohesion(sample_of(points, halves(160), None, strong, density)).values[0],
                    strict=True,
                )
            )["unshared_rarity"]
            for points in (apart, held)
        ]
        assert rarity[0] == pytest.approx(-np.log(density), abs=0.3)
        assert rarity[1] == pytest.approx(max(0, -np.log(density) - np.log(100)), abs=0.5)
    part = sample_of(held, halves(160), None, strong, 0.01).part(np.arange(40))
    assert part.density == pytest.approx(0.0025)


@pytest.mark.parametrize("n_senses", [1, 2, 3])
def test_senses_are_counted_and_their_firings_told_apart(n_senses):
    rng = np.random.default_rng(12)
    has_one = Calibration.load().probability
    exact, right = [], []
    for _ in range(20):
        centres = [(i % 3, 8 * rng.normal(size=16) / 4) for i in range(n_senses)]
        points, which = cloud(rng, centres, (160 // n_senses,) * n_senses)
        test = rng.random(len(which)) < 0.5
        sample = sample_of(points, test, strong=rng.random(len(which)) < 0.5)
        senses = part_senses(sample, measure_cohesion(sample), has_one)
        exact.append(senses.max() + 1 == n_senses)
        right.append(np.mean([np.bincount(senses[which == i] + 1).max() / (which == i).sum() for i in range(n_senses)]))
    assert np.mean(exact) > 0.8 and np.mean(right) > 0.9


def test_senses_that_are_there_are_found_again_and_others_are_not():
    rng = np.random.default_rng(14)
    has_one = Calibration.load().probability
    centres = [(0, 3 * rng.normal(size=16)), (1, 3 * rng.normal(size=16))]
    points, which = cloud(rng, centres, (80, 80))
    test = rng.random(160) < 0.5
    sample = sample_of(points, test, strong=rng.random(160) < 0.5)
    draws = rng.poisson(1.0, (6, 160)).astype(float)

    def stability(sense):
        return sense_stability(sample, sense, draws, has_one)

    assert 0.9 < stability(which).min() and stability(which).max() <= 1
    # A part that mixes both meanings shares at most half of what it holds with either: 40 of 40 + 80.
    assert stability((np.arange(160) // 40 % 2).astype(np.int64)).max() < 0.45


def test_views_of_a_position_come_from_its_own_sequence():
    """Whitened tables by token; nothing beyond the edge of a sequence is a neighbour."""
    rng = np.random.default_rng(13)
    tokens = rng.integers(20, size=(60, 12)).astype(np.int32)
    contexts = fit_contexts(torch.from_numpy(tokens), 20)
    found = fit_views(tokens, contexts, [f"w{i}" for i in range(20)])
    points = found.embed(np.arange(tokens.size)).reshape(60, 12, len(VIEWS), -1)
    name = VIEWS.index
    assert not points[:, 0, name("previous_same")].any() and not points[:, -1, name("next_same")].any()
    np.testing.assert_array_equal(points[:, 1:, name("previous_same")], points[:, :-1, name("same")])
    np.testing.assert_array_equal(points[:, :-1, name("next")], points[:, 1:, name("role")])
    np.testing.assert_array_equal(points[:, 1:, name("previous")], points[:, :-1, name("role")])
    assert (points[:, 0, name("recent")] == points[0, 0, name("recent")]).all(), "nothing stands before any of them"
    # Over the text each view has mean zero, and no direction with more than unit variance.
    for view in ("same", "form", "role", "surroundings", "recent", "position"):
        own = points[:, :, name(view)].reshape(-1, points.shape[-1])
        assert np.abs(own.mean(0)).max() < 0.1 and np.linalg.eigvalsh(np.cov(own.T)).max() < 1.1


def test_spelling_puts_scripts_and_endings_together():
    forms = token_forms([" walking", " talking", " τον", " της", "17", "42", "don"])
    cosine = forms @ forms.T
    assert cosine[0, 1] > 0.5 and cosine[2, 3] > 0.5 and cosine[4, 5] > 0.5
    assert max(cosine[0, 2], cosine[0, 4], cosine[2, 4]) < 0.4


def test_a_calibration_learns_the_share_and_survives_its_file(tmp_path):
    rng = np.random.default_rng(14)
    values = np.abs(rng.normal(size=(4000, len(NAMES))))
    one = rng.random(4000) < 1 / (1 + np.exp(-4 * (values[:, NAMES.index("core_share")] - 0.7)))
    fitted = fit_calibration(values[:2000], one[:2000], np.arange(2000) % 5)
    p = fitted.probability(values[2000:])
    for low in (0.1, 0.4, 0.7):
        own = (p > low) & (p < low + 0.2)
        assert one[2000:][own].mean() == pytest.approx(p[own].mean(), abs=0.1)
    fitted.save(tmp_path / "calibration.json")
    np.testing.assert_allclose(
        Calibration.load(tmp_path / "calibration.json").probability(values), fitted.probability(values), atol=1e-4
    )
    with pytest.raises(ValueError, match="with several"):
        fit_calibration(values, np.ones(4000, bool), np.zeros(4000))


def test_shares_add_up_to_the_mass_of_each_slice():
    rng = np.random.default_rng(11)
    z, codes = random_codes(rng, 3000, 2)
    sampler = FiringSampler(2, 4, 16, seed=0, rows_per_group=10)
    for chunk in read_chunks(codes, 10, maxima=z.max(0)):
        sampler.add(chunk)
    for latent in range(2):
        part = np.clip(np.ceil(z[:, latent] / z[:, latent].max() * 4).astype(int) - 1, 0, 3)
        mass = np.bincount(part, z[:, latent], minlength=4) / z[:, latent].sum()
        np.testing.assert_allclose(sampler.shares[latent].sum(1), mass, rtol=1e-4)


def test_evidence_without_any_firing_is_not_testable():
    codes = SparseCodes.from_dense(torch.zeros(64, 3))
    tokens = torch.arange(64, dtype=torch.int32).reshape(8, 8) % 5
    evidence = collect_evidence(
        tokens,
        codes,
        n_vocab=5,
        maxima=np.zeros(3, np.float32),
        has_one=lambda values: 1.0,
    )
    assert not evidence.testable.any() and np.isnan(evidence.null("context_coherence").z).all()
    assert (evidence.n_senses == 0).all()


@pytest.mark.parametrize(
    ("n_seq", "n_ctx", "rows"),
    [
        *((n_seq, 128, 128) for n_seq in (1, 15, 192, 1023)),
        *((n_seq, 128, 256) for n_seq in (1024, 1100)),
        *((n_seq, 128, 8 * 128) for n_seq in (4096, 100_000)),
        *((n_seq, 255, 255) for n_seq in (1, 15, 1023)),
        *((n_seq, 2000, 2000) for n_seq in (160, 1023)),
        (159, 2000, 1000),
        (15, 2000, 182),
        (2, 2000, 134),
        (1, 1 << 20, (1 << 20) // 160 + 1),
    ],
)
def test_only_long_sequences_are_cut_and_only_where_there_are_few(n_seq, n_ctx, rows):
    assert rows_per_group(n_seq, n_ctx) == rows
    assert rows >= min(n_ctx, 128)
