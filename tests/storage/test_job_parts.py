"""Scan, ranking and effects by two processes, and in joined parts, compared with those of one process."""

import json
import shutil

import numpy as np
import pandas as pd
import pytest

from interp import NeuronDictionary, Run, join_rankings, rank_features, scan_features, scan_part
from interp.cli import main
from interp.effects import feature_effects, join_effects
from interp.features.feature_store import FeatureStore
from interp.features.scan_tables import SCHEMAS
from interp.storage.job_parts import parse_part
from interp.storage.manifests import MADE_OF
from tests.launched import launch

LATENTS = list(range(12, 0, -1))

SHARED = """
import json, os, time
from pathlib import Path
from interp import Run, rank_features, scan_features
from interp.cli import main
from interp.effects import feature_effects
from interp.runtime.processes import processes

if __name__ == "__main__":
    run, out = Run(sys.argv[1]), Path(sys.argv[2])
    world, found = processes(), {}
    inputs = {"model": run.model, "vocab": run.tokenizer.display(), "labels": run.harvested.labels}
    features = scan_features(run.sae, run.store, run.hook_name, out / "features", **inputs)
    options = {"labels": run.harvested.labels, "use_labels": True, "twin": features}
    ranking = rank_features(run.features, latents=range(0, run.features.d_sae, 3), **options)
    rank_features(run.features, latents=[3], **options).to_parquet(out / f"latent-{world.rank}.parquet")
    effects = feature_effects(run.model, run.hook_name, run.sae, run.features, latents=range(12, 0, -1), sequences=4)
    try:
        scan_features(run.sae, run.store, run.hook_name, out / "unlike", vocab=inputs["vocab"] if world.rank else None)
    except ValueError as error:
        found["unlike"] = str(error)
    ranking.to_parquet(out / f"ranking-{world.rank}.parquet")
    effects.to_parquet(out / f"effects-{world.rank}.parquet")
    found["command"] = main(["effects", str(run.path), *sys.argv[3:], "--out", str(out / "effects.parquet")])
    (out / f"{world.rank}.json").write_text(json.dumps(found))
"""
ABLATED = ("--latents", "12", "--sequences", "4")


@pytest.fixture(scope="module")
def by_two(tiny_run, tmp_path_factory):
    """Return the folder of what two processes made of the tiny run."""
    folder = tmp_path_factory.mktemp("two")
    launch(SHARED, tiny_run.path, folder, *ABLATED, folder=folder)
    return folder


@pytest.fixture(scope="module")
def one_ranking(tiny_run, tmp_path_factory):
    file = tmp_path_factory.mktemp("one") / "ranking.parquet"
    rank_features(tiny_run.features, **ranking_options(tiny_run)).to_parquet(file)
    return pd.read_parquet(file)


def ranking_options(run: Run) -> dict:
    third = range(0, run.features.d_sae, 3)
    return {"latents": third, "labels": run.harvested.labels, "use_labels": True, "twin": run.features}


@pytest.fixture(scope="module")
def one_effects(tiny_run):
    return effects_of(tiny_run)


def effects_of(run: Run, **options) -> pd.DataFrame:
    return feature_effects(run.model, run.hook_name, run.sae, run.features, latents=LATENTS, sequences=4, **options)


def inputs_of(run: Run) -> dict:
    return {"model": run.model, "vocab": run.tokenizer.display(), "labels": run.harvested.labels}


def assert_same(found: pd.DataFrame, expected: pd.DataFrame) -> None:
    """Whole numbers and words are the same, other numbers to a millionth."""
    pd.testing.assert_frame_equal(found, expected, rtol=1e-6, atol=1e-12, check_exact=False)
    for name in expected.select_dtypes("integer"):
        np.testing.assert_array_equal(found[name], expected[name])


def assert_same_scan(found: FeatureStore, expected: FeatureStore) -> None:
    assert {**found.meta} == {**expected.meta}
    for name in SCHEMAS:
        assert_same(found.table(name), expected.table(name))
    codes, others = found.codes[: len(found.codes)], expected.codes[: len(expected.codes)]
    assert codes.latents.equal(others.latents) and codes.values.equal(others.values)


