"""A model linearised at one prompt: its nonlinear operations are held at their values there.

    attention       softmax_j(q · k) v_j      its pattern is held, so that it only moves values
    norms           x / scale(x)              the scale is held: every root, reciprocal, vector's norm and divisor
    act(x)          x · (act(x) / x)          the ratio is held: of activation functions, powers and limits
    topk(x)                                   the choice is held, so that the experts of a mixture are the same
    a · b           of two activations        ½ (a · b₀ + a₀ · b), with a₀, b₀ the values at the prompt; of matrices too
    exp(x)          a gate, as of a state space model: its value is held

Every step is then linear in the residual stream and in the biases together, so that the input of any unit is the exact
sum of its contributions. PyTorch's operations are intercepted by name (`TorchFunctionMode`), in any model; those inside
a library's own compiled kernel are not seen, and `AttributionGraph.unexplained` measures the resulting gap. A warning
names an operation that by its name may be part of a norm and is not held.

Source: held patterns and scales, Ameisen et al. 2025 (Circuit Tracing); ratios and halves as in layer-wise relevance
propagation (Achtibat et al. 2024, arXiv 2402.05602).
"""

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from interp.activations.hooks import evaluating
from interp.checks.errors import InterpError

HeldValues = Any
"""The values that are held for one operation: tensors of one row, or None if the operation is linear here."""
_ATTENTION = "scaled_dot_product_attention"
_RECORDING = object()
"""Placeholder for the held values of an operation that is being recorded."""
_IN_NAMES_OF_SCALES = ("norm", "sqrt", "pow", "std", "div", "reciprocal", "similarity")
"""What the names of torch's functions have in them that scale a vector or give its scale."""
log = logging.getLogger(__name__)


class AttentionRecord(NamedTuple):
    """What an attention reads and writes in a pass, and the factor of the products of queries and keys."""

    queries: Float[Tensor, "row head pos d_head"]
    keys: Float[Tensor, "row key_head pos d_head"]
    values: Float[Tensor, "row key_head pos d_value"]
    outputs: Float[Tensor, "row head pos d_value"]
    scale: float

    def of_rows(self, n: int) -> "AttentionRecord":
        """Repeat the only row."""
        queries, keys, values, outputs = (tensor.expand(n, -1, -1, -1) for tensor in self[:4])
        return AttentionRecord(queries, keys, values, outputs, self.scale)


class LinearisedModel(TorchFunctionMode):
    """A model whose passes can repeat all nonlinear operations as in a recorded pass.

    A mixture of experts sorts the tokens of all rows together by their experts. Its passes repeat a recorded pass of as
    many rows; those of another model repeat the values of one row."""

    def __init__(self, module: nn.Module):
        super().__init__()
        self.module = module
        self.attentions: list[AttentionRecord] = []
        """The attentions in the last pass, in the order in which they run."""
        self._held: dict[int, list[tuple[str, HeldValues]]] = {}
        """What is held in passes of so many rows."""
        self._recorded: list[tuple[str, HeldValues]] | None = None
        self._replayed: Iterator[tuple[str, HeldValues]] = iter(())
        self._not_held = False
        self._warned_of: set[str] = set()

    @property
    def patterns(self) -> list[Float[Tensor, "1 head query key"]]:
        """The held pattern of each attention."""
        return [held for name, held in self._held[1] if name == _ATTENTION]

    def can_replay(self, rows: int) -> bool:
        """Return whether a pass of so many rows can repeat what is recorded, or has to be recorded too."""
        return rows in self._held or all(
            part is None or part.shape[:1] in ((), (1,))
            for _, held in self._held[1]
            for part in (held if isinstance(held, tuple) else (held,))
        )

    @contextmanager
    def record(self, rows: int) -> Iterator[None]:
        """Record the pass of so many equal rows within the block. That of one row comes first."""
        self._recorded = self._held[rows] = []
        try:
            with self._running(), torch.enable_grad():
                yield
        finally:
            self._recorded = None

    @contextmanager
    def replay(self, rows: int) -> Iterator[None]:
        """Repeat the recorded factors in one pass of so many rows within the block."""
        self._replayed = iter(self._held.get(rows, self._held[1]))
        with self._running():
            yield

    @contextmanager
    def not_held(self) -> Iterator[None]:
        """Exempt a hook's own computations inside the block from being held."""
        self._not_held = True
        try:
            yield
        finally:
            self._not_held = False

    @contextmanager
    def _running(self) -> Iterator[None]:
        self.attentions = []
        with without_weight_gradients(self.module), self:
            yield

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        name = _NAMES.get(getattr(func, "__name__", ""))
        if name is None or self._not_held:
            if self._recorded is not None and not self._not_held:
                self._warn_of_scale(func, (*args, *kwargs.values()))
            return func(*args, **kwargs)
        before, held = (name, _RECORDING) if self._recorded is not None else next(self._replayed, ("nothing", None))
        if before != name:
            raise InterpError(f"the model ran {name} where it had run {before}: its operations cannot be held")
        leading = _LEADING.get(name, ("input",))[len(args) :]  # those that are not given by position
        args = (*args, *(kwargs[each] for each in leading if each in kwargs))
        kwargs = {each: value for each, value in kwargs.items() if each not in leading}
        out, held = _OPERATIONS[name](held, func, *args, **kwargs)
        if name == _ATTENTION:
            query, key, value = args[:3]
            self.attentions.append(
                AttentionRecord(query, key, value, out, kwargs.get("scale") or query.shape[-1] ** -0.5)
            )
        if self._recorded is not None:
            self._recorded.append((name, held))
        return out

    def _warn_of_scale(self, func: Any, args: tuple[Any, ...]) -> None:
        """Warn once of an operation that is not held and by its name may be part of a norm. The batch norm of a model
        that is not trained is linear."""
        name = getattr(func, "__name__", "")
        is_scale = name != "batch_norm" and any(part in name for part in _IN_NAMES_OF_SCALES)
        if is_scale and name not in self._warned_of and any(_varies(arg) for arg in args):
            self._warned_of.add(name)
            log.warning(
                "%s runs torch's %s, which is not held at its values: gradients may flow through a scale",
                type(getattr(self.module, "inner", self.module)).__name__,
                name,
            )


