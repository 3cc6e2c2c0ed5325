"""Write a store of activations, each row to a random shard.

In: batches of rows, in order: row ids and, for every hook, acts [row, d].
Out: the folder that `interp.activations.store` reads,

    shard-00000.safetensors   row_ids [row] and one tensor [row, d] a hook
    tokens.safetensors        tokens [seq, pos], where the rows come from tokens
    statistics.safetensors    mean, geometric_median and second_moment of each hook
    manifest.json             what is there, with sizes and SHA-256 sums; written last: an unfinished store has none

Row r belongs to shard floor(n_shards · hash(seed, r)), so a shard is a uniform sample of all rows and its size is known
before its first row: headers are written and disk space is reserved at the start, and each row is written once, behind
the earlier rows of its shard. Reading shard after shard, shuffled inside a shard, is then a shuffle of all rows.

Rows collect in a buffer (16 MiB) that a thread sorts by shard, hashes and writes while the next one fills.
`progress.safetensors` then says how far the files are good: whoever resumes goes on there, to the same bytes.
Memory: three buffers and one shard. A power cut may lose what the system had not yet put on disk; the sums show it.
"""

import errno
import hashlib
import importlib.metadata
import json
import os
import shutil
from collections.abc import Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from safetensors import safe_open
from torch import Tensor

from interp.activations.moments import Moments, geometric_median, second_moment
from interp.activations.shards import (
    DTYPES,
    FORMAT,
    MANIFEST,
    PROGRESS,
    ROW_IDS,
    STATISTICS,
    TOKENS,
    Column,
    ShardLayout,
    allocate,
    check_dtype,
    check_same,
    clear,
    digest_file,
    naming_full_disk,
    save_tensors,
    save_text,
    shard_of,
    write_at,
)

_BUFFER_BYTES = 16 << 20
_SAMPLE_ROWS = 32_768
_MEDIAN_ROWS = 4096
_WIDEST_SECOND_MOMENT = 2048


@dataclass(frozen=True, kw_only=True)
class ScatterConfig:
    """What is written. Two writers with the same config and the same rows write the same bytes."""

    widths: Mapping[str, int]
    """Hook name → d."""
    dtype: str = "bfloat16"
    shard_rows: tuple[int, ...]
    """Rows of each shard: `shard_sizes`."""
    n_ids: int
    """Row ids lie in 0..n_ids-1."""
    n_ctx: int | None = None
    """Row id = seq · n_ctx + pos; None where rows come from no tokens."""
    seed: int = 0
    max_norm: float | None = None
    """Rows with a norm above max_norm × the median norm of the first batch, at any hook, are left out."""
    origin: Mapping[str, Any]
    """Where the rows come from; a run that was cut off is only resumed with the same origin."""

    def __post_init__(self) -> None:
        check_dtype(self.dtype)
        for name in (ROW_IDS, "__metadata__"):
            if name in self.widths:
                raise ValueError(f"a hook cannot be called {name!r}: the store uses that name")
        if self.max_norm is not None and not self.max_norm > 0:
            raise ValueError(f"max_norm={self.max_norm} must be above 0 (in units of the median norm)")

    @property
    def columns(self) -> tuple[Column, ...]:
        ids = Column(ROW_IDS, torch.int32 if self.n_ids <= 2**31 else torch.int64, 0)
        return ids, *(Column(name, DTYPES[self.dtype], d) for name, d in self.widths.items())


