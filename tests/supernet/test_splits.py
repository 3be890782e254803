"""Supernets of parts: paths as before, nothing shared between parts, what a trained whole hands on, refusals."""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from supernets import SPACES, TINY_OPTIONS, Killer, space_of, tiny_plan, weights_of

from zenopt.core.errors import CheckpointError, SpecError
from zenopt.spaces.registry import get_space
from zenopt.supernet.files import SUPERNET_FILE, read_supernet
from zenopt.supernet.judging import PathJudge
from zenopt.supernet.module import Supernet
from zenopt.supernet.sampling import PathSampler
from zenopt.supernet.schedule import Schedule, load_schedule
from zenopt.supernet.splits import Split
from zenopt.supernet.training import SupernetPlan, check_recipe, split, train_supernet
from zenopt.train.data import DataSet
from zenopt.train.distributed import World
from zenopt.train.recipe import Recipe

#: Families with parameters that split them: alternatives, edges, numbers, repetitions, one that may not be in use.
SPLITS = {
    "nasbench-macro": ("layer4",),
    "nasbench201": ("edge01",),
    "superres": ("stage2.block2.type", "stage1.block1.kernel"),
    "nats-sizes": ("c1",),
    "ofa-mobilenetv3": ("stage1.depth",),
    "shuffle": ("block1.kind",),
}
QUICK = ("nasbench-macro",)
FAMILIES = [name if name in QUICK else pytest.param(name, marks=pytest.mark.slow) for name in SPLITS]


@lru_cache
def supernet_of(name: str) -> Supernet:
    """Return an untrained supernet in parts, every number its own."""
    space = space_of(name)
    torch.manual_seed(0)
    return Supernet(PathSampler(space), 5, split=Split.named(space, SPLITS[name]))


@pytest.mark.parametrize("name", FAMILIES)
@settings(max_examples=5)
@given(seed=st.integers(0, 2**31))
def test_a_path_of_a_part_computes_what_its_network_does(name: str, seed: int) -> None:
    weights = supernet_of(name).shared
    architecture = PathSampler(space_of(name), seed=seed).draw(0, "test")
    images = torch.randn(4, 3, SPACES[name][2], SPACES[name][2])
    network = weights.network(architecture).train()
    torch.manual_seed(0)  # some drop features
    path = weights(architecture, images)
    torch.manual_seed(0)
    assert torch.equal(path, network(images))


@pytest.mark.parametrize("name", FAMILIES)
def test_every_network_has_its_part(name: str) -> None:
    supernet, sampler = supernet_of(name), PathSampler(space_of(name), seed=1)
    weights = supernet.shared
    drawn = [sampler.draw(step, "held") for step in range(40)]
    assert [weights.misfit(found) for found in drawn] == [None] * 40
    assert {supernet.split.prefix(found) for found in drawn} <= set(supernet.parts)
    assert len(supernet.parts) > 1


@pytest.mark.parametrize("name", FAMILIES)
def test_parts_that_begin_with_a_whole_compute_what_it_does(name: str) -> None:
    """A part may need less of a layer than the whole has: narrower, or the centre of its kernels."""
    space, resolution = space_of(name), SPACES[name][2]
    whole, sampler = weights_of(name), PathSampler(space, seed=2)
    supernet = Supernet(sampler, whole.num_classes, split=Split.named(space, SPLITS[name]))
    supernet.begin_with(whole, Path("whole"))
    for step in range(6):
        architecture, images = sampler.draw(step, "same"), torch.randn(2, 3, resolution, resolution)
        part, own = (weights(architecture, images, training=False) for weights in (supernet.shared, whole))
        assert torch.equal(part, own)


@pytest.mark.parametrize("name", FAMILIES)
def test_networks_of_other_spaces_are_refused_in_one_line(name: str) -> None:
    weights = supernet_of(name).shared
    for other in ("nasbench201" if name != "nasbench201" else "nasbench-macro", "mnasnet"):
        outside = get_space(other)()
        architecture = outside.parse(outside.initial)
        assert weights.misfit(architecture) is not None
        with pytest.raises(CheckpointError, match="The supernet does not hold "):
            weights.network(architecture)


