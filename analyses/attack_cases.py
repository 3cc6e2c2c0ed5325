"""Hostile configurations, arguments and corpora: each function gives cases of its kind for ever."""

import inspect
import json
import math
import typing
from collections.abc import Iterator
from pathlib import Path
from random import Random
from typing import Any

import tomli_w

from analyses.attack_trial import Case
from interp.cli import COMMANDS
from interp.cli.console import command_name
from interp.pipeline.config import RunConfig
from interp.pipeline.stages import STAGES

INTEGERS = (0, -1, -5, 1, 7, 10**7, 10**9, 2**31, 10**15, 2**63 - 1, 2**64, 10**30, -(10**30))
FLOATS = (0.0, -1.0, 0.5, 1e-300, 1e308, math.nan, math.inf, -math.inf)
TEXTS = ("", " ", "x", "none", "é\u202e", "../..", "/dev/null", "/", "a" * 5000, "\x01", "%s{0}")
HOSTILE: tuple[Any, ...] = (*INTEGERS, *FLOATS, *TEXTS, True, [], [1, -1], ["x", ""], {}, {"a": {"b": 1}})
WORDS = (*map(str, INTEGERS), *map(str, FLOATS), *TEXTS, "9" * 5000, "[]", "[1,", "{", '"', "1,2", "\udcff", "0x1f")

RESID, MLP = "blocks.0.hook_resid_post", "blocks.0.mlp.hook_post"
VALID: dict[str, tuple[str, ...]] = {
    "harvest": ("{run}/model", "{run}/corpus/val", "--hook", RESID, "--max-tokens", "640", "--out", "{here}/out"),
    "train-sae": ("{run}/activations/store", "--hook", MLP, "--d-sae", "16", "--k", "2", "--max-tokens", "512")
    + ("--batch-size", "128", "--out", "{here}/out"),
    "scan": ("{run}/sae", "{run}/activations/store", "--hook", RESID, "--out", "{here}/out"),
    "rank": ("{run}/features", "--nulls", "1", "--out", "{here}/ranking.csv"),
    "report": ("{run}/features", "--out", "{here}/out"),
    "export": ("{run}/sae", "--out", "{here}/out"),
    "judge": ("{run}", "--out", "{here}/out", "--base-url", "http://127.0.0.1:9", "--model", "m", "--tries", "1")
    + ("--timeout", "1", "--sample", "2", "--yes"),
}
WRONG: tuple[tuple[str, str, str], ...] = (
    ("harvest", "--max-tokens", "0"),
    ("harvest", "--max-tokens", "-5"),
    ("harvest", "--hook", ""),
    ("harvest", "--batch-size", "0"),
    ("harvest", "--max-norm", "nan"),
    ("scan", "--hook", ""),
    ("train-sae", "--hook", ""),
    ("train-sae", "--max-tokens", "0"),
    ("train-sae", "--lr", "nan"),
    ("train-sae", "--target", ""),
    ("rank", "--nulls", "0"),
    ("rank", "--seed", "-1"),
    ("scorecard", "--seeds", "0"),
    ("scorecard", "--latents", "-3"),
    ("judge", "--windows", "0"),
    ("judge", "--timeout", "nan"),
    ("judge", "--concurrency", "0"),
    ("judge", "--latents", "-1"),
)
"""What may not pass as if it had been left out."""


def toml(rng: Random, run: Path) -> Iterator[Case]:
    while True:
        yield _broken_toml(rng) if rng.random() < 0.3 else _wrong_field(rng, run)


def _wrong_field(rng: Random, run: Path) -> Case:
    """One field of a finished run's configuration, with another value."""
    sections = RunConfig.from_toml(run / "run.toml").to_dict()
    owner = {section: stage.name for stage in STAGES.values() for section in stage.config}
    section = rng.choice(list(sections))
    name, value = rng.choice([*sections[section], "nonsense"]), rng.choice(HOSTILE)
    sections[section] |= {name: value}
    content = tomli_w.dumps(sections).encode("utf-8", "surrogateescape")
    words = ("run", "{here}/c.toml", "--out", "{here}/run", "--redo", "--until", owner[section])
    what = f"[{section}] {name} = {str(value)[:40]!r}"
    return Case("toml", what, words, {"c.toml": content}, ("c.toml", name, str(value)), own_run=True)


