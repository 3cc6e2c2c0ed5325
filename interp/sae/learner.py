"""One dictionary in training: the loss, its gradients by hand, and the update.

Inputs are scaled to a mean norm of √d_in. With B rows, e = x_hat − x and V the total variance of the scaled inputs:

    loss = Σ_i ‖e_i‖² / (B·V)  +  aux_coefficient · min(1, n_dead / k_aux) · Σ_i ‖ê_i + e_i‖² / Σ_i ‖e_i − ē‖²

The second term is AuxK: ê reconstructs −e from the k_aux = d_in / 2 largest pre-activations among the dead latents,
with e and its variance held fixed. The first term's gradients need the codes, e and the gathered decoder rows only:

    ∂/∂W_dec[j] = c Σ_i z_ij e_i                 g_ij = c ⟨e_i, W_dec[j]⟩ where z_ij > 0,    c = 2 / (B·V)
    ∂/∂W_enc[j] = Σ_i g_ij (x_i − b_dec)         ∂/∂b_enc[j] = Σ_i g_ij
    ∂/∂b_dec    = c Σ_i e_i − Σ_j ∂/∂b_enc[j] W_enc[j]

Decoder rows are kept at norm one; b_dec begins at the geometric median, the encoder as the decoder's transpose.
"""

from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

from interp.activations import ActivationStatistics
from interp.codes import SparseCodes
from interp.sae.kernels import AdamStep, ByLatent, kernels
from interp.sae.model import SAE
from interp.sae.selection import SAEConfig, encode, has_fast_bfloat16, piece_rows

PARAMETERS = ("encoder", "W_dec", "b_enc", "b_dec")


class StepResult(NamedTuple):
    loss: float
    """Both terms."""
    fvu: float
    """Σ‖e‖² over the batch's own total variance."""
    l0: float
    dead: float
    """Share of latents, in [0, 1]."""
    lr: float


@dataclass
class Gradients:
    """Of the loss, by parameter, and what the forward pass left."""

    encoder: Float[Tensor, "d_sae d_in"]
    W_dec: Float[Tensor, "d_sae d_in"]
    b_enc: Float[Tensor, " d_sae"]
    b_dec: Float[Tensor, " d_in"]
    loss: float
    squared_error: float
    codes: SparseCodes
    fired: Int[Tensor, " d_sae"]
    """Rows on which each latent fired."""


