"""The population of a search with several objectives."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from optuna.study import StudyDirection
from optuna.trial import TrialState

from zenopt.pareto import order
from zenopt.samplers.population import Population
from zenopt.storage.records import TrialRecord

if TYPE_CHECKING:
    import optuna


class ParetoPopulation(Population):
    """The best feasible trials by front, within a front the loneliest first (NSGA-II's order).

    It is a function of the study alone: all feasible trials are sorted, whenever there is a new one.

    Args:
        study:
            A study with several objectives.
        space, size:
            As for :class:`~zenopt.samplers.population.Population`.
    """

    def __init__(self, study: optuna.Study, space: Any, size: int) -> None:
        super().__init__(study, space, size)
        self._signs = [1.0 if item == StudyDirection.MAXIMIZE else -1.0 for item in study.directions]
        self._points: dict[str, tuple[int, tuple[float, ...]]] = {}

    def sync(self) -> None:
        """Reads what is new in the study and sorts again."""
        before = len(self._points)
        super().sync()
        if len(self._points) == before:
            return
        # Ties go to the earlier trial, whatever order the records came in.
        entries = sorted((number, structure, point) for structure, (number, point) in self._points.items())
        chosen = order([point for _, _, point in entries], self._size)
        self._ranked = [(float(rank), entries[i][0], entries[i][1]) for rank, i in enumerate(chosen)]

    def _add(self, record: TrialRecord, structure: str | None) -> None:
        if structure is None:
            return
        self.known.add(structure)
        if record.state != TrialState.COMPLETE or record.values is None or not record.is_feasible:
            return
        point = tuple(sign * value for sign, value in zip(self._signs, record.values, strict=True))
        known = self._points.get(structure)
        if known is None or record.number < known[0]:
            self._points[structure] = (record.number, point)
