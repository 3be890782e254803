"""Bundles: the folder that a search exports and training reads."""

from __future__ import annotations

import json
import os
import platform
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from zenopt._version import __version__
from zenopt.core.errors import BundleError
from zenopt.spaces.chain.architecture import block_types
from zenopt.spaces.registry import parse_architecture

SCHEMA_VERSION = 1
ARCHITECTURE_FILE = "architecture.json"
STRUCTURE_FILE = "structure.txt"
README_FILE = "README.md"


@dataclass(frozen=True)
class Bundle:
    """What a bundle says of its network.

    Attributes:
        structure: Canonical text of the architecture.
        family: Family of the architecture: ``"chain"`` for super-blocks, else the name of its space.
        resolution: Side of the input image in pixels.
        num_classes: Outputs of the classifier.
        use_se: Whether squeeze-excite gates are built.
        costs: Params, MACs, layers and others, by name.
        scores: The search's score and the fresh ones, by name.
        constraints: Signed relative violation of every limit.
        study, trial: Where it came from.
        spec: The study spec.
        versions: Versions of what made it.
        seed: Seed of the study.
        candidates: What was compared before this one was exported.
        block_modules: The module of every block type that is not zenopt's own; filled in when it is written.
    """

    structure: str
    resolution: int
    num_classes: int
    use_se: bool = False
    family: str = "chain"
    costs: Mapping[str, Any] | None = None
    scores: Mapping[str, Any] | None = None
    constraints: Mapping[str, float] | None = None
    study: str | None = None
    trial: int | None = None
    spec: Mapping[str, Any] | None = None
    versions: Mapping[str, str] | None = None
    seed: int | None = None
    candidates: tuple[Mapping[str, Any], ...] = ()
    block_modules: Mapping[str, str] | None = None


def versions() -> dict[str, str]:
    """Returns the versions of zenopt, Python and the libraries that compute scores."""
    from importlib.metadata import version

    return {
        "zenopt": __version__,
        "python": platform.python_version(),
        **{package: version(package) for package in ("torch", "optuna", "numpy")},
    }


def write_bundle(bundle: Bundle, folder: str | Path, *, overwrite: bool = False) -> Path:
    """Writes a bundle: ``architecture.json``, ``structure.txt`` (readable by ZenNAS) and ``README.md``.

    Every file is written beside its place and renamed, so that a reader never sees half of one.

    Args:
        bundle:
            What to write.
        folder:
            Where; made if missing.
        overwrite:
            Replace an older bundle.

    Raises:
        BundleError: If the folder holds something, or cannot be written.
    """
    folder = Path(folder)
    if bundle.block_modules is None:
        modules = parse_architecture(bundle.family, bundle.structure).foreign_modules()
        bundle = replace(bundle, block_modules=modules or None)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        names = {path.name for path in folder.iterdir()}
        if ARCHITECTURE_FILE in names:
            if not overwrite:
                raise BundleError(f"Folder {folder} holds a bundle already; use --force to replace it.")
        elif names and not _is_unfinished(names):
            raise BundleError(f"Folder {folder} is not empty and holds no bundle; name another one.")
        content = {"schema_version": SCHEMA_VERSION, **bundle.__dict__}
        write_atomically(folder / STRUCTURE_FILE, bundle.structure + "\n")
        write_atomically(folder / README_FILE, _readme(bundle))
        write_atomically(folder / ARCHITECTURE_FILE, json.dumps(content, indent=2) + "\n")
    except OSError as error:
        raise BundleError(f"Cannot write bundle {folder}: {error.strerror or error}.") from None
    return folder


