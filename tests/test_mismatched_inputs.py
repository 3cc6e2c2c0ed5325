"""Two inputs that do not belong together are refused in one line that names them; each pair is tested once."""

import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import pytest
import scipy.sparse
import torch

from interp import (
    ActivationStore,
    FeatureStore,
    Run,
    evaluate_dictionary,
    rank_codes,
    rank_features,
    scan_features,
    write_report,
)
from interp.activations.harvesting import harvest
from interp.autointerp.endpoint import Endpoint, EndpointConfig
from interp.autointerp.judge import Judge, JudgeConfig
from interp.cli import main
from interp.compare.concepts import concept_table
from interp.compare.null_dictionaries import Nulls, compare_with_nulls
from interp.evaluation.baselines import shuffled_model
from interp.evaluation.quality import decoder_digest
from interp.features.scan_checks import check_store_of_scan, check_table, scan_identity
from interp.sae import SAE, TopK, TopKConfig, load_sae
from interp.storage.manifests import write_manifest
from models.tokenizer import Tokenizer
from models.transformer import Transformer

D_IN, D_SAE, N_SEQ, N_CTX = 32, 24, 60, 16
HOOK, OTHER_HOOK = "blocks.0.hook_resid_post", "blocks.0.hook_resid_mid"


def planted(
    out: Path, seed: int, *, text: int = 0, d_sae: int = D_SAE, hook_name: str = HOOK, label: str = "low"
) -> FeatureStore:
    """Return features whose codes are drawn by `seed`, on tokens drawn by `text`."""
    tokens = torch.from_numpy(np.random.default_rng(text).integers(0, 20, (N_SEQ, N_CTX))).int()
    generator = np.random.default_rng(seed)
    codes = scipy.sparse.csr_matrix((generator.random((tokens.numel(), d_sae)) < 0.1) * generator.random(d_sae))
    W_dec = torch.from_numpy(generator.normal(size=(d_sae, D_IN))).float()
    labels = {label: tokens < 5}
    return FeatureStore.from_codes(tokens, codes, out, W_dec=W_dec, hook_name=hook_name, labels=labels)


def dictionary(hook_name: str, *, ours: bool = True, d_sae: int = D_SAE) -> SAE:
    W = torch.randn(d_sae, D_IN, generator=torch.Generator().manual_seed(3))
    biases = {"b_enc": torch.zeros(d_sae), "b_dec": torch.zeros(D_IN)}
    config = TopKConfig(d_sae=d_sae, k=4, tokens=1000) if ours else None
    return SAE(W_enc=W.T, W_dec=W, encoder=TopK(4), config=config, metadata={"hook_name": hook_name}, **biases)


class Files(NamedTuple):
    folder: Path
    features: FeatureStore
    other: FeatureStore
    """Of the same shape, other codes."""
    ranking: pd.DataFrame
    run: Path
    """With a corpus, a tokenizer, a model and a store of two hooks of one width."""


@pytest.fixture(scope="module")
def files(tmp_path_factory, tiny_run) -> Files:
    folder = tmp_path_factory.mktemp("pairs")
    features, other = planted(folder / "features", 0), planted(folder / "other", 1)
    model, tokens = Transformer.load(tiny_run.path / "model"), tiny_run.train_tokens.tokens[:N_SEQ]
    harvest(model, tokens, [HOOK, OTHER_HOOK], folder / "store")
    harvest(model, tokens, [OTHER_HOOK], folder / "elsewhere")
    dictionary(HOOK).save(folder / "sae")
    dictionary("model.layers.0", ours=False).save(folder / "foreign")
    of_another = dictionary(HOOK)
    of_another.metadata["model_weights"] = "of another"
    of_another.save(folder / "sae-of-another")
    text = ["to be or not to be that is the question whether tis nobler " * 40]
    Tokenizer.train_bpe(text, 512).save(folder / "tokenizer")
    Tokenizer.train_characters(["".join(map(chr, range(0x4E00, 0x4E00 + 600)))]).save(folder / "wide")
    shutil.copytree(tiny_run.path / "model", folder / "another" / "model")
    shutil.copytree(folder / "tokenizer", folder / "another" / "corpus" / "tokenizer")
    (folder / "another" / "run.toml").touch()
    ranking = rank_features(features, n_shifts=1)
    for name, table in (("ranking", ranking), ("theirs", rank_features(other, n_shifts=1))):
        table.to_parquet(folder / f"{name}.parquet")
        table.drop(columns=["senses", "evidence"]).to_csv(folder / f"{name}.csv", index=False)
    return Files(folder, features, other, ranking, tiny_run.path)


def beyond(ranking: pd.DataFrame) -> pd.DataFrame:
    """Return a ranking of more latents, which carries no digest."""
    more = ranking.drop(columns="n_active").assign(latent=ranking["latent"] + 1)
    more.attrs.clear()
    return more


