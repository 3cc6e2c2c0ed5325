"""Train a transformer on next-token prediction; after an interruption at any point it resumes and ends at the same
weights.

    loss = mean of −log p(token t+1 | tokens ≤ t)        nats per token
    bits per character = loss · tokens / (characters · ln 2)

The batch of a step depends only on the seed and the step (`models.training_recipe`), so a checkpoint is the weights,
the optimizer's moments and the step. Checkpoints are timed by the clock and do not affect the result. "The same
weights" means bitwise on the same machine, device and number of threads.

`out` receives weights.safetensors, config.json, metrics.jsonl, results.json, samples.json and
snapshots/step-N.safetensors. Until the training is finished they are in OUT.unfinished/new, with checkpoint.safetensors
(`storage.folders`).
"""

import json
import logging
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Int
from torch import Tensor

from interp.checks.errors import InterpError
from interp.runtime.progress import Progress, no_progress
from interp.runtime.progress_bar import shows_progress
from interp.storage.addresses import as_local_path
from interp.storage.files import digest, read_json, write_json
from interp.storage.folders import atomic_folder, recover_finished
from interp.storage.manifests import verify
from models.checkpoints import drop_rows_after, load_weights, read_checkpoint, write_checkpoint
from models.evaluation import TextTokenizer, decode_without_bos, evaluate_loss, measure_losses, sample_texts
from models.training_recipe import CLIP_NORM, TrainingConfig, adamw, autocast_to, batch_rows, check_finite
from models.transformer import Transformer

CHECKPOINT = "checkpoint.safetensors"
RESULTS = "results.json"
LOG_EVERY = 10
"""Steps between two rows of metrics.jsonl; a row's loss is the mean of the steps since the row before."""
VAL_SEQUENCES = 128
"""Validation sequences per point of the curve; the loss in results.json is over all of them."""

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class TrainingResult:
    val_loss: float
    """Nats per token, over all validation tokens."""
    bits_per_character: float | None
    """None if neither the number of characters nor a tokenizer was given."""
    unigram_cross_entropy: float
    bigram_cross_entropy: float
    """The loss of n-gram counts on the same tokens, in nats per token."""
    steps: int
    tokens: int
    wall_seconds: float
    parameters: int


@shows_progress
def train_model(
    model: Transformer,
    train_tokens: Int[Tensor, "seq pos"],
    val_tokens: Int[Tensor, "seq pos"],
    config: TrainingConfig,
    out: str | Path,
    *,
    tokenizer: TextTokenizer | None = None,
    val_characters: int | None = None,
    overwrite: bool = False,
    checkpoint_seconds: float = 10.0,
    progress: Progress = no_progress,
) -> TrainingResult:
    """Train `model` in place, on its device, and fill the folder `out` (see above).

    `val_characters` is the length of the validation text; without it the tokenizer's decoding is measured. An
    interrupted training resumes and a finished one is loaded; a folder with a training of other inputs is refused. With
    `overwrite` it is replaced, and a finished training is done again.
    Raises ValueError for tokens that do not fit the model, and for a loss that is not finite (with the step).
    """
    _check_tokens(model, train_tokens, val_tokens)
    made_of = _made_of(model, train_tokens, val_tokens, config)
    remedy = f"delete {out} to train again"
    if not overwrite and recover_finished(out, made_of):
        folder = as_local_path(out)
        verify(folder, remedy=remedy)
        return _read_finished(model, folder, remedy, progress)
    with atomic_folder(out, made_of, resumes=True, overwrite=overwrite) as folder:
        if (folder / RESULTS).exists():  # it was killed before the folder's manifest was written
            (folder / CHECKPOINT).unlink(missing_ok=True)
            return _read_finished(model, folder, remedy, progress)
        training = _Training(model, train_tokens, val_tokens, config, folder, progress)
        training.begin()
        while training.step < training.steps:
            training.update()
            if training.row_is_due():
                training.write_row()
                if training.step < training.steps and time.monotonic() - training.checkpoint_time >= checkpoint_seconds:
                    training.keep_checkpoint()
        return training.end(tokenizer, val_characters)


def _read_finished(model: Transformer, folder: Path, remedy: str, progress: Progress) -> TrainingResult:
    """Return the result of a finished training; its weights are loaded into the model."""
    load_weights(model, folder / "weights.safetensors", remedy)
    result = TrainingResult(**read_json(folder / RESULTS, remedy))
    progress(result.steps, result.steps, f"val {result.val_loss:.3f} nats/token")
    return result


