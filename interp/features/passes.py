"""From codes in token order to the tables of a feature store, in memory that hardly grows with the text.

1. The first pass over the codes counts which latents fire together, and lays the firings out by latent on disk.
2. The latents are read in blocks; all else that is known of one follows from its rows and values. Blocks run side by
   side, and are written in order.

Of the text's length are in memory its tokens (4 bytes each, and 2 for their labels), and of the latent that fires most
its firings (12 bytes each); all else is bounded by `ScanConfig` (`analyses/bench_memory.py`).

The passes read codes, not activations, so they need neither model nor dictionary. Very many latents take further passes
for their pairs. The codes that are laid out take 12 bytes a firing, in a folder that goes when the tables are whole.
"""

import shutil
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any, NamedTuple

import torch

from interp.features.chunks import ColumnFiles, Columns, Rows, in_threads
from interp.features.coactivation import Coactivation
from interp.features.decoder import Decoder, logit_columns, neighbour_tables
from interp.features.examples import example_table, interval_table, pick_examples
from interp.features.firing import FiringStatistics
from interp.features.labelling import MAX_PAIRS, LabelSets, best_labels, label_table
from interp.features.scan_config import ScanConfig
from interp.features.tables import SCHEMAS, table_writer
from interp.features.token_counts import count_tokens, offset_table, token_table

Advance = Callable[[int, str], None]
"""Called with the rows that were read since the last call, and what they were read for."""
Tables = dict[str, dict[str, Any]]

_EXACT_D_SAE, _EXACT_L0 = 8192, 64
_DEFAULT_STRONGEST = 16
_MAX_LATENTS = 256
"""Described at a time: `ColumnFiles.read` numbers them by a byte."""


class Inputs(NamedTuple):
    """What the tables are of."""

    rows: Rows
    labels: LabelSets | None
    decoder: Decoder


def n_passes(config: ScanConfig, d_sae: int) -> int:
    """How often `write_tables` reads all firings."""
    return max(1, len(_pair_blocks(config, d_sae))) + 1


def write_tables(inputs: Inputs, folder: Path, advance: Advance) -> int:
    """Write every table of `interp.features.tables` into `folder`. Returns how many latents fire."""
    scratch = folder / "scratch"
    shutil.rmtree(scratch, ignore_errors=True)
    columns = ColumnFiles(scratch, inputs.rows.codes.d_sae)
    with ExitStack() as stack:
        write = {name: stack.enter_context(table_writer(folder, name)) for name in SCHEMAS}
        for table in _pair_tables(inputs.rows, columns, advance):
            write["coactivations"](table)
        for tables in _latent_tables(inputs, columns, advance):
            for name, table in tables.items():
                write[name](table)
        if inputs.decoder.W_dec is not None:
            for table in neighbour_tables(inputs.decoder.W_dec, inputs.rows.config.n_neighbours):
                write["neighbours"](table)
    shutil.rmtree(scratch, ignore_errors=True)
    return int((columns.n_active > 0).sum())


def _pair_tables(rows: Rows, columns: ColumnFiles, advance: Advance) -> Iterator[dict[str, Any]]:
    """The table of co-activations, in pieces. The first pass fills `columns` too."""
    config, d_sae, n_read = rows.config, rows.codes.d_sae, lambda n: advance(n, "counting firings")
    cheap = d_sae <= _EXACT_D_SAE and rows.mean_l0 <= _EXACT_L0
    strongest = config.strongest or (None if cheap else _DEFAULT_STRONGEST)
    blocks = _pair_blocks(config, d_sae)
    if not blocks:
        rows.feed(columns.add, advance=n_read)
    for first, last in blocks:
        pairs = Coactivation(d_sae, first, last, strongest)
        rows.feed(*([columns.add] if first == 0 else []), pairs.add, advance=n_read)
        yield pairs.table(config.n_coactivations, rows.n_present)


def _latent_tables(inputs: Inputs, files: ColumnFiles, advance: Advance) -> Iterator[Tables]:
    """The tables of each block of latents, in order."""
    n_rows, d_sae = inputs.rows.tokens.size, files.d_sae
    n_labels = 1 if inputs.labels is None else len(inputs.labels.names)
    max_latents = max(1, min(_MAX_LATENTS, MAX_PAIRS // n_labels))
    blocks = files.blocks(max_latents, inputs.rows.config.chunk_entries // 4)
    described = in_threads(lambda block: _describe(inputs, files.read(*block)), blocks, torch.get_num_threads())
    for (first, last), tables in zip(blocks, described, strict=True):
        yield tables
        advance(n_rows * last // d_sae - n_rows * first // d_sae, "describing latents")


def _describe(inputs: Inputs, columns: Columns) -> Tables:
    """All tables of some latents that follow from their own firings."""
    rows, labels, decoder = inputs
    latents = slice(columns.first, columns.first + len(columns.offsets) - 1)
    firing = FiringStatistics.of(columns, rows.n_ctx, rows.n_present)
    examples = pick_examples(columns, firing, rows)
    counts = count_tokens(columns, firing, rows)
    tables = {
        "histograms": firing.histogram_table(),
        "intervals": interval_table(examples, firing),
        "examples": example_table(examples, columns, firing, rows),
        "tokens": token_table(counts, firing, rows.config.n_tokens),
        "offsets": offset_table(counts, firing, rows.unigrams),
    }
    own = {name: column[tables["offsets"]["offset"] == 0] for name, column in tables["offsets"].items()}
    features = {
        **firing.columns(),
        "top_token": own["top_token"],
        "top_token_share": own["top_share"],
        "token_entropy": own["entropy"],
        "n_tokens": own["n_tokens"],
        **{name: column[latents] for name, column in decoder.norms.items()},
        **logit_columns(decoder.logits, latents, counts.get(1), rows),
    }
    if labels is not None:
        tables["labels"] = label_table(labels, columns, firing, rows)
        features |= best_labels(tables["labels"], len(labels.names), firing)
    return {**tables, "features": features}


def _pair_blocks(config: ScanConfig, d_sae: int) -> list[tuple[int, int]]:
    """Latents first .. last whose counts with all others fit into the buffer; none if no pairs are asked for."""
    size = max(1, (config.buffer_mb << 20) // (4 * d_sae))
    return [(first, min(first + size, d_sae)) for first in range(0, d_sae, size)] if config.n_coactivations else []