def test_two_processes_scan_as_one(by_two, tiny_run):
    found = FeatureStore.open(by_two / "features")
    assert_same_scan(found, tiny_run.features)
    assert not (found.path / "scratch").exists() and not (by_two / "features.unfinished").exists()


def test_two_processes_rank_as_one(by_two, one_ranking):
    """To the last bit, and also where one of them has no latent to rank."""
    row = one_ranking[one_ranking["latent"] == 3].reset_index(drop=True)
    for name, expected in (("ranking", one_ranking), ("latent", row)):
        for rank in range(2):
            found = pd.read_parquet(by_two / f"{name}-{rank}.parquet")
            assert_same(found, expected)
            assert {column: repr(found[column].tolist()) == repr(expected[column].tolist()) for column in expected} == (
                dict.fromkeys(expected, True)
            )


def assert_same_effects(found: pd.DataFrame, expected: pd.DataFrame) -> None:
    words = [name for name in expected if "likel" in name]  # the order of tokens as good as equal hangs on last bits
    assert_same(found.drop(columns=words), expected.drop(columns=words))


def test_two_processes_ablate_as_one(by_two, one_effects, tmp_path):
    one_effects.to_parquet(tmp_path / "one.parquet")
    one = pd.read_parquet(tmp_path / "one.parquet")
    for rank in range(2):
        two = pd.read_parquet(by_two / f"effects-{rank}.parquet")
        assert_same_effects(two, one)
        assert two.attrs.keys() == one.attrs.keys()


def test_processes_that_scan_unlike_things_are_refused(by_two):
    for rank in range(2):
        told = json.loads((by_two / f"{rank}.json").read_text())["unlike"]
        assert "process 1 scans something other than process 0" in told
    assert not (by_two / "unlike").exists()


@pytest.fixture(scope="module")
def scan_parts(tiny_run, tmp_path_factory):
    folder = tmp_path_factory.mktemp("parts")
    run = tiny_run
    return [scan_part(run.sae, run.store, run.hook_name, folder / str(rank), part=(rank, 2)) for rank in range(2)]


def test_parts_of_a_scan_join_to_the_whole(tiny_run, scan_parts, tmp_path, monkeypatch):
    run = tiny_run
    before = [sorted(file.stat().st_size for file in part.rglob("*") if file.is_file()) for part in scan_parts]
    monkeypatch.setattr(type(run.sae), "codes", None)  # nothing is encoded again
    joined = scan_features(
        run.sae, run.store, run.hook_name, tmp_path / "joined", **inputs_of(run), parts=scan_parts[::-1]
    )
    assert_same_scan(joined, run.features)
    assert before == [sorted(file.stat().st_size for file in part.rglob("*") if file.is_file()) for part in scan_parts]


def test_scan_features_refuses_parts_of_different_scans(tiny_run, scan_parts, tmp_path):
    run = tiny_run
    third = scan_part(run.sae, run.store, run.hook_name, tmp_path / "third", part=(0, 3))

    def refused(parts, message, sae=run.sae):
        with pytest.raises(ValueError, match=message):
            scan_features(sae, run.store, run.hook_name, tmp_path / "joined", parts=parts)
        assert not (tmp_path / "joined").exists() and not (tmp_path / "joined.unfinished").exists()

    first, second = scan_parts
    refused([first], "part 2/2 is missing")
    refused([first, second, first], f"{first} and {first} are both part 1/2")
    refused([first, third], f"{third} belongs to different work than .*: it differs in number of parts")
    refused([first, run.features.path], "features is not a part:")
    refused([first, tmp_path / "none"], "none does not exist")
    refused(scan_parts, "belongs to different work than this: it differs in dictionary", NeuronDictionary(run.sae.d_in))
    damaged = tmp_path / "damaged"
    damaged.mkdir()
    for file in second.rglob("*"):
        if file.is_file():
            (damaged / file.relative_to(second)).parent.mkdir(exist_ok=True, parents=True)
            (damaged / file.relative_to(second)).write_bytes(file.read_bytes())
    run_file = next(damaged.glob("codes/run-*"), damaged / "codes" / "codes.json")
    run_file.write_bytes(run_file.read_bytes()[:-1] + b"\\0")
    refused([first, damaged], "altered")