def test_parts_share_nothing() -> None:
    supernet, space = supernet_of("nasbench-macro"), space_of("nasbench-macro")
    assert supernet.parts == ("layer4=identity/", "layer4=mb3_k3/", "layer4=mb6_k5/")
    one, other = (space.parse(text) for text in ("10111111", "10121111"))
    supernet.zero_grad()
    supernet.shared(one, torch.randn(2, 3, 8, 8)).sum().backward()
    reached = {name for name, tensor in supernet.named_parameters() if tensor.grad is not None}
    assert reached and all(name.startswith("layers.layer4=mb3_k3/") for name in reached)
    before = supernet.shared.network(other).state_dict()
    with torch.no_grad():
        for name in reached:
            supernet.get_parameter(name).zero_()
    after = supernet.shared.network(other).state_dict()
    assert all(torch.equal(before[name], after[name]) for name in before)
    supernet_of.cache_clear()


KIND = "stage1.block1.type"
FEW_SHOT = load_schedule("few-shot")


def plan_of(schedule: Schedule | None = FEW_SHOT, **changes: Any) -> SupernetPlan:
    return replace(tiny_plan("fair"), schedule=schedule, **{"split": (KIND,), **changes})


def trained(
    plan: SupernetPlan, data: DataSet, recipe: Recipe, folder: Path, **options: Any
) -> dict[str, torch.Tensor]:
    """Train a supernet in a folder; return its weights as they were written."""
    train_supernet(
        plan, data, recipe, output=folder, world=World(0, 1, torch.device("cpu")), workers=0, **options
    )
    return dict(read_supernet(folder).weights.tensors)


@pytest.mark.parametrize("average", [None, pytest.param(0.9, marks=pytest.mark.slow)])
def test_parts_begin_as_copies_and_a_stopped_training_resumes_to_the_same_bits(
    average: float | None, patches: DataSet, short: Recipe, tmp_path: Path
) -> None:
    """Twelve steps, of which the first six are shared; stopped before the parts part, and after."""
    plan = plan_of()
    data = split(patches, 0.2, plan)
    adamw = short.optimizer.model_copy(update={"name": "adamw", "lr": 0.01})
    recipe = check_recipe(short.model_copy(update={"ema_decay": average, "optimizer": adamw}))
    whole = trained(plan, data, recipe, tmp_path / "whole")
    for steps in (5, 4):
        with pytest.raises(KeyboardInterrupt):
            trained(
                plan,
                data,
                recipe,
                tmp_path / "stopped",
                checkpoint_steps=1,
                resume="auto",
                observer=Killer(steps),
            )
    stopped = trained(plan, data, recipe, tmp_path / "stopped", resume="must")
    assert all(torch.equal(whole[name], stopped[name]) for name in whole)
    one, other = (f"{KIND.replace('.', '_')}={kind}/stem/conv0.weight" for kind in ("K1KXK1", "KXKX"))
    assert whole[one].shape == whole[other].shape and not torch.equal(whole[one], whole[other])
    found = read_supernet(tmp_path / "whole")
    assert found.facts.split == [KIND] and found.facts.schedule == FEW_SHOT
    judge = PathJudge(found)
    assert [judge.accuracy(plan.sampler.draw(step, "judged")) >= 0 for step in range(4)] == [True] * 4


def test_while_parts_share_they_are_one_supernet(patches: DataSet, short: Recipe, tmp_path: Path) -> None:
    """A training that never parts writes copies, in which every step of either part has been taken."""
    together = Schedule.model_validate({"phases": [{"name": "one", "epochs": 1, "share": ["parts"]}]})
    plan, recipe = plan_of(together), check_recipe(short)
    data = split(patches, 0.2, plan)
    found = trained(plan, data, recipe, tmp_path / "parts")
    parts: dict[str, list[torch.Tensor]] = {}
    for name, tensor in found.items():
        parts.setdefault(plan.parts.whole(name), []).append(tensor)
    assert all(torch.equal(own[0], other) for own in parts.values() for other in own)
    assert max(map(len, parts.values())) == 2
    # The names that the parts have in common are those of a whole supernet, trained by the same steps.
    whole = trained(replace(plan, split=(), schedule=None), data, recipe, tmp_path / "whole")
    assert {name: own[0].shape for name, own in parts.items()} == {
        name: own.shape for name, own in whole.items()
    }


