"""Scan the firings of every latent of a dictionary.

    codes = dictionary.codes(x) of every row of an ActivationStore     one pass over activations, resumable
    tables from the codes in token order                               `interp.features.scan_tables`

A latent fires where z > 0 (`interp.codes`). One process scans a whole store. Several processes divide it (`torchrun`).
Machines that are not connected scan one part each (`scan_part`), and `scan_features(parts=…)` joins the parts.
`scan_saes` scans several dictionaries of one store, shard by shard. If the rows come from a model that runs during the
scan, one pass of it serves all dictionaries.
"""

import shutil
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from itertools import chain, groupby
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Bool
from torch import Tensor

from interp.activations import StoredRows
from interp.activations.harvesting import check_harvested
from interp.activations.hooks import check_trained_hook, token_strings_of
from interp.checks.arguments import check_finite
from interp.checks.errors import InterpError
from interp.codes.code_store import CodeStore
from interp.codes.dictionary import Dictionary, W_enc_of, check_one_hook
from interp.codes.training_exclusions import norm_limit_on
from interp.features.decoder import Decoder
from interp.features.encode_store import Piece, encode_store, pieces_of
from interp.features.feature_store import FeatureStore
from interp.features.logit_path import LogitPath, check_unembedding, logit_path
from interp.features.scan_config import ScanConfig
from interp.features.scan_digests import dictionary_digest, tensor_digest
from interp.features.scan_folder import CODES, VARIANCE_EXPLAINED, ScanFolder
from interp.features.variance_explained import VarianceExplained
from interp.runtime.processes import processes, slice_of_part
from interp.runtime.progress import Progress, no_progress, split_progress
from interp.runtime.progress_bar import shows_progress
from interp.storage.artifacts import check_exists
from interp.storage.files import write_atomically
from interp.storage.job_parts import PartNote, order_parts
from interp.storage.manifests import MADE_OF, read_manifest, verify
from interp.storage.remote_folders import local_path


@shows_progress
def scan_features(
    dictionary: Dictionary,
    store: StoredRows,
    hook: str,
    out: str | Path,
    *,
    model: torch.nn.Module | None = None,
    vocab: Sequence[str] | None = None,
    labels: Mapping[str, Bool[Tensor, "seq pos"]] | None = None,
    config: ScanConfig | None = None,
    parts: Sequence[str | Path] = (),
    overwrite: bool = False,
    progress: Progress = no_progress,
) -> FeatureStore:
    """Encode every row of the store and write the statistics of every latent to `out`.

    Rows above the dictionary's norm limit count as left out. Rows that are not text (images, audio, rows of a table)
    can be scanned too (`has_text`). They have no vocab and no logit effects, and a label may be a mask of the inputs,
    [seq]. An interrupted scan resumes after the last encoded shard, and a finished scan is opened.

    model: gives the direct logit effects, if a direct path from the hook to the logits is known.
    vocab: one string per token id. None: from the model's tokenizer; without a tokenizer, ids are used.
    labels: one mask per label.
    config: the amounts of data that are kept for each latent.
    parts: the folders of all parts that `scan_part` encoded, whose codes are reused.
    overwrite: repeat a finished scan, and replace any other scan in `out`.
    progress: called with (rows done, all rows, note); the rows are read several times.

    Under `torchrun` all processes call this with the same arguments, and `out` is a folder that all of them can access.
    They divide the rows to encode, the text to count and the latents to describe. The tables are the same as with one
    process.

    Raises ValueError if the widths differ, if the dictionary was trained on another hook that the store has too
    (`hooks.check_trained_hook`), if the labels belong to other tokens, if the model is not the harvested one, if `out`
    contains another scan, or if the parts are not all parts of one encoding by this dictionary.

    Example:

        features = scan_features(sae, store, hook, "features", model=model, vocab=model.tokenizer.display())
        features.table().nlargest(10, "n_active")  # one row per latent
        features[476]  # one latent with its examples, which shows itself in a notebook
    """
    [features] = scan_saes(
        store,
        {out: (dictionary, hook)},
        model=model,
        vocab=vocab,
        labels=labels,
        config=config,
        parts=parts,
        overwrite=overwrite,
        progress=progress,
    )
    return features


