"""From codes in token order to the tables of a feature store, in memory that does not grow with the text.

1. The first pass over the codes counts which latents fire together, and lays the firings out by latent on disk.
2. The latents are read in blocks; all else that is known of one follows from its rows and values. Blocks run side by
   side, and are written in order.

The passes read codes, not activations, so they need neither model nor dictionary. Very many latents take further passes
for their pairs. The codes that are laid out take 12 bytes a firing, in a folder that goes when the tables are whole.
"""

import shutil
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import torch

from interp.features.chunks import ColumnFiles, Rows
from interp.features.coactivation import Coactivation
from interp.features.decoder import Decoder, logit_columns, neighbour_tables
from interp.features.examples import Examples, example_table, interval_table
from interp.features.firing import FiringStatistics
from interp.features.labelling import LabelSets, best_labels, label_table
from interp.features.scan_config import ScanConfig
from interp.features.tables import SCHEMAS, table_writer
from interp.features.token_counts import TokenCounts, mass_steps, offset_table, summarise, token_table

Advance = Callable[[int, str], None]
"""Called with the rows that were read since the last call, and what they were read for."""
Tables = dict[str, dict[str, Any]]

_EXACT_D_SAE, _EXACT_L0 = 8192, 64
_DEFAULT_STRONGEST = 16


class Inputs(NamedTuple):
    """What the tables are of."""

    rows: Rows
    labels: LabelSets | None
    decoder: Decoder
    config: ScanConfig


def n_passes(config: ScanConfig, d_sae: int) -> int:
    """How often `write_tables` reads all firings."""
    return max(1, len(_pair_blocks(config, d_sae))) + 1


def write_tables(inputs: Inputs, folder: Path, advance: Advance) -> int:
    """Write every table of `interp.features.tables` into `folder`. Returns how many latents fire."""
    scratch = folder / "scratch"
    shutil.rmtree(scratch, ignore_errors=True)
    columns = ColumnFiles(scratch, inputs.rows.d_sae)
    with ExitStack() as stack:
        write = {name: stack.enter_context(table_writer(folder, name)) for name in SCHEMAS}
        for table in _pair_tables(inputs, columns, advance):
            write["coactivations"](table)
        for tables in _latent_tables(inputs, columns, advance):
            for name, table in tables.items():
                write[name](table)
        if inputs.decoder.W_dec is not None:
            for table in neighbour_tables(inputs.decoder.W_dec, inputs.config.n_neighbours):
                write["neighbours"](table)
    shutil.rmtree(scratch, ignore_errors=True)
    return int((columns.n_active > 0).sum())


def _pair_tables(inputs: Inputs, columns: ColumnFiles, advance: Advance) -> Iterator[dict[str, Any]]:
    """The table of co-activations, in pieces. The first pass fills `columns` too."""
    rows, config, n_read = inputs.rows, inputs.config, lambda n: advance(n, "counting firings")
    cheap = rows.d_sae <= _EXACT_D_SAE and rows.mean_l0 <= _EXACT_L0
    strongest = config.strongest or (None if cheap else _DEFAULT_STRONGEST)
    blocks = _pair_blocks(config, rows.d_sae)
    if not blocks:
        rows.feed(columns.add, advance=n_read)
    for first, last in blocks:
        pairs = Coactivation(rows.d_sae, first, last, strongest)
        rows.feed(*([columns.add] if first == 0 else []), pairs.add, advance=n_read)
        yield from pairs.tables(config.n_coactivations, rows.n_present)


def _latent_tables(inputs: Inputs, columns: ColumnFiles, advance: Advance) -> Iterator[Tables]:
    """The tables of each block of latents, in order; as many are made ahead as there are threads."""
    n_rows, d_sae, n_threads = inputs.rows.tokens.size, inputs.rows.d_sae, torch.get_num_threads()
    blocks = columns.blocks(inputs.config.chunk_entries // 4)
    with ThreadPoolExecutor(n_threads) as pool:
        waiting = (pool.submit(_describe, inputs, columns, *block) for block in blocks)
        ahead = deque(islice(waiting, n_threads))
        for first, last in blocks:
            tables = ahead.popleft().result()
            ahead.extend(islice(waiting, 1))
            yield tables
            advance(n_rows * last // d_sae - n_rows * first // d_sae, "describing latents")


def _describe(inputs: Inputs, files: ColumnFiles, first: int, last: int) -> Tables:
    """All tables of the latents first .. last that follow from their own firings."""
    rows, labels, decoder, config = inputs
    columns = files.read(first, last)
    firing = FiringStatistics.of(columns, rows.n_ctx, rows.n_present)
    examples, steps = Examples.pick(columns, firing.maxima, config), mass_steps(firing.maxima)
    offsets = range(-config.n_before, config.n_after + 1)
    counts = [TokenCounts.at(offset, columns, steps, rows) for offset in offsets]
    summary = summarise(counts, rows.unigrams)
    of_token = {name: column[:, config.n_before] for name, column in summary.items()}
    following = counts[config.n_before + 1] if config.n_after else None
    features = {
        **firing.columns(),
        **{name: of_token[name] for name in ("top_token", "n_tokens")},
        "top_token_share": of_token["top_share"],
        "token_entropy": of_token["entropy"],
        **{name: column[first:last] for name, column in decoder.norms.items()},
        **logit_columns(decoder.logits, first, last, following, rows.unigrams, config.n_logits),
    }
    tables = {
        "histograms": firing.histogram_table(),
        "intervals": interval_table(examples, firing),
        "examples": example_table(examples, columns, firing, rows, config),
        "tokens": token_table(counts, first, steps, config.n_tokens),
        "offsets": offset_table(summary, offsets, first, steps),
    }
    if labels is not None:
        tables["labels"] = label_table(labels, columns, firing, rows)
        features |= best_labels(tables["labels"], first, last - first)
    return {**tables, "features": features}


def _pair_blocks(config: ScanConfig, d_sae: int) -> list[tuple[int, int]]:
    """Latents first .. last whose counts with all others fit into the buffer; none if no pairs are asked for."""
    size = max(1, (config.buffer_mb << 20) // (4 * d_sae))
    return [(first, min(first + size, d_sae)) for first in range(0, d_sae, size)] if config.n_coactivations else []
