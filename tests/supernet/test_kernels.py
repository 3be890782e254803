"""Smaller kernels by learned matrices: identities give centres; paths are the stand-alone networks all the same."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

import pytest
import torch
from supernets import space_of

from zenopt.core.budget import Budget
from zenopt.core.errors import CheckpointError, SpecError
from zenopt.latency.limits import Limits
from zenopt.spaces.registry import get_space
from zenopt.supernet.files import read_supernet
from zenopt.supernet.judging import PathJudge
from zenopt.supernet.kernels import Kernels, matrices_of, part
from zenopt.supernet.module import Supernet
from zenopt.supernet.sampling import PathSampler
from zenopt.supernet.shared import SharedWeights
from zenopt.supernet.training import SupernetPlan, check_recipe, split, train_supernet
from zenopt.train.data import DataSet
from zenopt.train.distributed import World
from zenopt.train.recipe import Recipe


@lru_cache
def ofa() -> Supernet:
    """A narrow once-for-all supernet whose matrices are no identities any more."""
    torch.manual_seed(0)
    supernet = Supernet(PathSampler(space_of("ofa-mobilenetv3")), 5, kernels="transformed")
    with torch.no_grad():
        for matrices in matrices_of(supernet.shared.tensors).values():
            for matrix in matrices.values():
                matrix.add_(torch.randn_like(matrix) * 0.1)
    return supernet


def test_the_published_supernet_has_706_numbers_more_in_each_block() -> None:
    with torch.device("meta"):
        supernet = Supernet(PathSampler(get_space("ofa-mobilenetv3")()), 1000, kernels="transformed")
    assert supernet.params == 7_678_880 == sum(value.numel() for value in supernet.parameters())
    assert len(matrices_of(supernet.shared.tensors)) == 20


def test_identities_give_centres() -> None:
    tensor, eyes = torch.randn(6, 1, 7, 7), {5: torch.eye(25), 3: torch.eye(9)}
    for shape in ((6, 1, 7, 7), (4, 1, 5, 5), (2, 1, 3, 3)):
        assert torch.equal(part(tensor, shape, eyes), part(tensor, shape))


def test_a_kernel_of_three_comes_out_of_that_of_five() -> None:
    tensor, five, three = torch.randn(2, 1, 7, 7), torch.randn(25, 25), torch.randn(9, 9)
    middle = (five @ tensor[1, 0, 1:6, 1:6].flatten()).view(5, 5)
    wanted = (three @ middle[1:4, 1:4].flatten()).view(3, 3)
    found = part(tensor, (2, 1, 3, 3), {5: five, 3: three})
    assert torch.allclose(found[1, 0], wanted, atol=1e-5)


TEXT = "k3e3.k5e4-k7e6.k3e3-k5e3.k5e3-k3e6.k7e4-k3e3.k5e6.k7e3-w0.25"


def test_a_path_is_its_network_and_takes_the_matrices() -> None:
    shared, architecture = ofa().shared, space_of("ofa-mobilenetv3").parse(TEXT)
    images = torch.randn(4, 3, 32, 32)
    torch.manual_seed(0)
    path = shared(architecture, images)
    torch.manual_seed(0)
    assert torch.equal(path, shared.network(architecture).train()(images))
    bare = {name: value for name, value in shared.tensors.items() if ".kernel" not in name}
    own, other = (
        weights.network(architecture).state_dict()
        for weights in (shared, SharedWeights(bare, shared.num_classes))
    )
    differ = {name for name in own if not torch.equal(own[name], other[name])}
    # Those of the depthwise convolutions whose kernels are smaller than 7.
    smaller = {
        name for name, value in own.items() if value.ndim == 4 and value.shape[1:] in ((1, 3, 3), (1, 5, 5))
    }
    assert differ == {name for name in smaller if not name.startswith("stem")} and len(differ) == 8


def test_gradients_reach_the_matrices_on_the_way() -> None:
    supernet = ofa()
    supernet.zero_grad()
    supernet.shared(space_of("ofa-mobilenetv3").parse(TEXT), torch.randn(4, 3, 32, 32)).sum().backward()
    reached = {
        name.split("/")[0]
        for name, value in supernet.named_parameters()
        if ".kernel3" in name and value.grad is not None
    }
    assert reached == {f"layers.stage{place}" for place in ("1_block1", "2_block2", "4_block1", "5_block1")}


def test_a_space_of_one_kernel_has_nothing_to_transform() -> None:
    with pytest.raises(SpecError, match="Kernels 'transformed' need layers whose kernels have several sizes"):
        Supernet(PathSampler(space_of("nats-sizes")), 5, kernels="transformed")


def test_a_damaged_matrix_is_named() -> None:
    with pytest.raises(CheckpointError, match=r"matrix a/conv0.kernel3 has the shape \(3, 3\)"):
        SharedWeights({"a/conv0.kernel3": torch.eye(3)}, 5)


@pytest.mark.slow
def test_they_are_trained_written_and_read(
    patches: DataSet, short: Recipe, tmp_path: Path, alone: World
) -> None:
    options = {"kernels": (3, 5), "depths": (2,), "expansions": (3,), "width": 0.25}
    plan = SupernetPlan(
        get_space("ofa-mobilenetv3")(**options),
        "ofa-mobilenetv3",
        options,
        Limits(Budget(), 16, 4),
        kernels="transformed",
    )
    data = split(patches, 0.2, plan)
    train_supernet(plan, data, check_recipe(short), output=tmp_path, world=alone, workers=0)
    found = read_supernet(tmp_path)
    matrices = [own[3] for own in matrices_of(found.weights.tensors).values()]
    assert found.facts.kernels == "transformed" and len(matrices) == 10
    assert not any(torch.equal(matrix, torch.eye(9)) for matrix in matrices)
    assert 0 <= PathJudge(found).accuracy(plan.space.parse(plan.space.initial)) <= 100
    centre = SupernetPlan(plan.space, plan.space_name, options, plan.limits)
    with pytest.raises(CheckpointError):
        train_supernet(
            centre, data, check_recipe(short), output=tmp_path, world=alone, workers=0, resume="must"
        )


def test_a_supernet_begins_with_all_that_its_networks_need_of_another() -> None:
    """Matrices that would be forgotten are refused; what is of larger networks alone is named."""
    weights = ofa().shared

    def begun(made: Kernels = "centre", **options: tuple[int, ...]) -> Supernet:
        space = get_space("ofa-mobilenetv3")(width=0.25, **options)
        supernet = Supernet(PathSampler(space), 5, kernels=made)
        supernet.begin_with(weights, Path("whole"))
        return supernet

    with pytest.raises(
        CheckpointError,
        match=r"whole makes smaller .* matrices, e.g. stage1_block1/.*kernel[35], .*transformed\.",
    ):
        begun()
    with pytest.raises(CheckpointError, match="kernel3, which this one has not"):
        begun(kernels=(3, 5))
    assert begun("transformed").left_out == ()
    # Kernels of one size are made once and for all.
    narrow = begun(kernels=(5,), depths=(2,))
    layers = {name.split("/")[0] for name in narrow.left_out}
    assert layers == {f"stage{stage}_block{block}" for stage in range(1, 6) for block in (3, 4)}
    text = "-".join(["k5e3.k5e6"] * 5) + "-w0.25"
    images, architecture = torch.randn(2, 3, 32, 32), space_of("ofa-mobilenetv3").parse(text)
    assert torch.equal(
        narrow.shared(architecture, images, training=False), weights(architecture, images, training=False)
    )


def test_gates_are_not_forgotten() -> None:
    sampler = PathSampler(space_of("mobile"))
    gated, bare = (Supernet(sampler, 5, use_se=use_se) for use_se in (True, False))
    with pytest.raises(
        CheckpointError, match="whole has squeeze-excite gates, this one has none; set use_se=true"
    ):
        bare.begin_with(gated.shared, Path("whole"))
    gated.begin_with(gated.shared, Path("whole"))
