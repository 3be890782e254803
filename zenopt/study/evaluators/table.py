"""The evaluator ``table``: a column of known results, and columns of learning curves."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zenopt.core.errors import DataError, EvaluationError
from zenopt.core.score import Score
from zenopt.core.tables import says_accuracy
from zenopt.core.text import quoted
from zenopt.spaces.tabular import space_table
from zenopt.study.evaluators.base import Direction, Evaluator, Report, ignore
from zenopt.study.registries import EVALUATORS

if TYPE_CHECKING:
    from zenopt.study.spec import StudySpec


@EVALUATORS.register("table")
class TableEvaluator(Evaluator):
    """Looks architectures up; what the table does not list has no value.

    Where the table has learning curves, values after so many epochs are reported before the value itself.
    """

    @classmethod
    def direction(cls, spec: StudySpec) -> Direction:
        return spec.objective.direction

    @classmethod
    def label(cls, spec: StudySpec) -> str:
        return f"table {spec.objective.column}"

    @classmethod
    def check(cls, spec: StudySpec) -> None:
        for column in (spec.objective.column, *spec.objective.columns_by_epoch.values()):
            _values(spec, column)

    @cached_property
    def _known(self) -> Mapping[str, float]:
        return _values(self.spec, self.spec.objective.column)

    @cached_property
    def _by_epoch(self) -> Mapping[int, Mapping[str, float]]:
        """Values of the learning curves by epoch, the earliest first."""
        columns = self.spec.objective.columns_by_epoch
        return {epoch: _values(self.spec, columns[epoch]) for epoch in sorted(columns)}

    @property
    def is_noisy(self) -> bool:
        return False

    @property
    def bounds(self) -> tuple[float, float]:
        """Those of an accuracy, as a share or in percent, where the column's name says that it is one."""
        assert self.spec.objective.column is not None
        if says_accuracy(self.spec.objective.column):
            for most in (1.0, 100.0):
                if all(0.0 <= value <= most for value in self._known.values()):
                    return 0.0, most
        return super().bounds

    @property
    def last_step(self) -> int | None:
        return max(self.spec.objective.columns_by_epoch, default=None)

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
        for epoch, values in self._by_epoch.items():
            if str(architecture) in values:
                report(epoch, values[str(architecture)])
        return Score(
            value,
            source=self.label(self.spec),
            values=(value,),
            resolution=self.spec.resolution,
            seed=seed,
            device=self.device,
        )


def _values(spec: StudySpec, column: str | None) -> Mapping[str, float]:
    table = spec.objective.table
    assert table is not None and column is not None
    if not Path(table).expanduser().exists():
        raise DataError(f"There is no table {quoted(table)}; name yours with --set objective.table=PATH.")
    return space_table(spec.space.build(), table).column(column)
