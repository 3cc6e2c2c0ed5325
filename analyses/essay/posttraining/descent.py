"""The loop of the three trainings after pre-training: AdamW on batches of a few epochs, linear warm-up and decay."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from interp.checks.limits import CheckedFields, Fraction, Positive, PositiveInt
from models.training_recipe import batch_rows


@dataclass(frozen=True, kw_only=True)
class PostTrainingConfig(CheckedFields):
    epochs: Positive = 3.0
    batch_size: PositiveInt = 32
    lr: Positive = 1e-3
    warmup: Fraction = 0.1
    """Fraction of the steps in which the rate rises to `lr`; then it falls linearly to 0."""
    weight_decay: float = 0.0
    clip_norm: float = 1.0
    seed: int = 0
    """Seed of the order of the rows."""

    def steps(self, n_rows: int) -> int:
        return max(1, round(self.epochs * n_rows / self.batch_size))

    def lr_at(self, step: int, steps: int) -> float:
        """Return the rate of update `step` = 0..steps − 1."""
        warmup = max(1, round(self.warmup * steps))
        return self.lr * min((step + 1) / warmup, (steps - step) / max(1, steps - warmup), 1.0)


def descend(
    module: nn.Module,
    n_rows: int,
    config: PostTrainingConfig,
    loss_of: Callable[[Int[Tensor, " row"]], Float[Tensor, ""]],
    watch: Callable[[int, float], None] | None = None,
) -> None:
    """Minimise the mean of `loss_of(rows)` over the rows 0..n_rows − 1, in place. `watch(step, loss)` is called for
    every step done and the loss before it, and of step 0 (with a loss of nan) before any. Raises ValueError on a loss
    that is not finite."""
    steps = config.steps(n_rows)
    optimizer = torch.optim.AdamW(module.parameters(), betas=(0.9, 0.99), weight_decay=config.weight_decay, fused=True)
    if watch:
        watch(0, float("nan"))
    for step in range(steps):
        for group in optimizer.param_groups:
            group["lr"] = config.lr_at(step, steps)
        loss = loss_of(batch_rows(step, n_rows, config.batch_size, config.seed))
        if not loss.isfinite():
            raise ValueError(f"step {step + 1}: the loss is {float(loss)}; lower lr={config.lr}")
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(module.parameters(), config.clip_norm)
        optimizer.step()
        if watch:
            watch(step + 1, float(loss.detach()))