def _broken_toml(rng: Random) -> Case:
    whole = tomli_w.dumps(RunConfig.tiny().to_dict()).encode()
    at, deep = rng.randrange(len(whole)), 10 ** rng.randint(3, 5)
    what, content = rng.choice(
        [
            ("cut off", whole[:at]),
            ("a byte altered", whole[:at] + bytes([rng.randrange(256)]) + whole[at + 1 :]),
            ("bytes put in", whole[:at] + rng.randbytes(rng.randint(1, 9)) + whole[at:]),
            ("no bytes", b""),
            ("a byte order mark", b"\xef\xbb\xbf" + whole),
            ("UTF-16", whole.decode().encode("utf-16")),
            ("noise", rng.randbytes(200)),
            (f"{deep} lists within lists", b"a = " + b"[" * deep + b"]" * deep),
            (f"{deep} tables within tables", b"[corpus]\na = " + b"{a = " * deep + b"1" + b"}" * deep),
            (f"a key of {deep} parts", b"[" + b".".join([b"a"] * deep) + b"]\nb = 1"),
            ("an integer of 5,000 digits", b"[corpus]\nseed = " + b"9" * 5000),
            ("a section that is a number", b"corpus = 3\n"),
            ("a list of sections", b"[[corpus]]\nseed = 1\n"),
            ("a date", b"[corpus]\nseed = 1979-05-27\n"),
            ("an unknown section", b"[corpsu]\nseed = 1\n"),
            ("NUL in a path", b'[corpus]\nsource = "files"\npaths = ["a\\u0000b"]\n'),
            ("a path of 5,000 letters", b'[corpus]\nsource = "files"\npaths = ["' + b"a" * 5000 + b'"]\n'),
            ("a glob of everything", b'[corpus]\nsource = "files"\npaths = ["/proc/self/**"]\n'),
            ("a folder as text", b'[corpus]\nsource = "files"\npaths = ["/"]\n'),
            ("shares that are words", b'[corpus]\nshares = {dna = "x"}\n'),
            ("shares of NaN", b"[corpus]\nshares = {dna = nan, hex = 1.0}\n"),
        ]
    )
    words = ("run", "{here}/c.toml", "--out", "{here}/out", "--until", "corpus")
    small = b'\n[corpus]\nsource = "dna"\ncharacters = 50000\n' if b"[corpus]" not in content else b""
    return Case(
        "toml", what, words, {"c.toml": content + small}, ("c.toml", "corpus", "paths", "/", "a" * 99, "a\\x00b")
    )


def arguments(rng: Random, run: Path) -> Iterator[Case]:
    while True:
        for command, flag, value in WRONG:
            yield _with(command, flag, value, wrong=True)
            for _ in range(9):
                yield _option(rng) if rng.random() < 0.8 else _shuffled(rng)


def _option(rng: Random) -> Case:
    """A valid command with one option of any value."""
    command = rng.choice(list(VALID))
    function = next(each for each in COMMANDS if command_name(each) == command)
    parameters = [p for p in inspect.signature(function).parameters.values() if p.name not in ("yes", "tries")]
    parameter, value = rng.choice(parameters), rng.choice(WORDS)
    if parameter.kind is not parameter.KEYWORD_ONLY:
        words = list(VALID[command])
        words[list(inspect.signature(function).parameters).index(parameter.name)] = value
        return Case("arguments", f"{command} {parameter.name}={value[:40]!r}", (command, *words), {}, (_shown(value),))
    hint = typing.get_type_hints(function, include_extras=False)[parameter.name]
    flag = f"--{parameter.name.replace('_', '-')}"
    if command == "train-sae" and rng.random() < 0.7:
        flag = rng.choice(["--d-sae", "--k", "--tokens", "--lr", "--batch-size", "--warmup", "--dead-after", "--seed"])
    return _with(command, flag, "" if hint is bool else value)


def _with(command: str, flag: str, value: str, *, wrong: bool = False) -> Case:
    valid = list(VALID.get(command, ()))
    if flag in valid:
        del valid[valid.index(flag) : valid.index(flag) + 2]
    joined = f"{flag}={value}" if value[:1] == "-" else None
    words = (command, *valid, *([joined] if joined else [flag, value]))
    names = (flag, flag.removeprefix("--").replace("-", "_"), "argument", "127.0.0.1:9", _shown(value))
    return Case("arguments", f"{command} {flag} {value[:40]!r}", words, {}, names, wrong)


def _shown(value: str) -> str:
    """The beginning of a value as a message shows it."""
    shown = "".join(letter if letter.isprintable() else repr(letter)[1:-1] for letter in value)
    return shown[:50] if value.strip() else repr(value)


def _shuffled(rng: Random) -> Case:
    """A valid command with words left out, doubled, in another order, or of no meaning."""
    command = rng.choice(list(VALID))
    words = [command, *VALID[command]]
    for _ in range(rng.randint(1, 2)):
        at = rng.randrange(len(words))
        change = rng.randrange(4)
        if change == 0:
            del words[at]
        elif change == 1:
            words.insert(at, words[at])
        elif change == 2:
            words.insert(at, rng.choice((*WORDS, "--nonsense", "--out", "--help", "--", "-")))
        else:
            words[at], words[0] = words[0], words[at]
    return Case("arguments", " ".join(words)[:80], tuple(words))


