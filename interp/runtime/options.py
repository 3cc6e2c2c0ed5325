"""Declare once an option that a run's configuration, or several functions, have. It is then a field of the
configuration, a flag of the command, and a keyword of each function. What one function alone takes is a keyword in its
own signature.

    @dataclass(frozen=True, kw_only=True)
    class RankingConfig(CheckedFields):                         # the name, its type and limits, the default, its help
        n_shifts: Annotated[int, between(1, 1000)] = 2
        \"\"\"Circular shifts of the text.\"\"\"

    class RankingKeywords(TypedDict, total=False):              # the same names and types, for type checkers
        n_shifts: int

    @takes_options(RankingConfig)
    def rank_features(features, *, progress: Progress = no_progress, **keywords: Unpack[RankingKeywords]):
        config = RankingConfig(**keywords)

`help(rank_features)`, notebooks and the documentation show each keyword with its default and its help. A misspelt one
is a TypeError of the dataclass. The section of run.toml inherits from the same dataclass (`pipeline.sections`), and the
command has its fields as flags (`cli.field_flags`). Python can derive neither the dataclass nor the TypedDict from the
other; `tests/test_options.py` checks that they agree.
"""

import ast
import inspect
import sys
from collections.abc import Callable
from contextlib import suppress
from dataclasses import fields, is_dataclass
from functools import cache
from itertools import pairwise
from textwrap import fill
from typing import Any, TypeVar, get_type_hints

Function = TypeVar("Function", bound=Callable[..., Any])


def takes_options(config_class: type) -> Callable[[Function], Function]:
    """Show the fields of a dataclass as the last keywords of a function, in place of its `**keywords`, and their
    docstrings at the end of its own. Other decorators stand above this one, as the documentation shows the function
    below them."""

    def show(function: Function) -> Function:
        signature = inspect.signature(function)
        *own_parameters, _ = signature.parameters.values()
        types = get_type_hints(config_class)  # without the limits, which are functions
        keyword = inspect.Parameter.KEYWORD_ONLY
        options = [
            inspect.Parameter(field.name, keyword, default=field.default, annotation=types[field.name])
            for field in fields(config_class)
        ]
        function.__signature__ = signature.replace(parameters=[*own_parameters, *options])  # type: ignore[attr-defined]
        docs = field_docs(config_class).items()
        lines = [fill(f"- `{name}`: {text}", 118, subsequent_indent="  ") for name, text in docs]
        function.__doc__ = "\n".join([inspect.cleandoc(function.__doc__ or ""), "", "Options:", "", *lines]).strip()
        return function

    return show


def values_of(config_class: type, config: Any) -> dict[str, Any]:
    """Return the values of the fields that a config inherits from the dataclass `config_class`."""
    return {field.name: getattr(config, field.name) for field in fields(config_class)}


def field_docs(config_class: type) -> dict[str, str]:
    """Return the docstring of each field of a dataclass, inherited fields included, on one line; none of a class whose
    source is not in a file."""
    docs: dict[str, str] = {}
    for base in filter(is_dataclass, reversed(config_class.__mro__)):
        docs |= _docs_in(base.__module__).get(base.__name__, {})
    return {field.name: docs[field.name] for field in fields(config_class) if field.name in docs}


@cache
def _docs_in(module: str) -> dict[str, dict[str, str]]:
    """Return the docstrings of the fields of each class of a module."""
    docs: dict[str, dict[str, str]] = {}
    with suppress(OSError, TypeError):  # the second for a session's own classes
        tree = ast.parse(inspect.getsource(sys.modules[module]))
        for node in (node for node in ast.walk(tree) if isinstance(node, ast.ClassDef)):
            docs_of_class = docs.setdefault(node.name, {})
            for field, doc in pairwise(node.body):
                match field, doc:
                    case ast.AnnAssign(target=ast.Name(id=name)), ast.Expr(value=ast.Constant(value=str(text))):
                        docs_of_class[name] = " ".join(text.split())
    return docs
