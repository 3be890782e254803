"""What the numbers of a study say: fronts, running bests, survivors, importances. Arrays in, arrays out."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Any

import numpy as np
from optuna.trial import TrialState

from zenopt.core.errors import StructureError
from zenopt.report.reading import StudyData

#: Moments at which the survivors are looked at, and how many of them are taken apart at each.
_MOMENTS, _SAMPLE = 24, 160
_SURVIVING_SHARE, _FEWEST_SURVIVORS = 0.1, 20
#: Candidates that are sorted into fronts where there are several objectives.
_SORTED = 8000


def running_best(data: StudyData) -> tuple[np.ndarray, np.ndarray]:
    """Return the positions of the candidates that were the best so far when they ended, and their values."""
    positions = np.flatnonzero(data.scored)
    values = data.values[positions]
    best = np.maximum.accumulate(values) if data.maximize else np.minimum.accumulate(values)
    is_new = np.ones(len(values), dtype=bool)
    is_new[1:] = best[1:] != best[:-1]
    return positions[is_new], values[is_new]


def pareto_front(costs: np.ndarray, values: np.ndarray, maximize: bool) -> np.ndarray:
    """Return the indices of what nothing beats in both low cost and good value, by ascending cost."""
    sign = -1.0 if maximize else 1.0
    order = np.lexsort((sign * values, costs))
    ranked = sign * values[order]
    before = np.concatenate(([np.inf], np.minimum.accumulate(ranked)[:-1]))
    return order[ranked < before]


def rank_correlation(first: np.ndarray, second: np.ndarray) -> float:
    """Return Spearman's rank correlation (ties get their mean rank); NaN below three pairs or without spread."""
    if len(first) < 3:
        return float("nan")
    a, b = _ranks(first), _ranks(second)
    if a.std() == 0 or b.std() == 0:
        return float("nan")
    return float(np.corrcoef(a, b)[0, 1])


