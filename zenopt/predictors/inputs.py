"""What a predictor reads of networks: named columns of numbers, in groups that are judged together."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from zenopt.core.errors import PredictorError
from zenopt.core.text import quoted

Array = NDArray[np.float64]

#: Columns whose spread is below this share of their size are constants.
CONSTANT = 1e-9


def check_groups(wanted: Sequence[str], groups: Sequence[str]) -> None:
    """Raise a :class:`PredictorError` naming the first group of inputs that networks do not have."""
    known = tuple(dict.fromkeys(groups))
    for group in wanted:
        if group not in known:
            raise PredictorError(f"inputs: no group is called {quoted(group)}; there are {', '.join(known)}.")


@dataclass(frozen=True)
class Inputs:
    """Inputs of some networks.

    Attributes:
        names: One per column.
        groups: The group of every column, e.g. ``genes``, ``shape``, ``costs``. Columns of a group share a length-scale
            and are taken or left together.
        matrix: A ``networks x columns`` array, in any units: predictors standardise it.
    """

    names: tuple[str, ...]
    groups: tuple[str, ...]
    matrix: Array = field(repr=False)

    def __post_init__(self) -> None:
        if self.matrix.ndim != 2 or self.matrix.shape[1] != len(self.names):
            raise PredictorError(
                f"Inputs with {len(self.names)} names need a matrix of as many columns, got shape {self.matrix.shape}."
            )
        if len(self.groups) != len(self.names):
            raise PredictorError(f"{len(self.names)} columns need as many groups, got {len(self.groups)}.")
        bad = np.flatnonzero(~np.isfinite(self.matrix).all(axis=0))
        if bad.size:
            raise PredictorError(f"Input {self.names[bad[0]]!r} is not finite for every network.")

    def __len__(self) -> int:
        return len(self.matrix)

    @property
    def group_names(self) -> tuple[str, ...]:
        """Every group once, in the order of its first column."""
        return tuple(dict.fromkeys(self.groups))

    def rows(self, index: Sequence[int] | NDArray[np.intp]) -> Inputs:
        """Return the inputs of some of the networks."""
        return Inputs(self.names, self.groups, self.matrix[np.asarray(index, dtype=np.intp)])

    def join(self, other: Inputs) -> Inputs:
        """Return these networks followed by others with the same columns."""
        if other.names != self.names:
            raise PredictorError("Only inputs of the same columns can be joined.")
        return Inputs(self.names, self.groups, np.concatenate([self.matrix, other.matrix]))


@dataclass(frozen=True)
class Scaling:
    """Make columns comparable: mean 0 and deviation 1 over reference networks.

    Attributes:
        names: Columns it was made for.
        keep: Indices of the columns that vary.
        mean, scale: Of the kept columns.
        groups: The group of every kept column.
    """

    names: tuple[str, ...] = field(repr=False)
    keep: NDArray[np.intp] = field(repr=False)
    mean: Array = field(repr=False)
    scale: Array = field(repr=False)
    groups: tuple[str, ...] = field(repr=False)

    @classmethod
    def of(cls, inputs: Inputs) -> Scaling:
        """Make the scaling of reference networks, best all candidates: no accuracy is read."""
        mean, spread = inputs.matrix.mean(axis=0), inputs.matrix.std(axis=0)
        keep = np.flatnonzero(spread > CONSTANT * (1.0 + np.abs(mean)))
        if not keep.size:
            raise PredictorError("No input differs between the networks: there is nothing to learn from.")
        groups = tuple(inputs.groups[i] for i in keep)
        return cls(inputs.names, keep, mean[keep], spread[keep], groups)

    @property
    def group_names(self) -> tuple[str, ...]:
        """Every group that varies, in the order of its first column."""
        return tuple(dict.fromkeys(self.groups))

    def columns(self, groups: Sequence[str]) -> tuple[NDArray[np.intp], ...]:
        """Return the positions of every group's columns in what :meth:`apply` returns."""
        return tuple(np.flatnonzero([own == group for own in self.groups]) for group in groups)

    def apply(self, inputs: Inputs) -> Array:
        """Return standardised columns, ``networks x kept columns``."""
        if inputs.names != self.names:
            raise PredictorError("These inputs have other columns than those the predictor was made for.")
        return np.asarray((inputs.matrix[:, self.keep] - self.mean) / self.scale, dtype=np.float64)
