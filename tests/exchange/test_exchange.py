"""What other tools read: Neuronpedia's feature files, Delphi's firings, a folder for the hub."""

import json
import shutil
import sys
from contextlib import nullcontext
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from safetensors.numpy import load_file

from interp import Run, exchange, load_sae, load_transcoders
from interp.checks.errors import OverwriteError
from interp.cli import main
from interp.exchange.hub import model_card
from interp.exchange.results_format import RESULTS_FORMATS
from interp.pipeline.stages import LEFT_OUT, STAGES
from interp.sae import SAE, Threshold
from models.text_sources.own_text import huggingface

FEATURE = {
    *("feature_index", "neuron_alignment_indices", "neuron_alignment_values", "neuron_alignment_l1"),
    *("correlated_neurons_indices", "correlated_neurons_l1", "correlated_neurons_pearson"),
    *("correlated_features_indices", "correlated_features_l1", "correlated_features_pearson"),
    *("neg_str", "neg_values", "pos_str", "pos_values", "frac_nonzero", "freq_hist_data_bar_values"),
    *("freq_hist_data_bar_heights", "logits_hist_data_bar_heights", "logits_hist_data_bar_values"),
    *("n_prompts_total", "n_tokens_in_prompt", "dataset", "activations", "decoder_weights_dist", "vector"),
}
"""Arguments of sae_dashboard.neuronpedia.neuronpedia_dashboard.NeuronpediaDashboardFeature, version 0.8.0."""
ACTIVATION = {"bin_min", "bin_max", "bin_contains", "tokens", "values", "qualifying_token_index"}

MINE = '''
from dataclasses import dataclass

from interp.exchange.results_format import results_format


@dataclass(frozen=True, kw_only=True)
class CSVOptions:
    columns: str
    """The names of columns, with commas."""


@results_format("csv", CSVOptions)
def publish_csv(run, out, options, *, overwrite, progress):
    """one table"""
    out.mkdir()
    run.features.table()[options.columns.split(",")].to_csv(out / "table.csv", index=False)
    return out
'''


@pytest.fixture(scope="module")
def run(tiny_run) -> Run:
    return Run(tiny_run.path)


def test_neuronpedia_gets_every_feature_that_fires_with_its_fields(run, tmp_path):
    out = exchange.write_neuronpedia(run.features, tmp_path / "np", model_id="tiny", layer=0, sae_set="res-tiny")
    batches = [json.loads((out / f"batch-{i}.json").read_text()) for i in range(len(list(out.glob("batch-*.json"))))]
    assert all(set(batch) == {"model_id", "layer", "sae_set", "sae_id_suffix", "features"} for batch in batches)
    made = {feature["feature_index"]: feature for batch in batches for feature in batch["features"]}
    table = run.features.table().set_index("latent")
    skipped = json.loads((out / "skipped_indexes.json").read_text())["skipped_indexes"]
    assert set(made) == set(table.index[table.n_active > 0]) and set(skipped) == set(table.index) - set(made)
    for latent, feature in made.items():
        assert set(feature) == FEATURE and all(set(each) == ACTIVATION for each in feature["activations"])
        facts = table.loc[latent]
        assert feature["frac_nonzero"] == pytest.approx(facts.density)
        assert sum(feature["freq_hist_data_bar_heights"]) == facts.n_active
        top = feature["activations"][0]
        assert top["bin_min"] == -1 and max(top["values"]) == pytest.approx(facts["max"], abs=1e-3)
        assert top["values"][top["qualifying_token_index"]] == max(top["values"])
        assert feature["pos_str"] == [run.features.vocab[token] for token in facts.top_logit_tokens]
        shown = [each for each in feature["activations"] if each["bin_min"] >= 0]
        assert sorted((each["bin_max"] for each in shown), reverse=True) == [each["bin_max"] for each in shown]
    with pytest.raises(ValueError, match="layer=-1"):
        exchange.write_neuronpedia(run.features, tmp_path / "np", model_id="tiny", layer=-1, sae_set="x")
    with pytest.raises(ValueError, match="layer='0' must be a whole number"):
        exchange.write_neuronpedia(run.features, tmp_path / "np", model_id="tiny", layer="0", sae_set="x")


