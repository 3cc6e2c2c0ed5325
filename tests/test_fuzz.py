"""Hostile input and damage, drawn from a seed: refused in one line that names what is wrong, never a crash.

A case of each kind that was ever found stands here: a file of a run that is damaged; values of a configuration or of
JSON that are invalid; options that must not be treated as omitted; text that is not text; signals;
messages that carry control characters to a terminal. Flipped bits in codes are in `test_codes`, kills in `test_run`.
"""

import json
import math
import os
import re
import shutil
from random import Random

import pytest
import tomli_w

from interp.cli import main
from interp.cli.error_lines import is_expected, one_line
from interp.pipeline.config import RunConfig
from tests.forked import run_python
from tests.tiny import SECTIONS

RESID, MLP = "blocks.0.hook_resid_post", "blocks.0.mlp.hook_post"
STORE = "{run}/activations/store"
TRAIN = ("train-sae", STORE, "--hook", MLP, "--d-sae", "16", "--k", "2", "--tokens", "512", "--out", "{here}/out")
SCAN = ("scan", "{run}/sae", STORE, "--hook", RESID, "--out", "{here}/out")
HARVEST = ("harvest", "{run}/model", "{run}/corpus/val", "--hook", RESID, "--max-tokens", "640", "--out", "{here}/out")
EXPORT = ("export", "{run}/sae", "--out", "{here}/out")
RANK = ("rank", "{run}/features", "--n-shifts", "1", "--out", "{here}/ranking.csv")
READ_BY = {
    "activations/store/manifest.json": TRAIN,
    "activations/store/tokens.safetensors": SCAN,
    "activations/store/statistics.safetensors": TRAIN,
    "activations/store/shard-00000.safetensors": TRAIN,
    "sae/cfg.json": SCAN,
    "sae/sae_weights.safetensors": EXPORT,
    "model/config.json": HARVEST,
    "model/weights.safetensors": HARVEST,
    "corpus/val": HARVEST,
    "features/meta.json": RANK,
    "features/vocab.json": RANK,
    "features/tokens.safetensors": RANK,
    "features/codes/codes.json": RANK,
    "features/codes/run-00000.safetensors": RANK,
}
HOSTILE = (
    0,
    -1,
    2**31,
    10**15,
    2**64,
    1e308,
    math.nan,
    -math.inf,
    "",
    " ",
    "../..",
    "\x01",
    True,
    [],
    [1, -1],
    {"a": 1},
)
TEXTS = {
    "nothing": b"",
    "blanks": b" \n\t\r\n" * 99,
    "NULs": b"\0" * 5000,
    "Latin-1": "naïve café".encode("latin-1") * 50,
    "UTF-16": "some words of text".encode("utf-16") * 20,
    "half surrogates": b"abc \xed\xa0\x80 def " * 100,
    "one long line": b"a" * 200_000,
    "accents": ("e" + "\u0301" * 1000).encode() * 20,
    "special tokens": b"<|bos|><|unk|><|endoftext|>" * 300,
    "a list": b'["text"]',
    "another field": b'{"txet": "abc"}',
    "no text": b'{"text": null}',
    "half a pair": b'{"text": "abc \\ud800 def"}',
    "cut off": b'{"text": "abc',
}


def flipped(whole: bytes, at: int, bit: int) -> bytes:
    return whole[:at] + bytes([whole[at] ^ 1 << bit]) + whole[at + 1 :]


def tried(arguments, run, here, capsys) -> tuple[int, str]:
    """Return the exit code, and the one line on stderr where it is 2."""
    capsys.readouterr()
    code = main([word.replace("{run}", str(run)).replace("{here}", str(here)) for word in arguments])
    lines = [line for line in capsys.readouterr().err.splitlines() if re.match(r"interp: |Traceback", line)]
    assert code in (0, 2) and len(lines) == (code == 2) and "Traceback" not in lines, (arguments, code, lines)
    return code, lines[0] if lines else ""


@pytest.fixture
def copied(few_run, tmp_path):
    shutil.copytree(few_run.path, tmp_path / "run")
    return tmp_path / "run"


def test_a_damaged_file_is_refused_by_name_with_its_remedy(copied, tmp_path, capsys):
    rng = Random(0)
    for name, arguments in READ_BY.items():
        file, whole = copied / name, (copied / name).read_bytes()
        at = rng.randrange(min(len(whole), 2000))
        for content in (flipped(whole, at, rng.randrange(8)), whole[:at], b"", whole + b"\0", b"[1, 2]", None):
            file.unlink(missing_ok=True)
            if content is not None:
                file.write_bytes(content)
            code, said = tried(arguments, copied, tmp_path, capsys)
            assert code == 2 and re.search("again|anew|makes|delete|name a folder", said), (name, content, said)
            assert file.name in said or name.partition("/")[0] in said, (name, said)
        file.write_bytes(whole)


def test_values_that_are_none_are_refused_in_a_configuration(tmp_path):
    rng, file, refused = Random(2), tmp_path / "c.toml", 0
    whole = tomli_w.dumps(SECTIONS).encode()
    for number in range(100):
        sections = json.loads(json.dumps(SECTIONS))
        section = rng.choice(list(sections))
        sections[section][rng.choice([*sections[section], "nonsense"])] = rng.choice(HOSTILE)
        at = rng.randrange(len(whole))
        file.write_bytes(tomli_w.dumps(sections).encode() if number % 3 else flipped(whole, at, 7))
        try:
            RunConfig.from_toml(file)
        except (ValueError, OSError) as error:
            refused += 1
            assert one_line(error) and is_expected(error)
    assert refused > 50


