"""Scan what every latent of a dictionary fires on, and open the store of the tables that this leaves.

    codes = dictionary.codes(x) of every row of an ActivationStore     one pass over activations, resumable
    tables from the codes in token order                               `interp.features.table_passes`

A latent fires where z > 0 (`interp.codes`). Any other producer of codes can make a store: `FeatureStore.from_codes`.
The fit half of the sequences (`fit_half`) is for choosing thresholds and explanations, the other for measuring them.
"""

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cached_property, partial
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import scipy.sparse
import torch
from jaxtyping import Bool, Float, Float64, Int
from torch import Tensor

from interp.activations import StoredRows
from interp.activations.harvesting import check_harvested
from interp.activations.hooks import check_own_hook, words_of
from interp.activations.stream import ActivationStream
from interp.codes.code_store import META, REMEDY, CodeStore
from interp.codes.sparse_codes import Dictionary, SparseCodes, check_one_hook, limit_on
from interp.display.cards import card, facts, table
from interp.display.pictures import Renderer
from interp.features.by_document import DocumentMatrix, Documents, Pooling, document_matrix
from interp.features.decoder import Decoder, LogitPath, check_unembedding, logit_path
from interp.features.encode import Contributions, as_codes, encode_store, pieces_of, write_codes
from interp.features.feature import Feature
from interp.features.scan import (
    CODES,
    CONTRIBUTIONS,
    SCAN,
    Scan,
    check_labelled,
    dictionary_digest,
    masks_of,
    read_meta,
    tensor_digest,
)
from interp.features.scan_input import ScanConfig, fit_half
from interp.features.table_passes import SCHEMAS
from interp.runtime.processes import part_of, processes
from interp.runtime.progress import Progress, no_progress
from interp.storage.addresses import address_of, local_copy
from interp.storage.checks import check_finite, check_token_ids, validated
from interp.storage.files import atomic, open_tensors, read_any_json, read_json
from interp.storage.folder_kinds import check_exists, folder_of
from interp.storage.folders import MADE_OF, holds, read_manifest, verify
from interp.storage.parts import PartNote, whole_of

__all__ = ["FeatureStore", "ScanConfig", "fit_half", "scan_features", "scan_part"]


