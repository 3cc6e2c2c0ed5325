"""Write the results of each command as Markdown, for `analyses.results`. There is one function per command."""

import re
from collections.abc import Iterable, Mapping, Sequence
from statistics import mean, median, stdev
from typing import Any

from interp.report.meaning_learnt_effect import SHARE_BY_CHANCE

Results = Mapping[str, Any]


def table(columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    lines = ["| " + " | ".join(columns) + " |", "|---" * len(columns) + "|"]
    return "\n".join(lines + ["| " + " | ".join(format_cell(cell) for cell in row) + " |" for row in rows])


def format_cell(cell: Any) -> str:
    """Write a number to three figures, and nothing for a missing value."""
    if cell is None or cell != cell:
        return ""
    if isinstance(cell, float):
        return f"{cell:.3g}" if abs(cell) < 1000 else f"{cell:,.0f}"
    if isinstance(cell, int) and not isinstance(cell, bool):
        return f"{cell:,}"
    return str(cell).replace("|", "\\|").replace("\n", " ")  # either would end the cell


def demo(stages: Results) -> str:
    parts = [
        in_short(stages),
        "",
        quality_beside_nulls(stages),
        "",
        "Concepts: held-out F1 of the best single latent and of the best single neuron.",
        "",
    ]
    best = sorted(stages["concepts"]["results"].items(), key=lambda item: -item[1]["f1_feature"])
    parts += [table(["label", "latent", "neuron"], ([n, r["f1_feature"], r["f1_neuron"]] for n, r in best)), ""]
    parts += [
        "Shares of the latents that are neither dead nor faint, next to nulls trained on as many tokens:",
        "",
    ]
    shares = stages["nulls"]["results"]["shares"]
    parts += [
        table(
            ["dictionary", "one meaning", "monosemantic", "single-token", "polysemantic"],
            map(share_row, shares.items()),
        ),
        "",
    ]
    cost = [[name, stage["wall_seconds"], stage.get("peak_megabytes")] for name, stage in stages.items()]
    every = ["all", sum(seconds for _, seconds, _ in cost), max((peak or 0 for _, _, peak in cost))]
    parts += [table(["stage", "seconds", "peak MB"], [*cost, every])]
    return "\n".join(parts)


def share_row(item: tuple[str, Results]) -> list[Any]:
    name, shares = item
    cells = [shares.get(verdict) for verdict in ("one_meaning", "monosemantic", "single-token", "polysemantic")]
    return [name, *(f"{c['share']:.0%} ({c['ci_low']:.0%}–{c['ci_high']:.0%})" if c else None for c in cells)]


def quality_beside_nulls(stages: Results) -> str:
    rows = []
    for name, row in stages["quality"]["results"].items():
        error = f" ± {row['ce_recovered_se']:.1%}" if "ce_recovered_se" in row else ""
        shares = f"{recovered(row, stages):.1%}{error}", f"{row['dead_share']:.1%}", f"{row['faint_share']:.1%}"
        rows.append([name, row["l0"], row["fvu"], shares[0], row.get("n_spliced", row["n_tokens"]), *shares[1:]])
    columns = ["held-out text", "L0", "FVU", "cross-entropy recovered", "on tokens", "never fired there", "faint"]
    return table(columns, rows)


def recovered(row: Results, stages: Results) -> float:
    """Return the share of the cross-entropy that a dictionary recovers. It is 0 at the loss of zero ablation or of
    unigrams, whichever is lower."""
    nothing = min(row["ce_zero_ablated"], stages["model"]["results"]["unigram_cross_entropy"])
    return (nothing - row["ce_spliced"]) / (nothing - row["ce_clean"])


def in_short(stages: Results) -> str:
    model, quality = stages["model"]["results"], dict(stages["quality"]["results"])
    sae = quality.pop("SAE")
    others = ", ".join(f"{name} {recovered(row, stages):.1%}" for name, row in quality.items())
    bigrams = model["bigram_cross_entropy"]
    return (
        f"The model reaches {model['val_loss']:.2f} nats a token (its corpus's bigrams: {bigrams:.2f}). "
        f"The SAE, {sae['l0']:.0f} latents a token: FVU {sae['fvu']:.3f}, {recovered(sae, stages):.1%} of the "
        f"cross-entropy recovered ({others})."
    )


def one_meaning(stages: Results) -> str:
    verdicts = stages["ranking"]["results"]["verdicts"]
    works = sum(n for verdict, n in verdicts.items() if verdict not in ("dead", "faint"))
    one = verdicts["monosemantic"] + verdicts["single-token"]
    return f"{one / works:.0%} of the {works:,} latents that are neither dead nor faint have one meaning"


def shares_in_short(stages: Results) -> str:
    """Give the demo's shares of latents with one meaning beside the closest null's, and of those with an effect beside
    what chance gives."""
    effects, verdicts = stages["effects"]["results"], stages["ranking"]["results"]["verdicts"]
    in_use = sum(n for verdict, n in verdicts.items() if verdict not in ("dead", "faint"))
    one = verdicts["monosemantic"] + verdicts["single-token"]
    by_chance = f"{SHARE_BY_CHANCE:.1%} by chance"
    closest, of_used, of_those_tested = shares_at_equal_training(stages)

    def beside(shares: Sequence[str]) -> list[str]:
        own, nulls = shares
        return [own, f"{nulls} of a {closest}"]

    rows = [
        [f"have one meaning, if trained on {null_tokens(stages):,} tokens", *beside(of_used)],
        ["the same, of those that fire often enough to be tested", *beside(of_those_tested)],
        [f"have an effect, of the {effects['latents']:,} ablated", f"{effects['helps']:.0%}", by_chance],
    ]
    trained = f"With all its training, {one / in_use:.0%} of the SAE's {in_use:,} latents in use have one meaning."
    return f"{table(['latents that …', 'the SAE', 'its null'], rows)}\n\n{trained}"


def pretrained(stages: Results) -> str:
    store, sae, features = (stages[name]["results"] for name in ("activations", "sae", "features"))
    sizes = (
        f"{store['rows']:,} rows of {', '.join(store['d'])} ({store['excluded']:,} left out). The dictionary has "
        f"{features['latents']:,} latents, of which {features['dead']:,} never fired on the text; after "
        f"{sae['tokens']:,} tokens of training its FVU was {sae['fvu']:.3f}."
    )
    return f"{sizes}\n\n{demo(stages)}"


def pretrained_in_short(stages: Results) -> str:
    rows = stages["activations"]["results"]["rows"]
    sae, peak = stages["quality"]["results"]["SAE"], max(each.get("peak_megabytes", 0) for each in stages.values())
    return (
        f"SmolLM2-135M, {stages['features']['results']['latents']:,} latents on {rows:,} tokens, at most "
        f"{peak / 1000:.1f} GB of memory: FVU {sae['fvu']:.3f}, {recovered(sae, stages):.1%} of the "
        f"cross-entropy recovered. {one_meaning(stages)}; careful readers find more (`analyses/RESULTS.md`). "
        f"{beside_closest_null(stages)}"
    )


def beside_closest_null(stages: Results) -> str:
    """Say how many latents have one meaning in dictionaries that learnt from equally few tokens: the run's own kind and
    the null with the largest share. Latents that are too rare to be tested count as having none, and are left out for
    comparison."""
    closest, of_used, of_those_tested = shares_at_equal_training(stages)
    return (
        f"Of dictionaries that learnt from only {null_tokens(stages):,} tokens, {of_used[0]} of the SAE's latents do, "
        f"and {of_used[1]} of the closest null's ({closest}). Latents too rare to be tested count as having none; of "
        f"those that were tested, it is {of_those_tested[0]} and {of_those_tested[1]}."
    )


def null_tokens(stages: Results) -> int:
    return int(stages["nulls"]["config"]["nulls"]["sae_tokens"])


def shares_at_equal_training(stages: Results) -> tuple[str, list[str], list[str]]:
    """Return the name of the null with the largest share of one meaning, and the share of the run's own kind and of
    this null: of the latents in use, and of those that were tested."""
    shares = stages["nulls"]["results"]["shares"]
    of_used = {name: of["one_meaning"]["share"] for name, of in shares.items()}
    closest = max(shares.keys() - {"SAE", "twin seed"}, key=of_used.__getitem__)
    both = ("SAE", closest)
    return closest, [f"{of_used[name]:.0%}" for name in both], [f"{of_tested(shares[name]):.0%}" for name in both]


def of_tested(shares: Results) -> float:
    """Return the share of latents with one meaning among those that fire often enough to be tested."""
    n_tested = sum(row["n"] for name, row in shares.items() if name not in ("one_meaning", "too-rare", "no-context"))
    return float(shares["one_meaning"]["n"] / n_tested)


def speed(results: Results) -> str:
    parts = []
    for name, rows in results["speed"].items():
        peers = list(dict.fromkeys(peer for row in rows for peer in row["ratios"]))
        columns = [f"step, {name}", "ms", "tokens/s", "L0", *(f"× {peer}" for peer in peers), "peak MB"]
        cells = (
            [r["name"], r["ms"], r["tokens_per_second"], r["l0"], *map(r["ratios"].get, peers), r["peak_mb"]]
            for r in rows
        )
        parts.append(table(columns, cells))
    return "\n\n".join(parts)


def speed_in_short(results: Results) -> str:
    """Give the times of our steps at the first size, each compared with that of SAELens for the same architecture."""
    rows = [row for row in next(iter(results["speed"].values())) if row["ratios"].get("saelens_own")]
    steps = (f"{r['name'].removeprefix('interp ')} {r['ms']:.0f} ms, {r['ratios']['saelens_own']:.1f} ×" for r in rows)
    sparsify = next((row["ratios"]["sparsify"] for row in rows if row["ratios"]["sparsify"]), None)
    comparison = f" TopK is {sparsify:.1f} × as fast as sparsify's." if sparsify else ""
    return f"{'; '.join(steps)} as fast as SAELens's own.{comparison}"


def speed_beside_peers(results: Results) -> str:
    """Return a table of our steps at the first size, each beside SAELens's step for the same architecture."""
    rows = [row for row in next(iter(results["speed"].values())) if row["ratios"].get("saelens_own")]
    cells = []
    for row in rows:
        ms, ratio = row["ms"], row["ratios"]["saelens_own"]
        cells.append([row["name"].removeprefix("interp "), f"{ms:.0f} ms", f"{ms * ratio:,.0f} ms", f"{ratio:.1f} ×"])
    columns = ["one step of training", "interp", "SAELens", "times as fast"]
    sparsify = next((row["ms"] * row["ratios"]["sparsify"] for row in rows if row["ratios"]["sparsify"]), None)
    comparison = f"\n\nsparsify, which has TopK, takes {sparsify:.0f} ms." if sparsify else ""
    return table(columns, cells) + comparison


def harvest(results: Results) -> str:
    rows = ([r["name"], r["tokens_per_second"], r.get("ratio"), r["cpu_seconds"]] for r in results["rows"])
    columns = ["one MLP hook", "tokens/s", "share of the forward pass", "CPU s"]
    return f"{table(columns, rows)}\n\n{results['bytes_per_value']} bytes a value on disk."


def harvest_in_short(results: Results) -> str:
    shares = ", ".join(
        f"{row['name'].removesuffix(', harvest')} {row['ratio']:.0%}"
        for row in results["rows"]
        if row["name"].endswith(", harvest")
    )
    return f"Tokens per second, as a share of the forward pass alone: {shares}."


def report(results: Results) -> str:
    names = ("name", "features", "wall_seconds", "cpu_seconds", "ms_a_feature", "cpu_ms_a_feature")
    rows = ([row[name] for name in (*names, "kilobytes_a_feature", "holds")] for row in results["rows"])
    columns = ["pages", "features", "s", "CPU s", "ms/feature", "CPU ms/feature", "KB/feature", "hold"]
    size = f"{results['tokens']:,} tokens, {results['threads']} threads."
    return f"{table(columns, rows)}\n\n{report_in_short(results)} {size}"


def report_in_short(results: Results) -> str:
    if not results["ratio"]:
        return f"SAEDashboard was not timed: {results['skipped']}."
    return f"A feature takes 1/{results['ratio']:.0f} of SAEDashboard's time (CPU: 1/{results['cpu_ratio']:.0f})."


def memory(results: Results) -> str:
    """Give the peak memory of each stage, and its growth over that of the shortest text."""
    stages, growth = results["megabytes"], results["growth"]
    millions = list(next(iter(stages.values())))
    rows = ([stage, *(round(mb) for mb in peaks.values()), f"{growth[stage]:+.1%}"] for stage, peaks in stages.items())
    return table(["peak MB, million tokens", *millions, "growth"], rows)


def memory_in_short(results: Results) -> str:
    stage, growth = max(results["growth"].items(), key=lambda item: item[1])
    sizes = list(next(iter(results["megabytes"].values())))
    return f"From {sizes[0]} to {sizes[-1]} million tokens no stage's peak grows by more than {growth:.0%} ({stage})."


def streaming(results: Results) -> str:
    """Give the peak memory of a process while it tokenizes text, and while it reads the tokens."""
    rows = [
        [name.split()[0], f"{row['tokens']:,}", round(row["megabytes"]), row.get("files", "")]
        for name, row in results.items()
        if "megabytes" in row
    ]
    return table(["", "tokens", "peak of its own memory, MB", "files"], rows)


def streaming_in_short(results: Results) -> str:
    first, *_, last = (row for name, row in results.items() if name.startswith("tokenize"))
    begin = results["begin"]
    return (
        f"From {first['tokens'] / 1e6:.0f} to {last['tokens'] / 1e6:.0f} million tokens the peak grows by "
        f"{last['megabytes'] / first['megabytes'] - 1:.0%}; a corpus of {begin['files']:,} files begins in "
        f"{begin['seconds']:.1f} s."
    )


def shards(results: Results) -> str:
    """Give the memory of a process by the number of processes, and the difference from one process's dictionary."""
    rows = [
        [n, round(row["weights and moments"]), round(row["peak"]), f"{row['difference']:.0e}"]
        for n, row in results["megabytes"].items()
    ]
    return table(["processes", "weights and moments, MB", "growth of resident memory, MB", "difference"], rows)


def shards_in_short(results: Results) -> str:
    (_, first), *_, (n, last) = results["megabytes"].items()
    state, peak = (last[name] / first[name] for name in ("weights and moments", "peak"))
    return (
        f"Each of {n} processes holds {state:.0%} of the weights and moments of a single one, and its memory grows by "
        f"{peak:.0%} as much."
    )


def divided(results: Results) -> str:
    """Give the processor seconds of each job, by one process and by each of several."""
    rows = [
        [job, round(row["one"], 1), ", ".join(f"{seconds:.1f}" for seconds in row["each"]), f"{row['faster']:.2f}"]
        for job, row in results["jobs"].items()
    ]
    n = results["settings"]["processes"]
    return table(["job", "processor seconds of one process", f"of each of {n}", "times as fast"], rows)


def divided_in_short(results: Results) -> str:
    jobs = (f"{job} is {row['faster']:.2f} times as fast" for job, row in results["jobs"].items())
    return f"On a core each, by {results['settings']['processes']} processes: {', '.join(jobs)}."


def plan(results: Results) -> str:
    """Give the planned and measured costs of each run's stages, and the estimate for GPUs."""
    parts = []
    for name, rows in results["runs"].items():
        cells = (
            [
                row["stage"],
                *(round(row[f"{kind}_seconds"], 1) for kind in ("planned", "measured")),
                *(round(row[f"{kind}_disk"] / 1e6, 1) for kind in ("planned", "measured")),
                *(round(row[f"{kind}_memory"] / 1e6) for kind in ("planned", "measured")),
            ]
            for row in rows
        )
        columns = ["seconds planned", "measured", "MB on disk planned", "measured", "peak MB planned", "measured"]
        parts.append(table([f"stage, {name}", *columns], cells))
    paper_rows = ([row["what"], row["8"], row["64"], row["derived"]] for row in results["paper"])
    parts += [
        "Estimate for 10⁹ tokens and 10⁶ latents (`analyses/bench/plan.py` states the model and the speeds):",
        table(["", "8 H100s", "64 H100s", "derived from"], paper_rows),
    ]
    return "\n\n".join(parts)


def plan_in_short(results: Results) -> str:
    """Give the largest factor between planned and measured seconds: of stages that take ten seconds or more, and of all
    stages."""
    parts = []
    for name, rows in results["runs"].items():
        factors = {row["stage"]: factor(row, "seconds") for row in rows if row["measured_seconds"] >= 10}
        stage = max((stage for stage in factors if stage != "all"), key=lambda stage: factors[stage])
        parts.append(f"{factors['all']:.2f} for {name} as a whole (at most {factors[stage]:.2f} for a stage: {stage})")
    return f"Planned seconds are off by a factor of {', and of '.join(parts)}."


def factor(row: Results, peer: str) -> float:
    ratio = row[f"planned_{peer}"] / row[f"measured_{peer}"]
    return max(ratio, 1 / ratio)


def quality(results: Results) -> str:
    columns = ["model", "hook", "kind", "trainer", "L0", "FVU", "CE recovered", "dead", "faint", "FVU ours / theirs"]
    return table(columns, map(quality_row, results["rows"]))


def quality_in_short(results: Results) -> str:
    idle: dict[str, list[float]] = {"interp": [], "SAELens": []}
    for row in results["rows"]:
        idle[row["trainer"]].append(row["dead_share"][0] + row["faint_share"][0])
    ratios = [row["fvu_ratio"][0] for row in results["rows"] if "fvu_ratio" in row]
    fvu = f"{median(ratios):.2f} × SAELens's ({min(ratios):.2f} to {max(ratios):.2f}, {len(ratios)} dictionaries)"
    shares = "{:.1%} of the latents are dead or faint; {:.1%} of SAELens's are".format(*map(median, idle.values()))
    # With several rates, each trainer has the one at which it does best.
    equal = "tokens, L0 and learning rate" if len(results["settings"]["rates"]) == 1 else "tokens and L0"
    return f"At equal {equal}, the FVU is {fvu}; below 1, interp's is the lower. {shares}."


def quality_row(row: Results) -> list[Any]:
    measured = [format_spread(row[name]) for name in ("l0", "fvu", "ce_recovered_mean", "dead_share", "faint_share")]
    return [row["model"], row["hook"], row["kind"], row["trainer"], *measured, format_spread(row.get("fvu_ratio"))]


def recovery(results: Results) -> str:
    keys = ("world", "contender", "k", "seeds")
    metrics = [name for name in results["rows"][0] if name not in keys]
    rows = ([*(row[name] for name in keys), *(format_spread(row[name]) for name in metrics)] for row in results["rows"])
    return f"{essay({'bench_recovery': results})}\n\n{table([*keys, *metrics], rows)}"


def format_spread(pair: Sequence[float] | None) -> str:
    return f"{pair[0]:.3g} ± {pair[1]:.2g}" if pair else ""


def scorecard(results: Results) -> str:
    judged = {name: part for name, part in results.items() if isinstance(part, dict) and "verdict" in part}
    families = {f"A, {name} left out": part for name, part in results["A by family"].items() if part}
    columns = ["latents", "AUROC (95 %)", "ECE", "by chance", "accuracy", "of the sure", "unsure", "best known measure"]
    columns.append("senses exact")
    both = results["A families"]
    mean = ", ".join(f"{name} {both['mean'][key]:.3f}" for key, name in FAMILY_MEANS.items())
    worst = (
        f"Over the families, each left out in turn: mean {mean}; worst AUROC {both['worst_auroc']:.3f} "
        f"({both['worst']})."
    )
    parts = [worst, table(columns, map(verdict_row, (judged | families).items()))]
    if "D" in results:
        parts += ["Latents from another author, to which no calibration is fitted:", records(results["D"])]
    parts.append("By chance: the expected ECE of correct probabilities for as many latents.")
    for title, rows in results.get("readings", {}).items():
        if len(rows) <= MOST_ROWS:
            parts += [f"{title[0].upper()}{title[1:]}:", records(rows)]
    return "\n\n".join(parts)


MOST_ROWS = 40
"""Largest number of rows of a table on the page. Longer tables are only in the kept file."""


def records(rows: Sequence[Results]) -> str:
    return table([name.replace("_", " ") for name in rows[0]], ([*row.values()] for row in rows))


FAMILY_MEANS = {
    "auroc": "AUROC",
    "ece": "ECE",
    "ece_by_chance": "ECE by chance",
    "ece_own_level": "ECE with the level of each family fitted to its own truth",
    "ece_own_curve": "with level and scale",
    "senses_exact": "senses exact",
}


def scorecard_in_short(results: Results) -> str:
    both, learnt = results["A families"], results["B"]
    auroc = next(row["auroc"] for row in learnt["scores"] if row["score"] == "monosemanticity")
    reader_rows = next(iter(results.get("readings", {}).values()), [])
    readers = "".join(
        f"; careful readers: AUROC {row['auroc']:.3f}, ECE {row['ece']:.3f}"
        for row in reader_rows
        if row["source"] == "all"
    )
    return (
        f"Planted latents, families held out: AUROC {both['mean']['auroc']:.3f}, ECE {both['mean']['ece']:.3f}; "
        f"transformers on planted text: AUROC {auroc:.3f}, ECE {learnt['verdict']['ece']:.3f}{readers}."
    )


def dictionaries(results: Results) -> str:
    """Give the claims. Then, for each run, give a row per dictionary, and the noise and smallest detectable difference
    of each number."""
    parts = [essay({"dictionaries": results})]
    for name, card in results["values"].items():
        numbers = list(dict.fromkeys(number for each in card["values"].values() for number in each))
        rows = [
            [each, *(mean_and_deviation(values.get(number)) for number in numbers)]
            for each, values in card["values"].items()
        ]
        rows += [[what, *(card[what].get(number) for number in numbers)] for what in ("noise", "smallest difference")]
        texts, sizes = card["texts"], card["sizes"]
        accuracy, letters = (median(each[what] for each in texts["spelling"]) for what in ("accuracy", "letters"))
        spelling = (
            f"A probe finds the first letter of {accuracy:.0%} of {texts['words']:,} words, {letters:.0f} letters well"
        )
        if "fraction" not in numbers:
            spelling += ": the model cannot spell, so absorption is not measured"
        seconds = ", ".join(f"{measure} {duration:.1f}" for measure, duration in card["seconds"].items())
        parts += [
            table([f"dictionary, {name}", *numbers], rows),
            f"{sizes['d_sae']:,} latents, {sizes['tokens']:,} tokens, k = {sizes['k']}, {sizes['seeds']} seeds. "
            f"Hard among {texts['tasks']} tasks: {', '.join(texts['hard tasks'])}. {spelling}. Processor seconds per "
            f"dictionary: {seconds}; for the texts, once: {texts['took']:.0f}.",
        ]
    return "\n\n".join(parts)


def dictionaries_in_short(results: Results) -> str:
    """Say which numbers separate trained dictionaries from nulls, and how long the measures take."""
    separating = [claim["row"] for claim in results["claims"] if claim["holds"]]
    total = sum(seconds for card in results["values"].values() for seconds in card["seconds"].values())
    return (
        f"{len(separating)} of {len(results['claims'])} numbers separate trained dictionaries from both nulls "
        f"({', '.join(separating)}). All measures take {total / len(results['values']):.1f} s of a core per dictionary."
    )


def mean_and_deviation(values: Sequence[float] | None) -> str | None:
    """Return the mean of one value per seed, with its standard deviation."""
    if not values:
        return None
    return format_spread((mean(values), stdev(values))) if len(values) > 1 else format_cell(values[0])


def learnt(results: Results) -> str:
    parts = []
    for key, title in (("held out", "models that learnt nothing"), ("held out, all nulls", "all nulls")):
        names = [name for name in results[key][0] if name not in LEARNT]
        rows = ([row.get(name) for name in (*LEARNT, *names)] for row in results[key])
        parts += [f"Fitted against {title}:", table([*LEARNT.values(), *(f"against {n}" for n in names)], rows)]
    alone = ", ".join(f"{name} {auroc:.3f}" for name, auroc in results["single"].items())
    return "\n\n".join([*parts, f"AUROC of each predictor alone, against models that learnt nothing: {alone}."])


def learnt_in_short(results: Results) -> str:
    aurocs = [row["auroc"] for row in results["held out"]]
    return f"On held-out corpora, AUROC {min(aurocs):.3f} to {max(aurocs):.3f} against models that learnt nothing."


LEARNT = {"corpus": "corpus left out", "n": "latents", "called": "called learnt", "auroc": "AUROC", "ece": "ECE"}


def verdict_row(item: tuple[str, Results]) -> list[Any]:
    name, part = item
    quality = part["verdict"]
    ours = next(row for row in part["scores"] if row["score"] == "monosemanticity")
    best = part.get("margin") or {}
    auroc = f"{ours['auroc']:.3f} ({ours['auroc_low']:.3f}–{ours['auroc_high']:.3f})" if ours["auroc"] else None
    comparison = f"{best['over']}, {ours['auroc'] - best['by']:.3f}" if best else None
    shares = [quality[key] for key in ("ece", "ece_by_chance", "accuracy", "accuracy_sure", "abstained")]
    return [name, auroc, *shares, comparison, quality["senses_exact"]]


def towards(results: Results) -> str:
    claim_rows = ([claim["claim"], "holds" if claim["held"] else "does not hold"] for claim in results["claims"])
    sizes = ("dictionary", "seed", "resampled", "d_sae", "dead_share", "l0", "fvu", "ce_recovered_zero")
    rows = ([row.get(name) for name in sizes] for row in results["sizes"])
    return f"{table(['claim', ''], claim_rows)}\n\n{table(sizes, rows)}"


def towards_in_short(results: Results) -> str:
    judged = [claim["held"] for claim in results["claims"]]
    return f"{sum(judged)} of {len(judged)} claims hold."


def claims_in_short(results: Results) -> str:
    """Say how many claims hold, and give the result of the first claim up to a semicolon that is in no parentheses."""
    claims = results["claims"]
    judged = [claim["holds"] for claim in claims if claim["holds"] is not None]
    sentence = f"{sum(judged)} of {len(judged)} claims hold; the first" if judged else "Measured"
    if len(judged) == 1:
        sentence = "The claim holds" if judged[0] else "The claim does not hold"
    first = re.match(r"(?:\([^()]*(?:\([^()]*\)[^()]*)*\)|[^;(])*", claims[0]["found"])
    return f"{sentence}: {(first[0] if first else '').rstrip('.')}."


def graphs_in_short(results: Results) -> str:
    """Say in a few sentences how far attribution graphs agree with ablation."""
    numbers = {claim["row"]: claim["numbers"] for claim in results["claims"]}
    agreement, held = numbers["agreement"], numbers["held"]
    free, held_paths = (held[f"{name}, paths"] for name in ("nothing held", "norms and patterns held"))
    return (
        "On a model of four layers, first-order effects agree with ablation: the rank correlation is "
        f"{agreement['latents']:.2f} for the effect of latents on the next token and {agreement['pairs']:.2f} "
        "for their effect on each other. The paths that a graph draws hold norms and attention fixed. Their rank "
        f"correlation with ablation is {free:.2f}, and {held_paths:.2f} if the ablated model holds both fixed too."
    )


def trained_circuits(results: Results) -> str:
    """Give the claims, and a row for each circuit, kind of dictionary and ranking."""
    rows: dict[tuple[str, str, str], dict[str, Mapping[str, float]]] = {}
    for task, scores in results["values"]["trained"].items():
        for row in scores["scores"]:
            rows.setdefault((task, row["dictionaries"], row["ranking"]), {})[row["truth"]] = row
    names = ("precision", "recall", "average precision", "best F1", "recall at 0.8")
    cells = [
        [*key, *(scores_of_row["free"][name] for name in names), scores_of_row["held"]["average precision"]]
        for key, scores_of_row in rows.items()
    ]
    head = ["circuit", "dictionaries", "ranking", *names, "average precision, held model"]
    return essay({"trained_circuits": results}) + "\n\n" + table(head, cells)


def pretrained_graphs_in_short(results: Results) -> str:
    """Say what graphs of a real language model cost, and how far to trust them."""
    numbers = {claim["row"]: claim["numbers"] for claim in results["claims"]}
    dictionaries, prompts, mean = numbers["dictionaries"], numbers["prompts"], numbers["agreement"]
    return (
        "On SmolLM2-135M, training transcoders for all 30 MLPs takes "
        f"{dictionaries['processor'] / 60:.0f} minutes of processor time, once. The graph of a prompt, with ablations, "
        f"takes at most {prompts['processor']:.0f} seconds. The rank correlation of first-order "
        f"effects with ablation is {mean['agreement of effects']:.2f} for the next token and "
        f"{mean['agreement of pairs']:.2f} between latents. Along the paths that a graph draws it is "
        f"{mean['agreement of paths']:.2f} for the next token and {mean['pairs by paths']:.2f} between latents. Only "
        f"{mean['replacement']:.0%} of the influence starts at tokens. The rest starts at latents that were not "
        "expanded and at the reconstruction errors of the dictionaries."
    )


def graphs_of_prompts(results: Results) -> str:
    """Give the claims, a row for each prompt, and two prompts in words."""
    scores = ("answer", "agreement of effects", "agreement of pairs", "agreement of paths")
    shares = ("replacement", "completeness")
    rows = [
        [
            f"`{prompt['prompt']}`",
            ", ".join(f"{token(word)} {share:.0%}" for word, share in prompt["next"]),
            *(prompt[name] for name in scores),
            *(score_and_nulls(prompt, name) for name in shares),
            prompt["nulls"].get("tokens shuffled", {}).get("answer"),
            prompt["processor"],
        ]
        for prompt in results["values"]["prompts"]
    ]
    head = ["prompt", "next", *scores, *(f"{name} (nulls)" for name in shares), "answer, shuffled", "processor seconds"]
    notes = "Nulls: tokens shuffled / decoder rows shuffled / weights of the model shuffled."
    descriptions = [graph_in_words(prompt) for prompt in results["values"]["prompts"][:2]]
    return "\n\n".join([essay({"smollm2_graphs": results}), table(head, rows), notes, *descriptions])


def graph_in_words(prompt: Results) -> str:
    """Say on which latents the answer to a prompt depends most, and where the graph is most wrong."""

    def latent(name: str, place: str, rule: str, effect: float, measured: float) -> str:
        fires = f" (fires on {rule[:60]}{'…' if len(rule) > 60 else ''})" if rule else ""
        return f"{name} at {token(place)}{fires} {measured:+.2f} nats ({effect:+.2f} to first order)"

    [word, share], *_ = prompt["next"]
    return (
        f"**{prompt['prompt']}** The model gives {token(word)} a probability of {share:.0%}. What the log probability "
        "loses without each latent: "
        + "; ".join(latent(*each) for each in prompt["latents"])
        + ". The first-order effect is most wrong for "
        + "; ".join(latent(*each) for each in prompt["wrong"])
        + "."
    )


def token(word: str) -> str:
    """Write a token as code, on one line of a table."""
    return f"`{word.replace(chr(10), '↵')}`"


def score_and_nulls(prompt: Results, score: str) -> str:
    """Write a score with the scores of the null graphs, if these were made."""
    nulls = " / ".join(f"{row[score]:.2f}" for row in prompt["nulls"].values())
    return f"{prompt[score]:.2f}" + (f" ({nulls})" if nulls else "")


def essay(analyses: Results) -> str:
    rows = [
        [
            name,
            claim["row"],
            claim["text"],
            claim["found"],
            {True: "holds", False: "does not hold"}.get(claim["holds"], "measured"),
        ]
        for name, results in analyses.items()
        for claim in results["claims"]
    ]
    return table(["analysis", "row", "claim", "found", "verdict"], rows)


def families(results: Results) -> str:
    """Give a table with a row per family and a column per stage. Below it are the messages of stages that omitted a
    part or refused."""
    lines: list[str] = []

    def cell(stage: Sequence[str] | None) -> str:
        if stage is None:
            return "–"
        status, line = stage
        if not line:
            return status
        line = line if len(line) <= 300 else f"{line[:300]} …"
        if line not in lines:
            lines.append(line)
        return f"{status} ({lines.index(line) + 1})"

    stages = results["stages"]
    rows = [[name, *(cell(answers.get(stage)) for stage in stages)] for name, answers in results["families"].items()]
    notes = [f"{number}. {line}" for number, line in enumerate(lines, 1)]
    return "\n".join([table(["", *stages], rows), "", *notes])


def families_in_short(results: Results) -> str:
    all_through = [
        name
        for name, answers in results["families"].items()
        if all(answers.get(stage, [""])[0] == "yes" for stage in results["stages"])
    ]
    others = ", ".join(name for name in results["families"] if name not in all_through)
    return f"{len(all_through)} families pass through every stage. Stages omit parts or refuse, by name, for {others}."
