"""NAS-Bench-201 cells: strings, layers, networks."""

from __future__ import annotations

import random

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from zenopt.core.errors import StructureError
from zenopt.core.lowering import lower
from zenopt.nn import build_network
from zenopt.proxies.synflow import without_norms
from zenopt.spaces.nasbench201.architecture import EDGES, OPERATIONS, CellArchitecture

BEST = "|nor_conv_3x3~0|+|nor_conv_3x3~0|nor_conv_3x3~1|+|skip_connect~0|nor_conv_3x3~1|nor_conv_1x1~2|"
MIXED = "|avg_pool_3x3~0|+|none~0|nor_conv_1x1~1|+|skip_connect~0|none~1|avg_pool_3x3~2|"
EMPTY = "|none~0|+|none~0|none~1|+|none~0|none~1|none~2|"


def test_string_round_trip() -> None:
    rng = random.Random(0)
    for _ in range(200):
        cell = CellArchitecture(tuple(rng.choice(OPERATIONS) for _ in EDGES))
        assert CellArchitecture.parse(str(cell)) == cell
    assert str(CellArchitecture.parse(f" {BEST}\n")) == BEST
    assert CellArchitecture.parse(BEST).operations[1] == "nor_conv_3x3"
    assert CellArchitecture.parse(MIXED).operations == (
        "avg_pool_3x3", "none", "nor_conv_1x1", "skip_connect", "none", "avg_pool_3x3",
    )  # fmt: skip


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("", "3 nodes"),
        (BEST.replace("+", "", 1), "3 nodes"),
        (BEST[1:], "Node 1 must begin and end"),
        (BEST.replace("nor_conv_3x3~1|+", "+"), "Node 2"),
        (BEST.replace("skip_connect~0", "skip_connect~1"), "expected 'operation~0'"),
        (BEST.replace("skip_connect", "max_pool"), "unknown operation 'max_pool'; allowed: none"),
    ],
)
def test_malformed_strings_name_the_place(text: str, complaint: str) -> None:
    with pytest.raises(StructureError, match=complaint.replace("|", r"\|").replace("+", r"\+")):
        CellArchitecture.parse(text)


@pytest.mark.parametrize("text", [BEST, MIXED, EMPTY])
def test_layers_count_what_torch_counts(text: str) -> None:
    cell = CellArchitecture.parse(text)
    layers = lower(cell, 32, num_classes=10)
    network = build_network(cell, num_classes=10).eval()
    assert sum(layer.params for layer in layers) == sum(p.numel() for p in network.parameters())
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        network(torch.zeros(1, 3, 32, 32))
    assert sum(layer.macs for layer in layers) == counter.get_total_flops() / 2


def test_sizes_chain_and_unsuitable_numbers_are_errors() -> None:
    layers = lower(CellArchitecture.parse(BEST), 32)
    assert {layer.out_size for layer in layers if layer.block == 18} == {8, 1}
    with pytest.raises(StructureError, match="no multiple of 4"):
        lower(CellArchitecture.parse(BEST), 30)
    with pytest.raises(StructureError, match="residual must be true"):
        build_network(CellArchitecture.parse(BEST), num_classes=10, residual=False)
    with pytest.raises(StructureError, match="squeeze-excite"):
        build_network(CellArchitecture.parse(BEST), num_classes=10, use_se=True)
    with pytest.raises(StructureError, match="allowed: official, zero-cost"):
        build_network(CellArchitecture.parse(BEST), build="other")


def test_cell_adds_what_its_edges_give() -> None:
    """With skip on 0->1, 1->2, 2->3 and 0->3 alone, the output is twice the input."""
    cell = CellArchitecture(("skip_connect", "none", "skip_connect", "skip_connect", "none", "skip_connect"))
    network = build_network(cell)
    x = torch.randn(2, 16, 4, 4)
    assert torch.equal(network.blocks[0](x), 2 * x)


def test_builds_differ_inside_cells_only() -> None:
    cell = CellArchitecture.parse(BEST)
    official, reference = build_network(cell), build_network(cell, build="zero-cost")
    names = {name for name, _ in official.named_parameters()} ^ {
        name for name, _ in reference.named_parameters()
    }
    assert names and all(".edges." in name for name in names)


def test_removing_norms_keeps_those_of_the_reference_reductions() -> None:
    def norms(network: torch.nn.Module) -> int:
        return sum(isinstance(module, torch.nn.BatchNorm2d) for module in network.modules())

    cell = CellArchitecture.parse(BEST)
    assert norms(without_norms(build_network(cell))) == 0
    reference = build_network(cell, build="zero-cost")
    assert norms(without_norms(reference)) == 4
    assert norms(reference) == 2 + 4 + 15 * 5
