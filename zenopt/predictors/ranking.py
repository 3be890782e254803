"""Cheap rankings: an input whose larger values are thought better before anything is trained.

``log MACs`` ranks by one input; ``zen at equal convolutions`` by one among networks that are alike in another. The
Zen-score asks for depth, which trains badly in small networks; among networks of one depth it may say much more. Of 58
random networks of ``cifar-small``, trained for six epochs, Kendall's tau with accuracy was .31 for the score, -.19 for
MACs and .57 for the score at equal convolutions; in a wider space -.36, .18 and .01 (docs/results.md).

Where it is not known which ranking is the better one, several are named, ``zen at equal convolutions and log MACs``: a
search begins with each of them in turn.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtri

from zenopt.core.errors import PredictorError
from zenopt.core.text import quoted
from zenopt.predictors.inputs import Inputs
from zenopt.predictors.paths import PATHS

Array = NDArray[np.float64]

#: Between an input and the one that is held equal, and between rankings.
AT_EQUAL, AND = " at equal ", " and "
#: Reference networks that a network is compared with where few are equal: as many, or this share of all, are nearest.
FEWEST_NEAR, SHARE_NEAR = 30, 0.01


def rankings(names: Sequence[str], groups: Sequence[str]) -> list[str]:
    """Return the inputs that say something alone, so that networks can be ranked by them."""
    return [name for name, group in zip(names, groups, strict=True) if group != PATHS]


def parts(
    ranking: str, names: Sequence[str], groups: Sequence[str], where: str = "ranking"
) -> list[list[str]]:
    """Return the rankings of a text: of each its input, and the one that is held equal if there is one.

    Raises:
        PredictorError: If an input is none of ``names``, or says nothing alone.
    """
    allowed = rankings(names, groups)
    # Names that somebody else chose, e.g. of an earlier study, may hold the words between names.
    each = [ranking] if ranking in allowed else ranking.split(AND)
    found = [[own] if own in allowed else own.split(AT_EQUAL, 1) for own in each]
    for own in found:
        for name in own:
            if name not in allowed:
                raise PredictorError(
                    f"{where}: no input is called {quoted(name)}; there are auto, none, {', '.join(allowed)}, one of "
                    f"them{AT_EQUAL}another, and several rankings with{AND}between."
                )
    return found


@dataclass(frozen=True)
class Ranking:
    """Networks ranked by an input among reference networks, as normal scores.

    Attributes:
        column: Position of the input.
        equal: Position of the input that compared networks have in common; ``None`` compares all.
        values: Of the reference networks: one array, ascending; with ``equal`` in the order of ``levels``.
        levels: What the reference networks have of the input ``equal``, ascending.
    """

    column: int
    equal: int | None
    values: Array = field(repr=False)
    levels: Array = field(repr=False)

    @classmethod
    def all_of(cls, inputs: Inputs, ranking: str) -> tuple[Ranking, ...]:
        """Make the rankings of a text among reference networks.

        Raises:
            PredictorError: If there is no such input.
        """
        return tuple(cls._of(inputs, *own) for own in parts(ranking, inputs.names, inputs.groups))

    @classmethod
    def _of(cls, inputs: Inputs, name: str, equal: str | None = None) -> Ranking:
        column = inputs.names.index(name)
        values = inputs.matrix[:, column]
        if equal is None:
            return cls(column, None, np.sort(values), np.empty(0))
        other = inputs.names.index(equal)
        levels = inputs.matrix[:, other]
        order = np.argsort(levels, kind="stable")
        return cls(column, other, values[order], levels[order])

    def scores(self, inputs: Inputs) -> Array:
        """Return normal scores: 0 in the middle of the compared networks, 1 above 84 % of them."""
        values = inputs.matrix[:, self.column]
        if self.equal is None:
            return _normal_scores(values, self.values)
        found = np.empty(len(values))
        own = inputs.matrix[:, self.equal]
        for level in np.unique(own):
            index = np.flatnonzero(own == level)
            found[index] = _normal_scores(values[index], np.sort(self._near(float(level))))
        return found

    def _near(self, level: float) -> Array:
        """Return values of the reference networks of a level, of the nearest where those are few."""
        size = len(self.levels)
        low, high = (int(np.searchsorted(self.levels, level, side)) for side in ("left", "right"))
        wanted = min(size, max(FEWEST_NEAR, round(SHARE_NEAR * size)))
        while high - low < wanted:
            below = level - self.levels[low - 1] if low else np.inf
            above = self.levels[high] - level if high < size else np.inf
            low, high = (low - 1, high) if below < above else (low, high + 1)
        return self.values[low:high]


def _normal_scores(values: Array, reference: Array) -> Array:
    size = len(reference)
    below = np.searchsorted(reference, values, "left") + np.searchsorted(reference, values, "right")
    return np.asarray(ndtri(np.clip(below / (2 * size), 0.5 / size, 1 - 0.5 / size)), dtype=np.float64)
