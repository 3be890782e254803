"""What zenopt finds on this machine: versions, packages, devices, its own files, a storage; and what to do about it."""

from __future__ import annotations

import os
import platform
import shutil
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from importlib import metadata
from pathlib import Path
from typing import Any, Literal

from packaging.requirements import Requirement
from packaging.version import Version

from zenopt._version import __version__
from zenopt.core.errors import ZenoptError
from zenopt.core.words import plural

OLDEST_PYTHON = (3, 10)
#: Free disk space below which a person should know, GiB.
_LITTLE_SPACE_GIB = 2.0
#: Extras that only developers need.
_DEVELOPMENT = ("test", "dev", "docs")


@dataclass(frozen=True)
class Finding:
    """One line of the examination.

    Attributes:
        area: What was examined.
        status: ``ok``; ``info``: something optional is missing; ``bad``: something will fail.
        text: What was found.
        remedy: What to do about it; empty if nothing.
    """

    area: str
    status: Literal["ok", "info", "bad"]
    text: str
    remedy: str = ""

    def to_json(self) -> dict[str, Any]:
        """Return the finding as plain data."""
        return asdict(self)


def examine(storage: str | None = None) -> Iterator[Finding]:
    """Examine environment, packages, devices and zenopt's own files, one finding at a time.

    Args:
        storage:
            Storage URL to open and read; nothing is created.
    """
    yield _python()
    yield from _packages()
    yield from _devices()
    yield _own_files()
    yield from _places()
    if storage is not None:
        yield _storage(storage)


def _python() -> Finding:
    text = (
        f"Python {platform.python_version()} at {sys.executable}, zenopt {__version__}, {platform.platform()}"
    )
    if sys.version_info[:2] < OLDEST_PYTHON:
        return Finding("python", "bad", text, f"use Python {'.'.join(map(str, OLDEST_PYTHON))} or newer")
    return Finding("python", "ok", text)


def _packages() -> Iterator[Finding]:
    """Compare what is installed with what zenopt's own metadata ask for."""
    try:
        wanted = metadata.requires("zenopt") or []
    except metadata.PackageNotFoundError:
        yield Finding(
            "packages", "bad", "zenopt itself is not installed, only importable", "run: pip install -e ."
        )
        return
    found: list[str] = []
    missing: dict[str, list[str]] = {}
    for requirement in map(Requirement, wanted):
        extra = _extra_of(requirement)
        if extra in _DEVELOPMENT or requirement.name == "zenopt":
            continue
        if requirement.marker is not None and not requirement.marker.evaluate({"extra": extra or ""}):
            # Not for this Python or platform.
            continue
        problem, version = _check(requirement)
        if problem is None:
            found.append(f"{requirement.name} {version}")
        elif extra is None:
            yield Finding(
                "packages", "bad", problem, f"run: pip install '{requirement.name}{requirement.specifier}'"
            )
        else:
            missing.setdefault(extra, []).append(problem)
    yield Finding("packages", "ok", ", ".join(sorted(set(found), key=str.lower)))
    for extra, problems in missing.items():
        yield Finding(
            "packages",
            "info",
            f"optional, for {extra}: {'; '.join(problems)}",
            f"run: pip install 'zenopt[{extra}]'",
        )


def _extra_of(requirement: Requirement) -> str | None:
    """Return the extra that a requirement belongs to, read from its marker."""
    text = str(requirement.marker or "")
    return text.split('extra == "', 1)[1].split('"', 1)[0] if 'extra == "' in text else None


def _check(requirement: Requirement) -> tuple[str | None, str]:
    try:
        version = metadata.version(requirement.name)
    except metadata.PackageNotFoundError:
        return f"{requirement.name} is not installed", ""
    if not requirement.specifier.contains(Version(version), prereleases=True):
        return f"{requirement.name} {version} is not {requirement.specifier}", version
    return None, version


def _devices() -> Iterator[Finding]:
    try:
        import torch
    except (ImportError, OSError) as error:
        # A torch whose libraries do not load is the commonest broken installation.
        yield Finding("devices", "bad", f"torch cannot be imported: {_line(error)}", "install torch again")
        return
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    yield Finding("devices", "ok", f"cpu: {cores} cores, torch uses {torch.get_num_threads()} threads")
    if torch.cuda.is_available():
        for index in range(torch.cuda.device_count()):
            device = torch.cuda.get_device_properties(index)
            free, total = torch.cuda.mem_get_info(index)
            text = f"cuda:{index}: {device.name}, {free / 2**30:.1f} of {total / 2**30:.1f} GiB free"
            yield Finding("devices", "ok", text)
    else:
        built = "built for CUDA but finds no device" if torch.version.cuda else "built without CUDA"
        yield Finding("devices", "info", f"cuda: none (torch {torch.__version__}, {built})")
    if torch.backends.mps.is_available():
        yield Finding("devices", "ok", "mps: available")


def _own_files() -> Finding:
    from zenopt.latency import list_profiles, load_profile
    from zenopt.study.spec import StudySpec, list_presets

    try:
        presets, profiles = list_presets(), list_profiles()
        for name in presets:
            StudySpec.load(name)
        for name in profiles:
            load_profile(name)
    except ZenoptError as error:
        return Finding("files", "bad", str(error), "install zenopt again")
    if not presets or not profiles:
        return Finding("files", "bad", "presets or device profiles are missing", "install zenopt again")
    return Finding("files", "ok", f"{len(presets)} presets and {len(profiles)} device profiles load")


def _places() -> Iterator[Finding]:
    for area, folder in (("here", Path.cwd()), ("temporary files", Path(tempfile.gettempdir()))):
        free_gib = shutil.disk_usage(folder).free / 2**30
        text = f"{area}: {folder}, {free_gib:.1f} GiB free"
        if not os.access(folder, os.W_OK):
            yield Finding("disk", "bad", f"{text}, not writable", "change to a folder of yours")
        elif free_gib < _LITTLE_SPACE_GIB:
            yield Finding("disk", "info", text, "free some space before a long search or training")
        else:
            yield Finding("disk", "ok", text)
    if _is_network_file_system(Path.cwd()):
        yield Finding(
            "disk", "info", "this folder is on a network file system", "keep SQLite files on a local disk"
        )


def _is_network_file_system(folder: Path) -> bool:
    """Return whether a folder is on a file system over the network, where SQLite's locks and WAL are not safe."""
    try:
        mounts = Path("/proc/mounts").read_text(encoding="utf-8").splitlines()
    except OSError:
        return False
    best, kind = "", ""
    for line in mounts:
        _, point, name, *_ = line.split()
        if folder.is_relative_to(point) and len(point) >= len(best):
            best, kind = point, name
    return kind in ("nfs", "nfs4", "cifs", "smb3", "smbfs", "fuse.sshfs", "afs")


def _storage(url: str) -> Finding:
    from zenopt.storage import mask_password
    from zenopt.study.study import open_existing

    try:
        studies = open_existing(url).get_all_studies()
    except ZenoptError as error:
        return Finding("storage", "bad", str(error), "")
    return Finding("storage", "ok", f"{mask_password(url)} answers and holds {plural(len(studies), 'study')}")


def _line(error: BaseException) -> str:
    return " ".join(str(error).split())
