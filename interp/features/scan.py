"""One scan into one folder: what it is of, how far it is, and when it is whole.

`scan.json` holds a digest of everything that went in, so that a scan that was cut off goes on with the same things or
not at all. Every file appears whole, and `meta.json` comes last.
"""

import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import torch
from jaxtyping import Int
from pydantic import Field
from torch import Tensor
from typing_extensions import TypedDict

from interp.codes.code_store import CodeStore
from interp.codes.sparse_codes import Dictionary
from interp.features.decoder import Decoder
from interp.features.labelling import LabelSets
from interp.features.scan_input import ScanConfig, ScanRows
from interp.features.table_passes import SCHEMAS, n_passes, write_tables
from interp.storage.checks import Amount, Count, check_token_ids, validated
from interp.storage.files import Progress, digest, no_progress, read_json, write_json, write_tensors
from interp.storage.folders import MANIFEST, verify, write_manifest

CONTRIBUTIONS = "contributions"


class _Meta(TypedDict):
    d_sae: Annotated[int, Field(ge=1, le=1 << 28)]
    n_ctx: Count
    n_sequences: Count
    n_tokens: Amount
    n_alive: Amount
    l0: Annotated[float, Field(ge=0, allow_inf_nan=False)]
    hook_name: str
    vocab: Literal["given", "ids"]
    labels: list[str]
    logit_effects: str
    settings: dict[str, Any]


class Scan:
    """A scan that is being made: all that goes into it but the codes, and how far it is."""

    def __init__(
        self,
        out: Path,
        tokens: Int[Tensor, "seq pos"],
        vocab: Sequence[str] | None,
        labels: Mapping[str, Any] | None,
        settings: ScanConfig | None,
        hook_name: str,
        progress: Progress | None,
    ):
        n_ids = check_token_ids(tokens, None if vocab is None else len(vocab)) + 1
        if isinstance(vocab, Mapping) or not all(
            isinstance(string, str) for string in (() if vocab is None else vocab)
        ):
            raise ValueError("vocab must be a list of strings, that of token i at place i")
        self.is_spelt = vocab is not None
        self.vocab = [str(i) for i in range(n_ids)] if vocab is None else list(vocab)
        for name, mask in (labels or {}).items():
            if tuple(mask.shape) != tuple(tokens.shape):
                raise ValueError(f"label {name!r} is {tuple(mask.shape)}, the tokens are {tuple(tokens.shape)}")
        check_labelled(labels, tokens, out)
        self.out, self.tokens, self.labels = out, tokens.int().cpu(), labels or {}
        self.settings, self.hook_name, self.progress = settings or ScanConfig(), hook_name, progress or no_progress
        self.done, self.total = 0, 0

    def begin(self, inputs: Mapping[str, str], d_sae: int, n_to_encode: int, resume: bool) -> CodeStore | None:
        """Claim the folder: where the codes go, or None if the same scan is there already, whole.

        Progress counts the rows to encode and those that the tables are read from. ValueError if the folder holds
        another scan.
        """
        identity = {
            **inputs,
            "tokens": tensor_digest(self.tokens),
            "vocab": digest(json.dumps(self.vocab if self.is_spelt else None)),
            "labels": labels_digest(self.labels, list(self.labels)),
            "settings": json.dumps(asdict(self.settings)),
        }
        file = self.out / "scan.json"
        if not resume:
            _clear(self.out)
        if file.exists():
            before = read_json(file, "remove the folder, and scan again")
            changed = [key for key in {**before, **identity} if before.get(key) != identity.get(key)]
            if changed:
                other = f"{self.out} holds a scan with other {', '.join(changed)}"
                raise ValueError(f"{other}: choose another folder, or resume=False")
            if (self.out / "meta.json").exists():
                return None
        self.out.mkdir(parents=True, exist_ok=True)
        write_json(file, identity)
        n_rows = self.tokens.numel()
        self.total = n_to_encode + n_passes(self.settings, d_sae) * n_rows
        return CodeStore.create(self.out / "codes", n_rows=n_rows, d_sae=d_sae)

    def advance(self, rows: int, note: str) -> None:
        self.done += rows
        self.progress(self.done, self.total, note)

    def finish(self, codes: CodeStore, decoder: Decoder) -> None:
        """Write everything but the codes, meta.json last."""
        codes.finish()
        rows = ScanRows(codes, self.tokens.numpy(), len(self.vocab), self.settings)
        labels = LabelSets.gather(self.labels, rows) if self.labels else None
        n_alive = write_tables(rows, labels, decoder, self.out, self.advance)
        write_json(self.out / "vocab.json", self.vocab)
        write_tensors(self.out / "tokens.safetensors", {"tokens": self.tokens})
        if decoder.W_dec is not None:
            write_tensors(self.out / "decoder.safetensors", {"W_dec": decoder.W_dec.float()})
        meta = {
            "d_sae": codes.d_sae,
            "n_ctx": rows.n_ctx,
            "n_sequences": len(self.tokens),
            "n_tokens": rows.n_present,
            "n_alive": n_alive,
            "l0": codes.nnz / max(rows.n_present, 1),
            "hook_name": self.hook_name,
            "vocab": "given" if self.is_spelt else "ids",
            "labels": list(self.labels),
            "logit_effects": decoder.logits.note,
            "settings": asdict(self.settings),
        }
        write_json(self.out / "meta.json", meta)
        shutil.rmtree(self.out / CONTRIBUTIONS, ignore_errors=True)
        write_manifest(self.out, {"kind": "features"})


