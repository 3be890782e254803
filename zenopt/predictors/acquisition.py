"""What a further training is worth: expected improvements of one or several objectives, and of training again.

All on the standardised scale, higher is better. Improvement is over the best posterior mean among trained networks, not
over the luckiest number. Jones, Schonlau & Welch, "Efficient Global Optimization", 1998; Emmerich, Deutz & Klinkenberg,
"Hypervolume-based expected improvement", 2011; Frazier, Powell & Dayanik, "The Knowledge-Gradient Policy for Correlated
Normal Beliefs", 2009; Deng & Zhang, "Approximating hypervolume and hypervolume contributions using polar coordinate",
2019.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr

from zenopt.core.errors import PredictorError

Array = NDArray[np.float64]

#: Nodes of the quadrature over what a repeated training may show.
NODES = 41
#: Joint draws of the objectives per candidate, where there are more than two.
DRAWS = 64


def expected_excess(mean: Array, deviation: Array, threshold: float) -> Array:
    """Return E[max(value - threshold, 0)] of normal values; a deviation of 0 is a known value."""
    gain = np.asarray(mean, dtype=np.float64) - threshold
    spread = np.maximum(np.broadcast_to(deviation, gain.shape), 1e-12)
    place = np.clip(gain / spread, -38.0, 38.0)
    density = np.exp(-0.5 * place**2) / math.sqrt(2.0 * math.pi)
    return np.asarray(gain * ndtr(place) + spread * density, dtype=np.float64)


def gain_of_repeats(mean: Array, covariance: Array, noise: float | Array) -> Array:
    """Return what one more training of each trained network adds to the expected true value of the winner.

    Args:
        mean:
            Posterior means of the trained networks.
        covariance:
            Their joint posterior covariance.
        noise:
            Variance of one training.
    """
    nodes, weights = np.polynomial.hermite_e.hermegauss(NODES)
    weights = weights / weights.sum()
    variance = np.diagonal(covariance)
    moves = covariance / np.sqrt(np.maximum(variance + noise, 1e-12))
    # What network j shows moves every network i by moves[i, j] standard normals.
    best = np.stack([(mean[:, None] + np.outer(column, nodes)).max(axis=0) @ weights for column in moves.T])
    return np.asarray(np.maximum(best - mean.max(), 0.0), dtype=np.float64)


def pareto_front(values: Array) -> Array:
    """Return the points of ``count x objectives`` that no other dominates, each once, by the first objective."""
    unique = np.unique(values, axis=0)
    dominated = [bool(((unique >= own).all(axis=1) & (unique > own).any(axis=1)).any()) for own in unique]
    return np.asarray(unique[~np.array(dominated, dtype=bool)])


def expected_hypervolume_gain(
    means: tuple[Array, Array], deviations: tuple[Array, Array], front: Array, reference: tuple[float, float]
) -> Array:
    """Return how much two independent normal objectives are expected to add to the dominated area; exact.

    The area is cut into strips between the front's points; in each it grows by a product of two excesses.

    Args:
        means, deviations:
            Of both objectives of the candidates; a known objective (a cost) has deviation 0.
        front:
            The present front, ``points x 2``.
        reference:
            The worst point that counts.
    """
    inside = front[(front > np.asarray(reference)).all(axis=1)]
    inside = inside[np.argsort(inside[:, 0])] if len(inside) else np.empty((0, 2))
    lefts = [reference[0], *inside[:, 0].tolist()]
    heights = [*inside[:, 1].tolist(), reference[1]]
    beyond = [expected_excess(means[0], deviations[0], left) for left in lefts]
    beyond.append(np.zeros_like(beyond[0]))
    total = np.zeros_like(beyond[0])
    for index, height in enumerate(heights):
        total += (beyond[index] - beyond[index + 1]) * expected_excess(means[1], deviations[1], height)
    return total


def expected_scalar_gain(
    means: Array, deviations: Array, front: Array, reference: Array, rng: np.random.Generator
) -> Array:
    """Return the expected gain of one random scalarisation, for three objectives or more.

    ``min over objectives of (value - reference) / weight`` with weights of a random direction: its power, averaged over
    directions, is the dominated hypervolume. All candidates see the same normal draws.

    Args:
        means, deviations:
            ``candidates x objectives``.
        front:
            The present front, ``points x objectives``.
        reference:
            The worst point that counts.
    """
    if means.shape != deviations.shape or means.shape[1] != len(reference):
        raise PredictorError(
            f"{len(reference)} objectives, but means {means.shape} and deviations {deviations.shape}."
        )
    size = means.shape[1]
    weight = np.abs(rng.normal(size=size))
    weight = np.maximum(weight / np.linalg.norm(weight), 1e-3)
    draws = rng.normal(size=(DRAWS // 2, size))
    present = ((front - reference) / weight).min(axis=1).max() if len(front) else 0.0
    total = np.zeros(len(means))
    for draw in np.concatenate([draws, -draws]):
        reached = ((means + deviations * draw - reference) / weight).min(axis=1)
        total += np.maximum(reached - max(present, 0.0), 0.0)
    return total / (2 * len(draws))
