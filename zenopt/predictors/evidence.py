"""Which groups of inputs, and which scale of the outputs: decided by evidence whenever a process is fitted.

The evidence of a choice is the log marginal likelihood of the values in their own units (the scale's slope counted)
plus the log prior of the hyperparameters, at its maximum. Groups are dropped one by one as long as that raises it;
some are not read at first, and enter if they raise it.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from zenopt.predictors.kernels import Indices, Kernel, Sample
from zenopt.predictors.process import Process
from zenopt.predictors.warp import SHAPES, Warp

Array = NDArray[np.float64]

#: Nats by which a set of groups must be better to be taken for another.
MARGIN = 1.0
#: Fewer observations than this decide nothing: all groups are read that need not enter.
FEWEST = 10
#: Fewer observations than this let none enter: their evidence for a hundred columns misleads.
FEWEST_ENTERING = 30


@dataclass(frozen=True)
class Trial:
    """A choice that was compared: the groups that were read, and their evidence in nats."""

    groups: tuple[str, ...]
    evidence: float


@dataclass(frozen=True)
class Fit:
    """What was chosen.

    Attributes:
        process: Fitted to the warped values.
        warps: The scale of every training length.
        groups: The groups that it reads.
        trials: All that was compared, best first.
    """

    process: Process = field(repr=False)
    warps: tuple[Warp, ...]
    groups: tuple[str, ...]
    trials: tuple[Trial, ...]

    def __str__(self) -> str:
        best = self.trials[0].evidence
        scales = ", ".join(f"{own.power:.2g}" for own in self.warps)
        lines = [f"reads {', '.join(self.groups)}; power of the scale {scales}"]
        if self.process.sample.trend.any():
            lines[0] += f"; trust in the ranking {self.process.hyper[-1]:.2f}"
        lines += [f"  {trial.evidence - best:8.2f} nats  {', '.join(trial.groups)}" for trial in self.trials]
        return "\n".join(lines)


def choose(
    columns: dict[str, Indices],
    shares: tuple[float, ...],
    sample: Sample,
    values: Array,
    *,
    selects: bool = True,
    entering: Collection[str] = (),
) -> Fit:
    """Fit processes on sets of groups and keep the one with most evidence.

    Args:
        columns:
            Positions of every group's columns in ``sample.matrix``.
        shares:
            Training lengths as shares of a full one, ascending, the last 1.
        sample, values:
            The observations; values in their own units, higher is better.
        selects:
            Whether groups may be dropped, or enter.
        entering:
            Groups that are not read unless evidence is for them; all others, unless it is against them.
    """
    names = tuple(columns)
    best = tuple(name for name in names if name not in entering) or names
    outside = [name for name in names if name not in best]
    tried: dict[tuple[str, ...], tuple[float, Process, tuple[Warp, ...]]] = {}

    def evidence(groups: tuple[str, ...]) -> float:
        if groups not in tried:
            kernel = Kernel(tuple(columns[name] for name in groups), shares)
            tried[groups] = fit_scale(kernel, sample, values)
        return tried[groups][0]

    def without_needless(best: tuple[str, ...]) -> tuple[str, ...]:
        while len(best) > 1:
            smaller = [tuple(n for n in best if n != name) for name in best]
            winner = max(smaller, key=evidence)
            if evidence(winner) < evidence(best) + MARGIN:
                break
            best = winner
        return best

    evidence(best)
    if selects and len(values) >= FEWEST:
        best = without_needless(best)
        for name in outside if len(values) >= FEWEST_ENTERING else ():
            larger = tuple(n for n in names if n in best or n == name)
            if evidence(larger) >= evidence(best) + MARGIN:
                best = without_needless(larger)
    order = sorted(tried, key=lambda groups: -tried[groups][0])
    _, process, warps = tried[best]
    return Fit(process, warps, best, tuple(Trial(groups, tried[groups][0]) for groups in order))


def fit_scale(kernel: Kernel, sample: Sample, values: Array) -> tuple[float, Process, tuple[Warp, ...]]:
    """Fit a process and the scale of every training length; return the evidence, the process and the scales."""
    shapes = [SHAPES[0]] * len(kernel.shares)
    start: Array | None = None
    for _ in range(3):
        warps = make_warps(values, sample.levels, shapes)
        process = Process.fit(kernel, sample, warp(values, sample.levels, warps), start)
        start = process.hyper
        better = _better_shapes(process, values, shapes)
        if better == shapes:
            break
        shapes = better
    else:
        warps = make_warps(values, sample.levels, shapes)
        process = Process.fit(kernel, sample, warp(values, sample.levels, warps), start)
    return _score(process, values, warps) + process.log_prior, process, warps


def make_warps(values: Array, levels: Indices, shapes: Sequence[tuple[float, float]]) -> tuple[Warp, ...]:
    """Make the scale of every training length; one without observations has that of the next one that has any."""
    present = sorted(set(levels.tolist()))
    nearest = [min(present, key=lambda own: abs(own - level)) for level in range(len(shapes))]
    return tuple(Warp.of(values[levels == near], *shape) for near, shape in zip(nearest, shapes, strict=True))


def warp(values: Array, levels: Indices, warps: Sequence[Warp]) -> Array:
    """Return values on the scales of their training lengths."""
    result = np.empty(len(values))
    for level, own in enumerate(warps):
        result[levels == level] = own.forward(values[levels == level])
    return result


def _score(process: Process, values: Array, warps: Sequence[Warp]) -> float:
    slopes = sum(
        own.log_slope(values[process.sample.levels == level]).sum() for level, own in enumerate(warps)
    )
    return process.log_likelihood + float(slopes)


def _better_shapes(
    process: Process, values: Array, shapes: list[tuple[float, float]]
) -> list[tuple[float, float]]:
    """Return the shapes of most evidence under given hyperparameters, one training length after the other."""
    levels = process.sample.levels
    best = list(shapes)
    for level in sorted(set(levels.tolist())):
        scores = []
        for shape in SHAPES:
            trial = [*best[:level], shape, *best[level + 1 :]]
            warps = make_warps(values, levels, trial)
            scores.append(_score(process.relabel(warp(values, levels, warps)), values, warps))
        # The present one is kept unless another is clearly better: refitting costs.
        if max(scores) > scores[SHAPES.index(best[level])] + 0.1:
            best[level] = SHAPES[int(np.argmax(scores))]
    return best
