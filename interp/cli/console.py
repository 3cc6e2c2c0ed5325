"""What the command line shows: progress of long steps, a line a stage, and the summary of a run."""

import json
import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any


def show_stages(config: Any, out: Path, until: str, redo: bool) -> None:
    from interp.pipeline.run import run_stages

    begin, bars = time.monotonic(), []

    def progress(stage: str) -> "Bar":
        bars.append(Bar(stage))
        return bars[-1]

    def finished(stage: str, manifest: dict, ran: bool) -> None:
        while bars:
            bars.pop().close()
        line = f"{stage:12s} {manifest['wall_seconds']:7.1f} s  {_summary(stage, manifest['results'])}"
        print(line if ran else f"{line}  (done before)", flush=True)

    run = run_stages(config, out, until=until, redo=redo, progress=progress, finished=finished)
    print(f"{'total':12s} {time.monotonic() - begin:7.1f} s")
    manifest = run.manifest("report") if until == "report" else None
    if manifest:
        print(f"\nfive features to begin with\n{_showcase(run)}")
        if run.manifest("nulls"):
            print(f"\nwhat its nulls are called, judged alike\n{_beside_nulls(run.nulls.shares)}")
        print(f"\nOpen {(run.path / manifest['results']['page']).resolve()}")


def _summary(stage: str, r: dict[str, Any]) -> str:
    if stage == "corpus":
        return f"{r['train']['tokens']:,} + {r['val']['tokens']:,} tokens, vocabulary {r['vocab_size']}"
    if stage == "model":
        return (
            f"validation {r['val_loss']:.3f} nats a token ({r['bits_per_character']:.3f} bits a character); "
            f"unigram {r['unigram_cross_entropy']:.3f}, bigram {r['bigram_cross_entropy']:.3f}"
        )
    if stage == "activations":
        widths = ", ".join(f"{name} ({d})" for name, d in r["d"].items())
        return f"{r['rows']:,} rows, {r['bytes_per_value']:.3f} bytes a value: {widths}"
    if stage == "sae":
        return f"{r['steps']:,} steps, FVU {r['fvu']:.3f}, L0 {r['l0']:.1f}, {r['dead']:.2%} dead in training"
    if stage in ("features", "neurons"):
        return f"{r['latents']:,} latents, {r['dead']:,} dead, L0 {r['mean_l0']:.1f}"
    if stage == "quality":
        lines = [
            f"{n}: FVU {q['fvu']:.3f}, L0 {q['l0']:.0f}, CE recovered {q['ce_recovered_mean']:.3f}"
            for n, q in r.items()
        ]
        return ("\n" + " " * 24).join(lines)
    if stage == "concepts":
        won = sum(c["f1_feature"] > c["f1_neuron"] for c in r.values())
        return f"best feature beats best neuron on {won} of {len(r)} labels"
    if stage == "ranking":
        return verdicts(r)
    if stage == "nulls":
        monosemantic = ", ".join(f"{name} {of['monosemantic']['share']:.0%}" for name, of in r["shares"].items())
        return f"monosemantic: {monosemantic}"
    if stage == "wider":
        return f"{r['latents']:,} latents, {r['dead']:,} dead, FVU {r['fvu']:.3f}"
    if stage == "report":
        return f"{r['bytes'] / 1e6:.1f} MB"
    raise ValueError(f"stage {stage} has no summary line")


def verdicts(r: dict[str, Any]) -> str:
    """One line of what `ranking.verdict_counts` counted; of a run before it counted more than the verdicts, these."""
    said = []
    for verdict, count in r["verdicts"].items():
        notes = [(r.get("unsure", {}).get(verdict, 0), "unsure")]
        if verdict == "polysemantic":
            notes.append((r.get("inseparable", 0), "without separable senses"))
        note = ", ".join(f"{n:,} {words}" for n, words in notes if n)
        said.append(f"{count:,} {verdict}" + (f" ({note})" if note else ""))
    return ", ".join(said)


def _beside_nulls(shares: Any) -> str:
    """A line a dictionary, the SAE first: the share called monosemantic, with its 95 % interval, how much of it surely,
    and lexical."""
    lines = []
    for name, of in shares.set_index("verdict").groupby("dictionary", sort=False):
        one, lexical = of.loc["monosemantic"], of["share"]["lexical"]
        lines.append(
            f"  {name:16s} {one['share']:4.0%} monosemantic ({one['ci_low']:.0%} to {one['ci_high']:.0%}), "
            f"{one['sure_share']:4.0%} surely ({one['sure_low']:.0%} to {one['sure_high']:.0%}), {lexical:4.0%} lexical"
        )
    return "\n".join(lines)


def _showcase(run: Any) -> str:
    """Monosemantic features of many tokens, no two with the same words, those first that the words predict best."""
    table = run.ranking.query("verdict == 'monosemantic' and token_share < 0.25")
    table = table.sort_values("explanation_f1", ascending=False, kind="stable").drop_duplicates("explanation")
    return "\n".join(
        f"  #{r.latent:<6d} {r.monosemanticity:.2f}  F1 {r.explanation_f1:.2f}  {r.explanation}"
        for r in table.head(5).itertuples()
    )


def training_line(kind: str, folder: Path, swept: Sequence[str], readers: str) -> str:
    """What a training reached; of a sweep, with the values of the swept fields."""
    r = json.loads((folder / "results.json").read_text())
    names = [text.partition("=")[0].strip().replace("-", "_") for text in swept]
    values = "".join(f"{name}={r['config'][name]} " for name in names)
    return f"{kind} in {folder}: {values}FVU {r['fvu']:.3f}, L0 {r['l0']:.1f}, {r['dead']:.2%} dead ({readers})"


def say(text: str) -> None:
    """Print, once for all processes of a `torchrun`."""
    if is_first():
        print(text)


def is_first() -> bool:
    """Whether this is the only process, or of those that `torchrun` started the first."""
    return "MASTER_ADDR" not in os.environ or os.environ.get("RANK", "0") == "0"


class Bar:
    """Progress of one long step: a bar on a terminal, a line every ten seconds elsewhere; of the processes of a
    `torchrun` the first shows it."""

    def __init__(self, name: str):
        self.name, self._printed = name, time.monotonic()
        self._began: tuple[float, int] | None = None
        self._bar: Any = None

    def __call__(self, done: int, total: int, note: str) -> None:
        if not is_first():
            return
        if sys.stderr.isatty():
            self._draw(done, total, note)
        else:
            self._print(done, total, note)

    def _print(self, done: int, total: int, note: str) -> None:
        now = time.monotonic()
        began, before = self._began = self._began or (now, done)
        if now - self._printed > 10:
            self._printed = now
            left = f" {_clock_time((now - began) / (done - before) * (total - done))} left" if done > before else ""
            print(f"{self.name}: {done:,} of {total:,}{left} {note}", file=sys.stderr, flush=True)

    def _draw(self, done: int, total: int, note: str) -> None:
        from tqdm import tqdm

        if self._bar is None or self._bar.total != total:
            self.close()
            form = "{desc} {percentage:3.0f}%|{bar}| {remaining} left{postfix}"
            shown: Any = {"leave": False, "dynamic_ncols": True, "bar_format": form}
            self._bar = tqdm(total=total, initial=done, desc=self.name, **shown)
        self._bar.set_postfix_str(note, refresh=False)
        self._bar.update(done - self._bar.n)

    def close(self) -> None:
        if self._bar is not None:
            self._bar.close()
            self._bar = None

    def __enter__(self) -> "Bar":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _clock_time(seconds: float) -> str:
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{seconds:02d}" if hours else f"{minutes:02d}:{seconds:02d}"