def test_parts_begin_with_the_weights_of_a_trained_whole(
    patches: DataSet, short: Recipe, tmp_path: Path
) -> None:
    whole = plan_of(None, split=())
    data = split(patches, 0.2, whole)
    weights = trained(whole, data, check_recipe(short), tmp_path / "whole")
    begun = plan_of(None, initial=tmp_path / "whole")
    state = begun.build().shared.tensors
    assert all(torch.equal(tensor, weights[begun.parts.whole(name)]) for name, tensor in state.items())
    # Next to no step is taken: residuals that were to begin as their shortcuts keep the weights that are there.
    still = check_recipe(
        short.model_copy(
            update={
                "epochs": 1,
                "model": short.model.model_copy(update={"init": "shortcuts"}),
                "optimizer": short.optimizer.model_copy(update={"lr": 1e-9}),
            }
        )
    )
    found = trained(begun, data, still, tmp_path / "parts")
    assert all(torch.allclose(found[name], state[name], atol=1e-6) for name in state)
    with pytest.raises(CheckpointError, match="of another run"):
        trained(plan_of(None), data, still, tmp_path / "parts", resume="must")
    with pytest.raises(
        CheckpointError, match=r"of another space, or has other parts: it has no stem/conv0.weight of shape"
    ):
        plan_of(None, split=(), initial=tmp_path / "parts").build()
    fewer = replace(begun, limits=replace(begun.limits, num_classes=3))
    with pytest.raises(CheckpointError, match="has 4 classes, this one has 3"):
        fewer.build()
    # Weights of a part of the file are none of its parts.
    content = torch.load(tmp_path / "parts" / SUPERNET_FILE, weights_only=True)
    content["supernet"]["split"] = ["depth"]
    torch.save(content, tmp_path / "parts" / SUPERNET_FILE)
    with pytest.raises(CheckpointError, match="'depth' is no parameter of its space"):
        read_supernet(tmp_path / "parts")


def test_weights_that_a_curriculum_would_lose_are_refused() -> None:
    """Parts that have learned apart cannot begin together: all but one would end as copies."""
    apart, together, again = plan_of(None).build(), plan_of().build(), plan_of().build()
    with pytest.raises(
        CheckpointError, match=r"net has weights of their own for \S+ and \S+, which the schedule lets"
    ):
        together.begin_with(apart.shared, Path("net"))
    again.begin_with(plan_of(None, split=()).build().shared, Path("net"))
    assert again.left_out == ()


def test_what_cannot_be_split_is_one_line() -> None:
    space = get_space("superres")(**TINY_OPTIONS)
    with pytest.raises(
        SpecError, match=r"The split names 'layer1', which is no parameter of this space; it has stem"
    ):
        Split.named(space, ["layer1"])
    with pytest.raises(
        SpecError, match=r"A split by edge01, edge02, edge12, edge03 has 625 parts; at most 128"
    ):
        Split.named(space_of("nasbench201"), ["edge0[12]", "edge12", "edge03"])
    sorts = Schedule.model_validate(
        {"phases": [{"name": "a", "epochs": 1}, {"name": "b", "epochs": 1, "sort": True}]}
    )
    with pytest.raises(SpecError, match="sorts channels is for a supernet that is not split"):
        plan_of(sorts).build()
    with pytest.raises(
        SpecError, match=r"Phase 'together' of the schedule shares parts, but .* not split; name"
    ):
        plan_of(split=()).build()
    edges = load_schedule("sharing-curriculum")
    with pytest.raises(
        SpecError, match="Phase 'all edges' of the schedule shares edges, but this space has no cells"
    ):
        plan_of(edges).build()
