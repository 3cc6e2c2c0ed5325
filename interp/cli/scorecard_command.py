"""`scorecard` holds the verdict against known truth: planted text, or the Bible in two languages."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from interp.cli.console import Bar
from interp.cli.paths import check_writable, write_table

if TYPE_CHECKING:
    import pandas as pd

    from interp.pipeline.bible import RealText


def scorecard_command(
    *,
    family: Annotated[Literal["planted", "bible"], "bible: real text, lemmas as truth (default planted)"] = "planted",
    seeds: Annotated[int, "worlds of each family (default 1)"] = 1,
    latents: Annotated[int, "latents of each world"] = 300,
    out: Annotated[Path | None, "a .csv file for the table of scores"] = None,
) -> None:
    """planted worlds → how far to trust the ranking

    Judge planted latents whose meanings are known, each family of text by a calibration on the others, and print how
    well the probability of one meaning and every single measure tell one meaning from several. About ten seconds a
    world. With --family bible the text is the King James Bible beside the Reina-Valera, meanings are the lemmas that
    their words share, and the calibration is the one that ships, which knows planted text alone; judged are planted
    latents, then those of a model trained on the verses, eight in its dictionary for each planted one. About six
    minutes."""
    from interp.benchmark.rivals import RIVALS
    from interp.benchmark.scores import not_scored, scorecard, verdict_quality
    from interp.metrics.measures import SIGNS

    _check(seeds, latents, out)
    ours = ("monosemanticity", "between_within_ratio", "effect_size", "context_coherence")
    scores = {**dict.fromkeys(ours, 1), **SIGNS, **RIVALS}
    with Bar("scorecard") as bar:
        real = _real_text(seeds, latents, bar) if family == "bible" else None
        try:
            judged = _planted(seeds, latents, bar) if real is None else real.planted
            table, quality = scorecard(judged, scores), verdict_quality(judged)
        except ValueError as error:
            given = f"--latents (now {latents}) or --seeds (now {seeds})"
            raise ValueError(f"too few latents to judge by: raise {given} ({error})") from error
    if out:
        write_table(table, out)
    print(table.drop(columns=["n", "n_scored"]).round(3).to_string(index=False))
    print(f"not measured in these worlds: {', '.join(not_scored(judged, scores))}")
    print("\n".join(f"{name:26s} {value:.3f}" for name, value in quality.items()))
    if real is not None:
        _say(real)


def _check(seeds: int, latents: int, out: Path | None) -> None:
    for name, value in (("seeds", seeds), ("latents", latents)):
        if value < 1:
            raise ValueError(f"--{name} {value} must be at least 1")
    if out:
        if out.suffix != ".csv":
            raise ValueError(f"--out {out} must end in .csv")
        check_writable("--out", out)


def _planted(seeds: int, latents: int, bar: Bar) -> "pd.DataFrame":
    from interp.benchmark.judged import calibration_worlds, judge_held_out

    return judge_held_out(list(calibration_worlds(seeds, n_latents=latents)), bar)


def _real_text(seeds: int, latents: int, bar: Bar) -> "RealText":
    from interp.pipeline.bible import real_text, sizes_for
    from models.verses import MODULES, read_verses

    return real_text([read_verses(language) for language in MODULES], seeds, latents, sizes_for(latents), bar)


def _say(real: "RealText") -> None:
    from interp.benchmark.cross_lingual import above_null
    from interp.benchmark.scores import verdicts_of

    lemmas, senses = real.joined
    print(f"\n{len(lemmas):,} numbers translated alike count as {len(set(lemmas.values())):,} meanings")
    print(f"{len(senses):,} numbers of a word count as a commoner one of the same word")
    print(f"a model of the verses\n{verdicts_of(real.learnt).round(3).to_string(index=False)}")
    for name, own in (("", real.cross), (", verses of one shuffled", real.null)):
        print(
            f"cross-lingual latents{name}: {own.n_cross:,} of {own.n:,}, {own.share:.1%} ({own.low:.1%}–{own.high:.1%})"
        )
    more, low, high = above_null(real.cross, real.null)
    print(f"more than with shuffled verses: {more:.1%} ({low:.1%}–{high:.1%})")