IN_PYTHON: dict[str, tuple[Callable[[Files, Path], Any], str]] = {
    "features and ranking": (
        lambda f, out: write_report(f.other, out, ranking=f.ranking),
        r"the ranking is not of the features in \S+other, but of other codes: `interp rank",
    ),
    "features and ranking without digests": (
        lambda f, out: write_report(f.other, out, ranking=pd.DataFrame(f.ranking.to_dict("list"))),
        r"the ranking is not of the features in \S+, but of another latent \d+: it fires \d+ times, not \d+",
    ),
    "features and ranking of more latents": (
        lambda f, out: write_report(f.features, out, ranking=beyond(f.ranking)),
        rf"of latent {D_SAE}, which is not in 0\.\.{D_SAE - 1}",
    ),
    "features and twin of another hook": (
        lambda f, out: rank_features(f.features, twin=planted(out, 1, hook_name=OTHER_HOOK)),
        r"is a scan of another hook than \S+features",
    ),
    "features and twin of other tokens": (
        lambda f, out: rank_features(f.features, twin=planted(out, 1, text=1)),
        "is a scan of other tokens than",
    ),
    "features and masks of other labels": (
        lambda f, out: rank_features(f.features, labels={"low": f.features.tokens < 6}),
        "the labels are other masks than those that .*features was scanned with",
    ),
    "tokens and labels of another text": (
        lambda f, out: rank_features(f.features, labels=Labels({"low": f.features.tokens < 5}, f.features.tokens + 1)),
        "the labels belong to other tokens .* in .*features",
    ),
    "store and labels of another text": (
        lambda f, out: scan(f, out, labels=Labels({}, ActivationStore.open(f.folder / "store").tokens + 1)),
        "the labels belong to other tokens",
    ),
    "features and quality": (
        lambda f, out: write_report(f.features, out, quality=qualities(f.other)),
        r"the quality table belongs to other dictionaries \(SAE\) than the features in \S+features",
    ),
    "features and nulls": (
        lambda f, out: write_report(f.features, out, nulls=nulls_of(f.other)),
        r"the table of nulls is not of the features in \S+features, but of other codes",
    ),
    "stage of a run and its input": (
        lambda f, out: write_report(stale(f, out), out / "page"),
        r"concepts was made with another features than the run now has: `interp run`",
    ),
    "features and neurons of other labels": (
        lambda f, out: concept_table(f.features, planted(out, 1, label="lower")),
        r"is a scan of other labels than \S+features",
    ),
    "features and store of the nulls": (
        lambda f, out: check_store_of_scan(f.features, ActivationStore.open(f.folder / "store")),
        r"features is a scan of other tokens than \S+store holds",
    ),
    "scan and activations of another model": (
        lambda f, out: check_store_of_scan(scan(f, out), of_another_model(f, out), HOOK),
        r"out is a scan of other activations than \S+activations holds: scan that store",
    ),
    "neurons and activations of another model": (
        lambda f, out: nulls_on(f, out, of_another_model(f, out)),
        r"is a scan of other activations than \S+activations holds",
    ),
    "pooled features and activations of another model": (
        lambda f, out: scan(f, out).matrix(store=of_another_model(f, out)),
        r"activations holds other activations than \S+out is a scan of: give the store that was scanned",
    ),
    "scan and hook of the nulls": (
        lambda f, out: check_store_of_scan(scan(f, out), ActivationStore.open(f.folder / "store"), OTHER_HOOK),
        rf"is a scan of {HOOK}, not of {OTHER_HOOK}",
    ),
    "store and model": (
        lambda f, out: scan(f, out, model=shuffled_model(Transformer.load(f.run / "model"))),
        rf"the model's {HOOK} differs by \d+% from the activations in \S+store: give the model that was harvested",
    ),
    "tokens and unembedding": (
        lambda f, out: with_unembedding(f.features, torch.randn(D_IN, 10), out),
        "W_U has 10 tokens, but token id 19 occurs",
    ),
    "model and tokens to evaluate on": (
        lambda f, out: evaluate(f, HOOK, torch.full((2, 8), 10**6)),
        "token id 1000000 occurs",
    ),
    "SAE and hook of the model": (
        lambda f, out: evaluate(f, OTHER_HOOK, torch.ones(2, 8, dtype=torch.long)),
        rf"was trained on {HOOK}, which the model has too, not on {OTHER_HOOK}",
    ),
    "explanations and features": (
        lambda f, out: Judge(f.features, {D_SAE: "ox"}, [], endpoint(out), JudgeConfig()),
        rf"an explanation is for latent {D_SAE}, but the features of \S+ are 0\.\.{D_SAE - 1}",
    ),
    "codes and tokens": (
        lambda f, out: rank_codes(f.features.tokens[1:], f.features.codes),
        rf"codes have {N_SEQ * N_CTX} rows, but there are {(N_SEQ - 1) * N_CTX} tokens",
    ),
    "vocabulary and tokens": (
        lambda f, out: rank_codes(f.features.tokens, f.features.codes, vocab=["a"]),
        "the vocabulary has 1 tokens, but token id 19 occurs",
    ),
    "folder and id of a release": (
        lambda f, out: load_sae(f.folder / "sae", "blocks.0"),
        r"sae is one dictionary's folder, not a release with 'blocks.0': leave sae_id out",
    ),
    "folder and dictionary in sparsify's format": (
        lambda f, out: over_sparsify(out),
        "sae.safetensors was not written by interp and would be lost: choose another folder",
    ),
    "SAE and hook of the store": (
        lambda f, out: scan(f, out, hook=OTHER_HOOK),
        rf"was trained on {HOOK}, which \S+ has too, not on {OTHER_HOOK}: name {HOOK}",
    ),
}


