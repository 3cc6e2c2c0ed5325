"""The README says what works: its code runs, its names exist, its links lead somewhere."""

import ast
import importlib
import re
from pathlib import Path

import pytest

import interp

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```python\n(.*?)```", README, re.DOTALL)


def test_the_ten_lines_run(tiny_run, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(interp, "run_stages", lambda config, out: tiny_run, raising=False)
    monkeypatch.chdir(tmp_path)
    exec(BLOCKS[0], {})
    assert (tmp_path / "density.html").is_file() and "monosemanticity" in capsys.readouterr().out


@pytest.mark.parametrize("block", BLOCKS)
def test_names_that_the_code_imports_exist(block):
    for node in ast.walk(ast.parse(block)):
        if isinstance(node, ast.ImportFrom):
            module = importlib.import_module(str(node.module))
            assert all(hasattr(module, alias.name) for alias in node.names), ast.unparse(node)


@pytest.mark.parametrize("file", ["README.md", "analyses/README.md"])
def test_links_lead_to_files(file):
    text = (ROOT / file).read_text(encoding="utf-8")
    for link in re.findall(r"\]\(([^)#:]+)\)", text):
        assert ((ROOT / file).parent / link).exists(), link


def test_the_configuration_in_the_readme_is_read(tmp_path):
    (tmp_path / "mine.toml").write_text(re.findall(r"```toml\n(.*?)```", README, re.DOTALL)[0], encoding="utf-8")
    config = interp.RunConfig.from_toml(tmp_path / "mine.toml")
    assert config.sae.architecture == "batchtopk" and config.model.source == "huggingface"
