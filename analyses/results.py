"""Write analyses/RESULTS.md, and the numbers in the README, the guide and analyses/README.md, from commands' results.

    python -m analyses.results                        from the files kept in analyses/results
    python -m analyses.results --from runs            first copy what runs/ holds: runs/demo, runs/bench_sae, …
    python -m analyses.results --from runs --only demo bench_sae
    python -m analyses.results --measure              first run all commands: some hours (`make evidence`)

Each section of the page is one entry of SECTIONS. It has the folder below `--from` that its command writes, the
command, and a function that turns that folder's results.json (of a run, its manifests) into Markdown. If the results of
a section are not kept, the end of the page lists it with its command. So nothing is shown that was not measured. In
README.md and GUIDE.md the lines between `<!-- NAME -->` and `<!-- /NAME -->` are replaced. So is the index in
analyses/README.md: a row for each script whose docstring opens with a question, with its command and its result in a
line.

`--measure` runs the commands in the order of SECTIONS, as some read what an earlier one made. One that fails keeps its
old result and is named at the end: the report's needs the python of an environment with SAEDashboard, which the
variable SAEDASHBOARD gives, and the plan's needs runs/sixteen, a demo of 16 million tokens.
"""

import argparse
import ast
import json
import os
import platform
import re
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

from analyses import result_tables

ROOT = Path(__file__).parents[1]
RESULTS_FOLDER = ROOT / "analyses" / "results"
PAGE = ROOT / "analyses" / "RESULTS.md"
README = ROOT / "README.md"
GUIDE = ROOT / "analyses" / "GUIDE.md"
INDEX = ROOT / "analyses" / "README.md"
SEVERAL_SCRIPTS = ("compare", "essay")
"""The sections whose folder holds a folder for each of several scripts."""
Results = Mapping[str, Any]


class Section(NamedTuple):
    folder: str
    """The folder's name below `--from`; also the name of the kept file."""
    title: str
    command: str
    write: Callable[[Results], str]
    in_short: Callable[[Results], str] | None = None
    """The result in a line, for the index. None if the folder has a line for each of several scripts."""


def main(arguments: Sequence[str] | None = None) -> Path:
    options = parse(arguments)
    failed = []
    for section in SECTIONS:
        if options.only and section.folder not in options.only:
            continue
        if options.measure and not measure(section):
            failed.append(section.command)
        elif options.source:
            take_over(section, options.source / section.folder, options.note)
    kept = {
        section.folder: json.loads(file.read_text()) for section in SECTIONS if (file := kept_file(section)).exists()
    }
    PAGE.write_text(page(kept), encoding="utf-8")
    for file, mark, folder, write in IN_PROSE:
        if folder in kept:
            fill(file, mark, write(kept[folder]["results"]))
    fill(INDEX, "index", index(kept))
    print(f"{PAGE.relative_to(ROOT)}: {len(kept)} of {len(SECTIONS)} sections measured")
    if failed:
        sys.exit("\n  ".join(["these commands failed, and the page has their old results:", *failed]))
    return PAGE


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--from", dest="source", type=Path, metavar="FOLDER", help="copy new results from here")
    parser.add_argument("--measure", action="store_true", help="run the commands, and copy what they write to runs/")
    parser.add_argument("--only", nargs="+", choices=[section.folder for section in SECTIONS], default=[])
    parser.add_argument("--note", default="", help="shown with the numbers, such as what else the machine did")
    options = parser.parse_args(arguments)
    if options.measure:
        if options.source:
            parser.error("--measure writes to runs/ and copies from there, so it takes no --from")
        options.source = ROOT / "runs"
    return options


def measure(section: Section) -> bool:
    """Run the command of a section. Returns whether it succeeded; a variable that is not set is a failure."""
    print(section.command, flush=True)
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
    command = ["bash", "-euc", section.command]
    return subprocess.run(command, cwd=ROOT, env={**os.environ, "PATH": path}).returncode == 0