def _corpus_case(kind: str, what: str, files: dict[str, bytes], named: tuple[str, ...], **fields: Any) -> Case:
    name = next(iter(files))
    config = {"corpus": {"source": "files", "paths": [name], "val_fraction": 0.2, **fields}}
    config |= {"tokenizer": {"vocab_size": 300}, "model": {"n_ctx": 16, "d_model": 16, "n_heads": 2, "d_mlp": 16}}
    words = ("run", "{here}/c.toml", "--out", "{here}/out", "--until", "corpus")
    return Case(kind, what, words, {**files, "c.toml": tomli_w.dumps(config).encode()}, named)


def corpus(rng: Random, run: Path) -> Iterator[Case]:
    while True:
        words = " ".join(rng.choice(("cat", "Δ", "naïve", "日本", "12", "🙂", "e\u0301")) for _ in range(2000))
        text = words.encode()
        at = rng.randrange(len(text))
        what, content = rng.choice(
            [
                ("nothing", b""),
                ("blanks", b" \n\t\r\n" * rng.randint(1, 1000)),
                ("one letter", b"x"),
                ("NULs", b"\0" * rng.randint(1, 100_000)),
                ("noise", rng.randbytes(rng.randint(1, 10_000))),
                ("Latin-1", words.encode("latin-1", "replace") + b"\xe9\xe8" * 50),
                ("UTF-16", words.encode("utf-16")),
                ("UTF-32", words.encode("utf-32")),
                ("a byte altered", text[:at] + bytes([rng.randrange(256)]) + text[at + 1 :]),
                ("cut within a character", text[: at or 1]),
                ("half surrogates", b"abc \xed\xa0\x80 def " * 100),
                ("one line of a million letters", b"a" * 1_000_000),
                ("carriage returns", text.replace(b" ", b"\r")),
                ("two byte order marks", b"\xef\xbb\xbf" * 2 + text),
                ("right to left marks", "\u202e\u2066\u200f".encode() * 3000),
                ("a thousand accents on a letter", ("e" + "\u0301" * 1000).encode() * 20),
                ("every character", "".join(map(chr, range(0x20, 0xD800))).encode()),
                ("special tokens as text", b"<|bos|><|unk|><|endoftext|>" * 500),
                ("a whole text", text),
            ]
        )
        extra = rng.choice([{}, {}, {"characters": rng.choice((1, 10**9))}, {"document_characters": 100}])
        yield _corpus_case("corpus", what, {"text.txt": content}, ("text.txt", "characters", "n_ctx"), **extra)


def jsonl(rng: Random, run: Path) -> Iterator[Case]:
    good = json.dumps({"text": "The cat sat on the mat. " * 40}).encode()
    while True:
        deep = 10 ** rng.randint(3, 5)
        at = rng.randrange(len(good))
        what, line = rng.choice(
            [
                ("cut off", good[:at]),
                ("a byte altered", good[:at] + bytes([rng.randrange(256)]) + good[at + 1 :]),
                ("noise", rng.randbytes(50)),
                (f"{deep} lists within lists", b'{"text": ' + b"[" * deep + b"]" * deep + b"}"),
                (f"{deep} objects within objects", b'{"text": ' + b'{"a":' * deep + b"1" + b"}" * deep + b"}"),
                ("an integer of 5,000 digits", b'{"text": "abc", "n": ' + b"9" * 5000 + b"}"),
                ("NaN beside the text", b'{"text": "abc", "n": NaN}'),
                ("a list", b'["text"]'),
                ("a number", b"17"),
                ("null", b"null"),
                ("the text is a number", b'{"text": 5}'),
                ("the text is null", b'{"text": null}'),
                ("another field", b'{"txet": "abc"}'),
                ("no field", b"{}"),
                ("half a surrogate pair", b'{"text": "abc \\ud800 def"}'),
                ("empty text", b'{"text": ""}'),
                ("NULs", b'{"text": "' + b"\\u0000" * 500 + b'"}'),
                ("a byte order mark", b"\xef\xbb\xbf" + good),
                ("UTF-16", good.decode().encode("utf-16")),
                ("two objects on a line", good + good),
                ("a line of a million letters", b'{"text": "' + b"a" * 1_000_000 + b'"}'),
                ("blank", b"  "),
                ("whole", good),
            ]
        )
        before = [good] * rng.choice((0, 1, 20))
        content = b"\n".join([*before, line, *before[:1]])
        fields = {"source": "jsonl", "field": rng.choice(("text", "text", "text", ""))}
        yield _corpus_case("jsonl", what, {"rows.jsonl": content}, ("rows.jsonl", "field", "n_ctx"), **fields)
