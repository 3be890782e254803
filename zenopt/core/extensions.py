"""Modules of a user's own: importing one registers its blocks, spaces and proxies. Pure Python.

Nothing here imports what a file names: a bundle says which module its blocks came from, and the person who reads it
decides whether to import that.
"""

from __future__ import annotations

import sys
from importlib import import_module
from pathlib import Path
from types import ModuleType

from zenopt.core.errors import ExtensionError

#: What was imported on demand, as it was named; files by their absolute path. Worker processes import the same.
_IMPORTED: dict[str, None] = {}


def imported_extensions() -> tuple[str, ...]:
    """Return what :func:`import_extension` has imported in this process, in order."""
    return tuple(_IMPORTED)


def import_extension(name: str) -> ModuleType:
    """Import a module of the user's own.

    Args:
        name:
            ``package.module``, or the path of a ``.py`` file, whose folder is then put on the Python path: the module
            has the name of the file, in this process and in those it spawns.

    Raises:
        ExtensionError: If there is no such module or file, or it fails while it is imported.
    """
    if name.endswith(".py"):
        module = _import_file(Path(name))
        _IMPORTED[str(Path(name).resolve())] = None
        return module
    if not all(part.isidentifier() for part in name.split(".")):
        raise ExtensionError(f"Cannot import {name!r}: expected package.module, or the path of a .py file.")
    module = _import(name, name)
    _IMPORTED[name] = None
    return module


def _import_file(path: Path) -> ModuleType:
    if not path.is_file():
        raise ExtensionError(f"Cannot import {str(path)!r}: there is no such file.")
    if not path.stem.isidentifier():
        raise ExtensionError(f"Cannot import {str(path)!r}: {path.stem!r} is no name for a module.")
    folder = str(path.resolve().parent)
    if folder not in sys.path:
        sys.path.insert(0, folder)
    module = _import(path.stem, str(path))
    if module.__file__ is None or Path(module.__file__).resolve() != path.resolve():
        raise ExtensionError(
            f"Cannot import {str(path)!r}: a module named {path.stem!r} is loaded already, from {module.__file__}."
        )
    return module


def _import(module: str, name: str) -> ModuleType:
    try:
        return import_module(module)
    except ModuleNotFoundError as error:
        if error.name is not None and (module == error.name or module.startswith(f"{error.name}.")):
            raise ExtensionError(
                f"Cannot import {name!r}: Python finds no such module; give the path of its .py file, or put its "
                "folder on PYTHONPATH."
            ) from None
        raise ExtensionError(f"Cannot import {name!r}: {error}.") from error
    except Exception as error:
        # The module is somebody else's program and may raise anything; what it says is what the user needs.
        reason = (str(error).strip() or "no reason given").splitlines()[0]
        raise ExtensionError(f"Cannot import {name!r}: {type(error).__name__}: {reason}") from error
