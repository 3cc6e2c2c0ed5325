"""The stage `features`: statistics and examples of every latent."""

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from interp.features.scan_config import ScanConfig
from interp.pipeline import timings
from interp.pipeline.costs import Cost, Sizes
from interp.pipeline.readers import reader_of
from interp.pipeline.run import Run
from interp.pipeline.stages import stage
from interp.pipeline.states import check_current
from interp.runtime.progress import Progress

if TYPE_CHECKING:
    from interp.codes.dictionary import Dictionary
    from interp.features.feature_store import FeatureStore

VIEWS = ("effects", "names")
"""Stages that write one table of latents, of their name."""


def _open_features(folder: Path) -> "FeatureStore":
    """Open the features of a run, and make the tables of its stages VIEWS available to `sql`."""
    features = reader_of("features")(folder)
    features.views |= {name: partial(_current_table, folder.parent, name) for name in VIEWS}
    return features


def _current_table(path: Path, stage: str) -> Path:
    """Return the table of a stage of the run in a folder. Raises the errors of `check_current`."""
    run = Run(path)
    check_current(run, stage)
    return run.path_to(stage)


def scan_cost(sizes: Sizes, d_sae: int, l0: float, *, width: int) -> Cost:
    """Estimate the cost of a scan. Firings are sorted, kept (an id and a value; a row's id and place) and counted.
    Pairs of latents that fire together are counted. Each latent's examples are written and its direction is multiplied
    by the unembedding. Held are the corpus, and of each row two token ids (the store's and the scan's) and its set of
    labels, which is made in 8 bytes."""
    firings, pairs = sizes.rows * l0, sizes.rows * l0**2
    counting = timings.SCANNED_FIRING * firings + timings.SCANNED_LATENT * d_sae
    counting += timings.pair_seconds(d_sae) * pairs
    unembedding = 2 * d_sae * width * sizes.d_vocab
    of_text = sizes.corpus_bytes + 16 * sizes.rows
    memory = sizes.weight_bytes + 4 * width * sizes.d_vocab + 8 * width * d_sae + of_text
    disk = (6 if d_sae <= 1 << 16 else 8) * firings + 16 * sizes.rows + 8e3 * d_sae
    return Cost(disk=disk, memory=memory, float32_operations=unembedding, seconds=counting)


def _features_cost(sizes: Sizes) -> Cost:
    harvest = sizes.config.harvest
    cost = scan_cost(sizes, sizes.d_sae, sizes.l0, width=sizes.d_in) + sizes.encoding_cost(sizes.rows)
    cost = cost.times(len(harvest.hook_names))
    if harvest.buffer_mb is None:
        return cost
    return cost + sizes.forward_cost(sizes.rows, before=1) + Cost(memory=cost.memory + 1e6 * harvest.buffer_mb)


@stage(
    version=9,
    made_for="all hooks",
    inputs=("corpus", "model", "activations", "sae"),
    cost=_features_cost,
    reduced_by=("harvest.tokens", "sae.d_sae"),
    config={"scan": ScanConfig},
    other_sections=("harvest",),
    opens={"features": (".", _open_features)},
    summary="{latents:,} latents, {dead:,} dead, L0 {mean_l0:.1f}",
)
def features(runs: Sequence[Run], folders: Sequence[Path], progress: Progress) -> list[dict[str, Any]]:
    """statistics, examples, logit effects and label agreement of every latent"""
    from interp.features.scan_features import scan_saes

    placed = list(zip(runs, folders, strict=True))
    if runs[0].config.harvest.buffer_mb is None:
        return [scan_dictionary(run, run.sae, run.hook_name, folder, progress) for run, folder in placed]
    dictionaries: dict[str | Path, Any] = {folder: (run.sae, run.hook_name) for run, folder in placed}
    scans = scan_saes(runs[0].stream(), dictionaries, **_scan_options(runs[0]), progress=progress)
    return [_scan_results(scan) for scan in scans]


def scan_dictionary(
    run: Run, dictionary: "Dictionary", hook_name: str, folder: Path, progress: Progress
) -> dict[str, Any]:
    """Scan a dictionary on the run's text, and return the results of the stage."""
    from interp.features.scan_features import scan_features

    options = _scan_options(run)
    return _scan_results(scan_features(dictionary, run.store, hook_name, folder, **options, progress=progress))


def _scan_options(run: Run) -> dict[str, Any]:
    labels = run.harvested.labels
    return {"model": run.model, "vocab": run.tokenizer.display(), "labels": labels, "config": run.config.scan}


def _scan_results(scan: "FeatureStore") -> dict[str, Any]:
    table = scan.table()
    return {"latents": len(table), "dead": int((table.n_active == 0).sum()), "mean_l0": float(table.density.sum())}
