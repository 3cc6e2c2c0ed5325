"""The README and the guide say what works: their code runs, their names exist, their links lead somewhere."""

import importlib.util
import re
import shlex
from pathlib import Path

import pytest
import typer

import interp
from interp.cli import _app
from tests.foreign_models import TEXTS, write_foreign

ROOT = Path(__file__).parents[1]
README, GUIDE = ((ROOT / name).read_text(encoding="utf-8") for name in ("README.md", "analyses/GUIDE.md"))
BLOCKS = re.findall(r"```python\n(.*?)```", README + GUIDE, re.DOTALL)


def run_block(words: str, **smaller: object) -> None:
    """Run the block with these words, with values for a small model in place of its own, each of which it must have."""
    [block] = [block for block in BLOCKS if words in block]
    for own, small in smaller.items():
        assert own in block, own
        block = block.replace(own, str(small))
    exec(block, {})


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_the_ten_lines_run(tiny_run, folder, monkeypatch, capsys):
    monkeypatch.setattr(interp, "run_stages", lambda config, out: tiny_run, raising=False)
    run_block("run_stages(")
    assert (folder / "density.html").is_file() and "monosemanticity" in capsys.readouterr().out


def test_the_effects_of_a_feature_run(tiny_run, capsys):
    run_block("effects.steer(", **{"runs/demo": tiny_run.path, "dna": "python"})
    said = capsys.readouterr().out
    assert "nats, its null" in said and "Once upo" in said


def test_comparing_texts_and_probing_run(tiny_run, capsys):
    run_block("features.matrix(", **{"runs/demo": tiny_run.path, "german": "python", "french": "shakespeare"})
    assert "latents differ between German" in capsys.readouterr().out


def test_the_steps_for_a_users_model_run(folder):
    model = write_foreign("llama", folder / "model")
    small = {"[...]": TEXTS, "HuggingFaceTB/SmolLM2-135M": model, "blocks.15.": "blocks.1.", "n_ctx=128": "n_ctx=24"}
    run_block("load_model(", **small, **{"d_sae=8192, k=32, tokens=4_000_000": "d_sae=16, k=2, tokens=4_000"})
    assert (folder / "page" / "index.html").is_file() and interp.load_sae(folder / "sae").d_sae == 16


def test_every_block_is_run():
    assert len(BLOCKS) == 4, "each block of code has a test above"


def test_commands_and_their_options_exist():
    """Those in lines of a shell."""
    lines = re.findall(r"^    (?:\.venv/bin/)?interp (.+?)(?:  +#.*)?$", README + GUIDE, re.MULTILINE)
    assert len(lines) >= 4
    for line in lines:
        name, *words = shlex.split(line)
        app = typer.main.get_command(_app([name]))
        flags = {flag for option in app.commands[name].params for flag in option.opts}
        assert {word for word in words if word.startswith("--")} <= flags, line
    targets = re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert set(re.findall(r"\bmake ([a-z][\w-]*)(?=`|  |$)", README, re.MULTILINE)) <= set(targets)
    for module in re.findall(r"python -m ([\w.]+)", README + GUIDE):
        assert importlib.util.find_spec(module), module


@pytest.mark.parametrize("file", ["README.md", "analyses/GUIDE.md", "analyses/README.md", "CONTRIBUTING.md"])
def test_links_lead_to_files(file):
    text = (ROOT / file).read_text(encoding="utf-8")
    for link, section in re.findall(r"\]\(([^)#:]*)(?:#([^)]+))?\)", text):
        target = (ROOT / file).parent / link if link else ROOT / file
        assert target.exists(), link
        heads = re.findall(r"^#+ (.+)$", target.read_text(encoding="utf-8"), re.MULTILINE) if section else []
        assert not section or section in {re.sub(r"[^\w -]", "", head).lower().replace(" ", "-") for head in heads}


def test_files_to_read_first_exist():
    """A name without a folder is of the folder of the file before it, or of the repository."""
    folder = ROOT / "interp"
    for file in re.findall(r"`([\w/]+\.(?:py|js))`", (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")):
        found = [path for path in (folder / file, ROOT / "interp" / file, ROOT / file) if path.is_file()]
        assert found, file
        folder = found[0].parent


def test_the_configuration_in_the_readme_is_read(tmp_path):
    (tmp_path / "mine.toml").write_text(re.findall(r"```toml\n(.*?)```", README, re.DOTALL)[0], encoding="utf-8")
    config = interp.RunConfig.from_toml(tmp_path / "mine.toml")
    assert config.sae.architecture == "batchtopk" and config.model.source == "huggingface"
