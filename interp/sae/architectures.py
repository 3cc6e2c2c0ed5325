"""The dictionaries that can be trained, each a config: what it is, what it minimises, where it comes from.

    ReLUConfig             z = ReLU(pre), an L1 penalty (or Lp, with p annealed towards 0)
    GatedConfig            one path decides what fires, the other how strongly
    TopKConfig             the k largest of each row
    BatchTopKConfig        the k·B largest of a batch of B rows; trained, those above a threshold
    MatryoshkaConfig       BatchTopK whose prefixes must reconstruct on their own
    JumpReLUConfig         those above a threshold that is learnt for each latent
    MatchingPursuitConfig  one latent after the other, each from what the ones before leave

    loss = [ mean over rows ‖x_hat − x‖² + λ · mean over rows of the penalty ] / V  +  what revives dead latents

Inputs are scaled to a mean norm of √d_in, so that coefficients mean the same everywhere; V is their total variance.
Any of them can have a frozen random decoder (`train_decoder=False`), the null that a learnt one must beat.
"""

import math
from dataclasses import asdict, dataclass, fields
from numbers import Integral, Real
from typing import Any, ClassVar, Self

_ANNEALED_FIRST = 1e-3


@dataclass(frozen=True, kw_only=True)
class SAEConfig:
    """What all architectures share. Fractions are of the steps of the run."""

    architecture: ClassVar[str]
    d_sae: int
    """Latents."""
    tokens: int
    """Rows to train on; a smaller store is read again, in another order."""
    batch_size: int = 2048
    """Rows of a step, of all processes together."""
    lr: float | None = None
    """Peak learning rate; None = 2e-4 / √(d_sae / 2¹⁴) (arXiv 2406.04093, appendix A.3), and in runs of fewer than
    100,000 steps √(100,000 / steps) times that, at most 8 times and 0.01 (found on activations of the demo's model)."""
    warmup: float = 0.05
    """Fraction over which the rate rises linearly, 1,000 steps at most (arXiv 2407.14435: 1,000)."""
    decay: float = 0.2
    """Last fraction, over which the rate falls to zero (April 2024: a fifth)."""
    decay_shape: str = "linear"
    """Of the fall: `linear` (April 2024) or `cosine` (arXiv 1608.03983)."""
    log_loss: bool = True
    """Descend ln loss (our own): Adam then does not remember the first, far larger gradients for a thousand steps."""
    clip: float | None = None
    """Largest norm of the whole gradient, that of ln loss where this is what descends (April 2024); None = as it is."""
    ema: float | None = None
    """Decay of a running mean of the weights, which is then what is saved (arXiv 2406.04093, A.4)."""
    unit_norm: bool = True
    """Keep decoder rows at norm one and remove the gradient along them (October 2023); False leaves them free (April
    2024)."""
    decoder_init: float = 1.0
    """Norm of a decoder row at the start; the encoder starts as its transpose."""
    train_decoder: bool = True
    """False: the decoder stays as it was drawn (the frozen-decoder null, arXiv 2602.14111)."""
    skip: bool = False
    """Transcoders: a linear path from input to output beside the latents (arXiv 2501.18823)."""
    scale_inputs: bool = True
    """Scale inputs to a mean norm of √d (April 2024); folded into the weights at the end."""
    max_norm: float | None = None
    """Rows whose norm is above this many times the mean norm train nothing: attention sinks (arXiv 2309.17453), a few
    per mille."""
    aux_coefficient: float = 1.0
    """Weight of AuxK beside the main loss: dead latents reconstruct what the others leave (arXiv 2406.04093, A.2, where
    it is 1/32 and relative to the error). Below an FVU of a twelfth it falls with FVU³; `revival` says why."""
    dead_after: int | None = None
    """Tokens without firing after which a latent is dead (arXiv 2406.04093, A.2: 10 million); None = a twentieth of
    `tokens`."""
    seed: int = 0
    """Of the weights and of the order of the rows."""
    device: str = "auto"
    """Where it trains: `cpu`, `cuda`, `mps`; `auto` = the GPU where there is one."""

    def __post_init__(self) -> None:
        _numbers(self)
        for name in ("d_sae", "tokens", "batch_size"):
            _at_least(self, name, 1)
        if not 0 <= self.seed < 2**31:
            raise ValueError(f"seed={self.seed} must be in 0..2³¹ − 1")
        for name in ("warmup", "decay"):
            _fraction(self, name)
        if self.lr is not None and not self.lr > 0:
            raise ValueError(f"lr={self.lr} must be above 0 (None = the law over d_sae and steps)")
        if self.decay_shape not in ("linear", "cosine"):
            raise ValueError(f"decay_shape={self.decay_shape!r} must be 'linear' or 'cosine'")
        for name in ("clip", "max_norm"):
            if getattr(self, name) is not None:
                _positive(self, name)
        if self.ema is not None and not 0 < self.ema < 1:
            raise ValueError(f"ema={self.ema} must be between 0 and 1 (None = no running mean)")
        _positive(self, "decoder_init")
        if self.unit_norm and self.decoder_init != 1.0:
            raise ValueError(f"decoder_init={self.decoder_init} needs unit_norm=False: unit rows start at norm 1")
        _not_negative(self, "aux_coefficient")
        if self.dead_after is not None and self.dead_after < 1:
            raise ValueError(f"dead_after={self.dead_after} must be at least 1 token (None = a twentieth of tokens)")

    @property
    def steps(self) -> int:
        return max(1, self.tokens // self.batch_size)

    @property
    def peak_lr(self) -> float:
        if self.lr is not None:
            return self.lr
        return min(0.01, 2e-4 / (self.d_sae / 2**14) ** 0.5 * min(8.0, max(1.0, (100_000 / self.steps) ** 0.5)))

    @property
    def dead_tokens(self) -> int:
        return self.dead_after if self.dead_after is not None else max(self.batch_size, self.tokens // 20)

    @property
    def ends(self) -> tuple[int, ...]:
        """Prefixes of latents that must reconstruct on their own; one, of all, where there is no nesting."""
        return (self.d_sae,)


@dataclass(frozen=True, kw_only=True)
class ReLUConfig(SAEConfig):
    """Penalty: Σ_j (z_j · ‖W_dec[j]‖)^p. The defaults are Anthropic's of April 2024, p = 1 throughout, but that decoder
    rows begin at norm 0.5 (April 2024: 0.1), since shorter rows turn too fast (at equal L0 their FVU is up to 7 %
    higher), and that AuxK keeps the last latents alive."""

    architecture: ClassVar[str] = "relu"
    l1: float = 5.0
    """λ, for inputs of mean norm √d."""
    l1_warmup: float = 0.05
    """Fraction over which λ rises from 0 (April 2024)."""
    p_end: float = 1.0
    """Below 1: p falls linearly from 1 to this over the second half of the run, λ following so that the penalty keeps
    its size (p-annealing, arXiv 2408.00113)."""
    resample_at: tuple[float, ...] = ()
    """Fractions of the run at which dead latents are begun anew, at rows drawn ∝ loss² (October 2023)."""
    clip: float | None = 0.01
    """So small that it always holds (April 2024: 1, for a loss that is not divided by V)."""
    unit_norm: bool = False
    decoder_init: float = 0.5

    def __post_init__(self) -> None:
        super().__post_init__()
        _not_negative(self, "l1")
        _fraction(self, "l1_warmup")
        if not 0 < self.p_end <= 1:
            raise ValueError(f"p_end={self.p_end} must be in 0..1, 0 excluded")
        _between(self, "resample_at")

    @classmethod
    def october_2023(cls, **given: Any) -> "ReLUConfig":
        """Towards Monosemanticity: unit decoder rows, a plain L1 penalty, resampling four times in the first half."""
        resampled = (0.125, 0.25, 0.375, 0.5)
        recipe: dict[str, Any] = {
            "unit_norm": True,
            "decoder_init": 1.0,
            "clip": None,
            "l1_warmup": 0.0,
            "resample_at": resampled,
            "aux_coefficient": 0.0,
        }
        return cls(**(recipe | given))

    def p_at(self, step: int) -> float:
        progress = min(1.0, max(0.0, 2 * step / self.steps - 1))
        return 1 - progress * (1 - self.p_end)


@dataclass(frozen=True, kw_only=True)
class GatedConfig(SAEConfig):
    """Gate π = u + b_gate and magnitude e^r u + b_mag share u = (x − b_dec) W_enc (Rajamanoharan et al. 2024,
    arXiv 2404.16014). Penalty: Σ_j ReLU(π_j), and ReLU(π) must reconstruct x too, through the decoder as it is.
    Trained, it is a JumpReLU with the threshold b_mag − e^r b_gate."""

    architecture: ClassVar[str] = "gated"
    l1: float = 5.0
    """λ, for inputs of mean norm √d."""
    l1_warmup: float = 0.05
    """Fraction over which λ rises from 0 (April 2024)."""
    resample_at: tuple[float, ...] = ()
    """As of `ReLUConfig`."""
    aux_coefficient: float = 0.0

    def __post_init__(self) -> None:
        super().__post_init__()
        _not_negative(self, "l1")
        _fraction(self, "l1_warmup")
        _between(self, "resample_at")


@dataclass(frozen=True, kw_only=True)
class PickConfig(SAEConfig):
    """What TopK, BatchTopK and Matryoshka share: no penalty, the number of picks is set."""

    k: int = 32
    """Latents that fire on a row (BatchTopK, Matryoshka: on the mean)."""
    k_start: int | None = None
    """k at the start; it then falls linearly, which keeps more latents alive (arXiv 2410.20526). None = k."""
    k_anneal: float = 0.1
    """Fraction over which k falls (arXiv 2410.20526)."""
    refinements: int = 0
    """Steps by which the encoder improves its picks, each with the residual of the one before: an unrolled, LISTA-style
    encoder (Gregor & LeCun 2010),  pre ← z + refinement_step · ((x − x_hat) W_enc + b_enc)."""
    refinement_step: float = 0.5
    """Step size of a refinement (ISTA's; our own choice of it)."""

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("k", "k_start"):
            k = getattr(self, name)
            if k is not None and not 1 <= k <= self.d_sae:
                raise ValueError(f"{name}={k} must be in 1..d_sae={self.d_sae}")
        _fraction(self, "k_anneal")
        if self.refinements < 0:
            raise ValueError(f"refinements={self.refinements} must not be negative")
        _positive(self, "refinement_step")

    @classmethod
    def recovery(cls, *, d_sae: int, k: int, tokens: int, **given: Any) -> Self:
        """What finds the most true features of planted worlds: small batches and a high rate for many short steps, free
        decoder rows (held at norm 1, steps of this rate keep turning them), and k that falls from three times itself
        over all of the run. Above 1,024 latents, which come with more dimensions, the rate falls as 1 / d_sae.

        Matryoshka so trained finds 1,024 features of trees in 96 dimensions with F1 .89 and MCC .82, the mean of three
        seeds, where the best of SAELens's own, tuned, has .74 and .78 (`analyses.bench_recovery`, which uses this
        preset). Of features without trees TopK finds more than Matryoshka.
        """
        recipe = _short_steps(d_sae, tokens) | {"k_start": min(3 * k, d_sae), "k_anneal": 1.0}
        return cls(d_sae=d_sae, k=k, tokens=tokens, **(recipe | given))

    def k_at(self, step: int) -> int:
        start = self.k_start if self.k_start is not None else self.k
        return round(self.k + (start - self.k) * max(0.0, 1 - step / max(self.k_anneal * self.steps, _ANNEALED_FIRST)))


@dataclass(frozen=True, kw_only=True)
class TopKConfig(PickConfig):
    """Gao et al. 2024, arXiv 2406.04093."""

    architecture: ClassVar[str] = "topk"


@dataclass(frozen=True, kw_only=True)
class BatchTopKConfig(PickConfig):
    """Bussmann et al. 2024, arXiv 2412.06410."""

    architecture: ClassVar[str] = "batchtopk"
    threshold_decay: float = 0.999
    """Of the running mean of the smallest value picked, which is the threshold of the trained dictionary (in the paper
    the mean over batches once trained); it spans a twentieth of a shorter run's steps."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 <= self.threshold_decay < 1:
            raise ValueError(f"threshold_decay={self.threshold_decay} must be in 0..1, 1 excluded")


@dataclass(frozen=True, kw_only=True)
class MatryoshkaConfig(BatchTopKConfig):
    """Each prefix of the latents reconstructs on its own; the loss is the mean over the prefixes (Bussmann et al. 2025,
    arXiv 2503.17547)."""

    architecture: ClassVar[str] = "matryoshka"
    groups: tuple[float, ...] = (1 / 32, 1 / 16, 1 / 8, 1 / 4, 17 / 32)
    """Shares of the latents that each prefix adds to the one before (the paper's); they sum to 1."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.groups or min(self.groups) <= 0 or abs(sum(self.groups) - 1) > 1e-6:
            raise ValueError(f"groups={self.groups} must be positive shares that sum to 1")
        if len({0, *self.ends}) <= len(self.ends):
            raise ValueError(f"groups={self.groups} leave a group without a latent at d_sae={self.d_sae}: use fewer")

    @property
    def ends(self) -> tuple[int, ...]:
        total, ends = 0.0, []
        for share in self.groups:
            total += share
            ends.append(round(total * self.d_sae))
        return tuple(ends)


@dataclass(frozen=True, kw_only=True)
class JumpReLUConfig(SAEConfig):
    """z = pre where pre > θ_j, θ learnt by straight-through gradients (Rajamanoharan et al. 2024, arXiv 2407.14435).

    Penalty of a row: `l0` ‖z‖₀; `target_l0` (‖z‖₀ / τ − 1)² (both of the paper); or `tanh` Σ_j tanh(tanh_scale · z_j
    ‖W_dec[j]‖), which with the loss for dead latents below is Anthropic's of January 2025. With τ fixed the mean L0
    settles above it, since the reconstruction would have more latents fire. So τ, at first `target_l0`, moves with a
    quarter of the run behind it until L0 is `target_l0`, to half of it at least.
    """

    architecture: ClassVar[str] = "jumprelu"
    penalty: str = "target_l0"
    """`target_l0`, `l0` (both arXiv 2407.14435) or `tanh` (January 2025)."""
    target_l0: float = 32.0
    """Mean number of latents that fire, which the penalty `target_l0` leads to."""
    coefficient: float = 0.1
    """λ. For `target_l0` it is in units of V: 0.1 weighs a row at twice τ as much as losing a tenth of the variance.
    Ten times as much leaves an FVU that is 5 to 25 % higher at equal L0."""
    coefficient_warmup: float = 0.1
    """Fraction over which λ rises from 0 (January 2025: all of the run)."""
    threshold: float | None = None
    """θ at the start; None = where about 25 × `target_l0` latents would fire on Gaussian inputs, two fifths of all at
    most: from fewer, more latents die (January 2025: 0.1)."""
    bandwidth: float = 0.1
    """Width of the window around θ in which a pre-activation tells θ where to go (January 2025: 2)."""
    bandwidth_end: float | None = None
    """The bandwidth at the end, reached linearly (our own); None = it stays."""
    tanh_scale: float = 4.0
    """January 2025's c."""
    pre_act_coefficient: float = 0.1
    """Weight of Σ_j ReLU(θ_j − pre_j) ‖W_dec[j]‖ over dead latents, which draws them back (January 2025, at 3e-6).
    Below an FVU of a twelfth it falls with FVU²."""
    aux_coefficient: float = 0.0

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.penalty not in ("l0", "target_l0", "tanh"):
            raise ValueError(f"penalty={self.penalty!r} must be 'l0', 'target_l0' or 'tanh'")
        if not 0 < self.target_l0 or (self.penalty == "target_l0" and self.target_l0 > self.d_sae):
            raise ValueError(f"target_l0={self.target_l0} must be above 0 and at most d_sae={self.d_sae}")
        for name in ("coefficient", "pre_act_coefficient") + (("threshold",) if self.threshold is not None else ()):
            _not_negative(self, name)
        _fraction(self, "coefficient_warmup")
        for name in ("bandwidth", "tanh_scale") + (("bandwidth_end",) if self.bandwidth_end is not None else ()):
            _positive(self, name)

    @classmethod
    def january_2025(cls, **given: Any) -> "JumpReLUConfig":
        """Anthropic's recipe: tanh penalty warmed up over all of the run, bandwidth 2, free decoder rows. The loss for
        dead latents fades at small errors as it does elsewhere here, and the descent is of ln loss (`log_loss`)."""
        penalty: dict[str, Any] = {"penalty": "tanh", "coefficient": 20.0, "coefficient_warmup": 1.0}
        rule: dict[str, Any] = {"threshold": 0.1, "bandwidth": 2.0}
        free: dict[str, Any] = {"unit_norm": False, "decoder_init": 0.1, "pre_act_coefficient": 3e-6}
        return cls(**(penalty | rule | free | given))

    @classmethod
    def recovery(cls, *, d_sae: int, target_l0: float, tokens: int, **given: Any) -> "JumpReLUConfig":
        """What `TopKConfig.recovery` is for: its short steps, a penalty that grows over all of the run, and a window
        wide enough for thresholds to hear of what lies near them in few steps."""
        penalty: dict[str, Any] = {"coefficient": 0.01, "coefficient_warmup": 1.0, "pre_act_coefficient": 0.01}
        rule: dict[str, Any] = {"threshold": 1.0, "bandwidth": 1.0}
        recipe = _short_steps(d_sae, tokens) | penalty | rule
        return cls(d_sae=d_sae, target_l0=target_l0, tokens=tokens, **(recipe | given))

    def bandwidth_at(self, step: int) -> float:
        end = self.bandwidth if self.bandwidth_end is None else self.bandwidth_end
        return self.bandwidth + (end - self.bandwidth) * min(1.0, step / self.steps)


@dataclass(frozen=True, kw_only=True)
class MatchingPursuitConfig(SAEConfig):
    """Encoder and decoder are one: up to k times, the row of the decoder with the largest product with the residual
    is taken away from it (Costa et al. 2025, arXiv 2506.03093)."""

    architecture: ClassVar[str] = "matching_pursuit"
    k: int = 32
    """Steps, each of which adds a latent or changes one."""
    aux_coefficient: float = 0.0

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 1 <= self.k <= self.d_sae:
            raise ValueError(f"k={self.k} must be in 1..d_sae={self.d_sae}")
        if not self.unit_norm or self.skip or self.aux_coefficient:
            raise ValueError("matching pursuit needs unit_norm=True, skip=False and aux_coefficient=0")


ARCHITECTURES: dict[str, type[SAEConfig]] = {
    kind.architecture: kind
    for kind in (
        TopKConfig,
        BatchTopKConfig,
        MatryoshkaConfig,
        JumpReLUConfig,
        ReLUConfig,
        GatedConfig,
        MatchingPursuitConfig,
    )
}


def _short_steps(d_sae: int, tokens: int) -> dict[str, Any]:
    rate = 5e-3 * min(1.0, 1024 / d_sae)
    return {"batch_size": 256, "lr": rate, "unit_norm": False, "dead_after": max(1, tokens // 100)}


def config_to_dict(config: SAEConfig) -> dict[str, Any]:
    """JSON-able; `config_from_dict` reads it."""
    return {"architecture": config.architecture, **asdict(config)}


def config_from_dict(values: dict[str, Any]) -> SAEConfig:
    """Raises ValueError for an architecture or a field that is not known."""
    values = dict(values)
    name = values.pop("architecture", None)
    if name not in ARCHITECTURES:
        raise ValueError(f"architecture {name!r} is not known; {', '.join(ARCHITECTURES)} are")
    kind = ARCHITECTURES[name]
    unknown = set(values) - {field.name for field in fields(kind)}
    if unknown:
        raise ValueError(f"{kind.__name__} has no field {', '.join(sorted(unknown))}")
    given: dict[str, Any] = {key: tuple(value) if isinstance(value, list) else value for key, value in values.items()}
    return kind(**given)


def rise(step: int, fraction: float, steps: int) -> float:
    """From 0 to 1 over the first `fraction` of the steps; 1 at once for a fraction of 0."""
    return 1.0 if fraction == 0 else min(1.0, step / max(1.0, fraction * steps))


def _numbers(config: Any) -> None:
    for field in fields(config):
        value, numbers = getattr(config, field.name), {int: "whole number", float: "number"}
        kind = next((kind for kind in numbers if field.type in (kind, kind | None)), None)
        if kind is None or (value is None and field.type != kind):
            continue
        if isinstance(value, bool) or not isinstance(value, Integral if kind is int else Real):
            raise ValueError(f"{field.name}={value!r} must be a {numbers[kind]}")
        if not math.isfinite(value):
            raise ValueError(f"{field.name}={value} must be finite")


def _at_least(config: Any, name: str, least: int) -> None:
    if getattr(config, name) < least:
        raise ValueError(f"{name}={getattr(config, name)} must be at least {least}")


def _fraction(config: Any, name: str) -> None:
    if not 0 <= getattr(config, name) <= 1:
        raise ValueError(f"{name}={getattr(config, name)} must be a fraction of the steps in 0..1")


def _between(config: Any, name: str) -> None:
    if not all(0 < at < 1 for at in getattr(config, name)):
        raise ValueError(f"{name}={getattr(config, name)} must be fractions of the run between 0 and 1")


def _positive(config: Any, name: str) -> None:
    if not getattr(config, name) > 0:
        raise ValueError(f"{name}={getattr(config, name)} must be above 0")


def _not_negative(config: Any, name: str) -> None:
    if not getattr(config, name) >= 0:
        raise ValueError(f"{name}={getattr(config, name)} must not be negative")
