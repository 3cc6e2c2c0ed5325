"""Make the fields of config dataclasses flags of a command, each with its type, its default and its docstring as help.

    def rank_command(source: Path, *, settings: Annotated[dict[str, Any], FieldFlags(lambda: [RankingConfig])]): ...

`settings` gets the values that were given, by field, read as TOML and checked. A field with the name of another
parameter of the command has no flag of its own.
"""

import functools
import inspect
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import MISSING, Field, dataclass, field, fields
from typing import Annotated, Any, Literal, get_args, get_origin

from typer import Option

from interp.checks.errors import InterpError
from interp.cli.option_groups import HOW_IT_RUNS, NEEDED
from interp.cli.toml_values import toml_value

_RUNNING = ("seed", "device", "timeout", "tries", "concurrency")
"""Fields that say how a command runs."""


@dataclass(frozen=True)
class FieldFlags:
    classes: Callable[[], Iterable[type] | Mapping[str, type]]
    """Returns the dataclasses, by name if one of them is chosen. If several have a field of the same name, its type is
    that of the first, and its help the commonest."""
    choice: str = ""
    """What the names are of, such as architecture, if one is chosen: help lists the fields that only some classes have
    under their names, and a default if they agree on it."""
    default: str = "{}"
    """How help names a default; "" leaves it out."""
    given: Mapping[str, str] = field(default_factory=dict)
    """What the command takes for a field that was not given, as help names it."""
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

        hints = {name: hint for each in reversed(self._named().values()) for name, hint in field_hints(each).items()}
        for name in values:
            if hints[name] in (str, str | None) and not isinstance(values[name], str):
                values[name] = flags[name]  # a name may be digits
        return {name: check_value(name, value, hints[name]) for name, value in values.items()}

    def parameters(self, taken: Collection[str]) -> list[inspect.Parameter]:
        """Return a parameter, as typer reads it, for each field whose name is not taken."""
        named = self._named()
        owners: dict[str, dict[str, type]] = {}
        for name, config_class in named.items():
            for each in fields(config_class):
                if self.each_field and each.name in taken:
                    raise InterpError(
                        f"{config_class.__name__} has a field {each.name!r}, which is another option of the command: "
                        "give the field another name"
                    )
                if each.name not in taken:
                    owners.setdefault(each.name, {})[name] = config_class
        parameters = [self._parameter(name, having, len(having) == len(named)) for name, having in owners.items()]
        return sorted(parameters, key=lambda parameter: len(owners[parameter.name]) == len(named))

    def _named(self) -> dict[str, type]:
        """Return the classes by name."""
        classes = self.classes()
        return dict(classes) if isinstance(classes, Mapping) else {each.__name__: each for each in classes}

    def _parameter(self, name: str, owners: Mapping[str, type], is_common: bool) -> inspect.Parameter:
        """Return the parameter of a field of these classes. is_common: whether all classes have it."""
        from interp.checks.config_fields import field_docs, field_types, is_needed, type_name

        hint = field_types(next(iter(owners.values())))[name]
        own = [each for config_class in owners.values() for each in fields(config_class) if each.name == name]
        needs_value = all(map(is_needed, own)) and name not in self.given
        is_switch = hint is bool and not self.as_text
        flag = flag_of(name)
        if is_switch:
            flag += f"/--no-{flag[2:]}"
        [(doc, _)] = Counter(field_docs(each).get(name, "") for each in owners.values()).most_common(1)
        help = doc.split(". ")[0].removesuffix(".") + self._default_in_words(name, own, is_switch)
        panel = None
        if name in _RUNNING:
            panel = HOW_IT_RUNS
        elif self.choice and is_common:
            panel = NEEDED if needs_value else f"Options of any {self.choice}"
        elif self.choice:
            panel = f"Options of {', '.join(owners)}"
            help += " (needed)" * needs_value
        metavar = None
        annotation = hint
        if self.as_text or not (is_switch or get_origin(hint) is Literal):
            metavar = f"<{type_name(hint)}>"
            annotation = list[str] if get_origin(hint) in (tuple, Sequence) else str
        option = Option(flag, metavar=metavar, help=help, rich_help_panel=panel)
        return inspect.Parameter(
            name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=Annotated[annotation | None, option]
        )

    def _default_in_words(self, name: str, own: Sequence[Field], is_switch: bool) -> str:
        """Return what help says of the default of a field; nothing if classes that have it differ in theirs."""
        from interp.checks.config_fields import to_toml_value

        if name in self.given:
            return f" (default: {self.given[name]})"
        [default, *others] = {each.default for each in own}
        if not self.default or others or default in (MISSING, ()) or (self.choice and default is None):
            return ""
        value = ("off", "on")[default] if is_switch else to_toml_value(default)
        return f" (default: {self.default.format(str(value).lower() if isinstance(value, bool) else value)})"


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
