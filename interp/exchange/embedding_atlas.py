"""The decoder's map as a table that Embedding Atlas reads (`embedding-atlas FILE --x x --y y --neighbors neighbors`).

In: a FeatureStore with decoder directions, and a ranking where there is one. Out: a Parquet file, a row a latent that
fires: x, y, its nearest latents as {"ids": rows of this table, "distances": 1 − cosine}, a text to search, and what is
known of it.
"""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from interp.features.feature_store import FeatureStore
from interp.features.identity import check_table
from interp.files import atomic
from interp.report import decoder_layout

N_TOKENS = 5
"""Tokens in the text of a latent."""
RANKED = ("verdict", "monosemanticity", "ci_low", "ci_high", "sure", "n_senses", "explanation", "explanation_f1")
NEIGHBOURS = pa.struct([("ids", pa.list_(pa.int64())), ("distances", pa.list_(pa.float64()))])


def write_embedding_atlas(
    features: FeatureStore, out: str | Path, *, ranking: pd.DataFrame | None = None, seed: int = 0
) -> Path:
    """Write the table to `out`, whole or not at all, and return its path. seed: the map's.

    Raises ValueError where the store has no decoder directions, where no latent fires, and for a ranking of others.
    """
    out = Path(out)
    if features.W_dec is None:
        raise ValueError(f"{features.path} has no decoder directions (W_dec), and so no map: scan a dictionary")
    table = features.table().sort_values("latent")
    table = table[table["n_active"] > 0].reset_index(drop=True)
    if table.empty:
        raise ValueError(f"no latent of {features.path} fires: there is nothing to map")
    latents = table["latent"].to_numpy()
    points = decoder_layout(np.asarray(features.W_dec, np.float32)[latents], seed=seed)
    columns: dict[str, Any] = {"latent": latents, "x": points[:, 0], "y": points[:, 1]}
    columns |= {name: table[name] for name in ("density", "n_active", "max", "token_entropy")}
    made = pd.DataFrame(columns)
    if ranking is not None:
        check_table(features, ranking, "the ranking")
        known = ranking[["latent", *(name for name in RANKED if name in ranking)]]
        made = made.merge(pd.DataFrame(known), on="latent", how="left")
    made.insert(1, "text", _texts(features, made))
    arrow = pa.Table.from_pandas(made, preserve_index=False)
    with atomic(out) as file:
        pq.write_table(arrow.append_column("neighbors", _neighbours(features, latents)), file)
    return out


def _texts(features: FeatureStore, made: pd.DataFrame) -> list[str]:
    """What a latent is found by: its rule, and the tokens it fires on most."""
    query = f"""select latent, token from tokens where "offset" = 0
        qualify row_number() over (partition by latent order by n desc, token) <= {N_TOKENS}
        order by latent, n desc, token"""
    by_latent = features.sql(query).groupby("latent")["token"].agg(list)
    rules = made["explanation"].fillna("") if "explanation" in made else [""] * len(made)
    texts = []
    for latent, rule in zip(made["latent"], rules, strict=True):
        tokens = " ".join(repr(features.vocab[token]) for token in by_latent.get(latent, []))
        texts.append(f"#{latent} {rule} [{tokens}]" if rule else f"#{latent} [{tokens}]")
    return texts


def _neighbours(features: FeatureStore, latents: np.ndarray) -> pa.Array:
    """Of each row, the rows of its nearest latents among those here."""
    rows = {int(latent): row for row, latent in enumerate(latents)}
    found: list[dict[str, list]] = [{"ids": [], "distances": []} for _ in latents]
    table = features.table("neighbours").sort_values(["latent", "rank"])
    for latent, other, cosine in zip(table["latent"], table["other"], table["cosine"], strict=True):
        if latent in rows and other in rows:
            found[rows[latent]]["ids"].append(rows[other])
            found[rows[latent]]["distances"].append(1.0 - float(cosine))
    return pa.array(found, NEIGHBOURS)
