"""Damaged JSON and headers in a finished run: `manifest` gives cases for ever."""

import json
import math
from collections.abc import Iterator
from pathlib import Path
from random import Random
from typing import Any

from analyses.attack_cases import MLP, RESID
from analyses.attack_trial import Case

RANK = ("rank", "{here}/run/features", "--nulls", "1", "--out", "{here}/ranking.csv")
_REPORT = ("report", "{here}/run/features", "--out", "{here}/out")
_PAGE = ("report", "{here}/run", "--out", "{here}/out")
_IN_PLACE = ("report", "{here}/run")
_STORE = "{here}/run/activations/store"
_SMALL = ("--d-sae", "16", "--k", "2", "--max-tokens", "512", "--batch-size", "128", "--out", "{here}/out")
_TRAIN = ("train-sae", _STORE, "--hook", MLP, *_SMALL)
SCAN = ("scan", "{here}/run/sae", _STORE, "--hook", RESID, "--out", "{here}/out")
_LABELLED = ("--model", "{here}/run/model", "--tokens", "{here}/run/corpus/train")
_FULL_SCAN = (*SCAN, *_LABELLED, "--tokenizer", "{here}/run/corpus/tokenizer")
_EXPORT = ("export", "{here}/run/sae", "--out", "{here}/out")
_HARVEST = ("harvest", "{here}/run/model", "{here}/run/corpus/val", "--hook", RESID)
_A_LITTLE = (*_HARVEST, "--max-tokens", "640", "--out", "{here}/out")
RUN_AGAIN = ("run", "{here}/run/run.toml", "--out", "{here}/run")

READ_BY: dict[str, tuple[tuple[str, ...], ...]] = {
    "activations/store/manifest.json": (_TRAIN, SCAN),
    "activations/store/tokens.safetensors": (SCAN,),
    "activations/store/statistics.safetensors": (_TRAIN,),
    "activations/store/shard-00000.safetensors": (_TRAIN,),
    "sae/cfg.json": (SCAN, _EXPORT),
    "sae/results.json": ((*_TRAIN[:-1], "{here}/run/sae"), RUN_AGAIN),
    "sae/sae_weights.safetensors": (_EXPORT, SCAN),
    "sae/manifest.json": (RUN_AGAIN, _PAGE),
    "sae/metrics.jsonl": (_PAGE,),
    "model/config.json": (_A_LITTLE,),
    "model/weights.safetensors": (_A_LITTLE,),
    "model/manifest.json": (RUN_AGAIN, _PAGE),
    "model/results.json": (_PAGE,),
    "model/metrics.jsonl": (_PAGE,),
    "corpus/train": (_FULL_SCAN,),
    "corpus/val": (_A_LITTLE,),
    "corpus/manifest.json": (RUN_AGAIN, _PAGE),
    "corpus/tokenizer/tokenizer.json": (_FULL_SCAN,),
    "features/meta.json": (RANK, _REPORT),
    "features/vocab.json": (RANK, _REPORT),
    "features/scan.json": ((*SCAN[:-1], "{here}/run/features"),),
    "features/manifest.json": (RUN_AGAIN, _IN_PLACE),
    "features/codes/codes.json": (RANK, _REPORT),
    "features/codes/run-00000.safetensors": (RANK,),
    "features/tokens.safetensors": (RANK, _REPORT),
    "features/decoder.safetensors": (_REPORT,),
    "ranking/manifest.json": (RUN_AGAIN, _PAGE),
    "report/manifest.json": (RUN_AGAIN,),
    "report/started.json": (_IN_PLACE,),
    "run.toml": (_PAGE, _IN_PLACE),
}
"""Files of a run, and commands that read them."""

_VALUES: tuple[Any, ...] = (0, -1, 1, 10**9, 2**31, 10**15, 2**64, 10**30, 0.5, math.nan, math.inf, "", "x", "../../x")
_VALUES += (None, True, [], {}, [[]], ["x"], {"x": 1})


def manifest(rng: Random, run: Path) -> Iterator[Case]:
    while True:
        name = rng.choice([name for name in READ_BY if (run / name).is_file()])
        content = (run / name).read_bytes()
        is_tensors = name.endswith(".safetensors") or name in ("corpus/train", "corpus/val")
        if rng.random() < 0.35 or name.endswith((".toml", ".jsonl")):
            what, damaged = _broken(rng, content)
        elif is_tensors:
            what, damaged = _other_header(rng, content)
        else:
            what, value = _other_value(rng, json.loads(content))
            damaged = json.dumps(value).encode()
        words = rng.choice(READ_BY[name])
        named = (name.rpartition("/")[2], "run/features", "run/sae")
        yield Case("manifest", f"{name}: {what} ({words[0]})", words, {f"run/{name}": damaged}, named)


def _broken(rng: Random, whole: bytes) -> tuple[str, bytes]:
    at, deep = rng.randrange(max(1, len(whole))), 10 ** rng.randint(3, 5)
    return rng.choice(
        [
            ("cut off", whole[:at]),
            ("a byte altered", whole[:at] + bytes([rng.randrange(256)]) + whole[at + 1 :]),
            ("no bytes", b""),
            ("noise", rng.randbytes(200)),
            ("NULs", b"\0" * len(whole)),
            ("a list", b"[1, 2]"),
            ("a text", b'"x"'),
            ("null", b"null"),
            (f"{deep} lists within lists", b"[" * deep + b"]" * deep),
            ("an integer of 5,000 digits", b'{"n": ' + b"9" * 5000 + b"}"),
            ("not UTF-8", whole[:at] + b"\xff\xfe" + whole[at:]),
            ("a header of 2⁶² bytes", (1 << 62).to_bytes(8, "little") + whole[8:]),
        ]
    )


def _other_value(rng: Random, value: Any) -> tuple[str, Any]:
    """One entry, at any depth, left out, renamed or with another value."""
    places = list(_places(value))
    if not places:
        return "another value", rng.choice(_VALUES)
    holder, key, path = rng.choice(places)
    change = rng.random()
    if change < 0.3:
        del holder[key]
        return f"{path} left out", value
    if change < 0.4 and isinstance(holder, dict):
        holder[f"{key}x"] = holder.pop(key)
        return f"{path} renamed", value
    holder[key] = rng.choice(_VALUES)
    return f"{path} = {holder[key]!r}", value


def _places(value: Any, path: str = "") -> Iterator[tuple[Any, Any, str]]:
    items = value.items() if isinstance(value, dict) else enumerate(value[:20]) if isinstance(value, list) else ()
    for key, inner in items:
        yield value, key, f"{path}.{key}"
        yield from _places(inner, f"{path}.{key}")


def _other_header(rng: Random, content: bytes) -> tuple[str, bytes]:
    """The header of a safetensors file with another value, its length made right again."""
    length = int.from_bytes(content[:8], "little")
    what, header = _other_value(rng, json.loads(content[8 : 8 + length]))
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    return f"header {what}", len(text).to_bytes(8, "little") + text + content[8 + length :]
