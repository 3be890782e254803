"""What a person names on the command line: a network with its resolution, classes and gates."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from zenopt.core.errors import StructureError
from zenopt.export.names import named_of, resolve
from zenopt.latency.targets import Target
from zenopt.study.spec import StudySpec, names_spec


def find_target(
    name: str,
    *,
    resolution: int | None = None,
    num_classes: int | None = None,
    use_se: bool | None = None,
    stored: bool = False,
) -> Target:
    """Find a network by what a person typed.

    Args:
        name:
            A structure string, a bundle folder, a study preset or its YAML file (its initial structure is meant), or
            anything else that :func:`zenopt.export.names.resolve` knows.
        resolution, num_classes, use_se:
            Replace what the bundle, preset or family says.
        stored:
            Whether the name was read from a file; then no study file that it names imports anything.

    Raises:
        StructureError: If it is none of these.
    """
    return _with(_find(name, stored), resolution, num_classes, use_se)


def target_of(
    architecture: Any,
    *,
    resolution: int | None = None,
    num_classes: int | None = None,
    use_se: bool | None = None,
) -> Target:
    """Return an architecture with a resolution, classes and gates, those of its family where none are given."""
    named = named_of(architecture)
    return _with(
        Target(named.text, architecture, named.resolution, named.num_classes, False),
        resolution,
        num_classes,
        use_se,
    )


def _with(found: Target, resolution: int | None, num_classes: int | None, use_se: bool | None) -> Target:
    return replace(
        found,
        resolution=found.resolution if resolution is None else resolution,
        num_classes=found.num_classes if num_classes is None else num_classes,
        use_se=found.use_se if use_se is None else use_se,
    )


def _find(name: str, stored: bool) -> Target:
    if "(" not in name and names_spec(name):
        spec = StudySpec.load(name, stored=stored)
        architecture = spec.build_space().parse(_initial_of(spec, name))
        return Target(str(architecture), architecture, spec.resolution, spec.num_classes, spec.use_se)
    named = resolve(name, stored=stored)
    return Target(named.text, named.architecture, named.resolution, named.num_classes, named.use_se)


def _initial_of(spec: StudySpec, name: str) -> str:
    initial = getattr(spec.build_space(), "initial", None)
    if not isinstance(initial, str) or not initial:
        raise StructureError(f"Study {name} has no initial structure to time.")
    return initial