def test_delphi_reads_every_firing_of_every_latent(run, tmp_path, monkeypatch):
    features = run.features
    monkeypatch.setattr("interp.exchange.delphi.FIRINGS_PER_FILE", features.codes.nnz // 4)
    monkeypatch.setattr("interp.codes.code_chunks.ROWS_PER_CHUNK", len(features.codes) // 3)
    out = exchange.write_delphi(features, tmp_path, model_name="tiny")
    folder = out / features.meta["hook_name"]
    config = json.loads((folder / "config.json").read_text())
    assert config["model_name"] == "tiny" and config["cache_ctx_len"] == features.n_ctx
    spans = sorted(tuple(map(int, file.stem.split("_"))) for file in folder.glob("*.safetensors"))
    assert len(spans) == config["n_splits"] > 2
    assert [first for first, _ in spans[1:]] == [last + 1 for _, last in spans[:-1]]
    assert (spans[0][0], spans[-1][1]) == (0, features.d_sae - 1)
    n_seq = len(features.tokens)
    found = np.zeros((n_seq, features.n_ctx, features.d_sae), np.float32)
    for first, last in spans:  # as delphi.latents.loader.TensorBuffer.load does
        data = load_file(folder / f"{first}_{last}.safetensors")
        assert data["activations"].dtype == np.float16 and (data["tokens"] == features.tokens.numpy()).all()
        seq, position, latent = data["locations"].astype(np.int64).T
        assert latent.size == 0 or latent.max() <= last - first
        found[seq, position, latent + first] = data["activations"]
    codes = features.codes[0 : len(features.codes)].scipy().toarray().reshape(found.shape)
    np.testing.assert_array_equal(found, np.where(codes > 1e-5, codes, 0).astype(np.float16))


def test_the_card_of_a_model_without_a_loss_shows_no_number_for_it():
    run: Any = SimpleNamespace(
        sae=SimpleNamespace(d_sae=4, preferred_format="interp"),
        hook_name="blocks.0.hook_mlp_out",
        provenance=lambda: {"config_sha256": "0" * 64, "seed": 0, "versions": {}},
        summaries=dict,
        has=lambda stage: stage == "quality",
        quality=pd.DataFrame([{"dictionary": "sae", "l0": 8.0, "fvu": 0.25, "ce_recovered": np.nan}]),
    )
    assert "| sae | 8.0 | 0.250 | – |" in model_card(run)


def test_write_hub_folder_writes_the_dictionary_and_its_card(run, tmp_path, monkeypatch):
    folder = exchange.write_hub_folder(run, tmp_path / "folder", license="mit")
    assert torch.equal(load_sae(folder).W_dec, run.sae.W_dec)
    assert len(pd.read_parquet(folder / "ranking.parquet")) == len(run.ranking)
    card = (folder / "README.md").read_text()
    assert card.startswith("---\ntags:\n- sparse-autoencoder") and "license: mit\n" in card
    assert f"# {run.sae!r}" in card and f"{run.quality.fvu[0]:.3f}" in card and "frozen decoder" in card
    assert run.provenance()["config_sha256"][:12] in card and "torch" in card

    class Hub:
        """A hub that keeps uploads in a local folder."""

        def create_repo(self, repo_id, private, exist_ok):
            assert private and exist_ok
            return f"https://hub.invalid/{repo_id}"

        def upload_folder(self, folder_path, repo_id):
            shutil.copytree(folder_path, tmp_path / "hub" / repo_id)

    monkeypatch.setattr("huggingface_hub.HfApi", Hub)
    assert exchange.upload_to_hub(folder, "me/tiny") == "https://hub.invalid/me/tiny"
    assert torch.equal(load_sae(tmp_path / "hub/me/tiny").W_enc, run.sae.W_enc)
    with pytest.raises(ValueError, match="no cfg.json"):
        exchange.upload_to_hub(tmp_path, "me/tiny")
    with pytest.raises(ValueError, match="was not written by interp"):
        exchange.write_hub_folder(run, tmp_path)


def test_a_dictionary_of_the_same_weights_and_another_threshold_replaces_no_hub_folder(tmp_path):
    run: Any = SimpleNamespace(
        hook_name="blocks.0.hook_mlp_out",
        provenance=lambda: {"config_sha256": "0" * 64, "seed": 0, "versions": {}},
        summaries=dict,
        has=lambda stage: False,
    )
    weights = {"W_enc": torch.eye(2), "W_dec": torch.eye(2), "b_enc": torch.zeros(2), "b_dec": torch.zeros(2)}
    for least in (0.0, 1.0):
        run.sae = SAE(**weights, encoder=Threshold(torch.full((2,), least)), metadata={})
        with nullcontext() if least == 0 else pytest.raises(OverwriteError):
            exchange.write_hub_folder(run, tmp_path / "folder")


@pytest.mark.parametrize("package", ["datasets", "yaml", "huggingface_hub"])
def test_a_missing_package_of_the_hub_is_named_with_what_installs_it(tmp_path, monkeypatch, package):
    monkeypatch.setitem(sys.modules, package, None)
    ask = {
        "datasets": lambda: next(huggingface("a/name", "", "train", "text", "", size=100)),
        "yaml": lambda: load_transcoders(tmp_path),
        "huggingface_hub": lambda: exchange.upload_to_hub(tmp_path, "me/tiny"),
    }[package]
    with pytest.raises(ValueError, match=rf"missing \(.*{package}.*\): pip install 'interp\[hub\]'"):
        ask()


def test_the_card_of_a_run_whose_nulls_were_left_out_has_none(run, monkeypatch):
    manifests = {name: run.manifest(name) for name in STAGES}
    manifests["nulls"] |= {"results": {LEFT_OUT: "a transcoder has none"}}
    monkeypatch.setattr(Run, "manifest", lambda run, stage: manifests[stage])
    card = exchange.hub.model_card(run)
    assert "next to their nulls" not in card and f"{run.quality.fvu[0]:.3f}" in card


def test_the_layer_for_neuronpedia_is_that_of_the_hook(run, tmp_path, monkeypatch, capsys):
    """Block 15 was published as layer 0 of the model."""
    command = ["publish", str(run.path), "--to", "neuronpedia", "--model-id", "tiny", "--sae-set", "res", "--out"]
    layers = []
    monkeypatch.setattr("interp.exchange.neuronpedia.write_neuronpedia", lambda *_, layer, **__: layers.append(layer))
    monkeypatch.setattr(Run, "hook_name", "model.layers.15")
    assert main([*command, str(tmp_path / "named")]) == 0
    assert main([*command, str(tmp_path / "given"), "--layer", "3"]) == 0
    assert layers == [15, 3]
    monkeypatch.setattr(Run, "hook_name", "activations")
    assert main([*command, str(tmp_path / "no")]) == 2
    assert "activations does not name its layer: give --layer" in capsys.readouterr().err


def test_a_users_format_of_results_is_one_function(run, tmp_path, capsys):
    file = tmp_path / "mine.py"
    file.write_text(MINE)
    command = ["publish", str(run.path), "--to", "csv", "--import", str(file), "--out", str(tmp_path / "csv")]
    try:
        assert main([*command, "--columns", "density"]) == 0
        assert list(pd.read_csv(tmp_path / "csv/table.csv").columns) == ["density"]
        assert main(command) == 2 and "--to csv needs --columns" in capsys.readouterr().err
        assert main([*command[:4], "--help", *command[4:6]]) == 0
        text = " ".join(capsys.readouterr().out.split())
        assert "csv: one table. Options: --columns (needed)." in text and "hub: the dictionary with a card" in text
    finally:
        del RESULTS_FORMATS["csv"]


def test_the_command_writes_each_and_refuses_in_a_line(run, tmp_path, capsys):
    folder = str(run.path)
    assert main(["publish", folder, "--to", "delphi", "--model-id", "m", "--out", str(tmp_path / "delphi")]) == 0
    assert main(["publish", folder, "--to", "hub", "--out", str(tmp_path / "hub")]) == 0
    names = ["--model-id", "tiny", "--sae-set", "res"]
    assert main(["publish", folder, "--to", "neuronpedia", "--out", str(tmp_path / "np"), *names]) == 0
    assert (tmp_path / "hub/README.md").is_file()
    assert json.loads((tmp_path / "np/batch-0.json").read_text())["layer"] == 0
    capsys.readouterr()
    for arguments, said in (
        (["neuronpedia"], "--model-id"),
        (["neuronpedia", "--repo", "me/x"], "--repo me/x is for --to hub"),
    ):
        assert main(["publish", folder, "--out", str(tmp_path / "no"), "--to", *arguments]) == 2
        error = capsys.readouterr().err
        assert said in error and error.count("\n") == 1
