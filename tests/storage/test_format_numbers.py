"""A file of a later format is refused in one line that names both formats; one without a number is the first."""

import json

import pandas as pd
import pytest
import torch

from interp import ActivationStore, FeatureStore, SparseCodes
from interp.checks.errors import InterpError
from interp.cli.command_arguments import read_table
from interp.report.notes import read_notes
from interp.storage.files import digest_json
from interp.storage.manifests import write_manifest
from interp.verdict.ranking_tables import read_ranking


def with_format(file, found):
    """Write the format into a JSON file; None leaves it out."""
    content = json.loads(file.read_text())
    content.pop("format", None)
    if found is not None:
        content["format"] = found
    if "sha256" in content:
        content["sha256"] = digest_json({name: value for name, value in content.items() if name != "sha256"})
    file.write_text(json.dumps(content))


def scan(folder, found):
    z = torch.eye(6)
    FeatureStore.from_codes(torch.arange(6)[None], SparseCodes.of(z), folder / "scan")
    with_format(folder / "scan" / "meta.json", found)
    (folder / "scan" / "manifest.json").unlink()
    write_manifest(folder / "scan", {})
    return FeatureStore.open(folder / "scan").d_sae


def ranking(folder, found):
    table = pd.DataFrame({"latent": [3], "verdict": ["monosemantic"]})
    table.attrs = {} if found is None else {"format": found}
    table.to_parquet(folder / "ranking.parquet")
    assert len(read_table("--ranking", folder / "ranking.parquet", ["verdict"])) == 1
    return len(read_ranking(folder / "ranking.parquet"))


def notes(folder, found):
    (folder / "notes.json").write_text(json.dumps({"notes": {"3": {"star": True}}}))
    with_format(folder / "notes.json", found)
    return len(read_notes(folder / "notes.json"))


def store(folder, found):
    ActivationStore.from_batches(torch.randn(6, 4), folder / "store")
    with_format(folder / "store" / "manifest.json", found)
    return len(ActivationStore.open(folder / "store"))


@pytest.mark.parametrize(
    ("read", "first", "name", "size"),
    [
        (scan, [None, "interp.features/1"], "interp.features", 6),
        (ranking, [None, "interp.ranking/1"], "interp.ranking", 1),
        (notes, ["interp-notes"], "interp-notes", 1),
        (store, ["interp.activations/1"], "interp.activations", 6),
    ],
)
def test_a_later_format_is_refused_in_one_line(tmp_path, read, first, name, size):
    for i, found in enumerate(first):
        (folder := tmp_path / str(i)).mkdir()
        assert read(folder, found) == size
    with pytest.raises(InterpError, match=f"has the format {name}/2, and this version of interp reads up to {name}/1"):
        read(tmp_path, f"{name}/2")