class FeatureStore:
    """The finished scan in a folder: Parquet tables, the codes of every row, tokens, vocabulary and decoder."""

    def __init__(self, path: str | Path):
        self.path = Path(path)
        self.meta = read_meta(self.path)
        self.d_sae: int = self.meta["d_sae"]
        self.n_ctx: int = self.meta["n_ctx"]
        self.views: dict[str, Path] = {}
        """Other Parquet files that `sql` reads as well, by name, each as soon as it is there."""
        self.render: Renderer | None = None
        """Draws a row that is not text, for notebooks and the page: a function of the row id (input · n_ctx + position)
        that gives an array [height, width] or [height, width, 3 or 4] of bytes or of floats in 0..1, a picture of PIL,
        or the bytes of a PNG file. It is yours, and not kept: set it again on a store that is opened again."""

    @classmethod
    def open(cls, path: str | Path) -> "FeatureStore":
        """Open the store in a folder, in a run folder, or at an address such as s3://bucket/features, of which a copy
        is kept here (`storage.addresses.local_copy`)."""
        if (address := address_of(path)) is not None:
            return cls(local_copy(address))
        return cls(folder_of(path, "features"))

    @classmethod
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
        settings: ScanConfig | None = None,
        overwrite: bool = False,
        progress: Progress | None = None,
    ) -> "FeatureStore":
        """Make a store from codes of any producer, sparse or not, rows in token order (row = seq * n_ctx + pos).

        tokens: None for rows that are not text (`has_text`). Without `vocab` tokens are named by their ids, and nothing
        is known of how they are spelt (`is_spelt`). With `W_dec` and `W_U` the logit effects are those of W_dec W_U,
        each latent's mean taken off.
        Raises ValueError where there is no token or no latent, or the shapes do not fit.
        """
        check_finite(W_dec=W_dec, W_U=W_U)
        tokens = None if tokens is None else torch.as_tensor(tokens)
        codes = as_codes(codes, codes.shape[0] if tokens is None else tokens.numel(), W_dec)
        path = LogitPath("no logit effects: W_dec and W_U were not both given")
        if W_dec is not None and W_U is not None:
            if W_dec.shape[1] != W_U.shape[0]:
                raise ValueError(f"W_dec is {tuple(W_dec.shape)}, W_U {tuple(W_U.shape)}: inner widths must agree")
            if tokens is None:
                raise ValueError("W_U gives logits of tokens, but the rows are not text: leave it out")
            check_unembedding(W_U, tokens)
            path = LogitPath("logit effects W_dec W_U", W_dec.detach().float().cpu(), W_U.detach().float().cpu())
        read = (len(codes), 1) if tokens is None else tokens
        scan = Scan(read, vocab, labels, settings, hook_name, progress)
        inputs = {"codes": tensor_digest(codes.offsets, codes.latents, codes.values), "hook": hook_name}
        inputs["decoder"] = tensor_digest(W_dec, W_U)
        with scan.begin(Path(out), inputs, codes.d_sae, 0, overwrite) as store:
            if store is not None:
                write_codes(codes, store)
                del codes  # they may be the caller's last
                scan.finish(store, Decoder(W_dec, None, path))
        return cls(out)

    def __getitem__(self, latent: int) -> Feature:
        """Return one feature; in a notebook it shows itself. Raises IndexError unless 0 ≤ latent < d_sae."""
        if not 0 <= latent < self.d_sae:
            raise IndexError(f"latent {latent} is not in 0..{self.d_sae - 1}")
        row = self.sql(f"select * from features where latent = {int(latent)}").iloc[0]
        top = f"select * from examples where latent = {int(latent)} and kind = 'top' order by rank"
        return Feature(int(latent), row, self.sql(top), self.vocab, has_text=self.has_text, render=self.render)

    def __len__(self) -> int:
        return self.d_sae

    def __repr__(self) -> str:
        hook = f", {self.meta['hook_name']}" if self.meta["hook_name"] else ""
        return f"FeatureStore({self.d_sae:,} latents, {self.meta['n_tokens']:,} tokens{hook})"

    def _repr_html_(self) -> str:
        known: dict[str, Any] = {"latents that fire": self.meta["n_alive"], "contexts of": f"{self.n_ctx} tokens"}
        known |= {"L0": f"{self.meta['l0']:.1f}", "folder": self.path}
        tables = ((name, ", ".join(schema.names)) for name, schema in SCHEMAS.items())
        return card(self, facts(known), table(("table", "columns"), tables))

    @cached_property
    def tokens(self) -> Int[Tensor, "seq pos"]:
        file = self.path / "tokens.safetensors"
        with open_tensors(file, "scan again") as stored:
            tokens = stored.get_tensor("tokens")
        try:
            check_token_ids(tokens, len(self.vocab))
        except ValueError as error:
            raise ValueError(f"{file} does not fit vocab.json ({error}): scan again") from None
        if tokens.shape[1] != self.n_ctx:
            raise ValueError(
                f"{file} has sequences of {tokens.shape[1]} tokens, by meta.json of {self.n_ctx}: scan again"
            )
        return tokens

    @cached_property
    def codes(self) -> CodeStore:
        """The codes of the tokens scanned. Raises ValueError, naming the file, where they are damaged or of other
        tokens."""
        codes = CodeStore(self.path / CODES)
        sizes = self.meta["n_sequences"] * self.n_ctx, self.d_sae
        if (len(codes), codes.d_sae) != sizes:
            raise ValueError(
                f"{codes.path / META} has {len(codes)} rows and {codes.d_sae} latents, "
                f"the scan has {sizes[0]} and {sizes[1]}: {REMEDY}"
            )
        return codes

    @cached_property
    def vocab(self) -> list[str]:
        file = self.path / "vocab.json"
        return validated(list[str], read_any_json(file, "scan again"), file, "scan again")

    @property
    def is_spelt(self) -> bool:
        """Whether `vocab` is how tokens are spelt; if not, the scan was given none, and it holds their ids."""
        return self.meta["vocab"] == "given"

    @property
    def has_text(self) -> bool:
        """Whether the rows are text. Where they are not, as those of images, each is a token of its own, named by its
        number."""
        return self.meta["vocab"] != "rows"

    @cached_property
    def W_dec(self) -> Float[Tensor, "d_sae d_in"] | None:
        file = self.path / "decoder.safetensors"
        if not file.exists():
            return None
        with open_tensors(file, "scan again") as stored:
            W_dec = stored.get_tensor("W_dec")
        if W_dec.ndim != 2 or len(W_dec) != self.d_sae or not bool(W_dec.isfinite().all()):
            raise ValueError(f"{file} does not hold finite numbers [{self.d_sae}, d_in]: scan again")
        return W_dec

    def fit_half(self) -> Bool[Tensor, " seq"]:
        """Mark the sequences that thresholds and explanations are fitted on."""
        return fit_half(len(self.tokens))

    def matrix(
        self,
        *,
        how: Pooling = "max",
        documents: Int[Tensor, "seq pos"] | None = None,
        labels: Mapping[str, Bool[Tensor, "seq pos"]] | None = None,
        store: StoredRows | None = None,
        progress: Progress = no_progress,
    ) -> DocumentMatrix:
        """Pool what fires in each document, for scikit-learn: `latents` (CSR [document, d_sae]), and of the same
        documents `tokens` (counts), `activations` and `labels` (`features.by_document`).

        how: the largest activation of a latent in the document, or its mean over the document's tokens. documents: the
        id of the document that each position is in, below 0 for none; None: each sequence is a document. labels: masks
        of the tokens scanned. store: the activations that were scanned, for `activations`, pooled alike.
        Raises ValueError for an unknown `how`, and for documents, labels or a store of other tokens.
        """
        if store is not None and not self.is_scan_of(store):
            raise ValueError(
                f"{store.location} holds other activations than {self.path} is a scan of: "
                "give the store that was scanned"
            )
        check_labelled(labels, self.tokens, str(self.path))
        return document_matrix(
            self.codes,
            self.tokens,
            len(self.vocab) if self.has_text else None,
            Documents.of(self.codes, self.tokens.shape, documents),
            how,
            masks_of(labels, self.tokens.shape, is_text=self.has_text),
            store,
            self.meta["hook_name"],
            progress=progress,
        )

    def is_scan_of(self, store: StoredRows) -> bool:
        """Tell whether the rows of a store are those scanned: by their tokens or, where they are not text, by its
        digest."""
        if store.tokens is None:
            scanned = read_json(self.path / SCAN, "scan again")
            return not self.has_text and scanned.get("activations") == store.fingerprint
        return self.has_text and torch.equal(self.tokens, store.tokens)

    def table(self, name: str = "features") -> pd.DataFrame:
        """Return one table as pandas; list columns hold arrays."""
        if name not in SCHEMAS:
            raise ValueError(f"no table {name!r}; there are {', '.join(SCHEMAS)}")
        return pd.read_parquet(self.path / f"{name}.parquet")

    def column(self, name: str) -> Float64[np.ndarray, " d_sae"]:
        """Read a column of numbers of the features table, in the order of the latents; NaN where the scan had nothing
        to make it of."""
        import pyarrow.parquet as pq

        file = self.path / "features.parquet"
        if name not in pq.read_schema(file).names:
            return np.full(self.d_sae, np.nan)
        return pd.read_parquet(file, columns=sorted({"latent", name})).sort_values("latent")[name].to_numpy(float)

    def sql(self, query: str) -> pd.DataFrame:
        """Ask DuckDB, to which every table is a view, and every file of `views`: a run that opens its features names
        its effects there. The query reaches no file and changes nothing."""
        import duckdb
        import pyarrow.dataset

        with duckdb.connect(config={"enable_external_access": "false"}) as connection:
            tables = {name: self.path / f"{name}.parquet" for name in SCHEMAS}
            for name, file in {**self.views, **tables}.items():
                if name in tables or file.exists():
                    connection.register(name, pyarrow.dataset.dataset(file))
            try:
                return connection.execute(query).df()
            except duckdb.Error as error:
                raise ValueError(f"query failed: {error}") from error