def take_over(section: Section, folder: Path, note: str = "") -> None:
    """Keep the folder's results, with the machine, the commit, the day and a note.

    In a section of several scripts, those without a result in the folder keep theirs. If there are any, `later` gives
    the machine, the commit, the day and the note of each that is new.
    """
    several = section.folder in SEVERAL_SCRIPTS
    if section.folder in ("demo", "smollm2"):
        results: Any = parts_of(folder, "manifest.json")
    elif several:
        results = parts_of(folder, "results.json")
    else:
        results = json.loads(file.read_text()) if (file := folder / "results.json").exists() else {}
    if not results:
        print(f"{folder} has no results; {section.command} makes them")
        return
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], cwd=ROOT, capture_output=True, text=True)
    source = {"date": f"{datetime.now(UTC):%Y-%m-%d}", "commit": commit.stdout.strip(), "machine": machine()}
    source |= {"note": note} if note else {}
    content = {**source, "command": section.command, "results": without_places(results)}
    before = json.loads(kept_file(section).read_text()) if several and kept_file(section).exists() else {"results": {}}
    if before["results"].keys() - results.keys():
        later = before.get("later", {}) | {name: source for name in results}
        content = {**before, "results": before["results"] | content["results"], "later": later}
    RESULTS_FOLDER.mkdir(exist_ok=True)
    kept_file(section).write_text(json.dumps(content, indent=1) + "\n")


def parts_of(folder: Path, file_name: str) -> dict[str, Any]:
    """Read the file of that name in each folder inside `folder`, keyed by the inner folder's name."""
    return {file.parent.name: json.loads(file.read_text()) for file in sorted(folder.glob(f"*/{file_name}"))}


def without_places(value: Any) -> Any:
    """Keep only the last name of each absolute path, since folders of one machine mean nothing on another."""
    if isinstance(value, dict):
        return {name: without_places(inner) for name, inner in value.items()}
    if isinstance(value, list):
        return [without_places(inner) for inner in value]
    return re.sub(r"(?<![\w:/.%])/(?:[\w.+-]+/)+(?=[\w.+-])", "", value) if isinstance(value, str) else value


def kept_file(section: Section) -> Path:
    return RESULTS_FOLDER / f"{section.folder}.json"


def machine() -> str:
    """Return the processor's name and the widest vector units that it reports."""
    info = Path("/proc/cpuinfo").read_text() if Path("/proc/cpuinfo").exists() else ""
    name = re.search(r"model name\s*:\s*(.+)", info)
    units = next((flag for flag in ("amx_bf16", "avx512_bf16", "avx512f", "avx2") if flag in info), "")
    return f"{name[1] if name else platform.machine()} {units}".strip()


def page(kept: Mapping[str, Any]) -> str:
    lines = [
        "# Results",
        "",
        "`python -m analyses.results` writes this page from the files in `analyses/results`; no number is typed by "
        "hand. [README.md](README.md) says which claims the rows are.",
    ]
    missing = [section for section in SECTIONS if section.folder not in kept]
    for section in SECTIONS:
        if section.folder in kept:
            content = kept[section.folder]
            lines += ["", f"## {section.title}", "", section.write(content["results"]), ""]
            lines += [f"`{section.command}`, {measured(content)}."]
            for name, source in content.get("later", {}).items():
                lines += ["", f"`{name}` is of a later run: {measured(source)}."]
    if missing:
        lines += ["", "## Not measured since the last change", ""]
        lines += [f"- {section.title}: `{section.command}`" for section in missing]
    return "\n".join(lines) + "\n"


def measured(source: Mapping[str, str]) -> str:
    """Say when a result was measured, of which commit, on which machine, with the note on it."""
    place = f"{source['date']}, commit {source['commit']}, two cores of {source['machine']}"
    return ", ".join([place, *filter(None, [source.get("note")])])


