"""What was trained: networks, the values training showed, and how long and how often each was trained."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from zenopt.core.errors import PredictorError
from zenopt.predictors.inputs import Inputs

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Observations:
    """Trainings, in the order in which they were told; a network trained twice is there twice.

    Attributes:
        inputs: Of the network of every training.
        networks: Which network it was, e.g. its canonical text: what is trained again has the same one.
        values: What training showed, higher is better, in any units.
        shares: Length of the training as a share of a full one, in (0, 1].
        repeats: Trainings whose mean the value is; its noise variance is that of one divided by this.
    """

    inputs: Inputs = field(repr=False)
    networks: tuple[Hashable, ...] = field(repr=False)
    values: Array = field(repr=False)
    shares: Array = field(repr=False)
    repeats: Array = field(repr=False)

    @classmethod
    def of(
        cls,
        inputs: Inputs,
        networks: Sequence[Hashable],
        values: Sequence[float] | Array,
        shares: Sequence[float] | Array | None = None,
        repeats: Sequence[float] | Array | None = None,
    ) -> Observations:
        """Make observations; full trainings, once each, unless said otherwise.

        Raises:
            PredictorError: If counts differ or a number is unsuitable.
        """
        count = len(inputs)
        full = np.ones(count)
        made = cls(
            inputs,
            tuple(networks),
            np.asarray(values, dtype=np.float64),
            full if shares is None else np.asarray(shares, dtype=np.float64),
            full if repeats is None else np.asarray(repeats, dtype=np.float64),
        )
        for name in ("networks", "values", "shares", "repeats"):
            if len(getattr(made, name)) != count:
                raise PredictorError(
                    f"{count} trainings need as many {name}, got {len(getattr(made, name))}."
                )
        if not np.isfinite(made.values).all():
            raise PredictorError("The value of a training must be finite; leave failed trainings out.")
        if not ((made.shares > 0.0) & (made.shares <= 1.0)).all():
            raise PredictorError("The length of a training is a share of a full one, in (0, 1].")
        if not (made.repeats >= 1.0).all():
            raise PredictorError("A value is the mean of at least one training.")
        return made

    def __len__(self) -> int:
        return len(self.values)

    def first(self, count: int) -> Observations:
        """Return the first trainings."""
        keep = slice(0, count)
        return Observations(
            self.inputs.rows(np.arange(count)),
            self.networks[keep],
            self.values[keep],
            self.shares[keep],
            self.repeats[keep],
        )
