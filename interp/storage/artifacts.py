"""Find the artifact (a run, a feature store, a dictionary, …) that lies at a path. The error says what was expected.

    find_artifact("runs/demo", "features")            → ("features", runs/demo/features): a run has its contents
    find_artifact("runs/demo/sae", "features", "sae") → ("sae", runs/demo/sae)
    find_artifact("runs/demoo", "run")     ValueError: runs/demoo does not exist; did you mean runs/demo? …
    find_artifact("texts", "run")          ValueError: texts is not a run folder (run.toml): it holds a.txt, b.txt; …

Of a finished folder at an address, such as s3://bucket/features, a copy is found (`remote_folders.local_path`).
`interp.pipeline.readers.open_any` opens what is found.
"""

import difflib
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

from interp.checks.errors import InterpError
from interp.storage.addresses import RemoteAddress, as_local_path, as_path
from interp.storage.manifests import RUN_FILE
from interp.storage.remote_folders import local_path

HOOKS = "hooks"
"""The folder, inside a run of several hooks, that has a run folder for each hook after the first; they share its corpus
and model."""
_MOST_NAMES = 8


@dataclass(frozen=True)
class Artifact:
    """What a command or a stage makes: a folder, or a file, which others read."""

    name: str
    """Its name in error messages, with its article."""
    identifying_files: tuple[str, ...]
    """A folder is this artifact if it has one of these files; "" is the path itself, if it is a safetensors file."""
    inside: tuple[str, ...]
    """Its paths inside a folder that contains it: a folder that a command wrote, then a run folder."""
    stage: str
    """The stage of a run that makes it."""
    made_by: str
    shared_by_hooks: bool = False
    """Whether all hooks of a run share it; it then lies in the run folder of all hooks."""


ARTIFACTS = {
    "run": Artifact(
        "a run folder",
        (RUN_FILE,),
        (),
        "",
        "`interp demo` or `interp run` makes one",
    ),
    "features": Artifact(
        "a feature store",
        ("meta.json",),
        ("features",),
        "features",
        "`interp scan` makes one",
    ),
    "sae": Artifact(
        "an SAE's folder",
        ("cfg.json",),
        ("sae",),
        "sae",
        "`interp train-sae` makes one",
    ),
    "activations": Artifact(
        "an activation store",
        ("statistics.safetensors", "shard-00000.safetensors"),
        ("store", "activations/store"),
        "activations",
        "`interp harvest` makes one",
    ),
    "model": Artifact(
        "a model's folder",
        ("config.json", "pretrained.json"),
        ("model",),
        "model",
        "`interp run --until model` makes one",
        shared_by_hooks=True,
    ),
    "tokens": Artifact(
        "labelled tokens",
        ("", "row_characters.safetensors"),
        ("tokens", "train", "corpus/train"),
        "corpus",
        "`interp tokenize` makes one",
        shared_by_hooks=True,
    ),
    "tokenizer": Artifact(
        "a tokenizer's folder",
        ("tokenizer.json",),
        ("tokenizer", "corpus/tokenizer"),
        "corpus",
        "`interp tokenize` writes one",
        shared_by_hooks=True,
    ),
}


def check_identifying_file(artifact: str, file: str) -> None:
    """Check that a file may tell that a folder is this artifact (a key of ARTIFACTS). Raises ValueError if it tells
    that the folder is another one."""
    if others := [other for other, each in ARTIFACTS.items() if file in each.identifying_files and other != artifact]:
        raise InterpError(f"{file} is in each folder of {ARTIFACTS[others[0]].name}: name another file first")


def register_identifying_file(artifact: str, file: str) -> None:
    """Let a folder with this file be this artifact too."""
    entry = ARTIFACTS[artifact]
    ARTIFACTS[artifact] = replace(entry, identifying_files=tuple(dict.fromkeys((*entry.identifying_files, file))))


class FoundArtifact(NamedTuple):
    artifact: str
    """A key of ARTIFACTS."""
    path: Path