def index(kept: Mapping[str, Any]) -> str:
    """Write a row for each script that answers a question. The result is empty if it was not measured."""
    rows = []
    for file in sorted((ROOT / "analyses").rglob("*.py")):
        source = file.read_text(encoding="utf-8")
        question, mark, _ = " ".join((ast.get_docstring(ast.parse(source)) or "").split()).partition("?")
        if mark and '__name__ == "__main__"' in source:
            module = ".".join(file.relative_to(ROOT).with_suffix("").parts).removesuffix(".__main__")
            rows.append([f"{question}?", f"`python -m {module}`", result_in_short(module, kept)])
    return result_tables.table(["question", "command", "result"], rows)


def result_in_short(module: str, kept: Mapping[str, Any]) -> str:
    name = module.rpartition(".")[2]
    folders = {section.folder: section for section in SECTIONS}
    folder = f"bench_{name}" if module.startswith("analyses.bench.") else name
    if folder in kept and (in_short := folders[folder].in_short):
        return in_short(kept[folder]["results"])
    for several in SEVERAL_SCRIPTS:
        if several in kept and name in kept[several]["results"]:
            return result_tables.claims_in_short(kept[several]["results"][name])
    return ""


def fill(file: Path, name: str, block: str) -> None:
    file.write_text(filled(file.read_text(encoding="utf-8"), name, block), encoding="utf-8")


def filled(text: str, name: str, block: str) -> str:
    pattern = re.compile(rf"(<!-- {name} -->\n).*?(<!-- /{name} -->)", re.DOTALL)
    return pattern.sub(lambda match: f"{match[1]}{block}\n{match[2]}", text)


