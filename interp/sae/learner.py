"""One dictionary in training: forward pass of a batch, gradients by autograd, a step of Adam.

With B rows, e = x_hat − x and V the total variance of the scaled outputs,

    loss = [ Σ_i ‖e_i‖² + the architecture's terms ] / (B·V) + the loss that revives dead latents

The architecture (`architectures`) defines the entries that fire and their loss; `sparse_ops` has the operations. They
pass the gradients of encoder and decoder to the optimizer in parts, which it adds up row by row. Several processes each
take a part of the batch's rows; sums over rows are then sums over all of them.

The latents may be sharded over the processes as well (`ProcessGrid.shards`). Each process then has the weights,
gradients and Adam's moments of its own latents, and processes the same rows. It picks among its own latents, and the
largest values of all processes are kept. x_hat is the sum of the shards' reconstructions. So every process knows e, and
computes the gradients of its part of W_enc, b_enc and W_dec alone. Every process also holds b_dec and W_skip: their
gradients are summed over the shards.
"""

import math
from collections.abc import Mapping
from typing import Any, NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from interp.checks.errors import InterpError
from interp.codes.latent_strengths import is_faint
from interp.runtime.processes import SINGLE_PROCESS_GRID, ProcessGrid
from interp.runtime.threads import torch_on_one_thread
from interp.sae.architectures.sae_config import SAEConfig, missing_method
from interp.sae.encode_rows import Workspace, has_fast_bfloat16
from interp.sae.forward_pass import ForwardPass, GlobalBatch, PickedEntries, StepInputs, fields_of
from interp.sae.hook_scales import HookScales
from interp.sae.kernels.torch_kernels import AdamStep
from interp.sae.model import SAE
from interp.sae.resampling import (
    BATCH_ROWS,
    CANDIDATES_PER_LATENT,
    MAX_KEPT_ROWS,
    NewLatents,
    Reservoir,
    latents_along_residuals,
    latents_along_rows,
    n_compared_rows,
)
from interp.sae.sparse_ops import RowGradient
from interp.sae.weights import REPLICATED_WEIGHTS, initial_weights, keep_near_start, unscaled_dictionary

_FROZEN_WEIGHTS = {"decoder": "W_dec", "encoder": "encoder_rows"}
"""The weights that the option `freeze` keeps fixed. Of an architecture whose decoder's rows also encode, both are the
decoder's."""


class StepResult(NamedTuple):
    loss: float
    """All terms."""
    fvu: float
    """Σ‖e‖² over the batch's own total variance."""
    l0: float
    """Mean number of latents that fire on a row."""
    dead: float
    """Share of the latents, in [0, 1], that have not fired for `dead_after` tokens."""
    faint: float
    """Share of the latents, in [0, 1] (`interp.codes.latent_strengths`)."""
    lr: float


class LossAndGradients(NamedTuple):
    """The loss of a step, over the rows of this process, and its gradients."""

    loss: float
    gradients: dict[str, RowGradient]
    forward: ForwardPass


