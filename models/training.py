"""Train a transformer on next-token prediction; killed at any point and started again, it ends at the same weights.

    loss = mean of −log p(token t+1 | tokens ≤ t)        nats a token
    bits a character = loss · tokens / (characters · ln 2)

AdamW with decay on matrices alone, linear warm-up, then a cosine. The batch of a step depends only on the seed and the
step, so a checkpoint is the weights, the optimizer's moments and the step. Checkpoints fall due by the clock and change
nothing. "The same weights" holds bit for bit on the same machine, device and number of threads.

`out` receives weights.safetensors, config.json, metrics.jsonl, results.json, samples.json and
snapshots/step-N.safetensors; checkpoint.safetensors is there while training lasts.
"""

import json
import logging
import math
import os
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, dataclass, fields
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np
import torch
from jaxtyping import Int
from safetensors.torch import load_file
from torch import Tensor

from models.checkpoint import check_inputs, checksum, keep_rows, read_checkpoint, write_checkpoint
from models.ngrams import bigram_cross_entropy, unigram_cross_entropy
from models.transformer import Transformer

logger = logging.getLogger(__name__)
Progress = Callable[[int, int, str], None]


@dataclass(frozen=True, kw_only=True)
class TrainingConfig:
    tokens: int = 3_000_000
    """To train on, counted with repetition; the corpus is read again, in another order, when it is used up."""
    batch_size: int = 8
    """Sequences a step. A short run gains more from many steps than from large ones."""
    lr: float = 6e-3
    warmup: float = 0.05
    """Fraction of the steps in which the learning rate rises to `lr`; then a cosine takes it to `final_lr` · `lr`."""
    final_lr: float = 0.05
    weight_decay: float = 0.1
    betas: tuple[float, float] = (0.9, 0.99)
    clip_norm: float = 1.0
    """Of the whole gradient."""
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    """Of the matmuls. "auto": bfloat16 where the hardware multiplies it, float32 elsewhere."""
    log_every: int = 10
    """Steps a row of metrics.jsonl; its loss is the mean of the steps since the row before."""
    val_every: int = 200
    val_sequences: int = 128
    """Validation sequences behind a point of the curve; the loss in results.json is over all of them."""
    snapshot_steps: tuple[int, ...] = ()
    """Weights are kept after these steps; 0 is the untrained model."""
    n_samples: int = 4
    sample_tokens: int = 120
    seed: int = 0
    """Of the batch order and the samples."""

    def __post_init__(self) -> None:
        for name in ("tokens", "batch_size", "log_every", "val_every", "val_sequences"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name}={getattr(self, name)} must be at least 1")
        if not 0 < self.lr:
            raise ValueError(f"lr={self.lr} must be positive")
        for name in ("warmup", "final_lr"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name}={getattr(self, name)} is a fraction and must be in 0..1")
        if self.precision not in ("auto", "float32", "bfloat16"):
            raise ValueError(f"precision={self.precision!r} must be 'auto', 'float32' or 'bfloat16'")

    def steps(self, n_ctx: int) -> int:
        return max(1, self.tokens // (self.batch_size * n_ctx))

    def lr_at(self, step: int, steps: int) -> float:
        """The learning rate of update `step` = 0..steps − 1."""
        warmup = round(self.warmup * steps)
        if step < warmup:
            return self.lr * (step + 1) / warmup
        share = (step - warmup) / max(1, steps - 1 - warmup)
        return self.lr * (self.final_lr + (1 - self.final_lr) * 0.5 * (1 + math.cos(math.pi * share)))


@dataclass(frozen=True)
class TrainingResult:
    val_loss: float
    """Nats a token, over all validation tokens."""
    bits_per_character: float | None
    """None if neither the number of characters nor a tokenizer was given."""
    unigram_cross_entropy: float
    bigram_cross_entropy: float
    """What counting alone reaches on the same tokens, in nats a token."""
    steps: int
    tokens: int
    wall_seconds: float
    parameters: int


class TextTokenizer(Protocol):
    @property
    def bos_id(self) -> int: ...

    def decode(self, ids: Any) -> str: ...


def train_model(
    model: Transformer,
    train_tokens: Int[Tensor, "seq pos"],
    val_tokens: Int[Tensor, "seq pos"],
    config: TrainingConfig,
    out: str | Path,
    *,
    tokenizer: TextTokenizer | None = None,
    val_characters: int | None = None,
    resume: bool = True,
    checkpoint_seconds: float = 10.0,
    progress: Progress | None = None,
) -> TrainingResult:
    """Train `model` in place, on the device where it lies, and fill the folder `out` (see above).

    `val_characters` is the length of the validation text; without it the tokenizer's decoding is measured. With
    `resume` a run that was cut off goes on and a finished one is read back; a folder that holds a run of other
    inputs is refused. Raises ValueError on tokens that do not fit the model, and on a loss that is not finite (at
    which step).
    """
    out = Path(out)
    _check_tokens(model, train_tokens, val_tokens)
    inputs = _inputs(model, train_tokens, val_tokens, config)
    run = _Run(model, train_tokens, val_tokens, config, out, inputs, progress or (lambda done, total, note: None))
    if resume and (finished := run.finished()) is not None:
        return finished
    run.begin(resume)
    while run.step < run.steps:
        run.update()
        if run.row_is_due():
            run.write_row()
            if run.step < run.steps and time.monotonic() - run.checkpoint_time >= checkpoint_seconds:
                run.keep_checkpoint()
    return run.end(tokenizer, val_characters)


@torch.no_grad()
def evaluate_loss(
    model: Transformer,
    tokens: Int[Tensor, "seq pos"],
    *,
    batch_size: int = 32,
    precision: Literal["auto", "float32", "bfloat16"] = "auto",
    progress: Progress | None = None,
) -> float:
    """The model's next-token loss in nats a token, over every token but the first of each sequence."""
    device, total = model.W_E.device, 0.0
    for start in range(0, len(tokens), batch_size):
        batch = tokens[start : start + batch_size].to(device)
        with _autocast(device, precision):
            total += float(model(batch, return_type="loss")) * len(batch)
        if progress is not None:
            progress(min(start + batch_size, len(tokens)), len(tokens), "validation")
    return total / len(tokens)


class _Run:
    """One training run: the model, its optimizer, the step, and the folder that they are written to."""

    def __init__(
        self,
        model: Transformer,
        train_tokens: Tensor,
        val_tokens: Tensor,
        config: TrainingConfig,
        out: Path,
        inputs: dict[str, Any],
        progress: Progress,
    ):
        self.model, self.train_tokens, self.val_tokens, self.config = model, train_tokens, val_tokens, config
        self.out, self.inputs, self.progress = out, inputs, progress
        self.checkpoint = out / "checkpoint.safetensors"
        self.n_ctx, self.device = train_tokens.shape[1], model.W_E.device
        self.steps, self.step = config.steps(self.n_ctx), 0
        self.optimizer = _optimizer(model, config)
        self.pending: list[Tensor] = []  # (loss, gradient norm) of the steps since the last row
        self.seconds_before, self.note = 0.0, "starting"
        self.start_time = self.row_time = self.checkpoint_time = time.monotonic()

    def finished(self) -> TrainingResult | None:
        """The result of the same run if it ended before; its weights are put into the model."""
        file = self.out / "results.json"
        if not file.exists() or self.checkpoint.exists():
            return None
        results = json.loads(file.read_text())
        check_inputs(results.pop("inputs", {}), self.inputs, file)
        self.model.load_state_dict(load_file(self.out / "weights.safetensors"))
        self.progress(self.steps, self.steps, f"val {results['val_loss']:.3f} nats/token")
        return TrainingResult(**results)

    def begin(self, resume: bool) -> None:
        """Go on from the checkpoint, or clear the folder and start."""
        self.out.mkdir(parents=True, exist_ok=True)
        if resume and self.checkpoint.exists():
            facts = read_checkpoint(self.checkpoint, self.model, self.optimizer, self.inputs)
            self.step, self.seconds_before = facts["step"], facts["seconds"]
            keep_rows(self.out / "metrics.jsonl", self.step)
            logger.info("resumed %s at step %d of %d", self.out, self.step, self.steps)
            return
        for name in ("checkpoint.safetensors", "results.json", "samples.json", "metrics.jsonl"):
            (self.out / name).unlink(missing_ok=True)
        for snapshot in self.out.glob("snapshots/step-*.safetensors"):
            snapshot.unlink()
        self.model.save(self.out)  # so that snapshots can be opened while training lasts
        self.keep_snapshot()

    def update(self) -> None:
        """One step of AdamW on one batch."""
        rows = batch_rows(self.step, len(self.train_tokens), self.config.batch_size, self.config.seed)
        batch = self.train_tokens[rows].to(self.device)
        for group in self.optimizer.param_groups:
            group["lr"] = self.config.lr_at(self.step, self.steps)
        with _autocast(self.device, self.config.precision):
            loss = self.model(batch, return_type="loss")
        self.optimizer.zero_grad()
        loss.backward()
        norm = torch.nn.utils.clip_grad_norm_(self.model.parameters(), self.config.clip_norm)
        self.optimizer.step()
        self.pending.append(torch.stack([loss.detach().float(), norm.detach().float()]))
        self.step += 1
        self.keep_snapshot()
        self.progress(self.step, self.steps, self.note)

    def row_is_due(self) -> bool:
        config = self.config
        return self.step % config.log_every == 0 or self.step % config.val_every == 0 or self.step == self.steps

    def write_row(self) -> None:
        n, config = len(self.pending), self.config
        losses, norms = torch.stack(self.pending).double().cpu().unbind(1)
        self.pending = []
        _check_finite(losses, norms, self.step - n + 1, config)
        per_step = config.batch_size * self.n_ctx
        row = {
            "step": self.step,
            "tokens": self.step * per_step,
            "loss": float(losses.mean()),
            "lr": config.lr_at(self.step - 1, self.steps),
            "grad_norm": float(norms.mean()),
            "tokens_per_second": n * per_step / max(time.monotonic() - self.row_time, 1e-9),
        }
        self.note = f"loss {row['loss']:.3f}"
        if self.step % config.val_every == 0 or self.step == self.steps:
            places = np.linspace(0, len(self.val_tokens) - 1, min(config.val_sequences, len(self.val_tokens)))
            subset = self.val_tokens[torch.from_numpy(places.round().astype(np.int64))]
            row["val_loss"] = evaluate_loss(self.model, subset, precision=config.precision)
        with open(self.out / "metrics.jsonl", "a") as file:
            file.write(json.dumps(row) + "\n")
        self.row_time = time.monotonic()

    def keep_snapshot(self) -> None:
        if self.step in self.config.snapshot_steps:
            self.model.save_weights(self.out / "snapshots" / f"step-{self.step}.safetensors")

    def keep_checkpoint(self) -> None:
        facts = {"step": self.step, "seconds": self.seconds(), "inputs": self.inputs}
        write_checkpoint(self.checkpoint, self.model, self.optimizer, facts)
        self.checkpoint_time = time.monotonic()

    def seconds(self) -> float:
        return self.seconds_before + time.monotonic() - self.start_time

    def end(self, tokenizer: TextTokenizer | None, val_characters: int | None) -> TrainingResult:
        """Measure, sample and write; the checkpoint goes last, so that a kill before it repeats this alone."""
        val_loss = evaluate_loss(self.model, self.val_tokens, precision=self.config.precision, progress=self._measuring)
        if val_characters is None and tokenizer is not None:
            val_characters = sum(len(_text(tokenizer, row)) for row in self.val_tokens)
        d_vocab = self.model.config.d_vocab
        bits = val_loss * self.val_tokens.numel() / (val_characters * math.log(2)) if val_characters else None
        result = TrainingResult(
            val_loss=val_loss,
            bits_per_character=bits,
            unigram_cross_entropy=unigram_cross_entropy(self.train_tokens, self.val_tokens, d_vocab),
            bigram_cross_entropy=bigram_cross_entropy(self.train_tokens, self.val_tokens, d_vocab),
            steps=self.steps,
            tokens=self.steps * self.config.batch_size * self.n_ctx,
            wall_seconds=self.seconds(),
            parameters=sum(parameter.numel() for parameter in self.model.parameters()),
        )
        self.model.save(self.out)
        if tokenizer is not None and self.config.n_samples:
            _write_json(self.out / "samples.json", _samples(self.model, tokenizer, self.config))
        _write_json(self.out / "results.json", {**asdict(result), "inputs": self.inputs})
        self.checkpoint.unlink(missing_ok=True)
        self.progress(self.steps, self.steps, f"val {val_loss:.3f} nats/token")
        return result

    def _measuring(self, done: int, total: int, note: str) -> None:
        self.progress(self.steps, self.steps, f"{note} {done}/{total}")


def batch_rows(step: int, n_sequences: int, batch_size: int, seed: int) -> Int[Tensor, " batch"]:
    """The sequences of a step: permutation after permutation of them all, cut into batches."""
    places = np.arange(step * batch_size, (step + 1) * batch_size)
    epochs, rows = np.divmod(places, n_sequences)
    return torch.from_numpy(
        np.concatenate([_order(n_sequences, seed, e)[rows[epochs == e]] for e in np.unique(epochs)])
    )


@lru_cache(maxsize=4)
def _order(n_sequences: int, seed: int, epoch: int) -> np.ndarray:
    return np.random.default_rng([seed, epoch]).permutation(n_sequences)


def _optimizer(model: Transformer, config: TrainingConfig) -> torch.optim.AdamW:
    """Decay pulls on matrices only: a bias or a LayerNorm gain has no scale to give away."""
    named = dict(model.named_parameters())
    matrices = [parameter for name, parameter in named.items() if name.rsplit(".", 1)[1].startswith("W_")]
    others = [parameter for name, parameter in named.items() if not name.rsplit(".", 1)[1].startswith("W_")]
    groups = [{"params": matrices, "weight_decay": config.weight_decay}, {"params": others, "weight_decay": 0.0}]
    return torch.optim.AdamW(groups, lr=config.lr, betas=config.betas, fused=True)


def _autocast(device: torch.device, precision: str) -> AbstractContextManager:
    if precision == "bfloat16" or (precision == "auto" and _multiplies_bfloat16(device)):
        return torch.autocast(device.type, torch.bfloat16)
    return nullcontext()


def _multiplies_bfloat16(device: torch.device) -> bool:
    """Whether bfloat16 matmuls are faster than float32 ones here: without units for it a CPU emulates them."""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    probes = ("_is_avx512_bf16_supported", "_is_amx_tile_supported")
    return device.type == "cpu" and any(getattr(torch.cpu, probe, lambda: False)() for probe in probes)


def _check_tokens(model: Transformer, train_tokens: Tensor, val_tokens: Tensor) -> None:
    config = model.config
    for name, tokens in (("train_tokens", train_tokens), ("val_tokens", val_tokens)):
        if tokens.ndim != 2 or len(tokens) == 0 or not 2 <= tokens.shape[1] <= config.n_ctx:
            shape = tuple(tokens.shape)
            raise ValueError(f"{name} of shape {shape} must be [seq ≥ 1, pos in 2..n_ctx={config.n_ctx}]")
        low, high = int(tokens.min()), int(tokens.max())
        if low < 0 or high >= config.d_vocab:
            raise ValueError(
                f"{name} hold ids {low}..{high}; the model's d_vocab={config.d_vocab} allows 0..{config.d_vocab - 1}"
            )


def _check_finite(losses: Tensor, norms: Tensor, first_step: int, config: TrainingConfig) -> None:
    bad = ~(losses.isfinite() & norms.isfinite())
    if bad.any():
        place = int(bad.nonzero()[0, 0])
        raise ValueError(
            f"step {first_step + place}: the loss is {losses[place]:.4g} and the gradient norm {norms[place]:.4g}; "
            f"lower lr={config.lr} or lengthen warmup={config.warmup}"
        )


def _inputs(model: Transformer, train_tokens: Tensor, val_tokens: Tensor, config: TrainingConfig) -> dict[str, Any]:
    """What the end of a run depends on; tensors by checksum."""
    facts = {f"training.{field.name}": getattr(config, field.name) for field in fields(config)}
    facts |= {f"model.{field.name}": getattr(model.config, field.name) for field in fields(model.config)}
    facts |= {"initial weights": checksum(model.state_dict().values())}
    facts |= {"train_tokens": checksum([train_tokens]), "val_tokens": checksum([val_tokens])}
    return json.loads(json.dumps(facts))


def _samples(model: Transformer, tokenizer: TextTokenizer, config: TrainingConfig) -> list[dict[str, Any]]:
    start = torch.full((config.n_samples, 1), tokenizer.bos_id, device=model.W_E.device)
    rows = model.generate(start, config.sample_tokens, temperature=0.8, seed=config.seed)
    return [{"text": _text(tokenizer, row), "temperature": 0.8, "seed": config.seed} for row in rows]


def _text(tokenizer: TextTokenizer, ids: Int[Tensor, " pos"]) -> str:
    return tokenizer.decode([token for token in ids.tolist() if token != tokenizer.bos_id])


def _write_json(file: Path, content: Any) -> None:
    temporary = file.with_suffix(".tmp")
    temporary.write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n")
    os.replace(temporary, file)
