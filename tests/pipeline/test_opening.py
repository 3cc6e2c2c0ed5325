"""What a path holds is found by one function, with one error that says what was looked for and what is there."""

import shutil

import pytest

from interp import ActivationStore, FeatureStore, Run, harvest, load_sae, open_any, scan_features
from interp.storage.artifacts import find_artifact, nearest_path


def test_open_any_takes_a_run_folder_for_its_stages_results(tiny_run):
    run = tiny_run.path
    assert isinstance(open_any(run), Run)
    features, store = open_any(run, "features"), open_any(run, "activations")
    assert isinstance(features, FeatureStore) and features.path == run / "features"
    assert isinstance(store, ActivationStore) and store.path == run / "activations/store"
    assert open_any(run, "sae").W_dec.equal(tiny_run.sae.W_dec)
    assert open_any(run, "tokens").tokens.equal(tiny_run.train_tokens.tokens)
    assert open_any(run, "tokenizer").digest == tiny_run.tokenizer.digest
    assert open_any(run, "model").d_vocab == tiny_run.model.d_vocab


def test_open_any_recognizes_each_artifact(tiny_run, tmp_path):
    run = tiny_run.path
    for name in ("features", "sae", "model"):
        assert find_artifact(run / name, "features", "sae", "model").artifact == name
    shutil.copytree(run / "sae", tmp_path / "made/sae")
    assert find_artifact(tmp_path / "made", "features", "sae") == ("sae", tmp_path / "made/sae")
    assert find_artifact(run / "activations", "activations").path == run / "activations/store"


def test_stores_and_dictionaries_open_from_a_run_a_stage_or_their_folder(tiny_run, tmp_path, monkeypatch):
    run = tiny_run.path
    assert ActivationStore.open(run).path == ActivationStore.open(run / "activations").path == run / "activations/store"
    assert FeatureStore.open(run).path == FeatureStore.open(run / "features").path == run / "features"
    assert load_sae(run).W_dec.equal(load_sae(run / "sae").W_dec)
    monkeypatch.chdir(run.parent)
    for open_it in (ActivationStore.open, FeatureStore.open, load_sae):
        with pytest.raises(ValueError, match=r"does not exist; did you mean .*/tiny\?"):
            open_it(run.parent / "tinny")


def test_arguments_in_the_wrong_order_are_reported(tiny_run, tmp_path):
    run, hook = tiny_run, tiny_run.hook_name
    with pytest.raises(
        ValueError, match=r"dictionary is a ActivationStore, store a SAE: the order is \(dictionary, store, hook, out\)"
    ):
        scan_features(run.store, run.sae, hook, tmp_path / "out")
    with pytest.raises(ValueError, match="the tokens hold text, 'some text': models.tokenize turns it into ids"):
        harvest(run.model, ["some text"], [hook], tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_misspelt_path_names_the_one_that_is_there(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "runs/demo/features").mkdir(parents=True)
    with pytest.raises(
        ValueError, match=r"^runs/demoo does not exist; did you mean runs/demo\? \(a run folder: `interp"
    ):
        find_artifact("runs/demoo", "run", "features")
    with pytest.raises(ValueError, match=r"did you mean runs/demo/features\?"):
        find_artifact("rusn/demo/feature", "features")
    with pytest.raises(ValueError, match=r"did you mean .*/runs/demo\?"):
        find_artifact(tmp_path / "runs/dmo", "run")
    with pytest.raises(
        ValueError, match=r"^elsewhere does not exist \(an SAE's folder: `interp train-sae` makes one\)$"
    ):
        find_artifact("elsewhere", "sae")
    assert nearest_path(tmp_path / "runs/nothing/alike") is None


def test_open_any_names_what_it_expected_and_what_it_found(tiny_run, tmp_path):
    with pytest.raises(ValueError, match=r"is not a run folder \(run.toml\): it is empty; `interp demo` or"):
        find_artifact(tmp_path, "run")
    (tmp_path / "a.txt").touch()
    with pytest.raises(ValueError, match=r"neither a feature store \(meta.json\), nor an SAE's folder \(cfg.json\)"):
        find_artifact(tmp_path, "features", "sae")
    with pytest.raises(ValueError, match=r"it holds a.txt; `interp harvest` makes one"):
        find_artifact(tmp_path, "activations")
    with pytest.raises(ValueError, match=r"a.txt is not a run folder \(run.toml\): it is a file"):
        find_artifact(tmp_path / "a.txt", "run")
    with pytest.raises(ValueError, match=r"run.toml is neither a run folder .*, nor labelled tokens .*: it is a file"):
        open_any(tiny_run.path / "run.toml")
    with pytest.raises(
        ValueError, match=r"sae is neither a feature store \(meta.json\), nor a run folder with one: it is an SAE's"
    ):
        find_artifact(tiny_run.path / "sae", "features")
    shutil.copytree(tiny_run.path, tmp_path / "run", ignore=shutil.ignore_patterns("features"))
    with pytest.raises(ValueError, match="run has no features yet: `interp run` or `interp demo` makes it"):
        find_artifact(tmp_path / "run", "features")
