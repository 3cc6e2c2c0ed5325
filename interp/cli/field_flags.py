"""Make the fields of config dataclasses flags of a command, each with its type, its default and its docstring as help.

    def rank_command(source: Path, *, settings: Annotated[dict[str, Any], FieldFlags(lambda: [RankingConfig])]): ...

`settings` gets the values that were given, by field, read as TOML and checked. A field with the name of another
parameter of the command has no flag of its own.
"""

import functools
import inspect
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import MISSING, dataclass, fields
from typing import Annotated, Any, Literal, get_args, get_origin

from typer import Option

from interp.checks.errors import InterpError
from interp.cli.toml_values import toml_value


@dataclass(frozen=True)
class FieldFlags:
    classes: Callable[[], Iterable[type]]
    """Returns the dataclasses. If several have a field of the same name, the first counts."""
    default: str = "{}"
    """How help names a default; "" leaves it out."""
    as_text: bool = False
    """Whether every value is given as text, and is checked by the command alone: classes may have fields of one name
    and of several types. A truth value is given in words too, `--skip true`, instead of by `--skip` or `--no-skip`."""

    each_field: bool = False
    """Whether each field must have a flag, so that a field with the name of another parameter is refused."""

    def checked(self, flags: Mapping[str, bool | str | list[str]]) -> dict[str, Any]:
        """Return what flags were given as the types of their fields. Raises ValueError for a value of another type or
        out of range."""
        values = {name: _value(flag) for name, flag in flags.items()}
        if self.as_text:
            return values
        from interp.checks.limits import check_value, field_hints

        hints = {name: hint for each in reversed(list(self.classes())) for name, hint in field_hints(each).items()}
        for name in values:
            if hints[name] in (str, str | None) and not isinstance(values[name], str):
                values[name] = flags[name]  # a name may be digits
        return {name: check_value(name, value, hints[name]) for name, value in values.items()}

    def parameters(self, taken: Collection[str]) -> list[inspect.Parameter]:
        """Return a parameter, as typer reads it, for each field whose name is not taken."""
        from interp.checks.config_fields import field_docs, field_types, to_toml_value, type_name

        parameters: dict[str, inspect.Parameter] = {}
        for config_class in self.classes():
            docs = field_docs(config_class)
            hints = field_types(config_class)
            for field in fields(config_class):
                if self.each_field and field.name in taken:
                    raise InterpError(
                        f"{config_class.__name__} has a field {field.name!r}, which is another option of the command: "
                        "give the field another name"
                    )
                if field.name in (*taken, *parameters):
                    continue
                hint = hints[field.name]
                is_switch = hint is bool and not self.as_text
                flag = flag_of(field.name)
                if is_switch:
                    flag += f"/--no-{flag[2:]}"
                help = docs.get(field.name, "").split(". ")[0].removesuffix(".")
                if self.default and field.default not in (MISSING, ()):
                    value = ("off", "on")[field.default] if is_switch else to_toml_value(field.default)
                    help += f" (default: {self.default.format(value)})"
                metavar = None
                annotation = hint
                if self.as_text or not (is_switch or get_origin(hint) is Literal):
                    metavar = f"<{type_name(hint)}>"
                    annotation = list[str] if get_origin(hint) in (tuple, Sequence) else str
                option = Option(flag, metavar=metavar, help=help)
                parameters[field.name] = inspect.Parameter(
                    field.name,
                    inspect.Parameter.KEYWORD_ONLY,
                    default=None,
                    annotation=Annotated[annotation | None, option],
                )
        return list(parameters.values())


def flag_of(field: str) -> str:
    return f"--{field.replace('_', '-')}"


def with_field_flags(command: Callable[..., None]) -> Callable[..., None]:
    """Return the command with the flags of its `settings`, if it has any."""
    parameters = dict(inspect.signature(command).parameters)
    if (settings := parameters.pop("settings", None)) is None:
        return command
    [field_flags] = get_args(settings.annotation)[1:]
    flags = field_flags.parameters(parameters)

    @functools.wraps(command)
    def with_flags(**values: Any) -> None:
        texts = {flag.name: values.pop(flag.name) for flag in flags}
        settings = field_flags.checked({name: text for name, text in texts.items() if text is not None})
        command(settings=settings, **values)

    with_flags.__signature__ = inspect.Signature([*parameters.values(), *flags])  # type: ignore[attr-defined]
    return with_flags


def settings_of(config_class: type, settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings that are fields of the dataclass `config_class`."""
    return {each.name: settings[each.name] for each in fields(config_class) if each.name in settings}


def _value(flag: bool | str | list[str]) -> Any:
    """Return the value of a field: of a list, all items, from one text, `[0, 1]`, or one text each."""
    if isinstance(flag, list):
        items = [toml_value(text) for text in flag]
        return items[0] if len(items) == 1 and isinstance(items[0], list) else items
    return toml_value(flag) if isinstance(flag, str) else flag
