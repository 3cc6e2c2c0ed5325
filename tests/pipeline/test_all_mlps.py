"""A run with transcoders of all MLPs, from the configuration to graphs of prompts."""

import dataclasses

import pytest
import torch

from interp import run_stages, train_saes
from interp.activations.hooks import capture, mlp_hooks, resolve_hooks
from interp.cli import main
from interp.effects import load_graph
from interp.pipeline.config import RunConfig
from interp.pipeline.plan import Plan
from models import load_model
from models.transformer import Transformer, TransformerConfig
from tests.foreign_models import write_foreign
from tests.tiny import FEW, copy_stages

READS, WRITES = "blocks.{}.ln2.hook_normalized", "blocks.{}.hook_mlp_out"
ALL = RunConfig.from_dict(FEW.to_dict() | {"harvest": {"hook_names": "all mlps", "tokens": 8_000, "batch_size": 20}})
ALL = ALL.replace(model=dataclasses.replace(FEW.model, n_layers=2))
STREAMED = ALL.replace(harvest=dataclasses.replace(ALL.harvest, buffer_mb=1))


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return run_stages(ALL, tmp_path_factory.mktemp("mlps") / "run")


def test_every_mlp_has_its_transcoder(run):
    assert run.hooks == (READS.format(0), READS.format(1))
    for n, hook in enumerate(run.hooks):
        part = run.at(hook)
        assert part.sae.kind == "transcoder"
        assert part.output_hook == WRITES.format(n) == part.sae.metadata["hook_name_out"]
        assert part.store.hook_names == (hook, WRITES.format(n))
        assert len(part.features) == len(part.ranking) == ALL.sae.d_sae and part.page.is_file()
        assert [name for name in ("neurons", "concepts", "nulls") if not part.has(name)] == [
            "neurons",
            "concepts",
            "nulls",
        ]
    tokens = run.harvested.tokens[:1]
    with torch.no_grad():
        _, cache = run.model.run_with_cache(tokens)
    shard = run.store.shard(0, WRITES.format(0))
    row = int((shard.row_ids < tokens.numel()).nonzero()[0])
    torch.testing.assert_close(
        shard.acts[row].float(), cache[WRITES.format(0)].flatten(0, 1)[shard.row_ids[row]], atol=0.01, rtol=0.01
    )


@pytest.fixture(scope="module")
def streamed(run, tmp_path_factory):
    """The same run without activations on disk, up to the features; it was killed while its transcoders trained."""
    out = copy_stages(run, tmp_path_factory.mktemp("streamed") / "run")

    def stop(done, total, note):
        if done == 4 and "loss" in note:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_stages(STREAMED, out, until="sae", redo=True, progress=lambda stage: stop)
    return run_stages(STREAMED, out, until="features")


def test_a_streamed_run_keeps_no_activations_and_has_the_rest(run, streamed):
    assert STREAMED.harvest.buffer_mb * 1e6 < 8_000 * 2 * 2 * 2 * 32, "the buffer holds a part of the text"
    assert [file.name for file in (streamed.path / "activations").iterdir()] == ["manifest.json"]
    with pytest.raises(ValueError, match="keeps no activations"):
        streamed.store  # noqa: B018
    for hook in streamed.hooks:
        stored, part = run.at(hook), streamed.at(hook)
        assert part.hook_name == hook and part.output_hook == stored.output_hook
        assert part.results("activations")["rows"] == stored.results("activations")["rows"]
        assert part.results("sae")["fvu"] == pytest.approx(stored.results("sae")["fvu"], abs=0.15)
        own = {"n_alive": 0, "l0": 0, "inputs": {}}
        assert part.features.meta | own == stored.features.meta | own
        assert part.features.table()["fvu_rise"].isna().all()


def test_a_streamed_run_that_was_killed_has_the_dictionaries_of_one_that_was_not(streamed, tmp_path):
    hooks = {tmp_path / str(n): pair for n, pair in enumerate([[READS.format(n), WRITES.format(n)] for n in (0, 1)])}
    whole = train_saes(streamed.stream(), hooks, STREAMED.sae)
    for hook, sae in zip(streamed.hooks, whole, strict=True):
        assert sae.W_enc.equal(streamed.at(hook).sae.W_enc) and sae.W_dec.equal(streamed.at(hook).sae.W_dec)


def test_what_a_streamed_run_costs_is_no_disk(run):
    stored, streamed = ({row.stage: row.cost for row in Plan.of(c, run.path).rows} for c in (ALL, STREAMED))
    assert streamed["activations"].disk == 0 < stored["activations"].disk
    assert streamed["sae"].operations > stored["sae"].operations and streamed["sae"].disk == stored["sae"].disk
    assert streamed["features"].memory > stored["features"].memory


