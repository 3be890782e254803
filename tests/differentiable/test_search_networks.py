"""Search networks: their sizes, what a mixture of one operation computes, and what is derived of weights."""

from __future__ import annotations

import random
from typing import Any

import pytest
import torch
from torch import nn

from zenopt.core.costs import count
from zenopt.core.errors import StructureError
from zenopt.core.primitives import Choice, Identity
from zenopt.differentiable.cost import CostTable
from zenopt.differentiable.network import SearchNetwork
from zenopt.differentiable.relaxations import Weights
from zenopt.nn.modules import build_nodes
from zenopt.nn.network import build_network
from zenopt.spaces.darts.space import DARTS_V2
from zenopt.spaces.registry import get_space


def params_of(network: SearchNetwork) -> int:
    return sum(weight.numel() for weight in network.network.parameters())


def one_hot(network: SearchNetwork, architecture: Any) -> dict[str, Weights]:
    """Return weights that leave a single operation on every edge of a NAS-Bench-201 cell."""
    found = {}
    for (name, operations), operation in zip(
        network.opened.choices.items(), architecture.operations, strict=True
    ):
        found[name] = Weights(torch.eye(len(operations))[operations.index(operation)])
    return found


def test_the_published_network_of_nasbench201() -> None:
    """Per cell of C channels six edges hold a 1x1 and a 3x3 convolution, and nothing else that learns: 60 C^2."""
    network = SearchNetwork(get_space("nasbench201")().open_network(), 10)
    stem, head, classifier = 3 * 16 * 9 + 32, 128, 64 * 10 + 10
    cells = sum(5 * 60 * width**2 for width in (16, 32, 64))
    # A shortcut's 1x1, a 3x3 from half the width, a 3x3, two normalisations.
    reductions = sum(w // 2 * w + 9 * w // 2 * w + 9 * w * w + 4 * w for w in (32, 64))
    assert params_of(network) == stem + cells + reductions + head + classifier == 1_686_106
    assert sum(alphas.numel() for alphas in network.alphas.values()) == 30
    assert all(0 < alphas.abs().max() < 0.01 for alphas in network.alphas.values())


def test_a_single_operation_is_the_network_that_stands_alone() -> None:
    space = get_space("nasbench201")()
    torch.manual_seed(0)
    search = SearchNetwork(space.open_network(), 7).eval()
    images = torch.randn(3, 3, 16, 16)
    for seed in range(4):
        architecture = space.draw(random.Random(seed))
        alone = build_network(architecture, num_classes=7).eval()
        with torch.no_grad():
            _copy(search, alone, architecture)
            expected = alone(images)
            drawn = {
                name: Weights(own.values, int(own.values.argmax()))
                for name, own in one_hot(search, architecture).items()
            }
            assert torch.allclose(search(images, one_hot(search, architecture)), expected, atol=1e-4)
            assert torch.allclose(search(images, drawn), expected, atol=1e-4)


def _copy(search: SearchNetwork, alone: nn.Module, architecture: Any) -> None:
    """Give a network the weights of its operations in a search network; cells normalise by their batch."""
    for name, unit in zip(alone.description.names, alone.units(), strict=True):  # type: ignore[attr-defined]
        shared = search.network.get_submodule(name)
        if not hasattr(unit, "edges"):
            unit.load_state_dict(shared.state_dict())
            continue
        for own, mixed, operation in zip(unit.edges, shared.edges, architecture.operations, strict=True):
            index = search.opened.choices["edge01"].index(operation)
            own.load_state_dict(mixed[0].operations[index].state_dict(), strict=False)
        for module in unit.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.track_running_stats = False
                module.running_mean = module.running_var = None
    alone.classifier.load_state_dict(search.network.classifier.state_dict())  # type: ignore[union-attr]


def test_a_mixture_is_the_weighted_sum() -> None:
    search = SearchNetwork(get_space("nasbench201")().open_network(channels=2, cells=1), 3)
    mixed = search.mixed["edge01"][0]
    x = torch.randn(2, 2, 4, 4)
    mixed.weights = Weights(torch.tensor([0.1, 0.2, 0.3, 0.0, 0.4]))
    parts = [operation(x) for operation in mixed.operations]
    assert torch.allclose(mixed(x), 0.2 * x + 0.3 * parts[2] + 0.4 * parts[4], atol=1e-6)


def test_the_largest_weight_of_each_edge_is_derived() -> None:
    opened = get_space("nasbench201")().open_network()
    weights = {name: [0.1, 0.2, 0.3, 0.2, 0.2] for name in opened.choices}
    weights["edge23"] = [0.9, 0.1, 0.0, 0.0, 0.0]
    found = opened.derive(weights)
    assert found.operations == ("nor_conv_1x1",) * 5 + ("none",)
    assert opened.skips(found) == 0
    assert opened.skips(opened.only("edge01", "skip_connect")) == 1
    assert set(opened.only().operations) == {"none"}


def test_operations_are_those_of_the_space() -> None:
    opened = get_space("nasbench201")(operations=("skip_connect", "nor_conv_3x3")).open_network()
    assert set(opened.choices.values()) == {("skip_connect", "nor_conv_3x3")}
    assert SearchNetwork(opened, 3).alphas["edge01"].numel() == 2


def test_impossible_networks_and_families_without_one() -> None:
    with pytest.raises(StructureError, match="from 1 to 1024 channels, got 0"):
        get_space("nasbench201")().open_network(channels=0)
    assert get_space("superres")().open_network() is None
    with pytest.raises(StructureError, match="The choice edge is open"):
        build_nodes((Choice("edge", (("skip", (Identity(2),)),)),), use_se=False, residual=True)


def test_the_published_network_of_darts() -> None:
    opened = get_space("darts")().open_network()
    network = SearchNetwork(opened, 10)
    assert params_of(network) == 1_930_618
    assert len(network.alphas) == 28 and all(alphas.numel() == 8 for alphas in network.alphas.values())


def test_a_darts_mixture_of_one_operation_per_edge_is_the_network_that_stands_alone() -> None:
    space = get_space("darts")(cells=4, channels=4)
    opened = space.open_network(cells=4, channels=4)
    torch.manual_seed(0)
    search = SearchNetwork(opened, 5).eval()
    architecture = space.parse(
        "sep3~0+dil5~1,skip~0+sep5~2,dil3~1+skip~3,sep3~0+skip~4-dil3~0+skip~1,sep3~0+dil5~1,skip~0+sep5~2,dil3~1+skip~3"
    )
    alone = build_network(architecture, num_classes=5).eval()
    chosen = {}
    for cell, terms in (("normal", architecture.genotype.normal), ("reduce", architecture.genotype.reduce)):
        for position, (operation, state) in enumerate(terms):
            chosen[f"{cell}_{state}to{2 + position // 2}"] = operation
    mixture = {
        name: Weights(torch.eye(8)[operations.index(chosen.get(name, "none"))])
        for name, operations in opened.choices.items()
    }
    for name, unit in zip(alone.description.names, alone.units(), strict=True):
        shared = search.network.get_submodule(name)
        if name == "stem":
            unit.load_state_dict(shared.state_dict())
            continue
        edges = dict(zip(shared.route, shared.edges, strict=True))
        kind = "reduce" if alone.description.units[int(name[-1]) + 1].reduces else "normal"
        for (source, target), own in zip(unit.route, unit.edges, strict=True):
            edge = edges[source, target]
            if target > 3:
                operation = chosen[f"{kind}_{source - 2}to{target - 2}"]
                edge = edge[0].operations[opened.operations.index(operation)]
            own.load_state_dict(edge.state_dict(), strict=False)
    alone.classifier.load_state_dict(search.network.classifier.state_dict())
    images = torch.randn(2, 3, 16, 16)
    with torch.no_grad():
        assert torch.allclose(search(images, mixture), alone(images), atol=1e-4)


def test_darts_keeps_two_edges_per_node_and_never_none() -> None:
    opened = get_space("darts")().open_network()
    index = {name: place for place, name in enumerate(opened.operations)}
    weights = {name: [0.0] * 8 for name in opened.choices}
    for cell in ("normal", "reduce"):
        for node in range(2, 6):
            for state in range(node):
                weights[f"{cell}_{state}to{node}"][index["none"]] = 0.9
                weights[f"{cell}_{state}to{node}"][index["sep3"]] = 0.01 * (state + 1)
    weights["reduce_0to5"][index["skip"]] = 0.5
    found = opened.derive(weights).genotype
    last = (("sep3", 0), ("sep3", 1), ("sep3", 1), ("sep3", 2), ("sep3", 2), ("sep3", 3))
    assert found.normal == (("sep3", 0), ("sep3", 1), *last[2:], ("sep3", 3), ("sep3", 4))
    assert found.reduce == (("sep3", 0), ("sep3", 1), *last[2:], ("skip", 0), ("sep3", 4))
    assert opened.skips(opened.derive(weights)) == 1


def test_darts_costs_add_up() -> None:
    opened = get_space("darts")(cells=5, channels=8).open_network()

    def macs(architecture: Any) -> float:
        return float(count(architecture, 32, 10).macs)

    table = CostTable.measured(opened, macs)
    architecture = get_space("darts")(cells=5, channels=8).parse(DARTS_V2)
    total = table.fixed
    for cell, terms in (("normal", architecture.genotype.normal), ("reduce", architecture.genotype.reduce)):
        for position, (operation, state) in enumerate(terms):
            costs = table.operations[f"{cell}_{state}to{2 + position // 2}"]
            total += costs[opened.operations.index(operation)]
    assert total == macs(architecture)


def test_transnas_has_the_layers_of_its_networks_without_scales() -> None:
    space = get_space("transnas-micro")(width=8)
    opened = space.open_network(channels=4)
    network = SearchNetwork(opened, 3)
    assert network(torch.randn(2, 3, 32, 32), network.draw()).shape == (2, 3)
    assert str(opened.derive({name: [0.1, 0.2, 0.4, 0.3] for name in opened.choices})) == "8-41414-2_22_222"
    # A 1x1 and a 3x3 convolution on each of six edges; where the shape changes, skips of half the width each.
    widths = [(4, 8), (8, 8), (8, 8), (8, 8), (8, 16), (16, 16), (16, 16), (16, 16), (16, 32), (32, 32)]
    cells = sum(10 * (3 * start * end + 3 * end * end) for start, end in widths)
    skips = sum(3 * start * end for start, end in widths if start != end)
    stem, classifier = 27 * 2 + 4 + 9 * 2 * 4 + 8, 33 * 3
    assert params_of(network) == stem + cells + skips + classifier
    with pytest.raises(StructureError, match="ten cells, got 3"):
        space.open_network(cells=3)
    with pytest.raises(StructureError, match="must be an even number"):
        space.open_network(channels=3)
