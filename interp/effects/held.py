"""A model made linear at one prompt: what is not linear in its activations is held at the values that it has there.

    attention       softmax_j(q · k) v_j      its pattern is held, so that it moves values and does nothing else
    norms           x / scale(x)              the scale is held
    act(x)          x · (act(x) / x)          the ratio is held
    a · b           of two activations        ½ (a · b₀ + a₀ · b), with a₀, b₀ as they are at the prompt

Every step is then linear in the residual stream and in the biases together, so that what any unit reads is the exact
sum of what is handed to it. `record` runs the model once; every pass within `replay` repeats the recorded factors in
the same order, whatever goes through the hooks, for any number of rows.

Source: held patterns and scales, Ameisen et al. 2025 (Circuit Tracing); ratios and halves as in layer-wise relevance
propagation (Achtibat et al. 2024, arXiv 2402.05602). Any model whose operations PyTorch can overrule is held: the names
of the operations are intercepted (`TorchFunctionMode`), not those of a library's modules. Failing: what a compiled
kernel of a library's own does inside is not seen; `AttributionGraph.unexplained` says how far the sums are off.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from interp.activations.hooks import evaluating

Kept = Any
"""The values of one operation that are held: tensors of one row, or None where the operation is linear here."""


class Attended(NamedTuple):
    """The queries and keys of an attention, and the factor of their products."""

    queries: Float[Tensor, "row head pos d_head"]
    keys: Float[Tensor, "row key_head pos d_head"]
    scale: float


class HeldModel:
    """Passes of a model in which everything that is not linear is as it was in the recorded pass."""

    def __init__(self, module: nn.Module):
        self.module = module
        self._kept: list[tuple[str, Kept]] = []
        self._aside = False
        self.attentions: list[Attended] = []
        """What each attention of the last pass was given, in the order in which they run."""

    @contextmanager
    def record(self) -> Iterator[None]:
        """The passes of one row within the block are recorded."""
        self._kept.clear()
        self.attentions = []
        with without_weight_gradients(self.module), torch.enable_grad(), _Mode(self, self._keep):
            yield

    @contextmanager
    def replay(self) -> Iterator[None]:
        """One pass within the block repeats the recorded factors."""
        entries = iter(self._kept)
        self.attentions = []

        def again(name: str, func: Any, args: Any, kwargs: Any) -> Any:
            recorded, kept = next(entries, ("nothing", None))
            if recorded != name:
                raise ValueError(f"the model ran {name} where it had run {recorded}: its operations cannot be held")
            return self._apply(name, func, args, kwargs, kept)

        with without_weight_gradients(self.module), _Mode(self, again):
            yield

    @contextmanager
    def aside(self) -> Iterator[None]:
        """Within the block a hook computes something of its own, which is not held."""
        self._aside = True
        try:
            yield
        finally:
            self._aside = False

    def _keep(self, name: str, func: Any, args: Any, kwargs: Any) -> Any:
        with torch.no_grad():
            kept = _OPERATIONS[name].keep(func, *args, **kwargs)
        self._kept.append((name, kept))
        return self._apply(name, func, args, kwargs, kept)

    def _apply(self, name: str, func: Any, args: Any, kwargs: Any, kept: Kept) -> Any:
        if name == "scaled_dot_product_attention":
            self.attentions.append(Attended(args[0], args[1], kwargs.get("scale") or args[0].shape[-1] ** -0.5))
        return _OPERATIONS[name].apply(func, kept, *args, **kwargs)


class _Mode(TorchFunctionMode):
    def __init__(self, held: HeldModel, handle: Callable[[str, Any, Any, Any], Any]):
        super().__init__()
        self.held, self.handle = held, handle

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = _NAMES.get(getattr(func, "__name__", ""))
        if name is None or self.held._aside:
            return func(*args, **(kwargs or {}))
        return self.handle(name, func, args, kwargs or {})


@contextmanager
def without_weight_gradients(module: nn.Module) -> Iterator[None]:
    """Only what the hooks hand in asks for gradients: a product with a weight is no product of two activations."""
    asked = [parameter for parameter in module.parameters() if parameter.requires_grad]
    with evaluating(module):
        for parameter in asked:
            parameter.requires_grad_(False)
        try:
            yield
        finally:
            for parameter in asked:
                parameter.requires_grad_(True)


def _rows(kept: Tensor, like: Tensor) -> Tensor:
    """What was kept of one row, for as many rows as there are now."""
    n = like.shape[0] // kept.shape[0] if kept.ndim == like.ndim and kept.ndim and kept.shape[0] else 1
    return kept if n == 1 else kept.repeat(n, *(1,) * (kept.ndim - 1))


class _Output:
    """An operation whose output is held: a scale, a pattern, a gate."""

    @staticmethod
    def keep(func: Any, x: Any, *args: Any, **kwargs: Any) -> Kept:
        out = func(x, *args, **kwargs)
        return out.detach() if isinstance(x, Tensor) and x.is_floating_point() else None

    @staticmethod
    def apply(func: Any, kept: Kept, x: Any, *args: Any, **kwargs: Any) -> Any:
        return func(x, *args, **kwargs) if kept is None else _rows(kept, x)


class _Ratio:
    """An activation function: its output over its input is held; where the input is 0, so is the output's share."""

    @staticmethod
    def keep(func: Any, x: Tensor, *args: Any, **kwargs: Any) -> Kept:
        x = x.detach()
        return torch.where(x == 0, 0.0, func(x.clone(), *args, **kwargs) / torch.where(x == 0, 1.0, x))

    @staticmethod
    def apply(func: Any, kept: Kept, x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        return x * _rows(kept, x)


class _Norm:
    """F.layer_norm and F.rms_norm: the scale is held."""

    @staticmethod
    def keep(
        func: Any, x: Tensor, shape: Any, weight: Any = None, bias: Any = None, eps: float | None = None, **kwargs: Any
    ) -> Kept:
        if func.__name__ == "rms_norm":  # its third argument is eps
            eps = bias if eps is None else eps
        over = tuple(range(-len(shape), 0))
        x = x.detach()
        centred = x - x.mean(over, keepdim=True) if func.__name__ == "layer_norm" else x
        eps = (1e-5 if func.__name__ == "layer_norm" else torch.finfo(x.dtype).eps) if eps is None else eps
        return (centred.pow(2).mean(over, keepdim=True) + eps).rsqrt()

    @staticmethod
    def apply(
        func: Any, kept: Kept, x: Tensor, shape: Any, weight: Any = None, bias: Any = None, *args: Any, **kwargs: Any
    ) -> Tensor:
        over = tuple(range(-len(shape), 0))
        centred = x - x.mean(over, keepdim=True) if func.__name__ == "layer_norm" else x
        out = centred * _rows(kept, x)
        out = out if weight is None else out * weight
        return out + bias if isinstance(bias, Tensor) else out


class _Attention:
    """F.scaled_dot_product_attention: queries and keys are held, the values are not."""

    @staticmethod
    def keep(func: Any, query: Tensor, key: Tensor, value: Tensor, *args: Any, **kwargs: Any) -> Kept:
        return query.detach(), key.detach()

    @staticmethod
    def apply(func: Any, kept: Kept, query: Tensor, key: Tensor, value: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        return func(_rows(kept[0], value), _rows(kept[1], value), value, *args, **kwargs)


class _Product:
    """The product of two activations, as in a gated MLP: half of it is handed to each."""

    @staticmethod
    def keep(func: Any, a: Any, b: Any, *args: Any, **kwargs: Any) -> Kept:
        both = isinstance(a, Tensor) and isinstance(b, Tensor) and a.requires_grad and b.requires_grad
        return (a.detach(), b.detach()) if both else None

    @staticmethod
    def apply(func: Any, kept: Kept, a: Any, b: Any, *args: Any, **kwargs: Any) -> Any:
        if kept is None:
            return func(a, b, *args, **kwargs)
        return 0.5 * (a * _rows(kept[1], b) + _rows(kept[0], a) * b)


_OPERATIONS: dict[str, Any] = {
    **dict.fromkeys(("softmax", "sqrt", "rsqrt", "tanh", "sigmoid", "erf"), _Output),
    **dict.fromkeys(("relu", "gelu", "silu", "leaky_relu", "elu", "mish", "softplus"), _Ratio),
    **dict.fromkeys(("layer_norm", "rms_norm"), _Norm),
    "scaled_dot_product_attention": _Attention,
    "mul": _Product,
}
_NAMES = {name: name for name in _OPERATIONS} | dict.fromkeys(("__mul__", "__rmul__", "multiply"), "mul")
_NAMES |= {"_softmax": "softmax"}