@shows_progress
@torch.no_grad()
def scan_saes(
    store: StoredRows,
    dictionaries: Mapping[str | Path, tuple[Dictionary, str]],
    *,
    model: torch.nn.Module | None = None,
    vocab: Sequence[str] | None = None,
    labels: Mapping[str, Bool[Tensor, "seq pos"]] | None = None,
    config: ScanConfig | None = None,
    parts: Sequence[str | Path] = (),
    overwrite: bool = False,
    progress: Progress = no_progress,
) -> list[FeatureStore]:
    """Scan several dictionaries of a store in one pass over its shards, each as `scan_features` does, which describes
    the options and the errors.

    dictionaries: the folder of each scan, with the dictionary and its hook.
    """
    for dictionary, hook in dictionaries.values():
        _check_scannable(dictionary, store, hook, model)
    tokens = store.tokens
    if vocab is None and model is not None and tokens is not None:
        vocab = token_strings_of(model)
    n_ctx = store.n_ctx or 1
    world = processes()
    pieces = pieces_of(store)
    ongoing: list[_OngoingScan] = []
    with ExitStack() as folders:
        progress_of_each = split_progress(progress, len(dictionaries))
        for (out, (dictionary, hook)), own_progress in zip(dictionaries.items(), progress_of_each, strict=True):
            scan = ScanFolder(
                (store.n_ids // n_ctx, n_ctx) if tokens is None else tokens,
                vocab=vocab,
                labels=labels,
                config=config,
                hook_name=store.name_of(hook),
                progress=own_progress,
                world=world,
                weights=store.weights,
            )
            encoding = _encoding(dictionary, store, scan.hook_name)
            parts_in_order = _check_parts(parts, encoding) if parts else []
            inputs = {**encoding, "model": tensor_digest(getattr(model, "W_U", None))}
            begun = scan.begin(out, inputs, d_sae=dictionary.d_sae, n_to_encode=len(store), overwrite=overwrite)
            codes = folders.enter_context(begun)
            if codes is None:
                scan.progress(1, 1, "already scanned")
                continue
            if parts_in_order:
                world.first_does(partial(_take_parts, parts_in_order, scan.folder))
                codes = CodeStore(codes.path)
            explained = VarianceExplained(dictionary, scan.folder / VARIANCE_EXPLAINED)
            ongoing.append(_OngoingScan(scan, dictionary, codes, explained))

        def encode() -> None:
            pieces_here = pieces[slice_of_part(len(pieces), world.rank, world.count)]
            for _, shard_pieces in groupby(pieces_here, key=lambda piece: piece.shard):
                pieces_of_shard = list(shard_pieces)
                for each in ongoing:
                    each.encode(store, pieces_of_shard)

        world.all_do(encode)
        for each in ongoing:
            each.finish(store, len(pieces), model)
    return [FeatureStore.open(out) for out in dictionaries]


@dataclass(frozen=True)
class _OngoingScan:
    """The scan of one dictionary, whose codes are not complete."""

    scan: ScanFolder
    dictionary: Dictionary
    codes: CodeStore
    explained: VarianceExplained

    def encode(self, store: StoredRows, pieces: Sequence[Piece]) -> None:
        hook, advance = self.scan.hook_name, self.scan.advance
        encode_store(self.dictionary, store, hook, self.codes, self.explained, advance=advance, pieces=pieces)

    def finish(self, store: StoredRows, n_pieces: int, model: torch.nn.Module | None) -> None:
        """Write the tables from the codes of all processes."""
        codes = CodeStore(self.codes.path)
        fvu_rise = self.explained.fvu_rise(n_pieces)
        logits = self._logit_path(store, codes, model)
        decoder = Decoder(self.dictionary.W_dec, W_enc_of(self.dictionary), logits=logits, fvu_rise=fvu_rise)
        self.scan.finish(codes, decoder)

    def _logit_path(self, store: StoredRows, codes: CodeStore, model: torch.nn.Module | None) -> LogitPath:
        tokens = store.tokens
        if tokens is None:
            return LogitPath("no logit effects: the rows are not text")
        if model is None:
            return LogitPath()
        is_sae = self.dictionary.kind == "sae"
        written = self.scan.hook_name if is_sae else self.dictionary.metadata.get("hook_name_out") or ""
        n_ctx = tokens.shape[1]
        sample = range(0, len(tokens), max(1, len(tokens) // 16))[:16]
        encoded = torch.stack([codes.present(i * n_ctx, (i + 1) * n_ctx) for i in sample])
        return logit_path(self.dictionary.W_dec, model, written, tokens[list(sample)], encoded)


@shows_progress
@torch.no_grad()
def scan_part(
    dictionary: Dictionary,
    store: StoredRows,
    hook: str,
    out: str | Path,
    *,
    part: tuple[int, int],
    overwrite: bool = False,
    progress: Progress = no_progress,
) -> Path:
    """Encode a part of the store's rows, for `scan_features(…, parts=…)`. The machines that encode the parts need not
    be connected. Returns the part's folder.

    part: (rank, count), with the rank in 0..count−1. An interrupted part resumes.
    Raises ValueError as `scan_features` does.
    """
    _check_scannable(dictionary, store, hook, None)
    hook = store.name_of(hook)
    out = Path(out).expanduser()
    world = processes()
    pieces = pieces_of(store, part)
    made_of = {"kind": "scan part", "part": list(part), **_encoding(dictionary, store, hook)}
    world.check_alike(made_of, "scans")
    if not overwrite and world.recover_finished(out, made_of):
        return out
    total = sum(piece.rows.stop - piece.rows.start for piece in pieces)
    done = 0

    def advance(rows: int, note: str) -> None:
        nonlocal done
        done = min(done + rows * world.count, total)
        progress(done, total, note)

    with world.atomic_folder(out, made_of, resumes=True, overwrite=overwrite) as new:
        codes_folder = new / CODES
        world.first_does(lambda: CodeStore.create(codes_folder, n_rows=store.n_ids, d_sae=dictionary.d_sae))
        pieces_here = pieces[slice_of_part(len(pieces), world.rank, world.count)]
        explained = VarianceExplained(dictionary, new / VARIANCE_EXPLAINED)
        codes = CodeStore(codes_folder)
        encode = partial(encode_store, dictionary, store, hook, codes, explained, advance=advance, pieces=pieces_here)
        world.all_do(encode)
        world.first_does(lambda: CodeStore(codes_folder).finish())
    return out


def _encoding(dictionary: Dictionary, store: StoredRows, hook: str) -> dict[str, str]:
    """Return digests of everything that the codes depend on."""
    limit = norm_limit_on(dictionary, store, hook)
    encoding = {"dictionary": dictionary_digest(dictionary), "activations": store.digest, "hook": hook}
    return encoding if limit is None else {**encoding, "norm_limit": str(limit)}


def _check_parts(folders: Sequence[str | Path], encoding: Mapping[str, str]) -> list[Path]:
    """Check that the folders contain all parts, undamaged, and return them in order. Raises ValueError if they are not
    all parts of this encoding."""
    notes = []
    copies = [local_path(folder) for folder in folders]
    for folder in copies:
        check_exists(folder)
        made_of = dict((read_manifest(folder) or {}).get(MADE_OF, {}))
        is_part = made_of.pop("kind", "") == "scan part"
        part = made_of.pop("part", None)
        notes.append(PartNote(str(folder), part if is_part else None, made_of))
    ordered = [copies[i] for i in order_parts(notes, encoding)]
    for folder in ordered:
        verify(folder)
    return ordered


def _take_parts(parts: Sequence[Path], folder: Path) -> None:
    """Link the codes of the parts into the folder of a scan, or copy them if they are on another disk."""
    for inside in (CODES, VARIANCE_EXPLAINED):
        (folder / inside).mkdir(exist_ok=True)
        for file in chain.from_iterable((part / inside).glob("*.safetensors") for part in parts):
            if (target := folder / inside / file.name).exists():
                continue
            try:
                target.hardlink_to(file)
            except OSError:
                with write_atomically(target) as new:
                    shutil.copyfile(file, new)


def _check_scannable(dictionary: Dictionary, store: StoredRows, hook: str, model: Any) -> None:
    if not hasattr(dictionary, "W_dec") or not hasattr(store, "shard"):
        raise InterpError(
            f"dictionary is a {type(dictionary).__name__}, store a {type(store).__name__}: "
            "the order is (dictionary, store, hook, out)"
        )
    check_finite(W_dec=dictionary.W_dec, b_dec=dictionary.b_dec)
    check_one_hook(dictionary)
    if store.d(hook) != dictionary.d_in:
        raise InterpError(
            f"the dictionary reads width {dictionary.d_in}, but the store's {hook} has width {store.d(hook)}"
        )
    check_trained_hook(dictionary, store.name_of(hook), store.hook_names, store.location)
    if model is not None and store.tokens is not None:
        check_harvested(store, model, hook)
        check_unembedding(getattr(model, "W_U", None), store.tokens)