SECTIONS = (
    Section("demo", "The main job: `make demo`", "interp demo", result_tables.demo),
    Section(
        "smollm2",
        "The main job on a real language model: `make demo-smollm2`",
        "interp demo --model smollm2",
        result_tables.pretrained,
    ),
    Section(
        "bench_sae",
        "Speed of a training step, compared with the peers",
        "python -m analyses.bench.sae --out runs/bench_sae",
        result_tables.speed,
        result_tables.speed_in_short,
    ),
    Section(
        "bench_harvest",
        "Speed of a harvest",
        "python -m analyses.bench.harvest",
        result_tables.harvest,
        result_tables.harvest_in_short,
    ),
    Section(
        "bench_report",
        "Speed of the report, compared with SAEDashboard's pages",
        "python -m analyses.bench.report --peer $SAEDASHBOARD --rounds 2",
        result_tables.report,
        result_tables.report_in_short,
    ),
    Section(
        "bench_memory",
        "Memory by the length of the text",
        "python -m analyses.bench.memory",
        result_tables.memory,
        result_tables.memory_in_short,
    ),
    Section(
        "bench_streaming",
        "Memory of tokenizing a stream of text",
        "python -m analyses.bench.streaming",
        result_tables.streaming,
        result_tables.streaming_in_short,
    ),
    Section(
        "bench_shards",
        "Memory of a process if n processes divide the latents of a dictionary",
        "python -m analyses.bench.shards",
        result_tables.shards,
        result_tables.shards_in_short,
    ),
    Section(
        "bench_processes",
        "Scan, ranking and effects divided between two processes",
        "python -m analyses.bench.processes runs/demo",
        result_tables.divided,
        result_tables.divided_in_short,
    ),
    Section(
        "bench_plan",
        "Cost of a run, planned and measured",
        "python -m analyses.bench.plan runs/demo runs/smollm2 runs/sixteen",
        result_tables.plan,
        result_tables.plan_in_short,
    ),
    Section(
        "bench_quality",
        "Quality at equal tokens and L0, compared with SAELens's trainer",
        "python -m analyses.bench.quality",
        result_tables.quality,
        result_tables.quality_in_short,
    ),
    Section(
        "bench_recovery",
        "Recovery of the true features of synthetic worlds",
        "python -m analyses.bench.recovery",
        result_tables.recovery,
        result_tables.claims_in_short,
    ),
    Section(
        "bench_synthsae",
        "Recovery on SynthSAEBench-16k, after 20 million samples",
        'python -m analyses.bench.recovery --world "SynthSAEBench-16k v2" --samples 1000000 --passes 20 '
        '--only "interp Matryoshka, pruned" --seeds 0 1 2',
        result_tables.recovery,
        lambda results: f"Measured: {results['claims'][-1]['found']}",
    ),
    Section(
        "bench_synthsae_equal",
        "Recovery on SynthSAEBench-16k, beside SAELens at equal samples",
        'python -m analyses.bench.recovery --world "SynthSAEBench-16k v2" --samples 500000 --passes 1 '
        '--only "interp Matryoshka, pruned" "interp BatchTopK" "SAELens BatchTopK, tuned" '
        '"SAELens MatryoshkaBatchTopK, tuned" "interp BatchTopK, frozen decoder" --seeds 0 --workers 1',
        result_tables.recovery,
        result_tables.claims_in_short,
    ),
    Section(
        "scorecard",
        "The verdict against planted truth and careful readers",
        "python -m analyses.scorecard --short --ablate",
        result_tables.scorecard,
        result_tables.scorecard_in_short,
    ),
    Section(
        "dictionaries",
        "A scorecard of dictionaries, with nulls and the smallest difference that each measure detects",
        "python -m analyses.scorecard.dictionaries runs/demo --seeds 3 --tokens 500000 --characters 120000 "
        "--test-tokens 16000; python -m analyses.scorecard.dictionaries runs/smollm2 --k 32 --seeds 2 --tokens 100000 "
        "--characters 60000 --test-tokens 4000 --dictionaries runs/smollm2/sae",
        result_tables.dictionaries,
        result_tables.dictionaries_in_short,
    ),
    Section(
        "families",
        "Families of models, stage by stage",
        "python -m analyses.families",
        result_tables.families,
        result_tables.families_in_short,
    ),
    Section(
        "learnt_latents",
        "Did the model learn it? Trained dictionaries against their nulls",
        "python -m analyses.claims.learnt_latents",
        result_tables.learnt,
        result_tables.learnt_in_short,
    ),
    Section(
        "towards_monosemanticity",
        "Towards Monosemanticity, repeated",
        "python -m analyses.claims.towards_monosemanticity --run runs/demo",
        result_tables.towards,
        result_tables.towards_in_short,
    ),
    Section(
        "compare",
        "What features do, and where else they live",
        "for each in feature_effects predicted_steering feature_automata feature_circuits "
        "universal_features stable_features split_features neighbouring_features dictionary_scaling "
        "features_in_training rules_at_work; "
        "do python -m analyses.claims.$each; done",
        result_tables.essay,
    ),
    Section(
        "attribution_graphs",
        "Why a model says what it says",
        "python -m analyses.claims.attribution_graphs",
        lambda results: result_tables.essay({"attribution_graphs": results}),
        result_tables.claims_in_short,
    ),
    Section(
        "planted_circuits",
        "Whether an attribution graph finds a known circuit",
        "python -m analyses.claims.planted_circuits",
        lambda results: result_tables.essay({"planted_circuits": results}),
        result_tables.claims_in_short,
    ),
    Section(
        "trained_circuits",
        "What an attribution graph finds of trained circuits",
        "python -m analyses.claims.trained_circuits",
        result_tables.trained_circuits,
        result_tables.claims_in_short,
    ),
    Section(
        "smollm2_graphs",
        "Why SmolLM2 says what it says",
        "python -m analyses.claims.smollm2_graphs",
        result_tables.graphs_of_prompts,
        result_tables.claims_in_short,
    ),
    Section("essay", "How models learn", "make essay", result_tables.essay),
)

IN_PROSE = (
    (README, "demo", "demo", result_tables.in_short),
    (README, "shares", "demo", result_tables.shares_in_short),
    (README, "smollm2", "smollm2", result_tables.pretrained_in_short),
    (GUIDE, "graphs", "attribution_graphs", result_tables.graphs_in_short),
    (GUIDE, "graphs of SmolLM2", "smollm2_graphs", result_tables.pretrained_graphs_in_short),
    (README, "speed", "bench_sae", result_tables.speed_beside_peers),
    (README, "quality", "bench_quality", result_tables.quality_in_short),
)

if __name__ == "__main__":
    main()