class Learner:
    """`step` is one step of training; `state` and `load_state` are all there is to go on from."""

    def __init__(
        self,
        config: SAEConfig,
        statistics: ActivationStatistics,
        device: torch.device,
        dtype: torch.dtype = torch.float32,
    ):
        self.config, self.rule = config, config.rule()
        median = statistics.geometric_median.to(device, dtype)
        d_in = len(median)
        self.scale = d_in**0.5 / statistics.mean_norm if statistics.mean_norm > 0 else 1.0
        self.variance = max(statistics.variance * self.scale**2, torch.finfo(torch.float32).tiny)
        directions = torch.randn(config.d_sae, d_in, generator=torch.Generator().manual_seed(config.seed))
        self.W_dec = (directions / directions.norm(dim=1, keepdim=True)).to(device, dtype)
        self.encoder = self.W_dec.clone()
        self.b_enc = torch.zeros(config.d_sae, device=device, dtype=dtype)
        self.b_dec = median * self.scale
        self.means = {name: torch.zeros_like(getattr(self, name)) for name in PARAMETERS}
        self.squares = {name: torch.zeros_like(getattr(self, name)) for name in PARAMETERS}
        self.since_fired = torch.zeros(config.d_sae, dtype=torch.int64, device=device)
        self.steps_done = 0
        self._buffers = torch.empty_like(self.encoder), torch.empty_like(self.W_dec)
        rows = piece_rows(config.batch_size, config.d_sae, self.rule.by_row)
        self._pre = self.encoder.new_empty(rows, config.d_sae)
        self._low_precision = has_fast_bfloat16(self.encoder)

    @property
    def lr(self) -> float:
        """Of the next step: a linear rise, a plateau, a linear fall."""
        c, at = self.config, self.steps_done
        rise = max(1, min(1000, round(c.warmup * c.steps)))
        fall = max(1, round(c.decay * c.steps))
        return c.peak_lr * min(1.0, (at + 1) / rise, (c.steps - at) / fall if c.decay else 1.0)

    @property
    def dead(self) -> Int[Tensor, " dead"]:
        return (self.since_fired >= self.config.dead_tokens).nonzero()[:, 0]

    def step(self, x: Float[Tensor, "batch d_in"]) -> StepResult:
        x = x.to(self.W_dec) * self.scale
        gradients, lr = self.gradients(x), self.lr
        self.rule.observe(gradients.codes)
        self.since_fired += len(x)
        self.since_fired[gradients.fired > 0] = 0
        self._update(gradients, AdamStep(lr, self.steps_done + 1))
        self.steps_done += 1
        spread = (x - x.mean(0)).square().sum().item()
        fvu = gradients.squared_error / spread if spread > 0 else 0.0
        return StepResult(gradients.loss, fvu, gradients.codes.nnz / len(x), len(self.dead) / len(self.encoder), lr)

    def gradients(self, x: Float[Tensor, "batch d_in"]) -> Gradients:
        """Of the loss on scaled inputs. The two large ones live in buffers that the next call fills again."""
        ops, centred = kernels(x), x - self.b_dec
        codes = encode(
            centred,
            self.encoder,
            self.b_enc,
            self.rule.pick,
            by_row=self.rule.by_row,
            low_precision=self._low_precision,
            buffer=self._pre,
        )
        error, dots = ops.decode_backward(codes, self.W_dec, self.b_dec, x)
        slope = 2 / (len(x) * self.variance)
        by_latent: ByLatent = ops.transpose(codes)
        value_gradients = dots * slope
        b_enc = ops.sum_by_latent(by_latent, value_gradients, torch.ones_like(x[:, :1]))[:, 0]
        squared_error = error.square().sum().item()
        gradients = Gradients(
            encoder=ops.sum_by_latent(by_latent, value_gradients, centred, self._buffers[0]),
            W_dec=ops.sum_by_latent(by_latent, codes.values * slope, error, self._buffers[1]),
            b_enc=b_enc,
            b_dec=slope * error.sum(0) - b_enc @ self.encoder,
            loss=squared_error / (len(x) * self.variance),
            squared_error=squared_error,
            codes=codes,
            fired=by_latent.offsets.diff(),
        )
        self._add_auxk(gradients, centred, error)
        return gradients

    def _add_auxk(self, gradients: Gradients, centred: Tensor, error: Tensor) -> None:
        """Dense over the dead latents alone, so it costs little while few are dead.

        There is no ReLU here: a latent that is below zero on every row gets a gradient all the same, and comes back.
        Where more than 2·k_aux are dead, a share of the rows stands for the batch, so that the cost stays bounded.
        """
        dead, k_aux = self.dead, max(1, len(self.b_dec) // 2)
        if len(dead) == 0 or self.config.aux_coefficient == 0:
            return
        rows = min(len(error), max(1, len(error) * 2 * k_aux // len(dead)))
        centred, error = centred[:rows], error[:rows]
        variance = (error - error.mean(0)).square().sum()
        if not variance > 0:
            return
        encoder, W_dec = self.encoder[dead], self.W_dec[dead]
        z = torch.addmm(self.b_enc[dead], centred, encoder.T)
        if len(dead) > k_aux:
            left_out = torch.ones_like(z, dtype=torch.bool).scatter_(
                1, z.topk(k_aux, dim=1, sorted=False).indices, False
            )
            z.masked_fill_(left_out, 0)
        weight = self.config.aux_coefficient * min(1.0, len(dead) / k_aux) / variance
        left = torch.addmm(error, z, W_dec)  # ê + e
        slope = 2 * weight * left
        z_gradient = slope @ W_dec.T
        if len(dead) > k_aux:
            z_gradient.masked_fill_(left_out, 0)
        b_enc = z_gradient.sum(0)
        gradients.W_dec[dead] += z.T @ slope
        gradients.encoder[dead] += z_gradient.T @ centred
        gradients.b_enc[dead] += b_enc
        gradients.b_dec -= b_enc @ encoder
        gradients.loss += (weight * left.square().sum()).item()

    def _update(self, gradients: Gradients, adam: AdamStep) -> None:
        ops = kernels(self.W_dec)
        for name in PARAMETERS:
            tensors = (getattr(self, name), getattr(gradients, name), self.means[name], self.squares[name])
            as_rows = [tensor if tensor.ndim == 2 else tensor[None] for tensor in tensors]
            ops.adam_(*as_rows, adam, unit_norm=name == "W_dec")

    def sae(self, metadata: dict[str, Any]) -> SAE:
        """For inputs as they are: the scale goes into the biases and the threshold."""
        return SAE(
            W_enc=self.encoder.T.float(),
            W_dec=self.W_dec.float(),
            b_enc=(self.b_enc / self.scale).float(),
            b_dec=(self.b_dec / self.scale).float(),
            rule=self.rule.trained(self.config.d_sae, self.scale),
            config=self.config,
            metadata=metadata,
        )

    def state(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """Tensors, and what fits into JSON."""
        tensors = {name: getattr(self, name) for name in (*PARAMETERS, "since_fired")}
        tensors |= {f"mean.{name}": self.means[name] for name in PARAMETERS}
        tensors |= {f"square.{name}": self.squares[name] for name in PARAMETERS}
        return tensors, {"steps_done": self.steps_done, "rule": self.rule.state()}

    def load_state(self, tensors: dict[str, Tensor], numbers: dict[str, Any]) -> None:
        for name, mine in self.state()[0].items():
            mine.copy_(tensors[name])
        self.steps_done = numbers["steps_done"]
        self.rule.load_state(numbers["rule"])
