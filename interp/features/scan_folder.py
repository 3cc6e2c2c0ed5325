"""Fill the folder of a scan: `ScanFolder` has the scan's inputs, its progress and the tables that it writes.

An interrupted scan resumes only with the same inputs (`storage.folders.atomic_folder`), of which `meta.json` has the
digests. Every file is written atomically, and `meta.json` is the last.
"""

import json
import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any, Literal, NotRequired

import torch
from jaxtyping import Int
from pydantic import Field
from torch import Tensor
from typing_extensions import TypedDict

from interp.checks.arguments import check_token_ids, has_lone_surrogate
from interp.checks.errors import InterpError
from interp.checks.json_values import AtLeastOne, AtLeastZero, validate_json
from interp.codes.code_store import CodeStore
from interp.features.decoder import Decoder
from interp.features.label_masks import check_labelled, labels_digest, masks_of
from interp.features.label_scores import LabelSets
from interp.features.scan_config import ScanConfig
from interp.features.scan_digests import tensor_digest
from interp.features.scan_input import ScanInput
from interp.features.scan_tables import n_passes, write_tables
from interp.runtime.processes import SINGLE_PROCESS, Processes
from interp.runtime.progress import Progress, no_progress
from interp.storage.artifacts import check_exists
from interp.storage.files import digest, read_json, write_json, write_tensors
from interp.storage.folders import unfinished_folder
from interp.storage.format_numbers import check_format
from interp.storage.manifests import verify

CODES = "codes"
VARIANCE_EXPLAINED = "variance_explained"
META = "meta.json"
FEATURES_FORMAT = "interp.features/1"
VOCAB = "vocab.json"
TOKENS = "tokens.safetensors"
DECODER = "decoder.safetensors"
"""The folders and files of a scan, besides its tables."""


class _Meta(TypedDict):
    """`meta.json`, which is validated when a scan is opened."""

    format: NotRequired[str]
    d_sae: Annotated[int, Field(ge=1, le=1 << 28)]
    n_ctx: AtLeastOne
    n_sequences: AtLeastOne
    n_tokens: AtLeastZero
    n_alive: AtLeastZero
    l0: Annotated[float, Field(ge=0, allow_inf_nan=False)]
    hook_name: str
    vocab: Literal["given", "ids", "rows"]
    labels: list[str]
    logit_effects: str
    blocks_past: AtLeastZero
    settings: dict[str, Any]
    inputs: dict[str, str]
    """Digests of all inputs of the scan."""
    weights: str | None
    """Digest of the weights of the model whose activations were scanned; None if there was none, or several."""


