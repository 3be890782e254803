"""Earlier results that a learned search begins with: studies and tables, as a spec names them."""

from __future__ import annotations

from math import isfinite
from typing import TYPE_CHECKING

from optuna.study import StudyDirection
from optuna.trial import TrialState

from zenopt.core.errors import SpecError, ZenoptError
from zenopt.core.text import quoted
from zenopt.spaces.tabular import space_table
from zenopt.storage.history import StudyHistory
from zenopt.storage.urls import names_storage

if TYPE_CHECKING:
    from zenopt.study.spec import StudySpec


def earlier_results(spec: StudySpec) -> dict[str, dict[str, float]]:
    """Return the values of ``sampler.surrogate.warm_start``: source -> text -> value, higher is better.

    Networks outside the space are left out.

    Raises:
        SpecError: If a source does not exist, or is malformed.
    """
    space = spec.space.build()
    found: dict[str, dict[str, float]] = {}
    for source in spec.sampler.surrogate.warm_start:
        place, separator, name = source.rpartition("#")
        if not separator or not place or not name:
            raise SpecError(
                f"sampler.surrogate.warm_start: expected STORAGE#STUDY or TABLE.csv#COLUMN, got {quoted(source)}."
            )
        try:
            values = _study_values(place, name) if names_storage(place) else _table_values(spec, place, name)
        except ZenoptError as error:
            raise SpecError(f"sampler.surrogate.warm_start {quoted(source)}: {error}") from None
        kept = {}
        for text, value in values.items():
            try:
                architecture = space.parse(text)
            except ZenoptError:
                # Of another family: nothing to be learned from.
                continue
            if space.contains(architecture):
                kept[str(architecture)] = value
        found[source] = kept
    return found


def _table_values(spec: StudySpec, path: str, column: str) -> dict[str, float]:
    sign = -1.0 if spec.objective.kind == "table" and spec.objective.direction == "minimize" else 1.0
    values = space_table(spec.space.build(), path).column(column)
    return {text: sign * value for text, value in values.items()}


def _study_values(url: str, name: str) -> dict[str, float]:
    from zenopt.study.study import load_study, open_existing

    study = load_study(open_existing(url), name)
    sign = 1.0 if study.directions[0] == StudyDirection.MAXIMIZE else -1.0
    several: dict[str, list[float]] = {}
    for record in StudyHistory(study).sync():
        is_value = record.state == TrialState.COMPLETE and record.value is not None and isfinite(record.value)
        if is_value and record.is_feasible and record.structure is not None:
            several.setdefault(record.structure, []).append(sign * (record.value or 0.0))
    return {text: sum(own) / len(own) for text, own in several.items()}
