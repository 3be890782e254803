"""Which parameters decide whether a candidate is among the best: PED-ANOVA on a sample of trials.

Watanabe, Bansal, Hutter: "PED-ANOVA: Efficiently Quantifying Hyperparameter Importance in Arbitrary Subspaces",
IJCAI 2023. The importance of a parameter is the Pearson divergence between its density among the best and among all
candidates.

Differences from Optuna's evaluator, which loads scikit-learn first: densities are smoothed histograms on a grid
instead of Parzen estimators, and "this slot is not filled" is one more value of a parameter, because in these spaces it
is a choice.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution
from optuna.trial import FrozenTrial

from zenopt.report.analysis import thin_out
from zenopt.report.reading import StudyData
from zenopt.storage.history import read_trials

#: Trials whose parameters are read: the estimate hardly moves with more, and reading costs most.
SAMPLE = 1200
#: Candidates below which nothing is said.
FEWEST = 20
BEST_SHARE = 0.1
_CELLS = 32


@dataclass(frozen=True, eq=False)
class Sample:
    """Candidates of a study with their parameters.

    Attributes:
        trials: The trials, whole.
        positions: Where they are in the study's columns.
    """

    trials: list[FrozenTrial]
    positions: np.ndarray


def read_parameters(study: optuna.Study, data: StudyData, seed: int = 0) -> Sample:
    """Read the parameters of a uniform sample of the candidates.

    Args:
        study:
            The study.
        data:
            What was read of it.
        seed:
            Seed of the sample.
    """
    chosen = thin_out(np.flatnonzero(data.scored), np.array([], dtype=int), SAMPLE, seed)
    trials = [trial for trial in read_trials(study, data.ids[chosen]) if trial.params]
    position_of = dict(zip(data.ids[chosen].tolist(), chosen.tolist(), strict=True))
    return Sample(trials, np.array([position_of[trial._trial_id] for trial in trials], dtype=int))


def importances(data: StudyData, sample: Sample) -> dict[str, float]:
    """Estimate the importance of each parameter for being among the best tenth of the candidates.

    Args:
        data:
            What was read of the study.
        sample:
            What :func:`read_parameters` read of it.

    Returns:
        Importance by parameter, largest first, summing to 1. Nothing where there are fewer than 20 candidates or all
        are equally good.
    """
    if len(sample.trials) < FEWEST:
        return {}
    is_best = _best(data, sample.positions)
    if is_best.all():
        return {}
    found = {}
    for name, distribution in distributions_of(sample).items():
        cells, count = _cells(sample.trials, name, distribution)
        smooth = not isinstance(distribution, CategoricalDistribution)
        found[name] = _divergence(_density(cells[is_best], count, smooth), _density(cells, count, smooth))
    total = sum(found.values())
    if total <= 0.0:
        return {}
    return {name: value / total for name, value in sorted(found.items(), key=lambda item: -item[1])}


def _best(data: StudyData, positions: np.ndarray) -> np.ndarray:
    """Return which candidates are the best tenth: by score, ties included, or by front."""
    count = max(5, int(BEST_SHARE * len(positions)))
    if data.is_multi:
        return np.isin(positions, data.best_of(positions, count))
    scores = data.points(positions)[:, 0]
    return np.asarray(scores >= np.sort(scores)[-count])


def distributions_of(sample: Sample) -> dict[str, BaseDistribution]:
    """Return the distribution of every parameter of the sample, by name."""
    found: dict[str, BaseDistribution] = {}
    for trial in sample.trials:
        found.update(trial.distributions)
    return dict(sorted(found.items()))


def _cells(sample: list[FrozenTrial], name: str, distribution: Any) -> tuple[np.ndarray, int]:
    """Return the grid cell of the parameter in each trial, -1 where it is absent, and the number of cells."""
    if isinstance(distribution, CategoricalDistribution):
        index = {str(choice): cell for cell, choice in enumerate(distribution.choices)}
        cells = [index[str(trial.params[name])] if name in trial.params else -1 for trial in sample]
        return np.array(cells), len(index)
    scale = math.log if distribution.log else float
    low, high = scale(distribution.low), scale(distribution.high)
    values = np.array([scale(trial.params[name]) if name in trial.params else np.nan for trial in sample])
    if not high > low:
        return np.where(np.isnan(values), -1, 0), 1
    steps = (
        _CELLS if distribution.log or not distribution.step else round((high - low) / distribution.step) + 1
    )
    count = min(_CELLS, steps)
    cells = np.clip((np.nan_to_num(values, nan=low) - low) / (high - low) * count, 0, count - 1).astype(int)
    return np.where(np.isnan(values), -1, cells), count


def _density(cells: np.ndarray, count: int, smooth: bool) -> np.ndarray:
    """Return the share of each cell, with one prior observation spread evenly; the last cell is "absent"."""
    counts = np.bincount(cells[cells >= 0], minlength=count).astype(float)
    present = counts.sum()
    if smooth and count > 2 and present > 1:
        # Scott's rule, in cells, as Optuna's estimator has it.
        grid = np.arange(count)
        mean = (counts @ grid) / present
        width = max(0.5, math.sqrt((counts @ (grid - mean) ** 2) / present) * present**-0.2)
        kernel = np.exp(-0.5 * ((grid[:, None] - grid[None, :]) / width) ** 2)
        counts = (kernel / kernel.sum(axis=0)) @ counts
    absent = float((cells < 0).sum())
    shares = np.append(counts, absent) + 1.0 / (count + 1)
    return np.asarray(shares / shares.sum())


def _divergence(best: np.ndarray, everyone: np.ndarray) -> float:
    return float(np.sum(everyone * (best / everyone - 1.0) ** 2))
