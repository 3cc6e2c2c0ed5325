"""Run every analysis of the essay and write the page that walks through them.

    python -m analyses.essay                        all, in the page's order; resumes
    python -m analyses.essay --only grokking        one of them (or several), and the page again
    python -m analyses.essay --redo                 claims, figures and page again, from the pieces that exist
    python -m analyses.essay --quick --out OUT      tiny sizes, for the tests: their numbers mean nothing

Writes OUT/how-models-learn.html, and a folder for each analysis.
"""

import argparse
import importlib
import json
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from types import ModuleType

from analyses.essay.page import read_chapters, write_page
from analyses.record import parse_with_out

ANALYSES = (
    "classifier",
    "shakespeare",
    "cross_entropy",
    "scaling_laws",
    "instruction_tuning",
    "preference",
    "model_diffs",
    "cross_entropy_neurons",
    "superposition",
    "geometry",
    "phase_change",
    "polysemantic_neurons",
    "universal_features",
    "feature_effects",
    "dictionary_scaling",
    "split_features",
    "features_in_training",
    "grokking",
    "paired_prompts",
    "code_stage",
)

OF_FEATURES = ("universal_features", "feature_effects", "dictionary_scaling", "split_features", "features_in_training")
"""Analyses that have other uses too, and are among the analyses of features."""


def main(arguments: Sequence[str] | None = None) -> Path:
    o = _parse(arguments)
    begin = time.monotonic()
    modules = {name: importlib.import_module(module_name_of(name)) for name in ANALYSES}
    for name in o.only or ANALYSES:
        module = modules[name]
        if not o.redo and _finished(module, o.out / name, o.quick):
            print(f"{name}: done before", flush=True)
            continue
        print(f"{name}", flush=True)
        quick, threads = ["--quick"] if o.quick else [], [f"--threads={o.threads}"] if o.threads else []
        module.main([*quick, *threads, "--out", str(o.out / name)])
    commands = {name: f"python -m {module_name_of(name)}" for name in ANALYSES}
    quick = {name: module.QUICK for name, module in modules.items()}
    page = write_page(read_chapters(o.out, commands, quick), o.out / "how-models-learn.html")
    print(f"{time.monotonic() - begin:.0f} s\nOpen {page.resolve()}")
    return page


def module_name_of(name: str) -> str:
    """Return the module that answers to this name."""
    return f"analyses.claims.{name}" if name in OF_FEATURES else f"analyses.essay.{name}"


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="*", choices=ANALYSES, help="these alone; the page shows what else is there")
    parser.add_argument("--redo", action="store_true")
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--threads", type=int, help="of each analysis; default all cores")
    return parse_with_out(parser, arguments, Path("runs/essay"))


def _finished(module: ModuleType, folder: Path, quick: bool) -> bool:
    """Return whether its results are those of the setting it has now."""
    file, setting = folder / "results.json", module.QUICK if quick else module.Setting()
    return file.exists() and json.loads(file.read_text())["setting"] == json.loads(json.dumps(asdict(setting)))


if __name__ == "__main__":
    main()
