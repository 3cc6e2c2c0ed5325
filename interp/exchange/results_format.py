"""Register a format in which `interp publish --to` writes the results of a run: one function.

    @dataclass(frozen=True, kw_only=True)
    class DelphiOptions(CheckedFields):
        model_id: str
        \"\"\"The name under which transformers finds the tokenizer.\"\"\"

    @results_format("delphi", DelphiOptions)
    def publish_delphi(run, out, options, *, overwrite, progress):
        \"\"\"all firings, as its latent cache\"\"\"
        return write_delphi(run.features, out, model_name=options.model_id, …)

The options are flags of the command, here `--model-id`; its help lists the formats. A function returns what it wrote,
a folder or an address, which the command prints.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from interp.runtime.registry import import_files, register

Publish = Callable[..., Path | str]
"""(run, folder, options, overwrite=…, progress=…) → what was written."""


@dataclass(frozen=True)
class NoOptions:
    """The options of a format without any."""


class ResultsFormat(NamedTuple):
    publish: Publish
    help: str
    options: type
    """A dataclass, whose fields are options of the command, with their docstrings as help."""


RESULTS_FORMATS: dict[str, ResultsFormat] = {}
"""The formats by name, of the modules that have been imported."""


def results_format(name: str, options: type = NoOptions) -> Callable[[Publish], Publish]:
    """Register the function below as a format; its docstring is the help. Raises ValueError if another has the name."""

    def decorate(publish: Publish) -> Publish:
        new = ResultsFormat(publish, " ".join((publish.__doc__ or "").split()), options)
        register(RESULTS_FORMATS, name, new, "format of results", lambda format: format.publish)
        return publish

    return decorate


def results_formats() -> dict[str, ResultsFormat]:
    """Return every format by its name, in alphabetical order."""
    from interp import exchange

    import_files(exchange.__name__, exchange.__path__)
    return dict(sorted(RESULTS_FORMATS.items()))
