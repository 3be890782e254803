"""Writes the reference pages from the code: commands from click, fields of a study spec from its schema, the Python API
from the names that packages list in ``__all__``.

python docs/generate.py            # writes docs/reference/*.md
python docs/generate.py --check    # says which pages are out of date, exit code 1 if any is
"""

from __future__ import annotations

import importlib
import inspect
import pkgutil
import re
import sys
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any

import click
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

import zenopt
from zenopt.cli import COMMANDS, cli
from zenopt.spaces import get_space
from zenopt.study.fields import FIELDS, fields_of, option_words, section_of, space_options, type_words
from zenopt.study.spec import StudySpec

FOLDER = Path(__file__).resolve().parent / "reference"
NOTE = "<!-- Written by docs/generate.py; do not edit. -->"
SPACES = ("superres", "mobile", "nasbench201")


def commands() -> str:
    """Return the page of all commands."""
    parts = [
        NOTE,
        "# Commands",
        "Every command has `--help`. Exit codes: 0 done, 1 failed, 2 bad input, 130 interrupted.",
    ]
    for name in COMMANDS:
        command = cli.get_command(click.Context(cli), name)
        assert command is not None
        parts += _command(command, f"zenopt {name}", 2)
    return "\n\n".join(parts) + "\n"


def _command(command: click.Command, path: str, level: int) -> Iterator[str]:
    context = click.Context(command, info_name=path)
    yield f"{'#' * level} {path}"
    yield from _prose(command.help or "")
    if isinstance(command, click.Group):
        for name in command.list_commands(context):
            inner = command.get_command(context, name)
            assert inner is not None
            yield from _command(inner, f"{path} {name}", level + 1)
        return
    usage = " ".join(piece for piece in command.collect_usage_pieces(context) if piece)
    yield f"```text\n{path} {usage}\n```"
    rows = [
        _option(parameter, context) for parameter in command.params if isinstance(parameter, click.Option)
    ]
    rows = [row for row in rows if row is not None]
    if rows:
        yield _table(("option", "default", "what"), rows)


def _prose(help_text: str) -> Iterator[str]:
    r"""Yield paragraphs; those after ``\b`` keep their lines."""
    for paragraph in inspect.cleandoc(help_text).split("\n\n"):
        if paragraph.startswith("\b"):
            yield "```bash\n" + inspect.cleandoc(paragraph.removeprefix("\b")).strip() + "\n```"
        elif paragraph.strip():
            yield " ".join(paragraph.split())


def _option(option: click.Option, context: click.Context) -> tuple[str, str, str] | None:
    record = option.get_help_record(context)
    if record is None:
        return None
    names, text = record
    # The default has a column of its own.
    text = re.sub(r"\s*\[[^][]*(\[[^][]*\][^][]*)*\]$", "", " ".join(text.split()))
    if isinstance(option.type, click.IntRange | click.FloatRange):
        names, text = names.replace(" RANGE", ""), f"{text} ({_bounds(option.type)})"
    default = option.show_default if isinstance(option.show_default, str) else _default(option)
    required = "required" if option.required else default
    return f"`{names}`", required, text


def _bounds(kind: click.IntRange | click.FloatRange) -> str:
    low = None if kind.min is None else f"{'more than' if kind.min_open else 'at least'} {kind.min:,}"
    high = None if kind.max is None else f"{'less than' if kind.max_open else 'at most'} {kind.max:,}"
    return ", ".join(part for part in (low, high) if part)


def _default(option: click.Option) -> str:
    value = option.default
    if (
        option.is_flag
        or value is None
        or callable(value)
        or option.multiple
        or "UNSET" in repr(value).upper()
    ):
        return ""
    return f"`{value}`"


def spec() -> str:
    """Return the page of a study spec's fields."""
    stale = set(FIELDS) - {path for path, _ in fields_of(StudySpec)}
    if stale:
        raise SystemExit(
            f"zenopt/study/fields.py describes fields that do not exist: {', '.join(sorted(stale))}"
        )
    parts = [
        NOTE,
        "# Study spec",
        "A study is a YAML file with these keys; the presets in `studies/` are examples. Any of them can be changed on "
        "the command line with `--set PATH=VALUE`, e.g. `--set budget.params=5e5`. A study keeps the spec it was made "
        "with; a run that joins it may change `sampler`, `seed`, `trials` and `timeout_s` only.",
    ]
    sections: dict[str, list[tuple[str, str, str, str]]] = {"": []}
    for path, field in fields_of(StudySpec):
        section = path.rpartition(".")[0]
        if section_of(field) is not None:
            sections[path] = []
            continue
        row = (f"`{path}`", type_words(field), _shown(field), FIELDS[path])
        sections[section].append(row)
    for section, rows in sections.items():
        parts.append(f"## {section or 'The study itself'}")
        if section:
            parts.append(FIELDS[section])
        parts.append(_table(("key", "value", "default", "meaning"), rows))
    parts.append("## space.options")
    for name in SPACES:
        parts.append(f"### {name}")
        parts.append(_table(("option", "default", "meaning"), list(_space_options(name))))
    return "\n\n".join(parts) + "\n"


