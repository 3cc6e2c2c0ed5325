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
