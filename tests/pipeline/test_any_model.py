"""Models from elsewhere in a run and on the command line: every stage works on each family."""

import pandas as pd
import pytest
import torch

from interp import run_stages
from interp.cli import main
from interp.pipeline.config import RunConfig
from interp.pipeline.stages import STAGES
from interp.report.live import LiveModel
from interp.sae import load_sae
from tests.foreign_models import D_MODEL, TEXTS, write_foreign
from tests.tiny import copy_stages

HOOK = "blocks.1.hook_resid_post"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("foreign")
    (folder / "text.txt").write_text("\n\n".join(TEXTS), encoding="utf-8")
    for family in ("gpt2", "llama"):
        write_foreign(family, folder / family)
    return folder


def config(folder, family, **sections) -> RunConfig:
    given = {
        "corpus": {
            "source": "files",
            "paths": [str(folder / "text.txt")],
            "val_fraction": 0.2,
            "document_characters": 200,
        },
        "model": {"source": "huggingface", "name": str(folder / family), "n_ctx": 32},
        "harvest": {"hook_name": HOOK, "tokens": 4_000, "batch_size": 16},
        "sae": {"architecture": "topk", "d_sae": 18, "k": 4, "tokens": 4_000, "batch_size": 256},
        "quality": {"tokens": 1_000, "batch_size": 8},
        "ranking": {"n_shifts": 1},
        "effects": {"sequences": 2},
        "nulls": {"tokens": 1_000, "sae_tokens": 1_000, "latents": 2},
    }
    return RunConfig.from_dict(given | sections)


def test_every_stage_works_on_a_model_from_elsewhere(folder):
    """`test_families` has a run of another family."""
    run = run_stages(config(folder, "gpt2"), folder / "run-gpt2")
    assert all(run.manifest(name) for name in STAGES)
    assert run.model.name == "gpt2" and run.store.d(HOOK) == D_MODEL
    special = torch.tensor(run.tokenizer.special_ids)
    assert len(run.store) == int((~torch.isin(run.harvested.tokens, special)).sum()), "all but special tokens"
    table = run.features.table()
    assert len(table) == 18 and table.top_logits.notna().any(), "logit effects"
    assert not any("�" in token for token in run.features.vocab)
    assert list(run.quality.dictionary) == ["SAE", "PCA", "coordinates", "random"]
    assert 0 < run.quality.fvu[0] < 1
    names = ["SAE", "neurons", "twin seed", "frozen decoder", "frozen encoder", "soft-frozen decoder"]
    names += ["shuffled model", "untrained model"]
    assert set(run.nulls.shares.dictionary) == set(names)
    assert run.page.is_file()
    live = LiveModel(run)
    read = live.read(TEXTS[0][:60])
    steered = live.steer(TEXTS[0][:60], {read["features"][0][0]: 2.0}, n_tokens=3)
    assert any(read["firing"]) and steered["plain"][: len(read["tokens"])] == read["tokens"]
    assert 0 < sum(p for _, p in live.at(TEXTS[0][:60], len(read["tokens"]) - 1)["next"]) <= 1


