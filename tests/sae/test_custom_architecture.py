"""An architecture in a user's script does everything that the library's do."""

import inspect
import json
import linecache
import sys
from dataclasses import dataclass
from types import SimpleNamespace
from typing import ClassVar

import pytest
import tomli_w
import torch

pytest.importorskip("sae_lens")

from analyses import custom_architecture
from analyses.custom_architecture import GroupLassoConfig
from analyses.gradient_check import check_gradients
from interp.activations import ActivationStore
from interp.checks.errors import OverwriteError
from interp.cli import main
from interp.pipeline.config import RunConfig
from interp.pipeline.execution import run_alone
from interp.pipeline.plugins import import_plugin, plugin_digest
from interp.pipeline.run import Run
from interp.pipeline.stages import STAGES
from interp.runtime.progress import Progress, no_progress
from interp.sae import SAEConfig, Threshold, TopKConfig, load_sae, train_sae
from interp.sae.architectures.encoders import Encoder, StoredEncoder
from interp.sae.architectures.sae_config import ARCHITECTURES, code_digest, config_from_dict, config_to_dict
from interp.sae.hook_scales import HookScales
from interp.sae.learner import Learner
from tests.forked import run_python
from tests.tiny import SECTIONS


def test_a_script_of_thirty_lines_adds_a_dictionary(tmp_path, monkeypatch):
    forked = SimpleNamespace(run=lambda words, **_: run_python(words[2]))
    monkeypatch.setattr(custom_architecture, "subprocess", forked)  # Python would import all again
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
    with pytest.raises(ValueError, match="architecture 'topk' is already registered: choose another name"):

        @dataclass(frozen=True, kw_only=True)
        class Mine(SAEConfig):
            architecture: ClassVar[str] = "topk"

    assert ARCHITECTURES["topk"] is TopKConfig


def test_architecture_without_pick_or_trained_is_refused(tmp_path):
    @dataclass(frozen=True, kw_only=True)
    class Silent(SAEConfig):
        architecture: ClassVar[str] = "silent"

    config = Silent(d_sae=8, tokens=100)
    del ARCHITECTURES["silent"]
    with pytest.raises(NotImplementedError, match="Silent does not define `pick`: return the picker"):
        config.pick(None)
    store = ActivationStore.from_batches([torch.randn(100, 4)], tmp_path / "store")
    with pytest.raises(ValueError, match="Silent does not define `trained_encoder`: return the encoder"):
        train_sae(store, "activations", config)  # before the first step, which would ask for `pick`


@dataclass(frozen=True, eq=False)
class Damped(Encoder):
    """z = ReLU(pre) · sigmoid(⟨x, damping[j]⟩)"""

    name: ClassVar[str] = "damped"
    damping: torch.Tensor

    def encode(self, x, weights):
        pre = x @ weights.encoder_rows.T + weights.b_enc
        return pre.relu() * (x @ self.damping.T).sigmoid()

    def scaled(self, scale):
        return Damped(self.damping * scale)

    def to_stored(self):
        return StoredEncoder({}, {"damping": self.damping})

    @classmethod
    def from_stored(cls, settings, parts, d_sae, source):
        return cls(parts.pop("damping", d_sae, None))


@dataclass(frozen=True, kw_only=True)
class DampedConfig(SAEConfig):
    architecture: ClassVar[str] = "damped"

    def initial_matrices(self, weights):
        return {"damping": torch.full_like(weights["encoder_rows"], 0.01)}

    def pick(self, step):
        return Threshold(torch.zeros_like(step.weights["b_enc"]))

    def activate(self, step):
        return step.pre * step.dot_rows("damping").sigmoid()

    def trained_encoder(self, weights, state):
        return Damped(weights["damping"].clone())


def test_an_architecture_may_have_a_matrix_of_its_own(tmp_path):
    """It is trained, resampled, saved and read back with the other weights, and the trained dictionary uses it."""
    sizes = {"d_sae": 24, "tokens": 20_000, "batch_size": 100, "device": "cpu"}
    assert max(check_gradients(DampedConfig(**sizes)).values()) < 1e-12
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(2_000, 30, generator=generator).relu() @ torch.randn(30, 12, generator=generator) + 3
    store = ActivationStore.from_batches([x], tmp_path / "store", dtype="float32")
    rows = []
    config = DampedConfig(**sizes, resample_at=(0.5,), dead_after=500)
    sae = train_sae(store, "activations", config, tmp_path / "sae", log=rows.append)
    assert isinstance(sae.encoder, Damped) and sae.damping.shape == (24, 12)
    assert not sae.damping.allclose(sae.damping[:1, :1])
    error = (sae(x) - x).square().sum() / (x - x.mean(0)).square().sum()
    assert float(error) == pytest.approx(rows[-1]["fvu"], rel=0.2) and error < 0.4
    again = load_sae(tmp_path / "sae")
    assert torch.equal(again.damping, sae.damping) and torch.equal(again.encode(x), sae.encode(x))
    assert torch.allclose(sae.codes(x).dense(), sae.encode(x), atol=1e-5)


