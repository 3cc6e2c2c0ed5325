import ast
import copy
import dataclasses
import inspect
import re
import tomllib
from pathlib import Path

import pytest
import tomli_w

from interp.cli.sae_commands import field_lines
from interp.cli.toml_values import toml_value, toml_values
from interp.pipeline.config import RunConfig
from interp.pipeline.run import Run
from interp.pipeline.stages import ORDER, STAGES
from interp.sae import ARCHITECTURES, BatchTopKConfig, JumpReLUConfig, MatryoshkaConfig, ReLUConfig
from interp.sae.architectures.sae_config import config_from_dict
from interp.storage.artifacts import ARTIFACTS

LIBRARY = {name: kind for name, kind in ARCHITECTURES.items() if kind.__module__.startswith("interp.")}
"""The architectures of the library, without those that a script has registered in the same process."""


def write(path, text):
    path.write_text(text)
    return path


def test_a_configuration_cannot_be_changed():
    config = RunConfig()
    with pytest.raises(AttributeError, match="cannot assign to field 'sae'"):
        config.sae = JumpReLUConfig(d_sae=64, tokens=8)
    assert config == RunConfig() and config.replace(sae=JumpReLUConfig(d_sae=64, tokens=8)) != config


def test_a_run_reads_its_configuration_once_and_again_after_it_was_written(tmp_path):
    file = write(tmp_path / "run.toml", tomli_w.dumps(RunConfig().to_dict()))
    run = Run(tmp_path)
    assert run.config == RunConfig() and run.config is run.config
    file.unlink()
    write(file, tomli_w.dumps(RunConfig.quick().to_dict()))
    assert run.config == RunConfig.quick()


def test_configuration_survives_toml(tmp_path):
    config = RunConfig.quick()
    assert config != RunConfig()
    file = write(tmp_path / "run.toml", tomli_w.dumps(config.to_dict()))
    assert RunConfig.from_toml(file) == config


def library_stages():
    return [stage for stage in STAGES.values() if stage.build.__module__.startswith("interp.")]


def test_each_stage_of_the_library_is_in_the_file_of_its_name():
    home = {stage.name: stage.build.__module__ for stage in library_stages()}
    assert home == {name: f"interp.pipeline.stages.{name}" for name in home}
    assert set(ORDER) <= set(home)


def test_a_configuration_has_the_sections_of_the_stages():
    listed = {field.name for field in dataclasses.fields(RunConfig)} - {"extra", "plugins"}
    assert listed <= {name for stage in library_stages() for name in stage.config} <= set(RunConfig().sections())
    with pytest.raises(AttributeError, match="a configuration has no 'sea'; its sections are corpus, tokenizer"):
        _ = RunConfig().sea
    with pytest.raises(ValueError, match="section 'sea' does not exist"):
        RunConfig().replace(sea=3)
    assert copy.deepcopy(RunConfig()) == RunConfig()


def test_a_section_that_does_not_exist_is_answered_with_each_section_once(monkeypatch):
    own = dataclasses.replace(STAGES["concepts"], name="probes", config={"probes": dict})
    monkeypatch.setitem(STAGES, "probes", own)
    with pytest.raises(AttributeError) as error:
        _ = RunConfig().sea
    sections = str(error.value).partition("its sections are ")[2].split(", ")
    assert "probes" in sections and len(set(sections)) == len(sections)


def test_a_misspelt_section_is_answered_with_the_nearest():
    with pytest.raises(ValueError, match="section 'rankng' does not exist; did you mean ranking"):
        RunConfig.tiny().replace(rankng=RunConfig.tiny().ranking)


def test_attributes_listed_for_type_checking_are_those_of_the_stages():
    [body] = ast.parse(inspect.getsource(Run)).body
    listed = {
        line.target.id
        for block in body.body
        if isinstance(block, ast.If)
        for line in block.body
        if isinstance(line, ast.AnnAssign)
    }
    opened = {name for stage in library_stages() for name in stage.opens}
    assert listed <= opened and {"features", "ranking"} <= listed


def test_artifacts_lie_in_a_run_where_its_stages_write_them():
    for artifact in ARTIFACTS.values():
        if artifact.stage:
            stage = STAGES[artifact.stage]
            places = {Path(stage.name, place).as_posix() for place, _ in stage.opens.values()}
            assert artifact.inside[-1] in places and artifact.shared_by_hooks == (stage.made_for == "run")


def test_what_is_left_out_keeps_the_demo_defaults(tmp_path):
    file = write(tmp_path / "c.toml", '[sae]\narchitecture = "batchtopk"\nk = 16\n[corpus]\nval_fraction = 0.1\n')
    config, default = RunConfig.from_toml(file), RunConfig()
    assert isinstance(config.sae, BatchTopKConfig) and config.sae.k == 16
    assert (config.sae.d_sae, config.sae.tokens) == (default.sae.d_sae, default.sae.tokens)
    assert config.corpus == dataclasses.replace(default.corpus, val_fraction=0.1)
    assert config.training == default.training


def test_none_is_kept_where_the_demo_has_a_value(tmp_path):
    file = write(tmp_path / "c.toml", '[sae]\nlr = "none"\n[corpus]\ncharacters = "none"\n')
    config = RunConfig.from_toml(file)
    assert config.sae.lr is None and config.corpus.characters is None
    assert RunConfig.from_dict(config.to_dict()) == config


