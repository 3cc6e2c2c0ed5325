"""The recipe of a language model's training: its settings, learning rate, batches, loss, optimizer and precision.

AdamW with decay on matrices only, linear warm-up, then a cosine. The batch of a step depends only on the seed and the
step. The loss is next-token cross-entropy straight from the residual stream. For a row x with target t, weights W
[d_model, d_vocab] and bias b:

    loss = −log softmax(x W + b)[t],     p = softmax(x W + b) − onehot(t)
    d loss/dx = p Wᵀ,     d loss/dW = xᵀ p,     d loss/db = p

The logits of a batch are by far the largest tensor of a small model's step. `token_loss` computes them one slab of rows
at a time, in one buffer that stays in the cache, together with the three gradients, so that nothing of size [row,
d_vocab] is ever allocated. It computes the same as `F.cross_entropy`, in about half its time on a CPU.
"""

import math
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import lru_cache
from typing import Annotated, Any, Literal

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from interp.checks.errors import InterpError
from interp.checks.limits import CheckedFields, Fraction, Positive, PositiveInt, Seed, at_least
from interp.runtime.devices import multiplies_bfloat16

Precision = Literal["auto", "float32", "bfloat16"]
FINAL_LR = 0.05
"""The learning rate at the end, as a fraction of its peak."""
BETAS = (0.9, 0.99)
CLIP_NORM = 1.0
"""The norm to which a larger gradient, of all weights together, is scaled down."""
SLAB_BYTES = 8 << 20
"""Bytes of logits in memory at a time."""


