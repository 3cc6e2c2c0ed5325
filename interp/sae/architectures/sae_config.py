"""The base of all architectures: the options, and the methods that define an architecture.

    loss = Σ over rows of `loss` / (B·V)  +  `revival_loss` of the latents that are dead

An architecture is a frozen dataclass with a name and a few methods in plain torch. `pick` selects which entries of the
pre-activations fire, `activate` gives their values, `loss` the cost of a batch as a function of those values alone, and
`trained_encoder` the encoder that remains after training. `initial_parameters` and `initial_matrices` give it weights
of its own, a number or a row per latent. Autograd gives the gradients. All methods but `pick` and `trained_encoder`
have a default. A subclass with its own `architecture` is registered under that name in `ARCHITECTURES`, so that configs
can name it, and dictionaries can be saved and read back.

Inputs are scaled to a mean norm of √d_in, so that coefficients mean the same everywhere (Circuits Updates, April 2024);
V is their total variance. Set `freeze` to keep a part of the weights at their random start: such a dictionary is a null
for a trained one.

Sources by Anthropic without an arXiv number are cited by their titles:

    Towards Monosemanticity (October 2023)   https://transformer-circuits.pub/2023/monosemantic-features
    Circuits Updates, April 2024             https://transformer-circuits.pub/2024/april-update
    Circuits Updates, January 2025           https://transformer-circuits.pub/2025/january-update
"""

import inspect
import linecache
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from textwrap import dedent
from typing import Annotated, Any, ClassVar, Literal

from jaxtyping import Float, Int
from pydantic import Field
from torch import Tensor

from interp.checks.config_fields import check_names, check_needed_fields, read_fields
from interp.checks.errors import InterpError
from interp.checks.limits import CheckedFields, Fraction, NonNegative, Positive, PositiveInt, Seed
from interp.runtime.registry import register
from interp.sae.architectures.encoders import Encoder
from interp.sae.auxk import auxk, revival_weight
from interp.sae.encode_rows import Picker
from interp.sae.forward_pass import ForwardPass, PickedEntries, StepInputs
from interp.sae.sparse_ops import Encoded
from interp.storage.files import digest, digest_code

ARCHITECTURES: "dict[str, type[SAEConfig]]" = {}
"""All registered architectures, by name."""


Freeze = Literal["nothing", "decoder", "encoder", "directions"]
FractionsOfRun = tuple[Annotated[float, Field(gt=0, lt=1)], ...]


