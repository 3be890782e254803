"""YAML with line numbers: reading, overriding by dotted path, and explaining validation errors."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from difflib import get_close_matches
from pathlib import Path
from typing import Any, get_args

import yaml
from pydantic import BaseModel, ValidationError

from zenopt.core.errors import SpecError


@dataclass
class Source:
    """Parsed YAML and where each key stood.

    Attributes:
        name: File name for messages.
        data: The content.
        lines: Path of keys -> line number, counted from 1.
        overridden: Paths set on the command line.
    """

    name: str
    data: dict[str, Any]
    lines: dict[tuple[str | int, ...], int] = field(default_factory=dict)
    overridden: set[tuple[str | int, ...]] = field(default_factory=set)

    def explain(self, error: ValidationError, model: type[BaseModel]) -> str:
        """Returns one line for the first problem: file, line, path, what is wrong, what is allowed."""
        problem = error.errors()[0]
        path = tuple(part for part in problem["loc"])
        message = str(problem["msg"]).removeprefix("Value error, ")
        dotted = ".".join(map(str, path))
        if problem["type"] == "extra_forbidden":
            known = _fields_at(model, path[:-1])
            close = get_close_matches(str(path[-1]), known, n=1)
            hint = f" (did you mean {close[0]!r}?)" if close else ""
            message = f"unknown key{hint}; allowed: {', '.join(known)}"
        elif problem["type"] == "missing":
            message = "this key is required"
        elif problem["type"] in ("model_type", "dict_type"):
            message = f"expected keys and values below it, got {problem['input']!r}"
        elif not isinstance(problem["input"], dict):
            message = f"{message[0].lower()}{message[1:]}, got {problem['input']!r}"
        more = f" ({error.error_count() - 1} more)" if error.error_count() > 1 else ""
        return f"{self._where(path)}{f'{dotted}: ' if dotted else ''}{message}{more}."

    def _where(self, path: tuple[str | int, ...]) -> str:
        for length in range(len(path), 0, -1):
            if path[:length] in self.overridden:
                return "--set: "
        if any(overridden[: len(path)] == path for overridden in self.overridden if path):
            return "--set: "
        for length in range(len(path), 0, -1):
            if path[:length] in self.lines:
                return f"{self.name}, line {self.lines[path[:length]]}: "
        return f"{self.name}: "


def _fields_at(model: type[BaseModel], path: tuple[Any, ...]) -> list[str]:
    for part in path:
        if isinstance(part, int):  # an item of a list, whose type the list's annotation names
            continue
        annotation = model.model_fields[str(part)].annotation
        options = [annotation, *get_args(annotation)]
        model = next(item for item in options if isinstance(item, type) and issubclass(item, BaseModel))
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


def read_yaml(path: Path) -> Source:
    """Reads a YAML file that holds a mapping.

    Raises:
        SpecError: If it cannot be read, is not YAML, repeats a key, or holds something else.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise SpecError(f"Cannot read {path}: {error}.") from None
    try:
        node = yaml.compose(text, Loader=_Loader)
        lines: dict[tuple[str | int, ...], int] = {}
        _collect_lines(node, (), lines, str(path))
        data = yaml.load(text, Loader=_Loader)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f", line {mark.line + 1}" if mark else ""
        raise SpecError(f"{path}{where}: not valid YAML: {_reason(error)}.") from None
    except RecursionError:
        raise SpecError(f"{path}: nested too deeply.") from None
    if not isinstance(data, dict):
        raise SpecError(f"{path}: expected keys and values, got {type(data).__name__}.")
    return Source(str(path), data, lines)


def _collect_lines(
    node: yaml.Node | None, path: tuple[str | int, ...], lines: dict[tuple[str | int, ...], int], name: str
) -> None:
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            here: tuple[str | int, ...] = (*path, str(key.value))
            if here in lines:
                raise SpecError(f"{name}, line {key.start_mark.line + 1}: key {key.value!r} is given twice.")
            lines[here] = key.start_mark.line + 1
            _collect_lines(value, here, lines, name)
    elif isinstance(node, yaml.SequenceNode):
        for index, value in enumerate(node.value):
            here = (*path, index)
            lines[here] = value.start_mark.line + 1
            _collect_lines(value, here, lines, name)


def _reason(error: yaml.YAMLError) -> str:
    """Returns the first line of what YAML complains of; its full text shows the place in several."""
    return str(getattr(error, "problem", None) or error).splitlines()[0].rstrip(".")


def override(source: Source, assignment: str) -> None:
    """Sets one value by dotted path, e.g. ``"budget.params=5e5"``; ``null`` clears it.

    Raises:
        SpecError: If the assignment has no ``=`` or a part of the path is a value already.
    """
    dotted, equals, text = assignment.partition("=")
    parts = tuple(part.strip() for part in dotted.split("."))
    if not equals or not all(parts):
        raise SpecError(f"--set {assignment!r}: expected path=value, e.g. budget.params=5e5.")
    try:
        value = yaml.load(text, Loader=_Loader)
    except yaml.YAMLError as error:
        raise SpecError(f"--set {assignment!r}: the value is not valid YAML: {_reason(error)}.") from None
    except RecursionError:
        raise SpecError(f"--set {dotted}: the value is nested too deeply.") from None
    level = source.data
    for part in parts[:-1]:
        inner = level.get(part)
        if inner is None:
            inner = level[part] = {}
        if not isinstance(inner, dict):
            raise SpecError(f"--set {assignment!r}: {part!r} is a value, not a section.")
        level = inner
    level[parts[-1]] = value
    source.overridden.add(parts)
