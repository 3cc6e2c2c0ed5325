"""What the command line shows: progress of long steps, a line a stage, and the summary of a run."""

import sys
import time
from pathlib import Path
from typing import Any


def show_stages(config: Any, out: Path, until: str, redo: bool) -> None:
    from interp.run import run_stages

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
        return verdicts(r["verdicts"])
    if stage == "report":
        return f"{r['bytes'] / 1e6:.1f} MB"
    raise ValueError(f"stage {stage} has no summary line")


def verdicts(counts: dict[str, int]) -> str:
    return ", ".join(f"{count:,} {verdict}" for verdict, count in counts.items())


def _showcase(run: Any) -> str:
    """Monosemantic features of many tokens, no two with the same words, those first that the words predict best."""
    table = run.ranking.query("verdict == 'monosemantic' and token_share < 0.25")
    table = table.sort_values("explanation_f1", ascending=False, kind="stable").drop_duplicates("explanation")
    return "\n".join(
        f"  #{r.latent:<6d} {r.monosemanticity:.2f}  F1 {r.explanation_f1:.2f}  {r.explanation}"
        for r in table.head(5).itertuples()
    )


class Bar:
    """Progress of one long step: a bar on a terminal, a line every ten seconds elsewhere."""

    def __init__(self, name: str):
        self.name, self._printed = name, time.monotonic()
        self._bar: Any = None

    def __call__(self, done: int, total: int, note: str) -> None:
        if sys.stderr.isatty():
            self._draw(done, total, note)
        elif time.monotonic() - self._printed > 10:
            self._printed = time.monotonic()
            print(f"{self.name}: {done:,} of {total:,} {note}", file=sys.stderr, flush=True)

    def _draw(self, done: int, total: int, note: str) -> None:
        from tqdm import tqdm

        if self._bar is None or self._bar.total != total:
            self.close()
            self._bar = tqdm(total=total, desc=f"{self.name:12s}", leave=False, dynamic_ncols=True, unit_scale=True)
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
