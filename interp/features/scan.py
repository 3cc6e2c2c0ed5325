"""One scan into one folder: what it is of, how far it is, and when it is whole.

`scan.json` holds a digest of everything that went in, so that a scan that was cut off goes on with the same things or
not at all. Every file appears whole, and `meta.json` comes last.
"""

import hashlib
import json
import os
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from jaxtyping import Bool, Int
from safetensors.torch import save_file
from torch import Tensor

from interp.codes import CodeStore

if TYPE_CHECKING:
    from interp.features.passes import Decoder

Progress = Callable[[int, int, str], None]
TABLES = (
    *("features", "histograms", "intervals", "examples", "tokens", "offsets", "labels"),
    *("coactivations", "neighbours"),
)


@dataclass(frozen=True, kw_only=True)
class ScanConfig:
    """What is kept of each latent, and how much memory the counting may take."""

    n_top: int = 20
    """Strongest firings kept as examples."""
    n_intervals: int = 5
    """Equal slices of (0, max]."""
    n_per_interval: int = 10
    """Firings sampled from each interval as examples."""
    window_before: int = 20
    window_after: int = 11
    """Tokens shown on both sides of an example's firing token."""
    n_before: int = 3
    n_after: int = 1
    """How many tokens before and behind the firing token are counted. Without one behind, it is not known whether the
    tokens follow that a latent promotes."""
    n_tokens: int = 20
    """Most frequent tokens kept for each latent and offset."""
    n_logits: int = 10
    n_neighbours: int = 10
    n_coactivations: int = 10
    strongest: int | None = None
    """Co-activation counts pairs among this many strongest latents of a row. None: among all, if there are at most 8192
    latents and 64 firings a row on average; else among 16."""
    seed: int = 0
    chunk_entries: int = 1 << 22
    """Firings read at a time, in whole sequences; about 100 bytes each."""
    buffer_mb: int = 256
    """Memory for each of: token counts, label counts, windows. What is over goes to disk or to a further pass."""

    def __post_init__(self) -> None:
        for name in ("n_intervals", "n_tokens", "n_logits", "chunk_entries", "buffer_mb"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name}={getattr(self, name)} must be at least 1")
        for name in ("n_top", "n_per_interval", "window_before", "window_after", "n_before", "n_after", "seed"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name}={getattr(self, name)} must not be negative")
        if self.strongest is not None and self.strongest < 2:
            raise ValueError(f"strongest={self.strongest} must be at least 2: pairs are counted among the strongest")


