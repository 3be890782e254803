"""Modules of a user's own: importing one registers its blocks, spaces and proxies. Pure Python.

A name ``package.module:object`` comes from a person (the command line, a study file, a call) or from something stored
(a database, a bundle, a checkpoint). What a person names is imported. What is stored is only looked up among what is
loaded already: a file is never a reason to import anything, and the message says which ``--import`` would be needed.
"""

from __future__ import annotations

import re
import sys
from importlib import import_module
from inspect import getattr_static
from pathlib import Path
from types import ModuleType
from typing import Any

from zenopt.core.errors import ExtensionError
from zenopt.core.paths import existing_path
from zenopt.core.text import quoted

#: Beginnings of names that are no objects of modules here: files, and a package that Optuna fetches and runs.
FILES, HUB = ("learned:", "supernet:"), "optunahub:"
_OBJECT = re.compile(r"[^\W\d]\w*(\.[^\W\d]\w*)*:[^\W\d]\w*(\.[^\W\d]\w*)*")
#: What a person has named in this run, modules and objects: worker processes must know the same.
_NAMED: dict[str, None] = {}


class MissingModuleError(ExtensionError):
    """Something stored names a module that nobody has imported in this run."""


def named_by_person() -> tuple[str, ...]:
    """Return the modules and objects that a person has named in this run, for :func:`know_again` in another process."""
    return tuple(_NAMED)


def know_again(names: tuple[str, ...]) -> None:
    """Import in a worker process what a person has named in the process that began it."""
    for name in names:
        import_named(name) if ":" in name else import_extension(name)


def names_object(name: str) -> bool:
    """Return whether a name is that of an object in a module; ``learned:FILE`` is that of a file."""
    return ":" in name and not name.startswith((*FILES, HUB))


def is_named(name: str) -> bool:
    """Return whether a person has named a module, object or package in this run."""
    return name in _NAMED


def import_named(name: str) -> None:
    """Import the module of an object that a person names; a name of another kind is only noted.

    Raises:
        ExtensionError: If it is no ``package.module:object``, or the module cannot be imported.
    """
    if not names_object(name):
        if name.startswith(HUB):
            _NAMED[name] = None
        return
    if not _OBJECT.fullmatch(name):
        raise ExtensionError(f"Cannot load {quoted(name)}: expected package.module:object.")
    import_extension(name.partition(":")[0])
    _NAMED[name] = None


def load_object(name: str) -> tuple[Any, bool]:
    """Return the object ``package.module:object`` of a loaded module, and whether a person has named it in this run.

    Nothing is imported, and nothing of the module runs.

    Raises:
        MissingModuleError: If the module is not loaded.
        ExtensionError: If the name is malformed, or the module has no such object.
    """
    if not _OBJECT.fullmatch(name):
        raise ExtensionError(f"Cannot load {quoted(name)}: expected package.module:object.")
    module, _, attribute = name.partition(":")
    found: Any = sys.modules.get(module)
    if found is None:
        raise MissingModuleError(
            f"{quoted(name)} was read, not asked for: nothing is imported for it. If you trust it, give "
            f"--import {module} (or its .py file)."
        )
    for part in attribute.split("."):
        try:
            found = getattr_static(found, part)
        except AttributeError:
            raise ExtensionError(f"Module {module!r} has no {attribute!r}.") from None
    return found, name in _NAMED


def import_extension(name: str) -> ModuleType:
    """Import a module of the user's own, because a person named it.

    Args:
        name:
            ``package.module``, or the path of a ``.py`` file, whose folder is then put on the Python path: the module
            has the name of the file, in this process and in those it spawns.

    Raises:
        ExtensionError: If there is no such module or file, or it fails while it is imported.
    """
    if name.endswith(".py"):
        module = _import_file(Path(name))
    elif all(part.isidentifier() for part in name.split(".")):
        module = _import(name, name)
    else:
        raise ExtensionError(
            f"Cannot import {quoted(name)}: expected package.module, or the path of a .py file."
        )
    _NAMED[module.__name__] = None
    return module


def _import_file(path: Path) -> ModuleType:
    if existing_path(str(path)) is None or not path.is_file():
        raise ExtensionError(f"Cannot import {quoted(str(path))}: there is no such file.")
    if not path.stem.isidentifier():
        raise ExtensionError(f"Cannot import {quoted(str(path))}: {path.stem!r} is no name for a module.")
    folder = str(path.resolve().parent)
    if folder not in sys.path:
        sys.path.insert(0, folder)
    module = _import(path.stem, str(path))
    if module.__file__ is None or Path(module.__file__).resolve() != path.resolve():
        raise ExtensionError(
            f"Cannot import {quoted(str(path))}: a module named {path.stem!r} is loaded already, from "
            f"{module.__file__}."
        )
    return module


def _import(module: str, name: str) -> ModuleType:
    try:
        return import_module(module)
    except ModuleNotFoundError as error:
        if error.name is not None and (module == error.name or module.startswith(f"{error.name}.")):
            raise ExtensionError(
                f"Cannot import {quoted(name)}: Python finds no such module; give the path of its .py file, or put its "
                "folder on PYTHONPATH."
            ) from None
        raise ExtensionError(f"Cannot import {quoted(name)}: {error}.") from error
    except Exception as error:
        # The module is somebody else's program and may raise anything; what it says is what the user needs.
        reason = (str(error).strip() or "no reason given").splitlines()[0]
        raise ExtensionError(f"Cannot import {quoted(name)}: {type(error).__name__}: {reason}") from error
