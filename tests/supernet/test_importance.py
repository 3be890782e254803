"""Sorted channels: the same networks where nothing is left out, the most important channels where something is."""

from __future__ import annotations

from pathlib import Path
from random import Random

import pytest
import torch
from supernets import SPACES, Killer, space_of

from zenopt.core.budget import Budget
from zenopt.core.errors import SpecError
from zenopt.latency.limits import Limits
from zenopt.spaces.registry import get_space
from zenopt.supernet.covering import extreme
from zenopt.supernet.files import read_supernet
from zenopt.supernet.importance import groups_of, resorted
from zenopt.supernet.module import Supernet
from zenopt.supernet.sampling import PathSampler
from zenopt.supernet.schedule import Phase, Schedule, load_schedule
from zenopt.supernet.shared import SharedWeights
from zenopt.supernet.training import SupernetPlan, check_recipe, last_weights, split, train_supernet
from zenopt.train.data import DataSet
from zenopt.train.distributed import World
from zenopt.train.recipe import Recipe

OFA = get_space("ofa-mobilenetv3")(width=0.25)


def supernet_of(name: str, use_se: bool = False) -> Supernet:
    """Return a supernet whose weights are all different, also of normalisations and biases."""
    torch.manual_seed(0)
    supernet = Supernet(PathSampler(space_of(name)), 5, use_se, sorts=True)
    with torch.no_grad():
        for tensor in supernet.parameters():
            tensor.add_(torch.randn_like(tensor) * 0.05)
    return supernet


def test_inner_channels_of_blocks_and_gates_are_found() -> None:
    groups = {group.made: (group, size) for group, size in groups_of(OFA, False).items()}
    # Twenty blocks, twelve of them with a gate, which has channels of its own.
    assert len(groups) == 32
    group, size = groups["stage2_block2/residual0/body/conv0"]
    assert group.taken == "stage2_block2/residual0/body/conv2" and size == 48
    assert (group.parts[0], group.parts[-1]) == ((f"{group.made}.weight", 0), (f"{group.taken}.weight", 1))
    inside = "stage2_block2/residual0/body/gate0/gate"
    assert {(f"{inside}/conv0.weight", 1), (f"{inside}/conv1.weight", 0), (f"{inside}/conv1.bias", 0)} < set(
        group.parts
    )
    gate, _ = groups[f"{inside}/conv0"]
    assert gate.parts == (
        (f"{inside}/conv0.weight", 0),
        (f"{inside}/conv0.bias", 0),
        (f"{inside}/conv1.weight", 1),
    )


def test_gates_that_only_some_networks_have_belong_to_the_group() -> None:
    groups = {group.made: group for group in groups_of(space_of("mnasnet"), False)}
    parts = groups["block2/conv0"].parts
    assert any("gate" in name for name, _ in parts) and groups["block2/conv0"].taken == "block2/conv2"


FAMILIES = [
    ("ofa-mobilenetv3", False),
    ("superres", True),
    ("shuffle", False),
    ("mnasnet", False),
    ("mobile", False),
]


@pytest.mark.parametrize(
    ("name", "use_se"),
    [own if index == 0 else pytest.param(*own, marks=pytest.mark.slow) for index, own in enumerate(FAMILIES)],
)
def test_sorting_changes_no_network_that_has_all_channels(name: str, use_se: bool) -> None:
    # Normalisation over four pixels blows rounding errors up.
    supernet, space, side = supernet_of(name, use_se).double(), space_of(name), SPACES[name][2]
    images = torch.randn(4, 3, side, side, dtype=torch.float64)
    largest = [extreme(space, Random(seed), largest=True) for seed in range(2)]
    drawn = PathSampler(space, seed=1).draw(0, "drawn")

    def logits(architecture: object, weights: SharedWeights) -> torch.Tensor:
        torch.manual_seed(0)
        return weights(architecture, images.to(weights.tensors["classifier.weight"]))

    before = [logits(found, supernet.shared) for found in largest]
    narrow = logits(drawn, supernet.shared)
    supernet.sort(Phase(name="all", epochs=1, largest={"*": 1}).restricted(space))
    assert any(not torch.equal(order, torch.arange(len(order))) for order in supernet.orders.values())
    for found, known in zip(largest, before, strict=True):
        assert torch.allclose(logits(found, supernet.shared), known, atol=1e-6)
    assert not torch.allclose(logits(drawn, supernet.shared), narrow, atol=1e-3)
    supernet.float()
    # What is written stands in the order in which it is taken.
    arranged = SharedWeights(supernet.arranged(dict(supernet.shared.tensors)), 5, use_se)
    assert torch.equal(logits(drawn, arranged), logits(drawn, supernet.shared))
    torch.manual_seed(0)
    assert torch.equal(arranged.network(drawn).train()(images.float()), logits(drawn, supernet.shared))


