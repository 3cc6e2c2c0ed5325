"""Models that read floats, and rows that are not text: harvested, scanned, ranked without a context, and drawn."""

import re
import struct
import zlib
from base64 import b64decode

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits
from torch import nn

from interp import (
    ActivationStore,
    ActivationStream,
    FeatureStore,
    TopKConfig,
    harvest,
    rank_features,
    scan_features,
    train_sae,
    verdict_shares,
    write_report,
)
from interp.cli import main
from interp.compare import open_pair
from interp.compare.null_dictionaries import compare_with_nulls
from interp.display.pictures import MOST_BYTES, picture_of
from interp.evaluation.baselines import RandomDictionary
from interp.report.payloads import row_evidence

N = 300


class Patches(nn.Module):
    """[input, 8, 8] → [input, 4 patches, 6]."""

    def __init__(self):
        super().__init__()
        self.embed = nn.Linear(16, 6)

    def forward(self, x):
        return self.embed(x.unfold(1, 4, 4).unfold(2, 4, 4).reshape(len(x), 4, 16))


@pytest.fixture(scope="module")
def digits():
    pixels, classes = load_digits(return_X_y=True)
    return torch.tensor(pixels[:N] / 16, dtype=torch.float32).view(N, 1, 8, 8), torch.tensor(classes[:N])


