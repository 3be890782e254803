"""Curricula of sharing: names of edges, what parts when, exact resume."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from supernets import Killer

from zenopt.core.budget import Budget
from zenopt.core.errors import SpecError
from zenopt.latency.limits import Limits
from zenopt.spaces.registry import get_space
from zenopt.supernet.files import read_supernet
from zenopt.supernet.layers import Shapes
from zenopt.supernet.module import Supernet
from zenopt.supernet.sampling import PathSampler
from zenopt.supernet.schedule import load_schedule
from zenopt.supernet.sharing import Extent, curriculum, leaders_of, part_ways, widened
from zenopt.supernet.splits import WHOLE
from zenopt.supernet.training import SupernetPlan, check_recipe, split, train_supernet
from zenopt.train.data import DataSet
from zenopt.train.distributed import World
from zenopt.train.optim import MovingAverage
from zenopt.train.recipe import Recipe

CELL = [
    "stem/conv0",
    "blocks_0/0to1_relu-conv3-norm/conv0",
    "blocks_0/0to2_relu-conv3-norm/conv0",
    "blocks_0/0to2_relu-conv1-norm/conv0",
    "blocks_0/1to2_relu-conv3-norm/conv0",
    "blocks_0/1to2_relu-conv3-norm_2/conv0",
    "blocks_1/0to1_relu-conv3-norm/conv0",
    "classifier",
]


def test_edges_share_by_operation_then_by_place() -> None:
    every = leaders_of(CELL, ["edges"], WHOLE, "all")
    assert [CELL.index(every[name]) for name in CELL] == [0, 1, 1, 3, 1, 1, 6, 7]
    targets = leaders_of(CELL, ["targets"], WHOLE, "some")
    assert [CELL.index(targets[name]) for name in CELL] == [0, 1, 2, 3, 2, 2, 6, 7]


def test_weights_part_and_are_never_made_one() -> None:
    shapes: Shapes = {f"{name}.weight": (8, 8, 3, 3) for name in CELL}
    assert curriculum(shapes, [("a", []), ("b", [])], WHOLE) == []
    finer = curriculum(shapes, [("a", ["edges"]), ("b", ["targets"]), ("c", [])], WHOLE)
    assert [len(set(own.values())) for own in finer] == [5, 6, 8]
    with pytest.raises(SpecError, match="Phase 'b' of the schedule shares what has parted before"):
        curriculum(shapes, [("a", ["targets"]), ("b", ["edges"])], WHOLE)
    with pytest.raises(
        SpecError, match="Phase 'a' of the schedule shares targets, but this space has no cells"
    ):
        curriculum({"stem/conv0.weight": (8, 3, 3, 3)}, [("a", ["targets"])], WHOLE)


def test_layers_that_share_are_as_large_as_any_of_them_needs() -> None:
    shapes: Shapes = {"a.weight": (8, 4, 3, 3), "b.weight": (4, 6, 5, 5), "c.weight": (1, 1)}
    leaders = {"a": "a", "b": "a", "c": "c"}
    assert widened(shapes, leaders) == {
        "a.weight": (8, 6, 5, 5),
        "b.weight": (8, 6, 5, 5),
        "c.weight": (1, 1),
    }


def test_layers_that_others_make_wider_are_counted_as_they_are() -> None:
    """Edges from the input of a cell that reduces have fewer channels than the others."""
    space = get_space("transnas-micro")(width=8)
    shares: list[tuple[str, list[Extent]]] = [("together", ["edges"]), ("apart", [])]
    narrow, wide = (Supernet(PathSampler(space), 4, shares=own) for own in ((), shares))
    counts = [sum(own.numel() for own in net.layers.parameters()) for net in (narrow, wide)]
    assert [narrow.params, wide.params] == counts and counts[0] < counts[1]


def test_layers_part_as_copies_with_what_training_knows_of_them() -> None:
    """From equal states equal gradients lead to equal weights: to part changes nothing by itself."""
    torch.manual_seed(0)
    layers = torch.nn.ModuleDict({name: torch.nn.Linear(3, 2) for name in ("a", "b", "c")})
    one, other = layers["a"], layers["b"]
    together, apart = {"a": "a", "b": "a", "c": "c"}, {name: name for name in layers}
    optimizer = torch.optim.AdamW(layers.parameters(), lr=0.1)
    average = MovingAverage(layers, 0.9)

    def step(*names: str) -> None:
        optimizer.zero_grad()
        sum((layers[name](torch.ones(1, 3)) ** 2).sum() for name in names).backward()
        optimizer.step()
        average.update(layers)

    step("a", "c")
    step("a")
    others = {name: value.clone() for name, value in layers["c"].state_dict().items()}
    part_ways(layers, together, apart, optimizer, average, "")
    for _ in range(3):
        assert all(torch.equal(value, other.get_parameter(name)) for name, value in one.named_parameters())
        assert torch.equal(average.state["a.weight"], average.state["b.weight"])
        step("a", "b")
    assert all(torch.equal(value, others[name]) for name, value in layers["c"].state_dict().items())
    step("a")
    assert not torch.equal(one.get_parameter("weight"), other.get_parameter("weight"))


@pytest.mark.slow
def test_cells_train_through_a_curriculum_and_resume(patches: DataSet, short: Recipe, tmp_path: Path) -> None:
    """Twelve steps: four with all edges shared, four with those to one place, four with none."""
    space = get_space("nasbench201")()
    limits = Limits(Budget(), resolution=16, num_classes=4)
    plan = SupernetPlan(
        space, "nasbench201", {}, limits, "fair", schedule=load_schedule("sharing-curriculum")
    )
    data, recipe = split(patches, 0.2, plan), check_recipe(short.model_copy(update={"batch_size": 16}))

    def train(folder: str, resume: Any = "never", observer: Killer | None = None) -> None:
        world = World(0, 1, torch.device("cpu"))
        train_supernet(
            plan, data, recipe, output=tmp_path / folder, world=world, workers=0, checkpoint_steps=1, resume=resume,
            observer=observer,
        )  # fmt: skip

    train("whole")
    for steps in (4, 5):
        with pytest.raises(KeyboardInterrupt):
            train("stopped", "auto", Killer(steps))
    train("stopped", "must")
    whole, stopped = (read_supernet(tmp_path / folder).weights for folder in ("whole", "stopped"))
    assert all(torch.equal(tensor, stopped.tensors[name]) for name, tensor in whole.tensors.items())
    network: Supernet = plan.build()
    architecture = plan.sampler.draw(0, "held")
    tensors = network.shared.tensors
    first, second = (f"blocks_0/{edge}_relu-conv3-norm/conv0.weight" for edge in ("0to1", "2to3"))
    assert tensors[first] is tensors[second]
    images = torch.randn(2, 3, 16, 16)
    shared = network.shared
    assert torch.equal(shared(architecture, images), shared.network(architecture).train()(images))
    assert not torch.equal(whole.tensors[first], whole.tensors[second])
