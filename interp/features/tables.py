"""The Parquet tables of a feature store: their columns, and how they are written.

A table has its name only when it is whole, so one that can be seen can be trusted. NaN is written as null.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from interp.files import atomic

_I32, _I64, _F32, _F64, _STR = pa.int32(), pa.int64(), pa.float32(), pa.float64(), pa.string()

SCHEMAS: dict[str, pa.Schema] = {
    name: pa.schema(columns)
    for name, columns in {
        "features": [
            ("latent", _I32),
            ("n_active", _I64),
            ("density", _F64),
            *((name, _F32) for name in ("mean", "std", "max", "q10", "q25", "q50", "q75", "q90", "q99")),
            ("n_sequences", _I64),
            ("burstiness", _F32),
            ("top_token", _I32),
            ("top_token_share", _F32),
            ("token_entropy", _F32),
            ("n_tokens", _I32),
            ("dec_norm", _F32),
            ("enc_dec_cosine", _F32),
            ("top_logit_tokens", pa.list_(_I32)),
            ("top_logits", pa.list_(_F32)),
            ("bottom_logit_tokens", pa.list_(_I32)),
            ("bottom_logits", pa.list_(_F32)),
            ("top_logit_next", pa.list_(_I64)),
            ("top_logit_next_share", pa.list_(_F32)),
            ("next_auroc", _F32),
            ("best_label", _STR),
            ("best_label_f1", _F32),
        ],
        "histograms": [("latent", _I32), ("bin", _I32), ("low", _F32), ("high", _F32), ("n", _I64)],
        "intervals": [("latent", _I32), ("interval", _I32), ("low", _F32), ("high", _F32), ("n", _I64)],
        "examples": [
            ("latent", _I32),
            ("kind", _STR),
            ("interval", _I32),
            ("rank", _I32),
            ("row", _I64),
            ("value", _F32),
            ("start", _I64),
            ("tokens", pa.list_(_I32)),
            ("values", pa.list_(_F32)),
        ],
        "tokens": [
            ("latent", _I32),
            ("offset", _I32),
            ("token", _I32),
            ("n", _I64),
            ("n_fit", _I64),
            ("mass", _F64),
        ],
        "offsets": [
            ("latent", _I32),
            ("offset", _I32),
            ("n", _I64),
            ("mass", _F64),
            ("n_tokens", _I64),
            ("n_80", _I64),
            *((name, _F64) for name in ("entropy", "kl", "top_share")),
        ],
        "labels": [
            ("latent", _I32),
            ("label", _STR),
            ("n_label", _I64),
            ("n_both", _I64),
            ("mass", _F64),
            *((name, _F32) for name in ("precision", "recall", "f1_fit", "threshold", "f1", "correlation")),
        ],
        "coactivations": [
            ("latent", _I32),
            ("other", _I32),
            ("rank", _I32),
            ("n_both", _I64),
            ("jaccard", _F32),
            ("lift", _F32),
        ],
        "neighbours": [("latent", _I32), ("other", _I32), ("rank", _I32), ("cosine", _F32)],
    }.items()
}


@contextmanager
def table_writer(folder: Path, name: str) -> Iterator[Callable[[dict[str, Any]], None]]:
    """Writes one table in pieces; it appears as `folder/name.parquet` when the block ends without an error.

    A piece has one column a name of the schema; those that are missing or None are written as nulls.
    """
    schema = SCHEMAS[name]
    with atomic(folder / f"{name}.parquet") as file, pq.ParquetWriter(file, schema, compression="zstd") as writer:

        def write(columns: dict[str, Any]) -> None:
            length = max(len(column) for column in columns.values() if column is not None)
            arrays = [_array(columns.get(field.name), field.type, length) for field in schema]
            writer.write_table(pa.Table.from_arrays(arrays, schema=schema), row_group_size=1 << 16)

        yield write


def ragged(values: np.ndarray, offsets: np.ndarray) -> pa.ListArray:
    """A list column: row i is values[offsets[i]:offsets[i + 1]]."""
    return pa.ListArray.from_arrays(pa.array(offsets, pa.int32()), pa.array(values))


def _array(column: Any, kind: pa.DataType, length: int) -> pa.Array:
    if column is None:
        return pa.nulls(length, kind)
    if isinstance(column, pa.Array):
        return column.cast(kind)
    if isinstance(column, np.ndarray) and column.dtype != object and column.dtype.kind != "U":
        column = column.astype(kind.to_pandas_dtype())
    return pa.array(column, kind, from_pandas=True)
