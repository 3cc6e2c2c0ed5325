"""How far the ranking can be trusted: `scorecard` holds it against worlds whose truth is known."""

import argparse
from pathlib import Path
from typing import Any

from interp.cli.console import Bar
from interp.cli.files import check_writable, write_table
from interp.cli.parsing import command


def add_scorecard(commands: Any) -> None:
    text = """\
Judge planted latents whose meanings are known, each family of text by a calibration on the others, and print how well
the probability of one meaning and every single measure tell one meaning from several. About ten seconds a world."""
    parser = command(commands, "scorecard", _scorecard, "planted worlds → how far to trust the ranking", text)
    parser.add_argument("--seeds", type=int, default=2, help="worlds of each of the three families (default 2)")
    parser.add_argument("--latents", type=int, default=300, help="latents of each world (default 300)")
    parser.add_argument("--out", type=Path, help="a .csv file for the table of scores")


def _scorecard(options: argparse.Namespace) -> None:
    from interp.benchmark import not_scored, scorecard, verdict_quality
    from interp.benchmark.judged import calibration_worlds, judge_held_out
    from interp.metrics.table import MEASURES

    for name in ("seeds", "latents"):
        if getattr(options, name) < 1:
            raise ValueError(f"--{name} {getattr(options, name)} must be at least 1")
    if options.out:
        if options.out.suffix != ".csv":
            raise ValueError(f"--out {options.out} must end in .csv")
        check_writable("--out", options.out)
    scores = {"monosemanticity": 1, "between_within_ratio": 1, "effect_size": 1, "context_coherence": 1, **MEASURES}
    worlds = list(calibration_worlds(options.seeds, n_latents=options.latents))
    with Bar("scorecard") as bar:
        try:
            held_out = judge_held_out(worlds, bar)
            table, quality = scorecard(held_out, scores), verdict_quality(held_out)
        except ValueError as error:
            given = f"--latents (now {options.latents}) or --seeds (now {options.seeds})"
            raise ValueError(f"too few latents to judge by: raise {given} ({error})") from error
    if options.out:
        write_table(table, options.out)
    print(table.drop(columns=["n", "n_scored"]).round(3).to_string(index=False))
    print(f"not measured in these worlds: {', '.join(not_scored(held_out, scores))}")
    print("\n".join(f"{name:26s} {value:.3f}" for name, value in quality.items()))
