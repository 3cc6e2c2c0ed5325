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


def _type(name: str) -> pa.DataType:
    """Arrow's name of a type; in brackets, a list of it."""
    return pa.list_(pa.type_for_alias(name[1:-1])) if name.startswith("[") else pa.type_for_alias(name)


SCHEMAS: dict[str, pa.Schema] = {
    name: pa.schema([(column, _type(kind)) for column, _, kind in (field.partition(":") for field in fields.split())])
    for name, fields in {
        "features": """latent:int32 n_active:int64 density:double
            mean:float std:float max:float q10:float q25:float q50:float q75:float q90:float q99:float
            n_sequences:int64 burstiness:float top_token:int32 top_token_share:float token_entropy:float n_tokens:int32
            dec_norm:float enc_dec_cosine:float fvu_rise:float
            top_logit_tokens:[int32] top_logits:[float] bottom_logit_tokens:[int32] bottom_logits:[float]
            logit_counts:[int32] top_logit_next:[int64] top_logit_next_share:[float] next_auroc:float
            best_label:string best_label_f1:float""",
        "histograms": "latent:int32 bin:int32 low:float high:float n:int64",
        "intervals": "latent:int32 interval:int32 low:float high:float n:int64",
        "examples": """latent:int32 kind:string interval:int32 rank:int32 row:int64 value:float
            start:int64 tokens:[int32] values:[float]""",
        "tokens": "latent:int32 offset:int32 token:int32 n:int64 n_fit:int64 mass:double",
        "offsets": """latent:int32 offset:int32 n:int64 mass:double n_tokens:int64 n_80:int64
            entropy:double kl:double top_share:double""",
        "labels": """latent:int32 label:string n_label:int64 n_both:int64 mass:double
            precision:float recall:float f1_fit:float threshold:float f1:float correlation:float""",
        "coactivations": "latent:int32 other:int32 rank:int32 n_both:int64 jaccard:float lift:float",
        "neighbours": "latent:int32 other:int32 rank:int32 cosine:float",
    }.items()
}


@contextmanager
def table_writer(folder: Path, name: str) -> Iterator[Callable[[dict[str, Any]], None]]:
    """Writes one table in pieces; it appears as `folder/name.parquet` when the block ends without an error.

    A piece has one column a name of the schema; those that are missing or None are written as nulls.
    """
    schema = SCHEMAS[name]
    written: Any = {"compression": "zstd", "write_page_checksum": True}
    with atomic(folder / f"{name}.parquet") as file, pq.ParquetWriter(file, schema, **written) as writer:

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
    return column.cast(kind) if isinstance(column, pa.Array) else pa.array(column, kind, from_pandas=True)
