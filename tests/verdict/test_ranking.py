"""The ranking against planted truth: topics, and latents that are one factor, several, a token, noise, rare or dead."""

import inspect
from dataclasses import dataclass

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.metrics import roc_auc_score

from interp.codes.code_store import CodeStore
from interp.codes.sparse_codes import SparseCodes
from interp.features.feature_store import FeatureStore
from interp.text.predicate_kinds import PREDICATE_KINDS
from interp.verdict.evidence import collect_evidence
from interp.verdict.measures import MEASURES, Measure, measure_values
from interp.verdict.ranking import rank_codes, rank_features
from interp.verdict.ranking_config import N_SHIFTS, RankingConfig
from interp.verdict.ranking_tables import MIN_CHARACTERS, N_FIRST, Ranking, ranking_evidence, worth_a_look
from interp.verdict.similarity import STATISTIC_NAMES
from interp.verdict.verdict_shares import verdict_shares

N_TOPICS, PER_TOPIC, N_FUNCTION, N_CTX = 12, 40, 40, 64
LEXICAL = (0, 1, N_FUNCTION, N_FUNCTION + 7 * PER_TOPIC, N_FUNCTION + 5 * PER_TOPIC + 1)
VOCAB = [f"f{i}" for i in range(N_FUNCTION)] + [f"{chr(97 + t)}{i}" for t in range(N_TOPICS) for i in range(PER_TOPIC)]


@dataclass(frozen=True)
class World:
    tokens: torch.Tensor
    z: np.ndarray
    kinds: np.ndarray
    n_factors: np.ndarray


def zipf(n, exponent, rng, size):
    p = np.arange(1, n + 1) ** -exponent
    return rng.choice(n, p=p / p.sum(), size=size)


def planted_world(seed=0, n_seq=1024, n_mono=50, n_poly=50):
    """Sequences of two topics, half content words. A factor fires on a share of the positions (all, content or function
    words) of one topic; a polysemantic latent is two or three factors of different topics."""
    rng = np.random.default_rng(seed)
    cut, pair = rng.integers(N_CTX, size=(n_seq, 1)), rng.integers(N_TOPICS, size=(n_seq, 2))
    topic = np.where(np.arange(N_CTX) < cut, pair[:, :1], pair[:, 1:])
    content = rng.random(topic.shape) < 0.5
    words = N_FUNCTION + topic * PER_TOPIC + zipf(PER_TOPIC, 0.8, rng, topic.shape)
    tokens = np.where(content, words, zipf(N_FUNCTION, 1.0, rng, topic.shape))
    flat, topic, content = tokens.ravel(), topic.ravel(), content.ravel()

    def factor(t):
        where = (topic == t) & (np.ones_like(content), content, ~content)[rng.integers(3)]
        return where & (rng.random(where.size) < rng.uniform(0.1, 0.5))

    columns, kinds, n_factors = [], [], []

    def add(kind, column, n=0):
        columns.append(column)
        kinds.append(kind)
        n_factors.append(n)

    for _ in range(n_mono):
        add("mono", factor(rng.integers(N_TOPICS)), 1)
    for i in range(n_poly):
        topics = rng.choice(N_TOPICS, 2 + i % 2, replace=False)
        add("poly", np.logical_or.reduce([factor(t) for t in topics]), 2 + i % 2)
    for token in LEXICAL:
        add("single-token", flat == token)
    for share in (0.12, 0.2, 0.6, 0.7):
        add("dense", rng.random(flat.size) < share)
    for _ in range(3):
        add("too-rare", np.isin(np.arange(flat.size), rng.choice(flat.size, 6, replace=False)))
    add("dead", np.zeros(flat.size, bool))
    z = np.stack(columns, 1) * rng.gamma(2, 1, (flat.size, len(columns)))
    return World(torch.from_numpy(tokens.astype(np.int32)), z.astype(np.float32), np.array(kinds), np.array(n_factors))


def store_of(world, path, z=None):
    codes = SparseCodes.from_dense(torch.from_numpy(world.z if z is None else z))
    return FeatureStore.from_codes(world.tokens, codes, path, vocab=VOCAB)