class Learner:
    """A dictionary in training. `step` takes one step; `state` and `load_state` save and restore everything.

    Raises ValueError if the architecture lacks a method, or cannot be trained on such hooks.
    """

    def __init__(
        self,
        config: SAEConfig,
        hook_scales: HookScales,
        device: torch.device,
        dtype: torch.dtype = torch.float32,
        grid: ProcessGrid = SINGLE_PROCESS_GRID,
    ):
        if type(config).trained_encoder is SAEConfig.trained_encoder:  # it is first called when training is over
            raise InterpError(missing_method(config, "trained_encoder"))
        config.check_hooks(tied=hook_scales.tied, n_hooks=len(hook_scales.inputs))
        self.config = config
        self.hook_scales = hook_scales
        self.grid = grid
        self.variance = hook_scales.variance
        self.input_scales = hook_scales.input_scales.to(device, dtype)
        self.output_scales = hook_scales.output_scales.to(device, dtype)
        self.initial_parameters = config.initial_parameters(hook_scales.input_std * config.initial_norm)
        self.weights = initial_weights(config, hook_scales, device, dtype, grid.shards)
        self.initial_W_dec = self.weights["W_dec"].clone() if config.freeze == "directions" else None
        for name, value in self.initial_parameters.items():
            self.weights[name] = torch.full_like(self.weights["W_dec"][:, 0], value)
        matrices = config.initial_matrices(self.weights)
        if matrices and len(hook_scales.inputs) > 1:
            raise InterpError(
                f"architecture {config.architecture!r} has matrices of its own ({', '.join(matrices)}), into which the "
                "scales of several hooks cannot be folded: train on one hook"
            )
        self.weights |= matrices
        self.architecture_state = config.initial_state()
        self.low_precision = has_fast_bfloat16(self.weights["W_dec"])
        self.means = {name: torch.zeros_like(weight) for name, weight in self.weights.items()}
        self.squares = {name: torch.zeros_like(weight) for name, weight in self.weights.items()}
        n_latents = len(self.weights["W_dec"])  # of this process
        self.since_fired = torch.zeros(n_latents, dtype=torch.int64, device=device)
        self.strongest = torch.zeros(2, n_latents, device=device, dtype=dtype)  # of this window; of the last
        self.steps_done = 0
        frozen = _FROZEN_WEIGHTS.get(config.freeze)
        self.frozen_weight = frozen if frozen in (None, *self.weights) else "W_dec"
        # A resampled latent gets another direction, which a frozen one keeps.
        at = config.resampling_steps if hook_scales.tied and config.freeze == "nothing" else ()
        n_compared = n_compared_rows(config.d_sae, config.batch_size, at)
        size = n_compared if config.resamples_along_residuals else min(config.d_sae, MAX_KEPT_ROWS)
        self.reservoir = Reservoir(at, size, config.seed)
        self._workspace = Workspace()

    @property
    def dead(self) -> Int[Tensor, " dead"]:
        return (self.since_fired >= self.config.dead_tokens).nonzero()[:, 0]

    @property
    def faint(self) -> Int[Tensor, " faint"]:
        """Latents that are faint by their firings in the last `dead_tokens` to 2 · `dead_tokens` rows."""
        return self._is_faint().nonzero()[:, 0]

    @property
    def idle(self) -> Int[Tensor, " idle"]:
        """Latents that did not fire in these rows, or are faint."""
        return ((self.strongest.amax(0) == 0) | self._is_faint()).nonzero()[:, 0]

    def _is_faint(self) -> Bool[Tensor, " latent"]:
        """Mark the faint latents of this process, compared with the latents of all processes."""
        strongest = self.grid.shards.all_gather(self.strongest.amax(0), same_length=True)
        first = self.grid.shards.rank * self.strongest.shape[1]
        return is_faint(strongest)[first : first + self.strongest.shape[1]]

    @torch_on_one_thread()
    def step(self, rows: Float[Tensor, "batch d"]) -> StepResult:
        """Take a step. `rows`: this process's part of the batch. Its columns are the inputs, followed by the outputs if
        these differ."""
        x, y = self.scale_rows(rows)
        batch = self._batch(len(x))
        if batch.rows == 0:
            limits = ", ".join(f"{limit:.4g}" for limit in self.hook_scales.limits if limit is not None)
            raise InterpError(f"no row of a batch is within the norm limits {limits}: raise batch_size")
        loss_here, gradients, forward = self.loss_and_gradients(x, y, batch)
        lr = self.config.lr_at(self.steps_done)
        self.config.observe(forward)
        fired = self.grid.data.sum_(forward.count_fired())
        self.since_fired += batch.rows
        self.since_fired[fired > 0] = 0
        self._track_strongest(forward.strongest())
        if self.grid.data.count > 1:
            for name in self.weights:
                forward.weights[name].grad = self.grid.data.sum_(gradients[name].tensor())
        for name in REPLICATED_WEIGHTS if self.grid.shards.count > 1 else ():
            if name in self.weights:
                forward.weights[name].grad = self.grid.shards.sum_(gradients[name].tensor())
        loss, squared_error, total_squares = forward.everywhere(
            loss_here, forward.errors.sum_of_squares, self._total_squares(y, batch)
        )
        self.update(gradients, loss)
        self.config.project(self.weights)
        self.config.mask(self.weights)
        if self.initial_W_dec is not None:
            keep_near_start(self.weights["W_dec"], self.initial_W_dec)
        self.steps_done += 1
        if self.reservoir.collects(self.steps_done):
            self._resample(forward)
        fvu = squared_error / total_squares if total_squares > 0 else 0.0
        firings, dead, faint = self._over_shards(float(fired.sum()), len(self.dead), len(self.faint))
        d_sae = self.config.d_sae
        return StepResult(loss, fvu, firings / max(1, batch.rows), dead / d_sae, faint / d_sae, lr)

    def _over_shards(self, *sums: float) -> list[float]:
        """Sum over all shards values that are sums over this process's latents."""
        return self.grid.shards.sum_(torch.tensor(sums, dtype=torch.float64)).tolist()

    def scale_rows(
        self, rows: Float[Tensor, "batch d"]
    ) -> tuple[Float[Tensor, "row d_in"], Float[Tensor, "row d_out"]]:
        """Return the scaled inputs and outputs of the rows that are used for training."""
        x, y = self.hook_scales.split(self.hook_scales.within(rows.to(self.weights["W_dec"])))
        x = torch.mul(x, self.input_scales, out=self._workspace.buffer("x", len(x), x.shape[1], x.dtype, x.device))
        return x, x if self.hook_scales.tied else y * self.output_scales

    def loss_and_gradients(
        self,
        x: Float[Tensor, "row d_in"],
        y: Float[Tensor, "row d_out"] | None = None,
        batch: GlobalBatch | None = None,
    ) -> LossAndGradients:
        """Return the loss on scaled inputs, over the rows of this process, and its gradients."""
        dead = self.dead
        n_dead = int(self._over_shards(len(dead))[0])
        inputs = self._inputs(x, x if y is None else y, batch or GlobalBatch(len(x), 0, self.grid), n_dead)
        with torch.enable_grad():
            support, pre = self.config.encode(inputs)
            entries = PickedEntries(**fields_of(inputs), support=support, pre=pre)
            forward = ForwardPass(**fields_of(entries), z=self.config.activate(entries))
            loss = self.config.loss(forward) / (forward.batch.rows * forward.variance)
            if n_dead:
                loss = loss + self.config.revival_loss(forward, dead)
            loss.backward()
        return LossAndGradients(float(loss.detach()), forward.gradients, forward)

    def update(self, gradients: Mapping[str, RowGradient], loss: float) -> None:
        """Take a step of Adam down the clipped gradient of ln loss (ours).

        Adam remembers squares for a thousand steps. The gradients of the first steps are a hundred times larger, and
        those of ln loss keep them from filling that memory.

        `loss` is the loss of the global batch.
        """
        config = self.config
        scale = 1 / loss if loss > 0 else 1.0
        if config.clip is not None:
            norm = scale * self._norm(gradients)
            scale *= min(1.0, config.clip / norm) if norm > 0 else 1.0
        lr = config.lr_at(self.steps_done)
        for name, gradient in gradients.items():
            if name != self.frozen_weight:
                unit_norm = name == "W_dec" and config.unit_norm
                adam = AdamStep(lr, self.steps_done + 1, scale, unit_norm=unit_norm)
                gradient.adam_(self.weights[name], self.means[name], self.squares[name], adam)

    def _norm(self, gradients: Mapping[str, RowGradient]) -> float:
        """Return the norm of the whole gradient."""
        squares = {name: float(torch.linalg.vector_norm(part.tensor())) ** 2 for name, part in gradients.items()}
        sharded = [name for name in squares if name not in REPLICATED_WEIGHTS]
        squares |= zip(sharded, self._over_shards(*(squares[name] for name in sharded)), strict=True)
        return math.sqrt(sum(squares.values()))

    def _inputs(self, x: Tensor, y: Tensor, batch: GlobalBatch, n_dead: int) -> StepInputs:
        weights = {name: weight.detach().requires_grad_() for name, weight in self.weights.items()}
        weights["W_dec"].requires_grad_(self.frozen_weight != "W_dec")
        centred = x
        if self.hook_scales.tied:
            out = self._workspace.buffer("centred", len(x), x.shape[1], x.dtype, x.device)
            centred = torch.sub(x, self.weights["b_dec"], out=out)
        return StepInputs(
            weights=weights,
            gradients={name: RowGradient(weight, self._workspace, name) for name, weight in weights.items()},
            inputs=x,
            outputs=y,
            x=centred,
            tied=self.hook_scales.tied,
            batch=batch,
            steps_done=self.steps_done,
            variance=self.variance,
            state=self.architecture_state,
            part_widths=self.hook_scales.widths,
            unit_norm=self.config.unit_norm,
            low_precision=self.low_precision,
            workspace=self._workspace,
            n_dead=n_dead,
        )

    def _batch(self, rows: int) -> GlobalBatch:
        counts = self.grid.data.all_gather(torch.tensor([rows]), same_length=True).tolist()
        return GlobalBatch(sum(counts), sum(counts[: self.grid.data.rank]), self.grid)

    def _resample(self, forward: ForwardPass) -> None:
        """Keep rows of this step, and resample the idle latents at the configured steps."""
        step = self.steps_done
        loss = torch.linalg.vector_norm(forward.error, dim=1).square()
        if self.config.resamples_along_residuals:
            size = torch.linalg.vector_norm(forward.x, dim=1).square()
            loss = loss / size.clamp(min=torch.finfo(loss.dtype).tiny)
        self.reservoir.collect(step, forward.x, forward.error, loss, forward.batch)
        if step not in self.reservoir.at:
            return
        idle = self.idle
        counts = self.grid.shards.all_gather(torch.tensor([len(idle)]), same_length=True).tolist()
        first = sum(counts[: self.grid.shards.rank])
        if self.config.resamples_along_residuals:
            rows, missing = self.reservoir.draw(CANDIDATES_PER_LATENT * sum(counts))
            strided = forward.batch.strided_rows(forward.batch.rows, BATCH_ROWS // 2)
            batch = [self.grid.data.all_gather(part[strided]) for part in (forward.x, -forward.error)]
            new = latents_along_residuals(rows, missing, self.hook_scales.precision.to(rows), *batch)
        else:
            rows, _ = self.reservoir.draw(sum(counts))
            fires = torch.ones(len(self.since_fired), dtype=torch.bool, device=idle.device)
            fires[idle] = sum(counts) == self.config.d_sae
            norms = self.grid.shards.all_gather(self.weights["encoder_rows"][fires].norm(dim=1))
            new = latents_along_rows(rows, norms.mean())
        new_here = NewLatents(*(values[first : first + len(idle)] for values in new))
        self._begin_again(idle[: len(new_here.b_enc)], new_here)

    def _begin_again(self, latents: Int[Tensor, " latent"], new: NewLatents) -> None:
        """Restart Adam for the resampled latents, and the parameters of the architecture at their initial values.

        Adam's means restart at 0, its squares at the mean over all latents. If the squares restarted at 0, the first
        steps would be several times the learning rate."""
        matrices = self.config.initial_matrices(new._asdict())
        for name, values in {**new._asdict(), **self.initial_parameters, **matrices}.items():
            self.weights[name][latents] = values[: len(latents)] if isinstance(values, Tensor) else values
            self.means[name][latents] = 0
            self.squares[name][latents] = self._mean(self.squares[name])
        self.since_fired[latents] = 0
        self.strongest[:, latents] = 0

    def _mean(self, values: Float[Tensor, "latent ..."]) -> Float[Tensor, "..."]:
        """Return the mean over the latents of all processes."""
        return self.grid.shards.sum_(values.sum(0)) / self.config.d_sae

    def _track_strongest(self, strongest: Float[Tensor, " d_sae"]) -> None:
        """Keep each latent's strongest firing, in windows of `dead_tokens` rows."""
        strongest = self.grid.data.all_gather(strongest[None], same_length=True).amax(0)
        if self.steps_done % max(1, self.config.dead_tokens // self.config.batch_size) == 0:
            self.strongest = torch.stack([torch.zeros_like(strongest), self.strongest[0]])
        torch.maximum(self.strongest[0], strongest, out=self.strongest[0])

    def _total_squares(self, y: Float[Tensor, "row d_out"], batch: GlobalBatch) -> float:
        """Return Σ ‖y − ȳ‖² over the rows of this process, around the mean of the global batch."""
        mean = self.grid.data.sum_(y.sum(0)) / max(1, batch.rows)
        return float(torch.linalg.vector_norm(y - mean)) ** 2

    def sae(self, metadata: dict[str, Any]) -> SAE:
        """Return the dictionary for unscaled inputs: all scales are folded into the weights."""
        encoder = self.config.trained_encoder(self.weights, self.architecture_state)
        return unscaled_dictionary(self.weights, encoder, self.hook_scales, self.config, metadata)

    def state(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """Return the tensors, and the values that fit into JSON."""
        parts = {"mean": self.means, "square": self.squares}
        moments = {f"{part}.{name}": tensor for part, tensors in parts.items() for name, tensor in tensors.items()}
        counts = {"since_fired": self.since_fired, "strongest": self.strongest}
        tensors = {**self.weights, **moments, **counts, **self.reservoir.state()}
        return tensors, {"steps_done": self.steps_done, "numbers": self.architecture_state}

    def load_state(self, tensors: dict[str, Tensor], numbers: dict[str, Any]) -> None:
        device = self.since_fired.device
        tensors = {name: tensor.to(device) for name, tensor in tensors.items()}
        self.reservoir.load_state(tensors)
        for name, current in self.state()[0].items():
            current.copy_(tensors[name])
        self.steps_done = numbers["steps_done"]
        self.architecture_state = dict(numbers["numbers"])
