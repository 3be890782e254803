"""The boundary: what is read from files, whoever wrote them, is bounded and checked here before it is believed.

A format has a size limit and an error. Reading one gives plain data of the right types, or that error, with one short
line: the file, the place in it, what is allowed. Nothing that was read is imported or run; see ``docs/security.md``.
"""

from __future__ import annotations

import csv
import gzip
import io
import json
import math
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, TypeVar

from pydantic import TypeAdapter, ValidationError

from zenopt.core.errors import (
    BundleError,
    CheckpointError,
    DataError,
    DeviceError,
    ProxyError,
    SpecError,
    StructureError,
    StudyError,
    ZenoptError,
)
from zenopt.core.paths import reason
from zenopt.core.text import one_line, printable, quoted, shortened, shortened_path

#: Levels of lists and objects within each other, and how many of them a JSON text may hold.
DEPTH, CONTAINERS = 32, 200_000
#: Digits of an integer: more than 64 bits hold is no count of anything here.
DIGITS = 19
#: Cells of a CSV table.
CELLS = 10_000_000

_MIB = 2**20
_T = TypeVar("_T")


@dataclass(frozen=True)
class Format:
    """A kind of file.

    Attributes:
        name: What messages call it.
        error: What is raised where one is not as it should be.
        limit: Largest size in bytes, of what is compressed when it is unpacked.
    """

    name: str
    error: type[ZenoptError]
    limit: int

    def refusal(self, path: object, problem: str, place: str = "") -> ZenoptError:
        """Return the error to raise: what is wrong, and where in which file."""
        said = f"{place} {problem}" if place else problem
        return self.error(f"{self.name} {shortened_path(path)}: {one_line(said.rstrip('.'), 220)}.")

    def unreadable(self, path: object, error: Exception) -> ZenoptError:
        """Return the error to raise where a file cannot be opened or read."""
        return self.error(
            f"{self.name} {shortened_path(path)} cannot be read: {one_line(reason(error), 160)}."
        )