UNUSED_BY_A_PART = (("--model", "model"), ("--tokens", "tokens"), ("--tokenizer", "folder"), ("--n-top", "3"))


def test_the_command_line_scans_in_parts(tiny_run, tmp_path, capsys):
    run = str(tiny_run.path)
    for number in (1, 2):
        assert main(["scan", run, run, "--part", f"{number}/2", "--out", str(tmp_path / "parts" / str(number))]) == 0
        assert f"part {number}/2 in " in capsys.readouterr().out
    command = ["scan", run, run, "--model", run, "--tokens", run, "--join", str(tmp_path / "parts" / "*")]
    assert main([*command, "--out", str(tmp_path / "joined")]) == 0
    assert_same_scan(FeatureStore.open(tmp_path / "joined"), tiny_run.features)
    for flag, value in (("--part", "3/2"), ("--join", str(tmp_path / "none-*")), *UNUSED_BY_A_PART):
        words = [flag, value] if flag in ("--part", "--join") else ["--part", "1/2", flag, value]
        assert main(["scan", run, run, *words, "--out", str(tmp_path / "refused")]) == 2
        line = capsys.readouterr().err
        assert line.count("\n") == 1 and flag.removeprefix("--") in line
    assert not (tmp_path / "refused").exists()


def test_parts_of_a_ranking_join_to_the_whole(tiny_run, one_ranking, tmp_path, capsys):
    files = [tmp_path / f"{rank}.parquet" for rank in range(2)]
    for rank, file in enumerate(files):
        rank_features(tiny_run.features, part=(rank, 2), **ranking_options(tiny_run)).to_parquet(file)
    parts = [pd.read_parquet(file) for file in files]
    assert sum(map(len, parts)) == len(one_ranking)
    assert_same(pd.DataFrame(join_rankings(parts[::-1])), one_ranking)
    command = ["rank", str(tiny_run.features.path), "--join", str(tmp_path / "?.parquet")]
    assert main([*command, "--out", str(tmp_path / "joined.parquet")]) == 0
    assert_same(pd.read_parquet(tmp_path / "joined.parquet"), one_ranking)
    with pytest.raises(ValueError, match="^part 2/2 is missing"):
        join_rankings(parts[:1])
    with pytest.raises(ValueError, match="a and c are both part 1/2"):
        join_rankings([*parts, parts[0]], ["a", "b", "c"])
    with pytest.raises(ValueError, match="is not a part"):
        join_rankings([parts[0], one_ranking])
    other = parts[1].copy()
    other.attrs = {**parts[1].attrs, MADE_OF: {**parts[1].attrs[MADE_OF], "seed": 1}}
    with pytest.raises(ValueError, match="belongs to different work than table 0: it differs in seed"):
        join_rankings([parts[0], other])
    capsys.readouterr()
    for words in (["--n-shifts", "9"], ["--judge-faint"], ["--twin", str(tiny_run.path)]):
        assert main([*command, *words, "--out", str(tmp_path / "refused.parquet")]) == 2
        assert f"--join does not use {words[0]}: the parts were made with their own" in capsys.readouterr().err
    assert not (tmp_path / "refused.parquet").exists()
    files[1].unlink()
    assert main([*command, "--out", str(tmp_path / "fewer.parquet")]) == 2
    assert not (tmp_path / "fewer.parquet").exists()


def test_parts_of_effects_join_to_the_whole(tiny_run, one_effects):
    parts = [effects_of(tiny_run, part=(rank, 3)) for rank in range(3)]
    joined = join_effects(parts[::-1])
    assert joined["latent"].tolist() == LATENTS == one_effects["latent"].tolist()
    for name in ("n_sequences", "n_firings"):
        assert joined[name].equals(one_effects[name])
    np.testing.assert_allclose(joined["total_change"], one_effects["total_change"], rtol=1e-6, atol=1e-9)
    assert joined.attrs.keys() == one_effects.attrs.keys()
    assert joined.attrs["gradient_agreement"] == pytest.approx(one_effects.attrs["gradient_agreement"], abs=1e-6)
    with pytest.raises(ValueError, match="part 1/3 is missing"):
        join_effects(parts[1:])