@contextmanager
def without_weight_gradients(module: nn.Module) -> Iterator[None]:
    """Disable the gradients of weights: a product with a weight is then not taken as a product of two activations."""
    trainable = [parameter for parameter in module.parameters() if parameter.requires_grad]
    with evaluating(module):
        for parameter in trainable:
            parameter.requires_grad_(False)
        try:
            yield
        finally:
            for parameter in trainable:
                parameter.requires_grad_(True)


def _rows(held: Tensor, like: Tensor) -> Tensor:
    """Repeat the recorded values of one row for the current number of rows."""
    n = like.shape[0] // held.shape[0] if held.ndim == like.ndim and held.ndim and held.shape[0] else 1
    return held if n == 1 else held.repeat(n, *(1,) * (held.ndim - 1))


def _varies(x: Any) -> bool:
    """Return whether a recorded value depends on the sources: a table of positions, for instance, does not."""
    return isinstance(x, Tensor) and x.requires_grad


def _output(held: HeldValues, func: Any, x: Any, *args: Any, **kwargs: Any) -> tuple[Any, HeldValues]:
    """Hold the output of an operation, such as a scale, a pattern or a gate."""
    if held is _RECORDING:
        held = func(x, *args, **kwargs).detach() if _varies(x) else None
    if held is None:
        return func(x, *args, **kwargs), None
    return _rows(held, x), held


def _ratio(held: HeldValues, func: Any, x: Any, *args: Any, **kwargs: Any) -> tuple[Any, HeldValues]:
    """Hold the ratio of an activation function's output to its input, 0 where the input is 0."""
    if held is _RECORDING and _varies(x):
        value = x.detach()
        held = torch.where(value == 0, 0.0, func(value.clone(), *args, **kwargs) / torch.where(value == 0, 1.0, value))
    if held is None or held is _RECORDING:
        return func(x, *args, **kwargs), None
    return x * _rows(held, x), held


def _power(held: HeldValues, func: Any, x: Any, exponent: Any, **kwargs: Any) -> tuple[Any, HeldValues]:
    """Hold the output of a root or of one over a power, which is a scale; and the ratio of another power."""
    is_scale = bool((torch.as_tensor(exponent) < 1).all())
    return (_output if is_scale else _ratio)(held, func, x, exponent, **kwargs)


def _quotient(held: HeldValues, func: Any, a: Any, b: Any, **kwargs: Any) -> tuple[Any, HeldValues]:
    """Hold the divisor."""
    if held is _RECORDING:
        held = b.detach() if _varies(b) else None
    return func(a, b if held is None else _rows(held, b), **kwargs), held


def _unit_vector(
    held: HeldValues, func: Any, x: Tensor, p: float = 2.0, dim: int = 1, eps: float = 1e-12, **kwargs: Any
) -> tuple[Any, HeldValues]:
    """Hold the norm by which F.normalize divides."""
    if held is _RECORDING:
        held = x.detach().norm(p, dim, keepdim=True).clamp_min(eps)
    return x / _rows(held, x), held