@dataclass(frozen=True, kw_only=True)
class TrainingConfig(CheckedFields):
    tokens: PositiveInt = 3_000_000
    """Tokens to train on, counted with repetition; when the corpus is used up it is read again in another order."""
    batch_size: PositiveInt = 8
    """Sequences per step. A short run gains more from many steps than from large ones."""
    lr: Positive = 6e-3
    warmup: Fraction = 0.05
    """Fraction of the steps in which the learning rate rises to `lr`; then a cosine takes it to `FINAL_LR` · `lr`."""
    weight_decay: float = 0.1
    precision: Precision = "auto"
    """The number format of the matmuls. "auto": bfloat16 if the hardware supports it, else float32."""
    val_every: PositiveInt = 200
    """Steps between two points of the validation curve."""
    snapshot_steps: tuple[int, ...] = ()
    """Weights are kept after these steps; 0 is the untrained model."""
    n_samples: Annotated[int, at_least(0)] = 4
    """Number of sample texts that the trained model writes."""
    seed: Seed = 0
    """The seed of the batch order and of the samples."""

    def steps(self, n_ctx: int) -> int:
        return max(1, self.tokens // (self.batch_size * n_ctx))

    def lr_at(self, step: int, steps: int) -> float:
        """Return the learning rate of update `step` = 0..steps − 1."""
        warmup = round(self.warmup * steps)
        if step < warmup:
            return self.lr * (step + 1) / warmup
        share = (step - warmup) / max(1, steps - 1 - warmup)
        return self.lr * (FINAL_LR + (1 - FINAL_LR) * 0.5 * (1 + math.cos(math.pi * share)))


def batch_rows(step: int, n_sequences: int, batch_size: int, seed: int) -> Int[Tensor, " batch"]:
    """Return the sequences of a step: successive permutations of all sequences are divided into batches."""
    places = np.arange(step * batch_size, (step + 1) * batch_size)
    epochs, rows = np.divmod(places, n_sequences)
    return torch.from_numpy(
        np.concatenate([_order(n_sequences, seed, e)[rows[epochs == e]] for e in np.unique(epochs)])
    )


@lru_cache(maxsize=4)
def _order(n_sequences: int, seed: int, epoch: int) -> np.ndarray:
    return np.random.default_rng([seed, epoch]).permutation(n_sequences)


def adamw(model: nn.Module, config: TrainingConfig) -> torch.optim.AdamW:
    """Make AdamW with decay on matrices only, not on biases and LayerNorm gains."""
    named = dict(model.named_parameters())
    matrices = [parameter for name, parameter in named.items() if name.rsplit(".", 1)[1].startswith("W_")]
    others = [parameter for name, parameter in named.items() if not name.rsplit(".", 1)[1].startswith("W_")]
    groups = [{"params": matrices, "weight_decay": config.weight_decay}, {"params": others, "weight_decay": 0.0}]
    return torch.optim.AdamW(groups, lr=config.lr, betas=BETAS, fused=True)


def check_finite(losses: Tensor, norms: Tensor, first_step: int, config: TrainingConfig) -> None:
    """Raise ValueError at the first step whose loss or gradient norm is not finite."""
    bad = ~(losses.isfinite() & norms.isfinite())
    if bad.any():
        first = int(bad.nonzero()[0, 0])
        raise InterpError(
            f"step {first_step + first}: the loss is {losses[first]:.4g} and the gradient norm {norms[first]:.4g}; "
            f"lower lr={config.lr} or lengthen warmup={config.warmup}"
        )


def autocast_to(device: torch.device, precision: Precision) -> AbstractContextManager:
    if precision == "bfloat16" or (precision == "auto" and multiplies_bfloat16(device)):
        return torch.autocast(device.type, torch.bfloat16)
    return nullcontext()


def token_loss(
    x: Float[Tensor, "row d_model"],
    W: Float[Tensor, "d_model d_vocab"],
    b: Float[Tensor, " d_vocab"],
    targets: Int[Tensor, " row"],
) -> Float[Tensor, ""]:
    """Compute the mean cross-entropy in nats per row.

    Under CPU autocast the three matmuls run in its dtype and the softmax in float32. On a CPU it can be differentiated
    once, not twice.
    """
    targets = targets.long()
    if x.device.type != "cpu" or W.dtype not in (torch.float32, torch.float64):  # a sum in 16 bits has three digits
        return F.cross_entropy(F.linear(x, W.T, b).float(), targets)
    low_dtype = torch.get_autocast_dtype("cpu") if torch.is_autocast_enabled("cpu") else None
    if torch.is_grad_enabled() and (x.requires_grad or W.requires_grad or b.requires_grad):
        return _SlabLoss.apply(x, W, b, targets, low_dtype)
    return _slabs(x, W, b, targets, low_dtype, None)


class _SlabLoss(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, W: Tensor, b: Tensor, targets: Tensor, low_dtype: torch.dtype | None) -> Tensor:
        grads = torch.empty_like(x), torch.zeros_like(W), torch.zeros_like(b)
        loss = _slabs(x, W, b, targets, low_dtype, grads)
        ctx.save_for_backward(*grads)
        return loss

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        dx, dW, db = ctx.saved_tensors
        grad = grad / len(dx)
        return dx * grad, dW * grad, db * grad, None, None


def _slabs(
    x: Tensor,
    W: Tensor,
    b: Tensor,
    targets: Tensor,
    low_dtype: torch.dtype | None,
    grads: tuple[Tensor, Tensor, Tensor] | None,
) -> Tensor:
    """Return the mean loss; the gradients of the summed loss go to `grads`, dx written and dW, db added to."""
    d_vocab = W.shape[1]
    low = low_dtype or x.dtype
    size = max(1, min(len(x), SLAB_BYTES // (d_vocab * W.element_size())))
    buffer = torch.empty(size, d_vocab, dtype=W.dtype)
    total = torch.zeros((), dtype=W.dtype)
    x_low, W_low, b_low = x.to(low), W.to(low), b.to(low)
    for start in range(0, len(x), size):
        rows, target = x_low[start : start + size], targets[start : start + size, None]
        slab = buffer[: len(rows)]
        if low_dtype is None:
            torch.addmm(b, rows, W, out=slab)
        else:
            slab.copy_(torch.addmm(b_low, rows, W_low))
        torch.log_softmax(slab, 1, out=slab)
        total -= slab.gather(1, target).sum()
        if grads is None:
            continue
        dx, dW, db = grads
        slab.exp_().scatter_add_(1, target, slab.new_full((len(rows), 1), -1.0))
        db += slab.sum(0)
        if low_dtype is None:
            torch.mm(slab, W.T, out=dx[start : start + size])
            dW.addmm_(rows.T, slab)
        else:
            slab_low = slab.to(low)
            dx[start : start + size] = slab_low @ W_low.T
            dW += rows.T @ slab_low
    return total / len(x)