class ScanFolder:
    """A scan in progress: all its inputs except the codes, and its progress.

    tokens: for rows that are not text (images, audio, rows of a table), the pair (sequences, positions) instead. Each
    row is then a different token, named by its number, so that examples differ. Labels of whole sequences apply to all
    their positions.
    weights: the digest of the weights of the model whose activations are scanned, if known.
    """

    def __init__(
        self,
        tokens: Int[Tensor, "seq pos"] | tuple[int, int],
        *,
        vocab: Sequence[str] | None,
        labels: Mapping[str, Any] | None,
        config: ScanConfig | None,
        hook_name: str = "",
        progress: Progress = no_progress,
        world: Processes = SINGLE_PROCESS,
        weights: str | None = None,
    ):
        self.is_text = isinstance(tokens, Tensor)
        if not isinstance(tokens, Tensor):
            if vocab is not None:
                raise InterpError(f"vocab names {len(vocab)} tokens, but the rows are not text: leave it out")
            tokens = torch.arange(tokens[0] * tokens[1]).view(tokens)
        strings = () if vocab is None else vocab
        is_list = isinstance(strings, Iterable) and not isinstance(strings, Mapping)  # a tokenizer is not
        if not is_list or not all(isinstance(string, str) for string in strings):
            raise InterpError("vocab must be a list of strings, that of token i at index i, as tokenizer.display() is")
        if halves := [token for token, string in enumerate(strings) if has_lone_surrogate(string)]:
            raise InterpError(f"vocab has an unpaired surrogate in the string of token {halves[0]}: replace it")
        n_ids = check_token_ids(tokens, None if vocab is None else len(vocab)) + 1
        self.has_vocab = vocab is not None
        self.vocab = [str(i) for i in range(n_ids)] if vocab is None else list(vocab)
        check_labelled(labels, tokens, "this scan")
        self.labels = masks_of(labels, tokens.shape, is_text=self.is_text)
        self.tokens = tokens.int().cpu()
        self.config = config or ScanConfig()
        self.hook_name = hook_name
        self.progress = progress
        self.done = 0
        self.total = 0
        self.world = world
        self.weights = weights

    def digests(self, inputs: Mapping[str, str]) -> dict[str, str]:
        """Return digests of all inputs of the scan; `inputs` has the digests of the codes."""
        return {
            **inputs,
            "tokens": tensor_digest(self.tokens),
            "vocab": digest(json.dumps(self.vocab if self.has_vocab else None)),
            "labels": labels_digest(self.labels, list(self.labels)),
            "settings": json.dumps(asdict(self.config)),
        }

    @contextmanager
    def begin(
        self, out: str | Path, inputs: Mapping[str, str], *, d_sae: int, n_to_encode: int = 0, overwrite: bool = False
    ) -> Iterator[CodeStore | None]:
        """Yield the code store to fill, or None if `out` already contains the same scan. When the block ends, the
        result of `finish` becomes `out`.

        Progress counts the rows to encode and the rows read for the tables. Raises ValueError if `out` contains another
        scan, unless `overwrite` is set.
        """
        self.inputs = self.digests(inputs)
        made_of = {"kind": "features", **self.inputs}
        self.world.check_alike(made_of, "scans")
        if not overwrite and self.world.recover_finished(out, made_of):
            yield None
            return
        with self.world.atomic_folder(out, made_of, resumes=True, overwrite=overwrite) as self.folder:
            n_rows = self.tokens.numel()
            self.total = n_to_encode + n_passes(self.config, d_sae) * n_rows
            self.world.first_does(lambda: CodeStore.create(self.folder / CODES, n_rows=n_rows, d_sae=d_sae))
            yield CodeStore(self.folder / CODES)

    def advance(self, rows: int, note: str) -> None:
        """Advance the progress by this process's rows times the number of processes."""
        self.done = min(self.done + rows * self.world.count, self.total)
        self.progress(self.done, self.total, note)

    def finish(self, codes: CodeStore, decoder: Decoder) -> None:
        """Write all files except the codes; meta.json is the last."""
        scan = ScanInput(codes, self.tokens.numpy(), len(self.vocab), self.config)
        labels = LabelSets.gather(self.labels, scan) if self.labels else None
        n_alive = write_tables(
            scan, self.folder, labels=labels, decoder=decoder, advance=self.advance, world=self.world
        )
        self.world.first_does(lambda: self._write_rest(scan, decoder, n_alive))

    def _write_rest(self, scan: ScanInput, decoder: Decoder, n_alive: int) -> None:
        codes = scan.codes
        codes.finish()
        write_json(self.folder / VOCAB, self.vocab)
        write_tensors(self.folder / TOKENS, {"tokens": self.tokens})
        if decoder.W_dec is not None:
            write_tensors(self.folder / DECODER, {"W_dec": decoder.W_dec.float()})
        meta = {
            "format": FEATURES_FORMAT,
            "d_sae": codes.d_sae,
            "n_ctx": scan.n_ctx,
            "n_sequences": len(self.tokens),
            "n_tokens": scan.n_present,
            "n_alive": n_alive,
            "l0": codes.nnz / max(scan.n_present, 1),
            "hook_name": self.hook_name,
            "vocab": ("given" if self.has_vocab else "ids") if self.is_text else "rows",
            "labels": list(self.labels),
            "logit_effects": decoder.logits.note,
            "blocks_past": decoder.logits.blocks_past,
            "settings": asdict(self.config),
            "inputs": self.inputs,
            "weights": self.weights,
        }
        write_json(self.folder / META, meta)
        shutil.rmtree(self.folder / VARIANCE_EXPLAINED, ignore_errors=True)


def read_meta(folder: Path) -> dict[str, Any]:
    """Read the metadata of a finished scan. Raises ValueError if there is none, if it has a later
    format, or if one of its files was changed."""
    file = folder / META
    if not file.exists():
        if not unfinished_folder(folder).is_dir():
            check_exists(folder, "features")
        raise InterpError(f"{folder} holds no finished scan (no meta.json): `interp scan` or scan_features makes one")
    verify(folder)
    meta = read_json(file, "scan again")
    check_format(meta.get("format"), FEATURES_FORMAT, file)
    return validate_json(_Meta, meta, file, "scan again")
