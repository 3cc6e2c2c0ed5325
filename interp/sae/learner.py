"""One dictionary in training: the loss, its gradients by hand, and the update.

With B rows, e = x_hat − x and V the total variance of the scaled outputs:

    loss = Σ_i ‖e_i‖² / (B·V)  +  the rule's penalty (`selection`)  +  what revives dead latents (`revival`)

The gradients of the first term need the codes, e and the gathered decoder rows only:

    ∂/∂W_dec[j] = c Σ_i z_ij e_i         g_ij = c ⟨e_i, W_dec[j]⟩ for the entries of the codes,     c = 2 / (B·V)
    ∂/∂b_dec    = c Σ_i e_i − Σ_i ∂x_i   (x is centred by b_dec; not in a transcoder)

and `encoders` carries g back to the encoder. Where prefixes of the latents must each reconstruct (Matryoshka), the loss
is the mean over the prefixes, and e_i stands for the mean of the errors of those that hold the latent.
Several processes each take a part of the batch's rows; sums over rows are then sums over all of them.
"""

from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

from interp.codes import SparseCodes
from interp.processes import Processes
from interp.sae.architectures import JumpReLUConfig, MatchingPursuitConfig, SAEConfig
from interp.sae.encoders import Encoded, encoder_for
from interp.sae.encoding import Workspace, has_fast_bfloat16
from interp.sae.gradients import Gradients, LatentSum
from interp.sae.kernels import ByLatent, kernels
from interp.sae.model import SAE
from interp.sae.optimizer import Optimizer, learning_rate, squared_norm
from interp.sae.revival import Batch, Resampler, add_auxk, add_pre_activation_loss, begin_anew, fading
from interp.sae.rules import Weights
from interp.sae.selection import Firing, Slopes
from interp.sae.site import Site, add_norm_slope, fold, medians, part_norms
from interp.sae.threads import torch_on_one_thread

_DRAW = 0x1A7E47
"""Added to the seed of the first directions: a world that was planted with the same seed must not be its own start."""


class StepResult(NamedTuple):
    loss: float
    """All terms."""
    fvu: float
    """Σ‖e‖² over the batch's own total variance."""
    l0: float
    dead: float
    """Share of latents, in [0, 1]."""
    lr: float


@dataclass
class Descent:
    """The gradients of the loss over the rows of this process, and what the forward pass left."""

    gradients: Gradients
    loss: float
    squared_error: float
    error: Float[Tensor, "row d_out"]
    encoded: Encoded


