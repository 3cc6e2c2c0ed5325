"""The run folder: skipped when done, refused when another's, the same after SIGKILL in every stage."""

import dataclasses
import hashlib
import json
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest

from interp.run import STAGES, Run, run_stages
from interp.sae import JumpReLUConfig
from tests.tiny import TINY

ROOT = Path(__file__).parents[1]
VOLATILE = {"tokens_per_second", "wall_seconds", "seconds", "fingerprint"}

# Imports once, then forks a child a stage that ends itself with SIGKILL at a chosen progress call of that stage.
DRIVER = """
import os, signal, sys
from interp.run import STAGES, run_stages
from tests.tiny import TINY

def killer(stage, calls):
    def progress(name):
        count = 0
        def step(done, total, note):
            nonlocal count
            count += 1
            if name == stage and count == calls:
                os.kill(os.getpid(), signal.SIGKILL)
        return step
    return progress

for stage, calls in [(s.name, calls) for s in STAGES for calls in (1, 3)] + [(None, 0)]:
    child = os.fork()
    if child == 0:
        run_stages(TINY, sys.argv[1], until=stage or "report", progress=killer(stage, calls))
        os._exit(0)
    _, status = os.waitpid(child, 0)
    print(stage, calls, os.waitstatus_to_exitcode(status), flush=True)
"""


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return run_stages(TINY, tmp_path_factory.mktemp("run") / "whole")


def contents(folder: Path) -> dict[str, str]:
    """A hash of each file; times left out of JSON, the page and the manifests with it."""
    hashes = {}
    for file in sorted(folder.rglob("*")):
        name = str(file.relative_to(folder))
        if not file.is_file() or name.startswith("report/") or file.name in ("manifest.json", "started.json"):
            continue
        data = file.read_bytes()
        if file.suffix in (".json", ".jsonl"):
            lines = data.decode().splitlines() if file.suffix == ".jsonl" else [data.decode()]
            data = "\n".join(json.dumps(timeless(json.loads(line)), sort_keys=True) for line in lines).encode()
        hashes[name] = hashlib.sha256(data).hexdigest()
    return hashes


def timeless(value):
    if isinstance(value, dict):
        return {k: timeless(v) for k, v in value.items() if k not in VOLATILE}
    return [timeless(v) for v in value] if isinstance(value, list) else value


def test_stages_leave_what_a_notebook_opens(run):
    opened = Run(run.path)
    assert opened.features.d_sae == TINY.sae.d_sae == len(opened.ranking)
    assert opened.neurons.d_sae == opened.store.d(TINY.harvest.neurons) == 64
    assert set(opened.concepts.label) <= set(opened.train_tokens.label_names)
    assert opened.quality.dictionary.iloc[0] == "SAE"
    assert opened.model.cfg.d_vocab == opened.tokenizer.vocab_size
    assert (run.path / opened.manifest("report")["results"]["page"]).is_file()


def test_what_is_done_is_skipped(run):
    ran = []
    run_stages(TINY, run.path, finished=lambda stage, manifest, now: ran.append((stage, now)))
    assert ran == [(stage.name, False) for stage in STAGES]


def test_another_configuration_is_refused_and_redo_runs_what_it_touches(run, tmp_path):
    other = dataclasses.replace(TINY, ranking=dataclasses.replace(TINY.ranking, seed=5))
    with pytest.raises(ValueError, match=r"another configuration \(ranking.seed: 0 there, 5 here\).*--redo"):
        run_stages(other, run.path)
    ran = []
    run_stages(other, run.path, redo=True, finished=lambda stage, manifest, now: ran.append(stage) if now else None)
    assert ran == ["ranking", "report"]
    run_stages(TINY, run.path, redo=True)


def test_a_dictionary_without_k_is_held_against_baselines_of_its_own_l0(run, tmp_path):
    done = ("sae", "features", "quality", "ranking", "concepts", "report")
    shutil.copytree(run.path, tmp_path / "run", ignore=shutil.ignore_patterns(*done))
    sae = JumpReLUConfig(d_sae=128, tokens=20_000, batch_size=512, target_l0=8)
    other = run_stages(dataclasses.replace(TINY, sae=sae), tmp_path / "run", redo=True, until="quality")
    l0 = min(other.store.d(TINY.harvest.hook_name), round(other.sae_results["l0"]))
    table = other.quality.set_index("dictionary")
    assert l0 > 1 and table.l0["PCA"] == pytest.approx(l0) and table.l0["random"] == pytest.approx(l0, rel=0.1)


def test_a_folder_that_is_no_run_is_left_alone(tmp_path):
    (tmp_path / "thesis.tex").write_text("years of work")
    with pytest.raises(ValueError, match="is not a run folder"):
        run_stages(TINY, tmp_path)
    assert [p.name for p in tmp_path.iterdir()] == ["thesis.tex"]
    with pytest.raises(FileNotFoundError, match="not a run folder"):
        Run(tmp_path)


def test_a_run_killed_in_each_stage_equals_the_uninterrupted_one(run, tmp_path):
    driven = subprocess.run(
        [sys.executable, "-c", DRIVER, str(tmp_path / "killed")], cwd=ROOT, capture_output=True, text=True
    )
    lines = [line.split() for line in driven.stdout.splitlines()]
    killed = {stage for stage, _, code in lines if int(code) == -signal.SIGKILL}
    assert lines and lines[-1] == ["None", "0", "0"], driven.stdout + driven.stderr
    assert killed == {stage.name for stage in STAGES}
    left, right = contents(run.path), contents(tmp_path / "killed")
    assert left.keys() == right.keys()
    assert {name for name in left if left[name] != right[name]} == set()
    pd.testing.assert_frame_equal(run.ranking, Run(tmp_path / "killed").ranking)


def test_a_text_that_changed_is_read_again(tmp_path):
    text = tmp_path / "book.txt"
    text.write_text("The quick brown fox jumps over the lazy dog.\n\n" * 600)
    corpus = dataclasses.replace(TINY.corpus, source="files", paths=(str(text),), characters=None)
    config = dataclasses.replace(TINY, corpus=corpus)
    counts = []
    for _ in range(2):
        run_stages(config, tmp_path / "run", until="corpus", finished=lambda s, m, ran: counts.append(ran))
    text.write_text("A slow grey goose walks under the busy cat.\n\n" * 600)
    run_stages(config, tmp_path / "run", until="corpus", finished=lambda s, m, ran: counts.append(ran))
    assert counts == [True, False, True]
