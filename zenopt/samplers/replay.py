"""What a study has told, replayed in the order of its trials: the state of samplers that walk or learn.

The state is a function of the trials alone, so that resuming and many workers need nothing more. A proposal learns
only from what is new. Where a trial ends after later ones, what was learned since is forgotten and learned anew.
"""

from __future__ import annotations

from bisect import bisect
from collections.abc import Callable
from dataclasses import dataclass
from math import isfinite
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from optuna.trial import TrialState

from zenopt.samplers.population import Population
from zenopt.storage.records import TrialRecord

if TYPE_CHECKING:
    import optuna

S = TypeVar("S")

#: Trials between two states that are kept, and how many of these there are.
KEPT_EVERY, MOST_KEPT = 8, 16


@dataclass(frozen=True)
class Outcome:
    """What a trial within the budget has told.

    Attributes:
        number: The trial.
        text: Its architecture.
        score: Its value, higher is better; ``None`` where it failed or was pruned.
        is_pruned: Whether its evaluation was ended because it promised little.
    """

    number: int
    text: str
    score: float | None
    is_pruned: bool = False


class Outcomes(Population):
    """Every structure a study knows, and what trials within the budget have told, in the order of their numbers."""

    def __init__(self, study: optuna.Study, space: Any) -> None:
        super().__init__(study, space, size=0)
        self._seen: set[int] = set()
        #: Outcomes before this one are where they were when it was last set.
        self._settled = 0
        self.ordered: list[Outcome] = []
        #: The first score of every structure that has one.
        self.scores: dict[str, float] = {}

    def __len__(self) -> int:
        return len(self.scores)

    def best(self) -> Any | None:
        """Return the architecture of the best score, if any."""
        scores = self.scores
        return self._parsed(max(scores, key=lambda text: (scores[text], text))) if scores else None

    def _add(self, record: TrialRecord, structure: str | None) -> None:
        if structure is None:
            return
        self.known.add(structure)
        if not record.state.is_finished() or not record.is_feasible or record.number in self._seen:
            return
        self._seen.add(record.number)
        score = None
        if record.state == TrialState.COMPLETE and record.value is not None and isfinite(record.value):
            score = -self._sign * record.value
            self.scores.setdefault(structure, score)
        outcome = Outcome(record.number, structure, score, record.state == TrialState.PRUNED)
        place = bisect(self.ordered, outcome.number, key=lambda own: own.number)
        self.ordered.insert(place, outcome)
        self._settled = min(self._settled, place)


class Replay(Outcomes, Generic[S]):
    """Outcomes, and the state they lead to.

    Args:
        study, space:
            As for :class:`~zenopt.samplers.population.Population`.
        start:
            The state before the first trial.
        advance:
            Returns the state after one more outcome, and leaves the one it is given as it was.
    """

    def __init__(self, study: optuna.Study, space: Any, start: S, advance: Callable[[S, Outcome], S]) -> None:
        super().__init__(study, space)
        self._advance = advance
        self._start = start
        self.state = start
        #: States that were passed through, with the number of outcomes that led to each.
        self._passed: list[tuple[int, S]] = []

    def sync(self) -> None:
        """Read what is new in the study, and bring the state up to it."""
        done = self._settled
        super().sync()
        if self._settled < done:
            self._passed = [(count, state) for count, state in self._passed if count <= self._settled]
            done, self.state = self._passed[-1] if self._passed else (0, self._start)
        for count, outcome in enumerate(self.ordered[done:], start=done + 1):
            self.state = self._advance(self.state, outcome)
            if count % KEPT_EVERY == 0:
                self._passed = [*self._passed, (count, self.state)][-MOST_KEPT:]
        self._settled = len(self.ordered)