@dataclass(frozen=True, kw_only=True)
class SAEConfig(CheckedFields):
    """The options that all architectures share. Fractions are of the steps of the training."""

    architecture: ClassVar[str]
    resamples_along_residuals: ClassVar[bool] = True
    """Whether a resampled latent points along the residual of a row, rather than along the row."""
    has_encoder: ClassVar[bool] = True
    """False if the decoder's rows also encode, without a bias."""
    shardable: ClassVar[bool] = False
    """Whether its latents can be divided among processes, as no method needs those of other processes. A subclass may
    need them: it says so for itself."""

    d_sae: PositiveInt
    """Number of latents."""
    tokens: PositiveInt
    """Rows to train on; a smaller store is read repeatedly, in a new order each time."""
    batch_size: PositiveInt = 2048
    """Rows per step, over all processes."""
    lr: Positive | None = None
    """Peak learning rate; if none is given, 2e-4 / √(d_sae / 2¹⁴) (arXiv 2406.04093, appendix A.3), and in runs of
    fewer than 100,000 steps √(100,000 / steps) times that, at most 8 times and 0.01 (found on activations of the demo's
    model)."""
    warmup: Fraction = 0.05
    """Fraction over which the rate rises linearly, 1,000 steps at most (arXiv 2407.14435: 1,000)."""
    decay: Fraction = 0.2
    """Last fraction, over which the rate falls to zero (Circuits Updates, April 2024: a fifth)."""
    clip: Positive | None = None
    """Largest norm of the whole gradient of ln loss (Circuits Updates, April 2024); if none is given, it is not
    clipped."""
    unit_norm: bool = True
    """Keep decoder rows at norm one and remove the gradient along them (Towards Monosemanticity); False leaves them
    free (Circuits Updates, April 2024)."""
    freeze: Freeze = "nothing"
    """The part that keeps its initial values (the nulls of arXiv 2602.14111): `decoder`, `encoder`, or `directions`:
    decoder rows keep a cosine of 0.8 or more with their start (soft-frozen)."""
    skip: bool = False
    """Transcoders: a linear path from input to output past the latents (arXiv 2501.18823)."""
    aux_coefficient: NonNegative = 1.0
    """Weight of AuxK relative to the main loss: dead latents reconstruct the residual of the others (arXiv 2406.04093,
    A.2: 1/32, relative to the error). Below an FVU of a twelfth it falls with FVU³, for the reason given in `auxk`."""
    dead_after: PositiveInt | None = None
    """Tokens without firing after which a latent is dead (arXiv 2406.04093, A.2: 10 million); if none is given, a
    fortieth of `tokens`."""
    resample_at: FractionsOfRun = ()
    """Fractions of the run at which latents that are dead or faint are resampled, at rows drawn ∝ loss² (Towards
    Monosemanticity: dead ones, four times). Transcoders are not resampled, nor is a dictionary with a frozen part."""
    seed: Seed = 0
    """Seed of the weights and of the order of the rows."""
    device: str = "auto"
    """The device for training: `cpu`, `cuda`, `mps`; `auto` = the GPU if there is one. The trained dictionary is on the
    CPU."""

    def __init_subclass__(cls) -> None:
        cls.shardable = vars(cls).get("shardable", False)
        if "architecture" in cls.__dict__:
            register(ARCHITECTURES, cls.architecture, cls, "architecture", lambda config: config)

    @property
    def initial_norm(self) -> float:
        """Initial norm of a decoder row; the encoder starts as the decoder's transpose."""
        return 1.0

    @property
    def steps(self) -> int:
        return max(1, self.tokens // self.batch_size)

    @property
    def peak_lr(self) -> float:
        if self.lr is not None:
            return self.lr
        return min(0.01, 2e-4 / (self.d_sae / 2**14) ** 0.5 * min(8.0, max(1.0, (100_000 / self.steps) ** 0.5)))

    def lr_at(self, step: int) -> float:
        """Return the learning rate of a step, counted from 0."""
        rise = max(1, min(1000, round(self.warmup * self.steps)))
        fall = max(1, round(self.decay * self.steps))
        share_of_lr = min(1.0, (self.steps - step) / fall) if self.decay else 1.0
        return self.peak_lr * min(1.0, (step + 1) / rise, share_of_lr)

    @property
    def expected_l0(self) -> float | None:
        """Latents per row at which training aims; None if the config does not set their number."""
        return None

    @property
    def dead_tokens(self) -> int:
        return self.dead_after if self.dead_after is not None else max(self.batch_size, self.tokens // 40)

    @property
    def resampling_steps(self) -> tuple[int, ...]:
        """Steps, counted from 1, after which idle latents are resampled. The last is none of them: new latents would
        stay untrained."""
        steps = {round(fraction * self.steps) for fraction in self.resample_at}
        return tuple(sorted(step for step in steps if 0 < step < self.steps))

    # The methods that define an architecture; `pick` and `trained_encoder` have no default.

    def pick(self, step: StepInputs) -> Picker:
        """Return the picker of the entries of the pre-activations that fire."""
        raise NotImplementedError(missing_method(self, "pick"))

    def encode(self, step: StepInputs) -> Encoded:
        """Return the entries that fire, with their pre-activations."""
        return step.encode(self.pick(step))

    def activate(self, step: PickedEntries) -> Float[Tensor, " nnz"]:
        """Return the values of the entries: z."""
        return step.pre

    def loss(self, step: ForwardPass) -> Float[Tensor, ""]:
        """Return the loss, summed over the rows; the caller divides it by B·V. It is at least 0 and near 0 for a
        dictionary without fault: training follows the gradient of its logarithm, which a constant would flatten."""
        return step.squared_error()

    def revival_loss(self, step: ForwardPass, dead: Int[Tensor, " dead"]) -> Tensor | float:
        """Return a part of the whole loss that revives dead latents; called only if there are some."""
        weight = self.aux_coefficient and self.aux_coefficient * revival_weight(step.fvu) ** 3
        return auxk(step, dead, weight) if weight else 0.0

    def initial_parameters(self, pre_std: float) -> dict[str, float]:
        """Return the initial values of further parameters, one number per latent.

        `pre_std`: standard deviation of the pre-activations at the start of training.
        """
        return {}

    def initial_matrices(self, weights: dict[str, Tensor]) -> dict[str, Tensor]:
        """Return the initial values of further matrices, which have a row per latent (`PickedEntries.dot_rows`).

        `weights`: the initial `W_dec`, `encoder_rows` and `b_enc`, of all latents of this process or, later, of those
        that are resampled. As the scales of several hooks are not folded into these matrices, training on several hooks
        is refused if there are some.
        """
        return {}

    def initial_state(self) -> dict[str, float]:
        """Return the numbers that the architecture carries from step to step."""
        return {}

    def observe(self, step: ForwardPass) -> None:
        """Update `step.state` after a step."""

    def mask(self, weights: dict[str, Tensor]) -> None:
        """Set entries of W_dec and encoder_rows to 0 that the architecture does not have."""

    def project(self, weights: dict[str, Tensor]) -> None:
        """Bring parameters back to their allowed range after an update."""

    def folded_weights(self, weights: dict[str, Tensor]) -> dict[str, Tensor]:
        """Return the weights with which the trained dictionary encodes, if they differ."""
        return weights

    def check_hooks(self, *, tied: bool, n_hooks: int) -> None:
        """Check that it can train on that many hooks; `tied`: it reads and writes the same hooks. Raises ValueError if
        not."""
        if self.skip and tied:
            raise InterpError("skip=True is for transcoders: give train_sae an output_hook")

    def trained_encoder(self, weights: dict[str, Tensor], state: dict[str, float]) -> Encoder:
        """Return the encoder of the trained dictionary, which encodes each row independently."""
        raise NotImplementedError(missing_method(self, "trained_encoder"))


def missing_method(config: SAEConfig, name: str) -> str:
    """Return the message for an architecture that lacks one of the two methods without a default."""
    returned = {
        "pick": "the picker of the entries that fire",
        "trained_encoder": "the encoder of the trained dictionary",
    }
    return f"{type(config).__name__} does not define `{name}`: return {returned[name]} from it"


def config_to_dict(config: SAEConfig) -> dict[str, Any]:
    """Return the config as JSON-able values; `config_from_dict` reads it."""
    return {"architecture": config.architecture, **asdict(config)}


def code_digest(config: SAEConfig) -> str | None:
    """Return the digest of the code of a user's architecture: of its class, and of those of its bases that are not in
    this package; None if it is this package's. Functions that its methods call have no part in it."""
    own = [each for each in type(config).__mro__ if issubclass(each, SAEConfig) and not _is_of_package(each)]
    source = "".join(map(_source_of, own))
    try:
        return digest_code(source) if own else None
    except SyntaxError:  # the lines of a lambda function are part of a statement
        return digest(source)


def _is_of_package(config_class: type[SAEConfig]) -> bool:
    return config_class.__module__.partition(".")[0] == __name__.partition(".")[0]


def _source_of(config_class: type[SAEConfig]) -> str:
    try:
        return dedent(inspect.getsource(config_class))
    except (OSError, TypeError):  # a class in a notebook has no file: its methods have the cell
        methods = [inspect.unwrap(each) for each in vars(config_class).values() if inspect.isfunction(each)]
        written = [each for each in methods if linecache.getlines(each.__code__.co_filename)]  # not by `dataclass`
        return "".join(dedent(inspect.getsource(each)) for each in written)


def config_from_dict(values: Mapping[str, Any]) -> SAEConfig:
    """Return the config of these values: `architecture` and fields, as Python, JSON or TOML have them.

    Raises ValueError for an architecture or a field that does not exist, with the nearest that do, for a value of
    another type or beyond its limits, and for a missing field.
    """
    fields = dict(values)
    config_class = architecture_named(fields.pop("architecture", None))
    config_fields = read_fields(config_class, fields, config_class.architecture)
    check_needed_fields(config_class, config_fields, config_class.architecture)
    return config_class(**config_fields)


def architecture_named(name: Any) -> type[SAEConfig]:
    """Return the config class of an architecture. Raises ValueError with the nearest names if there is none."""
    check_names([name], list(ARCHITECTURES), "architecture")
    return ARCHITECTURES[name]
