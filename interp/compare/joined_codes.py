"""Sample latents of several dictionaries and join their codes on the same rows into one source of codes.

In: the codes of each dictionary, some rows at a time. Out: `JoinedCodes`, in which the sampled latents of the second
dictionary follow those of the first. The codes are kept in a working folder, where a restarted process finds those
that were complete.
"""

from collections.abc import Iterable, Iterator
from pathlib import Path
from urllib.parse import quote

import numpy as np
import scipy.sparse
import torch
from jaxtyping import Bool, Int
from torch import Tensor

from interp.codes.code_chunks import CodeSource
from interp.codes.code_store import CodeStore
from interp.codes.latent_strengths import is_faint
from interp.codes.sparse_codes import SparseCodes
from interp.runtime.progress import Progress
from interp.storage.files import open_tensors, write_tensors
from interp.storage.folders import atomic_folder

_ROWS_AT_ONCE = 1 << 15
CodedRows = tuple[Int[Tensor, " row"], SparseCodes]
"""Row ids, and the codes of these rows."""


class JoinedCodes:
    """The codes of `n_latents` latents of each dictionary, drawn by `seed`. `chosen` has their numbers by dictionary;
    `faint` marks the faint ones."""

    def __init__(self, folder: Path, n_rows: int, n_latents: int, seed: int, progress: Progress):
        self.folder = folder
        self.n_rows = n_rows
        self.n_latents = n_latents
        self.seed = seed
        self.progress = progress
        self.chosen: dict[str, np.ndarray] = {}
        self.faint: dict[str, np.ndarray] = {}
        self._codes: list[CodeStore] = []
        folder.mkdir(parents=True, exist_ok=True)

    @property
    def d_sae(self) -> int:
        return sum(codes.d_sae for codes in self._codes)

    def __len__(self) -> int:
        return self.n_rows

    def __getitem__(self, rows: slice, /) -> SparseCodes:
        return SparseCodes.from_scipy(scipy.sparse.hstack([codes[rows].scipy() for codes in self._codes], "csr"))

    def present(self, start: int, stop: int) -> Bool[Tensor, " row"]:
        """Mark the rows of the range that any of the dictionaries encoded."""
        return torch.stack([codes.present(start, stop) for codes in self._codes]).any(0)

    def add(self, name: str, d_sae: int, parts: Iterable[CodedRows], norms: Tensor | None = None) -> None:
        """Keep the codes of one dictionary's sample.
        norms: norms of the decoder's rows, to find the faint latents; None: all 1. The file appears only when it is
        complete; if it already exists, `parts` is not read."""
        chosen = self.chosen[name] = np.sort(np.random.default_rng(self.seed).permutation(d_sae)[: self.n_latents])
        folder = self.folder / f"codes-{quote(name, safe='')}"
        if not folder.exists():
            done = 0
            maxima = torch.zeros(d_sae)
            with atomic_folder(folder, {"kind": "codes", "latents": chosen.tolist()}) as new:
                codes = CodeStore.create(new, n_rows=self.n_rows, d_sae=len(chosen))
                for i, (row_ids, part) in enumerate(parts):
                    codes.write_file(f"{i:05d}", row_ids, SparseCodes.from_scipy(part.scipy()[:, chosen]))
                    torch.maximum(maxima, part.maxima().float().cpu(), out=maxima)
                    done += len(row_ids)
                    self.progress(done, self.n_rows, f"{name}: encoding")
                codes.finish()
                write_tensors(folder.with_name(f"{folder.name}.safetensors"), {"maxima": maxima})
        with open_tensors(folder.with_name(f"{folder.name}.safetensors"), "run the nulls again") as file:
            self.faint[name] = is_faint(file.get_tensor("maxima"), norms).numpy()[chosen]
        self._codes.append(CodeStore(folder))


def read_in_blocks(codes: CodeSource, n_rows: int) -> Iterator[CodedRows]:
    """Yield the codes of the first `n_rows` rows in token order, some rows at a time, without the rows that were not
    encoded."""
    for start in range(0, n_rows, _ROWS_AT_ONCE):
        stop = min(start + _ROWS_AT_ONCE, n_rows)
        encoded = codes.present(start, stop).nonzero()[:, 0]
        yield start + encoded, codes[start:stop].take(encoded)
