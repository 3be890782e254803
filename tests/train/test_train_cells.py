"""The final training of cells: auxiliary classifier, drop-path by epoch, cutout."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F

from zenopt.core.errors import StructureError
from zenopt.nn.modules import GraphModule
from zenopt.nn.weights import read_torch_file
from zenopt.train.data import synthetic
from zenopt.train.distributed import World
from zenopt.train.engine import fit
from zenopt.train.networks import NetworkSource
from zenopt.train.objective import Objective
from zenopt.train.progress import Silent
from zenopt.train.recipe import load_recipe

#: The cells of the second-order search, in a small stack: of five cells, 1 and 3 are reduction cells.
CELLS = (
    "darts-5x4-sep3~0+sep3~1,sep3~0+sep3~1,skip~0+sep3~1,skip~0+dil3~2-"
    "max3~0+max3~1,max3~1+skip~2,max3~0+skip~2,max3~1+skip~2"
)
SOURCE = NetworkSource.from_structure(CELLS, 32, family="darts")


def test_the_auxiliary_classifier_is_the_familys_own() -> None:
    """On the second reduction cell, not on the deepest map of its size; the loss is the sum that DARTS minimises."""
    recipe = load_recipe("awnas-cells")
    network = SOURCE.build(3)
    objective = Objective(network, recipe, 3, 32)
    images, targets = torch.randn(4, 3, 32, 32), torch.tensor([0, 1, 2, 0])
    loss = objective(images, targets)
    head = objective.extras["auxiliary"]
    assert [
        tuple(layer.weight.shape) for layer in head if hasattr(layer, "weight") and layer.weight.ndim > 1
    ] == [
        (128, 64, 1, 1),
        (768, 128, 2, 2),
        (3, 768),
    ]
    pool = next(layer for layer in head if isinstance(layer, torch.nn.AvgPool2d))
    assert (pool.kernel_size, pool.stride) == (5, 3)
    # The network has no dropout of its own, and drop-path is still 0: the same batch gives the same maps.
    outputs = network._outputs(images)
    logits = network.classifier(outputs[-1].mean(dim=(2, 3)))
    expected = F.cross_entropy(logits, targets) + 0.4 * F.cross_entropy(head(outputs[4]), targets)
    assert loss.item() == pytest.approx(expected.item(), rel=1e-5)
    second = head(outputs[4]).sum()
    gradients = torch.autograd.grad(second, list(network.parameters()), allow_unused=True)
    reached = {
        name.split(".")[1]
        for (name, _), gradient in zip(network.named_parameters(), gradients, strict=True)
        if gradient is not None and name.startswith("blocks.")
    }
    assert reached == {"0", "1", "2", "3"}


def test_evaluation_knows_no_auxiliary_classifier() -> None:
    network = SOURCE.build(3)
    plain = set(network.state_dict())
    objective = Objective(network, load_recipe("awnas-cells"), 3, 32)
    assert set(network.state_dict()) == plain
    assert {name.split(".")[0] for name in objective.extras.state_dict()} == {"auxiliary"}
    assert network.eval()(torch.randn(2, 3, 32, 32)).shape == (2, 3)


def test_operations_are_dropped_image_by_image() -> None:
    """Each operation of each image is kept or dropped alone, and scaled; identities and preprocessing stay."""
    network = SOURCE.build(3).eval()
    cell = network.blocks[0]
    assert isinstance(cell, GraphModule)
    inputs = torch.randn(1, 12, 8, 8).expand(64, -1, -1, -1), torch.randn(1, 12, 8, 8).expand(64, -1, -1, -1)
    with torch.no_grad():
        whole = [
            edge(cell.edges[index](inputs[index]))[:1]
            for index, edge in ((0, cell.edges[2]), (1, cell.edges[3]))
        ]
        cell.training = True  # BN keeps its statistics: the terms of the sum are known
        cell.drop_path = 0.5
        first = cell(*inputs)[:, :4]
    kinds = {
        tuple(
            index
            for index, value in enumerate(
                (0 * whole[0], 2 * whole[0], 2 * whole[1], 2 * (whole[0] + whole[1]))
            )
            if torch.allclose(image, value[0], atol=1e-5)
        )
        for image in first
    }
    assert kinds == {(0,), (1,), (2,), (3,)}


def test_maps_too_small_for_the_auxiliary_classifier_are_named() -> None:
    with pytest.raises(StructureError, match="takes maps of 8 px and more; at 16 px it would get 4"):
        Objective(SOURCE.build(3), load_recipe("awnas-cells"), 3, 16)


class Rates(Silent):
    """Notes the probability of every cell in every epoch."""

    def __init__(self, network: torch.nn.Module) -> None:
        self.network = network
        self.rates: list[set[float]] = []

    def end(self, row: dict[str, Any]) -> None:
        self.rates.append(
            {round(m.drop_path, 6) for m in self.network.modules() if isinstance(m, GraphModule)}
        )


def test_the_recipe_trains_a_cell(tmp_path: Path) -> None:
    recipe = load_recipe("awnas-cells", ["batch_size=8"], epochs=3)
    assert recipe.augment.cutout == 16
    network = SOURCE.build(3)
    observer = Rates(network)
    result = fit(
        network,
        synthetic("synthetic", "16", classes=3, side=32),
        recipe,
        output=tmp_path,
        resolution=32,
        identity=SOURCE.facts(),
        world=World(0, 1, torch.device("cpu")),
        observer=observer,
    )
    assert observer.rates == [{0.0}, {0.066667}, {0.133333}]
    assert len(result.history) == 3
    saved = read_torch_file(tmp_path / "last.pt")
    assert not any("auxiliary" in name for name in saved["model"])
    assert any(name.startswith("auxiliary.") for name in saved["extras"])
