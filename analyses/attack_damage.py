"""Damage to the files of a finished run: is every bit of it seen, by whoever reads the file?

    damage      each file: bits flipped, cut off, emptied, lengthened, a block of zeros, the next file of its folder in
                its place, deleted. A command that reads it must refuse it, naming the file and the remedy; `interp run`
                must make it again where it is missing or cut off.
    codes       bits flipped in the sparse codes and their list: every other one with checksums, which must see it, and
                without, where `interp rank` must not crash and a refusal names the file.

Rows are as those of `analyses.attack_trial`; `accepted` is a damage that nothing saw.
"""

import json
from collections.abc import Iterator
from itertools import count, islice
from pathlib import Path
from random import Random

from analyses.attack_files import RANK, READ_BY, RUN_AGAIN, SCAN
from analyses.attack_trial import Case

_REPORT = ("report", "{here}/run", "--out", "{here}/out")
_READERS = {"features": RANK, "ranking": _REPORT, "quality": _REPORT, "concepts": _REPORT, "nulls": _REPORT}
_READERS |= {"sae": _REPORT, "model": _REPORT}
_OWN = {"run.toml": ("run", "{here}/whole.toml", "--out", "{here}/run"), "features/scan.json": RANK}
_OWN |= {"sae/results.json": _REPORT, "activations/store/shard-00000.safetensors": SCAN}
UNREAD = ("report/page/", "neurons/")
"""What no command reads: a page is for the browser, and the verdicts of neurons stand among the nulls."""
FLIPS = 3


def cases(kind: str, rng: Random, run: Path, n: int | None) -> list[Case]:
    """n of a kind; of damage all where n is None, or drawn from those that make no stage run again."""
    if kind == "codes":
        return list(islice(codes(rng, run), n))
    every = list(damage(rng, run))
    return every if n is None else rng.sample([case for case in every if case.words != RUN_AGAIN], n)


def damage(rng: Random, run: Path) -> Iterator[Case]:
    """Cases of every file, each damage once and bits flipped in FLIPS places."""
    files = [file for file in sorted(run.rglob("*")) if file.is_file()]
    for number, file in enumerate(files):
        name = file.relative_to(run).as_posix()
        words = _reader(name)
        if words is None:
            continue
        other = files[(number + 1) % len(files)].read_bytes()
        for what, content in _damages(rng, file.read_bytes(), other, _is_read(file)):
            made_again = name.endswith("manifest.json") and content is None
            changes = {f"run/{name}": content, "whole.toml": (run / "run.toml").read_bytes()}
            wrong = words != RUN_AGAIN and not made_again
            named = (file.name, f"run/{name.partition('/')[0]}", "run of another configuration")
            yield Case("damage", f"{name}: {what} ({words[0]})", words, changes, named, wrong, verify=True, remedy=True)


def codes(rng: Random, run: Path) -> Iterator[Case]:
    """Flipped bits for ever; three in four in the codes, of them half in their first kilobytes: header and offsets."""
    places = ["features/codes/codes.json", *[f"features/codes/{f.name}" for f in run.glob("features/codes/run-*")]]
    for number in count():
        name = places[0] if rng.random() < 0.25 else rng.choice(places[1:])
        whole = (run / name).read_bytes()
        at = rng.randrange(min(len(whole), 4096 if rng.random() < 0.5 else len(whole)))
        what = f"{name}: bit {at}.{(bit := rng.randrange(8))}"
        flipped = {f"run/{name}": _flipped(whole, at, bit)}
        sums = number % 2 == 0
        yield Case("codes", what, RANK, flipped, (Path(name).name,), wrong=sums, verify=sums)


def _reader(name: str) -> tuple[str, ...] | None:
    """A command that reads the file."""
    if name.startswith(UNREAD):
        return None
    if name in _OWN or name in READ_BY:
        return _OWN.get(name) or READ_BY[name][0]
    return _READERS.get(name.partition("/")[0], RUN_AGAIN)


def _is_read(file: Path) -> int:
    """The bytes that the file's reader looks at: of a shard those up to the end of its first hook."""
    if not file.name.startswith("shard-"):
        return file.stat().st_size
    content = file.read_bytes()
    length = int.from_bytes(content[:8], "little")
    ends = sorted(entry["data_offsets"][1] for entry in json.loads(content[8 : 8 + length]).values())
    return 8 + length + ends[1]


def _damages(rng: Random, whole: bytes, other: bytes, n_read: int) -> Iterator[tuple[str, bytes | None]]:
    for _ in range(FLIPS):
        at, bit = rng.randrange(max(1, n_read)), rng.randrange(8)
        if whole:
            yield f"bit {at}.{bit} flipped", _flipped(whole, at, bit)
    start = rng.randrange(max(1, n_read - 64))
    zeros = whole[:start] + b"\0" * min(64, len(whole) - start) + whole[start + 64 :]
    for what, content in (
        ("cut off", whole[: rng.randrange(max(1, len(whole)))]),
        ("emptied", b""),
        ("lengthened", whole + b"\0"),
        ("a block of zeros", zeros),
        ("another file's content", other),
    ):
        if content != whole:
            yield what, content
    yield "deleted", None


def _flipped(whole: bytes, at: int, bit: int) -> bytes:
    return whole[:at] + bytes([whole[at] ^ 1 << bit]) + whole[at + 1 :]
