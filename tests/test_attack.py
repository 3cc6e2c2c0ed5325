"""A seeded share of `analyses.attack`: hostile input, damage to a finished run, flipped codes; and signals."""

import json
import os
import subprocess
import sys
from pathlib import Path
from random import Random

import pytest

from analyses import attack, attack_damage
from analyses.attack_damage import RUN_AGAIN
from analyses.attack_inputs import KINDS, cases
from analyses.attack_trial import Case, attempt
from interp.cli import main
from interp.cli.console import is_expected, one_line

ROOT = Path(__file__).parents[1]
SEED, N = 17, 60
SLOW = ("rank", "report", "judge", "scan", "run")
"""What takes seconds where it is not refused."""


def test_hostile_input_is_refused_in_one_line_that_names_it(tiny_run, tmp_path):
    every = cases(SEED, N, tiny_run.path)
    tried = [case for case in every if case.words[0] not in SLOW or case.kind not in ("arguments", "manifest")]
    rows = [attempt(case, tiny_run.path, tmp_path / str(i)) for i, case in enumerate(tried)]
    assert {row["kind"] for row in rows} == set(KINDS)
    assert [row for row in rows if row["verdict"] != "ok"] == []
    assert {row["exit"] for row in rows} == {0, 2}


def test_the_same_seed_gives_the_same_cases(tiny_run):
    first, again, other = (list(cases(seed, 50, tiny_run.path)) for seed in (3, 3, 4))
    assert first == again and first != other


@pytest.mark.parametrize(
    "words, files, verdict",
    [
        (("train-sae", "{run}/activations/store", "--d-sae", "8", "--out", "{here}/x"), {}, "ok"),
        (("export", "{run}/sae", "--out", "{here}/x"), {}, "accepted"),
        (("run", "{here}/a.toml"), {"a.toml": b"x = ["}, "nameless"),
    ],
)
def test_the_verdict_on_a_case(tiny_run, tmp_path, words, files, verdict):
    row = attempt(Case("toml", "", words, files, ("hook", "store"), wrong=True), tiny_run.path, tmp_path / "x")
    assert row["verdict"] == verdict and not (tmp_path / "x").exists()


# Forks a child a command that sends itself a signal at a call of the progress bar with a note of that step.
DRIVER = """
import json, os, signal, sys
import interp.activations.harvesting, interp.report, interp.features.feature_store, interp.sae, models.corpus
from interp.cli import main
from interp.cli.console import Bar

for number, (calls, step, words) in enumerate(json.loads(sys.argv[1])):
    count = 0
    def told(self, done, total, note):
        global count
        count += step in note
        if count == calls and step in note:
            os.kill(os.getpid(), signal.SIGTERM)
    Bar.__call__ = told
    child = os.fork()
    if child == 0:
        os.dup2(os.open(f"stderr-{number}", os.O_WRONLY | os.O_CREAT), 2)
        os._exit(main(words))
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
"""


def test_sigterm_ends_in_one_line_and_leaves_nothing_half_written(tiny_run, tmp_path):
    run, (work, temporary) = tiny_run.path, (tmp_path / "work", tmp_path / "temporary")
    work.mkdir(), temporary.mkdir()
    hook, store = "blocks.0.hook_resid_post", str(run / "activations/store")
    harvest = ["harvest", str(run / "model"), str(run / "corpus/val"), "--hook", hook]
    commands = {
        "harvest": (3, "tokens", [*harvest, "--out", "store"]),
        "train": (3, "loss", ["train-sae", store, "--hook", hook, "--d-sae", "16", "--k", "2", "--out", "sae"]),
        "scan": (2, "encoding", ["scan", str(run / "sae"), store, "--hook", hook, "--out", "features"]),
        "tables": (1, "counting firings", ["scan", str(run / "sae"), store, "--hook", hook, "--out", "tables"]),
        "report": (2, "", ["report", str(run / "features"), "--out", "page"]),
    }
    environment = {**os.environ, "TMPDIR": str(temporary), "PYTHONPATH": str(ROOT)}
    words = [sys.executable, "-c", DRIVER, json.dumps(list(commands.values()))]
    driven = subprocess.run(words, cwd=work, env=environment, capture_output=True, text=True)
    assert driven.stdout.split() == ["143"] * len(commands), driven.stdout + driven.stderr
    for number in range(len(commands)):
        said = (work / f"stderr-{number}").read_text().splitlines()
        assert said == ["interp: terminated; run the same command again to go on"]
    assert [path for path in temporary.rglob("*") if path.is_file()] == []
    left = [path.relative_to(work) for path in work.rglob("*")]
    assert not [path for path in left if path.suffix == ".tmp" or path.name.startswith(".")]
    assert not (work / "page").exists()