@pytest.fixture(scope="module")
def network():
    torch.manual_seed(0)
    layers = (
        nn.Conv2d(1, 5, 3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(4),
        nn.Flatten(),
        nn.Linear(20, 12),
        nn.Dropout(0.5),
    )
    return nn.Sequential(*layers)


@pytest.fixture(scope="module")
def scan(digits, network, tmp_path_factory):
    """Return a scan of the linear layer by a small dictionary, its store, and the labels of the inputs."""
    folder = tmp_path_factory.mktemp("digits")
    images, classes = digits
    store = harvest(network, images, ["4"], folder / "store", dtype="float32")
    sae = train_sae(store, "4", TopKConfig(d_sae=24, k=4, tokens=20_000, batch_size=128), out=folder / "sae")
    labels = {f"digit {n}": classes == n for n in range(3)}
    return scan_features(sae, store, "4", folder / "features", labels=labels), store, labels


def rows_of(store: ActivationStore, hook: str) -> torch.Tensor:
    rows = torch.full((store.n_ids, store.d(hook)), torch.nan)
    for i in range(store.n_shards):
        shard = store.shard(i, hook)
        rows[shard.row_ids] = shard.acts.float()
    return rows


def test_harvest_of_images_stores_each_layers_output(digits, network, tmp_path):
    images, _ = digits
    network.train()
    pooled = harvest(network, images, ["4", "4.input"], tmp_path / "pooled", dtype="float32", batch_size=32)
    assert network.training and pooled.tokens is None and (pooled.n_ctx, pooled.n_ids) == (1, N)
    with torch.no_grad():
        network.eval()
        torch.testing.assert_close(rows_of(pooled, "4"), network(images))
        torch.testing.assert_close(rows_of(pooled, "4.input"), network[:4](images))
        maps = network[:2](images)
    places = harvest(network, (batch for batch in images.split(50)), ["1"], tmp_path / "places", dtype="float32")
    assert (places.n_ctx, places.n_ids, places.d("1")) == (64, 64 * N, 5)
    rows = rows_of(places, "1").view(N, 8, 8, 5)
    torch.testing.assert_close(rows, maps.permute(0, 2, 3, 1))
    patches = Patches()
    by_patch = harvest(patches, images[:, 0], ["embed"], tmp_path / "patches", dtype="float32", exclude_positions=[3])
    rows = rows_of(by_patch, "embed").view(N, 4, 6)
    torch.testing.assert_close(rows[:, :3], patches(images[:, 0]).detach()[:, :3])
    assert rows[:, 3].isnan().all() and by_patch.excluded["position"] == N
    same = harvest(network, images.numpy(), ["4", "4.input"], tmp_path / "pooled", dtype="float32", batch_size=32)
    assert same.digest == pooled.digest


def test_one_dimensional_convolutions_are_read_by_channels(tmp_path):
    class Sound(nn.Module):
        """Convolutions over time, and a linear layer on each time, as speech models have."""

        def __init__(self):
            super().__init__()
            self.conv, self.act = nn.Conv1d(1, 3, 5), nn.ReLU()
            self.pool, self.linear = nn.AvgPool1d(2), nn.Linear(3, 4)

        def forward(self, x):
            return self.linear(self.pool(self.act(self.conv(x))).transpose(1, 2))

    torch.manual_seed(0)
    model, sound = Sound().eval(), torch.randn(40, 1, 24)
    with torch.no_grad():
        loud = model.act(model.conv(sound))
        expected = {"conv": model.conv(sound), "pool.input": loud, "pool": model.pool(loud)}
        expected = {name: acts.transpose(1, 2) for name, acts in expected.items()} | {"linear": model(sound)}
    for name, acts in expected.items():
        store = harvest(model, sound, [name], tmp_path / name, dtype="float32")
        assert (store.n_ctx, store.d(name)) == acts.shape[1:]
        torch.testing.assert_close(rows_of(store, name), acts.flatten(0, 1))
    with pytest.raises(ValueError, match=r"'act' \(ReLU\) may return \[seq, d, pos\] or .*\(NAME.input\)"):
        harvest(model, sound, ["act"], tmp_path / "act")
    plain = nn.Sequential(nn.Linear(24, 8), nn.ReLU())  # nothing there has channels first
    assert harvest(plain, sound, ["1"], tmp_path / "plain").d("1") == 8


def test_a_stream_of_images_gives_the_rows_of_the_store(digits, network):
    stream = ActivationStream(network, digits[0], ["4"], dtype="float32")
    rows = torch.cat(list(stream.batches("4", N // 5, seed=0)))
    with torch.no_grad():
        expected = network.eval()(digits[0])
    torch.testing.assert_close(rows.sort(0).values, expected.sort(0).values)
    assert stream.provenance.prepend_bos is None, "as of a store: they are no text"


def test_what_a_model_of_floats_cannot_give_is_named(digits, network, tmp_path):
    images, out, reader = digits[0], tmp_path / "store", nn.Sequential(nn.Embedding(5, 3))
    reader.d_vocab = 5
    for given, said in [
        ((network, images, ["1", "4"]), "64 at 1 and 1 at 4 positions: harvest these hooks apart"),
        ((network, images[:0], ["4"]), "one at least"),
        ((reader, images, ["0"]), "must be integers"),
        ((network, [images[:5], images[:5, :, :4]], ["4"]), "must be floats"),
        ((nn.Sequential(nn.Unflatten(1, (1, 1))), images, ["0"]), "is needed"),
    ]:
        with pytest.raises(ValueError, match=said):
            harvest(*given, out)
    with pytest.raises(ValueError, match="which is not a token id"):
        harvest(network, images, ["4"], out, exclude=[3])
    tokens = torch.zeros(2, 3, dtype=torch.long)
    for wrong in ({"exclude": ["a"]}, {"exclude": [1.5]}, {"exclude_positions": [1.0]}, {"exclude_positions": "1"}):
        with pytest.raises(ValueError, match=r"which is not a (token id|position in 0\.\.2)"):
            harvest(reader, tokens, ["0"], out, **wrong)
    broken = images.clone()
    broken[7] = torch.nan
    with pytest.raises(ValueError, match="sequence 7, position 0"):
        harvest(network, broken, ["4"], out)
    assert not out.exists()


def test_a_scan_of_no_text_finds_labels_and_gives_no_verdict_of_meaning(scan, network, tmp_path):
    features, store, labels = scan
    assert features.meta["logit_effects"] == "no logit effects: the rows are not text"
    assert not features.has_text and features.tokens.flatten().tolist() == list(range(N))
    assert f"{N} rows" in repr(features).replace(",", "") and "contexts of" not in features._repr_html_()
    z = features.codes[:N].dense().numpy()
    table = features.table("labels").set_index(["label", "latent"])
    for name, mask in labels.items():
        for latent in np.flatnonzero((z > 0).any(0))[:5]:
            both = ((z[:, latent] > 0) & mask.numpy()).sum()
            assert table.loc[(name, latent), "n_both"] == both
            share = both / (z[:, latent] > 0).sum()
            assert table.loc[(name, latent), "firing_share"] == pytest.approx(share)
    ranking = rank_features(features)
    assert (
        set(ranking["verdict"]) <= {"no-context", "dense", "dead", "faint"}
        and (ranking["verdict"] == "no-context").any()
    )
    assert ranking["monosemanticity"].isna().all() and not ranking["sure"].any()
    dense = ranking.set_index("latent")["density"] > 0.5
    assert set(ranking["latent"][ranking["verdict"] == "dense"]) <= set(dense.index[dense])
    assert ranking["label_f1"].dropna().is_monotonic_decreasing
    said = repr(ranking) + ranking._repr_html_()
    assert "no context to judge" in said and "too rare" not in said
    assert len(rank_features(features, latents=[3, 5])) == 2
    for column in ("senses", "explanation_f1_by_interval"):
        assert ranking[column][0] == ranking[column][1] == [] and ranking[column][0] is not ranking[column][1]
    config = TopKConfig(d_sae=24, k=4, tokens=20_000, batch_size=128)
    with pytest.raises(ValueError, match="is a scan of rows that are not text, whose meaning is not judged"):
        compare_with_nulls(features, store, "4", network, tmp_path / "nulls", config=config)
    assert not (tmp_path / "nulls").exists()
    shares = verdict_shares(ranking).set_index("verdict")
    assert shares["n"]["no-context"] == (ranking["verdict"] == "no-context").sum() and shares["n"].sum() == len(ranking)


def test_labels_of_inputs_hold_at_all_of_their_positions(digits, tmp_path):
    images, classes = digits
    rows = images.view(N, 64)[:, :48].reshape(4 * N, 12)
    network = nn.Sequential(nn.Unflatten(1, (4, 16)), nn.Identity())
    store = harvest(network, images.view(N, 64), ["1"], tmp_path / "store", dtype="float32")
    sae = train_sae(store, "1", TopKConfig(d_sae=16, k=3, tokens=2_000, batch_size=64))
    whole = {"zero": classes == 0}
    each = {"zero": (classes == 0)[:, None].expand(N, 4)}
    one, two = (
        scan_features(sae, store, "1", tmp_path / name, labels=labels).table("labels")
        for name, labels in (("one", whole), ("two", each))
    )
    assert one.equals(two) and one["n_label"].max() == 4 * int((classes == 0).sum())
    with pytest.raises(ValueError, match=r"label 'zero' is \(3,\), what was scanned is"):
        scan_features(sae, store, "1", tmp_path / "three", labels={"zero": torch.zeros(3, dtype=torch.bool)})
    with pytest.raises(ValueError, match="the rows are not text"):
        scan_features(sae, store, "1", tmp_path / "three", vocab=["a"])
    features = FeatureStore.open(tmp_path / "one")
    data = features.matrix(labels=whole, store=store)
    assert data.tokens is None and (data.labels["zero"].to_numpy() == (classes == 0).float().numpy()).all()
    torch.testing.assert_close(torch.from_numpy(data.activations), images.view(N, 4, 16).amax(1))
    other = ActivationStore.from_batches(rows, tmp_path / "other")
    with pytest.raises(ValueError, match="holds other activations than"):
        features.matrix(store=other)


def test_rows_and_codes_from_elsewhere_need_no_tokens(tmp_path):
    generator = torch.Generator().manual_seed(0)
    rows = torch.randn(400, 8, generator=generator)
    store = ActivationStore.from_batches(rows, tmp_path / "rows", dtype="float32")
    sae = train_sae(store, "activations", TopKConfig(d_sae=16, k=2, tokens=1_000, batch_size=64))
    scanned = scan_features(sae, store, "activations", tmp_path / "scan")
    given = FeatureStore.from_codes(None, sae.codes(rows), tmp_path / "codes", W_dec=sae.W_dec)
    assert not given.has_text and given.table()["n_active"].equals(scanned.table()["n_active"])
    ranking = rank_features(given, twin=scanned)
    assert set(ranking["verdict"]) <= {"no-context", "dense", "dead", "faint"}
    alive = ranking["verdict"] != "dead"
    assert (ranking["twin_correlation"][alive] > 0.999).all() and rank_features(given)["twin_correlation"].isna().all()
    with pytest.raises(ValueError, match="W_U gives logits of tokens"):
        FeatureStore.from_codes(None, sae.codes(rows), tmp_path / "x", W_dec=sae.W_dec, W_U=torch.zeros(8, 3))


def test_as_many_other_rows_are_another_corpus(tmp_path):
    generator = torch.Generator().manual_seed(0)
    dictionary = RandomDictionary(8, 16, 3)
    for name in ("a", "b"):
        rows = torch.randn(40, 8, generator=generator)
        store = ActivationStore.from_batches(rows, tmp_path / f"rows-{name}", dtype="float32")
        scan_features(dictionary, store, "activations", tmp_path / name)
    pair = open_pair(tmp_path / "a", tmp_path / "b")
    assert pair.by == "corpora" and not pair.share_text
    assert open_pair(tmp_path / "a", tmp_path / "a").share_text


def pixels(picture: str) -> np.ndarray:
    """Return what a PNG of one IDAT without filters holds."""
    png = b64decode(picture)
    width, height, depth, kind = struct.unpack(">IIBB", png[16:26])
    at = png.index(b"IDAT")
    (size,) = struct.unpack(">I", png[at - 4 : at])
    lines = np.frombuffer(zlib.decompress(png[at + 4 : at + 4 + size]), np.uint8).reshape(height, -1)
    assert depth == 8 and (lines[:, 0] == 0).all() and png.endswith(b"IEND\xaeB`\x82")
    return lines[:, 1:].reshape((height, width) if kind == 0 else (height, width, {2: 3, 6: 4}[kind]))


def test_arrays_become_the_pixels_of_a_png():
    generator = np.random.default_rng(0)
    for shape in ((5, 3), (5, 3, 3), (5, 3, 4)):
        drawn = generator.integers(0, 256, shape).astype(np.uint8)
        assert (pixels(picture_of(lambda row, drawn=drawn: drawn, 0)) == drawn).all()
        assert (pixels(picture_of(lambda row, drawn=drawn: torch.from_numpy(drawn / 255), 0)) == drawn).all()
    half = torch.eye(3, dtype=torch.bfloat16)
    assert (pixels(picture_of(lambda row: half, 0)) == pixels(picture_of(lambda row: 255 * half.byte(), 0))).all()
    png = b64decode(picture_of(lambda row: np.eye(row), 4))
    assert b64decode(picture_of(lambda row: png, 0)) == png
    image = pytest.importorskip("PIL.Image")
    assert np.asarray(image.open(__import__("io").BytesIO(png))).tolist() == (255 * np.eye(4)).astype(int).tolist()
    assert (pixels(picture_of(lambda row: np.eye(4), 0)) == 255 * np.eye(4)).all()
    assert picture_of(lambda row: image.new("RGB", (2, 2)), 0)


@pytest.mark.parametrize(
    "drawn, said",
    [
        (b"<svg onload=alert(1)>", "not a PNG file"),
        ("<img src=x onerror=alert(1)>", "an array"),
        (np.zeros(4), "an array"),
        (np.zeros((4, 4, 2)), "an array"),
        (16 * np.ones((4, 4)), "scale it to 0..1"),
        (np.full((4, 4), np.nan), "scale it to 0..1"),
        (np.random.default_rng(0).integers(0, 256, (400, 400)).astype(np.uint8), f"above the limit of {MOST_BYTES:,}"),
        (None, "an array"),
    ],
)
def test_what_is_no_picture_is_refused(drawn, said):
    with pytest.raises(ValueError, match=re.escape(said)):
        picture_of(lambda row: drawn, 3)


def test_the_page_shows_pictures_of_examples(scan, digits, chromium, tmp_path):
    features, _, labels = scan
    features.render = lambda row: digits[0][row, 0]
    try:
        with pytest.raises(ValueError, match=r"label 'digit 0' is \(3,\), what was scanned is"):
            write_report(features, tmp_path / "page", labels={"digit 0": torch.zeros(3, dtype=torch.bool)})
        page = write_report(features, tmp_path / "page", ranking=rank_features(features), labels=labels)
        shown = features[int(rank_features(features)["latent"][0])]
        card, said = shown._repr_html_(), str(shown)
    finally:
        features.render = None
    assert card.count("data:image/png;base64,") == min(len(shown.examples), 20) and "of the rows" in said
    latent = shown.latent
    dom = chromium.dom(f"file://{page}#feature/{latent}")
    assert "no context to judge" in dom and "Tokens around a firing" not in dom and "Direct logit effects" not in dom
    rows = features.sql(f"select row from examples where latent = {latent} and kind = 'top' order by rank")["row"]
    sources = chromium.evaluate("Array.from(document.querySelectorAll('.fires img.picture'), (e) => e.src)")
    expected = [picture_of(lambda row: digits[0][row, 0], row) for row in rows[:5]]
    assert [source.removeprefix("data:image/png;base64,") for source in sources[:5]] == expected
    assert chromium.evaluate("document.querySelector('img.picture').naturalWidth") == 8
    shown = "document.querySelectorAll('.fires .example')"
    tags = chromium.evaluate(f"Array.from({shown}, (e) => e.querySelector('.tag')?.textContent ?? null)")
    assert tags[:5] == [next((name for name, mask in labels.items() if mask[row]), None) for row in rows[:5]]
    assert any(tags)
    chromium.click(".inputs .example")
    assert chromium.wait("document.querySelector('.whole img.picture')?.clientHeight") > 100
    for view in ("", "#features", f"#compare/{latent}/{(latent + 1) % 24}", "#map", "#summary"):
        chromium.dom(f"file://{page}{view}")
        assert view in ("#map", "#summary") or chromium.wait("document.querySelector('img.picture') !== null")
        assert not chromium.faint()
    chromium.dom(f"file://{page}")
    assert "null" not in chromium.text("#overview")[0].split("Verdicts")[0]
    chromium.dom(f"file://{page}#summary")
    assert "contexts of" not in chromium.text("#summary")[0]


def test_without_a_function_that_draws_rows_go_by_their_numbers(scan, chromium, tmp_path):
    features, _, _ = scan
    page = write_report(features, tmp_path / "page")
    latent = int(features.table().sort_values("n_active")["latent"].iloc[-1])
    row = int(features[latent].examples["row"].iloc[0])
    dom = chromium.dom(f"file://{page}#feature/{latent}")
    assert f"input {row}" in dom and "<img" not in dom and not list((page.parent / "data").glob("pictures-*"))
    assert not list((page.parent / "data").glob("text-*")), "more rows may be scanned than there are characters"
    assert row_evidence(features, {})["snippets"][latent] == [row]
    chromium.open(f"file://{page}#features?q=%23{latent}")
    assert chromium.wait("document.querySelector('.snippet .input')?.textContent") == f"input {row:,}"
    assert f"row {row} (" in features[latent]._repr_html_()


def test_commands_take_rows_that_are_no_text(scan, tmp_path, capsys):
    features, store, _ = scan
    sae = features.path.parent / "sae"
    assert main(["scan", str(sae), str(store.path), "--out", str(tmp_path / "features")]) == 0
    assert main(["rank", str(tmp_path / "features"), "--out", str(tmp_path / "ranking.csv")]) == 0
    assert "no context to judge" in capsys.readouterr().out
