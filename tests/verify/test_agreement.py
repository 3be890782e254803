from __future__ import annotations

import numpy as np
import pytest

from zenopt.train.data import DataSet
from zenopt.train.errors import TrainError
from zenopt.train.subsets import hold_back
from zenopt.verify.agreement import rank_agreement


def test_agreement_and_its_intervals() -> None:
    random = np.random.default_rng(1)
    worth = np.linspace(50, 60, 30)
    facts = [{"good": w, "bad": -w, "noise": float(random.normal())} for w in worth]
    accuracies = [list(w + random.normal(0, 0.5, 3)) for w in worth]
    good, bad, noise = rank_agreement(facts, accuracies, resamples=300)
    assert good.spearman > 0.95 and bad.spearman == pytest.approx(-good.spearman)
    assert good.spearman_interval[0] <= good.spearman <= good.spearman_interval[1]
    constant = rank_agreement([{"same": 1.0}] * 4, [[1.0], [2.0], [3.0], [4.0]], resamples=10)[0]
    assert np.isnan(constant.spearman) and np.isnan(constant.kendall_interval[0])
    assert noise.spearman_interval[0] < 0 < noise.spearman_interval[1]
    # Noisier seeds widen the interval.
    loose = rank_agreement(facts, [list(w + random.normal(0, 8, 3)) for w in worth], resamples=300)[0]
    assert np.ptp(loose.spearman_interval) > 2 * np.ptp(good.spearman_interval)
    with pytest.raises(TrainError, match="at least 3 networks"):
        rank_agreement(facts[:2], accuracies[:2])


def test_held_back_images_are_training_images(patches: DataSet) -> None:
    split = hold_back(patches, 0.25)
    assert len(split.train) == 72 and len(split.test) == 24
    own = {patches.train.load(i).numpy().tobytes() for i in range(len(patches.train))}
    parts = [{part.load(i).numpy().tobytes() for i in range(len(part))} for part in (split.train, split.test)]
    assert parts[0] | parts[1] == own and not parts[0] & parts[1]
    with pytest.raises(TrainError, match="Cannot hold back"):
        hold_back(patches, 0.0)