def test_a_full_disk_is_called_so_whichever_library_meets_it():
    from safetensors import SafetensorError

    error = SafetensorError("Error while serializing: I/O error: No space left on device (os error 28)")
    assert is_expected(error) and "the disk is full" in one_line(error)
    assert "not enough memory" in one_line(MemoryError("Unable to allocate 7.45 GiB"))
    assert not is_expected(KeyError("x")) and not is_expected(RuntimeError("shapes differ"))


@pytest.mark.parametrize("value", [0, -5])
def test_no_tokens_are_not_all_tokens(tiny_run, tmp_path, capsys, value):
    words = ["harvest", str(tiny_run.path / "model"), str(tiny_run.path / "corpus/val"), "--hook", "hook_embed"]
    assert main([*words, f"--max-tokens={value}", "--out", str(tmp_path / "store")]) == 2
    assert f"--max-tokens {value} must be at least 1" in capsys.readouterr().err


@pytest.mark.parametrize("command", ["train-sae", "scan"])
def test_a_hook_without_a_name_is_not_the_first_hook(tiny_run, tmp_path, capsys, command):
    places = [str(tiny_run.path / "sae")] * (command == "scan") + [str(tiny_run.path / "activations/store")]
    given = ["--d-sae", "8", "--k", "2"] * (command == "train-sae")
    assert main([command, *places, *given, "--hook", "", "--out", str(tmp_path / "x")]) == 2
    assert "--hook '' is no name: the store holds blocks.0" in capsys.readouterr().err


@pytest.mark.parametrize("value", ["9" * 5000, "[" * 10**4 + "]" * 10**4])
def test_values_that_no_number_holds_are_refused_in_one_line(tiny_run, tmp_path, capsys, value):
    words = ["train-sae", str(tiny_run.path / "activations/store"), "--hook", "blocks.0.mlp.hook_post"]
    assert main([*words, "--d-sae", value, "--out", str(tmp_path / "sae")]) == 2
    said = capsys.readouterr().err
    assert f"interp: {value[:60]}… is no value" in said and said.count("\n") == 1


def test_control_characters_reach_no_terminal():
    assert one_line(ValueError("a\x1b[2Jb\u202ec\nd")) == "a\\x1b[2Jb\\u202ec d"
    assert len(one_line(ValueError("x" * 10**6))) < 3000


def test_damage_is_refused_by_name_with_its_remedy_and_flipped_codes_crash_nothing(tiny_run, tmp_path):
    options = attack.parse(["--quick", "--out", str(tmp_path), "--workers", "1"])
    rows = [row for kind in ("damage", "codes") for row in attack.attacked(kind, options, tiny_run.path)]
    assert [row for row in rows if row["verdict"] != "ok"] == []
    assert len(rows) == attack.QUICK["damage"] + attack.QUICK["codes"]
    assert sum(row["exit"] == 2 for row in rows) > len(rows) / 2


def test_every_file_that_a_command_reads_is_damaged_in_each_way(tiny_run):
    cases = attack_damage.cases("damage", Random(0), tiny_run.path, None)
    damaged = {next(iter(case.files)).removeprefix("run/") for case in cases}
    files = {file.relative_to(tiny_run.path).as_posix() for file in tiny_run.path.rglob("*") if file.is_file()}
    assert {name for name in files if not name.startswith(attack_damage.UNREAD)} == damaged
    assert len(cases) > 8 * len(damaged)
    assert all(case.verify and (case.wrong or case.words == RUN_AGAIN or "manifest" in case.what) for case in cases)
