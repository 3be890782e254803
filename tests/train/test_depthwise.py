from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from zenopt.train.depthwise import DepthwiseConv, fits
from zenopt.train.layout import put_channels_last

CASES = [(kernel, stride, side) for kernel in (3, 5, 7) for stride in (1, 2) for side in (1, 2, 3, 4, 7, 12)]


def gradients(module: nn.Module, images: torch.Tensor, half: bool) -> list[torch.Tensor]:
    images = images.clone(memory_format=torch.preserve_format).requires_grad_()
    with torch.autocast("cpu", dtype=torch.bfloat16, enabled=half):
        out = module(images)
    weights = torch.randn(out.shape, generator=torch.Generator().manual_seed(1))
    (out.float() * weights).sum().backward()
    assert images.grad is not None
    return [
        out,
        images.grad,
        *(parameter.grad for parameter in module.parameters() if parameter.grad is not None),
    ]


@pytest.mark.parametrize("half", [False, True], ids=["float32", "bfloat16"])
@pytest.mark.parametrize(("kernel", "stride", "side"), CASES)
def test_gradients_are_those_of_the_plain_convolution(
    kernel: int, stride: int, side: int, half: bool
) -> None:
    torch.manual_seed(0)
    plain = nn.Conv2d(6, 6, kernel, stride, kernel // 2, groups=6, bias=False)
    changed = put_channels_last(copy.deepcopy(plain), torch.device("cpu"))
    assert type(changed) is DepthwiseConv
    images = torch.randn(4, 6, side, side + 1)
    found = gradients(changed, images.contiguous(memory_format=torch.channels_last), half)
    expected = gradients(plain, images, False)
    for one, other in zip(found, expected, strict=True):
        # The format of the weights, and of the images, is that of the gradients.
        assert one.dtype == (torch.bfloat16 if half and one is found[0] else torch.float32)
        error = (one.float() - other).norm() / other.norm()
        assert error < (0.01 if half else 1e-5)


def test_the_forward_pass_is_the_very_same() -> None:
    plain = nn.Conv2d(8, 8, 5, 2, 2, groups=8, bias=False).to(memory_format=torch.channels_last)
    changed = put_channels_last(copy.deepcopy(plain), torch.device("cpu"))
    images = torch.randn(2, 8, 9, 9).contiguous(memory_format=torch.channels_last)
    assert torch.equal(changed(images), plain(images))
    with torch.no_grad():
        assert torch.equal(changed(images), plain(images))


@pytest.mark.parametrize(
    "other",
    [
        nn.Conv2d(8, 8, 3, padding=1),
        nn.Conv2d(8, 16, 3, padding=1, groups=8, bias=False),
        nn.Conv2d(8, 8, 3, padding=1, groups=8),
        nn.Conv2d(8, 8, 3, padding=0, groups=8, bias=False),
        nn.Conv2d(8, 8, 3, padding=2, dilation=2, groups=8, bias=False),
        nn.Conv2d(8, 8, (3, 5), padding=1, groups=8, bias=False),
        nn.Conv2d(8, 8, 4, padding=2, groups=8, bias=False),
        nn.Conv2d(8, 8, 3, (1, 2), padding=1, groups=8, bias=False),
        nn.Conv2d(8, 8, 3, padding=1, groups=8, bias=False, padding_mode="reflect"),
        nn.Conv2d(1, 1, 3, padding=1, bias=False),
    ],
    ids=str,
)
def test_others_stay_as_they_are(other: nn.Module) -> None:
    assert not fits(other)
    assert type(put_channels_last(other, torch.device("cpu"))) is nn.Conv2d
