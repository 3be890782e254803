"""Every primitive: what is counted is what is built, and what a standalone file builds."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from zenopt.core.costs import count
from zenopt.core.description import Auxiliary, Description, Stack, Unit, choose, describe
from zenopt.core.errors import StructureError
from zenopt.core.lowering import lower
from zenopt.core.primitives import (
    FUNCTIONS,
    Activation,
    Branches,
    Choice,
    Conv,
    Edge,
    GlobalPool,
    Graph,
    Identity,
    Node,
    Norm,
    Pool,
    Relu,
    Residual,
    Shift,
    Shuffle,
    Slice,
    SqueezeExcite,
    Zero,
)
from zenopt.export.standalone import write_model_file
from zenopt.latency.options import MeasureOptions
from zenopt.latency.parts import BlockPart, network_parts
from zenopt.latency.runners import prepared
from zenopt.nn import build_auxiliary, build_network
from zenopt.nn.modules import GraphModule
from zenopt.spaces.base import BaseArchitecture


@dataclass(frozen=True)
class Hand(BaseArchitecture):
    """A network given by its nodes."""

    nodes: tuple[Node, ...]
    out_channels: int
    neck: tuple[Node, ...] = ()
    features: int = 0

    family: ClassVar[str] = "hand-made"

    @property
    def description(self) -> Description:
        stem = Stack("stem", (Conv(3, 8, 3), Norm(8)), 3, 8)
        body = Stack("body", self.nodes, 8, self.out_channels)
        return Description((stem, body), ("stem", "blocks.0"), neck=self.neck, features=self.features)

    def __str__(self) -> str:
        return "hand-made"


def conv(wide: int = 8, out: int = 8, kernel: int = 3, stride: int = 1) -> tuple[Node, ...]:
    return (Relu(wide), Conv(wide, out, kernel, stride), Norm(out, 1e-5))


#: A ShuffleNet unit: half of the channels pass, the other half is worked on, then both are joined.
SHUFFLE = (Shuffle(8), Branches(((Slice(8, 0, 4),), (Slice(8, 4, 8), *conv(4, 4))), "concat"))
#: A factorised reduction: two halves that see neighbouring pixels.
FACTORISED = (Relu(8), Branches(((Conv(8, 6, 1, 2),), (Shift(8), Conv(8, 6, 1, 2))), "concat"), Norm(12))
CELL = Graph(
    1,
    (
        Edge(0, 1, conv()),
        Edge(0, 2, (Zero(8),)),
        Edge(1, 2, (Pool(8, 3),)),
        Edge(0, 3, (Identity(8),)),
        Edge(1, 3, conv(kernel=1)),
        Edge(2, 3, (Pool(8, 3, kind="max"),)),
    ),
    (1, 3),
)
CASES = {
    "dilated": Hand((Conv(8, 8, 3, 2, dilation=2), Norm(8), Relu(8)), 8),
    "grouped with bias": Hand((Conv(8, 16, 5, groups=4, bias=True), Norm(16, affine=False)), 16),
    "residual": Hand((Residual(conv(8, 12, 3, 2), (Conv(8, 12, 1, 2),)), Relu(12)), 12),
    "shuffle": Hand(SHUFFLE, 8),
    "factorised": Hand(FACTORISED, 12),
    "shortcut among branches": Hand(
        (Branches(((Pool(8, 2, 2), Conv(8, 8, 1)), conv(8, 8, 3, 2)), "sum", ("shortcut", "body"), 0),), 8
    ),
    "gate": Hand(
        (*conv(), SqueezeExcite(8, 2, norm=False, bias=True, gate="hardsigmoid", optional=False)), 8
    ),
    "cell": Hand((CELL,), 16),
    "pooled inside": Hand((Branches(((GlobalPool(8), Conv(8, 8, 1), Activation(8, "sigmoid")),), "sum"),), 8),
    "strided zero": Hand((Branches(((Zero(8, 2),), conv(8, 8, 3, 2)), "sum"),), 8),
    "zero of another width": Hand(
        (Graph(1, (Edge(0, 1, (Zero(8, 2, 12),)), Edge(0, 1, conv(8, 12, 3, 2))), (1,)),), 12
    ),
    "nothing but zero": Hand((Graph(1, (Edge(0, 1, (Zero(8, 1, 12),)),), (1,)),), 12),
    "pool without padding": Hand((Pool(8, 5, 3, padded=False), Conv(8, 8, 1)), 8),
    "neck": Hand(conv(), 8, (Conv(8, 20, 1), Activation(20, "hardswish")), 20),
    **{f"function {name}": Hand((Conv(8, 8, 1), Activation(8, name)), 8) for name in FUNCTIONS},
}


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("resolution", [16, 15])
def test_what_is_counted_is_built(name: str, resolution: int) -> None:
    case = CASES[name]
    if name == "shortcut among branches" and resolution % 2:
        pytest.skip("pooling by two and a strided convolution differ on odd maps")
    layers = lower(case, resolution, num_classes=5)
    network = build_network(case, num_classes=5).eval()
    assert sum(layer.params for layer in layers) == sum(p.numel() for p in network.parameters())
    images = torch.randn(2, 3, resolution, resolution)
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        assert network(images).shape == (2, 5)
    assert sum(layer.macs for layer in layers) == counter.get_total_flops() / 4
    costs = count(case, resolution, 5)
    assert (costs.params, costs.macs) == (
        sum(layer.params for layer in layers),
        sum(layer.macs for layer in layers),
    )
    body = [layer for layer in layers if layer.block == 1]
    with torch.no_grad():
        features = network.forward_features(images)
    if body:
        assert features.shape[1:] == (body[-1].out_channels, body[-1].out_size, body[-1].out_size)


def test_standalone_files_build_the_same_network(tmp_path: Path) -> None:
    """All in one process, because importing torch takes longer than everything else."""
    script = "import importlib, sys, torch\nsys.path.insert(0, '.')\n"
    script += "torch.set_grad_enabled(False)\ntorch.set_num_threads(1)\n"
    for index, (name, case) in enumerate(CASES.items()):
        write_model_file(case, tmp_path / f"model{index}.py", resolution=16, num_classes=5)
        torch.manual_seed(index)
        network = build_network(case, num_classes=5).eval()
        images = torch.randn(2, 3, 16, 16)
        with torch.no_grad():
            torch.save((network.state_dict(), images, network(images)), tmp_path / f"{index}.pt")
        script += (
            f"network = importlib.import_module('model{index}').build().eval()\n"
            f"state, images, wanted = torch.load('{index}.pt', weights_only=True)\n"
            f"assert list(network.state_dict()) == list(state), {name!r}\n"
            f"network.load_state_dict(state)\n"
            f"assert torch.equal(network(images), wanted), {name!r}\n"
        )
    subprocess.run([sys.executable, "-c", script], cwd=tmp_path, check=True)


def test_a_cell_is_computed_by_hand() -> None:
    """Place 2 is the sum of a doubled input and the input; place 3 joins it with place 1."""
    graph = Graph(1, (Edge(0, 1, ()), Edge(0, 2, (Identity(8),)), Edge(1, 2, ())), (2, 1))
    network = build_network(Hand((graph,), 16), num_classes=2).eval()
    x = torch.randn(1, 8, 4, 4)
    with torch.no_grad():
        assert torch.equal(network.blocks[0](x), torch.cat([2 * x, x], dim=1))


def test_shuffle_regroups_channels() -> None:
    from zenopt.nn.modules import build_nodes

    x = torch.arange(6.0).reshape(1, 6, 1, 1)
    (module,) = build_nodes((Shuffle(6, 2),), use_se=False, residual=True)
    assert module(x).flatten().tolist() == [0, 3, 1, 4, 2, 5]


def test_shift_moves_the_map() -> None:
    from zenopt.nn.modules import build_nodes

    x = torch.arange(4.0).reshape(1, 1, 2, 2)
    (module,) = build_nodes((Shift(1),), use_se=False, residual=True)
    assert module(x).flatten().tolist() == [3, 0, 0, 0]


OPEN = Choice("edge", (("conv", conv()), ("skip", (Identity(8),))))


def test_open_choices_are_neither_counted_nor_built() -> None:
    case = Hand((OPEN,), 8)
    with pytest.raises(StructureError, match="choice edge is open"):
        lower(case, 16)
    with pytest.raises(StructureError, match="choice edge is open"):
        build_network(case)


def test_choices_are_picked_wherever_they_stand() -> None:
    nodes = (
        Residual((OPEN,), ()),
        Branches(((OPEN,), ()), "sum"),
        Graph(1, (Edge(0, 1, (OPEN,)),), (1,)),
    )
    assert choose(nodes, {"edge": "conv"}) == (
        Residual(conv(), ()),
        Branches((conv(), ()), "sum"),
        Graph(1, (Edge(0, 1, conv()),), (1,)),
    )
    with pytest.raises(StructureError, match="has no alternative 'pool'; allowed: conv, skip"):
        choose(nodes, {"edge": "pool"})
    with pytest.raises(StructureError, match="choice edge is open; pick one of conv, skip"):
        choose(nodes, {})


@dataclass(frozen=True)
class TwoInputs(Unit):
    """A cell that takes the outputs of the two units before it, as DARTS cells do."""

    in_channels: int = 8
    out_channels: int = 8
    inputs: ClassVar[tuple[int, ...]] = (-2, -1)

    def expand(self) -> tuple[Node, ...]:
        return (Graph(2, (Edge(0, 2, conv()), Edge(1, 2, (Identity(8),))), (2,)),)

    def __str__(self) -> str:
        return "two inputs"


@dataclass(frozen=True)
class Darts(BaseArchitecture):
    cells: int
    family: ClassVar[str] = "two-inputs"
    units: tuple[Unit, ...] = field(default=(), init=False)

    @property
    def description(self) -> Description:
        stem = Stack("stem", (Conv(3, 8, 3), Norm(8)), 3, 8)
        return Description((stem, *(TwoInputs() for _ in range(self.cells))))

    def __str__(self) -> str:
        return f"{self.cells} cells"


def test_units_may_take_several_inputs(tmp_path: Path) -> None:
    case = Darts(3)
    network = build_network(case, num_classes=4).eval()
    costs = count(case, 16, 4)
    assert costs.params == sum(p.numel() for p in network.parameters())
    x = torch.randn(1, 3, 16, 16)
    with torch.no_grad():
        first = network.blocks[0](x)
        maps = [first, network.blocks[1](first, first)]
        maps.append(network.blocks[2](maps[0], maps[1]))
        maps.append(network.blocks[3](maps[1], maps[2]))
        assert torch.equal(network.forward_features(x), maps[-1])
    assert list(network.forward_stages(x)) == [1]


@dataclass(frozen=True)
class Joining(Unit):
    """A cell whose inputs differ in width and size; its first edge is no choice of a path."""

    before: int
    in_channels: int
    out_channels: int = 8
    inputs: ClassVar[tuple[int, ...]] = (-2, -1)

    @property
    def input_channels(self) -> tuple[int, ...]:
        return (self.before, self.in_channels)

    def expand(self) -> tuple[Node, ...]:
        first = Edge(0, 2, (GlobalPool(self.before), Conv(self.before, 8, 1)), drops=False)
        edges = (first, Edge(1, 3, conv(self.in_channels)), Edge(2, 3, ()), Edge(2, 3, (Pool(8, 3),)))
        return (Graph(2, edges, (3,)),)

    def __str__(self) -> str:
        return f"joining({self.before},{self.in_channels})"


@dataclass(frozen=True)
class Assisted(BaseArchitecture):
    """A network of one two-input cell, with a second classifier on its stem's second half."""

    family: ClassVar[str] = "assisted"

    @property
    def description(self) -> Description:
        first = Stack("first", (Conv(3, 6, 3), Norm(6)), 3, 6)
        second = Stack("second", conv(6, 10, 3, 2), 6, 10)
        auxiliary = Auxiliary(1, (Pool(10, 5, 3, padded=False), Conv(10, 12, 2), Relu(12)), 12)
        return Description((first, second, Joining(6, 10)), auxiliary=auxiliary)

    def __str__(self) -> str:
        return "assisted"


