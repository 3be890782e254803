"""What the shell completes: names of presets, stored studies, proxies and device profiles, and files.

A shell asks at every press of the tab key, so nothing here imports torch or Optuna.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from pathlib import Path

import click
from click.shell_completion import CompletionItem

from zenopt.core.places import DEVICES_FOLDER, STUDIES_FOLDER
from zenopt.storage.urls import default_storage

#: Seconds a locked database is waited for: the shell does not answer meanwhile.
_PATIENCE_S = 0.2


def presets(ctx: click.Context) -> list[str]:
    """Names of the study presets."""
    return sorted(path.stem for path in STUDIES_FOLDER.glob("*.yaml"))


def devices(ctx: click.Context) -> list[str]:
    """Names of the device profiles."""
    return sorted(path.stem for path in DEVICES_FOLDER.glob("*.json"))


def proxies(ctx: click.Context) -> list[str]:
    """Names of the proxies."""
    from zenopt.proxies.registry import proxy_names

    return proxy_names()


def samplers(ctx: click.Context) -> list[str]:
    """Short names of the samplers."""
    from zenopt.study.registries import list_samplers

    return list_samplers()


def spaces(ctx: click.Context) -> list[str]:
    """Names of the spaces."""
    from zenopt.spaces.registry import list_spaces

    return list_spaces()


def kinds(ctx: click.Context) -> list[str]:
    """Kinds of components."""
    from zenopt.study.components import KINDS

    return list(KINDS)


def studies(ctx: click.Context) -> list[str]:
    """Names of the studies in the storage of the command line, where it is an SQLite file."""
    url = str(ctx.params.get("storage") or ctx.lookup_default("storage") or default_storage())
    path = Path(url.removeprefix("sqlite:///").partition("?")[0])
    if not url.startswith("sqlite:///") or not path.is_file():
        return []
    try:
        # Read-only: a press of the tab key must not make a file.
        connection = sqlite3.connect(f"{path.resolve().as_uri()}?mode=ro", uri=True, timeout=_PATIENCE_S)
        try:
            found = connection.execute("SELECT study_name FROM studies ORDER BY study_name")
            # What a shell writes on the command line must be no order to the terminal.
            return [name for name in (str(row[0]) for row in found) if name.isprintable()]
        finally:
            connection.close()
    except sqlite3.Error:
        # A busy or foreign database completes nothing; the command itself will say what is wrong with it.
        return []


class Completed(click.ParamType):
    """Text that is completed.

    Args:
        names:
            Returns what the text may be; ``None`` where it is a path alone.
        paths:
            ``"file"`` or ``"dir"`` where paths are completed as well.
        is_list:
            Whether the text is a list with commas, of which the last entry is completed.
    """

    name = "text"

    def __init__(
        self,
        names: Callable[[click.Context], list[str]] | None = None,
        paths: str | None = None,
        is_list: bool = False,
    ) -> None:
        self._names, self._paths, self._is_list = names, paths, is_list

    def shell_complete(
        self, ctx: click.Context, param: click.Parameter, incomplete: str
    ) -> list[CompletionItem]:
        """Return what the text may become."""
        head, comma, last = incomplete.rpartition(",") if self._is_list else ("", "", incomplete)
        names = [] if self._names is None else self._names(ctx)
        found = [CompletionItem(f"{head}{comma}{name}") for name in names if name.startswith(last)]
        # The shell itself knows the files; it is asked for them where no name fits.
        return found if found or self._paths is None else [CompletionItem(incomplete, type=self._paths)]


#: By option, or by command and option where they differ.
_TYPES = {
    "--study": Completed(studies),
    "--study-name": Completed(studies),
    "--compare": Completed(studies),
    "optimize --study": Completed(presets, "file"),
    "calibrate --study": Completed(presets, "file"),
    "sample --study": Completed(presets, "file"),
    "evaluate-architectures --study": Completed(presets, "file"),
    "--space": Completed(spaces),
    "--sampler": Completed(samplers),
    "--kind": Completed(kinds),
    "--objective": Completed(proxies),
    "--proxy": Completed(proxies),
    "--proxies": Completed(proxies, is_list=True),
    "--latency": Completed(devices, "file"),
    "predict --device": Completed(devices, "file"),
    "shares --device": Completed(devices, "file"),
    "--output": Completed(paths="file"),
    "--bundle": Completed(paths="dir"),
    "--table": Completed(paths="file"),
    "--csv": Completed(paths="file"),
    "--log-file": Completed(paths="file"),
    "--import": Completed(paths="file"),
}


def with_completion(command: click.Command) -> click.Command:
    """Tell the options of a command, or of every command of a group, what completes them."""
    if isinstance(command, click.Group):
        for own in command.commands.values():
            with_completion(own)
    for parameter in command.params:
        for name in parameter.opts:
            found = _TYPES.get(f"{command.name} {name}", _TYPES.get(name))
            # A choice, a number, a flag complete themselves.
            if found is not None and parameter.type is click.STRING:
                parameter.type = found
    return command
