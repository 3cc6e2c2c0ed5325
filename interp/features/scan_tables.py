"""Write the Parquet tables of a feature store from codes in token order. Memory hardly grows with the text.

1. The first pass over the codes counts which latents fire together, and sorts the firings by latent on disk.
2. The latents are read in blocks; all other statistics of a latent follow from its rows and values. Blocks run
concurrently, and are written in order.

Memory holds the text's tokens (4 bytes each, and 2 for their labels) and the firings of the latent that fires most (12
bytes each). Everything else is bounded by CHUNK_ENTRIES and `_PAIRS_MB` (`analyses/bench/memory.py`).

The passes read codes, not activations, so they need neither a model nor a dictionary. If there are very many latents,
their pairs take further passes. The sorted codes take 12 bytes per firing, in a folder that is removed when the tables
are complete. Tables are written atomically. NaN is written as null.
"""

import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import torch

from interp.features.decoder import Decoder, neighbour_tables
from interp.features.examples import example_table, interval_table, pick_examples
from interp.features.firing_statistics import Coactivation, FiringStatistics
from interp.features.label_scores import MAX_PAIRS, LabelSets, best_labels, label_table
from interp.features.logit_columns import logit_columns
from interp.features.scan_config import ScanConfig
from interp.features.scan_input import CHUNK_ENTRIES, FiringFiles, FiringsByLatent, ScanInput, latent_blocks
from interp.features.token_counts import count_tokens, offset_table, token_table
from interp.runtime.processes import Processes, slice_of_part
from interp.runtime.threads import compute_ahead
from interp.storage.files import write_atomically

Advance = Callable[[int, str], None]
"""A function that is called with the number of rows read since the last call, and their purpose."""
Tables = dict[str, dict[str, Any]]

_PAIRS_MB = 256
"""Memory for the counts of pairs, in megabytes; a pair of latents takes 4 bytes. If it does not suffice, more passes
are made."""
_EXACT_D_SAE = 8192
"""Co-activation counts all pairs of latents if a dictionary has at most this many latents …"""
_EXACT_L0 = 64
"""… and at most this many of them fire on a row, on average."""
_N_STRONGEST = 16
"""Above either limit, it counts the pairs among this many strongest latents of a row."""
_MAX_LATENTS = 256
"""Largest number of latents described at a time, since `FiringFiles.read` numbers them by a byte."""


def _type(name: str) -> pa.DataType:
    """Return the Arrow type of a name. A name in brackets is a list of that type."""
    return pa.list_(pa.type_for_alias(name[1:-1])) if name.startswith("[") else pa.type_for_alias(name)


def _schema(columns: str) -> pa.Schema:
    """Return the schema of a table whose columns are written as `name:type`."""
    names_and_types = [column.split(":") for column in columns.split()]
    return pa.schema([(name, _type(type_name)) for name, type_name in names_and_types])


SCHEMAS: dict[str, pa.Schema] = {
    "features": _schema("""latent:int32 n_active:int64 density:double
        mean:float std:float max:float q10:float q25:float q50:float q75:float q90:float q99:float
        n_sequences:int64 burstiness:float top_token:int32 top_token_share:float token_entropy:float n_tokens:int32
        dec_norm:float enc_dec_cosine:float fvu_rise:float
        top_logit_tokens:[int32] top_logits:[float] bottom_logit_tokens:[int32] bottom_logits:[float]
        logit_counts:[int32] top_logit_next:[int64] top_logit_next_share:[float] next_auroc:float
        best_label:string best_label_f1:float"""),
    "histograms": _schema("latent:int32 bin:int32 low:float high:float n:int64"),
    "intervals": _schema("latent:int32 interval:int32 low:float high:float n:int64"),
    "examples": _schema("""latent:int32 kind:string interval:int32 rank:int32 row:int64 value:float
        start:int64 tokens:[int32] values:[float]"""),
    "tokens": _schema("latent:int32 offset:int32 token:int32 n:int64 n_fit:int64 mass:double"),
    "offsets": _schema("""latent:int32 offset:int32 n:int64 mass:double n_tokens:int64 n_80:int64
        entropy:double kl:double top_share:double"""),
    "labels": _schema("""latent:int32 label:string n_label:int64 n_both:int64 mass:double
        firing_share:float f1_fit:float threshold:float f1:float precision:float recall:float correlation:float"""),
    "coactivations": _schema("latent:int32 other:int32 rank:int32 n_both:int64 jaccard:float lift:float"),
    "neighbours": _schema("latent:int32 other:int32 rank:int32 cosine:float"),
}


