"""Which code travels to other machines: zenopt, and what the user has imported from files of their own."""

from __future__ import annotations

import site
import sys
import sysconfig
from pathlib import Path

from zenopt.core.extensions import named_by_person


def user_modules() -> list[str]:
    """Return files and folders of packages that a worker elsewhere may lack: zenopt's, and those named by a person."""
    found = {str(Path(__file__).resolve().parents[1]): None}
    for name in named_by_person():
        module = sys.modules.get(name.partition(":")[0].partition(".")[0])
        origin = getattr(module, "__file__", None)
        if origin is None:
            continue
        path = Path(origin).resolve()
        if not any(path.is_relative_to(folder) for folder in _installed()):
            found[str(path.parent if path.name == "__init__.py" else path)] = None
    return list(found)


def _installed() -> list[Path]:
    """Return folders of what was installed, which is a node's own business."""
    folders = [*site.getsitepackages(), site.getusersitepackages(), sysconfig.get_paths()["stdlib"]]
    return [Path(folder).resolve() for folder in folders]
