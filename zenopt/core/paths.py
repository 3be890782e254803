"""Texts that may be paths, and names that become paths."""

from __future__ import annotations

from pathlib import Path

from zenopt.core.errors import StudyError
from zenopt.core.text import quoted


def existing_path(text: str) -> Path | None:
    """Return the path that a text names if there is something at it; a text may be anything, and of any length."""
    try:
        path = Path(text)
        path.stat()
    except (OSError, ValueError):
        return None
    return path if text else None


def file_name(text: str, what: str) -> str:
    """Return a name that was read, as the name of a file or folder; it leads nowhere else.

    Args:
        text:
            The name.
        what:
            What it is the name of, for the message.

    Raises:
        StudyError: If it could lead out of its folder, or no file can have it.
    """
    if (
        text in ("", ".", "..")
        or not text.isprintable()
        or set(text) & set("/\\:")
        or len(text.encode()) > 200
    ):
        raise StudyError(
            f"{what} {quoted(text)} cannot be the name of a file: at most 200 bytes, without / \\ and :."
        )
    return text


def reason(error: Exception) -> str:
    """Return why something could not be opened or read, in a few words."""
    if isinstance(error, UnicodeEncodeError):
        return f"its name cannot be written in this locale ({error.encoding}); set PYTHONUTF8=1"
    if isinstance(error, UnicodeDecodeError):
        return f"it is not UTF-8 text (byte {error.start:,})"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return str(error).strip() or type(error).__name__