def read_meta(folder: Path) -> dict[str, Any]:
    """Raises ValueError where there is no finished scan, and where a file of it is not as it was written."""
    file = folder / "meta.json"
    if not file.exists():
        how = "`interp scan` or scan_features makes one"
        raise ValueError(f"{folder} holds no finished scan (no meta.json): {how}")
    verify(folder)
    return validated(_Meta, read_json(file, "scan again"), file, "scan again")


def check_labelled(labels: Mapping[str, Any] | None, tokens: Int[Tensor, "seq pos"], where: object) -> None:
    """Raises ValueError for masks that say of which tokens they are (`labels.tokens`), if those are others."""
    of = getattr(labels, "tokens", None)
    if of is not None and not torch.equal(of.cpu().int(), tokens.cpu().int()):
        shown = f"{tuple(of.shape)}, not those {tuple(tokens.shape)} scanned"
        raise ValueError(f"the labels are of other tokens {shown} in {where}: give the labels of the tokens harvested")


def labels_digest(labels: Mapping[str, Any], names: Sequence[str]) -> str:
    """A digest of some of the masks, in this order."""
    masks = ((name, np.packbits(np.asarray(labels[name], dtype=bool))) for name in names)
    return digest(*(part for mask in masks for part in mask))


def dictionary_digest(sae: Dictionary) -> str:
    """A digest of the decoder and of what the encoder makes of 32 fixed inputs."""
    probe = torch.randn(32, sae.d_in, generator=torch.Generator().manual_seed(0))
    codes = sae.codes(probe.to(sae.W_dec.device))
    return tensor_digest(sae.W_dec, sae.b_dec, codes.offsets, codes.latents, codes.values)


def tensor_digest(*tensors: Tensor | None) -> str:
    """SHA-256 of dtypes, shapes and bytes."""
    present = [tensor for tensor in tensors if tensor is not None]
    return digest(*(part for x in present for part in (str((x.dtype, tuple(x.shape))), x)))


def _clear(out: Path) -> None:
    """Remove what a scan writes, meta.json first, and nothing else."""
    for name in (MANIFEST, "meta.json", "scan.json", "vocab.json", "tokens.safetensors", "decoder.safetensors"):
        (out / name).unlink(missing_ok=True)
    for name in SCHEMAS:
        (out / f"{name}.parquet").unlink(missing_ok=True)
    for folder in ("codes", CONTRIBUTIONS):
        shutil.rmtree(out / folder, ignore_errors=True)
