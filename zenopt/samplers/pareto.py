"""The population of a search with several objectives."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from optuna.study import StudyDirection
from optuna.trial import TrialState

from zenopt.samplers.fronts import Fronts
from zenopt.samplers.population import Population
from zenopt.storage.records import TrialRecord

if TYPE_CHECKING:
    import optuna


class ParetoPopulation(Population):
    """The best feasible trials by front, within a front the loneliest first (NSGA-II's order).

    It is a function of the study alone. Fronts are kept from one call to the next, so that a new trial costs
    milliseconds among tens of thousands.

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
        self._new: list[str] = []
        self._clear()

    def _clear(self) -> None:
        self._fronts = Fronts(len(self._signs))
        self._structures: list[str] = []
        self._numbers: list[int] = []

    def sync(self) -> None:
        """Read what is new in the study and put it where it belongs."""
        super().sync()
        if not self._new:
            return
        self._fronts.extend([self._points[structure][1] for structure in self._new])
        self._structures += self._new
        self._numbers += [self._points[structure][0] for structure in self._new]
        self._new = []
        # Ties go to the earlier trial, whatever order the records came in.
        chosen = self._fronts.best(self._size, self._numbers)
        self._ranked = [
            (float(rank), self._numbers[index], self._structures[index]) for rank, index in enumerate(chosen)
        ]

    def _add(self, record: TrialRecord, structure: str | None) -> None:
        if structure is None:
            return
        self.known.add(structure)
        if record.state != TrialState.COMPLETE or record.values is None or not record.is_feasible:
            return
        point = tuple(sign * value for sign, value in zip(self._signs, record.values, strict=True))
        known = self._points.get(structure)
        if known is not None and record.number > known[0]:
            return
        self._points[structure] = (record.number, point)
        if known is None:
            self._new.append(structure)
        elif known != self._points[structure]:
            # An earlier trial of the same structure counts, and came late: everything is sorted anew.
            self._clear()
            self._new = list(self._points)
