"""Limits in the types of a config's fields, checked when it is made."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import pytest

from interp.checks.limits import CheckedFields, Fraction, Positive, PositiveInt, Seed, check_value


@dataclass(frozen=True, kw_only=True)
class Config(CheckedFields):
    rows: PositiveInt = 8
    most: PositiveInt | None = None
    share: Fraction = 0.5
    norm: Positive | Literal["auto"] | None = "auto"
    dtype: Literal["float32", "bfloat16"] = "float32"
    name: str = ""
    steps: tuple[int, ...] = ()
    counts: Sequence[int] = ()
    seed: Seed = 0


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"rows": 0}, "rows=0 must be at least 1"),
        ({"rows": 2.5}, "rows=2.5 must be a whole number"),
        ({"rows": True}, "rows=True must be a whole number"),
        ({"rows": None}, "rows=None must be a whole number"),
        ({"most": 0}, "most=0 must be at least 1 or none"),
        ({"most": "x"}, "most='x' must be a whole number or none"),
        ({"share": 1.5}, "share=1.5 must be at most 1"),
        ({"share": "x"}, "share='x' must be a number"),
        ({"share": float("nan")}, "share=nan must be a finite number"),
        ({"norm": -1}, "norm=-1 must be above 0 or 'auto' or none"),
        ({"name": 3}, "name=3 must be text"),
        ({"steps": [1, "x"]}, "steps='x' must be a whole number"),
        ({"dtype": "int8"}, "dtype='int8' must be 'float32' or 'bfloat16'"),
        ({"seed": 2**31}, "seed=2147483648 must be below 2147483648"),
    ],
)
def test_a_value_outside_the_limits_of_its_field_is_named(fields: dict[str, Any], message: str):
    with pytest.raises(ValueError, match=f"^{message}$"):
        Config(**fields)


def test_what_the_type_allows_passes_as_the_type_has_it():
    config = Config(rows=np.int64(3), most=None, share=1, norm=None, seed=np.uint32(5), steps=[1, 2.0])  # type: ignore
    assert (config.rows, config.share, config.seed, config.steps) == (3, 1.0, 5, (1, 2))
    assert [type(value) for value in (config.rows, config.share, config.seed)] == [int, float, int]
    counts = np.arange(3)
    assert Config(counts=counts).counts is counts, "what takes a sequence checks it"
    assert check_value("seed", 2**31 - 1, Seed) == 2**31 - 1
    assert check_value("skip", np.bool_(True), bool) is True
    with pytest.raises(ValueError, match="must be a list"):
        check_value("steps", np.arange(3), tuple[int, ...] | None)
    with pytest.raises(ValueError, match="seed=0.5 must be a whole number"):
        check_value("seed", 0.5, Seed)
