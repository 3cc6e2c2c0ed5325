"""The groups in which help lists commands, and the options of each.

What must be given comes first, then what one may choose, then what only some choices have, and last how the command
runs: its seed and device, what it shares with other processes, what it may replace.
"""

import re
from typing import Any

from typer.core import TyperCommand, TyperGroup

NEEDED = "Needed"
OPTIONS = "Options"
HOW_IT_RUNS = "How it runs"
"""Titles of groups; an option may name one of its own as its `rich_help_panel`."""


class GroupedCommand(TyperCommand):
    def format_options(self, ctx: Any, formatter: Any) -> None:
        groups: dict[str, list[tuple[str, str]]] = {"Arguments": [], NEEDED: [], OPTIONS: []}
        for parameter in self.get_params(ctx):
            if (record := parameter.get_help_record(ctx)) is not None:
                groups.setdefault(_group_of(parameter), []).append((_in_plain_words(record[0]), record[1]))
        groups[HOW_IT_RUNS] = groups.pop(HOW_IT_RUNS, [])
        for title, records in groups.items():
            if records:
                with formatter.section(title):
                    formatter.write_dl(records)


class GroupedCommands(TyperGroup):
    def format_commands(self, ctx: Any, formatter: Any) -> None:
        width = max(map(len, self.commands))
        groups: dict[str, list[tuple[str, str]]] = {}
        for name, command in self.commands.items():
            line = (name.ljust(width), command.get_short_help_str(formatter.width))  # all groups are as wide
            groups.setdefault(getattr(command, "rich_help_panel", ""), []).append(line)
        for title, lines in groups.items():
            with formatter.section(title):
                formatter.write_dl(lines)


def _group_of(parameter: Any) -> str:
    if parameter.param_type_name == "argument":
        return "Arguments"
    return getattr(parameter, "rich_help_panel", None) or (NEEDED if parameter.required else OPTIONS)


def _in_plain_words(names: str) -> str:
    """Return the names of an option with the type of its value, which typer writes as Python does: list[str]."""
    return re.sub(r"<list\[(\w+)\]>", lambda found: f"<{found[1].lower()}>", names)