def qualities(features: FeatureStore) -> pd.DataFrame:
    table = pd.DataFrame({"dictionary": ["SAE"], "fvu": [0.5]})
    table.attrs["decoders"] = {"SAE": decoder_digest(features.W_dec)}
    return table


def nulls_of(features: FeatureStore) -> Nulls:
    table = pd.DataFrame({"latent": range(D_SAE), "cosine": 0.5, "frozen_cosine": 0.1})
    table.attrs["features"] = scan_identity(features)
    return Nulls(table, table, table)


def stale(files: Files, folder: Path) -> Run:
    """Return a run whose features were scanned anew after they were ranked."""
    run = Run(shutil.copytree(files.run, folder / "run"))
    manifest = run.manifest("features")
    kept = {name: value for name, value in manifest.items() if name not in ("files", "sha256")}
    write_manifest(run.path / "features", kept | {"fingerprint": "new"})
    return run


def with_unembedding(features: FeatureStore, W_U: torch.Tensor, out: Path) -> FeatureStore:
    codes = features.codes[0 : features.tokens.numel()]
    return FeatureStore.from_codes(features.tokens, codes, out, W_dec=features.W_dec, W_U=W_U)


def evaluate(files: Files, hook: str, tokens: torch.Tensor) -> Any:
    return evaluate_dictionary(Transformer.load(files.run / "model"), hook, dictionary(HOOK), tokens)


def endpoint(folder: Path) -> Endpoint:
    return Endpoint(EndpointConfig(model="none", base_url="http://127.0.0.1:9/v1"), "key", folder)


def over_sparsify(folder: Path) -> None:
    folder.mkdir()
    (folder / "sae.safetensors").touch()
    dictionary(HOOK).save(folder)


class Labels(dict):
    """Masks that say of which tokens they are."""

    def __init__(self, masks: dict, tokens: torch.Tensor):
        super().__init__(masks)
        self.tokens = tokens


def scan(files: Files, out: Path, hook: str = HOOK, **given: Any) -> FeatureStore:
    return scan_features(
        load_sae(files.folder / "sae"), ActivationStore.open(files.folder / "store"), hook, out, **given
    )


def of_another_model(files: Files, out: Path) -> ActivationStore:
    """Return the activations of another model on the tokens of the store."""
    model = shuffled_model(Transformer.load(files.run / "model"))
    return harvest(model, ActivationStore.open(files.folder / "store").tokens, [HOOK], out / "activations")


def nulls_on(files: Files, out: Path, store: ActivationStore) -> Nulls:
    model = shuffled_model(Transformer.load(files.run / "model"))
    return compare_with_nulls(scan(files, out / "scan"), store, HOOK, model, out / "nulls", config=None)


@pytest.mark.parametrize("pair", IN_PYTHON)
def test_a_pair_that_disagrees_is_refused(files, tmp_path, pair):
    make, says = IN_PYTHON[pair]
    with pytest.raises(ValueError, match=says) as error:
        make(files, tmp_path / "out")
    assert "\n" not in str(error.value)


def test_features_are_a_scan_of_all_activations_that_are_the_same(files, tmp_path):
    """Those of the same model harvested again, and any on the tokens of codes whose origin is not known."""
    store = ActivationStore.open(files.folder / "store")
    again = harvest(Transformer.load(files.run / "model"), store.tokens, [HOOK], tmp_path / "again", dtype="float32")
    features = scan(files, tmp_path / "scan")
    assert again.digest != store.digest and features.is_scan_of(store) and features.is_scan_of(again)
    codes = FeatureStore.from_codes(store.tokens, features.codes[0 : store.n_ids], tmp_path / "codes")
    assert codes.is_scan_of(store) and codes.is_scan_of(of_another_model(files, tmp_path))


