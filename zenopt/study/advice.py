"""What a person should know of a study before hours go into it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from zenopt.latency.quality import judge

if TYPE_CHECKING:
    from zenopt.study.spec import StudySpec

#: Limits of a budget, or of a class, that keep a network from becoming ever deeper.
_DEPTH_LIMITS = ("layers", "convs", "depth_to_width", "latency_ms")
#: Layers that train well enough without a limit.
_HARMLESS_LAYERS = 24
#: What the published presets allow at small and at large images.
_USUAL_LAYERS_SMALL, _USUAL_LAYERS_LARGE = 18, 16


def warnings_before(spec: StudySpec) -> list[str]:
    """Return what to warn of before a search, one line each."""
    return [line for line in (_of_depth(spec), _of_latency(spec), _of_pruner(spec)) if line is not None]


def _of_depth(spec: StudySpec) -> str | None:
    """Return a warning where the Zen-score is free to stack thin layers as long as parameters last."""
    if spec.objective.kind != "proxy" or not spec.proxy.name.startswith("zen"):
        return None
    if any(getattr(spec.budget, name) is not None for name in _DEPTH_LIMITS):
        return None
    if spec.classes and all(set(own.limits()) & set(_DEPTH_LIMITS) for own in spec.classes):
        return None
    space = spec.build_space()
    if not hasattr(space, "stage_strides"):
        return None
    if len(space.stage_strides) * space.slots * space.max_depth <= _HARMLESS_LAYERS:
        return None
    usual = _USUAL_LAYERS_SMALL if spec.resolution < 128 else _USUAL_LAYERS_LARGE
    return (
        "nothing limits depth, and the Zen-score prefers the deepest network that fits, which may train at a few "
        f"images/s. Add to the study's budget, e.g.: layers: {usual} (here: --set budget.layers={usual})."
    )


def _of_latency(spec: StudySpec) -> str | None:
    """Return a warning where latencies come from a profile that predicts badly."""
    device = spec.limits().device
    if device is None or spec.latency is None or spec.latency.mode == "measured":
        return None
    warning = judge(device.errors).warning
    return None if warning is None else f"latency.device {spec.latency.device}: {warning}"


def _of_pruner(spec: StudySpec) -> str | None:
    """Return a warning where a pruner is told nothing."""
    objective, name = spec.objective, spec.training.pruner.name
    if objective.kind != "table" or objective.columns_by_epoch or name == "none":
        return None
    return (
        f"training.pruner {name} ends nothing: a table has one value of each network. If it has learning curves, "
        "name their columns, e.g. --set objective.columns_by_epoch='{10: acc_10, 50: acc_50}'."
    )