class _Training:
    """One training: the model, its optimizer, the step, and the folder that they are written to."""

    def __init__(
        self,
        model: Transformer,
        train_tokens: Tensor,
        val_tokens: Tensor,
        config: TrainingConfig,
        out: Path,
        progress: Progress,
    ):
        self.model = model
        self.train_tokens = train_tokens
        self.val_tokens = val_tokens
        self.config = config
        self.out = out
        self.progress = progress
        self.checkpoint = out / CHECKPOINT
        self.n_ctx = train_tokens.shape[1]
        self.device = model.W_E.device
        self.steps = config.steps(self.n_ctx)
        self.step = 0
        self.optimizer = adamw(model, config)
        self.pending: list[Tensor] = []  # (loss, gradient norm) of the steps since the last row
        self.seconds_before = 0.0
        self.note = "starting"
        self.start_time = self.row_time = self.checkpoint_time = time.monotonic()

    def begin(self) -> None:
        """Resume from the checkpoint, or start."""
        if self.checkpoint.exists():
            facts = read_checkpoint(self.checkpoint, self.model, self.optimizer)
            self.step = facts["step"]
            self.seconds_before = facts["seconds"]
            drop_rows_after(self.out / "metrics.jsonl", self.step)
            log.info("resumed %s at step %d of %d", self.out, self.step, self.steps)
            return
        for file in self.out.rglob("*"):  # of a training that was killed before its first checkpoint
            if file.is_file():
                file.unlink()
        self.model.save(self.out)  # so that snapshots can be opened while training lasts
        self.keep_snapshot()

    def update(self) -> None:
        """Take one step of AdamW on one batch."""
        rows = batch_rows(self.step, len(self.train_tokens), self.config.batch_size, self.config.seed)
        batch = self.train_tokens[rows].to(self.device)
        for group in self.optimizer.param_groups:
            group["lr"] = self.config.lr_at(self.step, self.steps)
        with autocast_to(self.device, self.config.precision):
            loss = self.model(batch, return_type="loss")
        self.optimizer.zero_grad()
        loss.backward()
        norm = torch.nn.utils.clip_grad_norm_(self.model.parameters(), CLIP_NORM)
        self.optimizer.step()
        self.pending.append(torch.stack([loss.detach().float(), norm.detach().float()]))
        self.step += 1
        self.keep_snapshot()
        self.progress(self.step, self.steps, self.note)

    def row_is_due(self) -> bool:
        config = self.config
        return self.step % LOG_EVERY == 0 or self.step % config.val_every == 0 or self.step == self.steps

    def write_row(self) -> None:
        config = self.config
        n = len(self.pending)
        losses, norms = torch.stack(self.pending).double().cpu().unbind(1)
        self.pending = []
        check_finite(losses, norms, self.step - n + 1, config)
        tokens_per_step = config.batch_size * self.n_ctx
        row = {
            "step": self.step,
            "tokens": self.step * tokens_per_step,
            "loss": float(losses.mean()),
            "lr": config.lr_at(self.step - 1, self.steps),
            "grad_norm": float(norms.mean()),
            "tokens_per_second": n * tokens_per_step / max(time.monotonic() - self.row_time, 1e-9),
        }
        self.note = f"loss {row['loss']:.3f}"
        if self.step % config.val_every == 0 or self.step == self.steps:
            places = np.linspace(0, len(self.val_tokens) - 1, min(VAL_SEQUENCES, len(self.val_tokens)))
            subset = self.val_tokens[torch.from_numpy(places.round().astype(np.int64))]
            row["val_loss"] = evaluate_loss(self.model, subset, precision=config.precision)
        with open(self.out / "metrics.jsonl", "a") as file:
            file.write(json.dumps(row) + "\n")
        self.row_time = time.monotonic()

    def keep_snapshot(self) -> None:
        if self.step in self.config.snapshot_steps:
            self.model.save_weights(self.out / "snapshots" / f"step-{self.step}.safetensors")

    def keep_checkpoint(self) -> None:
        facts = {"step": self.step, "seconds": self.seconds()}
        write_checkpoint(self.checkpoint, self.model, self.optimizer, facts)
        self.checkpoint_time = time.monotonic()

    def seconds(self) -> float:
        return self.seconds_before + time.monotonic() - self.start_time

    def end(self, tokenizer: TextTokenizer | None, val_characters: int | None) -> TrainingResult:
        """Measure, sample and write. The results are written last: after a kill before that, only this is repeated."""
        if val_characters is None and tokenizer is not None:
            val_characters = sum(len(decode_without_bos(tokenizer, row)) for row in self.val_tokens)
        losses = measure_losses(
            self.model,
            self.train_tokens,
            self.val_tokens,
            val_characters,
            precision=self.config.precision,
            progress=self._show_evaluation,
        )
        n_tokens = self.steps * self.config.batch_size * self.n_ctx
        result = TrainingResult(**losses, steps=self.steps, tokens=n_tokens, wall_seconds=self.seconds())
        self.model.save(self.out)
        if tokenizer is not None and self.config.n_samples:
            write_json(self.out / "samples.json", sample_texts(self.model, tokenizer, self.config))
        write_json(self.out / RESULTS, asdict(result))
        self.checkpoint.unlink(missing_ok=True)
        self.progress(self.steps, self.steps, f"val {result.val_loss:.3f} nats/token")
        return result

    def _show_evaluation(self, done: int, total: int, note: str) -> None:
        self.progress(self.steps, self.steps, f"{note} {done}/{total}")


def _check_tokens(model: Transformer, train_tokens: Tensor, val_tokens: Tensor) -> None:
    config = model.config
    for name, tokens in (("train_tokens", train_tokens), ("val_tokens", val_tokens)):
        if tokens.ndim != 2 or len(tokens) == 0 or not 2 <= tokens.shape[1] <= config.n_ctx:
            raise InterpError(
                f"{name} of shape {tuple(tokens.shape)} must be [seq ≥ 1, pos in 2..n_ctx={config.n_ctx}]"
            )
        low, high = int(tokens.min()), int(tokens.max())
        if low < 0 or high >= config.d_vocab:
            raise InterpError(
                f"{name} hold ids {low}..{high}; the model's d_vocab={config.d_vocab} allows 0..{config.d_vocab - 1}"
            )


def _made_of(model: Transformer, train_tokens: Tensor, val_tokens: Tensor, config: TrainingConfig) -> dict[str, Any]:
    """Return what determines the result of a training; tensors by their digests."""
    settings = {f"training.{name}": value for name, value in asdict(config).items()}
    settings |= {f"model.{name}": value for name, value in asdict(model.config).items()}
    tensors = {
        "initial weights": model.state_dict().values(),
        "train_tokens": [train_tokens],
        "val_tokens": [val_tokens],
    }
    return {"kind": "model", **settings, **{name: digest(*each) for name, each in tensors.items()}}