class Scan:
    """One scan into one folder: what it is of, and how far it is."""

    def __init__(
        self,
        out: Path,
        tokens: Int[Tensor, "seq pos"],
        vocab: Sequence[str] | None,
        labels: Mapping[str, Any] | None,
        settings: ScanConfig,
        hook_name: str,
        progress: Progress | None,
    ):
        if tokens.ndim != 2 or tokens.numel() == 0:
            raise ValueError(f"tokens are {tuple(tokens.shape)}: (seq, pos) with at least one token is needed")
        n_ids = int(tokens.max()) + 1
        self.is_spelt = vocab is not None
        self.vocab = [str(i) for i in range(n_ids)] if vocab is None else list(vocab)
        if len(self.vocab) < n_ids:
            raise ValueError(f"vocab has {len(self.vocab)} strings, but token id {n_ids - 1} occurs")
        for name, mask in (labels or {}).items():
            if tuple(mask.shape) != tuple(tokens.shape):
                raise ValueError(f"label {name!r} is {tuple(mask.shape)}, the tokens are {tuple(tokens.shape)}")
        self.out, self.tokens, self.labels = out, tokens.int().cpu(), labels or {}
        self.settings, self.hook_name, self.progress = settings, hook_name, progress
        self.done, self.total = 0, 0

    def begin(self, inputs: Mapping[str, str], resume: bool) -> bool:
        """Claim the folder. True if the same scan is there already, whole; ValueError if another one is."""
        identity = {
            **inputs,
            "tokens": digest(self.tokens),
            "vocab": hashlib.sha256(json.dumps(self.vocab if self.is_spelt else None).encode()).hexdigest(),
            "labels": _label_digest(self.labels),
            "settings": json.dumps(asdict(self.settings)),
        }
        file = self.out / "scan.json"
        if not resume:
            _clear(self.out)
        if file.exists():
            before = json.loads(file.read_text())
            changed = [key for key in {**before, **identity} if before.get(key) != identity.get(key)]
            if changed:
                raise ValueError(
                    f"{self.out} holds a scan with other {', '.join(changed)}: choose another folder, or resume=False"
                )
            return (self.out / "meta.json").exists()
        self.out.mkdir(parents=True, exist_ok=True)
        _write_json(file, identity)
        return False

    def plan(self, codes: CodeStore, extra_rows: int = 0) -> None:
        """Count the rows that will be read in all, for the progress."""
        from interp.features.passes import n_passes

        self.total = extra_rows + n_passes(self.settings, codes.d_sae, len(self.labels)) * len(codes)

    def advance(self, rows: int, note: str) -> None:
        self.done += rows
        if self.progress:
            self.progress(self.done, self.total, note)

    def finish(self, codes: CodeStore, decoder: "Decoder") -> None:
        """Write everything but the codes, meta.json last."""
        from interp.features.chunks import Rows
        from interp.features.labelling import LabelSets
        from interp.features.passes import write_tables

        if not self.total:
            self.plan(codes)
        rows = Rows(codes, self.tokens.numpy(), fit_half(len(self.tokens)).numpy(), self.settings.chunk_entries)
        labels = LabelSets.gather(self.labels, len(codes)) if self.labels else None
        firing = write_tables(
            rows,
            self.out,
            self.settings,
            vocab_size=len(self.vocab),
            labels=labels,
            decoder=decoder,
            advance=self.advance,
        )
        _write_json(self.out / "vocab.json", self.vocab)
        _write_tensors(self.out / "tokens.safetensors", {"tokens": self.tokens})
        if decoder.W_dec is not None:
            _write_tensors(self.out / "decoder.safetensors", {"W_dec": decoder.W_dec.detach().float().cpu()})
        meta = {
            "d_sae": codes.d_sae,
            "n_ctx": rows.n_ctx,
            "n_sequences": len(self.tokens),
            "n_tokens": firing.n_rows,
            "n_alive": int((firing.n_active > 0).sum()),
            "l0": codes.nnz / max(firing.n_rows, 1),
            "hook_name": self.hook_name,
            "vocab": "given" if self.is_spelt else "ids",
            "labels": list(self.labels),
            "logit_effects": decoder.logits.note,
            "settings": asdict(self.settings),
        }
        _write_json(self.out / "meta.json", meta)


def fit_half(n_seq: int) -> Bool[Tensor, " seq"]:
    """Which sequences belong to the half that is fitted on: blocks of up to 32 sequences, turn and turn about."""
    return (torch.arange(n_seq) // max(1, min(32, n_seq // 8))) % 2 == 0


def digest(*tensors: Tensor | None) -> str:
    """SHA-256 of dtypes, shapes and bytes."""
    sha = hashlib.sha256()
    for tensor in tensors:
        if tensor is not None:
            sha.update(str((tensor.dtype, tuple(tensor.shape))).encode())
            flat = tensor.detach().cpu().contiguous().flatten()
            sha.update(flat.view(torch.uint8).numpy().tobytes() if flat.numel() else b"")
    return sha.hexdigest()


def _label_digest(labels: Mapping[str, Any]) -> str:
    sha = hashlib.sha256()
    for name in labels:
        sha.update(name.encode())
        sha.update(np.packbits(np.asarray(labels[name], dtype=bool)).tobytes())
    return sha.hexdigest()


def _clear(out: Path) -> None:
    """Remove what a scan writes, meta.json first, and nothing else."""
    for name in ("meta.json", "scan.json", "vocab.json", "tokens.safetensors", "decoder.safetensors"):
        (out / name).unlink(missing_ok=True)
    for name in TABLES:
        (out / f"{name}.parquet").unlink(missing_ok=True)
    shutil.rmtree(out / "codes", ignore_errors=True)


def _write_json(file: Path, content: Any) -> None:
    temporary = file.with_suffix(".tmp")
    temporary.write_text(json.dumps(content, indent=2, ensure_ascii=False), encoding="utf-8")
    os.replace(temporary, file)


def _write_tensors(file: Path, tensors: dict[str, Tensor]) -> None:
    temporary = file.with_suffix(".tmp")
    save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, temporary)
    os.replace(temporary, file)
