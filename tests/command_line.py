"""Commands as a user gives them."""

import re

from interp.cli import main


def refused(capsys, *arguments: object) -> str:
    """Return the one line with which the command ends."""
    capsys.readouterr()
    assert main([str(word) for word in arguments]) == 2
    lines = capsys.readouterr().err.strip().splitlines()
    lines = [line for line in lines if not re.match(r"\w+: [\d,]+ of ", line)]  # progress, on a slow machine
    assert len(lines) == 1 and lines[0].startswith("interp: "), lines
    return lines[0]
