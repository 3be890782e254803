"""What a study has told so far, as observations of a predictor: full trainings, short ones, and what runs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from math import isfinite, log
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from optuna.study import StudyDirection
from optuna.trial import TrialState

from zenopt.predictors.inputs import Inputs
from zenopt.predictors.networks import Reader
from zenopt.predictors.observations import Observations
from zenopt.samplers.population import Population
from zenopt.storage.records import TrialRecord

if TYPE_CHECKING:
    import optuna

Array = NDArray[np.float64]

#: Trial user attribute: the network a learned search has proposed, for other workers to see before it is evaluated.
PROPOSED_KEY = "proposed"
DUPLICATE_KEY = "duplicate_of"
#: Lengths of short trainings that are told apart; of more, each counts for the nearest of :data:`SHARES`.
MOST_LENGTHS = 4
SHARES = (1 / 16, 1 / 8, 1 / 4, 1 / 2)
#: Full trainings whose values at those steps are read too: they say what a short training is worth.
CURVES = 64


@dataclass(frozen=True)
class Told:
    """A trial that has a value.

    Attributes:
        text: The network.
        values: Of every objective, higher is better; of a short training its last intermediate one.
        step: Step at which a short training ended; ``None`` for a full one.
        record: The trial.
    """

    text: str
    values: tuple[float, ...]
    step: int | None
    record: TrialRecord = field(repr=False)


class ToldPopulation(Population):
    """Follows a study for a predictor.

    Args:
        study:
            The study.
        space:
            Parses structures, and decodes trials that carry parameters but no structure.
        reader:
            Reads the networks.
        last_step:
            Step with which a full training ends; by default that of the longest one.
    """

    keys: ClassVar[tuple[str, ...]] = (PROPOSED_KEY, DUPLICATE_KEY)

    def __init__(self, study: optuna.Study, space: Any, reader: Reader, last_step: int | None = None) -> None:
        super().__init__(study, space, size=0)
        self._study = study
        self._reader = reader
        self._last_step = last_step
        self._signs = [1.0 if item == StudyDirection.MAXIMIZE else -1.0 for item in study.directions]
        self._rows: dict[str, Array] = {}
        self._curves: dict[int, dict[int, float]] = {}
        self.told: list[Told] = []
        #: Networks of running trials by number; ``None`` where a worker has not said yet.
        self.running: dict[int, str | None] = {}

    @property
    def known_in_order(self) -> list[str]:
        """Known networks, in an order that does not depend on the process."""
        return sorted(self.known)

    @property
    def full(self) -> list[Told]:
        """Full trainings, in the order they were told."""
        return [own for own in self.told if own.step is None]

    def sync(self) -> None:
        """Read what is new in the study."""
        records = self._history.sync()
        unnamed = [record for record in records if record.structure is None]
        with_params = {record.trial_id: record for record in self._history.with_params(unnamed)}
        for record in (with_params.get(record.trial_id, record) for record in records):
            text = record.structure or record.user_attrs.get(PROPOSED_KEY) or self._decode(record)
            self.running.pop(record.number, None)
            if record.state == TrialState.RUNNING:
                self.running[record.number] = text
            if record.state.is_finished():
                self._claims.pop(record.number, None)
            elif text is not None:
                self._claims[record.number] = text
            if text is not None:
                self.known.add(text)
                self._tell(record, text)

    def claim(self, number: int, text: str) -> None:
        """Take a proposal of this process for running."""
        self._claims[number] = text
        self.running[number] = text
        self.known.add(text)

    def release(self, number: int) -> None:
        """Forget what an unfinished trial had claimed, for it is to be proposed for again."""
        super().release(number)
        self.running.pop(number, None)

    def _tell(self, record: TrialRecord, text: str) -> None:
        # What was reused is not a second training.
        if not record.is_feasible or DUPLICATE_KEY in record.user_attrs:
            return
        if record.state == TrialState.COMPLETE and record.values is not None:
            if all(map(isfinite, record.values)):
                values = tuple(sign * value for sign, value in zip(self._signs, record.values, strict=True))
                self.told.append(Told(text, values, None, record))
        elif record.state == TrialState.PRUNED:
            curve = self._curve(record)
            if curve:
                step = max(curve)
                self.told.append(Told(text, (curve[step],), step, record))

    def _curve(self, record: TrialRecord) -> dict[int, float]:
        """Return the intermediate values of a finished trial, higher is better; read once."""
        if record.trial_id not in self._curves:
            found = self._study._storage.get_trial(record.trial_id).intermediate_values
            curve = {step: self._signs[0] * value for step, value in found.items() if isfinite(value)}
            self._curves[record.trial_id] = curve
        return self._curves[record.trial_id]

    # -- observations -----------------------------------------------------------------------------------------------

    def observations(self, objective: int = 0) -> Observations:
        """Return what was told of an objective, in the order of the trials."""
        steps = sorted({own.step for own in self.told if own.step is not None})
        # Where nothing was pruned nobody needs the curves.
        full = self.full[:CURVES] if steps and objective == 0 else []
        curves = {own.record.number: self._curve(own.record) for own in full}
        last = self._last_step or max([0, *(step for curve in curves.values() for step in curve)])
        share_of = {step: _share(step, max(last, step + 1), len(steps)) for step in steps}
        texts: list[str] = []
        values: list[float] = []
        shares: list[float] = []
        for own in self.told:
            entries = (
                {1.0: own.values[objective]} if own.step is None else {share_of[own.step]: own.values[0]}
            )
            curve = curves.get(own.record.number, {})
            entries = {**{share_of[step]: curve[step] for step in steps if step in curve}, **entries}
            for share, value in entries.items():
                texts.append(own.text)
                values.append(value)
                shares.append(share)
        return Observations.of(self.inputs(texts), texts, values, shares)

    def pending(self) -> Observations | None:
        """Return what runs and is known, as full trainings without values."""
        texts = sorted({text for text in self.running.values() if text is not None})
        if not texts:
            return None
        return Observations.of(self.inputs(texts), texts, np.zeros(len(texts)))

    def inputs(self, texts: Sequence[str]) -> Inputs:
        """Return the inputs of networks by text; every network is read once."""
        new = [text for text in dict.fromkeys(texts) if text not in self._rows]
        if new:
            found = self._reader.read([self._parsed(text) for text in new])
            self._rows.update(zip(new, found.matrix, strict=True))
        names, groups = self._reader.names, self._reader.groups
        matrix = np.array([self._rows[text] for text in texts], dtype=np.float64)
        return Inputs(names, groups, matrix.reshape(len(texts), len(names)))

    def parsed(self, text: str) -> Any:
        """Return the architecture of a text."""
        return self._parsed(text)


def _share(step: int, last: int, lengths: int) -> float:
    """Return the share of a full training that a shorter one is; step 0 counts for half a step."""
    share = max(step, 0.5) / last
    if lengths > MOST_LENGTHS:
        share = min(SHARES, key=lambda own: abs(log(own / share)))
    return share
