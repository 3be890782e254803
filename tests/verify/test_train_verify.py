from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from zenopt.train.data import DataSet
from zenopt.train.errors import TrainError
from zenopt.train.recipe import load_recipe
from zenopt.verify.agreement import rank_agreement
from zenopt.verify.trainings import Candidate, choose_learning_rates, hold_back, train_briefly

WIDE = "SuperConvK3BNRELU(3,16,1,1)SuperResK3K3(16,16,2,16,1)SuperConvK1BNRELU(16,24,1,1)"
THIN = "SuperConvK3BNRELU(3,8,2,1)SuperConvK1BNRELU(8,8,1,1)"


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


def test_networks_are_trained_recorded_continued_and_stopped(patches: DataSet, tmp_path: Path) -> None:
    recipe = load_recipe(
        "basic",
        ["epochs=5", "batch_size=16", "optimizer.lr=0.8", "augment.flip=0", "schedule.warmup_epochs=1"],
    )
    candidates = [Candidate("wide", WIDE, {"zen": 2.0}), Candidate("thin", THIN, {"zen": 1.0})]
    seen = []

    def stop_thin(candidate: Candidate, seed: int, epoch: int, top1: float) -> bool:
        seen.append((candidate.label, seed, epoch))
        return candidate.label == "thin" and epoch == 2

    rows = train_briefly(
        candidates, patches, recipe, resolution=16, output=tmp_path, seeds=(0, 1), should_stop=stop_thin
    )
    assert [(row.candidate.label, row.seed, row.epochs, row.stopped) for row in rows] == [
        ("wide", 0, 5, False),
        ("wide", 1, 5, False),
        ("thin", 0, 2, True),
        ("thin", 1, 2, True),
    ]
    assert rows[0].curve != rows[1].curve and rows[0].top1 == rows[0].curve[-1]
    assert len(seen) == 14
    # Done runs are read, stopped ones go on to the end.
    again = train_briefly(candidates, patches, recipe, resolution=16, output=tmp_path, seeds=(0, 1))
    assert [row.epochs for row in again] == [5, 5, 5, 5]
    assert again[0].curve == rows[0].curve and again[2].curve[:2] == rows[2].curve


def test_a_rate_is_chosen_for_each_family(patches: DataSet, tmp_path: Path) -> None:
    options = [
        "epochs=6",
        "batch_size=16",
        "augment.flip=0",
        "schedule.warmup_epochs=1",
        "model.bn_momentum=0.5",
    ]
    recipe = load_recipe("basic", options)
    chosen = choose_learning_rates(
        [Candidate("wide", WIDE), Candidate("thin", THIN)],
        patches,
        recipe,
        rates=(1e-6, 0.8),
        resolution=16,
        output=tmp_path,
        held_back=0.25,
    )
    assert chosen["wide"] == 0.8  # the other rate leaves the network as it was drawn
    assert set(chosen) == {"wide", "thin"}