def find_artifact(path: str | Path, *artifacts: str) -> FoundArtifact:
    """Find the first of `artifacts` (keys of ARTIFACTS, by default all) that `path` is or contains.

    Raises ValueError if the path does not exist, with the most similar path that does, and if it contains none of them,
    with a list of them and of its contents.
    """
    path = local_path(path)
    artifacts = artifacts or tuple(ARTIFACTS)
    check_exists(path, *artifacts)
    candidates = [FoundArtifact(artifact, path) for artifact in artifacts]
    candidates += [FoundArtifact(artifact, inner) for artifact in artifacts for inner in _inside(path, artifact)]
    for found in candidates:
        if _is(found.path, ARTIFACTS[found.artifact]):
            return found
    first = ARTIFACTS[artifacts[0]]
    if is_run(path):
        raise InterpError(f"{path} has no {first.stage} yet: `interp run` or `interp demo` makes it")
    looked_for = []
    for artifact in artifacts:
        files = filter(None, ARTIFACTS[artifact].identifying_files)
        looked_for.append(f"{ARTIFACTS[artifact].name} ({' or '.join(files) or 'a file'})")
    if artifacts == ("run",):
        raise InterpError(f"{path} is not {looked_for[0]}: {_contents(path)}; {first.made_by}")
    looked_for += [] if "run" in artifacts else ["a run folder with one"]
    raise InterpError(f"{path} is neither {', nor '.join(looked_for)}: {_contents(path)}; {first.made_by}")


def folder_of(path: str | Path, artifact: str) -> Path:
    """Return the folder of this artifact, which `path` is or contains; `path` itself if there is none, so that its
    reader reports what is missing."""
    path = local_path(path)
    return next((folder for folder in (path, *_inside(path, artifact)) if _is(folder, ARTIFACTS[artifact])), path)


def is_run(path: str | Path) -> bool:
    """Return whether the path is a run folder."""
    return _is(Path(path).expanduser(), ARTIFACTS["run"])


def root_run(path: str | Path) -> Path:
    """Return the run folder of all hooks, if `path` is the run folder of one of them; else `path` itself."""
    folder = as_local_path(path)
    above = folder.absolute().parent
    return above.parent if above.name == HOOKS and is_run(above.parent) else folder


def looks_like_path(name: str) -> bool:
    """Return whether a name, which may be a folder's or a hub's, means a folder: it exists, or its first part does, or
    it is an address. Raises ValueError for a name that is too long for a file."""
    path = as_path(name)
    try:
        return (
            isinstance(path, RemoteAddress) or path.exists() or (len(path.parts) > 1 and Path(path.parts[0]).is_dir())
        )
    except OSError as error:
        raise InterpError(f"{name[:50]}… can be neither a folder nor a name: {error.strerror}") from None


def check_exists(path: str | Path, *artifacts: str, remedy: str = "") -> None:
    """Check that a path exists. Raises ValueError if there is neither a file nor a folder, with the most similar
    existing path, or else the remedy, and with the command that makes the first of `artifacts`."""
    if not (path := as_local_path(path)).exists():
        near = nearest_path(path)
        suggestion = f"; did you mean {near}?" if near else f": {remedy}" if remedy else ""
        made_by = f" ({ARTIFACTS[artifacts[0]].name}: {ARTIFACTS[artifacts[0]].made_by})" if artifacts else ""
        raise InterpError(f"{path} does not exist{suggestion}{made_by}")


def nearest_path(path: Path) -> Path | None:
    """Return the existing path whose names are most similar to the names in `path`; None if none is similar."""
    existing = Path(path.anchor)
    for name in path.relative_to(path.anchor).parts:
        if not (existing / name).exists():
            names = [entry.name for entry in existing.iterdir()] if existing.is_dir() else []
            matches = difflib.get_close_matches(name, names, n=1)
            if not matches:
                return None
            name = matches[0]
        existing /= name
    return existing


def _inside(path: Path, artifact: str) -> list[Path]:
    """Return where an artifact can lie inside a folder."""
    folder = root_run(path) if ARTIFACTS[artifact].shared_by_hooks else path
    return [folder / name for name in ARTIFACTS[artifact].inside]


def _is(path: Path, artifact: Artifact) -> bool:
    if "" in artifact.identifying_files and path.is_file():
        with path.open("rb") as file:
            return file.read(9)[8:] == b"{"  # safetensors: the length of its header, which is JSON
    return any((path / file).is_file() for file in artifact.identifying_files)


def _contents(path: Path) -> str:
    if path.is_file():
        return "it is a file"
    matching = [artifact.name for artifact in ARTIFACTS.values() if _is(path, artifact)]
    if matching:
        return f"it is {' and '.join(matching)}"
    names = sorted(entry.name for entry in path.iterdir())
    more = ", …" if len(names) > _MOST_NAMES else ""
    return f"it holds {', '.join(names[:_MOST_NAMES])}{more}" if names else "it is empty"