class Learner:
    """`step` is one step of training; `state` and `load_state` are all there is to go on from."""

    def __init__(
        self,
        config: SAEConfig,
        site: Site,
        device: torch.device,
        dtype: torch.dtype = torch.float32,
        processes: Processes | None = None,
    ):
        _check(config, site)
        self.config, self.site = config, site
        self.processes = processes or Processes()
        self.variance = site.variance
        self.input_scales = site.input_scales.to(device, dtype)
        self.output_scales = site.output_scales.to(device, dtype)
        self.weights = _initial_weights(config, site, device, dtype)
        low_precision = has_fast_bfloat16(self.weights["W_dec"])
        self.encoder = encoder_for(config, self.processes, low_precision=low_precision)
        self.rule = self.encoder.rules[-1]
        self.rule.place(self.weights, site.input_spread * config.decoder_init)
        self.optimizer = Optimizer(config, self.weights)
        self.since_fired = torch.zeros(config.d_sae, dtype=torch.int64, device=device)
        self.steps_done = 0
        at = tuple(round(fraction * config.steps) for fraction in getattr(config, "resample_at", ()))
        self.resampler = Resampler(at, config.d_sae, config.seed, self.processes)
        self._memory = Workspace()
        self._gradients = Gradients(self.weights)

    @property
    def lr(self) -> float:
        """Of the next step."""
        return learning_rate(self.config, self.steps_done)

    @property
    def dead(self) -> Int[Tensor, " dead"]:
        return (self.since_fired >= self.config.dead_tokens).nonzero()[:, 0]

    def step(self, rows: Float[Tensor, "batch d"]) -> StepResult:
        """`rows`: inputs, and beside them outputs where these are others; this process's part of the batch."""
        with torch_on_one_thread():
            return self._step(rows)

    def _step(self, rows: Float[Tensor, "batch d"]) -> StepResult:
        x, y = self.scaled(rows)
        batch = self._batch(len(x))
        if batch.rows == 0:
            raise ValueError(f"max_norm={self.config.max_norm} leaves no row of a batch: raise it, or batch_size")
        descent, lr = self.descend(x, y, batch), self.lr
        for rule, codes in zip(self.encoder.rules, descent.encoded.steps, strict=True):
            rule.observe(codes)
        fired = self.processes.sum_(_firings(descent.encoded))
        self.since_fired += batch.rows
        self.since_fired[fired > 0] = 0
        if self.processes.count > 1:
            for name in self.weights:
                self.processes.sum_(descent.gradients[name])
        sums = torch.tensor([descent.loss, descent.squared_error, self._spread(y, batch)], dtype=torch.float64)
        loss, squared_error, spread = self.processes.sum_(sums).tolist()
        self.optimizer.step(descent.gradients, loss, self.steps_done)
        self.rule.project()
        self.steps_done += 1
        self._resample(x, descent.error)
        fvu = squared_error / spread if spread > 0 else 0.0
        l0, dead = float(fired.sum()) / max(1, batch.rows), len(self.dead) / self.config.d_sae
        return StepResult(loss, fvu, l0, dead, lr)

    def scaled(self, rows: Float[Tensor, "batch d"]) -> tuple[Float[Tensor, "row d_in"], Float[Tensor, "row d_out"]]:
        """Inputs and outputs of the rows that train."""
        x, y = self.site.split(rows.to(self.weights["W_dec"]))
        x = torch.mul(x, self.input_scales, out=self._memory.take("x", len(x), x.shape[1], x.dtype, x.device))
        y = x if self.site.tied else y * self.output_scales
        if self.config.max_norm is None:
            return x, y
        kept = x.norm(dim=1) <= self.config.max_norm * self.site.mean_norm
        return x[kept], (x[kept] if self.site.tied else y[kept])

    def descend(
        self, x: Float[Tensor, "row d_in"], y: Float[Tensor, "row d_out"] | None = None, batch: Batch | None = None
    ) -> Descent:
        """The gradients of the loss on scaled inputs. They live in memory that the next call fills again."""
        y, batch = x if y is None else y, batch or Batch(len(x), 0, self.processes)
        for rule in self.encoder.rules:
            rule.at_step = self.steps_done
        gradients, weights, w = self._gradients, self.weights, _encoding_weights(self.weights)
        gradients.begin()
        centred = x
        if self.site.tied:
            centred = torch.sub(
                x, weights["b_dec"], out=self._memory.take("centred", len(x), x.shape[1], x.dtype, x.device)
            )
        encoded = self.encoder.forward(w, centred)
        target = y - x @ weights["W_skip"] if self.config.skip else y
        slope = 2 / (batch.rows * self.variance)
        decoded = _decode(encoded, w.W_dec, weights["b_dec"], target, self.config.ends)
        gradients.wait("W_dec", LatentSum(decoded.by_latent, encoded.codes.values * slope, decoded.table))
        gradients["b_dec"] = slope * decoded.mean_error.sum(0)
        if self.config.skip:
            gradients["W_skip"] = slope * x.T @ decoded.mean_error
        slopes = self._slopes(encoded, decoded, slope, target, batch)
        total = self.encoder.backward(w, centred, encoded, slopes, gradients)
        if self.site.tied:
            gradients["b_dec"] -= total
        loss = decoded.loss / (batch.rows * self.variance) + slopes.loss
        loss += self._revive(w, centred, decoded, batch)
        if not self.config.train_decoder:
            gradients["W_dec"].zero_()
        return Descent(gradients, loss, decoded.squared_error, decoded.error, encoded)

    def _slopes(self, encoded: Encoded, decoded: "_Decoded", slope: float, target: Tensor, batch: Batch) -> Slopes:
        """The rule's, with what its penalty and its parameters get added to the gradients."""
        weights, widths = self.weights, self.site.widths
        free = self.rule.penalises_norms and not (self.config.unit_norm and len(widths) == 1)
        norms = part_norms(weights["W_dec"], widths) if free else weights["W_dec"].new_ones(1, self.config.d_sae)

        def reconstruct(codes: SparseCodes) -> tuple[float, Float[Tensor, " nnz"]]:
            error, dots = kernels(target).decode_backward(codes, weights["W_dec"], weights["b_dec"], target)
            return squared_norm(error) * slope / 2, dots * slope

        slopes = self.rule.backward(
            Firing(
                picked=encoded.picked,
                codes=encoded.codes,
                gradient=decoded.dots * slope,
                norms=norms.sum(0),
                variance=self.variance,
                rows=batch.rows,
                by_latent=lambda entries: kernels(entries).latent_sums(encoded.by_latent, entries),
                reconstruct=reconstruct,
            )
        )
        if free and slopes.norms is not None:
            add_norm_slope(self._gradients["W_dec"], weights["W_dec"], norms, slopes.norms, widths)
        for name, gradient in slopes.parameters.items():
            self._gradients[name] = gradient
        return slopes

    def _revive(self, w: Weights, centred: Tensor, decoded: "_Decoded", batch: Batch) -> float:
        c, dead, tied, variance = self.config, self.dead, self.site.tied, self.variance
        if len(dead) == 0:
            return 0.0
        everywhere = self.processes.sum_(torch.tensor(decoded.squared_error, dtype=torch.float64))
        f = fading(float(everywhere) / (batch.rows * variance))
        given = (self._gradients, w, centred)
        loss = add_auxk(*given, decoded.error, dead, c.aux_coefficient * f**3, variance, batch, tied)
        if isinstance(c, JumpReLUConfig):
            norms, coefficient = w.W_dec[dead].norm(dim=1), c.pre_act_coefficient * f**2 / variance
            loss += add_pre_activation_loss(*given, dead, self.weights["threshold"], norms, coefficient, batch, tied)
        return loss

    def _batch(self, rows: int) -> Batch:
        if self.processes.count == 1:
            return Batch(rows, 0, self.processes)
        counts = self.processes.gather(torch.tensor([rows])).tolist()
        return Batch(sum(counts), sum(counts[: self.processes.rank]), self.processes)

    def _resample(self, x: Float[Tensor, "row d_in"], error: Float[Tensor, "row d_out"]) -> None:
        step = self.steps_done
        if self.resampler.collects(step):
            self.resampler.collect(step, x - self.weights["b_dec"], error.square().sum(1))
        if self.resampler.due(step):
            dead = self.dead
            rows = self.resampler.take(len(dead))
            moments = [self.optimizer.means, self.optimizer.squares]
            begin_anew(self.weights, moments, self.rule.initial, dead, rows)
            self.since_fired[dead[: len(rows)]] = 0

    def _spread(self, y: Float[Tensor, "row d_out"], batch: Batch) -> float:
        """Σ ‖y − ȳ‖² over the rows of this process, about the mean of all."""
        mean = self.processes.sum_(y.sum(0)) / max(1, batch.rows)
        return kernels(y).squared_distance(y, mean)

    def sae(self, metadata: dict[str, Any]) -> SAE:
        """For inputs as they are: all scales go into the weights."""
        weights = self.optimizer.averaged(self.steps_done)
        return fold(weights, self.encoder.trained(weights), self.site, self.config, metadata)

    def state(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """Tensors, and what fits into JSON."""
        tensors = {**self.weights, "since_fired": self.since_fired} | self.optimizer.state() | self.resampler.state()
        rules = [rule.state() for rule in self.encoder.rules]
        return tensors, {"steps_done": self.steps_done, "rules": rules}

    def load_state(self, tensors: dict[str, Tensor], numbers: dict[str, Any]) -> None:
        device = self.since_fired.device
        tensors = {name: tensor.to(device) for name, tensor in tensors.items()}
        self.resampler.load_state(tensors)
        for name, mine in self.state()[0].items():
            mine.copy_(tensors[name])
        self.steps_done = numbers["steps_done"]
        for rule, state in zip(self.encoder.rules, numbers["rules"], strict=True):
            rule.load_state(state)


class _Decoded(NamedTuple):
    error: Float[Tensor, "row d_out"]
    """Of all latents together."""
    mean_error: Float[Tensor, "row d_out"]
    """Over the prefixes."""
    table: Float[Tensor, "prefix*row d_out"]
    """For each prefix, the error that the latents answer for which the prefix before lacks."""
    by_latent: ByLatent
    """Entries by latent, `rows` telling their row of the table."""
    dots: Float[Tensor, " nnz"]
    squared_error: float
    loss: float
    """Σ ‖e‖², the mean over the prefixes."""


def _decode(
    encoded: Encoded, W_dec: Tensor, b_dec: Tensor, target: Float[Tensor, "row d_out"], ends: tuple[int, ...]
) -> _Decoded:
    ops, by_latent, n = kernels(target), encoded.by_latent, len(ends)
    if n == 1:
        error, dots = ops.decode_backward(encoded.codes, W_dec, b_dec, target)
        squared_error = squared_norm(error)
        return _Decoded(error, error, error, by_latent, dots, squared_error, squared_error)
    cuts = torch.tensor(ends, device=target.device)
    nested = ops.nested_backward(encoded.codes, W_dec, b_dec, target, cuts)
    table, squares = nested.residuals.div_(n), nested.squared_errors
    entries = by_latent.offsets[cuts].diff(prepend=by_latent.offsets[:1])
    prefix = torch.repeat_interleave(torch.arange(n, device=target.device), entries)
    in_table = by_latent._replace(rows=by_latent.rows + prefix * len(target))
    squared_error, loss = float(squares[-1]), float(squares.mean())
    return _Decoded(nested.error, table[0], table.flatten(0, 1), in_table, nested.gradient / n, squared_error, loss)


def _firings(encoded: Encoded) -> Float[Tensor, " d_sae"]:
    """Rows on which each latent fired."""
    if encoded.codes is encoded.picked:
        return encoded.by_latent.offsets.diff().to(encoded.codes.values)
    fires = (encoded.codes.values > 0).to(encoded.codes.values)
    return kernels(fires).latent_sums(encoded.by_latent, fires)


def _encoding_weights(weights: dict[str, Tensor]) -> Weights:
    """Matching pursuit has no encoder of its own."""
    return Weights(weights.get("encoder", weights["W_dec"]), weights.get("b_enc", weights["b_dec"]), weights["W_dec"])


def _initial_weights(config: SAEConfig, site: Site, device: torch.device, dtype: torch.dtype) -> dict[str, Tensor]:
    """Random directions; the encoder is the decoder's transpose where input and output are the same."""
    generator = torch.Generator().manual_seed(_DRAW + config.seed)

    def directions(d: int) -> Tensor:
        rows = torch.randn(config.d_sae, d, generator=generator)
        return (rows / rows.norm(dim=1, keepdim=True)).to(device, dtype) * config.decoder_init

    W_dec = directions(site.d_out)
    weights = {"W_dec": W_dec, "b_dec": (medians(site.targets).double() * site.output_scales).to(device, dtype)}
    if isinstance(config, MatchingPursuitConfig):
        return weights
    weights["encoder"] = W_dec.clone() if site.tied else directions(site.d_in)
    weights["b_enc"] = torch.zeros(config.d_sae, device=device, dtype=dtype)
    if not site.tied:  # an input at the median starts at pre-activations of 0, as in an autoencoder
        weights["b_enc"] -= weights["encoder"] @ (medians(site.inputs).double() * site.input_scales).to(device, dtype)
    if config.skip:
        weights["W_skip"] = torch.zeros(site.d_in, site.d_out, device=device, dtype=dtype)
    return weights


def _check(config: SAEConfig, site: Site) -> None:
    refinements, resampled = getattr(config, "refinements", None), getattr(config, "resample_at", None)
    if not site.tied and refinements:
        raise ValueError(f"refinements={refinements} need a dictionary whose output is its input, not a transcoder")
    if not site.tied and resampled:
        raise ValueError(f"resample_at={resampled} needs a dictionary whose output is its input, not a transcoder")
    if isinstance(config, MatchingPursuitConfig) and (not site.tied or len(site.inputs) > 1):
        raise ValueError("matching pursuit reads and writes one hook; choose another architecture for several")
    if config.skip and site.tied:
        raise ValueError("skip=True is for transcoders: give train_sae a target hook")
