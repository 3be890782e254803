"""The estimate of what is left: near the truth, and not climbing while trials get slower."""

from __future__ import annotations

import random
from collections.abc import Callable
from itertools import pairwise

import pytest

from zenopt.progress.time_left import TimeLeft

TRIALS = 300


def shown(durations: list[float]) -> list[tuple[float, float]]:
    """Return (seconds left in truth, seconds left as shown) after every trial."""
    estimate, now, found = TimeLeft(len(durations)), 0.0, []
    total = sum(durations)
    for done, seconds in enumerate(durations, start=1):
        now += seconds
        estimate.update(done, now)
        left = estimate.seconds(now)
        assert left is not None
        found.append((total - now, left))
    return found


def rises(found: list[tuple[float, float]]) -> int:
    return sum(after[1] > before[1] + 1e-6 for before, after in pairwise(found))


def test_equal_trials_are_exact() -> None:
    for true, left in shown([2.0] * TRIALS):
        assert left == pytest.approx(true)


@pytest.mark.parametrize(
    "pace",
    [
        lambda k: 1 + k / 30,
        lambda k: 1 + 3 * k / (k + 40),
        lambda k: 1 + (k / 100) ** 2,
    ],
    ids=["linear", "saturating", "quadratic"],
)
def test_it_does_not_climb_where_trials_get_slower(pace: Callable[[int], float]) -> None:
    durations = [pace(k) for k in range(TRIALS)]
    found = shown(durations)
    assert rises(found) <= 6
    late = found[TRIALS // 2 : -TRIALS // 20]
    assert all(0.5 < left / true < 1.6 for true, left in late)


def test_the_mean_of_all_trials_would_climb() -> None:
    """What the estimate replaces: it says how hard the durations above are."""
    durations = [1 + k / 30 for k in range(TRIALS)]
    total, now, mean = sum(durations), 0.0, []
    for done, seconds in enumerate(durations, start=1):
        now += seconds
        mean.append((total - now, now / done * (TRIALS - done)))
    assert rises(mean) > 100 > 6 >= rises(shown(durations))


def test_noise_moves_it_little() -> None:
    rng = random.Random(3)
    found = shown([rng.lognormvariate(0, 0.5) for _ in range(TRIALS)])
    assert rises(found) <= 6
    assert all(0.5 < left / true < 1.8 for true, left in found[TRIALS // 5 : -TRIALS // 10])


def test_a_stuck_trial_is_no_pace() -> None:
    durations = [1.0] * 100
    durations[40] = 60.0
    assert shown(durations)[45][1] < 100


def test_a_slow_start_is_forgotten() -> None:
    assert shown([30.0, *[1.0] * 50])[3][1] == pytest.approx(47)


def test_a_much_slower_second_half_is_admitted() -> None:
    found = shown([1.0] * 150 + [4.0] * 150)
    assert found[220][1] > 0.6 * found[220][0]


def test_a_limit_counts_down_by_itself() -> None:
    estimate = TimeLeft(None, 60.0)
    assert estimate.seconds(12.5) == 47.5 and estimate.seconds(70) == 0
    estimate = TimeLeft(1000, 60.0)
    estimate.update(900, 9.0)
    assert estimate.seconds(9.0) == pytest.approx(1.0)


def test_nobody_knows_before_anything_is_done() -> None:
    assert TimeLeft(10).seconds(3.0) is None
    unknown = TimeLeft(None)
    unknown.update(5, 1.0)
    assert unknown.seconds(1.0) is None