@pytest.fixture(scope="module")
def ablated(tiny_run, tmp_path_factory):
    """Return the file of the effects that the command line computes in one process."""
    out = tmp_path_factory.mktemp("ablated") / "effects.parquet"
    assert main(["effects", str(tiny_run.path), *ABLATED, "--out", str(out)]) == 0
    return out


def test_the_command_line_ablates_in_two_processes_as_in_one(by_two, ablated):
    assert [json.loads((by_two / f"{rank}.json").read_text())["command"] for rank in range(2)] == [0, 0]
    assert_same_effects(pd.read_parquet(by_two / "effects.parquet"), pd.read_parquet(ablated))


def test_the_command_line_ablates_in_parts(tiny_run, ablated, tmp_path, capsys):
    run = tiny_run.path
    source = ["effects", str(run / "features")]
    files = [tmp_path / f"{number}.parquet" for number in (1, 2, 3)]
    for number, file in enumerate(files, 1):
        words = [*source, "--sae", str(run), "--model", str(run), *ABLATED, "--part", f"{number}/3"]
        assert main([*words, "--out", str(file)]) == 0
    join = [*source, "--join", str(tmp_path / "?.parquet"), "--out"]
    capsys.readouterr()
    assert main([*join, str(tmp_path / "joined.parquet")]) == 0
    assert capsys.readouterr().out.startswith(f"12 of {int((tiny_run.features.table().n_active > 0).sum())} latents")
    joined, one = pd.read_parquet(tmp_path / "joined.parquet"), pd.read_parquet(ablated)
    assert_same_effects(joined, one)
    assert joined.attrs.keys() == one.attrs.keys()

    def refused(*words) -> str:
        capsys.readouterr()
        assert main(list(map(str, words))) == 2 and not (tmp_path / "no.parquet").exists()
        [line] = capsys.readouterr().err.splitlines()
        return line

    no = [*join, tmp_path / "no.parquet"]
    twice = tmp_path / "4.parquet"
    twice.write_bytes(files[0].read_bytes())
    assert f"{files[0]} and {twice} are both part 1/3" in refused(*no)
    twice.unlink()
    other = [*source, "--sae", run, "--model", run, *ABLATED, "--seed", 1, "--part", "3/3", "--overwrite"]
    assert main([*map(str, other), "--out", str(files[2])]) == 0
    assert f"{files[2]} belongs to different work than {files[0]}: it differs in seed" in refused(*no)
    files[2].unlink()
    assert "part 3/3 is missing" in refused(*no)
    assert "--part makes a part and --join merges all parts" in refused(*no, "--part", "1/3")
    assert "--join does not use --seed" in refused(*no, "--seed", "1")
    assert "is a run folder, which has its own" in refused("effects", run, "--sae", run, "--out", tmp_path / "no.csv")
    assert "with --sae and --model" in refused(*source, "--out", tmp_path / "no.csv")
    assert "with --out" in refused("effects", run, "--part", "1/2")
    assert "must end in .parquet" in refused("effects", run, "--part", "1/2", "--out", tmp_path / "no.csv")


def test_a_run_folder_is_ablated_in_place(tiny_run, tmp_path, capsys):
    run = shutil.copytree(tiny_run.path, tmp_path / "run")
    before = pd.read_parquet(run / "effects" / "effects.parquet")
    assert main(["effects", str(run), "--seed", "3"]) == 0
    assert " latents that fire, ablated in at most " in capsys.readouterr().out
    after = pd.read_parquet(run / "effects" / "effects.parquet")
    assert after["latent"].equals(before["latent"]) and not after["null_kl"].equals(before["null_kl"])
    assert Run(run).config.effects.seed == 3


@pytest.mark.parametrize("text", ["0/4", "5/4", "3", "a/4", "1/0", "-1/4"])
def test_what_is_no_part_is_refused(text, capsys, tiny_run, tmp_path):
    with pytest.raises(ValueError, match="must be a number and a count"):
        parse_part(text)
    assert main(["rank", str(tiny_run.features.path), "--out", str(tmp_path / "x.parquet"), f"--part={text}"]) == 2


def test_parts_are_counted_from_one():
    assert parse_part("3/16") == (2, 16) and parse_part("16/16") == (15, 16)
