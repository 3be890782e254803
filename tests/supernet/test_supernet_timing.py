"""What a dry run says of a schedule: phases cost what their paths and their teacher do. Time is counted, not taken."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from supernets import tiny_plan

from zenopt.core.errors import SpecError
from zenopt.supernet.schedule import Schedule
from zenopt.supernet.shared import SharedWeights
from zenopt.supernet.timing import estimate_supernet
from zenopt.supernet.training import check_recipe, split
from zenopt.train import timing
from zenopt.train.data import DataSet
from zenopt.train.recipe import Recipe

PHASES = [
    {"name": "largest", "epochs": 1, "largest": {"*": 1}, "teaches": True},
    {"name": "all", "epochs": 3, "paths": 2},
]


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let every path take a millisecond for each image, and nothing else any time."""
    spent = [0.0]
    original = SharedWeights.__call__

    def call(self: SharedWeights, path: object, images: torch.Tensor, **options: bool) -> torch.Tensor:
        spent[0] += 1e-3 * len(images)
        return original(self, path, images, **options)

    def timed(step: Callable[[int], None], size: int, device: torch.device) -> float:
        before = spent[0]
        step(size)
        return spent[0] - before

    monkeypatch.setattr(SharedWeights, "__call__", call)
    monkeypatch.setattr(timing, "_timed", timed)
    monkeypatch.setattr(timing, "_load_seconds", lambda *_: (0.0, 0.0))


@pytest.mark.usefixtures("clock")
def test_phases_cost_what_their_paths_and_their_teacher_do(patches: DataSet, short: Recipe) -> None:
    plain = tiny_plan(seed=1)
    plan = replace(plain, schedule=Schedule.model_validate({"phases": PHASES}))
    data, recipe = split(patches, 0.2, plan), check_recipe(short.model_copy(update={"epochs": 4}))
    train, test = 64, len(data.test)
    one = estimate_supernet(plain, plain.build(), data, recipe)
    assert one.total_seconds == pytest.approx(4 * (train + test) * 1e-3)
    network = plan.build()
    found = estimate_supernet(plan, network, data, recipe)
    # A quarter of the training has one path, the rest two and their teacher.
    assert found.epoch_seconds == pytest.approx(((train + 3 * 3 * train) / 4 + test) * 1e-3)
    assert found.total_seconds == pytest.approx(4 * found.epoch_seconds)
    assert found.train_images_per_second == pytest.approx(1000 / 2.5)
    assert int(network.batches) == 0 and network.timetable.samplers == (plan.sampler,)


def test_a_phase_without_a_step_is_refused(patches: DataSet, short: Recipe) -> None:
    """Four steps an epoch: a twentieth of one epoch is none."""
    phases = [PHASES[0], {"name": "all", "epochs": 18}, {"name": "again", "epochs": 1, "largest": {"*": 2}}]
    plan = replace(tiny_plan(), schedule=Schedule.model_validate({"phases": phases}))
    data, recipe = split(patches, 0.2, plan), check_recipe(short.model_copy(update={"epochs": 1}))
    with pytest.raises(
        SpecError,
        match=r"Phase 'largest' of the schedule has no step in a training of 4 steps; 20 are enough",
    ):
        estimate_supernet(plan, plan.build(), data, recipe)
