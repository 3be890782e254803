"""Bundles: the folder that a search exports and training reads."""

from __future__ import annotations

import json
import os
import platform
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field, TypeAdapter

from zenopt._version import __version__
from zenopt.core.errors import BundleError, OutputError, ZenoptError
from zenopt.core.files import BUNDLE, read_json, validated
from zenopt.core.outputs import check_folder
from zenopt.core.paths import existing_path
from zenopt.core.text import printable, quoted, quoted_list, shortened_path
from zenopt.core.words import rounded
from zenopt.spaces.registry import parse_architecture

SCHEMA_VERSION = 1
ARCHITECTURE_FILE = "architecture.json"
STRUCTURE_FILE = "structure.txt"
README_FILE = "README.md"


Side = Annotated[int, Field(strict=True, ge=1, le=8192)]
Count = Annotated[int, Field(strict=True, ge=1, le=1_000_000)]
Number = Annotated[int, Field(strict=True, ge=0, lt=2**63)]
Flag = Annotated[bool, Field(strict=True)]
FamilyName = Annotated[str, Field(pattern=r"^[A-Za-z_][\w.-]*(:[A-Za-z_][\w.]*)?$", max_length=200)]
ModuleName = Annotated[str, Field(pattern=r"^[A-Za-z_]\w*(\.[A-Za-z_]\w*)*$", max_length=200)]


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
        origin: Where it came from in words, if it is no trial.
        spec: The study spec.
        versions: Versions of what made it.
        seed: Seed of the study.
        candidates: What was compared before this one was exported.
        block_modules: The module of every block type that is not zenopt's own; filled in when it is written.
    """

    structure: str
    resolution: Side
    num_classes: Count
    use_se: Flag = False
    family: FamilyName = "chain"
    costs: Mapping[str, Any] | None = None
    scores: Mapping[str, Any] | None = None
    constraints: Mapping[str, float] | None = None
    study: str | None = None
    trial: Number | None = None
    origin: str | None = None
    spec: Mapping[str, Any] | None = None
    versions: Mapping[str, str] | None = None
    seed: Number | None = None
    candidates: tuple[Mapping[str, Any], ...] = ()
    block_modules: Mapping[str, ModuleName] | None = None


_ADAPTER = TypeAdapter(Bundle)


def versions() -> dict[str, str]:
    """Return the versions of zenopt, Python and the libraries that compute scores."""
    from importlib.metadata import version

    return {
        "zenopt": __version__,
        "python": platform.python_version(),
        **{package: version(package) for package in ("torch", "optuna", "numpy")},
    }


def write_bundle(bundle: Bundle, folder: str | Path, *, overwrite: bool = False) -> Path:
    """Write a bundle: ``architecture.json``, ``structure.txt`` (readable by ZenNAS) and ``README.md``.

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
    _check_contents(folder, overwrite)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        content = {"schema_version": SCHEMA_VERSION, **bundle.__dict__}
        write_atomically(folder / STRUCTURE_FILE, bundle.structure + "\n")
        write_atomically(folder / README_FILE, _readme(bundle))
        write_atomically(folder / ARCHITECTURE_FILE, json.dumps(content, indent=2) + "\n")
    except OSError as error:
        raise BundleError(f"Cannot write bundle {folder}: {error.strerror or error}.") from None
    return folder


def check_bundle_folder(folder: str | Path, *, overwrite: bool = False) -> None:
    """Find out whether :func:`write_bundle` could write here, before the work whose result it would write.

    Raises:
        BundleError: If the folder holds something, or cannot be written.
    """
    _check_contents(Path(folder), overwrite)
    try:
        check_folder(folder)
    except OutputError as error:
        raise BundleError(str(error)) from None


def _check_contents(folder: Path, overwrite: bool) -> None:
    try:
        names = {path.name for path in folder.iterdir()} if folder.exists() else set()
    except OSError as error:
        raise BundleError(f"Cannot write bundle {folder}: {error.strerror or error}.") from None
    if ARCHITECTURE_FILE in names:
        if not overwrite:
            raise BundleError(f"Folder {folder} holds a bundle already; use --force to replace it.")
    elif names and not _is_unfinished(names):
        raise BundleError(f"Folder {folder} is not empty and holds no bundle; name another one.")


def read_bundle(folder: str | Path) -> Bundle:
    """Read a bundle.

    Args:
        folder:
            The folder, or its ``architecture.json``.

    Raises:
        BundleError: If it is missing, damaged or of another schema version, or made of blocks that are not registered.
            A bundle is never a reason to import anything: the message names the module.
    """
    path = Path(folder)
    path = path if path.name == ARCHITECTURE_FILE else path / ARCHITECTURE_FILE
    if existing_path(str(path)) is None:
        raise BundleError(f"{shortened_path(path.parent)} is not a bundle: it has no {ARCHITECTURE_FILE}.")
    content = read_json(path, BUNDLE)
    found = content.get("schema_version") if isinstance(content, dict) else None
    if found != SCHEMA_VERSION:
        raise BUNDLE.refusal(path, f"schema_version is {quoted(found)}, this zenopt reads {SCHEMA_VERSION}")
    # Earlier versions wrote null where there was nothing to say.
    content["candidates"] = content.get("candidates") or ()
    bundle = validated(_ADAPTER, content, path, BUNDLE)
    if bundle.block_modules:
        _check_parts(path, bundle)
    return bundle


def _check_parts(path: Path, bundle: Bundle) -> None:
    """Refuse a network of parts that nobody has imported in this run."""
    modules = bundle.block_modules or {}
    missing = sorted(part for part, module in modules.items() if module not in sys.modules)
    try:
        parse_architecture(bundle.family, bundle.structure)
    except ZenoptError:
        if not missing:
            raise
        module = modules[missing[0]]
        raise BundleError(
            f"Bundle {shortened_path(path.parent)} is made of blocks that are not zenopt's own: {quoted_list(missing)} "
            f"of the Python module {module!r}. If you trust it, give --import {module} (or its .py file)."
        ) from None


def _is_unfinished(names: set[str]) -> bool:
    """Return whether files are what an interrupted :func:`write_bundle` leaves behind."""
    ours = (STRUCTURE_FILE, README_FILE, ARCHITECTURE_FILE)
    rest = {name for name in names if not name.startswith(tuple(f".{own}." for own in ours))}
    return rest <= set(ours) and (not rest or STRUCTURE_FILE in rest)


def write_atomically(path: Path, text: str) -> None:
    """Write a text file so that it is either the old one or the new one, never half."""
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
    rows += [(key, rounded(value)) for key, value in costs.items()]
    rows += [
        (f"score: {key}", rounded(value))
        for key, value in scores.items()
        if value is not None and not isinstance(value, list | tuple)
    ]
    table = "\n".join(f"| {key} | {value} |" for key, value in rows)
    study = f"Trial {bundle.trial} of study `{printable(bundle.study)}`." if bundle.study else ""
    origin = printable(bundle.origin) if bundle.origin else study
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

    from zenopt.nn import build_network
    from zenopt.spaces import parse_architecture{imports}
    architecture = parse_architecture({bundle.family!r}, open("structure.txt").read().strip())
    network = build_network(architecture, {options})
"""
