"""Schedules: published phases, paths that keep to them, resumed runs, bad files."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution
from supernets import TINY_OPTIONS, Killer, tiny_plan

from zenopt.core.budget import Budget
from zenopt.core.errors import CheckpointError, SpecError
from zenopt.latency.limits import Limits
from zenopt.spaces.registry import get_space
from zenopt.supernet.files import read_supernet
from zenopt.supernet.module import Supernet
from zenopt.supernet.sampling import PathSampler, Sampling
from zenopt.supernet.schedule import Schedule, Timetable, largest_values, list_schedules, load_schedule
from zenopt.supernet.shared import SharedWeights
from zenopt.supernet.training import (
    SupernetPlan,
    batches_of_epoch,
    check_recipe,
    last_weights,
    split,
    train_supernet,
)
from zenopt.train.data import DataSet
from zenopt.train.distributed import World
from zenopt.train.recipe import Recipe, load_recipe

OFA = get_space("ofa-mobilenetv3")(width=0.25)


def test_the_channel_warm_up_opens_factors_as_published() -> None:
    """Factor 2.0 alone up to epoch 60; 1.8 from 61, ..., 1.0 from 65, 0.8 from 67, and 0.6 from 70 on."""
    space = get_space("shuffle")(percents=range(60, 201, 20))
    batches = 7
    timetable = load_schedule("channel-warm-up").timetable(PathSampler(space), 120 * batches)
    lowest = {60: 200, 61: 180, 62: 160, 63: 140, 64: 120, 66: 100, 69: 80, 120: 60}
    for epoch in range(1, 121):
        drawn = timetable.at((epoch - 1) * batches).draw(epoch, "drawn")
        last = timetable.at(epoch * batches - 1).draw(epoch, "drawn")
        wanted = lowest[min(end for end in lowest if end >= epoch)]
        assert drawn == last and min(drawn.percents) >= wanted
        # Of twenty blocks one or another takes the value that is new.
        assert wanted in {
            value
            for step in range(9)
            for value in timetable.at((epoch - 1) * batches).draw(step, "x").percents
        }
        assert len(set(drawn.kinds)) > 1


def test_progressive_shrinking_opens_kernels_then_depths_then_expansions() -> None:
    timetable = load_schedule("progressive-shrinking").timetable(PathSampler(OFA), 605)
    seen = []
    for start in (0, 180, 305, 330, 455, 480):
        params = [OFA.encode(timetable.at(start).draw(step, "drawn")) for step in range(30)]
        seen.append(
            tuple(
                sorted({value for own in params for name, value in own.items() if name.endswith(what)})
                for what in (".kernel", ".depth", ".expansion")
            )
        )
    assert seen == [
        ([7], [4], [6]),
        ([3, 5, 7], [4], [6]),
        ([3, 5, 7], [3, 4], [6]),
        ([3, 5, 7], [2, 3, 4], [6]),
        ([3, 5, 7], [2, 3, 4], [4, 6]),
        ([3, 5, 7], [2, 3, 4], [3, 4, 6]),
    ]
    assert timetable.at(10_000) is timetable.samplers[-1]


def test_largest_values() -> None:
    assert largest_values(IntDistribution(2, 10, step=2), 2) == IntDistribution(8, 10, step=2)
    assert largest_values(IntDistribution(8, 64, log=True), 1) == IntDistribution(64, 64, log=True)
    assert largest_values(IntDistribution(2, 4), 9) == IntDistribution(2, 4)
    assert largest_values(FloatDistribution(0.5, 1.0), 3) == FloatDistribution(1.0, 1.0)
    assert largest_values(CategoricalDistribution((6, 3, 4)), 2) == CategoricalDistribution((4, 6))
    kinds = CategoricalDistribution(("k3", "k5"))
    assert largest_values(kinds, 1) == kinds


def test_a_closed_sandwich_is_one_network(monkeypatch: pytest.MonkeyPatch) -> None:
    supernet = Supernet(PathSampler(OFA, "sandwich"), 4)
    supernet.timetable = load_schedule("progressive-shrinking").timetable(supernet.sampler, 605)
    taken: list[object] = []

    def logits(self: SharedWeights, path: object, images: torch.Tensor, **_: object) -> torch.Tensor:
        taken.append(path)
        return torch.zeros(len(images), 4, requires_grad=True)

    monkeypatch.setattr(SharedWeights, "__call__", logits)
    supernet.training_loss(torch.zeros(2, 3, 32, 32), torch.tensor([0, 1]), 0.0)
    assert [OFA.encode(path)["stage1.block4.kernel"] for path in taken] == [7]
    supernet.batches += 199
    taken.clear()
    supernet.training_loss(torch.zeros(2, 3, 32, 32), torch.tensor([0, 1]), 0.0)
    kernels = [{value for name, value in OFA.encode(path).items() if ".kernel" in name} for path in taken]
    assert len(taken) == 4 and kernels[0] == {7} and kernels[-1] == {3}
    supernet(torch.zeros(2, 3, 32, 32))
    assert "stage5.block4.kernel" in OFA.encode(taken[-1]), "it is judged by paths that are open"


SCHEDULE = Schedule.model_validate(
    {"phases": [{"name": "deep", "epochs": 2, "largest": {"*.depth": 1}}, {"name": "all", "epochs": 1}]}
)


def plan(sampling: Sampling = "uniform", schedule: Schedule | None = SCHEDULE) -> SupernetPlan:
    limits = Limits(Budget(), resolution=16, num_classes=4)
    space = get_space("superres")(**TINY_OPTIONS)
    return SupernetPlan(space, "superres", TINY_OPTIONS, limits, sampling, schedule=schedule)


@pytest.mark.slow
def test_a_stopped_training_resumes_into_the_same_phase(
    patches: DataSet, short: Recipe, tmp_path: Path, alone: World
) -> None:
    data, recipe = split(patches, 0.2, plan()), check_recipe(short)
    assert batches_of_epoch(data, recipe) == 4  # the first phase has eight
    train_supernet(plan(), data, recipe, output=tmp_path / "whole", world=alone, workers=0)
    options = {"output": tmp_path / "stopped", "world": alone, "checkpoint_steps": 1, "workers": 0}
    with pytest.raises(KeyboardInterrupt):
        train_supernet(plan(), data, recipe, **options, observer=Killer(7))  # type: ignore[arg-type]
    with pytest.raises(CheckpointError, match="of another run"):
        train_supernet(plan(schedule=None), data, recipe, **options, resume="must")  # type: ignore[arg-type]
    train_supernet(plan(), data, recipe, **options, resume="must")  # type: ignore[arg-type]
    whole, stopped = (last_weights(tmp_path / folder) for folder in ("whole", "stopped"))
    assert all(torch.equal(whole[name], stopped[name]) for name in whole)
    assert read_supernet(tmp_path / "whole").facts.schedule == SCHEDULE


def test_runs_that_began_with_fewer_choices_are_the_same() -> None:
    """What a checkpoint says of a schedule is compared as text on resume: choices that it leaves open are not in it."""
    phases = [
        {"name": "deep", "epochs": 2.0, "largest": {"*.depth": 1}, "sort": False},
        {"name": "all", "epochs": 1.0, "largest": {}, "sort": False},
    ]
    said = json.loads(plan().source().text)["schedule"]
    assert said == {"description": "", "phases": phases}
    assert Schedule.model_validate(said) == SCHEDULE
    for choice in ({"lr": 0.1}, {"paths": 2}, {"share": ["edges"]}):
        own = Schedule.model_validate({"phases": [{**phases[0], **choice}, phases[1]], "smallest_side": 0.5})
        said = json.loads(plan(schedule=own).source().text)["schedule"]
        assert said["smallest_side"] == 0.5 and said["phases"] == [{**phases[0], **choice}, phases[1]]


def test_phases_must_fit_the_space_and_the_budget() -> None:
    macro = PathSampler(get_space("nasbench-macro")())
    with pytest.raises(
        SpecError, match=r"Phase 'deep' .* names '\*.depth', which is no parameter of this space; it"
    ):
        SCHEDULE.timetable(macro, 10)
    small = Limits(Budget(params=200_000), resolution=32, num_classes=4)
    with pytest.raises(SpecError, match=r"Phase 'largest' of the schedule: None of 1000 drawn"):
        load_schedule("progressive-shrinking").timetable(PathSampler(OFA, limits=small), 10)


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("phases: []", "phases: .*at least 1 item"),
        ("phases:\n  - {name: a, epochs: 0}", r"own.yaml, line 2: phases.0.epochs: .*greater than 0, got 0"),
        ("phases:\n  - {name: a, epochs: 1, largest: {x: 0}}", r"line 2: phases.0.largest.x: .*, got 0"),
        ("phases:\n  - {name: a, epochs: 1, open: {}}", r"unknown key.*; allowed: name, epochs, largest"),
        (
            "phases:\n  - {name: a, epochs: 1, share: [cells]}",
            r"line 2: phases.0.share.0: .*'parts', 'edges' or 'targets'",
        ),
        (
            "phases:\n  - {name: a, epochs: 1, share: [edges]}\n  - {name: b, epochs: 1, sort: true}",
            "phases sort channels or share weights, not both",
        ),
        (
            "phases:\n  - {name: a, epochs: 1, warmup_epochs: 1}",
            "phase 'a' has warmup_epochs, but no lr that it leads to",
        ),
        ("phases:\n  - {name: a, epochs: 1, teaches: true}", "phase 'a' teaches nobody: it is the last one"),
        ("phases:\n  - {name: a, epochs: 1, paths: 0}", r"phases.0.paths: .*, got 0"),
        (
            "phases:\n  - {name: a, epochs: 1}\n  - {name: b, epochs: 1}\n  - {name: a, epochs: 1}",
            r"own.yaml, line 4: phases.2.name: another phase is called 'a', too; rename one",
        ),
        ("description: none", "phases: this key is required"),
    ],
)
def test_bad_files_are_one_line(text: str, complaint: str, tmp_path: Path) -> None:
    (tmp_path / "own.yaml").write_text(text)
    with pytest.raises(SpecError, match=complaint) as caught:
        load_schedule(str(tmp_path / "own.yaml"))
    assert "\n" not in str(caught.value)


def test_unknown_schedules_are_refused_with_the_known_ones() -> None:
    known = ["channel-warm-up", "few-shot", "ofa", "progressive-shrinking", "sharing-curriculum"]
    assert list_schedules() == known
    with pytest.raises(
        SpecError, match=r"Schedule 'spos' does not exist; known: channel-warm-up, few-shot, ofa, progressive"
    ):
        load_schedule("spos")


def test_once_for_all_as_published() -> None:
    """Rates per GPU of 64 images; for each kind of phase as many paths a step as published."""
    recipe, steps = load_recipe("ofa"), 10
    stretches = load_schedule("ofa").stretches(recipe, steps)
    assert [(own.end - own.start) / steps for own in stretches] == [180, 125, 25, 125, 25, 125]
    assert [own.lr * 64 / 256 for own in stretches[1:]] == pytest.approx(
        [3e-2, 2.5e-3, 7.5e-3, 2.5e-3, 7.5e-3]
    )
    assert [own.warmup / steps for own in stretches[1:]] == [5, 0, 5, 0, 5]
    assert [own.is_new for own in stretches] == [False, *[True] * 5]
    timetable = load_schedule("ofa").timetable(PathSampler(OFA), 605)
    starts = (0, 180, 305, 330, 455, 480)
    assert [len(timetable.at(start).paths(start)) for start in starts] == [1, 1, 2, 2, 4, 4]
    assert list(timetable.teachers) == [180] and list(timetable.sorts) == [455, 480]
    short = load_schedule("ofa").stretches(recipe.model_copy(update={"epochs": 121}), steps)  # a fifth
    assert (short[1].start, short[1].end, short[1].warmup) == (360, 610, 10)


def test_images_of_a_batch_have_one_of_many_sides() -> None:
    timetable = load_schedule("ofa").timetable(PathSampler(OFA), 605)
    sides = [timetable.side(batch, 224) for batch in range(400)]
    assert set(sides) == set(range(128, 225, 4)) and sides == [
        timetable.side(batch, 224) for batch in range(400)
    ]
    assert {timetable.side(batch, 32) for batch in range(40)} == {20, 24, 28, 32}
    assert timetable.side(0, 3) == 3 and Timetable((), timetable.samplers).side(0, 30) == 30


def test_phases_and_sides_are_those_of_whole_steps() -> None:
    """Parts of a step are its batches: ten steps of four parts are as ten of one, in whichever process."""
    schedule = Schedule.model_validate(
        {
            "phases": [
                {"name": "a", "epochs": 1, "teaches": True},
                {"name": "b", "epochs": 2},
            ],
            "smallest_side": 0.5,
        }
    )
    sampler = plan().sampler
    whole, parts = schedule.timetable(sampler, 10), schedule.timetable(sampler, 40, 4)
    assert whole.ends == (3, 10) and parts.ends == (12, 40) and list(parts.teachers) == [12]
    assert [parts.side(batch, 32) for batch in range(40)] == [
        whole.side(batch // 4, 32) for batch in range(40)
    ]


def test_a_batch_is_reduced_to_its_side(monkeypatch: pytest.MonkeyPatch) -> None:
    supernet = tiny_plan().build()
    supernet.timetable = Timetable((), supernet.timetable.samplers, smallest_side=0.5)
    seen: list[tuple[int, ...]] = []

    def logits(self: SharedWeights, path: object, images: torch.Tensor, **_: object) -> torch.Tensor:
        seen.append(tuple(images.shape[2:]))
        return torch.zeros(len(images), 4, requires_grad=True)

    monkeypatch.setattr(SharedWeights, "__call__", logits)
    for _ in range(12):
        supernet.training_loss(torch.zeros(2, 3, 16, 16), torch.tensor([0, 1]), 0.0)
    assert seen == [(supernet.timetable.side(batch, 16),) * 2 for batch in range(12)] and len(set(seen)) == 3


def test_every_phase_has_a_step() -> None:
    phases = [{"name": name, "epochs": length} for name, length in (("a", 2), ("b", 1), ("c", 2.5))]
    schedule = Schedule.model_validate({"phases": phases})
    for steps in range(1, 40):
        ends = [round(end) for _, end in schedule.ends(steps)]
        if len({0, *ends}) == 4:
            schedule.check_length(steps)
            continue
        with pytest.raises(SpecError, match=r"Phase '[abc]' .* training of .*; (\d+) are enough") as caught:
            schedule.check_length(steps)
        schedule.check_length(int(str(caught.value).partition("; ")[2].split()[0]))
    with pytest.raises(
        SpecError, match=r"Phase 'depth 1' of the schedule has no step in a training of 8 steps"
    ):
        load_schedule("ofa").check_length(8)


def test_equal_paths_of_a_step_count_as_often_as_they_were_drawn(monkeypatch: pytest.MonkeyPatch) -> None:
    """Published systems draw each path by itself and add the gradients up."""
    torch.manual_seed(0)
    images, labels = torch.randn(8, 3, 16, 16), torch.arange(8) % 4
    one, other, largest = (plan().sampler.draw(step, "path") for step in (0, 1, 5))
    assert len({one, other, largest}) == 3

    def loss(sampling: Sampling, *paths: object) -> float:
        net = plan(sampling, None).build()
        monkeypatch.setattr(PathSampler, "paths", lambda self, step: list(paths))
        return net.training_loss(images, labels, 0.0).item()

    single, second = loss("uniform", one), loss("uniform", other)
    assert loss("uniform", one, other, one) == pytest.approx(2 * single + second)
    # Of a sandwich, the mean; the largest has nothing to teach itself.
    first, pair = loss("sandwich", largest), loss("sandwich", largest, one)
    three, twice = loss("sandwich", largest, one, other), loss("sandwich", largest, one, other, one)
    taught, also = 2 * pair - first, 3 * three - 2 * pair
    assert twice == pytest.approx((first + 2 * taught + also) / 4)
    assert loss("sandwich", largest, largest, one) == pytest.approx(pair)


def test_phases_without_rates_follow_the_one_before() -> None:
    phases = [{"name": "a", "epochs": 1}, {"name": "b", "epochs": 1, "lr": 0.5}, {"name": "c", "epochs": 2}]
    recipe = Recipe(epochs=8, schedule={"warmup_epochs": 1})
    found = Schedule.model_validate({"phases": phases}).stretches(recipe, 5)
    assert [(own.start, own.end, own.lr, own.warmup) for own in found] == [
        (0, 10, 0.1, 10),
        (10, 40, 0.5, 10),
    ]
    assert load_schedule("progressive-shrinking").stretches(recipe, 5) == ()


@pytest.mark.slow
def test_the_largest_network_teaches_later_paths() -> None:
    """Each path of a step learns from labels and from the frozen largest one; their gradients add up."""
    phases = [
        {"name": "largest", "epochs": 1, "largest": {"*": 1}, "teaches": True},
        {"name": "all", "epochs": 1, "paths": 2, "sort": True},
    ]
    schedule = Schedule.model_validate({"phases": phases})
    torch.manual_seed(0)
    net = Supernet(PathSampler(OFA), 4, sorts=True, teaches=True)
    net.timetable = schedule.timetable(net.sampler, 4)
    images, labels = torch.randn(8, 3, 32, 32), torch.arange(8) % 4
    largest = net.timetable.samplers[0].paths(0)[0]
    for batch in (0, 1):
        assert net.taught(batch, images) is None
        torch.manual_seed(batch)  # the classifier drops features
        loss = net.training_loss(images, labels, 0.0)
        torch.manual_seed(batch)
        logits = net.shared(largest, images)
        assert loss.item() == pytest.approx(F.cross_entropy(logits, labels).item(), rel=1e-5)
    known = net.shared(largest, images, training=False).softmax(1)
    torch.manual_seed(2)
    total = net.training_loss(images, labels, 0.0)
    torch.manual_seed(2)
    paths = net.timetable.at(2).paths(2)
    assert paths[0] != paths[1]
    each = [net.shared(path, images) for path in paths]
    wanted = sum((F.cross_entropy(own, labels) + F.cross_entropy(own, known)).item() for own in each)
    assert total.item() == pytest.approx(wanted, rel=1e-5)
    assert int(net.batches) == 3
    taught = net.taught(2, images)
    assert taught is not None and torch.allclose(taught, known, atol=1e-5), (
        "sorting channels changes no network"
    )
    with torch.no_grad():
        for parameter in net.layers.parameters():
            parameter.add_(0.1)
    assert torch.equal(net.taught(3, images), taught), "it stays as it was"  # type: ignore[arg-type]
    assert all(not own.requires_grad for own in net.teacher.parameters())  # type: ignore[union-attr]


def test_a_sandwich_has_a_teacher_already() -> None:
    with pytest.raises(SpecError, match="needs drawn paths: --sampling uniform, fair or strolling"):
        plan("sandwich", TAUGHT)


TAUGHT = Schedule.model_validate(
    {
        "phases": [
            {
                "name": "deep",
                "epochs": 1,
                "largest": {"*.depth": 1},
                "lr": 0.5,
                "warmup_epochs": 0.5,
                "teaches": True,
            },
            {"name": "all", "epochs": 2, "lr": 0.2, "warmup_epochs": 0, "paths": 2},
        ]
    }
)


@pytest.mark.slow
def test_rates_and_teachers_resume(patches: DataSet, short: Recipe, tmp_path: Path, alone: World) -> None:
    own = plan("uniform", TAUGHT)
    data, recipe = split(patches, 0.2, own), check_recipe(short)
    result = train_supernet(own, data, recipe, output=tmp_path / "whole", world=alone, workers=0)
    # Four steps an epoch; each phase's cosine ends within a step of 0: the rates of the last steps, for batches of 16.
    ends = [0.5 * (1 + math.cos(math.pi * share)) / 16 for share in (1 / 2, 3 / 8, 7 / 8)]
    assert [row["lr"] for row in result.history] == pytest.approx(
        [0.5 * ends[0], 0.2 * ends[1], 0.2 * ends[2]]
    )
    for steps in (4, 6):  # killed at the end of the first phase, and in the second
        folder = tmp_path / f"stopped{steps}"
        options = {"output": folder, "world": alone, "checkpoint_steps": 1, "workers": 0}
        with pytest.raises(KeyboardInterrupt):
            train_supernet(own, data, recipe, **options, observer=Killer(steps))  # type: ignore[arg-type]
        train_supernet(own, data, recipe, **options, resume="auto")  # type: ignore[arg-type]
        whole, stopped = last_weights(tmp_path / "whole"), last_weights(folder)
        assert all(torch.equal(whole[name], stopped[name]) for name in whole)
    assert read_supernet(tmp_path / "whole").facts.schedule == TAUGHT
