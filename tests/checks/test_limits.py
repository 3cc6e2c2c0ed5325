"""Limits in the types of a config's fields, checked when it is made."""

from dataclasses import dataclass
from typing import Annotated, Any, Literal

import numpy as np
import pytest

from interp.checks.limits import AT_LEAST_1, CheckedFields, Fraction, PositiveInt, Seed, check_seed


@dataclass(frozen=True, kw_only=True)
class Config(CheckedFields):
    rows: PositiveInt = 8
    most: Annotated[int | None, AT_LEAST_1] = None
    share: Fraction = 0.5
    norm: float | Literal["auto"] | None = "auto"
    dtype: Literal["float32", "bfloat16"] = "float32"
    name: str = ""
    seed: Seed = 0


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"rows": 0}, "rows=0 must be at least 1"),
        ({"rows": 2.0}, "rows=2.0 must be a whole number"),
        ({"rows": True}, "rows=True must be a whole number"),
        ({"rows": None}, "rows=None must be a whole number"),
        ({"most": 0}, "most=0 must be at least 1"),
        ({"most": "x"}, "most='x' must be a whole number"),
        ({"share": 1.5}, "share=1.5 must be in 0..1"),
        ({"share": "x"}, "share='x' must be a number"),
        ({"share": float("nan")}, "share=nan must be finite"),
        ({"dtype": "int8"}, "dtype='int8' must be one of float32, bfloat16"),
        ({"seed": 2**31}, "seed=2147483648 must be in 0..2147483647"),
    ],
)
def test_a_value_outside_the_limits_of_its_field_is_named(fields: dict[str, Any], message: str):
    with pytest.raises(ValueError, match=f"^{message}$"):
        Config(**fields)


def test_what_the_type_allows_passes():
    config = Config(rows=np.int64(3), most=None, share=1, norm=None, seed=np.uint32(5))
    assert (config.rows, config.share, config.seed) == (3, 1, 5)
    check_seed(2**31 - 1)
    with pytest.raises(ValueError, match="seed=0.5 must be a whole number"):
        check_seed(0.5)