@pytest.mark.parametrize("architecture", LIBRARY)
def test_every_architecture_survives_toml(tmp_path, architecture):
    config = RunConfig.from_dict({"sae": {"architecture": architecture, "d_sae": 256, "seed": 3}})
    assert type(config.sae) is ARCHITECTURES[architecture]
    assert config.sae.tokens == RunConfig().sae.tokens and getattr(config.sae, "k", 8) == 8
    file = write(tmp_path / "run.toml", tomli_w.dumps(config.to_dict()))
    assert RunConfig.from_toml(file) == config


def test_fields_take_the_types_of_the_architecture():
    text = 'architecture = "matryoshka"\nd_sae = 64\nk = 4.0\ngroups = [0.5, 0.5]\nclip = 1\nk_start = "none"'
    sae = RunConfig.from_dict({"sae": tomllib.loads(text)}).sae
    assert isinstance(sae, MatryoshkaConfig) and sae.groups == (0.5, 0.5)
    assert type(sae.k) is int and type(sae.clip) is float and sae.k_start is None
    relu = config_from_dict({"architecture": "relu", "d_sae": 8, "tokens": 10, "resample_at": [0.25, 0.5]})
    assert isinstance(relu, ReLUConfig) and relu.resample_at == (0.25, 0.5)


def test_words_of_the_command_line_are_read_as_toml_values():
    words = {"32": 32, "1e-3": 1e-3, ".5": 0.5, "true": True, "[0.5, 0.5]": [0.5, 0.5], "cosine": "cosine"}
    words |= {"[1,\n2]": [1, 2], "'a#b'": "a#b"}
    words |= {text: text for text in ("1 # one", "1\nother = 2", "1, other = 2", "1}\nother = {a = 2", "1,")}
    assert {text: toml_value(text) for text in words} == words
    assert toml_values("16,32") == [16, 32] and toml_values("linear,cosine") == ["linear", "cosine"]
    assert toml_values("none,.5") == ["none", 0.5] and toml_values("[0.5,0.5],[1.0]") == [[0.5, 0.5], [1.0]]


@pytest.mark.parametrize("text", ["[1", "{a: 1}", '"x', "'x", "[END]"])
def test_a_word_that_begins_like_a_list_and_is_none_is_refused(text):
    with pytest.raises(ValueError, match=f"{re.escape(text)} is not a TOML value: write it like"):
        toml_value(text)
    with pytest.raises(ValueError, match="is not a TOML value"):
        toml_values(f"{text},2")


def test_fields_are_listed_with_their_types_and_defaults():
    lines = {line.split()[0]: " ".join(line.split()[1:]) for line in field_lines(JumpReLUConfig) if line[0] != " "}
    assert set(lines) == {field.name for field in dataclasses.fields(JumpReLUConfig)}
    assert lines["d_sae"] == "int needed" and lines["clip"] == 'float or "none" default none'


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"tokens": 10}, "relu needs d_sae$"),
        ({}, "relu needs d_sae and tokens"),
        ({"d_sae": 8, "tokens": 10, "l1": -1}, "l1=-1 must be at least 0"),
        ({"d_sae": 8, "tokens": 10, "l1_warm": 0}, "relu field 'l1_warm' does not exist; did you mean l1_warmup"),
        ({"d_sae": 8, "tokens": 10, "lr": float("nan")}, "lr=nan must be a finite number"),
        ({"d_sae": 8.5, "tokens": 10}, "d_sae=8.5 must be a whole number"),
        ({"d_sae": 8, "tokens": 10, "resample_at": [0.5, "x"]}, "resample_at='x' must be a number"),
        ({"d_sae": 8, "tokens": 10, "clip": "x"}, "clip='x' must be a number or none"),
        ({"d_sae": 8, "tokens": 10, "unit_norm": 1}, "unit_norm=1 must be true or false"),
    ],
)
def test_mistakes_in_a_dictionary_are_named(given, message):
    with pytest.raises(ValueError, match=message):
        config_from_dict({"architecture": "relu", **given})


def test_a_byte_order_mark_of_an_editor_is_skipped(tmp_path):
    (tmp_path / "c.toml").write_text("[sae]\nk = 3", encoding="utf-8-sig")
    assert RunConfig.from_toml(tmp_path / "c.toml").sae.k == 3


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[sea]\nk = 1", r"c.toml: section 'sea' does not exist; did you mean sae"),
        ("[sae]\nd_sea = 1", r"c.toml: \[sae\] topk field 'd_sea' does not exist; did you mean d_sae"),
        ('[sae]\nk = "32"', r"c.toml: \[sae\] k='32' must be a whole number"),
        ("[sae]\nk = 64\nd_sae = 32", r"c.toml: \[sae\] k=64 .*d_sae=32"),
        ('[sae]\narchitecture = "jumprelu"\nk = 8', r"\[sae\] jumprelu field 'k' does not exist"),
        ("[sae]\narchitecture = [1]", r"architecture \[1\] does not exist"),
        ('[sae]\narchitecture = "tokp"', r"architecture 'tokp' does not exist; did you mean topk"),
        ("sae = 3", r"sae must be a section"),
        ("[sae\n", r"c.toml is not valid TOML"),
        ('[tokenizer]\nkind = "words"', r"kind='words' must be 'bpe' or 'characters'"),
        ("[ranking]\nn_shifts = 0", r"\[ranking\] n_shifts=0 must be at least 1"),
        ("[training]\nbetas = [0.9]", r"\[training\] field 'betas' does not exist"),
        ("[corpus.shares]\nshakespeare = true", r"\[corpus\] shares=True must be a number"),
    ],
)
def test_from_toml_names_mistakes(tmp_path, text, message):
    with pytest.raises(ValueError, match=message):
        RunConfig.from_toml(write(tmp_path / "c.toml", text))
