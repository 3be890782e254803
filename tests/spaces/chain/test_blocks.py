"""The published block types, layer by layer, against expansions written out by hand."""

from __future__ import annotations

import pytest

from zenopt.core.primitives import Conv, Norm, Relu, Residual, SqueezeExcite, round_to_8
from zenopt.spaces.chain.architecture import block_types, make_block


def test_all_published_types_exist() -> None:
    expected = {f"SuperConvK{k}BNRELU" for k in (1, 3, 5, 7)}
    expected |= {f"SuperResK{k}K{k}" for k in (3, 5, 7)} | {f"SuperResK1K{k}K1" for k in (3, 5, 7)}
    expected |= {f"SuperResIDWE{e}K{k}" for e in (1, 2, 4, 6) for k in (3, 5, 7)}
    assert expected <= set(block_types())


def test_convolution() -> None:
    block = make_block("SuperConvK5BNRELU", in_channels=3, out_channels=8, stride=2, depth=2)
    assert block.expand() == (Conv(3, 8, 5, 2), Norm(8), Relu(8), Conv(8, 8, 5, 1), Norm(8), Relu(8))
    assert not block.is_residual


def test_two_k_by_k() -> None:
    block = make_block("SuperResK5K5", in_channels=8, out_channels=24, stride=2, bottleneck=16, depth=2)

    def body(channels: int, stride: int) -> tuple:
        return (
            Conv(channels, 16, 5, stride),
            Norm(16),
            Relu(16),
            SqueezeExcite(16),
            Conv(16, 24, 5),
            Norm(24),
        )

    assert block.expand() == (
        Residual(body(8, 2), (Conv(8, 24, 1, 2, bias=True), Norm(24))),
        Relu(24),
        Residual(body(24, 1)),
        Relu(24),
    )


def test_bottlenecks_come_in_pairs() -> None:
    block = make_block("SuperResK1K7K1", in_channels=24, out_channels=24, stride=2, bottleneck=16, depth=1)

    def body(stride: int) -> tuple:
        return (
            *(Conv(24, 16, 1), Norm(16), Relu(16)),
            *(Conv(16, 16, 7, stride), Norm(16), Relu(16)),
            SqueezeExcite(16),
            *(Conv(16, 24, 1), Norm(24)),
        )

    assert block.expand() == (
        Residual(body(2), (Conv(24, 24, 1, 2, bias=True), Norm(24))),
        Relu(24),
        Residual(body(1)),
        Relu(24),
    )


def test_inverted_depthwise() -> None:
    block = make_block("SuperResIDWE2K3", in_channels=8, out_channels=24, stride=2, bottleneck=12, depth=2)

    def body(channels: int, middle: int, out: int, stride: int) -> tuple:
        return (
            *(Conv(channels, middle, 1), Norm(middle), Relu(middle)),
            *(Conv(middle, middle, 3, stride, groups=middle), Norm(middle), Relu(middle)),
            SqueezeExcite(middle),
            *(Conv(middle, out, 1), Norm(out)),
        )

    def projection(channels: int, out: int, stride: int) -> tuple:
        return Conv(channels, out, 1, stride, bias=True), Norm(out)

    # Channels flow in -> bottleneck -> out; both inner widths are rounded: 2 * 12 = 24, 2 * 24 = 48.
    assert block.expand() == (
        *(Residual(body(8, 24, 12, 2), projection(8, 12, 2)), Relu(12)),
        *(Residual(body(12, 48, 24, 1), projection(12, 24, 1)), Relu(24)),
        *(Residual(body(24, 24, 12, 1), projection(24, 12, 1)), Relu(12)),
        *(Residual(body(12, 48, 24, 1), projection(12, 24, 1)), Relu(24)),
    )


@pytest.mark.parametrize("name", ["SuperResK3K3", "SuperResK1K3K1", "SuperResIDWE1K3"])
def test_only_the_first_residual_projects_unconditionally(name: str) -> None:
    block = make_block(name, in_channels=16, out_channels=16, stride=1, bottleneck=16, depth=3)
    residuals = [node for node in block.expand() if isinstance(node, Residual)]
    assert [bool(node.projection) for node in residuals] == [True] + [False] * (len(residuals) - 1)


@pytest.mark.parametrize(
    ("value", "rounded"), [(0, 8), (3, 8), (11.9, 8), (12, 16), (20, 16), (28, 32), (36, 32), (60.1, 64)]
)
def test_widths_round_half_to_even(value: float, rounded: int) -> None:
    # 12 = 1.5 * 8 and 20 = 2.5 * 8 both go to 16.
    assert round_to_8(value) == rounded


@pytest.mark.parametrize(
    ("channels", "reduced"), [(1, 1), (2, 1), (8, 2), (10, 2), (14, 4), (18, 4), (96, 24)]
)
def test_gate_width(channels: int, reduced: int) -> None:
    assert SqueezeExcite(channels).reduced == reduced