BUNDLE = Format("Bundle", BundleError, 16 * _MIB)
PROFILE = Format("Device profile", DeviceError, 16 * _MIB)
LEARNED = Format("Learned score", ProxyError, 64 * _MIB)
SPEC = Format("Study spec", SpecError, _MIB // 4)
RECIPE = Format("Recipe", SpecError, _MIB // 4)
SCHEDULE = Format("Schedule", SpecError, _MIB // 4)
STORED_SPEC = Format("The spec stored with study", StudyError, _MIB)
STRUCTURE = Format("Structure file", StructureError, _MIB)
TABLE = Format("Table", DataError, 128 * _MIB)
LATENCY_CACHE = Format("Latency cache", DeviceError, 16 * _MIB)
CHECKPOINT = Format("Checkpoint", CheckpointError, 4096 * _MIB)
CIFAR = Format("CIFAR file", DataError, 256 * _MIB)


# -- bytes and text ------------------------------------------------------------


def read_bytes(path: str | Path, format: Format) -> bytes:
    """Read a file that is not too large.

    Raises:
        ZenoptError: The format's, if it cannot be read or is too large.
    """
    with _open(path, format, path) as file:
        try:
            content = file.read(format.limit + 1)
        except OSError as error:
            raise format.unreadable(path, error) from None
    check_size(len(content), path, format)
    return content


def check_size(size: int, path: object, format: Format) -> None:
    """Raise the format's error if so many bytes are too many."""
    if size > format.limit:
        raise format.refusal(path, f"it is larger than {format.limit / _MIB:g} MiB")


def read_text(path: str | Path, format: Format) -> str:
    """Read a text in UTF-8 that is not too large.

    Raises:
        ZenoptError: The format's, if it cannot be read, is too large, or is something else.
    """
    try:
        # Windows' editors begin a text with a mark.
        return read_bytes(path, format).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise format.unreadable(path, error) from None


# -- JSON ------------------------------------------------------------


def read_json(path: str | Path, format: Format) -> Any:
    """Read a JSON file.

    Raises:
        ZenoptError: The format's, if it cannot be read, is too large or too deep, or is no JSON.
    """
    return parse_json(read_bytes(path, format), path, format)


def parse_json(content: bytes | str, path: object, format: Format) -> Any:
    """Return what a JSON text holds: plain data of bounded depth, without integers that only Python can hold.

    Args:
        content:
            The text.
        path:
            Where it is from, for messages.
        format:
            Whose error is raised.

    Raises:
        ZenoptError: The format's.
    """
    check_size(len(content), path, format)
    opening: Sequence[Any] = (b"[", b"{") if isinstance(content, bytes) else ("[", "{")
    if sum(map(content.count, opening)) > CONTAINERS:
        raise format.refusal(path, f"it holds more than {CONTAINERS:,} lists and objects")
    try:
        text = content.decode("utf-8-sig") if isinstance(content, bytes) else content
        found = json.loads(text, parse_int=_integer)
        _check_plain(found)
    except UnicodeError:
        raise format.refusal(path, "not valid JSON: it is not UTF-8 text") from None
    except RecursionError:
        raise format.refusal(path, "not valid JSON: nested too deeply") from None
    except ValueError as error:
        raise format.refusal(path, f"not valid JSON: {str(error) or 'no text'}") from None
    return found


def _integer(text: str) -> int:
    if len(text.lstrip("-")) > DIGITS:
        raise ValueError(f"an integer of {len(text.lstrip('-')):,} digits; at most {DIGITS} are read")
    return int(text)


def _check_plain(content: Any) -> None:
    """Raise RecursionError if data is too deep, UnicodeError if a text in it cannot be written."""
    level = [content]
    for _ in range(DEPTH + 1):
        below: list[Any] = []
        for item in level:
            if isinstance(item, dict):
                below += item
                below += item.values()
            elif isinstance(item, list):
                below += item
            elif isinstance(item, str) and not item.isascii():
                item.encode()
        if not below:
            return
        level = [item for item in below if isinstance(item, dict | list | str)]
    raise RecursionError


# -- types ------------------------------------------------------------


def validated(adapter: TypeAdapter[_T], content: Any, path: object, format: Format) -> _T:
    """Return data as the type it should be of.

    Raises:
        ZenoptError: The format's, with the place of the first problem, what is allowed there and what was found.
    """
    try:
        return adapter.validate_python(content)
    except ValidationError as error:
        place, problem = first_problem(error)
        raise format.refusal(path, problem, place) from None
    except RecursionError:
        raise format.refusal(path, "nested too deeply") from None


def first_problem(error: ValidationError) -> tuple[str, str]:
    """Return the place of a validation's first problem (dotted), and what is allowed there and what was found."""
    problem = error.errors(include_url=False)[0]
    place = shortened(printable(".".join(map(str, problem["loc"]))))
    words = _WORDS.get(problem["type"])
    if words is not None:
        text = words(problem.get("ctx") or {})
    else:
        text = str(problem["msg"]).removeprefix("Value error, ").removeprefix("Input ")
        text = text.replace("should be", "must be", 1)
    if problem["type"] in ("missing", "extra_forbidden"):
        return place, text
    if problem["type"] != "value_error" or isinstance(problem["input"], str | int | float | list | tuple):
        text = f"{text}, got {quoted(problem['input'])}"
    return place, text


_WORDS: dict[str, Callable[[Mapping[str, Any]], str]] = {
    "missing": lambda ctx: "is missing",
    "extra_forbidden": lambda ctx: "is no known key",
    "string_type": lambda ctx: "must be text",
    "bool_type": lambda ctx: "must be true or false",
    "int_type": lambda ctx: "must be a whole number",
    "int_from_float": lambda ctx: "must be a whole number",
    "float_type": lambda ctx: "must be a number",
    "finite_number": lambda ctx: "must be a finite number",
    "list_type": lambda ctx: "must be a list",
    "tuple_type": lambda ctx: "must be a list",
    "dict_type": lambda ctx: "must be an object",
    "mapping_type": lambda ctx: "must be an object",
    "dataclass_type": lambda ctx: "must be an object",
    "model_type": lambda ctx: "must be an object",
    "string_too_short": lambda ctx: "must not be empty",
    "string_too_long": lambda ctx: f"must be of at most {ctx['max_length']:,} characters",
    "string_pattern_mismatch": lambda ctx: f"must match {ctx['pattern']}",
    "too_long": lambda ctx: f"must have at most {ctx['max_length']:,} entries",
    "too_short": lambda ctx: f"must have at least {ctx['min_length']:,} entries",
    "literal_error": lambda ctx: f"must be one of {ctx['expected']}",
    "greater_than": lambda ctx: f"must be more than {ctx['gt']}",
    "greater_than_equal": lambda ctx: f"must be at least {ctx['ge']}",
    "less_than": lambda ctx: f"must be less than {ctx['lt']}",
    "less_than_equal": lambda ctx: f"must be at most {ctx['le']}",
}


# -- tables ------------------------------------------------------------


@contextmanager
def open_csv(path: str | Path, format: Format = TABLE, name: object = None) -> Iterator[csv.DictReader[str]]:
    """Open a CSV file, gzipped if its name ends in ``.gz``, of which no more is unpacked than is allowed.

    Args:
        path:
            The file.
        format:
            What it is, for limit and messages.
        name:
            What messages call it; by default the path.

    Raises:
        ZenoptError: The format's, while the file is opened or its rows are read.
    """
    name = path if name is None else name
    try:
        with _open(path, format, name) as raw:
            unpacked: Any = gzip.GzipFile(fileobj=raw) if str(path).endswith(".gz") else raw
            bounded = io.BufferedReader(_Bounded(unpacked, name, format))
            with io.TextIOWrapper(bounded, encoding="utf-8-sig", newline="") as text:
                yield csv.DictReader(text)
    except ZenoptError:
        raise
    except (OSError, EOFError, zlib.error, UnicodeDecodeError, csv.Error) as error:
        raise format.unreadable(name, error) from None


def _open(path: str | Path, format: Format, name: object) -> BinaryIO:
    try:
        return open(path, "rb")
    except (OSError, ValueError) as error:
        raise format.unreadable(name, error) from None


class _Bounded(io.RawIOBase):
    """A stream of bytes that ends in an error where it is too long."""

    def __init__(self, source: Any, path: object, format: Format) -> None:
        self._source, self._path, self._format = source, path, format
        self._size = 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        content = self._source.read(len(buffer))
        self._size += len(content)
        check_size(self._size, self._path, self._format)
        buffer[: len(content)] = content
        return len(content)


def rows_of(reader: csv.DictReader[str], path: object, format: Format = TABLE) -> Iterator[dict[str, str]]:
    """Yield the rows of a table whose every row has as many fields as its header, and not too many.

    Raises:
        ZenoptError: The format's, with the number of the row, the header's being 1.
    """
    width = len(reader.fieldnames or ())
    for number, row in enumerate(reader, start=2):
        if None in row or None in row.values():
            raise format.refusal(path, f"expected {width} fields", f"row {number}:")
        if number * width > CELLS:
            raise format.refusal(path, f"it has more than {CELLS:,} cells")
        yield row


def number(text: str) -> float | None:
    """Return the finite number that a text spells, or ``None``."""
    try:
        value = float(text)
    except ValueError:
        return None
    return value if math.isfinite(value) else None