def test_inputs_may_differ_in_width() -> None:
    case = Assisted()
    costs, network = count(case, 16, 4), build_network(case, num_classes=4).eval()
    assert costs.params == sum(p.numel() for p in network.parameters())
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        network(torch.zeros(1, 3, 16, 16))
    assert costs.macs == counter.get_total_flops() // 2
    pooled = next(layer for layer in lower(case, 16, num_classes=4) if layer.kind == "pool")
    assert (pooled.in_channels, pooled.in_size) == (6, 16)


def test_a_unit_of_several_inputs_is_timed_alone() -> None:
    """Its other inputs are zeros, of the widths and sizes they have in the network."""
    part = network_parts(Assisted(), 16, 4)
    cell = [item for item in part if isinstance(item, BlockPart)][2]
    assert cell.input_shapes == ((6, 16, 16), (10, 8, 8)) and cell.input_shape == (10, 8, 8)
    module = cell.build().eval()
    x = torch.randn(2, *cell.input_shape)
    with torch.no_grad():
        assert torch.equal(module(x), module.module(torch.zeros(2, 6, 16, 16), x))
    assert cell.name == "joining(6,10)@16,8"
    with prepared(cell.build(), MeasureOptions(batch=2), cell.input_shape) as run:
        run()


def test_drop_path_leaves_what_is_no_choice_and_identities() -> None:
    (cell,) = (
        module
        for module in build_network(Assisted(), num_classes=4).modules()
        if isinstance(module, GraphModule)
    )
    assert cell.can_drop == [False, True, False, True]


def test_an_auxiliary_classifier_is_no_part_of_the_network() -> None:
    case, images = Assisted(), torch.randn(4, 3, 32, 32)
    network = build_network(case, num_classes=5)
    weights = set(network.state_dict())
    auxiliary = build_auxiliary(network, 32)
    assert set(network.state_dict()) == weights
    assert case.description.auxiliary is not None
    seen = network._outputs(images)[case.description.auxiliary.unit]
    assert auxiliary(seen).shape == (4, 5)
    with pytest.raises(StructureError, match="hand-made networks have no auxiliary classifier"):
        build_auxiliary(build_network(CASES["cell"]), 32)


def test_options_must_fit() -> None:
    case = CASES["cell"]
    with pytest.raises(StructureError, match="hand-made networks have no optional squeeze-excite gates"):
        build_network(case, use_se=True)
    with pytest.raises(StructureError, match="residual must be true"):
        lower(case, 16, residual=False)
    with pytest.raises(StructureError, match="has no description"):
        describe(object())
