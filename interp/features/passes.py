"""From codes in token order to the tables of a feature store, in a few passes of bounded memory.

    pass 1   counts, maxima, histograms; co-activation
    pass 2   with the maxima known: intervals, examples, tokens in context, labels
    pass 3   the windows of the examples that were kept

Label counts and windows of very many latents take a further pass for each further block of latents.
The passes read codes, not activations, so they need neither model nor dictionary.
"""

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from interp.features.chunks import Rows
from interp.features.coactivation import DENSE, Coactivation
from interp.features.decoder import LogitPath, neighbour_table, norm_columns
from interp.features.examples import Examples, empty_windows, fill_windows
from interp.features.firing import FiringStatistics
from interp.features.labelling import LabelCounts, LabelSets, best_labels
from interp.features.logits import LogitColumns
from interp.features.scan import ScanConfig
from interp.features.tables import TableWriter, ragged, write_table
from interp.features.token_counts import TokenCounts, token_tables

Advance = Callable[[int, str], None]
"""Called with the rows that were read since the last call, and what they were read for."""

_EXACT_L0 = 64
_DEFAULT_STRONGEST = 16


@dataclass(frozen=True)
class Decoder:
    """What is known of the dictionary besides its codes; every part may be missing."""

    W_dec: Tensor | None
    W_enc: Tensor | None
    logits: LogitPath


def n_passes(config: ScanConfig, d_sae: int, n_labels: int) -> int:
    """How often `write_tables` reads the codes."""
    return 1 + len(_label_blocks(config, d_sae, n_labels)) + len(_window_blocks(config, d_sae))


def write_tables(
    rows: Rows,
    folder: Path,
    config: ScanConfig,
    *,
    vocab_size: int,
    labels: LabelSets | None,
    decoder: Decoder,
    advance: Advance,
) -> FiringStatistics:
    """Write every table of `interp.features.tables` into `folder`."""
    scratch = folder / "scratch"
    shutil.rmtree(scratch, ignore_errors=True)
    firing = _first_pass(rows, folder, scratch, config, advance)
    logits = LogitColumns(decoder.logits, config.n_logits, rows.token_counts(vocab_size))
    examples, features = _second_pass(rows, folder, scratch, config, firing, logits, labels, advance)
    _third_pass(rows, folder, config, examples, advance)
    neighbours = None if decoder.W_dec is None else neighbour_table(decoder.W_dec, config.n_neighbours)
    write_table(folder, "neighbours", neighbours)
    norms = norm_columns(decoder.W_dec, decoder.W_enc, rows.d_sae)
    write_table(folder, "features", {**firing.columns(), **features, **norms})
    shutil.rmtree(scratch, ignore_errors=True)
    return firing


def _first_pass(rows: Rows, folder: Path, scratch: Path, config: ScanConfig, advance: Advance) -> FiringStatistics:
    cheap = rows.d_sae <= DENSE and rows.mean_l0 <= _EXACT_L0
    strongest = config.strongest or (None if cheap else _DEFAULT_STRONGEST)
    firing = FiringStatistics(rows.d_sae)
    buffer_rows = _bytes(config) // 16
    pairs = Coactivation(scratch / "pairs", d_sae=rows.d_sae, strongest=strongest, buffer_rows=buffer_rows)
    adders = [firing.add, pairs.add] if config.n_coactivations else [firing.add]
    rows.feed(*adders, advance=lambda n: advance(n, "counting firings"))
    write_table(folder, "histograms", firing.histogram_table())
    write_table(folder, "coactivations", pairs.table(config.n_coactivations) if config.n_coactivations else None)
    return firing


def _second_pass(
    rows: Rows,
    folder: Path,
    scratch: Path,
    config: ScanConfig,
    firing: FiringStatistics,
    logits: LogitColumns,
    labels: LabelSets | None,
    advance: Advance,
) -> tuple[Examples, dict[str, Any]]:
    """Write intervals, tokens, offsets and labels; return the examples, and columns of the features table."""
    examples = Examples(
        firing.maxima,
        n_top=config.n_top,
        n_sample=config.n_per_interval,
        n_intervals=config.n_intervals,
        seed=config.seed,
    )
    offsets = range(-config.n_before, config.n_after + 1)
    contexts = [
        TokenCounts(
            scratch / f"offset{offset:+d}",
            offset=offset,
            maxima=firing.maxima,
            token_counts=logits.unigrams,
            budget=_bytes(config) // len(offsets),
        )
        for offset in offsets
    ]
    adders, label_parts = [examples.add, *(context.add for context in contexts)], []
    for first, last in _label_blocks(config, rows.d_sae, len(labels.names) if labels else 0):
        counts = LabelCounts(labels, firing, first, last) if labels else None
        adders += [counts.add] if counts else []
        rows.feed(*adders, advance=lambda n: advance(n, "gathering examples"))
        adders = []
        label_parts += [counts.table(firing)] if counts else []
    write_table(folder, "intervals", examples.interval_table())
    if not config.n_after:
        logits.add(0, rows.d_sae, None)
    counted = token_tables(contexts, rows.d_sae, config.n_tokens, logits)
    write_table(folder, "tokens", counted.tokens)
    write_table(folder, "offsets", counted.offsets)
    table = {key: np.concatenate([p[key] for p in label_parts]) for key in label_parts[0]} if label_parts else None
    write_table(folder, "labels", table)
    return examples, {**counted.features, **best_labels(table, rows.d_sae)} if table else counted.features


def _third_pass(rows: Rows, folder: Path, config: ScanConfig, examples: Examples, advance: Advance) -> None:
    with TableWriter(folder, "examples") as writer:
        for first, last in _window_blocks(config, rows.d_sae):
            listed = examples.listed(first, last)
            windows = empty_windows(listed["row"], rows.tokens, before=config.window_before, after=config.window_after)
            order = windows.start.argsort(kind="stable")
            fill = partial(fill_windows, windows, listed["latent"], order)
            rows.feed(fill, advance=lambda n: advance(n, "reading examples in context"))
            tokens, values = ragged(windows.tokens, windows.offsets), ragged(windows.values, windows.offsets)
            writer.write({**listed, "start": windows.start, "tokens": tokens, "values": values})


def _bytes(config: ScanConfig) -> int:
    return config.buffer_mb << 20


def _label_blocks(config: ScanConfig, d_sae: int, n_labels: int) -> list[tuple[int, int]]:
    """Latents first .. last whose counts fit into the buffer: 32 thresholds of two halves, 4 bytes each."""
    return _blocks(d_sae, max(1, n_labels) * 2 * 32 * 4, _bytes(config))


def _window_blocks(config: ScanConfig, d_sae: int) -> list[tuple[int, int]]:
    """Latents first .. last whose windows fit into the buffer: a token and a value of 4 bytes each."""
    n_examples = config.n_top + config.n_intervals * config.n_per_interval
    length = config.window_before + 1 + config.window_after
    return _blocks(d_sae, max(1, n_examples) * (8 * length + 64), _bytes(config))


def _blocks(d_sae: int, bytes_each: int, budget: int) -> list[tuple[int, int]]:
    size = max(1, budget // bytes_each)
    return [(first, min(first + size, d_sae)) for first in range(0, d_sae, size)]
