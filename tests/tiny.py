"""A configuration of the whole pipeline that runs in seconds; what several tests share."""

import dataclasses
import hashlib
import json
import shutil
from collections.abc import Sequence
from pathlib import Path

from interp.codes.dictionary import Dictionary
from interp.pipeline.config import RunConfig
from interp.pipeline.execution import run_stages
from interp.pipeline.run import Run

TINY = RunConfig.tiny()
SECTIONS = TINY.to_dict()
FEW = TINY.replace(
    harvest=dataclasses.replace(TINY.harvest, tokens=8_000, batch_size=20),
    sae=dataclasses.replace(TINY.sae, d_sae=18, tokens=8_000),
    quality=dataclasses.replace(TINY.quality, tokens=2_000),
    effects=dataclasses.replace(TINY.effects, sequences=2),
    nulls=dataclasses.replace(TINY.nulls, tokens=1_000, sae_tokens=1_000, latents=2),
)
"""As few tokens as show whether two runs are the same; the text and the model are those of TINY."""
VOLATILE = {"tokens_per_second", "wall_seconds", "seconds", "fingerprint"}


def is_dictionary(thing: object) -> bool:
    """Return whether it has all members of a dictionary. From Python 3.12 on, `isinstance` does not see the parameters
    of a torch module."""
    return all(hasattr(thing, name) for name in vars(Dictionary) if not name.startswith("_"))


def ran_now(config, folder, **given) -> list[str]:
    """Return the stages that run."""
    ran = []
    run_stages(config, folder, on_finish=lambda stage, manifest, now: ran.append(stage.name) if now else None, **given)
    return ran


def copy_stages(run: Run, out: Path, names: Sequence[str] = ("corpus", "model")) -> Path:
    """Return a run folder with some stages of a run only."""
    for name in names:
        shutil.copytree(run.path / name, out / name)
    shutil.copy(run.path / "run.toml", out)
    return out


def contents(folder: Path) -> dict[str, str]:
    """Return a hash of each file; times left out of JSON, the page and the manifests with it."""
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
