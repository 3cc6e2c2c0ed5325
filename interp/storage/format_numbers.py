"""The number of a file's format: `interp.features/1` is the first format of a scan.

A file that only has the name, or says nothing, is of the first format. The number is raised when an earlier version of
interp would read the new files wrongly; a reader then reads all numbers up to its own.
"""

from typing import Any

from interp.checks.errors import InterpError


def check_format(found: Any, newest: str, file: object) -> None:
    """Check that the format of a file is not a later one than this version of interp reads.

    found: the format that the file names; None if it names none.
    newest: the last format that can be read, such as "interp.features/1".

    Raises InterpError for a later number. Another name, which is not of this kind of file, is the caller's to refuse.
    """
    name, _, number = newest.rpartition("/")
    found_name, _, found_number = str(found).rpartition("/")
    if found_name == name and found_number.isdecimal() and int(found_number) > int(number):
        raise InterpError(
            f"{file} has the format {found}, and this version of interp reads up to {newest}: install a later one"
        )
