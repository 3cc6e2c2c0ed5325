"""Join the modules of a page into one script, since a browser loads no modules from a folder on disk.

In: a folder of JavaScript modules, and the one in which the page begins. Out: a classic script with that module and all
that it needs, each before those that need it, in a function of its own that returns what it exports; an import becomes
constants. Nothing else is changed. In a browser's console, `modules["data/files.js"]` holds what that module exports.

A module may contain two forms of import and export, each at the beginning of a line:

    import { a, b as c } from "./other.js";
    export function f(…) {…}                    or export async function, export const, export class
"""

import json
import posixpath
import re
from importlib.resources.abc import Traversable

from interp.checks.errors import InterpError

IMPORT = re.compile(r'^import \{([^{}]*)\} from "(\.[^"]*)";$', re.MULTILINE)
EXPORT = re.compile(r"^export (?=(?:async function|function|const|class) (\w+))", re.MULTILINE)
OTHER = re.compile(r"^(?:\s*(?:import|export)\b|.*\bimport\().*", re.MULTILINE)


def join_scripts(folder: Traversable, entry: str) -> str:
    """Return the script of a page.

    folder: of the modules. entry: the module in which the page begins, as a path within the folder.

    Two scripts of one page may have modules in common: the later one uses those of the earlier one.

    Raises InterpError for an import or export of another form, for a name that a module does not export, and for
    modules that need each other in a circle."""
    joined = dict[str, str]()
    exported = dict[str, list[str]]()

    def add(name: str, needed_by: tuple[str, ...]) -> None:
        if name in needed_by:
            raise InterpError(f"{' → '.join((*needed_by[needed_by.index(name) :], name))}: modules import in a circle")
        if name in joined:
            return
        text = folder.joinpath(*name.split("/")).read_text(encoding="utf-8")

        def constants(match: re.Match[str]) -> str:
            other = posixpath.normpath(posixpath.join(posixpath.dirname(name), match[2]))
            add(other, (*needed_by, name))
            for wanted in re.findall(r"(?<!as )\b\w+(?= as |\s*,|\s*$)", match[1]):
                if wanted not in exported[other]:
                    raise InterpError(f"{name} imports {wanted} from {other}, which does not export it")
            return f"const {{{match[1].replace(' as ', ': ')}}} = modules[{json.dumps(other)}];"

        body = IMPORT.sub(constants, text)
        exported[name] = EXPORT.findall(body)
        body = EXPORT.sub("", body)
        if form := OTHER.search(body):
            line = body.count("\n", 0, form.start()) + 1
            raise InterpError(f"{name}:{line}: {form[0].strip()!r} is no import or export of a form in {__name__}")
        exports = ", ".join(exported[name])
        joined[name] = f"// {name}\nmodules[{json.dumps(name)}] ??= (() => {{\n{body}return {{ {exports} }};\n}})();\n"

    add(entry, ())
    return '"use strict";\nvar modules = modules ?? {};\n' + "\n".join(joined.values())