def test_a_dictionary_of_another_maker_is_scanned(folder, tmp_path):
    first = run_stages(config(folder, "gpt2"), folder / "run-gpt2", until="sae")
    first.sae.save(tmp_path / "theirs", format="saelens")
    asked = config(folder, "gpt2", sae={"load": str(tmp_path / "theirs")})
    copy_stages(first, tmp_path / "run")
    run = run_stages(asked, tmp_path / "run", until="features")
    assert run.results("sae")["steps"] == 0 and 0 < run.results("sae")["fvu"] < 1
    assert len(run.features) == 18
    torch.testing.assert_close(run.sae.W_dec, load_sae(tmp_path / "theirs").W_dec)
    other = load_sae(tmp_path / "theirs")
    with torch.no_grad():
        other.W_dec.neg_()
    other.save(tmp_path / "theirs", format="saelens", overwrite=True)
    changed = r"sae was made of other files of the loaded dictionary \(sae_weights.safetensors\)"
    message = rf"{changed}.*--redo .*: sae, features$"
    with pytest.raises(ValueError, match=message):
        run_stages(asked, tmp_path / "run", until="sae")
    run = run_stages(asked, tmp_path / "run", until="sae", redo=True)
    torch.testing.assert_close(run.sae.W_dec, other.W_dec, msg="the folder holds another dictionary now")
    (tmp_path / "theirs").rename(tmp_path / "elsewhere")
    torch.testing.assert_close(run_stages(asked, tmp_path / "run", until="sae").sae.W_dec, other.W_dec)
    (tmp_path / "elsewhere").rename(tmp_path / "theirs")
    with pytest.raises(ValueError, match="hook"):
        harvest = {"hook_name": "blocks.1.mlp.hook_post", "tokens": 4_000, "batch_size": 16}
        run_stages(config(folder, "gpt2", sae={"load": str(tmp_path / "theirs")}, harvest=harvest), tmp_path / "other")


@pytest.mark.parametrize(
    ("sections", "said"),
    [
        ({"model": {"source": "huggingface", "name": "NOWHERE"}}, "NOWHERE.* does not exist"),
        ({"harvest": {"hook_name": "blocks.9.hook_resid_post"}}, "no hook 'blocks.9.hook_resid_post'; did you mean"),
        ({"model": {"source": "huggingface", "name": "gpt2", "n_ctx": 65}}, "n_ctx = 65 is above the maximum of"),
    ],
)
def test_run_names_what_the_model_cannot_do_before_the_first_stage(folder, tmp_path, sections, said):
    if "model" in sections:
        sections["model"]["name"] = str(folder / sections["model"]["name"])
    with pytest.raises((ValueError, FileNotFoundError), match=said):
        run_stages(config(folder, "gpt2", **sections), tmp_path / "run")
    assert not any((tmp_path / "run").glob("*/manifest.json"))


@pytest.mark.parametrize(
    ("model", "said"),
    [
        ({"source": "hub"}, "source='hub' must be one of train, huggingface, gguf, transformer_lens"),
        ({"source": "gguf"}, "source 'gguf' needs name: a .gguf file"),
        ({"name": "gpt2"}, "name='gpt2' names a pretrained model: give its source too"),
        ({"source": "gguf", "name": "x", "dtype": "int8"}, "dtype='int8' must be 'auto'"),
    ],
)
def test_a_model_section_that_cannot_be_is_refused(model, said):
    with pytest.raises(ValueError, match=said):
        RunConfig.from_dict({"model": model})


def test_commands_take_a_model_from_elsewhere(folder, tmp_path, capsys):
    model, out = str(folder / "llama"), tmp_path
    with_source = f"huggingface:{model}"
    text = ["tokenize", folder / "text.txt", "--model", with_source, "--context", 32, "--out", out / "text"]
    harvest = ["harvest", with_source, out / "text/tokens", "--hook", HOOK, "--hook", "blocks.1.mlp.hook_post"]
    train = ["train-sae", out / "store", "--hook", HOOK, "--d-sae", 24, "--k", 4, "--tokens", 8_000]
    tokens = ["--tokens", out / "text/tokens"]
    scan = [out / "store", "--model", model, *tokens]
    for words in (
        text,
        [*harvest, "--out", out / "store"],
        [*train, "--batch-size", 256, "--out", out / "sae"],
        ["quality", out / "sae", "--model", model, *tokens, "--out", out / "quality.csv"],
        ["scan", out / "sae", *scan, "--out", out / "scan"],
    ):
        assert main([str(word) for word in words]) == 0, capsys.readouterr().err
    said = capsys.readouterr().out
    assert "ce_recovered " in said
    assert 0 < pd.read_csv(out / "quality.csv").fvu[0] < 1
    assert main(["quality", str(out / "sae"), "--model", str(folder / "gpt2"), *map(str, tokens)]) == 2
    assert "gpt2 did not make the tokens of" in capsys.readouterr().err