def read_bundle(folder: str | Path) -> Bundle:
    """Reads a bundle.

    Args:
        folder:
            The folder, or its ``architecture.json``.

    Raises:
        BundleError: If it is missing, damaged or of another schema version, or made of blocks that are not registered.
            A bundle is never a reason to import anything: the message names the module.
    """
    path = Path(folder)
    path = path if path.name == ARCHITECTURE_FILE else path / ARCHITECTURE_FILE
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise BundleError(f"{path.parent} is not a bundle: it has no {ARCHITECTURE_FILE}.") from None
    except (OSError, ValueError) as error:
        raise BundleError(f"Cannot read {path}: {error}.") from None
    if not isinstance(content, dict) or content.get("schema_version") != SCHEMA_VERSION:
        found = content.get("schema_version") if isinstance(content, dict) else None
        raise BundleError(f"{path}: schema_version is {found!r}, this zenopt reads {SCHEMA_VERSION}.")
    for key, kind, what in (("structure", str, "text"), ("use_se", bool, "true or false")):
        if not isinstance(content.get(key), kind):
            raise BundleError(f"{path}: {key} must be {what}, got {content.get(key)!r}.")
    for key in ("resolution", "num_classes"):
        value = content.get(key)
        if isinstance(value, bool) or not isinstance(value, int) or value < 1:
            raise BundleError(f"{path}: {key} must be a positive integer, got {value!r}.")
    _check_blocks(path, content)
    known = Bundle.__dataclass_fields__
    values = {key: value for key, value in content.items() if key in known}
    values["candidates"] = tuple(values.get("candidates") or ())
    return Bundle(**values)


def _check_blocks(path: Path, content: Mapping[str, Any]) -> None:
    modules = content.get("block_modules") or {}
    if not isinstance(modules, dict) or not all(isinstance(item, str) for item in modules.values()):
        raise BundleError(f"{path}: block_modules must be the module of each block type, got {modules!r}.")
    if set(modules) <= set(block_types()):
        return
    missing = sorted(set(modules) - set(block_types()))
    module = modules[missing[0]]
    raise BundleError(
        f"Bundle {path.parent} is made of blocks that are not zenopt's own: {', '.join(missing)} of the Python module "
        f"{module!r}. If you trust it, give --import {module} (or its .py file)."
    )


def _is_unfinished(names: set[str]) -> bool:
    """Returns whether files are what an interrupted :func:`write_bundle` leaves behind."""
    ours = (STRUCTURE_FILE, README_FILE, ARCHITECTURE_FILE)
    rest = {name for name in names if not name.startswith(tuple(f".{own}." for own in ours))}
    return rest <= set(ours) and (not rest or STRUCTURE_FILE in rest)


def write_atomically(path: Path, text: str) -> None:
    """Writes a text file so that it is either the old one or the new one, never half."""
    descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        # mkstemp makes files private; a bundle is to be shared as the umask says.
        umask = os.umask(0)
        os.umask(umask)
        os.chmod(temporary, 0o666 & ~umask)
        os.replace(temporary, path)
    except BaseException:
        os.unlink(temporary)
        raise


def _readme(bundle: Bundle) -> str:
    costs, scores = bundle.costs or {}, bundle.scores or {}
    rows = [("resolution", f"{bundle.resolution} px"), ("classes", bundle.num_classes)]
    rows += [(key, f"{value:,}" if isinstance(value, int) else value) for key, value in costs.items()]
    rows += [(f"score: {key}", value) for key, value in scores.items() if not isinstance(value, list | tuple)]
    table = "\n".join(f"| {key} | {value} |" for key, value in rows)
    origin = f"Trial {bundle.trial} of study `{bundle.study}`." if bundle.study else ""
    modules = sorted(set((bundle.block_modules or {}).values()))
    flags = "".join(f" --import {module}" for module in modules)
    imports = "".join(f"\n    import {module}  # its blocks" for module in modules)
    options = f"num_classes={bundle.num_classes}{', use_se=True' if bundle.use_se else ''}"
    return f"""# A network found by zenopt

{origin}

| what | value |
|---|---|
{table}

Latencies are predicted unless said otherwise. Scores are training-free: they rank candidates, they are not accuracies.

    {bundle.structure}

Train it:

    zenopt train --bundle . --data imagefolder:PATH --epochs 100 --output runs/mine{flags}

Or build it:

    from zenopt import Architecture{imports}
    from zenopt.nn import build_network
    network = build_network(Architecture.parse(open("structure.txt").read()), {options})
"""