def _shown(field: FieldInfo) -> str:
    if field.is_required():
        return "required"
    default = field.get_default(call_default_factory=True)
    if default is PydanticUndefined or default is None or default in ("", {}):
        return ""
    if isinstance(default, tuple):
        return f"`[{', '.join(map(str, default))}]`"
    return f"`{str(default).lower() if isinstance(default, bool) else default}`"


def _space_options(name: str) -> Iterator[tuple[str, str, str]]:
    words = option_words(get_space(name))
    for option, default in space_options(get_space(name)).items():
        if isinstance(default, tuple):
            default = f"[{', '.join(map(str, default))}]"
        yield f"`{option}`", "" if default is None else f"`{default}`", words[option]


def _table(header: tuple[str, ...], rows: list[Any]) -> str:
    lines = [header, tuple("---" for _ in header), *rows]
    return "\n".join(
        "| " + " | ".join(str(cell).replace("|", "\\|") for cell in line) + " |" for line in lines
    )


def api_pages() -> dict[str, Callable[[], str]]:
    """Return a maker for the index of the Python API and one for the page of each package."""
    packages = _packages()
    # What two packages offer is described where it is offered first: the face of zenopt comes before its rooms.
    home: dict[int, tuple[str, str]] = {}
    for module in packages:
        for name in _offered(module):
            home.setdefault(id(getattr(module, name)), (module.__name__, name))
    pages: dict[str, Callable[[], str]] = {"api.md": partial(_api_index, packages, home)}
    for module in packages:
        pages[f"api/{module.__name__}.md"] = partial(_api_page, module, home)
    return pages


def _packages() -> list[ModuleType]:
    """Return zenopt and its packages that say what they offer."""
    names = sorted(
        found.name for found in pkgutil.iter_modules(zenopt.__path__) if not found.name.startswith("_")
    )
    modules = [importlib.import_module(f"zenopt.{name}") for name in names if name != "cli"]
    return [zenopt, *(module for module in modules if getattr(module, "__all__", None))]


def _offered(module: ModuleType) -> list[str]:
    return sorted((name for name in module.__all__ if not name.startswith("_")), key=str.lower)


def _api_index(packages: list[ModuleType], home: dict[int, tuple[str, str]]) -> str:
    """Return the index; what a thing is for is read from its docstring when the site is built."""
    lines = [
        NOTE,
        "# Python API",
        "",
        "What `zenopt` and its packages offer to programs. Names that are not listed here may change without notice.",
        "",
    ]
    for module in packages:
        lines += [f"## [{module.__name__}](api/{module.__name__}.md)", "", "```{eval-rst}"]
        lines += [f".. automodule:: {module.__name__}", "   :no-index:", ""]
        lines += [".. autosummary::", ""]
        for name in _offered(module):
            place, own = home[id(getattr(module, name))]
            lines.append(f"   {own}" if place == module.__name__ else f"   {place}.{own}")
        lines += ["```", ""]
    return "\n".join(lines).rstrip() + "\n"


def _api_page(module: ModuleType, home: dict[int, tuple[str, str]]) -> str:
    lines = [NOTE, f"# {module.__name__}", ""]
    for name in _offered(module):
        found = getattr(module, name)
        place, own = home[id(found)]
        lines += [f"## {name}", ""]
        if (place, own) != (module.__name__, name):
            lines += [f"See [{place}.{own}]({place}.md#{own.lower()}).", ""]
            continue
        lines += ["```{eval-rst}", *_directive(f"{module.__name__}.{name}", found), "```", ""]
    return "\n".join(lines).rstrip() + "\n"


def _directive(path: str, found: Any) -> list[str]:
    if inspect.isclass(found) and issubclass(found, Exception):
        return [f".. autoexception:: {path}"]
    if inspect.isclass(found):
        return [f".. autoclass:: {path}", "   :members:", "   :show-inheritance:"]
    if inspect.isroutine(found):
        return [f".. autofunction:: {path}"]
    return [f".. autodata:: {path}", "   :no-value:"]


PAGES = {"commands.md": commands, "spec.md": spec, **api_pages()}


#: Pages of the folder that nobody generates.
BY_HAND = ("environment.md",)


def main() -> None:
    is_check = sys.argv[1:] == ["--check"]
    stale = []
    for name, make in PAGES.items():
        path, text = FOLDER / name, make()
        if not path.is_file() or path.read_text(encoding="utf-8") != text:
            stale.append(name)
            if not is_check:
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text(text, encoding="utf-8")
    known = {FOLDER / name for name in (*PAGES, *BY_HAND)}
    for path in sorted(set(FOLDER.rglob("*.md")) - known):
        stale.append(f"{path.relative_to(FOLDER)} (of nothing that is there)")
        if not is_check:
            path.unlink()
    if is_check and stale:
        raise SystemExit(f"Out of date: {', '.join(stale)}. Run: python docs/generate.py")
    print(f"Wrote {', '.join(stale)}." if stale else "All pages are up to date.")


if __name__ == "__main__":
    main()