def n_passes(config: ScanConfig, d_sae: int) -> int:
    """Return the number of times that `write_tables` reads all firings."""
    return max(1, len(_pair_blocks(config, d_sae))) + 1


def write_tables(
    scan: ScanInput, folder: Path, *, labels: LabelSets | None, decoder: Decoder, advance: Advance, world: Processes
) -> int:
    """Write every table of `SCHEMAS` into `folder`. Returns how many latents fire.

    Each process of the world reads its part of the text, describes its part of the latents, and then assembles some of
    the tables.
    """
    scratch = folder / "scratch"
    world.first_does(lambda: shutil.rmtree(scratch, ignore_errors=True))
    folder_of_process = scratch / str(world.rank)
    files = FiringFiles(folder_of_process, scan.codes.d_sae)
    pieces = folder if world.count == 1 else folder_of_process

    def describe() -> None:
        with ExitStack() as stack:
            names = [name for name in SCHEMAS if name != "coactivations"]
            write = {name: stack.enter_context(table_writer(pieces, name)) for name in names}
            for tables in _latent_tables(scan, files, labels=labels, decoder=decoder, advance=advance, world=world):
                for name, table in tables.items():
                    write[name](table)
            if decoder.W_dec is not None:
                for table in neighbour_tables(decoder.W_dec, scan.config.n_neighbours, (world.rank, world.count)):
                    write["neighbours"](table)

    with table_writer(pieces, "coactivations") as write_pairs:
        for table in _pair_tables(scan, files, advance, world):
            write_pairs(table)
    world.all_do(describe)
    if world.count > 1:
        parts = [scratch / str(rank) for rank in range(world.count)]
        names = list(SCHEMAS)[world.rank :: world.count]
        world.all_do(lambda: _join_tables(parts, folder, names))
    world.first_does(lambda: shutil.rmtree(scratch, ignore_errors=True))
    return int((files.n_active > 0).sum())


def _join_tables(parts: Sequence[Path], folder: Path, names: Sequence[str]) -> None:
    for name in names:
        with table_writer(folder, name) as write:
            for part in parts:
                file = pq.ParquetFile(part / f"{name}.parquet")
                for group in range(file.num_row_groups):
                    table = file.read_row_group(group).combine_chunks()
                    write({column: table[column].chunk(0) for column in table.column_names})


def _pair_tables(scan: ScanInput, files: FiringFiles, advance: Advance, world: Processes) -> Iterator[dict[str, Any]]:
    """Yield the table of co-activations, in pieces, for the first process. The first pass fills `columns` too."""
    config = scan.config
    d_sae = scan.codes.d_sae
    is_cheap = d_sae <= _EXACT_D_SAE and scan.mean_l0 <= _EXACT_L0
    strongest = None if is_cheap else _N_STRONGEST
    part = world.rank, world.count
    blocks = _pair_blocks(config, d_sae)

    def n_read(n: int) -> None:
        advance(n, "counting firings")

    if not blocks:
        world.all_do(lambda: scan.feed(files.add, advance=n_read, part=part))
        files.join(world)
    for first, last in blocks:
        pairs = Coactivation(d_sae, first, last, strongest)
        listeners = [*([files.add] if first == 0 else []), pairs.add]
        world.all_do(partial(scan.feed, *listeners, advance=n_read, part=part))
        pairs.join(world)
        if first == 0:
            files.join(world)
        if world.is_first:
            yield pairs.table(config.n_coactivations, scan.n_present)


