"""The population of a search, rebuilt from the study: its top feasible completed trials, nothing else.

Zen-NAS keeps 512 candidates and drops the worst of them when there are more, so its population *is* the best 512 seen.
The database therefore is the only state; resuming and many workers need nothing more.
"""

from __future__ import annotations

from bisect import insort
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, ClassVar

from optuna.study import StudyDirection
from optuna.trial import TrialState

from zenopt.spaces.base import BaseArchitecture
from zenopt.storage.history import StudyHistory
from zenopt.storage.records import TrialRecord

if TYPE_CHECKING:
    import optuna


class Population:
    """Best architectures of a study and every structure it knows.

    Args:
        study:
            The study to follow.
        space:
            Decodes trials that carry parameters but no structure.
        size:
            Most members.
        accepts:
            Which structures may be members; all if not given.
    """

    #: User attributes of trials that are read along.
    keys: ClassVar[tuple[str, ...]] = ()

    def __init__(
        self, study: optuna.Study, space: Any, size: int, accepts: Callable[[str], bool] | None = None
    ) -> None:
        self._history = StudyHistory(study, self.keys)
        self._space = space
        self._size = size
        self._accepts = accepts
        self._sign = -1.0 if study.directions[0] == StudyDirection.MAXIMIZE else 1.0
        self._ranked: list[tuple[float, int, str]] = []
        self._members: set[str] = set()
        self._architectures: dict[str, BaseArchitecture] = {}
        self._claims: dict[int, str] = {}
        self.known: set[str] = set()

    def sync(self) -> None:
        """Read what is new in the study."""
        records = self._history.sync()
        unnamed = [record for record in records if record.structure is None and record.state.is_finished()]
        for record in self._history.with_params(unnamed):
            self._add(record, self._decode(record))
        for record in records:
            if record.state.is_finished():
                self._claims.pop(record.number, None)
            elif record.structure is not None:
                self._claims[record.number] = record.structure
            if record.structure is not None:
                self._add(record, record.structure)

    def release(self, number: int) -> None:
        """Forget what an unfinished trial had claimed, for it is to be proposed for again.

        A worker that dies while it scores leaves its trial with a structure and, where parameters are written with the
        result, without parameters. Whoever takes the trial up must be free to propose the same, or a resumed study
        would not repeat an uninterrupted one.
        """
        claimed = self._claims.pop(number, None)
        if claimed is not None:
            self.known.discard(claimed)

    def architectures(self) -> list[BaseArchitecture]:
        """Return the members, best first."""
        return [self._parsed(structure) for _, _, structure in self._ranked]

    def __len__(self) -> int:
        return len(self._ranked)

    def _add(self, record: TrialRecord, structure: str | None) -> None:
        if structure is None:
            return
        self.known.add(structure)
        if record.state != TrialState.COMPLETE or record.value is None or not record.is_feasible:
            return
        if structure in self._members or (self._accepts is not None and not self._accepts(structure)):
            return
        self._members.add(structure)
        insort(self._ranked, (self._rank(record.number, record.value), record.number, structure))
        if len(self._ranked) > self._size:
            _, _, dropped = self._ranked.pop()
            self._members.discard(dropped)
            self._architectures.pop(dropped, None)

    def _rank(self, number: int, value: float) -> float:
        """Return what members are ordered by; the last one is dropped when there are too many."""
        return self._sign * value

    def _parsed(self, structure: str) -> BaseArchitecture:
        if structure not in self._architectures:
            self._architectures[structure] = self._space.parse(structure)
        return self._architectures[structure]

    def _decode(self, record: TrialRecord) -> str | None:
        # A trial that stopped before all its parameters were suggested is no candidate.
        params = record.params or {}
        return str(self._space.decode(params)) if self._space.is_complete(params) else None
