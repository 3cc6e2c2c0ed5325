"""Write the options of several functions once, and show them in the signature of each.

    @dataclass(frozen=True, kw_only=True)
    class ScanOptions:                                     # their defaults; what the functions use inside
        overwrite: bool = False

    class ScanKeywords(TypedDict, total=False):            # the same names and types, for type checkers and editors
        overwrite: bool

    @takes_options(ScanOptions)
    def scan(out: Path, **keywords: Unpack[ScanKeywords]) -> None:
        options = ScanOptions(**keywords)

`help(scan)`, notebooks and the documentation show `scan(out, *, overwrite=False)`. A misspelt keyword is a TypeError of
the dataclass. Python can derive neither class from the other; `tests/test_options.py` checks that they agree.
"""

import inspect
from collections.abc import Callable
from dataclasses import fields
from typing import Any, TypeVar

Function = TypeVar("Function", bound=Callable[..., Any])


def takes_options(kind: type) -> Callable[[Function], Function]:
    """Show the fields of a dataclass as the last keywords of a function, in place of its `**keywords`. Other decorators
    stand above this one, as the documentation shows the function below them."""

    def show(function: Function) -> Function:
        signature = inspect.signature(function)
        *own, _ = signature.parameters.values()
        keyword = inspect.Parameter.KEYWORD_ONLY
        options = [
            inspect.Parameter(field.name, keyword, default=field.default, annotation=field.type)
            for field in fields(kind)
        ]
        function.__signature__ = signature.replace(parameters=[*own, *options])  # type: ignore[attr-defined]
        return function

    return show
