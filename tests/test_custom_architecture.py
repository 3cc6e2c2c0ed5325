"""An architecture of a user's own script does all that those of the library do."""

import inspect
import json
from dataclasses import dataclass
from typing import ClassVar

import pytest

pytest.importorskip("sae_lens")

from analyses import custom_architecture
from analyses.custom_architecture import GroupLassoConfig
from interp.sae import SAEConfig, TopKConfig
from interp.sae.architectures.sae_config import ARCHITECTURES, config_from_dict, config_to_dict


def test_a_script_of_thirty_lines_adds_a_dictionary(tmp_path):
    results = custom_architecture.main(["--quick", "--threads", "1", "--out", str(tmp_path)])
    assert len(inspect.getsource(GroupLassoConfig).splitlines()) <= 30
    assert results["listed"] and max(results["gradient_differences"].values()) < 1e-12
    assert results["step"]["l0_group_lasso"] == pytest.approx(results["step"]["l0_topk"], rel=0.15)
    weak, strong, _ = results["sweep"]
    assert weak["as_alone"] and strong["l0"] < weak["l0"] and weak["fvu"] < strong["fvu"] < 1
    assert results["killed"]["same_bytes"] and results["killed"]["killed_after_rows_of_the_log"] > 20
    assert results["saelens"]["architecture"] == "standard" and results["saelens"]["config_read_back"]
    assert results["saelens"]["z"] < 1e-4 and results["saelens"]["x_hat"] < 1e-4
    assert json.loads((tmp_path / "results.json").read_text())["killed"] == results["killed"]


def test_it_is_known_by_its_name():
    config = GroupLassoConfig(d_sae=64, tokens=100, group=8)
    assert config_from_dict(json.loads(json.dumps(config_to_dict(config)))) == config


def test_a_name_that_another_has_is_refused():
    with pytest.raises(ValueError, match="architecture 'topk' is that of TopKConfig: give .*Mine another"):

        @dataclass(frozen=True, kw_only=True)
        class Mine(SAEConfig):
            architecture: ClassVar[str] = "topk"

    assert ARCHITECTURES["topk"] is TopKConfig


def test_what_an_architecture_must_say_is_asked_for():
    @dataclass(frozen=True, kw_only=True)
    class Silent(SAEConfig):
        architecture: ClassVar[str] = "silent"

    config = Silent(d_sae=8, tokens=100)
    del ARCHITECTURES["silent"]
    with pytest.raises(NotImplementedError, match="Silent says nowhere which entries fire: give it a method `pick`"):
        config.pick(None)
    with pytest.raises(NotImplementedError, match="Silent says nowhere what it becomes: give it a method `trained`"):
        config.trained({}, {})