def test_a_matrix_of_its_own_needs_a_single_hook(tmp_path):
    hook = ActivationStore.from_batches([torch.randn(100, 4)], tmp_path / "store").statistics("activations")
    with pytest.raises(ValueError, match=r"'damped' has matrices of its own \(damping\), .*: train on one hook"):
        Learner(DampedConfig(d_sae=8, tokens=100), HookScales(inputs=(hook, hook)), torch.device("cpu"))


MINE = '''
from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch

from interp.pipeline.stages import stage
from interp.sae import SAEConfig, Threshold
from interp.checks.limits import Positive


@dataclass(frozen=True, kw_only=True)
class BiasedConfig(SAEConfig):
    architecture: ClassVar[str] = "biased"
    level: Positive = 0.25
    """Where a latent begins to fire."""

    def pick(self, step):
        return Threshold(torch.full_like(step.weights["b_enc"], self.level))

    def trained_encoder(self, weights, state):
        return Threshold(torch.full_like(weights["b_enc"], self.level))


@dataclass(frozen=True)
class WidestConfig:
    latents: int = 2


@stage(inputs=("sae",), config={"widest": WidestConfig}, summary="{norm:.1f}")
def widest(run, folder, progress):
    """the largest norm of a decoder's rows"""
    return {"norm": float(run.sae.W_dec.norm(dim=1).max()), "level": run.sae.config.level}
'''


@pytest.fixture
def mine(tmp_path):
    file = tmp_path / "mine.py"
    file.write_text(MINE)
    yield file
    ARCHITECTURES.pop("biased", None)
    STAGES.pop("widest", None)
    for name in [name for name in sys.modules if name.startswith("mine_")]:
        del sys.modules[name]


def forget() -> None:
    """Act like a process that never imported it."""
    del ARCHITECTURES["biased"], STAGES["widest"]


def test_a_dictionary_of_code_that_was_edited_is_other_work(mine, tmp_path, monkeypatch):
    monkeypatch.setattr("interp.sae.training._CheckpointTimer.due", lambda clock: True)
    store = ActivationStore.from_batches([torch.randn(500, 4)], tmp_path / "store")

    def train(name: str, progress: Progress = no_progress) -> bytes:
        import_plugin(mine)
        config = ARCHITECTURES["biased"](d_sae=8, tokens=500, batch_size=100, device="cpu")
        train_sae(store, "activations", config, tmp_path / name, progress=progress)
        return (tmp_path / name / "results.json").read_bytes()

    def cut(done, total, note):
        if done == 3:
            raise InterruptedError

    assert train("whole") == train("whole"), "it is not trained again"
    with pytest.raises(InterruptedError):
        train("cut", cut)
    mine.write_text(mine.read_text().replace("self.level)", "2 * self.level)"))
    for name in ("whole", "cut"):
        with pytest.raises(OverwriteError, match=f"{name} .* other work: .*code"):
            train(name)


def test_code_of_an_architecture_in_a_notebook_is_told_apart_and_the_packages_is_its_version():
    def config_of(cell: str, code: str) -> SAEConfig:
        linecache.cache[cell] = (len(code), None, code.splitlines(keepends=True), cell)
        cells = {"__name__": "a notebook"}
        exec(compile(code, cell, "exec"), cells)
        return cells["MineConfig"](d_sae=8, k=2, tokens=100)

    cell = """
from interp.sae import TopKConfig
from dataclasses import dataclass

@dataclass(frozen=True, kw_only=True)
class MineConfig(TopKConfig):
    def loss(self, step):
        return 2 * super().loss(step)
"""
    first, again, edited = map(
        config_of, ("cell 1", "cell 2", "cell 3"), (cell, "\n" + cell, cell.replace("2 *", "3 *"))
    )
    assert code_digest(first) == code_digest(again) != code_digest(edited)
    assert code_digest(TopKConfig(d_sae=8, k=2, tokens=100)) is None


