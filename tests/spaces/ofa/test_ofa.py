"""Once-for-all's MobileNetV3 space: texts, counts, what blocks are."""

from __future__ import annotations

import pytest
import torch
from known import fixture_rows

from zenopt.core.costs import count
from zenopt.core.errors import SpecError, StructureError
from zenopt.core.lowering import lower
from zenopt.nn import build_network
from zenopt.spaces.ofa.architecture import BlockChoice, OfaArchitecture, divisible_by_8
from zenopt.spaces.ofa.space import OfaSpace
from zenopt.supernet.module import Supernet
from zenopt.supernet.sampling import PathSampler
from zenopt.testing import FamilyTests

SPACE = OfaSpace()


class TestOfa(FamilyTests):
    name = "ofa-mobilenetv3"
    options = {"width": 0.25}
    resolution, num_classes = 32, 4
    samples = 6


def uniform(kernel: int, expansion: int, depth: int, width: float = 1.0) -> OfaArchitecture:
    return OfaArchitecture(((BlockChoice(kernel, expansion),) * depth,) * 5, width)


def test_counts_are_the_known_ones() -> None:
    rows = fixture_rows("ofa_mbv3")
    assert len(rows) == 20
    for row in rows:
        slots = list(
            map(BlockChoice, map(int, row["kernel_sizes_20_slots"]), map(int, row["expand_ratios_20_slots"]))
        )
        depths = map(int, row["depths_5_stages"])
        network = OfaArchitecture(
            tuple(tuple(slots[4 * stage : 4 * stage + depth]) for stage, depth in enumerate(depths))
        )
        costs = count(network, int(row["resolution"]), 1000)
        assert (costs.params, costs.macs) == (int(row["params"]), int(row["macs"]))
        assert SPACE.contains(network)


def test_the_smallest_and_the_largest() -> None:
    smallest, largest = (count(uniform(*choices), 224) for choices in ((3, 3, 2), (7, 6, 4)))
    assert (smallest.params, round(smallest.macs / 1e6, 1)) == (3_410_792, 121.3)
    assert (largest.params, round(largest.macs / 1e6, 1)) == (7_664_760, 566.2)
    assert SPACE.initial == str(uniform(3, 3, 2))
    with torch.device("meta"):
        assert Supernet(PathSampler(SPACE), 1000).params == largest.params


def test_activations_gates_and_strides_are_those_of_the_stages() -> None:
    network = uniform(5, 4, 3)
    layers = lower(network, 224)
    # Units: the stem, then three blocks a stage.
    assert {layer.block for layer in layers if layer.role == "se"} == {4, 5, 6, 10, 11, 12, 13, 14, 15}
    assert {layer.block for layer in layers if layer.kind == "relu" and layer.role == "body"} == set(range(7))
    body = [layer for layer in layers if layer.role == "body" and layer.kind == "conv"]
    assert [layer.block for layer in body if layer.stride == 2] == [0, 1, 4, 7, 13]
    assert [layer.block for layer in layers if layer.kind == "add"] == [0, 2, 3, 5, 6, 8, 9, 11, 12, 14, 15]
    gates = {(layer.in_channels, layer.out_channels) for layer in layers if layer.role == "se" and layer.macs}
    assert (96, 24) in gates and (160, 40) in gates and (448, 112) in gates


@pytest.mark.parametrize("width", [0.35, 1.2])
def test_widths_are_multiplied(width: float) -> None:
    architecture = uniform(3, 6, 2, width)
    network = build_network(architecture, num_classes=7)
    assert sum(value.numel() for value in network.parameters()) == count(architecture, 32, 7).params
    widths = [unit.out_channels for unit in architecture.description.units]
    assert widths[::2] == [divisible_by_8(width * value) for value in (16, 24, 40, 80, 112, 160)]
    assert network.classifier.in_features == divisible_by_8(width * 1280)
    assert (
        str(architecture).endswith(f"-w{width}") and OfaArchitecture.parse(str(architecture)) == architecture
    )
    with pytest.raises(StructureError, match=f"width is {width}; allowed is 1.0"):
        SPACE.encode(architecture)


def test_rounding_never_loses_more_than_a_tenth() -> None:
    assert [divisible_by_8(value) for value in (4, 12, 18, 19.2, 28.8, 48, 134.4)] == [
        8,
        16,
        24,
        24,
        32,
        48,
        136,
    ]


def test_parameters_are_those_of_blocks_that_are_there() -> None:
    params = SPACE.encode(uniform(7, 6, 3))
    assert params["stage2.depth"] == 3 and "stage2.block4.kernel" not in params and len(params) == 5 * 7
    narrow = OfaSpace(kernels=(3, 5), depths=(2, 3))
    with pytest.raises(StructureError, match=r"stage1.block1.kernel is 7; allowed are 3, 5"):
        narrow.encode(uniform(7, 6, 3))
    with pytest.raises(StructureError, match=r"stage1.depth is 4; allowed are 2, 3"):
        narrow.encode(uniform(3, 6, 4))
    with pytest.raises(StructureError, match=r"'stage1.block3.kernel' is missing"):
        SPACE.decode({**SPACE.encode(uniform(3, 3, 2)), "stage1.depth": 3})


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("k3e3.k3e3", "has 5 stages, got 1"),
        ("k3e3-" * 4 + "k3e3.k3e3", "Stage 1 of a once-for-all text: expected 2 to 4 blocks, got 1"),
        ("-".join(["k3e3.k3e3"] * 4 + ["k3e3.k9e3"]), "Stage 5 .*kernels of 3, 5, 7 .*, got k9e3"),
        ("-".join(["k3e3.k3e3"] * 4 + ["k3e3.x"]), "Stage 5 .*expected e.g. k3e6.k5e4, got 'k3e3.x'"),
        ("-".join(["k3e3.k3e3"] * 5 + ["w9"]), r"width .* from 0.25 to 4.0, got 9.0"),
        ("k" * 5000, "Stage 1"),
    ],
)
def test_other_texts_are_errors(text: str, complaint: str) -> None:
    with pytest.raises(StructureError, match=complaint):
        SPACE.parse(text)


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        ({"kernels": (3, 9)}, r"space.kernels must be different ones of 3, 5, 7; got \[3, 9\]"),
        ({"depths": ()}, r"space.depths must be different ones of 2, 3, 4; got \[\]"),
        ({"width": 0.1}, "space.width must be from 0.25 to 4.0; got 0.1"),
        ({"width": "wide"}, "space.width must be from 0.25 to 4.0; got 'wide'"),
    ],
)
def test_options_are_checked(options: dict[str, object], complaint: str) -> None:
    with pytest.raises(SpecError, match=complaint):
        OfaSpace(**options)  # type: ignore[arg-type]
