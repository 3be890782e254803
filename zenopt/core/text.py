"""Text from outside - names in a database, lines of a file - made fit for a terminal."""

from __future__ import annotations


def printable(value: object) -> str:
    r"""Return a text with every character that is not plainly visible written as an escape.

    What was read from a database or a file may hold terminal sequences that colour, move or erase what is shown.

    Example:
        >>> printable("demo\x1b[31m")
        'demo\\x1b[31m'
    """
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in str(value))