def test_a_run_imports_the_users_own_file_and_keeps_its_digest(mine, tmp_path, capsys):
    few = {name: SECTIONS[name] | {"tokens": 10_000} for name in ("training", "harvest")}
    sections = SECTIONS | few | {"sae": {"architecture": "biased", "d_sae": 64, "tokens": 5_000, "batch_size": 512}}
    file = tmp_path / "c.toml"
    file.write_text(tomli_w.dumps({"plugins": ["mine.py"]} | sections | {"widest": {"latents": 3}}))
    arguments = ["run", str(file), "--out", str(tmp_path / "run"), "--until", "sae"]
    assert main(arguments) == 0
    assert main(["run", str(file), "--out", str(tmp_path / "run"), "--until", "sae"]) == 0
    assert capsys.readouterr().out.count("(done before)") == 4
    digest = plugin_digest(mine)
    run = Run(tmp_path / "run")
    assert run.config.plugins == {str(mine): digest} and run.config.widest.latents == 3
    assert [run.manifest(name)["config"].get("plugins") for name in ("corpus", "sae")] == [None, [digest]]
    assert run.sae.config.level == 0.25
    config = run.config
    assert run.config is config, "it is read once, as nothing was imported since"

    forget()
    mine.write_text("raise SystemExit('a run that is opened runs no code')")
    opened = Run(tmp_path / "run")
    assert opened.config.to_dict() == config.to_dict() and opened.config.sae.level == 0.25
    assert opened.sae.config is None and opened.sae.d_sae == 64, "it encodes by what the file of its weights says"
    assert type(opened.config.sae) is not type(config.sae)
    for name in [name for name in sys.modules if name.startswith("mine_")]:
        del sys.modules[name]
    with pytest.raises(ValueError, match=f"was made with {mine}: add --import"):
        run_alone(opened, "sae", progress=lambda done, total, note: None)
    assert "biased" not in ARCHITECTURES

    mine.write_text(MINE.replace("return Threshold", "# as they say\n        return Threshold") + "\n\n# changed")
    assert main(arguments) == 0 and capsys.readouterr().out.count("(done before)") == 4
    mine.write_text(MINE.replace("norm(dim=1)", "norm(dim=0)"))
    assert main(arguments) == 2
    message = capsys.readouterr().err
    assert f"another configuration (the code of {mine} has changed);" in message and message.endswith(": sae\n")
    assert main([*arguments, "--redo"]) == 0 and capsys.readouterr().out.count("(done before)") == 3


def test_a_stage_of_the_users_own_file_runs_in_its_place(mine, tmp_path):
    file = tmp_path / "c.toml"
    file.write_text(tomli_w.dumps({"plugins": [str(mine)]} | SECTIONS))
    config = RunConfig.from_toml(file, import_plugins=True)
    assert list(STAGES)[-2:] == ["widest", "report"] and config.widest.latents == 2


def test_a_configuration_is_read_again_after_a_plugin_was_imported(mine, tmp_path):
    digest = plugin_digest(mine)
    sections = {"plugins": {str(mine): digest}, "sae": {"architecture": "biased", "d_sae": 64, "tokens": 5_000}}
    (tmp_path / "run.toml").write_text(tomli_w.dumps(sections))
    run = Run(tmp_path)
    assert run.config is run.config and not hasattr(run.config.sae, "pick")
    import_plugin(mine)
    assert run.config is run.config and run.config.sae.pick is not None


def test_a_run_may_stop_after_a_stage_of_the_users_own_file(mine, tmp_path, monkeypatch):
    file = tmp_path / "c.toml"
    file.write_text(tomli_w.dumps({"plugins": [str(mine)]} | SECTIONS))
    until = []
    monkeypatch.setattr("interp.cli.run_commands._show_stages", lambda config, out, name, redo: until.append(name))
    assert main(["run", str(file), "--out", str(tmp_path / "run"), "--until", "widest"]) == 0 and until == ["widest"]


def test_a_command_imports_the_users_own_file(mine, tmp_path, capsys):
    store = ActivationStore.from_batches([torch.randn(2_000, 16)], tmp_path / "store")
    arguments = [
        "train-sae",
        str(store.path),
        "--d-sae",
        "32",
        "--out",
        str(tmp_path / "sae"),
        "--architecture",
        "biased",
    ]
    assert main(arguments) == 2 and "architecture 'biased' does not exist" in capsys.readouterr().err
    assert main([*arguments, "--level", "-1", "--import", str(mine)]) == 2
    assert "level=-1 must be above 0" in capsys.readouterr().err, "its annotations are text"
    assert main([*arguments, "--level", "0.5", "--import", str(mine)]) == 0
    assert load_sae(tmp_path / "sae").config.level == 0.5
    assert main(["train-sae", f"--import={mine}", "--fields", "biased"]) == 0
    assert "Where a latent begins to fire." in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["scan", "--import"], "--import needs the name of a Python file"),
        (["scan", "--import", "nowhere.py"], "nowhere.py does not exist"),
        (["scan", "--import", "README.md"], "README.md is not a Python file"),
        (["run", "c.toml", "--import", "mine.py"], 'write plugins = ["mine.py"] in its configuration'),
        (["--import", "mine.py", "run", "c.toml"], 'write plugins = ["mine.py"] in its configuration'),
        (["scan", "demo", "run", "--import", "nowhere.py"], "nowhere.py does not exist"),
    ],
)
def test_what_cannot_be_imported_is_one_line(arguments, message, capsys):
    assert main(arguments) == 2
    assert message in capsys.readouterr().err


def test_words_after_two_dashes_import_nothing(capsys):
    assert main(["export", "--", "--import", "nowhere.py"]) == 2
    assert "nowhere.py does not exist" not in capsys.readouterr().err


def test_plugins_are_a_list_of_files(tmp_path):
    (tmp_path / "c.toml").write_text('plugins = "mine.py"')
    with pytest.raises(ValueError, match=r"plugins = 'mine.py' must be a list of files"):
        RunConfig.from_toml(tmp_path / "c.toml")