def test_the_largest_weights_come_first_and_what_was_open_stays_ahead() -> None:
    taken = torch.tensor([[1.0, -5, 2, 4, -3, 6], [1, 1, 1, 1, 1, 1]])
    order = resorted(torch.arange(6), taken, 6)
    assert order.tolist() == [5, 1, 3, 4, 2, 0]
    assert resorted(torch.arange(6), taken, 2).tolist() == [1, 0, 5, 3, 4, 2]
    assert resorted(order, taken[:, [5, 4, 3, 2, 1, 0]], 3).tolist() == [1, 3, 5, 0, 4, 2]


def test_a_space_of_one_width_has_nothing_to_sort() -> None:
    with pytest.raises(
        SpecError, match="sorts channels needs blocks of several inner widths; this space has none"
    ):
        Supernet(PathSampler(space_of("nasbench-macro")), 5, sorts=True)


def test_once_for_all_sorts_when_blocks_become_narrower() -> None:
    timetable = load_schedule("progressive-shrinking").timetable(PathSampler(OFA), 605)
    assert sorted(timetable.sorts) == [455, 480]
    ahead = [
        {group.made: size for group, size in groups_of(space, False).items()}
        for space in timetable.sorts.values()
    ]
    made = "stage2_block2/residual0/body/conv0"
    # Stage 2 has 16 channels at this width: six times as many before, then four times as many.
    assert made not in ahead[0] and ahead[1][made] == 64


@pytest.mark.slow
def test_it_is_trained_resumed_and_written_in_order(
    patches: DataSet, short: Recipe, tmp_path: Path, alone: World
) -> None:
    options = {"kernels": (3,), "depths": (2,), "expansions": (3, 6), "width": 0.25}
    schedule = Schedule(
        phases=(
            Phase(name="wide", epochs=1, largest={"*.expansion": 1}),
            Phase(name="all", epochs=2, sort=True),
        )
    )
    plan = SupernetPlan(
        get_space("ofa-mobilenetv3")(**options),
        "ofa-mobilenetv3",
        options,
        Limits(Budget(), 16, 4),
        schedule=schedule,
    )
    data, recipe = split(patches, 0.2, plan), check_recipe(short.model_copy(update={"ema_decay": 0.9}))
    train_supernet(plan, data, recipe, output=tmp_path / "whole", world=alone, workers=0)
    stopped = {"output": tmp_path / "stopped", "world": alone, "checkpoint_steps": 1, "workers": 0}
    with pytest.raises(KeyboardInterrupt):
        train_supernet(plan, data, recipe, **stopped, observer=Killer(7))  # type: ignore[arg-type]
    train_supernet(plan, data, recipe, **stopped, resume="must")  # type: ignore[arg-type]
    whole, other = (read_supernet(tmp_path / folder).weights.tensors for folder in ("whole", "stopped"))
    assert all(torch.equal(whole[name], other[name]) for name in whole)
    kept = last_weights(tmp_path / "whole")
    moved = {name for name in whole if not torch.equal(whole[name], kept[name])}
    assert "stage1_block1/conv0.weight" in moved and "classifier.weight" not in moved
    for name in moved:
        assert torch.equal(whole[name].flatten().sort().values, kept[name].flatten().sort().values)