SCAN = ("scan", "{folder}/sae", "{folder}/store")
ON_THE_COMMAND_LINE: dict[str, tuple[tuple[str, ...], str]] = {
    "store and tokens": (
        (*SCAN, "--tokens", "{run}/corpus/val"),
        r"--tokens \S+val are not the tokens that \S+store was harvested from",
    ),
    "tokens and tokenizer": (
        (*SCAN, "--tokens", "{run}/corpus/train", "--tokenizer", "{folder}/tokenizer"),
        r"the tokenizer \S+ did not make --tokens \S+train",
    ),
    "store and tokenizer": (
        (*SCAN, "--tokenizer", "{folder}/tokenizer"),
        r"the tokenizer \S+ did not make the tokens of \S+store",
    ),
    "SAE and the only hook of a store": (
        ("scan", "{folder}/sae", "{folder}/elsewhere"),
        rf"the SAE was trained on {HOOK}, \S+ holds {OTHER_HOOK}: pass --hook {OTHER_HOOK} if you mean this",
    ),
    "SAE and the model of a store": (
        ("scan", "{folder}/sae-of-another", "{folder}/store"),
        r"the SAE was trained on activations of another model than \S+store holds: pass --hook",
    ),
    "model and tokenizer": (
        (*SCAN, "--model", "{run}/model", "--tokenizer", "{folder}/wide"),
        r"--model \S+ has \d+ tokens, but the tokenizer has \d+",
    ),
    "model and tokens": (
        ("harvest", "{folder}/another", "{run}", "--hook", HOOK),
        r"the tokenizer of \S+another did not make the tokens of \S+: .*`interp tokenize --model \S+another` makes",
    ),
    "model and tokens to measure on": (
        ("quality", "{folder}/sae", "--model", "{folder}/another", "--tokens", "{run}/corpus/val"),
        r"the tokenizer of \S+another did not make the tokens of \S+val: ",
    ),
    "features and --ranking": (
        ("report", "{folder}/features", "--ranking", "{folder}/theirs.parquet"),
        r"--ranking \S+ is not of the features in \S+features, but of other codes",
    ),
    "features and --explanations": (
        ("judge", "{folder}/features", "--explanations", "{folder}/theirs.csv", "--model", "none"),
        r"--explanations \S+ is not of the features in \S+, but of another latent",
    ),
}


@pytest.mark.parametrize("pair", ON_THE_COMMAND_LINE)
def test_a_command_ends_with_one_line_and_exit_code_2(files, tmp_path, capsys, pair):
    words, says = ON_THE_COMMAND_LINE[pair]
    places = {"folder": files.folder, "run": files.run}
    out = tmp_path / ("out.csv" if words[0] == "quality" else "out")
    assert main([*(word.format(**places) for word in words), "--out", str(out)]) == 2
    said = [line for line in capsys.readouterr().err.splitlines() if line.startswith("interp: ")]
    assert len(said) == 1 and re.search(says, said[0]), said
    assert not (tmp_path / "out/meta.json").exists()


def test_functions_accept_inputs_of_one_run(files, tmp_path, capsys, caplog):
    """The first part of the tokens, the SAE's own hook unasked, a renamed hook, a ranking's rows from any file."""
    words = [
        str(word) for word in (files.folder / "sae", files.folder / "store", "--tokens", files.run / "corpus/train")
    ]
    assert main(["scan", *words, "--out", str(tmp_path / "scan")]) == 0
    assert FeatureStore.open(tmp_path / "scan").meta["hook_name"] == HOOK and not caplog.records
    renamed = [str(files.folder / name) for name in ("foreign", "elsewhere")]
    assert main(["scan", *renamed, "--out", str(tmp_path / "renamed")]) == 0
    assert "trained on model.layers.0" in caplog.text and OTHER_HOOK in caplog.text
    there = [str(files.folder / name) for name in ("sae", "elsewhere")]
    assert main(["scan", *there, "--hook", OTHER_HOOK, "--out", str(tmp_path / "meant")]) == 0
    for table in (files.ranking.query("n_active > 90"), pd.read_csv(files.folder / "ranking.csv")):
        check_table(files.features, table, "the ranking")


def test_quality_names_a_dictionary_of_another_model(files, caplog):
    def measured(name: str) -> str:
        measured_on = ["--model", str(files.run), "--tokens", str(files.run / "corpus/val"), "--max-tokens", "200"]
        caplog.clear()
        assert main(["quality", str(files.folder / name), *measured_on]) == 0
        return caplog.text

    assert "sae-of-another was trained on activations of another model than" in measured("sae-of-another")
    assert "another model" not in measured("sae")
