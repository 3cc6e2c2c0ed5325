"""Write the pages of the API from the docstrings, one for each module, with pdoc.

The page of a package has tables of what one imports from it and of its modules, which lead to their pages. Signatures
stand as they are written, and the parameters of a function are a list. As functions cannot be called afterwards, this
is the last that a process does with them.
"""

import ast
import dataclasses
import importlib
import inspect
import os
import pkgutil
import re
import textwrap
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FunctionType, ModuleType
from typing import Any

import pdoc

PACKAGES = ("interp", "models")
STYLE = """
body > nav:first-child { position: fixed; z-index: 2; top: 0; left: 0; width: 100%; height: 2.4rem; overflow-x: auto;
  white-space: nowrap; background: #f3f5f8; border-bottom: 1px solid #d8dee6; padding: .45rem 1.2rem;
  font: 15px system-ui, sans-serif; }
body > nav:first-child a { margin-right: 1rem; color: #0b57a4; text-decoration: none; }
nav.pdoc { top: 2.4rem; height: calc(100vh - 2.4rem) !important; }
main.pdoc { padding-top: 4.4rem !important; width: calc(72rem + var(--sidebar-width)) !important; }
main.pdoc section, main.pdoc .classattr { scroll-margin-top: 3rem; }
.pdoc pre { white-space: pre-wrap; }
.pdoc .docstring pre { font-size: 12.5px; }
.pdoc td { padding: .15rem .8rem .15rem 0; vertical-align: top; }
"""


def write_api(out: Path, navigation: Callable[[str], str]) -> None:
    """Write the pages to the folder `out`.
    navigation: makes the links at the top of a page, from the way to the folder above `out`."""
    warnings.filterwarnings("ignore", module="pdoc")  # of annotations in other libraries
    names = list(PACKAGES)
    for package in map(importlib.import_module, PACKAGES):
        names += [found.name for found in pkgutil.walk_packages(package.__path__, f"{package.__name__}.")]
    names = [name for name in names if not name.endswith("__main__")]
    modules = [importlib.import_module(name) for name in names]
    tables = {module: tables_of(module) for module in modules if hasattr(module, "__all__")}
    for module, text in tables.items():
        module.__doc__ = f"{module.__doc__}\n\n{text}"
        module.__all__ = []  # each name is described on the page of its module alone
    for function in [function for module in modules for function in functions_of(module)]:
        list_parameters(function)
        show_signature(function)
    for record in [thing for module in modules for thing in defined_in(module) if is_record(thing)]:
        show_fields(record)
    pdoc.render.configure(docformat="markdown", show_source=False, search=True)
    pdoc.pdoc(*names, output_directory=out)
    for page in out.rglob("*.html"):
        links = navigation("../" * len(page.relative_to(out).parts))
        text = re.sub(r"&lt;(?:function|class|built-in function) ([\w.]+)&gt;", r"\1", page.read_text(encoding="utf-8"))
        head, body, rest = re.split("(<body[^>]*>)", text, maxsplit=1)
        head = head.replace("</head>", f"<style>{STYLE}</style></head>")
        page.write_text(f"{head}{body}{links}{rest}", encoding="utf-8")


def tables_of(package: ModuleType) -> str:
    """Two tables in Markdown: what one imports from a package, and its modules, with the first sentence of each."""
    things = {name: getattr(package, name) for name in package.__all__}
    public = {name: thing for name, thing in things.items() if inspect.isclass(thing) or inspect.isroutine(thing)}
    inner = [found.name for found in pkgutil.iter_modules(package.__path__) if found.name != "__main__"]
    modules = {name: importlib.import_module(f"{package.__name__}.{name}") for name in inner}
    rows = {
        "Names to import": [(name, f"{thing.__module__}#{name}", thing) for name, thing in public.items()],
        "Modules": [(name, module.__name__, module) for name, module in modules.items()],
    }
    here = "/".join(package.__name__.split(".")[:-1]) or "."
    lines = []
    for title, entries in rows.items():
        lines += [f"## {title}", "", "| name | what it is |", "|---|---|"]
        for name, place, thing in sorted(entries, key=lambda entry: entry[0]):
            module, mark, anchor = place.partition("#")
            page = os.path.relpath(module.replace(".", "/"), here)
            lines.append(f"| [`{name}`]({page}.html{mark}{anchor}) | {first_sentence(thing)} |")
        lines.append("")
    return "\n".join(lines)


