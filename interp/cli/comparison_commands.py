"""`compare`: two dictionaries beside one another. `scorecard`: the verdict beside known truth."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from interp.cli.console import Bar
from interp.cli.paths import check_writable, write_table

if TYPE_CHECKING:
    import pandas as pd
    import plotly.graph_objects as go

    from interp.compare import Pair
    from interp.features.feature_store import FeatureStore
    from interp.pipeline.learned_world import RealText

FOLDER = "a run folder, a feature store or an SAE's folder"
OURS = ("monosemanticity", "between_within_ratio", "effect_size", "context_coherence")


def compare_command(
    first: Annotated[Path, FOLDER],
    second: Annotated[Path, FOLDER],
    *,
    out: Annotated[Path | None, "a folder for the tables and figures"] = None,
    seed: Annotated[int, "of intervals and nulls"] = 0,
) -> None:
    """two dictionaries → what they have in common

    Compare by seeds (decoders matched one to one), by widths (and what splits) or by models (activations on one text),
    each beside what chance gives. Scans of the same tokens say most: `interp scan` both over one store."""
    from interp.compare import open_pair

    if seed < 0:
        raise ValueError(f"--seed {seed} must be at least 0")
    if out is not None:
        check_writable("--out", out)
    pair = open_pair(first, second)
    print(pair)
    found: dict[str, tuple[pd.DataFrame, go.Figure]] = {}
    if pair.by != "models":
        found["stability"] = _stability(pair, seed)
    if pair.by == "widths" and pair.share_text:
        found["splitting"] = _splitting(pair, seed)
    if pair.share_text:
        found["universality"] = _universality(pair, seed)
    if out is not None:
        for name, (table, figure) in found.items():
            write_table(table, out / f"{name}.parquet")
            figure.write_html(out / f"{name}.html", include_plotlyjs="directory")
        print(f"{', '.join(found)} in {out}")


def _stability(pair: "Pair", seed: int) -> tuple["pd.DataFrame", "go.Figure"]:
    from interp import figures
    from interp.compare import stability

    sides = [pair.first, pair.second]
    found = stability(*(side.W_dec[side.alive] for side in sides), seed=seed)  # type: ignore[index]
    print(f"directions    PW-MCC {found.mcc}, of random ones {found.chance:.3f}")
    print(f"              share of |cosine| ≥ {found.threshold} {found.share}, of random ones {found.chance_share:.3f}")
    named = {name: side.alive[found.table[name]] for name, side in zip(("latent", "other"), sides, strict=True)}
    table = found.table.assign(**named)
    return table, figures.matched_cosines(table, threshold=found.threshold)


def _splitting(pair: "Pair", seed: int) -> tuple["pd.DataFrame", "go.Figure"]:
    from interp import figures
    from interp.compare import splitting

    narrow, wide = sorted((pair.first, pair.second), key=lambda side: side.d_sae)
    assert narrow.features is not None and wide.features is not None  # they share their text
    with Bar("splitting") as bar:
        found = splitting(narrow.features, wide.features, seed=seed, progress=bar)
    fates = found.children["children"]
    gone = int((fates == 0).sum())
    print(f"splitting     {found.n_split:,} of {len(fates):,} narrow latents split, {gone:,} have no part")
    shares = f"{found.share_with_parent:.0%}, on shifted text {found.null:.0%}"
    print(f"              share of wide latents that are a part of a narrow one {shares}")
    names = [_names(features) for features in (narrow.features, wide.features)]
    return found.edges, figures.splitting([found.edges], names=names)


def _names(features: "FeatureStore") -> dict[int, str]:
    from interp.report.columns import top_tokens

    return {latent: "|".join([f"#{latent}", *tokens]) for latent, tokens in top_tokens(features, 3).items()}


def _universality(pair: "Pair", seed: int) -> tuple["pd.DataFrame", "go.Figure"]:
    import pandas as pd

    from interp import figures
    from interp.compare import universality

    tables, sides = {}, {"first": pair.first.features, "second": pair.second.features}
    for (name, ours), (other, theirs) in (tuple(sides.items()), tuple(reversed(sides.items()))):
        assert ours is not None and theirs is not None
        with Bar("activations") as bar:
            found = universality(ours, theirs, seed=seed, progress=bar)
        print(f"activations   median r of {name} in {other} {found.median}, on shifted text {found.null}")
        tables[f"{name} in {other}"] = found.table
    table = pd.concat([table.assign(direction=name) for name, table in tables.items()], ignore_index=True)
    return table, figures.universality(tables)


def scorecard_command(
    *,
    family: Annotated[Literal["planted", "bible"], "bible: real text, lemmas as truth"] = "planted",
    seeds: Annotated[int, "worlds of each family"] = 1,
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
    from interp.benchmark.judged import calibration_worlds, judge_held_out
    from interp.benchmark.rivals import RIVALS
    from interp.benchmark.scores import not_scored, scorecard, verdict_quality
    from interp.metrics.measures import SIGNS

    for name, value in (("seeds", seeds), ("latents", latents)):
        if value < 1:
            raise ValueError(f"--{name} {value} must be at least 1")
    if out:
        check_writable("--out", out, ".csv")
    scores = {**dict.fromkeys(OURS, 1), **SIGNS, **RIVALS}
    with Bar("scorecard") as bar:
        real = _real_text(seeds, latents, bar) if family == "bible" else None
        try:
            worlds = calibration_worlds(seeds, n_latents=latents)
            judged = judge_held_out(list(worlds), bar) if real is None else real.planted
            table, quality = scorecard(judged, scores), verdict_quality(judged)
        except ValueError as error:
            few = f"too few latents to judge by: raise --latents (now {latents}) or --seeds (now {seeds})"
            raise ValueError(f"{few} ({error})") from error
    if out:
        write_table(table, out)
    print(table.drop(columns=["n", "n_scored"]).round(3).to_string(index=False))
    print(f"not measured in these worlds: {', '.join(not_scored(judged, scores))}")
    print("\n".join(f"{name:26s} {value:.3f}" for name, value in quality.items()))
    if real is not None:
        _say(real)


def _real_text(seeds: int, latents: int, bar: Bar) -> "RealText":
    from interp.pipeline.learned_world import real_text, sizes_for
    from models.verses import MODULES, read_verses

    return real_text([read_verses(language) for language in MODULES], seeds, latents, sizes_for(latents), bar)


def _say(real: "RealText") -> None:
    from interp.benchmark.judged import above_null
    from interp.benchmark.scores import verdicts_of

    lemmas, senses = real.joined
    print(f"\n{len(lemmas):,} numbers translated alike count as {len(set(lemmas.values())):,} meanings")
    print(f"{len(senses):,} numbers of a word count as a commoner one of the same word")
    print(f"a model of the verses\n{verdicts_of(real.learnt).round(3).to_string(index=False)}")
    for name, own in (("", real.cross), (", verses of one shuffled", real.null)):
        interval = f"{own.share:.1%} ({own.low:.1%}–{own.high:.1%})"
        print(f"cross-lingual latents{name}: {own.n_cross:,} of {own.n:,}, {interval}")
    more, low, high = above_null(real.cross, real.null)
    print(f"more than with shuffled verses: {more:.1%} ({low:.1%}–{high:.1%})")
