"""The evaluator ``table``: a column of known results."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zenopt.core.errors import DataError, EvaluationError
from zenopt.core.score import Score
from zenopt.core.text import quoted
from zenopt.spaces.tabular import space_table
from zenopt.study.evaluators.base import Direction, Evaluator, Report, ignore
from zenopt.study.registries import EVALUATORS

if TYPE_CHECKING:
    from zenopt.study.spec import StudySpec


@EVALUATORS.register("table")
class TableEvaluator(Evaluator):
    """Looks architectures up; what the table does not list has no value."""

    @classmethod
    def direction(cls, spec: StudySpec) -> Direction:
        return spec.objective.direction

    @classmethod
    def label(cls, spec: StudySpec) -> str:
        return f"table {spec.objective.column}"

    @classmethod
    def check(cls, spec: StudySpec) -> None:
        _values(spec)

    @cached_property
    def _known(self) -> Mapping[str, float]:
        return _values(self.spec)

    def lists(self, architecture: Any) -> bool:
        return str(architecture) in self._known

    def evaluate(
        self,
        architecture: Any,
        *,
        seed: int,
        settings: Mapping[str, Any],
        repeats: int | None = None,
        report: Report = ignore,
    ) -> Score:
        value = self._known.get(str(architecture))
        if value is None:
            raise EvaluationError(f"{self.spec.objective.table} does not list {architecture}.")
        return Score(
            value,
            source=self.label(self.spec),
            values=(value,),
            resolution=self.spec.resolution,
            seed=seed,
            device=self.device,
        )


def _values(spec: StudySpec) -> Mapping[str, float]:
    table, column = spec.objective.table, spec.objective.column
    assert table is not None and column is not None
    if not Path(table).expanduser().exists():
        raise DataError(f"There is no table {quoted(table)}; name yours with --set objective.table=PATH.")
    return space_table(spec.space.build(), table).column(column)
