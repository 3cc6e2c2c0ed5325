import dataclasses

import pytest
import tomli_w

from interp.config import RunConfig
from interp.sae import BatchTopKConfig


def write(path, text):
    path.write_text(text)
    return path


def test_configuration_survives_toml(tmp_path):
    config = RunConfig.quick()
    assert config != RunConfig()
    file = write(tmp_path / "run.toml", tomli_w.dumps(config.to_dict()))
    assert RunConfig.from_toml(file) == config


def test_what_is_left_out_keeps_the_demo_defaults(tmp_path):
    file = write(
        tmp_path / "c.toml", '[sae]\narchitecture = "batchtopk"\nk = 16\n[corpus]\npaths = ["a.txt", "b.txt"]\n'
    )
    config, default = RunConfig.from_toml(file), RunConfig()
    assert isinstance(config.sae, BatchTopKConfig) and config.sae.k == 16
    assert (config.sae.d_sae, config.sae.tokens) == (default.sae.d_sae, default.sae.tokens)
    assert config.corpus == dataclasses.replace(default.corpus, paths=("a.txt", "b.txt"))
    assert config.training == default.training


def test_none_is_kept_where_the_demo_has_a_value(tmp_path):
    file = write(tmp_path / "c.toml", '[sae]\nlr = "none"\n[corpus]\ncharacters = "none"\n')
    config = RunConfig.from_toml(file)
    assert config.sae.lr is None and config.corpus.characters is None
    assert RunConfig.from_dict(config.to_dict()) == config


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[sea]\nk = 1", r"c.toml: section 'sea' does not exist; did you mean sae"),
        ("[sae]\nd_sea = 1", r"c.toml: \[sae\] field 'd_sea' does not exist; did you mean d_sae"),
        ('[sae]\nk = "32"', r"c.toml: \[sae\] k = '32' must be of type int"),
        ("[sae]\nk = true", r"c.toml: \[sae\] k = True must be of type int"),
        ("[sae]\nk = 64\nd_sae = 32", r"c.toml: \[sae\] k=64 .*d_sae=32"),
        ('[sae]\narchitecture = "tokp"', r"architecture 'tokp' does not exist; did you mean topk"),
        ("sae = 3", r"sae must be a section"),
        ("[sae\n", r"c.toml is not valid TOML"),
        ('[tokenizer]\nkind = "words"', r"kind='words' must be 'bpe' or 'characters'"),
    ],
)
def test_mistakes_are_named(tmp_path, text, message):
    with pytest.raises(ValueError, match=message):
        RunConfig.from_toml(write(tmp_path / "c.toml", text))