@torch.no_grad()
def scan_features(
    sae: Dictionary,
    store: StoredRows,
    hook: str,
    out: str | Path,
    *,
    model: torch.nn.Module | None = None,
    vocab: Sequence[str] | None = None,
    labels: Mapping[str, Bool[Tensor, "seq pos"]] | None = None,
    settings: ScanConfig | None = None,
    parts: Sequence[str | Path] = (),
    overwrite: bool = False,
    progress: Progress | None = None,
) -> FeatureStore:
    """Encode every row of the store and write the statistics of every latent to `out`.

    `model` gives the direct logit effects, where a direct path from the hook to the logits is known. `vocab` has one
    string a token id, by default as the model's tokenizer shows it or, where there is none, the id; `labels` one mask
    a label. Rows that are not text (images, audio, rows of a table) are scanned as well (`has_text`): they have no
    vocab and no logit effects, and a label may be a mask of the inputs, [seq]. A scan that was cut off goes on after
    the last shard it encoded; a finished one is opened; `overwrite` makes it again, and replaces another. Rows above
    the dictionary's norm limit count as left out.

    Under `torchrun` all processes call this with the same arguments, and `out` is a folder that all of them see: they
    share out the rows to encode, the text to count and the latents to describe. The tables are those of one process.
    `parts`: the folders of all parts that `scan_part` encoded; their codes are taken as they are.

    Raises ValueError if the widths differ, if the dictionary was trained on another hook that the store has too
    (`hooks.check_own_hook`), if the labels are those of other tokens or the model another than was harvested, if `out`
    holds the scan of something else, or if the parts are not those of one encoding by this dictionary, each once.
    """
    _check_scannable(sae, store, hook, model)
    hook = store.name_of(hook)
    tokens = store.tokens
    n_ctx = store.n_ctx or 1
    vocab = words_of(model) if vocab is None and model is not None and tokens is not None else vocab
    read = (store.n_ids // n_ctx, n_ctx) if tokens is None else tokens
    team = processes()
    scan = Scan(read, vocab, labels, settings, hook, progress, team)
    encoding = _encoding(sae, store, hook)
    folders = _check_parts(parts, encoding) if parts else []
    inputs = {**encoding, "model": tensor_digest(getattr(model, "W_U", None))}
    written = hook if sae.kind == "sae" else sae.metadata.get("hook_name_out", "")
    with scan.begin(Path(out), inputs, sae.d_sae, len(store), overwrite) as codes:
        if codes is not None:
            if folders:
                team.first_does(lambda: _take_parts(folders, scan.folder))
                codes = CodeStore(codes.path)
            contributions = Contributions(sae, scan.folder / CONTRIBUTIONS)
            pieces = pieces_of(store)
            pieces_here = pieces[part_of(len(pieces), team.rank, team.count)]
            team.all_do(partial(encode_store, sae, store, hook, codes, contributions, scan.advance, pieces_here))
            codes = CodeStore(codes.path)
            decoder = Decoder(sae.W_dec, getattr(sae, "W_enc", None), fvu_rise=contributions.fvu_rise(len(pieces)))
            if tokens is None:
                decoder = replace(decoder, logits=LogitPath("no logit effects: the rows are not text"))
            elif model is not None:
                sample = tokens[:: max(1, len(tokens) // 16)][:16]
                decoder = replace(decoder, logits=logit_path(sae.W_dec, model, written, sample))
            scan.finish(codes, decoder)
    return FeatureStore(out)


@torch.no_grad()
def scan_part(
    sae: Dictionary,
    store: StoredRows,
    hook: str,
    out: str | Path,
    part: tuple[int, int],
    *,
    overwrite: bool = False,
    progress: Progress | None = None,
) -> Path:
    """Encode a part of the store's rows, for `scan_features(…, parts=…)`, which needs neither these machines nor that
    they know of each other. Returns the part's folder.

    part: (rank, count), with the rank in 0..count−1. One that was cut off goes on. Raises
    ValueError as `scan_features` does.
    """
    _check_scannable(sae, store, hook, None)
    hook = store.name_of(hook)
    out = Path(out)
    team = processes()
    pieces = pieces_of(store, part)
    made_of = {"kind": "scan part", "part": list(part), **_encoding(sae, store, hook)}
    team.check_alike(made_of, "scans")
    if not overwrite and team.all_do(lambda: holds(out, made_of)):
        return out
    total = sum(piece.rows.stop - piece.rows.start for piece in pieces)
    done = 0

    def advance(rows: int, note: str) -> None:
        nonlocal done
        done = min(done + rows * team.count, total)
        (progress or no_progress)(done, total, note)

    with team.whole_folder(out, made_of, resume=True, overwrite=overwrite) as new:
        codes_folder = new / CODES
        team.first_does(lambda: CodeStore.create(codes_folder, n_rows=store.n_ids, d_sae=sae.d_sae))
        pieces_here = pieces[part_of(len(pieces), team.rank, team.count)]
        contributions = Contributions(sae, new / CONTRIBUTIONS)
        team.all_do(
            partial(encode_store, sae, store, hook, CodeStore(codes_folder), contributions, advance, pieces_here)
        )
        team.first_does(lambda: CodeStore(codes_folder).finish())
    return out


def _encoding(sae: Dictionary, store: StoredRows, hook: str) -> dict[str, str]:
    """Return digests of everything that the codes depend on."""
    limit = limit_on(sae, store, hook)
    encoding = {"dictionary": dictionary_digest(sae), "activations": store.fingerprint, "hook": hook}
    return encoding if limit is None else {**encoding, "norm_limit": str(limit)}


def _check_parts(folders: Sequence[str | Path], encoding: Mapping[str, str]) -> list[Path]:
    """Check that the folders hold all parts, every byte as it was written. Returns them in order. Raises ValueError if
    they are not all parts of this encoding."""
    notes = []
    for folder in folders:
        check_exists(folder)
        made_of = dict((read_manifest(Path(folder)) or {}).get(MADE_OF, {}))
        is_part = made_of.pop("kind", "") == "scan part"
        part = made_of.pop("part", None)
        notes.append(PartNote(str(folder), part if is_part else None, made_of))
    ordered = [Path(folders[i]) for i in whole_of(notes, encoding)]
    for folder in ordered:
        verify(folder)
    return ordered


def _take_parts(parts: Sequence[Path], folder: Path) -> None:
    """Link, or copy where the disk is another, what the parts encoded into the folder of a scan."""
    for inside in (CODES, CONTRIBUTIONS):
        (folder / inside).mkdir(exist_ok=True)
        for file in chain.from_iterable((part / inside).glob("*.safetensors") for part in parts):
            if (target := folder / inside / file.name).exists():
                continue
            try:
                target.hardlink_to(file)
            except OSError:
                with atomic(target) as new:
                    shutil.copyfile(file, new)


def _check_scannable(sae: Dictionary, store: StoredRows, hook: str, model: Any) -> None:
    if isinstance(store, ActivationStream):
        raise ValueError("a stream keeps no rows: harvest a store to scan them")
    if not hasattr(sae, "W_dec") or not hasattr(store, "shard"):
        raise ValueError(
            f"sae is a {type(sae).__name__}, store a {type(store).__name__}: the order is (sae, store, hook, out)"
        )
    check_finite(W_dec=sae.W_dec, b_dec=sae.b_dec)
    check_one_hook(sae)
    if store.d(hook) != sae.d_in:
        raise ValueError(f"the dictionary reads width {sae.d_in}, but the store's {hook} has width {store.d(hook)}")
    check_own_hook(sae, hook, store.hook_names, store.location)
    if model is not None and store.tokens is not None:
        check_harvested(store, model, hook)
        check_unembedding(getattr(model, "W_U", None), store.tokens)