@pytest.fixture(scope="module")
def world():
    return planted_world()


@pytest.fixture(scope="module")
def store(world, tmp_path_factory):
    return store_of(world, tmp_path_factory.mktemp("planted") / "features")


@pytest.fixture(scope="module")
def ranking(store):
    return rank_features(store, n_shifts=2)


@pytest.fixture(scope="module")
def moved(world, tmp_path_factory):
    """Return the ranking of the same codes on the wrong text."""
    z = np.roll(world.z, len(world.z) // 3 + 5, axis=0)
    return by_latent(rank_features(store_of(world, tmp_path_factory.mktemp("moved") / "features", z), n_shifts=2))


@pytest.fixture(scope="module")
def part(world):
    """Return the first 384 sequences and a fifth of the latents."""
    n_seq, some = 384, slice(None, None, 5)
    return World(world.tokens[:n_seq], world.z[: n_seq * N_CTX, some], world.kinds[some], world.n_factors[some])


@pytest.fixture(scope="module")
def masks(part):
    topical = torch.from_numpy(np.repeat(np.arange(len(part.tokens)) % 3 == 0, N_CTX).reshape(-1, N_CTX))
    return {"early": part.tokens < N_FUNCTION, "third": topical}


@pytest.fixture(scope="module")
def labelled(part, masks, tmp_path_factory):
    codes, out = SparseCodes.from_dense(torch.from_numpy(part.z)), tmp_path_factory.mktemp("labelled")
    return FeatureStore.from_codes(part.tokens, codes, out, vocab=VOCAB, labels=masks)


@pytest.fixture(scope="module")
def rows_read():
    """Return the number of rows of each part of the codes that the ranking `plain` reads."""
    return []


@pytest.fixture(scope="module")
def plain(labelled, rows_read):
    """Ranked without masks."""
    read = CodeStore.__getitem__

    def counted(self, part):
        rows_read.append(len(range(*part.indices(len(self)))) if self is labelled.codes else 0)
        return read(self, part)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(CodeStore, "__getitem__", counted)
        return rank_features(labelled, n_shifts=2)


def by_latent(ranking):
    return ranking.sort_values("latent", ignore_index=True)


def beside_null(ranking, measure, what="z"):
    """Of each latent, in order; NaN where it has none."""
    long = ranking_evidence(ranking)
    return long[long.measure == measure].set_index("latent")[what].reindex(range(len(ranking)))


def test_some_latents_are_ranked_as_among_all(store, ranking):
    some = [40, 3, 11, 3, *ranking["latent"][ranking["n_senses"] > 1][:4]]
    told = []
    found = rank_features(store, n_shifts=2, latents=some, progress=lambda *step: told.append(step))
    percents = [done for done, total, _ in told if total == 100]
    assert len(percents) == len(told) and percents == sorted(percents) and percents[-1] == 100, "of the whole ranking"
    expected = ranking[ranking["latent"].isin(some)].reset_index(drop=True)
    assert len(found) == len(set(some)) and (expected["senses"].map(len) > 1).any()
    pd.testing.assert_frame_equal(by_latent(found), by_latent(expected))
    for wrong, said in (
        ([3, store.d_sae], f"{store.d_sae} must be a whole number in 0"),
        ([], "name at least one"),
    ):
        with pytest.raises(ValueError, match=said):
            rank_features(store, latents=wrong)
    with pytest.raises(ValueError, match="1.5 must be a whole number in 0"):
        rank_features(store, latents=[1.5])
    with pytest.raises(ValueError, match="there are 1 latents to rank"):
        rank_features(store, latents=3, part=(1, 2))
    with pytest.raises(ValueError, match=r"part=3 must be \(rank, count\)"):
        rank_features(store, part=3)
    with pytest.raises(ValueError, match="is a str: open it first"):
        rank_features(str(store.path))


def test_monosemantic_latents_rank_above_polysemantic_ones(world, ranking):
    table = by_latent(ranking)
    chosen = np.isin(world.kinds, ["mono", "poly"])
    one = world.kinds[chosen] == "mono"
    assert roc_auc_score(one, table.monosemanticity[chosen]) >= 0.95
    # The probability is one: about as many latents are called monosemantic as are.
    assert table.monosemanticity[chosen].sum() == pytest.approx(one.sum(), rel=0.2)
    assert ((table.monosemanticity[chosen] >= 0.5) == one).mean() >= 0.9


def test_other_verdicts_are_the_planted_ones(world, ranking):
    table = by_latent(ranking)
    for kind in ("single-token", "dense", "too-rare", "dead"):
        assert set(table.verdict[world.kinds == kind]) == {kind}
    assert set(table.verdict[world.kinds == "mono"]) <= {"monosemantic", "polysemantic"}


@pytest.mark.parametrize(("n_factors", "exact"), [(1, 0.9), (2, 0.7), (3, 0.4)])
def test_senses_are_counted(world, ranking, n_factors, exact):
    counted = by_latent(ranking).n_senses[world.n_factors == n_factors]
    assert (counted == n_factors).mean() > exact
    assert counted.mean() == pytest.approx(n_factors, abs=0.6)


def test_each_sense_has_one_meaning_itself_and_those_of_shifted_text_have_none(world, ranking, moved):
    planted = by_latent(ranking).senses[world.kinds == "poly"]
    one = np.array([sense["monosemanticity"] for senses in planted for sense in senses], float)
    chance = np.array([sense["by_chance"] for senses in planted for sense in senses], float)
    assert np.mean(one) > 0.35 and np.mean(chance < 0.1) > 0.6
    order = np.argsort(one)
    assert (np.diff(chance[order]) <= 0).all(), "the surer, the rarer by chance"
    found = [sense for senses in moved.senses for sense in senses]
    assert len(found) > 5 and np.mean([sense["monosemanticity"] or 0 for sense in found]) < 0.4
    assert 0.2 < np.mean([sense["by_chance"] for sense in found if sense["by_chance"] is not None]) < 0.8
    tested = ~moved.verdict.isin(["dead", "too-rare", "dense", "single-token"])
    z = beside_null(moved, "n_senses")[tested]
    assert z.abs().mean() < 1.5 and abs(z.mean()) < 0.5


def test_shuffled_activations_are_not_monosemantic(world, moved):
    """The codes on the wrong text keep rates and bursts; what is called monosemantic is chance. One shift moves all
    latents alike, so their mean z is not as near to 0 as that of independent ones."""
    meant = np.isin(world.kinds, ["mono", "poly", "single-token"])
    assert (moved.verdict[meant] == "monosemantic").mean() <= 0.05
    names = *STATISTIC_NAMES, "best_token_concentration", "token_entropy", "token_share"
    z = np.stack([beside_null(moved, name)[meant] for name in names], 1)
    assert (np.abs(np.nanmean(z, 0)) < 1).all() and (np.nanmean(z > 3, 0) < 0.05).all()


def test_the_table_is_sorted_whole_and_repeatable(store, ranking):
    assert list(ranking.columns[:8]) == [
        "latent",
        "monosemanticity",
        "ci_low",
        "ci_high",
        "verdict",
        "n_senses",
        "explanation",
        "explanation_f1",
    ]
    assert max(map(len, repr(ranking).splitlines())) <= 120
    assert len(ranking.columns) <= 40 and not [c for c in ranking if c.endswith(("_z", "_null_low", "_null_high"))]
    untested = ranking.verdict.isin(["dead", "too-rare"])
    probability = ["monosemanticity", "ci_low", "ci_high"]
    assert ranking[probability][untested].isna().all(axis=None) and not ranking.sure[untested].any()
    assert untested.is_monotonic_increasing, "those that were not tested come last"
    first = worth_a_look(ranking, N_FIRST)
    assert 0 < len(first) and first == list(range(len(first))), "those to begin with come first"
    tested, others = ranking[~untested], ranking[len(first) :]
    assert others.monosemanticity[~untested].is_monotonic_decreasing and tested.monosemanticity.between(0, 1).all()
    assert sorted(ranking.latent) == list(range(store.d_sae))
    ties = others.groupby("monosemanticity", dropna=False).latent.apply(lambda own: own.is_monotonic_increasing)
    assert ties.all()
    assert ((tested.ci_low <= tested.monosemanticity) & (tested.monosemanticity <= tested.ci_high)).all()


def test_lexical_latents_are_explained_by_their_token(world, ranking):
    table = by_latent(ranking)
    lexical = table[world.kinds == "single-token"]
    assert list(lexical.explanation) == [f'"{VOCAB[token]}"' for token in LEXICAL]
    assert (lexical.explanation_f1 == 1).all()


def test_every_measure_is_in_the_ranking_and_those_of_text_have_nulls(world, store, ranking):
    table, measures = by_latent(ranking), measure_values(store)
    there = [name for name in MEASURES if name != "density"]
    np.testing.assert_allclose(table[there], pd.DataFrame(measures)[there], rtol=1e-5, atol=1e-7)
    lexical, dense = world.kinds == "single-token", world.kinds == "dense"
    assert (beside_null(ranking, "token_entropy")[lexical] < -5).all() and (table.token_entropy[lexical] == 0).all()
    assert (table.token_entropy[lexical] < beside_null(ranking, "token_entropy", "null_low")[lexical]).all()
    untested = table.verdict.isin(["dead", "too-rare"])
    for name in ("token_entropy", "best_token_concentration", "token_share"):
        assert (np.abs(beside_null(ranking, name)[dense]) < 4).all(), name
        assert (beside_null(ranking, name).isna() == untested).all(), name


def test_the_evidence_of_a_latent_is_a_table_and_survives_a_file(ranking, tmp_path):
    first = int(ranking.latent[0])
    own = ranking_evidence(ranking, first)
    assert list(own) == ["measure", "value", "z", "null_low", "null_high"]
    assert {*STATISTIC_NAMES, "n_senses", "token_entropy", "burstiness"} <= set(own.measure) and own.value.notna().all()
    own = own.set_index("measure")
    assert (
        own.value["token_entropy"] == ranking.token_entropy[0]
        and own.value[STATISTIC_NAMES[0]] == ranking[STATISTIC_NAMES[0]][0]
    )
    assert own.drop(["burstiness", "density"]).notna().all(axis=None)
    assert own.loc[["burstiness", "density"], "z"].isna().all(), "they do not depend on the text"
    ranking.to_parquet(tmp_path / "ranking.parquet")
    read = pd.read_parquet(tmp_path / "ranking.parquet")
    pd.testing.assert_frame_equal(ranking_evidence(read), ranking_evidence(ranking))
    pd.testing.assert_frame_equal(ranking_evidence(read, first), ranking_evidence(ranking, first))
    dead = ranking.latent[ranking.verdict == "dead"].iloc[0]
    assert ranking_evidence(ranking, dead).empty
    with pytest.raises(ValueError, match="latent=100000 is not in the ranking"):
        ranking_evidence(ranking, 100_000)
    with pytest.raises(ValueError, match="has no column 'evidence'"):
        ranking_evidence(ranking[["latent"]])


def test_masks_add_evidence_and_change_no_verdict(part, labelled, masks, plain):
    table = rank_features(labelled, labels=masks)
    assert table.drop(columns="evidence").equals(plain.drop(columns="evidence"))
    assert beside_null(table, "label_f1").notna().any() and table.label_f1.notna().any()
    assert beside_null(plain, "label_f1").isna().all(), "without masks there is no null"
    bare = rank_codes(part.tokens, SparseCodes.from_dense(torch.from_numpy(part.z)), vocab=VOCAB, n_shifts=2)
    judged = bare.columns.drop("evidence")
    pd.testing.assert_frame_equal(by_latent(table)[judged], by_latent(bare)[judged])


def test_a_twin_is_evidence_and_changes_no_verdict(part, labelled, plain, tmp_path):
    missed = np.random.default_rng(0).random(part.z.shape) < 0.1
    table = rank_features(labelled, twin=store_of(part, tmp_path / "twin", part.z * ~missed))
    given = [name for name in table if name not in ("twin_correlation", "evidence")]
    pd.testing.assert_frame_equal(table[given], plain[given], rtol=1e-6)
    tested = ~by_latent(table).verdict.isin(["dead", "too-rare"])
    assert (by_latent(table).twin_correlation[tested] > 0.8).all()
    assert (beside_null(table, "twin_correlation")[tested] > 5).all()
    assert plain.twin_correlation.isna().all()


def test_the_codes_are_read_four_times_and_the_same_again_give_the_same(labelled, plain, rows_read):
    """Once for all evidence and samples, three times for the rules of latents and senses."""
    assert (plain.n_senses > 1).any() and sum(rows_read) == 4 * len(labelled.codes)
    again = rank_features(labelled, nulls=2, latents=np.int64(0))
    pd.testing.assert_frame_equal(again, plain[plain["latent"] == 0].reset_index(drop=True))


def test_where_nothing_can_be_tested_no_measure_has_a_scale(part, tmp_path):
    z = np.zeros((part.tokens.numel(), 3), np.float32)
    z[:200, 0], z[::4096, 1] = 1, 1
    codes, labels = SparseCodes.from_dense(torch.from_numpy(z)), {"early": part.tokens < N_FUNCTION}
    given = {"vocab": VOCAB, "labels": labels, "W_dec": torch.randn(3, 4)}
    store, twin = (FeatureStore.from_codes(part.tokens, codes, tmp_path / name, **given) for name in "ab")
    table = by_latent(rank_features(store, labels=labels, twin=twin))
    assert table.verdict.tolist() == ["too-rare", "too-rare", "dead"]
    np.testing.assert_allclose(table.twin_correlation, [1, 1, np.nan])
    assert table[["monosemanticity", "ci_low", "ci_high"]].isna().all(axis=None)
    evidence = ranking_evidence(table)
    assert evidence[~evidence.measure.isin(STATISTIC_NAMES[:2])].z.isna().all() and len(evidence)


def test_rank_features_names_labels_only_with_use_labels(part, tmp_path):
    """0 fires in one label; 1 in two unrelated ones, each a sense; verdicts and senses stay what they were."""
    generator = np.random.default_rng(0)
    topic = (part.tokens.numpy() - N_FUNCTION) // PER_TOPIC
    labels = {name: torch.from_numpy(topic == t) for name, t in (("sea", 0), ("war", 5), ("law", 9))}
    some = generator.random((topic.size, 2)) < 0.5
    fires = np.stack([topic == 0, (topic == 5) | (topic == 9)], 2).reshape(-1, 2) & some
    codes = SparseCodes.from_dense(torch.from_numpy(fires * generator.gamma(2, 1, fires.shape)).float())
    store = FeatureStore.from_codes(part.tokens, codes, tmp_path, vocab=[f"w{i}" for i in range(len(VOCAB))])
    without, asked = (by_latent(rank_features(store, labels=labels, use_labels=use)) for use in (False, True))
    names = {"sea", "war", "law"}
    said = lambda text: {name for name in names if name in text}  # noqa: E731
    assert [said(text) for text in without.explanation] == [set(), set()]
    # Its tokens are a class of their own (`text.neighbours`), so that a rule without the label can be as good.
    assert said(asked.explanation[0]) == {"sea"} and asked.explanation_f1[0] >= without.explanation_f1[0]
    assert list(asked.n_senses) == list(without.n_senses) == [1, 2]
    found = {name for sense in asked.senses[1] for name in said(sense["rule"])}
    assert found and found <= {"war", "law"}
    assert not any(said(sense["rule"]) for sense in without.senses[1])
    judged = without.columns.drop([c for c in without if c.startswith("explanation")] + ["senses"])
    pd.testing.assert_frame_equal(asked[judged], without[judged])


def test_masks_that_do_not_belong_to_the_scan_are_refused(store, labelled):
    with pytest.raises(ValueError, match="no mask of label 'early' was given"):
        rank_features(labelled, labels={})
    with pytest.raises(ValueError, match=r"label 'other' is \(2, 2\)"):
        rank_features(store, labels={"other": torch.ones(2, 2).bool()})
    with pytest.raises(ValueError, match="use_labels=True, but no labels were given"):
        rank_features(labelled, use_labels=True)


def test_case_and_space_variants_are_one_token(tmp_path):
    vocab = ["the", " the", "The", "cat"]
    rng = np.random.default_rng(0)
    tokens = torch.from_numpy(rng.integers(4, size=(128, 16)).astype(np.int32))
    z = np.stack([tokens.reshape(-1).numpy() < 3, tokens.reshape(-1).numpy() > 1], 1).astype(np.float32)
    codes = SparseCodes.from_dense(torch.from_numpy(z * (rng.random(z.shape) < 0.3)))
    store = FeatureStore.from_codes(tokens, codes, tmp_path / "features", vocab=vocab)
    table = by_latent(rank_features(store, n_shifts=1))
    assert table.token_share[0] == pytest.approx(1) and table.token_share[1] < 0.7


def some_text(n_seq, n_ctx, n_vocab=400, seed=0):
    return zipf(n_vocab, 0.8, np.random.default_rng(seed), (n_seq, n_ctx)).astype(np.int32)


def test_without_a_vocabulary_ids_name_tokens_and_are_not_spelt(tmp_path):
    """A latent of the ids 100 to 199 and 500 to 599 has in common how they are written, and nothing else."""
    rng = np.random.default_rng(0)
    tokens = rng.integers(0, 1000, (512, 64)).astype(np.int32)
    flat = tokens.ravel()
    z = np.stack([np.isin(flat // 100, (1, 5)) * rng.gamma(2, 1, flat.size), flat == 37], 1).astype(np.float32)
    text, codes = torch.from_numpy(tokens), SparseCodes.from_dense(torch.from_numpy(z))
    ranking = rank_features(FeatureStore.from_codes(text, codes, tmp_path / "features"), n_shifts=1)
    assert ranking.latent.tolist() == [1, 0] and ranking.explanation[0] == "token 37"
    assert not any(PREDICATE_KINDS[name].needs_strings for name in set(ranking.shared_kind) - {""})
    assert not ranking.explanation.str.contains("begin|end|number|digit").any()
    ids = [str(i) for i in range(1000)]
    spelt = rank_features(FeatureStore.from_codes(text, codes, tmp_path / "given", vocab=ids), n_shifts=1)
    assert "begin with" in spelt.explanation[1]


@pytest.mark.parametrize("n_seq", [15, 1])
def test_a_few_long_sequences_are_tested(n_seq):
    tokens = some_text(n_seq, 30_000 // n_seq)
    flat, rng = tokens.ravel(), np.random.default_rng(1)
    z = np.zeros((flat.size, 12), np.float32)
    for latent in range(10):
        z[rng.permutation(np.flatnonzero(flat == 20 + latent))[:60], latent] = 1
    z[:19, 10] = 1  # one passage
    z[rng.permutation(flat.size)[:200], 11] = 1
    table = by_latent(rank_codes(torch.from_numpy(tokens), SparseCodes.from_dense(torch.from_numpy(z))))
    assert (table.n_active[:10] == 60).all() and set(table.verdict[:10]) == {"single-token"}
    assert (table.monosemanticity[:10] > 0.9).all()
    assert table.verdict[10] == "too-rare" and table.verdict[11] == "polysemantic"


def test_a_text_in_which_nothing_can_be_tested_is_warned_of(caplog):
    def ranked(n_seq):
        tokens = torch.from_numpy(some_text(n_seq, 100))
        return rank_codes(tokens, SparseCodes.from_dense(torch.ones(tokens.numel(), 1)))

    assert set(ranked(19).verdict) == {"too-rare"}
    (record,) = caplog.records
    assert record.levelname == "WARNING" and record.name.startswith("interp.")
    assert "are 19 independent groups" in record.getMessage() and "at least 20 sequences" in record.getMessage()
    caplog.clear()
    assert "too-rare" not in set(ranked(20).verdict) and not caplog.records
    with pytest.raises(ValueError, match=r"faint has the shape \(2,\), and needs a value for each of 1 latents"):
        rank_codes(torch.ones(2, 9).long(), SparseCodes.from_dense(torch.ones(18, 1)), faint=np.zeros(2, bool))


def test_a_latent_alone_has_a_stable_null():
    """A random latent is judged alike whichever positions it was drawn, with nothing beside it to pool nulls with."""
    tokens, z_scores = some_text(128, 64), []
    for seed in range(5):
        rng = np.random.default_rng(100 + seed)
        z = (rng.random((tokens.size, 1)) < 0.15) * rng.gamma(2, 1, (tokens.size, 1))
        codes = SparseCodes.from_dense(torch.from_numpy(z.astype(np.float32)))
        ranking = rank_codes(torch.from_numpy(tokens), codes, seed=seed)
        assert set(ranking.verdict) == {"dense"}
        z_scores.append(np.stack([beside_null(ranking, name) for name in STATISTIC_NAMES], 1))
    assert np.abs(z_scores).max() < 6 and 0.4 < np.std(z_scores) < 1.6


def test_more_nulls_for_few_latents_change_no_probability(world, ranking):
    """They have their own random numbers: what hangs on no null stays as it is."""
    codes = SparseCodes.from_dense(torch.from_numpy(world.z[:, :45]))
    few = by_latent(rank_codes(world.tokens, codes, vocab=VOCAB, n_shifts=2))
    many = by_latent(ranking)
    for name in ("monosemanticity", "ci_low", "ci_high", "n_senses"):
        np.testing.assert_allclose(few[name], many[name][:45], rtol=1e-5, err_msg=name)
    for name in STATISTIC_NAMES:
        np.testing.assert_allclose(beside_null(few, name, "value"), beside_null(many, name, "value")[:45], rtol=1e-5)


def test_the_number_of_shifts_has_one_default():
    functions = (rank_features, rank_codes, collect_evidence)
    assert {inspect.signature(function).parameters["n_shifts"].default for function in functions} == {N_SHIFTS}
    assert RankingConfig().n_shifts == N_SHIFTS


def test_rank_features_refuses_no_shifts(store):
    for n_shifts in (0, 2.5, True):
        with pytest.raises(ValueError, match=f"n_shifts={n_shifts} must be"):
            rank_features(store, n_shifts=n_shifts)


def test_the_fields_of_a_sense_are_documented_and_verdicts_are_sure_or_unsure(ranking):
    told = {key for senses in ranking.senses for sense in senses for key in sense}
    of_one = {"monosemanticity", "by_chance", "precision", "recall", "rule_json", "common_json"}
    assert told == {"share", "rule", "f1", "n", "rows", "following", "promoted", "common", "weak_rows"} | of_one
    shares = verdict_shares(ranking).set_index("verdict")
    sure = (ranking.ci_low > 0.5) | (ranking.ci_high < 0.5)
    firing = (ranking.verdict != "dead").sum()
    for verdict in ("monosemantic", "polysemantic"):
        assert shares.sure_share[verdict] == pytest.approx((sure & (ranking.verdict == verdict)).sum() / firing)


def test_a_measure_of_ones_own_has_a_column_and_evidence(labelled, monkeypatch):
    number = Measure(lambda features: np.arange(features.d_sae, dtype=float), "Number", "which it is", 1, "none")
    monkeypatch.setitem(MEASURES, "number", number)
    ranking = rank_features(labelled, n_shifts=1, latents=3)
    assert ranking["number"].tolist() == [3] and list(ranking)[-3:] == ["n_active", "n_sequences", "evidence"]
    assert ranking_evidence(ranking, 3).set_index("measure")["value"]["number"] == 3


def test_an_explanation_in_a_terminal_has_the_room_that_the_numbers_leave(monkeypatch):
    row = {"latent": 1, "verdict": "monosemantic", "monosemanticity": 0.9, "ci_low": 0.8, "ci_high": 1.0, "sure": True}
    ranked = Ranking(pd.DataFrame([row | {"explanation": "x" * 200, "explanation_f1": 0.5}]))
    widths = []
    for columns in (40, 120, 200):
        monkeypatch.setenv("COLUMNS", str(columns))
        *_, line = ranked.rows_as_text().splitlines()
        widths.append((len(line), line.count("x")))
    (_, least), *wider = widths
    assert least < MIN_CHARACTERS, "it is cut, with dots"
    assert [columns - 8 < width <= columns for (width, _), columns in zip(wider, (120, 200), strict=True)] == [True] * 2