def first_sentence(thing: Any) -> str:
    """The first sentence of a docstring, as a cell of a table."""
    sentence = re.split(r"(?<=[.:])\s|\n\n", inspect.getdoc(thing) or "", maxsplit=1)[0]
    return " ".join(sentence.split()).removesuffix(":").replace("|", "\\|")


def functions_of(module: ModuleType) -> Iterator[FunctionType]:
    """The functions that a module defines, and the methods of its classes."""
    own = defined_in(module)
    methods = [each for thing in own if inspect.isclass(thing) for each in vars(thing).values()]
    for function in [*own, *methods]:
        function = getattr(function, "__func__", function)  # of a class method
        if inspect.isfunction(function):
            yield inspect.unwrap(function)


def defined_in(module: ModuleType) -> list[Any]:
    return [thing for thing in vars(module).values() if getattr(thing, "__module__", None) == module.__name__]


def list_parameters(function: FunctionType) -> None:
    """Make a list of the lines of a docstring that say what a parameter is, `name: …` or `first, second: …`."""
    names = "|".join(map(re.escape, inspect.signature(function).parameters))
    if not names or not function.__doc__:
        return
    lines, is_listed = [], False
    for line in inspect.cleandoc(function.__doc__).splitlines():
        parameter = re.match(rf"((?:{names})(?:, (?:{names}))*): (.*)", line)
        if parameter:
            lines += [*([] if is_listed else [""]), f"- **{parameter[1]}**: {parameter[2]}"]
            is_listed = True
        elif is_listed and line and not re.match("Returns?|Raises?", line):
            lines.append(f"  {line.strip()}")
        else:
            lines += [*([""] if is_listed else []), line]
            is_listed = False
    function.__doc__ = "\n".join(lines)


class Source:
    """An annotation or a default value that shows itself as it is written, by its names."""

    def __init__(self, node: ast.expr):
        self.text = ast.unparse(node)

    def __repr__(self) -> str:
        return self.text


def show_signature(function: FunctionType) -> None:
    """Let the signature show itself as it is written. The function cannot be called afterwards."""
    try:
        definition = ast.parse(textwrap.dedent(inspect.getsource(function))).body[0]
    except (OSError, SyntaxError):  # of code that a dataclass made
        return
    if isinstance(definition, ast.FunctionDef):
        given = definition.args
        every = [*given.posonlyargs, *given.args, *given.kwonlyargs]
        types = {each.arg: Source(each.annotation) for each in every if each.annotation}
        function.__annotations__ = types | ({"return": Source(definition.returns)} if definition.returns else {})
        function.__defaults__ = tuple(map(Source, given.defaults)) or None
        defaults = zip(given.kwonlyargs, given.kw_defaults, strict=True)
        function.__kwdefaults__ = {each.arg: Source(default) for each, default in defaults if default} or None


def is_record(thing: Any) -> bool:
    """Whether this is a dataclass or a named tuple, whose constructor is not written but made of its fields."""
    return inspect.isclass(thing) and (dataclasses.is_dataclass(thing) or hasattr(thing, "_fields"))


def show_fields(record: type) -> None:
    """Let the fields of a class show their types as they are written, in its constructor too."""
    fields: dict[str, Source] = {}
    for each in reversed(record.__mro__):
        if each.__module__.startswith(PACKAGES) and not each.__dict__.get("__slots__"):
            try:
                definition = ast.parse(textwrap.dedent(inspect.getsource(each))).body[0]
            except (OSError, TypeError, SyntaxError):
                continue
            lines = definition.body if isinstance(definition, ast.ClassDef) else []
            written = [line for line in lines if isinstance(line, ast.AnnAssign)]
            fields |= {ast.unparse(line.target): Source(line.annotation) for line in written}
    if (record.__doc__ or "").startswith(f"{record.__name__}("):  # made of the fields, for want of a docstring
        record.__doc__ = ""
    constructor = record.__new__ if hasattr(record, "_fields") else record.__init__
    for annotations in (record.__dict__.get("__annotations__", {}), constructor.__annotations__):
        annotations.update({name: fields[name] for name in annotations if name in fields})