class ScatterWriter:
    """Writes the rows given to `add`; `finish` makes the folder a store. Use as a context manager.

    `position` says how far an earlier writer came: the value that it had got with the last rows that are safe.
    Input that `add` or `finish` refuses leaves no file behind.
    """

    def __init__(self, out: str | Path, config: ScatterConfig, *, batch_rows: int, resume: bool = True):
        self.out, self.config = Path(out), config
        self.position = 0
        self._layouts = [ShardLayout(rows, config.columns) for rows in config.shard_rows]
        self._filled = np.zeros(len(self._layouts), np.int64)
        self._hashes = [{column.name: hashlib.sha256() for column in config.columns} for _ in self._layouts]
        self._moments = {hook: Moments.zero(d) for hook, d in config.widths.items()}
        self._limits: dict[str, float] = {}
        self._n_outliers = 0
        self._refused = False
        row_bytes = sum(column.row_bytes for column in config.columns)
        self._buffer_rows = max(batch_rows, min(_BUFFER_BYTES // row_bytes, sum(config.shard_rows)))
        self._buffers = [_buffer(config.columns, self._buffer_rows) for _ in range(2)]
        self._scratch = np.empty(self._buffer_rows * max(column.row_bytes for column in config.columns), np.uint8)
        self._used = 0
        self._pending: Future | None = None
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="scatter")
        if resume and (self.out / PROGRESS).exists():
            self._restore()
        else:
            self._reserve()

    def __enter__(self) -> "ScatterWriter":
        return self

    def __exit__(self, *_: object) -> None:
        self._thread.shutdown(wait=True)
        if self._refused:  # bad input stays bad: there is nothing to resume
            clear(self.out)

    def add(self, row_ids: Int[Tensor, " row"], acts: Mapping[str, Float[Tensor, "row d"]], position: int) -> None:
        """Take the next rows, at most `batch_rows` of them. `position` is where a resumed run would go on after them.

        Raises ValueError, naming hook and row, where an activation is not finite.
        """
        if self._used + len(row_ids) > self._buffer_rows:
            self._flush()
        dtype = DTYPES[self.config.dtype]
        if dtype == torch.float16:  # may overflow, which must be seen before it is stored
            acts = {hook: x.to(dtype) for hook, x in acts.items()}
        wide = {hook: x.float() for hook, x in acts.items()}
        norms = {hook: torch.linalg.vector_norm(x, dim=1) for hook, x in wide.items()}
        for hook, norm in norms.items():
            if not norm.sum().isfinite():
                self._refuse_non_finite(hook, wide[hook], row_ids)
        if self.config.max_norm is not None:
            row_ids, wide, norms = self._drop_outliers(row_ids, wide, norms, self.config.max_norm)
        rows = slice(self._used, self._used + len(row_ids))
        buffer = self._buffers[0]
        buffer[ROW_IDS][rows, 0] = row_ids
        for hook, x in wide.items():
            buffer[hook][rows] = x if x.is_cpu else x.to(dtype)  # one pass on a CPU, fewer bytes to copy from a GPU
            self._moments[hook].update(x, norms[hook])
        self._used = rows.stop
        self.position = position

    def finish(self, tokens: Int[Tensor, "seq pos"] | None = None, *, n_excluded_tokens: int = 0) -> None:
        """Write what is left, then the small files, and the manifest last."""
        self._flush()
        self._wait()
        if not self._filled.sum():
            self._refused = True
            raise ValueError("no row is left to store: every one was excluded")
        shards = [self._seal(shard) for shard in range(len(self._layouts))]
        hooks = self._write_statistics()
        files = [STATISTICS]
        if tokens is not None:
            smallest = torch.uint16 if int(tokens.max()) < 1 << 16 else torch.int32
            save_tensors({"tokens": tokens.to(smallest)}, self.out / TOKENS)
            files.append(TOKENS)
        manifest = {
            "format": FORMAT,
            "config": dict(self.config.origin),
            "dtype": self.config.dtype,
            "n_rows": int(self._filled.sum()),
            "n_ids": self.config.n_ids,
            "n_ctx": self.config.n_ctx,
            "excluded": {"token": n_excluded_tokens, "norm": self._n_outliers},
            "norm_limits": self._limits,
            "hooks": hooks,
            "shards": shards,
            "files": {name: _file_entry(self.out / name) for name in files},
            "versions": {"interp": importlib.metadata.version("interp"), "torch": torch.__version__},
        }
        save_text(json.dumps(manifest, indent=1), self.out / MANIFEST)
        (self.out / PROGRESS).unlink()

    def _refuse_non_finite(self, hook: str, acts: Float[Tensor, "row d"], row_ids: Int[Tensor, " row"]) -> None:
        bad = (~acts.isfinite()).nonzero()
        if not len(bad):
            return  # only the sum of the norms overflowed
        row, unit = bad[0].tolist()
        row_id, n_ctx = int(row_ids[row]), self.config.n_ctx
        where = f"row {row_id}" if n_ctx is None else f"sequence {row_id // n_ctx}, position {row_id % n_ctx}"
        self._refused = True
        hint = "; float16 ends at 65504, bfloat16 does not" if self.config.dtype == "float16" else ""
        raise ValueError(f"hook {hook!r}: activation {acts[row, unit].item()} at {where}, unit {unit}{hint}")

    def _drop_outliers(
        self, row_ids: Tensor, acts: dict[str, Tensor], norms: dict[str, Tensor], max_norm: float
    ) -> tuple[Tensor, dict[str, Tensor], dict[str, Tensor]]:
        if not self._limits and len(row_ids):
            self._limits = {hook: max_norm * norm.median().item() for hook, norm in norms.items()}
        keep = torch.stack([norm <= self._limits.get(hook, 0.0) for hook, norm in norms.items()]).all(0)
        if keep.all():
            return row_ids, acts, norms
        self._n_outliers += int((~keep).sum())
        kept = {hook: x[keep] for hook, x in acts.items()}
        return row_ids[keep.cpu()], kept, {hook: norm[keep] for hook, norm in norms.items()}

    def _flush(self) -> None:
        """Hand the buffer to the thread, and go on with the other one."""
        self._wait()
        state = {
            "position": self.position,
            "n_outliers": self._n_outliers,
            "limits": self._limits,
            "rows": {hook: moments.n_rows for hook, moments in self._moments.items()},
        }
        sums = {hook: moments.sums.clone() for hook, moments in self._moments.items()}
        self._pending = self._thread.submit(self._write, self._buffers[0], self._used, state, sums)
        self._buffers.reverse()
        self._used = 0

    def _wait(self) -> None:
        if self._pending is not None:
            pending, self._pending = self._pending, None
            pending.result()

    def _write(self, buffer: dict[str, Tensor], n_rows: int, state: dict[str, Any], sums: dict[str, Tensor]) -> None:
        """In the thread: the rows of each shard behind those that it has, then the note that they are there."""
        arrays = {name: tensor[:n_rows].view(torch.uint8).numpy() for name, tensor in buffer.items()}
        shards = shard_of(buffer[ROW_IDS][:n_rows, 0].numpy(), len(self._layouts), self.config.seed)
        order = shards.argsort(kind="stable")
        ends = np.bincount(shards, minlength=len(self._layouts)).cumsum()
        for shard, (start, end) in enumerate(zip(np.r_[0, ends], ends, strict=False)):
            if start == end:
                continue
            with naming_full_disk(self.out), open(self._partial(shard), "r+b", buffering=0) as file:
                for name, array in arrays.items():
                    n_bytes = (end - start) * array.shape[1]
                    block = self._scratch[:n_bytes].reshape(end - start, -1)
                    array.take(order[start:end], axis=0, out=block, mode="clip")  # "raise" would copy once more
                    self._hashes[shard][name].update(block.data)
                    write_at(file.fileno(), block, self._layouts[shard].offset(name, int(self._filled[shard])))
            self._filled[shard] += end - start
        self._note(state, sums)

    def _note(self, state: dict[str, Any], sums: dict[str, Tensor]) -> None:
        tensors = {"filled": torch.from_numpy(self._filled), **{f"sums.{hook}": x for hook, x in sums.items()}}
        with naming_full_disk(self.out):
            save_tensors(tensors, self.out / PROGRESS, json.dumps({"config": self._key, "state": state}))

    @property
    def _key(self) -> dict[str, Any]:
        config = asdict(self.config)
        return json.loads(json.dumps({**config.pop("origin"), **config}))

    def _partial(self, shard: int) -> Path:
        return self.out / f"shard-{shard:05d}.partial"

    def _final(self, shard: int) -> Path:
        return self.out / f"shard-{shard:05d}.safetensors"

    def _reserve(self) -> None:
        """Create every shard at its full size, so that a disk too small is known before the first forward pass."""
        clear(self.out)
        needed = sum(layout.size for layout in self._layouts)
        try:
            self.out.mkdir(parents=True, exist_ok=True)
            with naming_full_disk(self.out, needed):
                if shutil.disk_usage(self.out).free < needed:
                    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
                for shard, layout in enumerate(self._layouts):
                    with open(self._partial(shard), "wb") as file:
                        file.write(layout.header)
                        file.flush()
                        allocate(file.fileno(), layout.size)
            self._note({"position": 0, "n_outliers": 0, "limits": {}, "rows": {}}, {})
        except OSError:
            clear(self.out)
            self._thread.shutdown()
            raise

    def _restore(self) -> None:
        """Go on where the note of an earlier writer says; its sums are made again from what it wrote."""
        with safe_open(str(self.out / PROGRESS), "pt") as file:
            note = json.loads(file.metadata()["json"])
            check_same(note["config"], self._key, self.out)
            self._filled = file.get_tensor("filled").numpy()
            state = note["state"]
            for hook, n_rows in state["rows"].items():
                self._moments[hook] = Moments(n_rows, file.get_tensor(f"sums.{hook}"))
        self.position, self._n_outliers, self._limits = state["position"], state["n_outliers"], state["limits"]
        for shard, filled in enumerate(self._filled.tolist()):
            path, layout = self._partial(shard), self._layouts[shard]
            if self._final(shard).exists():
                path, layout = self._final(shard), ShardLayout(filled, self.config.columns)
            for name, digest in self._hashes[shard].items():
                digest.update(layout.read(path, name, filled).view(torch.uint8).numpy().data)

    def _seal(self, shard: int) -> dict[str, Any]:
        """Give a shard its final name, without the room that excluded rows left; its entry of the manifest."""
        filled, layout = int(self._filled[shard]), self._layouts[shard]
        sealed = ShardLayout(filled, self.config.columns)
        partial, final = self._partial(shard), self._final(shard)
        if not final.exists():
            if filled < layout.n_rows:
                temporary = partial.with_suffix(".tmp")
                with naming_full_disk(self.out), open(temporary, "wb") as file:
                    file.write(sealed.header)
                    for column in self.config.columns:
                        file.write(layout.read(partial, column.name, filled).view(torch.uint8).numpy().data)
                os.replace(temporary, final)
            else:
                os.replace(partial, final)
        partial.unlink(missing_ok=True)
        sums = {name: digest.hexdigest() for name, digest in self._hashes[shard].items()}
        return {"file": final.name, "n_rows": filled, "bytes": sealed.size, "sha256": sums}

    def _write_statistics(self) -> dict[str, dict[str, Any]]:
        """Write the statistics' tensors; returns what the manifest says of each hook."""
        tensors, hooks = {}, {}
        for hook, d in self.config.widths.items():
            mean, mean_norm, variance = self._moments[hook].result()
            sample = self._sample(hook, _SAMPLE_ROWS if d <= _WIDEST_SECOND_MOMENT else _MEDIAN_ROWS)
            tensors[f"{hook}/mean"] = mean.float()
            tensors[f"{hook}/geometric_median"] = geometric_median(sample[:_MEDIAN_ROWS].float())
            if d <= _WIDEST_SECOND_MOMENT:
                tensors[f"{hook}/second_moment"] = second_moment(sample, mean)
            hooks[hook] = {
                "d": d,
                "mean_norm": mean_norm,
                "variance": variance,
                "second_moment_rows": len(sample) if d <= _WIDEST_SECOND_MOMENT else 0,
                "geometric_median_rows": min(len(sample), _MEDIAN_ROWS),
            }
        save_tensors(tensors, self.out / STATISTICS)
        return hooks

    def _sample(self, hook: str, n_rows: int) -> Float[Tensor, "row d"]:
        """A random sample: some rows of the first shards, as each shard is a random sample already."""
        parts: list[Tensor] = []
        for shard, filled in enumerate(self._filled.tolist()):
            parts.append(ShardLayout(filled, self.config.columns).read(self._final(shard), hook))
            if sum(map(len, parts)) >= n_rows:
                break
        rows = torch.cat(parts)
        picked = np.random.default_rng([self.config.seed % 2**64, len(rows)]).permutation(len(rows))[:n_rows]
        return rows[torch.from_numpy(picked)]


def _buffer(columns: tuple[Column, ...], n_rows: int) -> dict[str, Tensor]:
    return {column.name: torch.empty(n_rows, max(column.width, 1), dtype=column.dtype) for column in columns}


def _file_entry(file: Path) -> dict[str, Any]:
    return {"bytes": file.stat().st_size, "sha256": digest_file(file)}