def test_values_that_are_none_are_refused_in_what_a_run_left(copied, tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("INTERP_VERIFY", "0")
    rng = Random(3)
    for name in ("activations/store/manifest.json", "sae/cfg.json", "model/config.json"):
        file, whole = copied / name, (copied / name).read_text()
        for _ in range(6):
            content = json.loads(whole)
            content[rng.choice(list(content))] = rng.choice(HOSTILE)
            file.write_text(json.dumps(content))
            shutil.rmtree(tmp_path / "out", ignore_errors=True)
            tried(READ_BY[name], copied, tmp_path, capsys)
        file.write_text(whole)


@pytest.mark.parametrize("arguments", [HARVEST, TRAIN, SCAN, RANK], ids=lambda arguments: arguments[0])
def test_a_wrong_option_does_not_pass_as_if_it_were_left_out(arguments, tiny_run, tmp_path, capsys):
    wrong = {
        "harvest": [("max-tokens", "0"), ("max-tokens", "-5"), ("hook", ""), ("batch-size", "0"), ("max-norm", "nan")],
        "train-sae": [("hook", ""), ("max-tokens", "0"), ("lr", "nan"), ("output-hook", ""), ("d-sae", "9" * 40)],
        "scan": [("hook", ""), ("hook", "none")],
        "rank": [("shifts", "0"), ("seed", "-1")],
    }[arguments[0]]
    for option, value in wrong:
        code, said = tried((*arguments, f"--{option}={value}"), tiny_run.path, tmp_path, capsys)
        assert code == 2 and (option in said or option.replace("-", "_") in said or value[:20] in said), said


@pytest.mark.parametrize("what", TEXTS)
def test_text_that_is_none_is_read_or_refused_by_name(what, tmp_path, capsys):
    for source in ("files", "jsonl"):
        (tmp_path / "text").write_bytes(TEXTS[what])
        sections = {name: fields for name, fields in SECTIONS.items() if name in ("tokenizer", "model")}
        sections["corpus"] = {"source": source, "paths": [str(tmp_path / "text")], "val_fraction": 0.2}
        (tmp_path / "c.toml").write_text(tomli_w.dumps(sections))
        arguments = ("run", "{here}/c.toml", "--out", f"{{here}}/{source}", "--until", "corpus")
        code, said = tried(arguments, "", tmp_path, capsys)
        assert code == 0 or any(name in said for name in ("text", "characters", "n_ctx")), said


def test_control_characters_reach_no_terminal(capsys):
    assert main(["scan", "c", "a\x1b[2Jb", "--out", "d"]) == 2
    assert "\x1b" not in (said := capsys.readouterr().err) and "a\\x1b[2Jb" in said
    assert one_line(ValueError("a\x1b[2Jb\u202ec\nd")) == "a\\x1b[2Jb\\u202ec d"
    assert len(one_line(ValueError("x" * 10**6))) < 3000


def test_a_full_disk_is_called_so_whichever_library_meets_it():
    from safetensors import SafetensorError

    error = SafetensorError("Error while serializing: I/O error: No space left on device (os error 28)")
    assert is_expected(error) and "the disk is full" in one_line(error)
    assert "not enough memory" in one_line(MemoryError("Unable to allocate 7.45 GiB"))
    assert not is_expected(KeyError("x")) and not is_expected(RuntimeError("shapes differ"))


# Forks a child a command that sends itself a signal at a call of the progress bar with a note of that step.
DRIVER = """
import json, os, signal, sys
import interp.activations.harvesting, interp.report, interp.features.feature_store, interp.sae, models.corpus
from interp.cli import main
from interp.runtime.progress_bar import Bar

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
    work, temporary = tmp_path / "work", tmp_path / "temporary"
    work.mkdir(), temporary.mkdir()
    steps = {"harvest": (3, "tokens", HARVEST), "train": (3, "loss", TRAIN), "tables": (1, "counting firings", SCAN)}
    steps |= {"scan": (2, "encoding", SCAN), "report": (2, "", ("report", "{run}/features", "--out", "page"))}
    commands = []
    for name, (calls, step, arguments) in steps.items():
        limits = [at for at, word in enumerate(arguments) if word in ("--tokens", "--max-tokens")]
        at = limits[0] if limits else len(arguments)  # all tokens: more calls
        places = (word.replace("{run}", str(tiny_run.path)) for word in (*arguments[:at], *arguments[at + 2 :]))
        commands.append((calls, step, [word.replace("{here}/out", name) for word in places]))
    environment = {**os.environ, "TMPDIR": str(temporary)}
    driven = run_python(DRIVER, json.dumps(commands), environment=environment, cwd=work)
    assert driven.stdout.split() == ["143"] * len(commands), driven.stdout + driven.stderr
    for number, name in enumerate(steps):
        said = (work / f"stderr-{number}").read_text().splitlines()
        end = "start over" if name == "report" else "resume"
        assert said == [f"interp: terminated; run the same command again to {end}"]
    assert [path for path in temporary.rglob("*") if path.is_file()] == []
    left = [path.relative_to(work) for path in work.rglob("*")]
    assert not [path for path in left if path.suffix == ".tmp" or path.name.startswith(".")]
    assert not (work / "page").exists()