def feasible_share(data: StudyData, windows: int = 60) -> tuple[np.ndarray, np.ndarray]:
    """Return the share of finished trials within the budget, per window of consecutive trials.

    Returns:
        Number of the last trial of each window, and the shares.
    """
    finished = np.flatnonzero(data.in_state(TrialState.COMPLETE) | data.in_state(TrialState.PRUNED))
    if not len(finished):
        return np.array([]), np.array([])
    parts = np.array_split(finished, max(1, min(windows, len(finished) // 10)))
    shares = np.array([data.feasible[part].mean() for part in parts])
    return np.array([data.numbers[part[-1]] for part in parts]), shares


def thin_out(positions: np.ndarray, keep: np.ndarray, limit: int, seed: int = 0) -> np.ndarray:
    """Return at most ``limit`` positions (more only if ``keep`` has more): all of ``keep``, and a uniform sample."""
    if len(positions) <= limit:
        return positions
    keep = np.intersect1d(keep, positions)
    rest = np.setdiff1d(positions, keep)
    drawn = np.random.default_rng(seed).choice(rest, max(0, limit - len(keep)), replace=False)
    return np.sort(np.concatenate((keep, drawn)))


@dataclass(frozen=True, eq=False)
class StageHistory:
    """One stage of the survivors over time; arrays have one entry per moment.

    Attributes:
        width, bottleneck, depth: Quartiles (3 x moments) of block width and bottleneck in channels, and of the stage's
            summed depth.
        kernels, types: Share of the stage's depth by kernel size and by block type.
    """

    width: np.ndarray
    bottleneck: np.ndarray
    depth: np.ndarray
    kernels: dict[str, np.ndarray]
    types: dict[str, np.ndarray]


@dataclass(frozen=True, eq=False)
class Survivors:
    """What the best candidates looked like as the search went on.

    Attributes:
        numbers: Trial number of each moment.
        counts: How many candidates survived at each moment.
        stages: Histories of the stages, first stage first.
    """

    numbers: np.ndarray
    counts: np.ndarray
    stages: tuple[StageHistory, ...]


def survivors(data: StudyData) -> Survivors | None:
    """Follow the best tenth of the candidates (at least 20, at most the sampler's population) over the search.

    With several objectives the best are those of the first fronts.

    Of each moment's survivors a uniform sample is taken apart. Only chains of super-blocks have stages.

    Returns:
        The histories, or ``None`` where there are too few candidates or no stages.
    """
    positions = np.flatnonzero(
        data.scored & np.array([text is not None for text in data.structures], dtype=bool)
    )
    if data.is_multi:
        positions = thin_out(positions, data.front, _SORTED)
    if len(positions) < _FEWEST_SURVIVORS:
        return None
    space = data.spec.build_space()
    if not hasattr(space, "stages"):
        return None
    moments = np.unique(np.geomspace(_FEWEST_SURVIVORS, len(positions), _MOMENTS).astype(int))
    stages: dict[str, Any] = {}
    samples, counts = [], []
    for moment in moments:
        share = max(_FEWEST_SURVIVORS, int(_SURVIVING_SHARE * moment))
        count = min(share, data.spec.sampler.population, int(moment))
        best = data.best_of(positions[:moment], count)
        chosen = best[np.unique(np.linspace(0, count - 1, min(count, _SAMPLE)).astype(int))]
        found = []
        for position in chosen:
            text = data.structures[position]
            if text not in stages:
                stages[str(text)] = _stages_of(space, text)
            found.append(stages[str(text)])
        samples.append([item for item in found if item is not None])
        counts.append(count)
    if not all(samples):
        return None
    depth = max(len(item) for sample in samples for item in sample)
    return Survivors(
        numbers=data.numbers[positions[moments - 1]],
        counts=np.array(counts),
        stages=tuple(
            _history([[item[i] for item in sample if i < len(item)] for sample in samples])
            for i in range(depth)
        ),
    )


def _ranks(values: np.ndarray) -> np.ndarray:
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    ends = np.cumsum(counts)
    return np.asarray((ends - (counts - 1) / 2.0)[inverse])


def _stages_of(space: Any, text: str | None) -> Any:
    try:
        return space.stages(space.parse(text))
    except StructureError:
        # An earlier version of the space may have allowed what this one does not.
        return None


def _history(samples: list[list[Any]]) -> StageHistory:
    """Summarise one stage: a list of moments, each a list of candidates, each a list of blocks."""
    widths, bottlenecks, depths = [], [], []
    kernels: list[Counter[str]] = []
    types: list[Counter[str]] = []
    for sample in samples:
        blocks = [block for stage in sample for block in stage]
        widths.append(_quartiles([block.out_channels for block in blocks]))
        bottlenecks.append(_quartiles([block.bottleneck for block in blocks]))
        depths.append(_quartiles([sum(block.depth for block in stage) for stage in sample]))
        kernels.append(
            _shares((str(block.kernel), block.depth) for block in blocks if hasattr(block, "kernel"))
        )
        types.append(_shares((block.label, block.depth) for block in blocks))
    return StageHistory(
        width=np.array(widths).T,
        bottleneck=np.array(bottlenecks).T,
        depth=np.array(depths).T,
        kernels=_table(kernels),
        types=_table(types),
    )


def _quartiles(values: list[int]) -> np.ndarray:
    return np.percentile(values, (25, 50, 75)) if values else np.full(3, np.nan)


def _shares(pairs: Any) -> Counter[str]:
    weights: Counter[str] = Counter()
    for name, weight in pairs:
        weights[name] += weight
    return weights


def _table(rows: list[Counter[str]]) -> dict[str, np.ndarray]:
    names = sorted({name for row in rows for name in row})
    totals = np.array([max(1, sum(row.values())) for row in rows])
    return {name: np.array([row[name] for row in rows]) / totals for name in names}