def test_its_configuration_names_the_hooks_and_comes_back(run):
    there = RunConfig.from_toml(run.path / "run.toml")
    assert there == ALL.with_named_hooks() == there.with_named_hooks()
    assert there.harvest.output_hook == "hook_mlp_out"
    assert there.at(READS.format(1)).harvest.output_hook_name == WRITES.format(1)
    assert "output_hook" not in RunConfig().to_dict()["harvest"] and RunConfig().with_named_hooks() == RunConfig()
    assert RunConfig.from_dict(ALL.to_dict()) == ALL
    assert len(RunConfig.circuits().with_named_hooks().harvest.hook_names) == 4


def test_the_demo_ends_with_graphs_of_all_layers(run, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(RunConfig, "circuits", classmethod(lambda cls: ALL))
    assert main(["demo", "--circuits", "--out", str(run.path)]) == 0
    assert capsys.readouterr().out.count("replacement") >= 2
    assert len(list(run.path.with_name(f"{run.path.name}-graphs").glob("*.html"))) == 2
    assert main(["graph", str(run.path), "To be, or", "--out", str(tmp_path / "g.json"), "--no-checks"]) == 0
    graph = load_graph(tmp_path / "g.json")
    assert graph.hook_names == list(run.hooks) and set(graph.nodes["dictionary"]) >= {0, 1}
    assert main(["demo", "--model", "gpt2"]) == 2
    assert "smollm2 alone, not gpt2: `interp run --help`" in capsys.readouterr().err
    assert main(["demo", "--circuits", "--model", "smollm2"]) == 2
    assert "--model and --circuits make different demos" in capsys.readouterr().err


def test_hooks_of_mlps_are_found_in_any_model(tmp_path):
    own = Transformer(TransformerConfig(n_layers=11, d_model=8, n_heads=2, d_mlp=8, d_vocab=5))
    assert list(mlp_hooks(own).items()) == [(READS.format(n), WRITES.format(n)) for n in range(11)]
    llama = load_model(write_foreign("llama", tmp_path))
    pairs = mlp_hooks(llama)
    assert list(pairs)[0] == "blocks.0.mlp.hook_in" and list(pairs.values())[0] == WRITES.format(0)
    hooks = resolve_hooks(llama, ["blocks.0.mlp.hook_in", WRITES.format(0)])
    into, out = capture(llama, torch.tensor([[1, 2, 3]]), hooks).values()
    torch.testing.assert_close(hooks[WRITES.format(0)].module(into), out)
    with pytest.raises(ValueError, match="has no hook_mlp_out"):
        mlp_hooks(torch.nn.Linear(2, 2))


@pytest.mark.parametrize(
    ("harvest", "message"),
    [
        ({"hook_names": ["all mlps", "blocks.0.hook_resid_post"]}, "'all mlps' names all hooks"),
        ({"hook_names": "all mlps", "output_hook": "hook_mlp_out"}, "'all mlps' names all hooks"),
        ({"hook_name": "hook_embed", "output_hook": "hook_mlp_out"}, "hook_embed is in none"),
        ({"hook_name": "blocks.0.hook_resid_post", "buffer_mb": 64}, "buffer_mb=64 is for transcoders"),
        ({"hook_names": "all mlps", "buffer_mb": 0}, "buffer_mb=0 must be at least 1"),
    ],
)
def test_mistakes_in_what_is_written_are_named(harvest, message):
    with pytest.raises(ValueError, match=message):
        RunConfig.from_dict({"harvest": harvest})


def test_a_transcoder_from_a_hook_to_itself_and_a_loaded_one_are_refused(tmp_path):
    with pytest.raises(ValueError, match="is blocks.0.hook_mlp_out itself"):
        own = {"hook_name": WRITES.format(0), "output_hook": "hook_mlp_out"}
        run_stages(RunConfig.from_dict(FEW.to_dict() | {"harvest": own}), tmp_path / "own")
    with pytest.raises(ValueError, match="for trained transcoders"):
        loaded = {"harvest": {"hook_name": READS.format(0), "output_hook": "hook_mlp_out"}, "sae": {"load": "x"}}
        run_stages(RunConfig.from_dict(FEW.to_dict() | loaded), tmp_path / "loaded")
    assert not (tmp_path / "own" / "corpus").exists()


def test_a_transcoder_is_not_loaded_in_the_place_of_an_autoencoder(run, tmp_path):
    settings = {key: value for key, value in ALL.to_dict().items() if key not in ("sae", "harvest")}
    settings |= {"sae": {"load": str(run.at(READS.format(0)).folder("sae"))}, "harvest": {"hook_name": READS.format(0)}}
    out = copy_stages(run, tmp_path / "loaded")
    with pytest.raises(ValueError, match="is a transcoder"):
        run_stages(RunConfig.from_dict(settings), out, until="sae")