def _norm(
    held: HeldValues,
    func: Any,
    x: Tensor,
    shape: Any,
    weight: Any = None,
    bias: Any = None,
    eps: Any = None,
    **kwargs: Any,
) -> tuple[Tensor, HeldValues]:
    """Hold the scale of F.layer_norm, or of F.rms_norm, whose fourth argument is eps."""
    axes, has_mean = tuple(range(-len(shape), 0)), func.__name__ == "layer_norm"
    centred = x - x.mean(axes, keepdim=True) if has_mean else x
    if not has_mean:
        bias, eps = None, bias if eps is None else eps
    if held is _RECORDING:
        default = 1e-5 if has_mean else torch.finfo(x.dtype).eps
        held = (centred.detach().pow(2).mean(axes, keepdim=True) + (default if eps is None else eps)).rsqrt()
    out = centred * _rows(held, x)
    out = out if weight is None else out * weight
    return out if bias is None else out + bias, held


def _attention(
    held: HeldValues, func: Any, query: Tensor, key: Tensor, value: Tensor, *args: Any, **kwargs: Any
) -> tuple[Tensor, HeldValues]:
    """Hold the pattern of F.scaled_dot_product_attention, which is its output for values that are the unit vectors."""
    if held is _RECORDING:
        unit = torch.eye(key.shape[2], dtype=key.dtype, device=key.device).expand(*key.shape[:2], -1, -1)
        held = func(query.detach(), key.detach(), unit, *args, **kwargs)
    heads = held.shape[1] // value.shape[1]  # several may share their values
    return held @ (value if heads == 1 else value.repeat_interleave(heads, 1)), held


def _product(held: HeldValues, func: Any, a: Any, b: Any, *args: Any, **kwargs: Any) -> tuple[Any, HeldValues]:
    """Attribute half of a product of two activations, as in a gated MLP, to each; or of two matrices of them, as of the
    state of a state space model and what reads it."""
    if held is _RECORDING:
        held = (a.detach(), b.detach()) if _varies(a) and _varies(b) else None
    if held is None:
        return func(a, b, *args, **kwargs), None
    return 0.5 * (func(a, _rows(held[1], b)) + func(_rows(held[0], a), b)), held


def _choice(
    held: HeldValues, func: Any, x: Tensor, k: int, dim: int = -1, *args: Any, **kwargs: Any
) -> tuple[Any, HeldValues]:
    """Hold the choice of the k largest values."""
    largest = func(x, k, dim, *args, **kwargs)
    if held is _RECORDING:
        held = largest.indices if _varies(x) else None
    if held is None:
        return largest, None
    chosen = _rows(held, x)
    return torch.return_types.topk((x.gather(dim, chosen), chosen)), held


_OPERATIONS: dict[str, Callable[..., tuple[Any, HeldValues]]] = {
    **dict.fromkeys(("softmax", "tanh", "sigmoid", "erf", "exp"), _output),
    **dict.fromkeys(("sqrt", "rsqrt", "reciprocal", "norm", "linalg_norm", "linalg_vector_norm", "std"), _output),
    **dict.fromkeys(("relu", "gelu", "silu", "leaky_relu", "elu", "mish", "softplus"), _ratio),
    **dict.fromkeys(("square", "clamp", "expm1"), _ratio),
    **dict.fromkeys(("pow", "float_power"), _power),
    **dict.fromkeys(("div", "div_"), _quotient),
    "normalize": _unit_vector,
    **dict.fromkeys(("layer_norm", "rms_norm"), _norm),
    _ATTENTION: _attention,
    **dict.fromkeys(("mul", "matmul", "bmm"), _product),
    "topk": _choice,
}
_NAMES = {name: name for name in _OPERATIONS} | dict.fromkeys(("__mul__", "__rmul__", "multiply"), "mul")
_NAMES |= {"_softmax": "softmax", "__pow__": "pow", "__matmul__": "matmul", "__rdiv__": "reciprocal"}
_NAMES |= {f"{name}{end}": f"div{end}" for name in ("divide", "true_divide") for end in ("", "_")}
_LEADING = {
    **dict.fromkeys(("layer_norm", "rms_norm"), ("input", "normalized_shape")),
    _ATTENTION: ("query", "key", "value"),
    **dict.fromkeys(("mul", "matmul", "div", "div_"), ("input", "other")),
    **dict.fromkeys(("pow", "float_power"), ("input", "exponent")),
    "bmm": ("input", "mat2"),
}
"""The arguments that an operation takes by position, by torch's names, which a model may use; of others, its input."""
