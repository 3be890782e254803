"""Depthwise convolutions on CPUs: the gradients that oneDNN has no fast code for, computed from what it has.

On one core with AVX-512, torch 2.13 (``benchmarks/depthwise.py``): in bfloat16 the gradients of strided convolutions
and of 5x5 kernels take 25 to 600 times as long as the forward pass, those of 3x3 kernels without a stride six times; in
either format so do the gradients of weights on maps of two by two pixels.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

_HALF = (torch.bfloat16, torch.float16)
#: Side of the kernels whose weights' gradient is fast.
_FAST = 3


class DepthwiseConv(nn.Conv2d):
    """A depthwise convolution with an odd, square kernel and its usual padding; only gradients are computed otherwise.

    The forward pass is bit for bit that of ``nn.Conv2d``; the gradients are the same numbers but for rounding.
    """

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if x.device.type != "cpu" or not torch.is_grad_enabled():
            return super().forward(x)
        weight = self.weight
        if torch.is_autocast_enabled("cpu"):
            dtype = torch.get_autocast_dtype("cpu")
            x, weight = x.to(dtype), weight.to(dtype)
        found: torch.Tensor = _Depthwise.apply(x, weight, self.stride[0])
        return found


def fits(module: nn.Module) -> bool:
    """Return whether a module is a convolution that :class:`DepthwiseConv` can stand for."""
    return (
        type(module) is nn.Conv2d
        and module.groups == module.in_channels == module.out_channels > 1
        and module.kernel_size[0] == module.kernel_size[1]
        and module.kernel_size[0] % 2 == 1
        and module.kernel_size[0] >= _FAST
        and module.padding == (module.kernel_size[0] // 2,) * 2
        and module.stride[0] == module.stride[1]
        and module.dilation == (1, 1)
        and module.padding_mode == "zeros"
        and module.bias is None
    )


class _Depthwise(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, weight: torch.Tensor, stride: int) -> torch.Tensor:
        ctx.save_for_backward(x, weight)
        ctx.stride = stride
        return F.conv2d(x, weight, None, stride, weight.shape[-1] // 2, 1, len(weight))

    @staticmethod
    def backward(ctx: Any, *outer: torch.Tensor) -> tuple[torch.Tensor | None, torch.Tensor | None, None]:
        x, weight = ctx.saved_tensors
        (outer_gradient,) = outer
        of_x = _of_input(outer_gradient, x, weight, ctx.stride) if ctx.needs_input_grad[0] else None
        of_weight = _of_weight(outer_gradient, x, weight, ctx.stride) if ctx.needs_input_grad[1] else None
        return of_x, of_weight, None


def _of_input(outer: torch.Tensor, x: torch.Tensor, weight: torch.Tensor, stride: int) -> torch.Tensor:
    """Return the gradient of the input."""
    padding = weight.shape[-1] // 2
    if stride == 1 or x.dtype not in _HALF:
        return _backward(outer, x, weight, stride, padding, of_input=True)
    # Zeros between the pixels make it the gradient of a convolution without a stride: one with the kernel turned round.
    spread = torch.zeros_like(x)
    spread[..., ::stride, ::stride] = outer
    return F.conv2d(spread, weight.flip(2, 3), None, 1, padding, 1, len(weight))


def _of_weight(outer: torch.Tensor, x: torch.Tensor, weight: torch.Tensor, stride: int) -> torch.Tensor:
    """Return the gradient of the weights."""
    side = weight.shape[-1]
    pixels = outer.shape[-2] * outer.shape[-1]
    if pixels <= 4 or (side > _FAST and pixels <= 16):
        return _by_products(outer, x, weight, stride)
    if side > _FAST and x.dtype in _HALF:
        return _by_windows(outer, x, weight, stride)
    return _backward(outer, x, weight, stride, side // 2, of_input=False)


def _by_products(outer: torch.Tensor, x: torch.Tensor, weight: torch.Tensor, stride: int) -> torch.Tensor:
    """Return the gradient of each weight as a sum of products of pixels; weights that meet padding alone have none."""
    side, padding = weight.shape[-1], weight.shape[-1] // 2
    found = torch.zeros(side, side, len(weight), dtype=torch.float32)
    pixels, gradients = x.permute(0, 2, 3, 1), outer.permute(0, 2, 3, 1)
    for row in range(side):
        rows, rows_in = _met(row - padding, x.shape[2], outer.shape[2], stride)
        for column in range(side):
            columns, columns_in = _met(column - padding, x.shape[3], outer.shape[3], stride)
            products = pixels[:, rows_in, columns_in] * gradients[:, rows, columns]
            found[row, column] = products.sum((0, 1, 2), dtype=torch.float32)
    return found.permute(2, 0, 1)[:, None].to(weight.dtype)


def _met(offset: int, size: int, size_out: int, stride: int) -> tuple[slice, slice]:
    """Return the output pixels that a weight at an offset makes from input pixels, and these."""
    first = max(0, -(offset // stride))
    last = max(first, min(size_out, (size - 1 - offset) // stride + 1))
    start = stride * first + offset
    return slice(first, last), slice(start, start + stride * (last - first), stride)


def _by_windows(outer: torch.Tensor, x: torch.Tensor, weight: torch.Tensor, stride: int) -> torch.Tensor:
    """Return the gradient of large kernels in windows of 3x3 weights; those at the end overlap."""
    side, padding = weight.shape[-1], weight.shape[-1] // 2
    padded = F.pad(x, (padding,) * 4)
    tall, wide = (stride * (size - 1) + _FAST for size in outer.shape[-2:])
    window = weight[..., :_FAST, :_FAST].contiguous(memory_format=torch.channels_last)
    found = torch.zeros_like(weight)
    starts = sorted({*range(0, side - _FAST, _FAST), side - _FAST})
    for row in starts:
        for column in starts:
            seen = padded[..., row : row + tall, column : column + wide]
            seen = seen.contiguous(memory_format=torch.channels_last)
            found[..., row : row + _FAST, column : column + _FAST] = _backward(
                outer, seen, window, stride, 0, of_input=False
            )
    return found


def _backward(
    outer: torch.Tensor, x: torch.Tensor, weight: torch.Tensor, stride: int, padding: int, *, of_input: bool
) -> torch.Tensor:
    """Return one of oneDNN's own gradients."""
    wanted = [of_input, not of_input, False]
    found = torch.ops.aten.convolution_backward(
        outer, x, weight, None, [stride] * 2, [padding] * 2, [1, 1], False, [0, 0], len(weight), wanted
    )
    return found[0 if of_input else 1]
