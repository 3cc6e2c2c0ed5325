"""A model linearised at a prompt: what is held does not depend on how the model calls torch's functions."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from interp.effects.linearised_model import LinearisedModel

BY_POSITION_AND_BY_NAME = {
    "attention": (
        lambda x: F.scaled_dot_product_attention(x, x, x),
        lambda x: F.scaled_dot_product_attention(query=x, key=x, value=x),
    ),
    "matmul": (lambda x: torch.matmul(x, x), lambda x: torch.matmul(input=x, other=x)),
    "bmm": (lambda x: torch.bmm(x[0], x[0]), lambda x: torch.bmm(input=x[0], mat2=x[0])),
    "gelu": (lambda x: F.gelu(x, approximate="tanh"), lambda x: F.gelu(input=x, approximate="tanh")),
    "layer_norm": (lambda x: torch.layer_norm(x, (3,)), lambda x: torch.layer_norm(input=x, normalized_shape=(3,))),
    "topk": (lambda x: x.topk(2).values, lambda x: torch.topk(input=x, k=2).values),
}


@pytest.mark.parametrize("operation", BY_POSITION_AND_BY_NAME)
def test_an_operation_called_by_names_is_held_as_one_called_by_position(operation: str) -> None:
    x, other = torch.randn(2, 1, 2, 3, 3, generator=torch.Generator().manual_seed(0))
    x.requires_grad_()
    passes = []
    for run in BY_POSITION_AND_BY_NAME[operation]:
        model = LinearisedModel(nn.Identity())
        with model.record(1):
            run(x)
        with model.replay(1):
            passes.append(run(other))
    assert torch.equal(*passes) and len(model.attentions) == (operation == "attention")


def over_in_place(x: torch.Tensor) -> torch.Tensor:
    out = x.clone()
    out /= x.norm(dim=-1, keepdim=True)
    return out


def mean_square(x: torch.Tensor) -> torch.Tensor:
    return (x * x).mean(-1, keepdim=True)


ROOT_MEAN_SQUARES = {
    "rsqrt": lambda x: x * torch.rsqrt(mean_square(x)),
    "pow": lambda x: x * torch.pow(mean_square(x), -0.5),
    "pow by name": lambda x: x * torch.pow(input=mean_square(x), exponent=-0.5),
    "**": lambda x: x * mean_square(x) ** -0.5,
    "float_power": lambda x: x * mean_square(x).float_power(-0.5),
    "over sqrt": lambda x: x / mean_square(x).sqrt(),
    "over **": lambda x: x / mean_square(x) ** 0.5,
    "one over sqrt": lambda x: x * (1 / mean_square(x).sqrt()),
    "sqrt of one over": lambda x: x * (1 / mean_square(x)).sqrt(),
    "reciprocal of sqrt": lambda x: x * mean_square(x).sqrt().reciprocal(),
    "ones over sqrt": lambda x: x * (torch.ones_like(x) / mean_square(x).sqrt()),
    "rms_norm": lambda x: F.rms_norm(x, x.shape[-1:], eps=0.0),
}
VECTOR_NORMS = {
    "norm": lambda x: x / x.norm(dim=-1, keepdim=True),
    "norm without its axis": lambda x: x / x.norm(dim=-1)[..., None],
    "norm in place": over_in_place,
    "torch.norm": lambda x: x.div(torch.norm(x, dim=-1, keepdim=True)),
    "linalg.norm": lambda x: torch.true_divide(x, torch.linalg.norm(x, dim=-1, keepdim=True)),
    "linalg.norm by name": lambda x: x / torch.linalg.norm(input=x, dim=-1, keepdim=True),
    "linalg.vector_norm": lambda x: x.divide(torch.linalg.vector_norm(x, dim=-1, keepdim=True)),
    "linalg.vector_norm by name": lambda x: x / torch.linalg.vector_norm(x=x, dim=-1, keepdim=True),
    "one over norm": lambda x: x * (1 / x.norm(dim=-1, keepdim=True)),
    "over a matrix's norm": lambda x: x / torch.linalg.matrix_norm(x[..., None])[..., None],
    "normalize": lambda x: F.normalize(x, dim=-1),
}
DEVIATIONS = {
    "layer_norm": lambda x: F.layer_norm(x, x.shape[-1:], eps=0.0),
    "std": lambda x: (x - x.mean(-1, keepdim=True)) / x.std(-1, unbiased=False, keepdim=True),
    "var": lambda x: (x - x.mean(-1, keepdim=True)) * x.var(-1, unbiased=False, keepdim=True) ** -0.5,
}


@pytest.mark.parametrize("spellings", [ROOT_MEAN_SQUARES, VECTOR_NORMS, DEVIATIONS], ids=["rms", "vector", "std"])
def test_the_scale_of_a_norm_is_held_however_it_is_written(spellings: dict) -> None:
    x, *others = torch.randn(3, 1, 2, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    others = torch.cat(others)
    centre = torch.eye(4, dtype=x.dtype) - (0.25 if spellings is DEVIATIONS else 0)
    scale = next(iter(spellings.values()))(x) / (x @ centre)  # of each position
    for name, run in spellings.items():
        model = LinearisedModel(nn.Identity())
        with model.record(1):
            out = run(x.clone().requires_grad_())
        torch.testing.assert_close(out, scale * (x @ centre), msg=name)
        with model.replay(2), torch.enable_grad():
            moved = run(others.requires_grad_())
        torch.testing.assert_close(moved, scale * (others @ centre), msg=name)
        [slopes] = torch.autograd.grad(moved[..., 0].sum(), others)
        torch.testing.assert_close(slopes, (scale[..., :1] * centre[0]).expand_as(others), msg=name)


def test_a_scale_that_cannot_be_held_is_named_once(caplog: pytest.LogCaptureFixture) -> None:
    x = torch.rand(1, 2, 4, requires_grad=True)
    model = LinearisedModel(nn.Identity())
    with model.record(1):
        for _ in range(2):
            (x * x.square().mean(-1, keepdim=True).rsqrt_() / 2).norm()
            F.group_norm(x, 2)
    assert [record.args for record in caplog.records] == [("Identity", "rsqrt_"), ("Identity", "group_norm")]
