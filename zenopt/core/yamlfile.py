"""YAML with line numbers: reading, overriding by dotted path, and explaining validation errors."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from difflib import get_close_matches
from pathlib import Path
from typing import Any, TypeAlias, get_args

import yaml
from pydantic import BaseModel, ValidationError

from zenopt.core.changing import Changing
from zenopt.core.errors import SpecError
from zenopt.core.files import SPEC, Format, read_text
from zenopt.core.text import one_line, quoted, shortened, shortened_path

#: Levels of lists and mappings within each other, values with every alias written out, and digits of a number.
DEPTH, VALUES, DIGITS = 32, 20_000, 60
#: Characters of an assignment such as ``budget.params=5e5``.
ASSIGNMENT = 10_000

#: Assignments such as ``"budget.params=5e5"``, or values by dotted path.
Overrides: TypeAlias = str | Iterable[str] | Mapping[str, Any]


@dataclass
class Source:
    """Parsed YAML and where each key stood.

    Attributes:
        name: File name for messages.
        data: The content.
        lines: Path of keys -> line number, counted from 1.
        overridden: Paths set on the command line.
        is_stored: Whether it was read from a database, where names mean nothing to be imported.
    """

    name: str
    data: dict[str, Any]
    lines: dict[tuple[str | int, ...], int] = field(default_factory=dict)
    overridden: set[tuple[str | int, ...]] = field(default_factory=set)
    is_stored: bool = False

    def explain(self, error: ValidationError, model: type[BaseModel]) -> str:
        """Return one line for the first problem: file, line, path, what is wrong, what is allowed."""
        problem = error.errors(include_url=False)[0]
        path = tuple(part for part in problem["loc"])
        message = str(problem["msg"]).removeprefix("Value error, ")
        dotted = shortened(".".join(map(str, path)))
        if problem["type"] == "extra_forbidden":
            known = _fields_at(model, path[:-1])
            close = get_close_matches(shortened(str(path[-1])), known, n=1)
            hint = f" (did you mean {close[0]!r}?)" if close else ""
            message = f"unknown key{hint}; allowed: {', '.join(known)}"
        elif problem["type"] == "missing":
            message = "this key is required"
        elif problem["type"] in ("model_type", "dict_type"):
            message = f"expected keys and values below it, got {quoted(problem['input'])}"
        elif problem["type"] in ("float_type", "int_type") and isinstance(problem["input"], dict):
            message = "expected a number; this setting cannot change over a run"
        elif not isinstance(problem["input"], dict):
            message = f"{message[0].lower()}{message[1:]}, got {quoted(problem['input'])}"
        more = f" ({error.error_count() - 1} more)" if error.error_count() > 1 else ""
        return one_line(f"{self._where(path)}{f'{dotted}: ' if dotted else ''}{message}{more}.", 390)

    def _where(self, path: tuple[str | int, ...]) -> str:
        for length in range(len(path), 0, -1):
            if path[:length] in self.overridden:
                return "--set: "
        if any(overridden[: len(path)] == path for overridden in self.overridden if path):
            return "--set: "
        for length in range(len(path), 0, -1):
            if path[:length] in self.lines:
                return f"{shortened_path(self.name)}, line {self.lines[path[:length]]}: "
        return f"{shortened_path(self.name)}: "


def _fields_at(model: type[BaseModel], path: tuple[Any, ...]) -> list[str]:
    for part in path:
        if isinstance(part, int):  # an item of a list, whose type the list's annotation names
            continue
        annotation = model.model_fields[str(part)].annotation
        options = [annotation, *get_args(annotation)]
        # A number has keys where it may change over a run.
        models = (item for item in options if isinstance(item, type) and issubclass(item, BaseModel))
        model = next(models, Changing)
    return list(model.model_fields)


class _Loader(yaml.SafeLoader):
    """Safe loader that reads 1e6 as a number, as YAML 1.2 and people do (YAML 1.1 wants 1.0e+6)."""


_Loader.yaml_implicit_resolvers = {
    key: [(tag, regexp) for tag, regexp in resolvers if tag != "tag:yaml.org,2002:float"]
    for key, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(
        r"^[-+]?(?:[0-9]+\.[0-9]*(?:[eE][-+]?[0-9]+)?|"
        r"\.[0-9]+(?:[eE][-+]?[0-9]+)?|[0-9]+[eE][-+]?[0-9]+|"
        r"\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN))$"
    ),
    list("-+0123456789."),
)


def read_yaml(path: Path, format: Format = SPEC) -> Source:
    """Read a YAML file that holds a mapping.

    Raises:
        SpecError: If it cannot be read, is not YAML, is too large or too deep, repeats a key, or holds something else.
    """
    text, name = read_text(path, format), shortened_path(path)
    lines: dict[tuple[str | int, ...], int] = {}
    try:
        data = _load(text, lines)
    except _YamlProblem as error:
        where = f", line {error.line}" if error.line else ""
        raise SpecError(f"{name}{where}: {error}.") from None
    if not isinstance(data, dict):
        raise SpecError(f"{name}: expected keys and values, got {type(data).__name__}.")
    return Source(str(path), data, lines)


class _YamlProblem(Exception):
    """Why a text is not read, and in which line."""

    def __init__(self, reason: str, line: int = 0) -> None:
        super().__init__(reason)
        self.line = line


def _load(text: str, lines: dict[tuple[str | int, ...], int]) -> Any:
    """Return what a YAML text holds, with the lines of its keys; it is measured before anything is built of it."""
    try:
        loader = _Loader(text)
        try:
            node = loader.get_single_node()
            if node is None:
                return None
            _measure(node, {}, 0)
            _collect_lines(node, (), lines)
            return loader.construct_document(node)
        finally:
            loader.dispose()
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        raise _YamlProblem(f"not valid YAML: {_reason(error)}", mark.line + 1 if mark else 0) from None
    except RecursionError:
        raise _YamlProblem("nested too deeply") from None
    except (ValueError, TypeError, OverflowError) as error:
        # E.g. the date 2001-99-99.
        raise _YamlProblem(f"not valid YAML: {one_line(str(error), 120)}") from None


def _measure(node: yaml.Node, known: dict[int, tuple[int, int]], depth: int) -> tuple[int, int]:
    """Return how many values a node stands for once every alias is written out, and in how many levels.

    Raises:
        _YamlProblem: They are too many or too deep, or a number is too long.
    """
    size, height = known.get(id(node), (1, 1))
    if depth + height > DEPTH or size == 0:
        # A node that holds itself has no end.
        raise _YamlProblem("nested too deeply")
    if id(node) in known:
        return size, height
    known[id(node)] = 0, 0
    parts: list[yaml.Node] = []
    if isinstance(node, yaml.MappingNode):
        parts = [part for pair in node.value for part in pair]
    elif isinstance(node, yaml.SequenceNode):
        parts = node.value
    elif node.tag.endswith((":int", ":float")) and len(node.value) > DIGITS:
        raise _YamlProblem(f"too long a number: {len(node.value):,} digits, at most {DIGITS}", _line_of(node))
    for part in parts:
        more, below = _measure(part, known, depth + 1)
        size, height = size + more, max(height, below + 1)
        if size > VALUES:
            raise _YamlProblem(
                f"too large: more than {VALUES:,} values with its aliases written out", _line_of(node)
            )
    known[id(node)] = size, height
    return size, height


def _line_of(node: yaml.Node) -> int:
    return int(node.start_mark.line) + 1


def _collect_lines(
    node: yaml.Node, path: tuple[str | int, ...], lines: dict[tuple[str | int, ...], int]
) -> None:
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            here: tuple[str | int, ...] = (*path, str(key.value))
            if here in lines:
                raise _YamlProblem(f"key {quoted(key.value)} is given twice", _line_of(key))
            lines[here] = _line_of(key)
            _collect_lines(value, here, lines)
    elif isinstance(node, yaml.SequenceNode):
        for index, value in enumerate(node.value):
            here = (*path, index)
            lines[here] = _line_of(value)
            _collect_lines(value, here, lines)


def _reason(error: yaml.YAMLError) -> str:
    """Return the first line of what YAML complains of; its full text shows the place in several."""
    return one_line(str(getattr(error, "problem", None) or error).splitlines()[0].rstrip("."), 120)


def override(source: Source, overrides: Overrides) -> None:
    """Set values by dotted path; ``null`` (None) clears one.

    Args:
        source:
            What to change.
        overrides:
            Assignments such as ``"budget.params=5e5"``, whose values are read as YAML, or a mapping such as
            ``{"budget.params": 5e5}``; keys are dotted paths.

    Raises:
        SpecError: If an assignment has no ``=``, its value is not YAML, or a part of a path is a value already.
    """
    if isinstance(overrides, Mapping):
        for dotted, value in overrides.items():
            _assign(source, str(dotted), value, str(dotted))
        return
    for assignment in [overrides] if isinstance(overrides, str) else overrides:
        dotted, equals, text = assignment.partition("=")
        if not equals:
            raise SpecError(f"--set {quoted(assignment)}: expected path=value, e.g. budget.params=5e5.")
        if len(assignment) > ASSIGNMENT:
            raise SpecError(f"--set {quoted(assignment)}: longer than {ASSIGNMENT:,} characters.")
        try:
            _assign(source, dotted, _load(text, {}), assignment)
        except _YamlProblem as error:
            raise SpecError(f"--set {quoted(assignment)}: the value is {error}.") from None


def _assign(source: Source, dotted: str, value: Any, said: str) -> None:
    parts = tuple(part.strip() for part in dotted.split("."))
    if not all(parts) or len(parts) > DEPTH:
        raise SpecError(f"--set {quoted(said)}: expected path=value, e.g. budget.params=5e5.")
    level = source.data
    for part in parts[:-1]:
        inner = level.get(part)
        if inner is None:
            inner = level[part] = {}
        if not isinstance(inner, dict):
            raise SpecError(f"--set {quoted(said)}: {quoted(part)} is a value, not a section.")
        level = inner
    level[parts[-1]] = value
    source.overridden.add(parts)


def names_in(folder: Path) -> list[str]:
    """Return the names of the YAML files of a folder."""
    return sorted(path.stem for path in folder.glob("*.yaml"))


def named_file(name: str, folder: Path, what: str) -> Path:
    """Return the file that a person means: one of a folder's by its name, or a YAML file of their own by its path.

    Raises:
        SpecError: If the folder has none of that name.
    """
    path = Path(name)
    if path.suffix in (".yaml", ".yml"):
        return path
    if name not in names_in(folder):
        raise SpecError(
            f"{what} {quoted(name)} does not exist; known: {', '.join(names_in(folder))}, or a .yaml file."
        )
    return folder / f"{name}.yaml"
