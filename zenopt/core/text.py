"""Foreign text on its way to a person: escaped, on one line, short."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

#: Characters of a quotation, and of a whole message.
QUOTED, LINE = 60, 360


def printable(value: object) -> str:
    r"""Return a text in which whatever a terminal would obey, line breaks included, is shown escaped.

    Example:
        .. code-block:: python

            printable("a\x1b[2J")  # 'a\\x1b[2J'
    """
    text = str(value)
    if text.isprintable():
        return text
    return "".join(
        char if char.isprintable() else char.encode("unicode_escape").decode("ascii") for char in text
    )


def printable_lines(text: str) -> str:
    """Return a text of several lines, each of them :func:`printable`; the breaks between them are ours."""
    return "\n".join(map(printable, text.split("\n")))


def quoted(value: object, limit: int = QUOTED) -> str:
    """Return what Python writes for a value, printable and shortened; however large, it costs little."""
    return shortened(printable(_written(value, limit, depth=4)), limit)


def quoted_list(names: Iterable[str], limit: int = 2 * QUOTED) -> str:
    """Return names in a row, printable, the last ones left out where they are many; ``"none"`` where there are none."""
    found: list[str] = []
    for name in names:
        found.append(shortened(printable(name[:QUOTED])))
        if sum(map(len, found)) > limit:
            found[-1] = "..."
            break
    return ", ".join(found) or "none"


def one_line(text: str, limit: int = LINE) -> str:
    """Return a message on one line, printable and shortened."""
    return shortened(printable(" ".join(text[: 4 * limit].split())), limit)


def shortened(text: str, limit: int = QUOTED) -> str:
    """Return a text of at most ``limit`` characters; the end of a longer one is cut off."""
    return text if len(text) <= limit else f"{text[: limit - 3]}..."


def shortened_path(path: object, limit: int = 120) -> str:
    """Return a path of at most ``limit`` printable characters; the beginning of a longer one is cut off."""
    text = printable(path)
    return text if len(text) <= limit else f"...{text[3 - limit :]}"


def _written(value: object, limit: int, depth: int) -> str:
    """Return the beginning of a value's ``repr``: containers may be huge, and so may what is in them."""
    if isinstance(value, str | bytes):
        return repr(value[: limit + 1])
    if isinstance(value, int) and not isinstance(value, bool) and abs(value) >= 10**limit:
        # Python refuses to write out very long integers.
        return f"an integer of about {int(value.bit_length() * 0.30103) + 1:,} digits"
    if isinstance(value, Mapping | list | tuple | set | frozenset):
        opening, closing = ("{", "}") if isinstance(value, Mapping | set | frozenset) else ("[", "]")
        if isinstance(value, tuple):
            opening, closing = "(", ")"
        if not depth:
            return f"{opening}...{closing}"
        parts: list[str] = []
        room = limit
        items = value.items() if isinstance(value, Mapping) else value
        for item in items:
            if room <= 0:
                parts.append("...")
                break
            if isinstance(value, Mapping):
                key, inner = item
                part = f"{_written(key, limit, depth - 1)}: {_written(inner, limit, depth - 1)}"
            else:
                part = _written(item, limit, depth - 1)
            parts.append(part)
            room -= len(part) + 2
        return f"{opening}{', '.join(parts)}{closing}"
    if isinstance(value, int | float | bool | None):
        return repr(value)
    # Anything else may be as large as it likes: its type says enough.
    text = repr(value) if type(value).__module__ in ("datetime", "pathlib") else f"a {type(value).__name__}"
    return text
