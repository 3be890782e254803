"""A block type of a user's own, registered in one place, works everywhere."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass
from math import isfinite

import optuna
import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from zenopt.core.costs import count
from zenopt.core.errors import SpecError, StructureError
from zenopt.core.primitives import Conv, Node, Norm, Relu, Residual, conv_norm, project
from zenopt.nn import build_network
from zenopt.proxies import score_architecture
from zenopt.spaces.chain import architecture as registry
from zenopt.spaces.chain.architecture import (
    Architecture,
    Block,
    ResidualBlock,
    block_types,
    make_block,
    register_block,
)
from zenopt.spaces.chain.closed_form import closed_form_zen
from zenopt.spaces.chain.space import ChainSpace

TEXT = "SuperConvK3BNRELU(3,8,1,1)GroupedE2K3(8,16,2,8,2)SuperConvK1BNRELU(16,32,1,1)"


@pytest.fixture(autouse=True)
def _grouped() -> Iterator[None]:
    """Register a residual of grouped convolutions for one test."""
    before = dict(registry._VARIANTS)

    @register_block("GroupedE{expansion}K{kernel}", expansion=(1, 2), kernel=(3, 5))
    @dataclass(frozen=True)
    class Grouped(ResidualBlock):
        expansion: int
        kernel: int

        def expand(self) -> tuple[Node, ...]:
            nodes: list[Node] = []
            channels, stride, middle = self.in_channels, self.stride, self.bottleneck * self.expansion
            for unit in range(self.depth):
                body = (
                    *conv_norm(channels, middle, 1),
                    Relu(middle),
                    Conv(middle, middle, self.kernel, stride, groups=middle // 8),
                    Norm(middle),
                    Relu(middle),
                    *conv_norm(middle, self.out_channels, 1),
                )
                nodes += [
                    Residual(body, project(channels, self.out_channels, stride, always=unit == 0)),
                    Relu(self.out_channels),
                ]
                channels, stride = self.out_channels, 1
            return tuple(nodes)

    yield
    registry._VARIANTS.clear()
    registry._VARIANTS.update(before)


def space(*blocks: str) -> ChainSpace:
    return ChainSpace(
        blocks=blocks, stage_strides=(1, 2), slots=2, max_width=64, max_bottleneck=32, max_head=64
    )


def test_it_is_parsed_and_formatted() -> None:
    assert "GroupedE2K3" in block_types()
    architecture = Architecture.parse(TEXT)
    assert str(architecture) == TEXT
    block = architecture.blocks[1]
    assert (block.expansion, block.kernel, block.bottleneck, block.is_residual) == (2, 3, 8, True)


def test_its_counts_are_those_of_the_network() -> None:
    architecture = Architecture.parse(TEXT)
    costs = count(architecture, 15, 4)
    network = build_network(architecture, num_classes=4).eval()
    assert costs.params == sum(parameter.numel() for parameter in network.parameters())
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        assert network(torch.zeros(1, 3, 15, 15)).shape == (1, 4)
    assert costs.macs == counter.get_total_flops() / 2
    # Stem, head and two units of three.
    assert costs.convs == 8


def test_its_scores_agree() -> None:
    architecture = Architecture.parse(TEXT)
    measured = score_architecture(architecture, "zen", resolution=16, batch_size=8, repeats=4, seed=0)
    assert closed_form_zen(architecture, 16) == pytest.approx(measured.mean, rel=0.05)


@pytest.mark.parametrize(
    ("blocks", "categories"),
    [
        # A full product reads as family and fields; anything else as type names.
        (("GroupedE1K3", "GroupedE1K5", "GroupedE2K3", "GroupedE2K5"), {"type", "kernel", "expansion"}),
        (("GroupedE1K3", "GroupedE2K5"), {"type"}),
        (("GroupedE1K3", "SuperResK3K3", "SuperResIDWE6K7"), {"type"}),
    ],
)
def test_a_space_of_it(blocks: tuple[str, ...], categories: set[str]) -> None:
    mine = space(*blocks)
    names = {name.rpartition(".")[2] for name in mine.distributions if name.startswith("stage1.block1.")}
    assert names == {*categories, "width", "bottleneck", "depth"}
    rng = random.Random(0)
    architecture = mine.parse(mine.initial)
    seen = set()
    for _ in range(300):
        architecture = mine.mutate(architecture, rng) or architecture
        assert mine.decode(mine.encode(architecture)) == architecture
        seen |= {block.type_name for block in architecture.blocks[1:-1]}
    assert seen == set(blocks)


def test_a_study_of_it() -> None:
    mine = space("GroupedE1K3", "GroupedE1K5", "GroupedE2K3", "GroupedE2K5")
    study = optuna.create_study(direction="maximize", sampler=optuna.samplers.RandomSampler(seed=0))
    study.optimize(lambda trial: closed_form_zen(mine.suggest(trial), 16), n_trials=5)
    assert isfinite(study.best_value)
    assert "Grouped" in str(mine.decode(study.best_params))


def test_names_are_taken_once_and_nothing_is_half_registered() -> None:
    before = block_types()
    with pytest.raises(ValueError, match="'SuperResK3K3' is already registered by SuperResKXKX"):

        @register_block("SuperResK{kernel}K3", kernel=(1, 3))
        @dataclass(frozen=True)
        class Clash(ResidualBlock):
            kernel: int

    with pytest.raises(ValueError, match=r"'Twice' is given twice: 'Twice' must hold every choice"):
        register_block("Twice", kernel=(3, 5))(Block)
    with pytest.raises(ValueError, match="'Not-A-Name' must be letters, digits and underscores"):
        register_block("Not-A-Name")(Block)
    with pytest.raises(ValueError, match="SuperConv is registered already, as SuperConvK1BNRELU"):
        register_block("AnotherName")(type(make_block("SuperConvK3BNRELU", **_numbers())))
    assert block_types() == before


def _numbers() -> dict[str, int]:
    return {"in_channels": 3, "out_channels": 8, "stride": 1, "depth": 1}


def test_its_own_checks_keep_their_words() -> None:
    @register_block("Even")
    @dataclass(frozen=True)
    class Even(Block):
        def __post_init__(self) -> None:
            super().__post_init__()
            if self.out_channels % 2:
                raise StructureError(f"width: must be even, got {self.out_channels}.")

    with pytest.raises(StructureError, match=r"^Block 0 Even at position 0: width: must be even, got 7\.$"):
        Architecture.parse("Even(3,7,1,1)")


def test_a_block_without_convolutions_is_counted() -> None:
    @register_block("JustRelu")
    @dataclass(frozen=True)
    class JustRelu(Block):
        def expand(self) -> tuple[Node, ...]:
            return (Relu(self.in_channels),) * self.depth

    costs = count(Architecture.parse("JustRelu(3,3,1,1)"), 8, 2)
    assert (costs.params, costs.macs, costs.convs, costs.depth_to_width) == (3 * 2 + 2, 6, 0, 0.0)


def test_a_space_needs_plain_residual_arguments() -> None:
    @register_block("Wider")
    @dataclass(frozen=True)
    class Wider(ResidualBlock):
        extra: int

        arguments = ("in_channels", "out_channels", "stride", "bottleneck", "depth", "extra")

    with pytest.raises(SpecError, match=r"space\.blocks: Wider takes extra, which no parameter spells"):
        space("Wider")