def _latent_tables(
    scan: ScanInput,
    files: FiringFiles,
    *,
    labels: LabelSets | None,
    decoder: Decoder,
    advance: Advance,
    world: Processes,
) -> Iterator[Tables]:
    """Yield the tables of each block of this process's latents, in order."""
    n_rows = scan.tokens.size
    d_sae = files.d_sae
    max_latents = max(1, min(_MAX_LATENTS, MAX_PAIRS // (1 if labels is None else len(labels.names))))
    blocks = latent_blocks(files.n_active, max_latents, CHUNK_ENTRIES // 4)
    blocks = blocks[slice_of_part(len(blocks), world.rank, world.count)]
    described = compute_ahead(
        lambda block: _describe(files.read(*block), scan, labels, decoder), blocks, torch.get_num_threads()
    )
    for (first, last), tables in zip(blocks, described, strict=True):
        yield tables
        advance(n_rows * last // d_sae - n_rows * first // d_sae, "describing latents")


def _describe(firings: FiringsByLatent, scan: ScanInput, labels: LabelSets | None, decoder: Decoder) -> Tables:
    """Make all tables of some latents that depend only on the firings of these latents."""
    latents = slice(firings.first, firings.first + len(firings.offsets) - 1)
    statistics = FiringStatistics.of(firings, scan.n_ctx, scan.n_present)
    examples = pick_examples(firings, statistics, scan)
    counts = count_tokens(firings, statistics, scan)
    tables = {
        "histograms": statistics.histogram_table(),
        "intervals": interval_table(examples, statistics),
        "examples": example_table(examples, firings, statistics, scan),
        "tokens": token_table(counts, statistics, scan.config.n_tokens),
        "offsets": offset_table(counts, statistics, scan.unigrams),
    }
    token_columns = {name: column[tables["offsets"]["offset"] == 0] for name, column in tables["offsets"].items()}
    features = {
        **statistics.columns(),
        "top_token": token_columns["top_token"],
        "top_token_share": token_columns["top_share"],
        "token_entropy": token_columns["entropy"],
        "n_tokens": token_columns["n_tokens"],
        **{name: column[latents] for name, column in decoder.norms.items()},
        **logit_columns(decoder.logits, latents, counts[1], scan),
    }
    if labels is not None:
        tables["labels"] = label_table(labels, firings, statistics, scan)
        features |= best_labels(tables["labels"], len(labels.names), statistics)
    return {**tables, "features": features}


def _pair_blocks(config: ScanConfig, d_sae: int) -> list[tuple[int, int]]:
    """Split the latents into blocks (first, last) whose counts with all latents fit into the buffer. There are no
    blocks if the config wants no pairs."""
    size = max(1, (_PAIRS_MB << 20) // (4 * d_sae))
    return [(first, min(first + size, d_sae)) for first in range(0, d_sae, size)] if config.n_coactivations else []


@contextmanager
def table_writer(folder: Path, name: str) -> Iterator[Callable[[dict[str, Any]], None]]:
    """Write one table in pieces. It appears as `folder/name.parquet` when the block ends without an error.

    A piece has one column for each name of the schema. A missing column, or None, is written as nulls.
    """
    schema = SCHEMAS[name]
    with (
        write_atomically(folder / f"{name}.parquet") as file,
        pq.ParquetWriter(file, schema, compression="zstd", write_page_checksum=True) as writer,
    ):

        def write(columns: dict[str, Any]) -> None:
            length = max(len(column) for column in columns.values() if column is not None)
            arrays = [_array(columns.get(field.name), field.type, length) for field in schema]
            writer.write_table(pa.Table.from_arrays(arrays, schema=schema), row_group_size=1 << 16)

        yield write


def _array(column: Any, arrow_type: pa.DataType, length: int) -> pa.Array:
    if column is None:
        return pa.nulls(length, arrow_type)
    return column.cast(arrow_type) if isinstance(column, pa.Array) else pa.array(column, arrow_type, from_pandas=True)
