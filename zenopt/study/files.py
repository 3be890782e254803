"""Which files the evaluations of a study read."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from zenopt.core.extensions import FILES
from zenopt.core.paths import existing_path
from zenopt.study.spec import StudySpec


def files_of(spec: StudySpec) -> tuple[str, ...]:
    """Return the files and folders on this machine that workers of a study read, as its spec names them."""
    found = (text for text in _named(spec) if existing_path(str(Path(text).expanduser())) is not None)
    return tuple(dict.fromkeys(found))


def _named(spec: StudySpec) -> Iterator[str]:
    objective, guide = spec.objective, spec.sampler.guide
    yield from (text for text in (objective.table, objective.weights) if text)
    if guide is not None and guide.table:
        yield guide.table
    for source in spec.sampler.surrogate.warm_start:
        # An earlier study is in a storage, which is reached by itself.
        if "://" not in source:
            yield source.rpartition("#")[0]
    for name in spec.objects().values():
        if name.startswith(FILES):
            yield name.partition(":")[2]
    if spec.latency is not None and spec.latency.device.endswith(".json"):
        yield spec.latency.device
    if objective.kind == "train" or objective.then == "train":
        if spec.training.data:
            yield spec.training.data.partition(":")[2]
        if spec.training.recipe.endswith((".yaml", ".yml")):
            yield spec.training.recipe
