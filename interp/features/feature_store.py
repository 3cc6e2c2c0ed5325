"""Open a finished scan: its tables, the codes of every row, tokens, vocabulary and decoder.

`scan_features` makes one from a dictionary and a store, `FeatureStore.from_codes` from the codes of any
producer. The fit half of the sequences (`scan_input.fit_half`) is for choosing thresholds and explanations, the other
half for measuring them.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import scipy.sparse
import torch
from jaxtyping import Bool, Float, Float64, Int
from torch import Tensor

from interp.activations import StoredRows
from interp.checks.arguments import check_finite, check_token_ids
from interp.checks.errors import DamagedError, InterpError, did_you_mean
from interp.checks.json_values import validate_json
from interp.checks.limits import check_value
from interp.codes.code_store import META_FILE, SCAN_REMEDY, CodeStore
from interp.codes.sparse_codes import SparseCodes
from interp.display.cards import card, show_facts, show_table
from interp.display.pictures import Renderer
from interp.features.by_document import DocumentMatrix, Documents, Pooling, document_matrix
from interp.features.decoder import Decoder
from interp.features.encode_store import write_codes
from interp.features.feature import Feature
from interp.features.label_masks import check_labelled, masks_of
from interp.features.logit_path import LogitPath, check_unembedding
from interp.features.scan_config import ScanConfig
from interp.features.scan_digests import tensor_digest
from interp.features.scan_folder import CODES, DECODER, TOKENS, VOCAB, ScanFolder, read_meta
from interp.features.scan_input import fit_half
from interp.features.scan_tables import SCHEMAS
from interp.features.sql_queries import query_tables
from interp.runtime.progress import Progress, no_progress
from interp.runtime.progress_bar import shows_progress
from interp.storage.addresses import as_local_path
from interp.storage.artifacts import folder_of
from interp.storage.files import open_tensors, read_any_json


class FeatureStore:
    """A finished scan in a folder: Parquet tables, the codes of every row, tokens, vocabulary and decoder."""

    def __init__(self, path: str | Path):
        self.path = as_local_path(path)
        self.meta = read_meta(self.path)
        self.d_sae: int = self.meta["d_sae"]
        self.n_ctx: int = self.meta["n_ctx"]
        self.table_names = tuple(SCHEMAS)
        self.views: dict[str, Path | Callable[[], Path]] = {}
        """Further Parquet files by name, which `sql` can read as soon as they exist; or functions that return one, and
        raise what a query of it raises as long as there is none."""
        self.render: Renderer | None = None
        """Draws a row that is not text, for notebooks and the page. It is a function of the row id (input · n_ctx +
        position). It returns an array [height, width] or [height, width, 3 or 4] of bytes or of floats in 0..1, a
        picture of PIL, or the bytes of a PNG file. It is not stored: set it again after reopening the store."""

    @classmethod
    def open(cls, path: str | Path) -> "FeatureStore":
        """Open the store in a folder, in a run folder, or at an address such as s3://bucket/features, which is cached
        locally (`storage.remote_folders`)."""
        return cls(folder_of(path, "features"))

    @classmethod
    @shows_progress
    def from_codes(
        cls,
        tokens: Int[Tensor, "seq pos"] | None,
        codes: SparseCodes | scipy.sparse.csr_matrix,
        out: str | Path,
        *,
        W_dec: Float[Tensor, "d_sae d_in"] | None = None,
        W_U: Float[Tensor, "d_in d_vocab"] | None = None,
        vocab: Sequence[str] | None = None,
        labels: Mapping[str, Bool[Tensor, "seq pos"]] | None = None,
        hook_name: str = "",
        config: ScanConfig | None = None,
        overwrite: bool = False,
        progress: Progress = no_progress,
    ) -> "FeatureStore":
        """Make a store from codes of any producer, sparse or dense, with rows in token order (row = seq * n_ctx + pos).

        tokens: None for rows that are not text (`has_text`). Without `vocab` tokens are named by their ids, and nothing
        is known of how they are spelt (`has_vocab`). With `W_dec` and `W_U` the logit effects are those of W_dec W_U,
        each latent's mean taken off.
        Raises ValueError if there is no token or no latent, or the shapes do not fit.
        """
        check_finite(W_dec=W_dec, W_U=W_U)
        tokens = None if tokens is None else torch.as_tensor(tokens)
        codes = SparseCodes.of(codes)
        if codes.d_sae < 1:
            raise InterpError(f"codes have d_sae={codes.d_sae} latents: at least one is needed")
        if W_dec is not None and len(W_dec) != codes.d_sae:
            raise InterpError(f"W_dec has {len(W_dec)} rows, but the codes have {codes.d_sae} latents")
        codes.check(len(codes) if tokens is None else tokens.numel())
        path = LogitPath("no logit effects: W_dec and W_U were not both given")
        if W_dec is not None and W_U is not None:
            if W_dec.shape[1] != W_U.shape[0]:
                raise InterpError(f"W_dec is {tuple(W_dec.shape)}, W_U {tuple(W_U.shape)}: inner widths must agree")
            if tokens is None:
                raise InterpError("W_U gives logits of tokens, but the rows are not text: leave it out")
            check_unembedding(W_U, tokens)
            path = LogitPath("logit effects W_dec W_U", W_dec.detach().float().cpu(), W_U.detach().float().cpu())
        read = (len(codes), 1) if tokens is None else tokens
        scan = ScanFolder(read, vocab=vocab, labels=labels, config=config, hook_name=hook_name, progress=progress)
        inputs = {"codes": tensor_digest(codes.offsets, codes.latents, codes.values), "hook": hook_name}
        inputs["decoder"] = tensor_digest(W_dec, W_U)
        with scan.begin(out, inputs, d_sae=codes.d_sae, overwrite=overwrite) as store:
            if store is not None:
                write_codes(codes, store)
                del codes  # they may be the caller's last
                scan.finish(store, Decoder(W_dec, None, path))
        return cls.open(out)

    def __getitem__(self, latent: int) -> Feature:
        """Return one feature, which shows itself in a notebook. Raises as `several` does."""
        [feature] = self.several([latent]).values()
        return feature

    def several(self, latents: Collection[int]) -> dict[int, Feature]:
        """Return some features by their latents, from one reading of the tables. Raises IndexError unless
        0 ≤ latent < d_sae, and ValueError for what is not a whole number."""
        numbers = (latent.item() if isinstance(latent, Tensor) else latent for latent in latents)
        latents = [check_value("latent", number, int) for number in numbers]
        if outside := [latent for latent in latents if not 0 <= latent < self.d_sae]:
            raise IndexError(f"latent {outside[0]} is not in 0..{self.d_sae - 1}")
        if not latents:
            return {}
        listed = ", ".join(map(str, latents))
        rows = self.sql(f"select * from features where latent in ({listed})")
        top = self.sql(f"select * from examples where latent in ({listed}) and kind = 'top' order by rank")
        facts = {row["latent"]: row for _, row in rows.iterrows()}
        examples = {latent: table.reset_index(drop=True) for latent, table in top.groupby("latent")}
        attributes: Any = {"has_text": self.has_text, "has_logits": self.has_logits, "render": self.render}
        return {
            latent: Feature(latent, facts[latent], examples.get(latent, top[:0]), self.vocab, **attributes)
            for latent in latents
        }

    def __len__(self) -> int:
        return self.d_sae

    def __repr__(self) -> str:
        hook = f", {self.meta['hook_name']}" if self.meta["hook_name"] else ""
        unit = "tokens" if self.has_text else "rows"
        return f"FeatureStore({self.d_sae:,} latents, {self.meta['n_tokens']:,} {unit}{hook})"

    def _repr_html_(self) -> str:
        facts: dict[str, Any] = {"latents that fire": self.meta["n_alive"]}
        if self.has_text:
            facts["contexts of"] = f"{self.n_ctx} tokens"
        facts |= {"L0": f"{self.meta['l0']:.1f}", "folder": self.path}
        tables = ((name, ", ".join(schema.names)) for name, schema in SCHEMAS.items())
        return card(self, show_facts(facts), show_table(("table", "columns"), tables))

    @cached_property
    def tokens(self) -> Int[Tensor, "seq pos"]:
        file = self.path / TOKENS
        with open_tensors(file, "scan again") as stored:
            tokens = stored.get_tensor("tokens")
        try:
            check_token_ids(tokens, len(self.vocab))
        except ValueError as error:
            raise DamagedError(f"{file} does not fit vocab.json ({error}): scan again") from None
        if tokens.shape[1] != self.n_ctx:
            raise DamagedError(
                f"{file} has sequences of {tokens.shape[1]} tokens, by meta.json of {self.n_ctx}: scan again"
            )
        return tokens

    @cached_property
    def codes(self) -> CodeStore:
        """The codes of the scanned tokens. Raises DamagedError, naming the file, if they are damaged or belong to other
        tokens."""
        codes = CodeStore(self.path / CODES)
        sizes = self.meta["n_sequences"] * self.n_ctx, self.d_sae
        if (len(codes), codes.d_sae) != sizes:
            raise DamagedError(
                f"{codes.path / META_FILE} has {len(codes)} rows and {codes.d_sae} latents, "
                f"the scan has {sizes[0]} and {sizes[1]}: {SCAN_REMEDY}"
            )
        return codes

    @cached_property
    def vocab(self) -> list[str]:
        file = self.path / VOCAB
        return validate_json(list[str], read_any_json(file, "scan again"), file, "scan again")

    @property
    def has_vocab(self) -> bool:
        """Whether `vocab` has the strings of the tokens. If not, the scan was made without a vocabulary, and `vocab`
        has their ids."""
        return self.meta["vocab"] == "given"

    @property
    def has_text(self) -> bool:
        """Whether the rows are text. If not, as for images, each row is a token of its own, named by its number."""
        return self.meta["vocab"] != "rows"

    @cached_property
    def has_logits(self) -> bool:
        """Whether the scan had a direct path to the logits, and so knows each latent's effects on them."""
        return bool(self.sql("select count(top_logit_tokens) from features").iloc[0, 0])

    @cached_property
    def W_dec(self) -> Float[Tensor, "d_sae d_in"] | None:
        file = self.path / DECODER
        if not file.exists():
            return None
        with open_tensors(file, "scan again") as stored:
            W_dec = stored.get_tensor("W_dec")
        if W_dec.ndim != 2 or len(W_dec) != self.d_sae or not bool(W_dec.isfinite().all()):
            raise DamagedError(f"{file} does not hold finite numbers [{self.d_sae}, d_in]: scan again")
        return W_dec

    @property
    def d_in(self) -> int | None:
        """The width of the decoder; None if there is none."""
        return None if self.W_dec is None else self.W_dec.shape[1]

    def fit_half(self) -> Bool[Tensor, " seq"]:
        """Mark the sequences on which thresholds and explanations are fitted."""
        return fit_half(len(self.tokens))

    @shows_progress
    def matrix(
        self,
        *,
        how: Pooling = "max",
        documents: Int[Tensor, "seq pos"] | None = None,
        labels: Mapping[str, Bool[Tensor, "seq pos"]] | None = None,
        store: StoredRows | None = None,
        progress: Progress = no_progress,
    ) -> DocumentMatrix:
        """Pool the firings in each document, for scikit-learn: `latents` (CSR [document, d_sae]) and, for the same
        documents, `tokens` (counts), `activations` and `labels` (`features.by_document`).

        how: the largest activation of a latent in the document, or its mean over the document's tokens.
        documents: the id of the document that each position is in, below 0 for none; without it each sequence is a
        document.
        labels: masks of the tokens scanned.
        store: the activations that were scanned, for `activations`, pooled in the same way.
        Raises ValueError for an unknown `how`, for documents or labels of other tokens, and for another store.
        """
        if store is not None and not self.is_scan_of(store):
            raise InterpError(
                f"{store.location} holds other activations than {self.path} is a scan of: "
                "give the store that was scanned"
            )
        check_labelled(labels, self.tokens, str(self.path))
        return document_matrix(
            self.codes,
            self.tokens,
            Documents.of(self.codes, self.tokens.shape, documents),
            n_vocab=len(self.vocab) if self.has_text else None,
            how=how,
            labels=masks_of(labels, self.tokens.shape, is_text=self.has_text),
            store=store,
            hook=self.meta["hook_name"],
            progress=progress,
        )

    @property
    def inputs(self) -> dict[str, str]:
        """Digests of all inputs of the scan."""
        return self.meta["inputs"]

    def has_rows_of(self, store: StoredRows) -> bool:
        """Return whether the rows of a store are those that were scanned. Text is compared by its tokens, other rows by
        the digest of the store."""
        if store.tokens is None:
            return not self.has_text and self.inputs.get("activations") == store.digest
        return self.has_text and torch.equal(self.tokens, store.tokens)

    def is_scan_of(self, store: StoredRows) -> bool:
        """Return whether the activations in a store are those that were scanned: they have the same rows, and are in
        the same store or from a model with the same weights. Codes of another producer (`from_codes`) are compared by
        their rows alone, since their activations are not known."""
        if not self.has_rows_of(store):
            return False
        if self.inputs.get("activations", store.digest) == store.digest:
            return True
        return self.meta["weights"] is not None and self.meta["weights"] == store.weights

    def table(self, name: str = "features") -> pd.DataFrame:
        """Return one table as a pandas DataFrame, in which list columns contain arrays."""
        if name not in self.table_names:
            raise InterpError(f"no table {name!r}; there are {', '.join(self.table_names)}")
        return pd.read_parquet(self.path / f"{name}.parquet")

    def column(self, name: str) -> Float64[np.ndarray, " d_sae"]:
        """Return a column of numbers of the features table, in the order of the latents. It is NaN if the scan lacked
        the input for it. Raises ValueError for a name that the table does not have in any scan, and for a column of
        texts or lists."""
        import pyarrow as pa
        import pyarrow.parquet as pq

        file, schema = self.path / "features.parquet", SCHEMAS["features"]
        if name not in schema.names:
            raise InterpError(f"no column {name!r} in the features table; {did_you_mean(name, schema.names)}")
        kind = schema.field(name).type
        if not (pa.types.is_integer(kind) or pa.types.is_floating(kind)):
            raise InterpError(f"the column {name!r} is not of numbers: read it by table()[{name!r}]")
        if name not in pq.read_schema(file).names:
            return np.full(self.d_sae, np.nan)
        return pd.read_parquet(file, columns=sorted({"latent", name})).sort_values("latent")[name].to_numpy(float)

    def sql(self, query: str) -> pd.DataFrame:
        """Query the tables with DuckDB. Every table is a view, and so is every file of `views`, among which a run puts
        its effects. A query cannot reach files or change anything. Raises ValueError for a query that fails, is empty,
        ends in a change, or begins or ends a transaction."""
        tables = {name: self.path / f"{name}.parquet" for name in self.table_names}
        return query_tables(query, tables, self.views)
