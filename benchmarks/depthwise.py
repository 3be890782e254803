"""What the gradients of depthwise convolutions cost on a CPU: oneDNN's own, and those of zenopt.train.depthwise.

    OMP_NUM_THREADS=1 python benchmarks/depthwise.py

CPU milliseconds for 64 images in channels-last layout: forward pass, then forward and backward pass together.
"""

from __future__ import annotations

import copy
import time
from collections.abc import Callable

import torch
from torch import nn

from zenopt.train.layout import put_channels_last

IMAGES, RUNS = 64, 5
#: Channels, kernel, stride, side of the map in pixels.
SHAPES = (
    (96, 3, 2, 16),
    (192, 3, 1, 8),
    (192, 5, 2, 16),
    (192, 5, 1, 16),
    (384, 5, 1, 8),
    (384, 5, 2, 8),
    (768, 5, 1, 4),
    (768, 3, 1, 2),
    (1536, 5, 1, 2),
    (96, 7, 1, 16),
)


def milliseconds(run: Callable[[], object]) -> float:
    """Return the CPU time of a call, the mean of some."""
    run()
    started = time.process_time()
    for _ in range(RUNS):
        run()
    return (time.process_time() - started) / RUNS * 1000


def main() -> None:
    torch.set_num_threads(1)
    print("channels kernel stride side  number    forward  with gradients: oneDNN    zenopt")
    for channels, kernel, stride, side in SHAPES:
        plain = nn.Conv2d(channels, channels, kernel, stride, kernel // 2, groups=channels, bias=False)
        plain = plain.to(memory_format=torch.channels_last)
        changed = put_channels_last(copy.deepcopy(plain), torch.device("cpu"))
        images = torch.randn(IMAGES, channels, side, side).contiguous(memory_format=torch.channels_last)
        for number in (torch.float32, torch.bfloat16):
            own = images.to(number).requires_grad_()

            def both(module: nn.Module, own: torch.Tensor = own, number: torch.dtype = number) -> None:
                with torch.autocast("cpu", dtype=number, enabled=number is torch.bfloat16):
                    out = module(own)
                out.backward(torch.ones_like(out))

            with torch.no_grad(), torch.autocast("cpu", dtype=number, enabled=number is torch.bfloat16):
                forward = milliseconds(lambda module=plain, own=own: module(own))  # type: ignore[misc]
            times = [milliseconds(lambda module=module: both(module)) for module in (plain, changed)]  # type: ignore[misc]
            print(
                f"{channels:8} {kernel:6} {stride:6} {side:4}  {str(number)[6:]:8} {forward:8.2f}"
                f" {times[0]:22.2f} {times[1]:9.2f}",
                flush=True,
            )


if __name__ == "__main__":
    main()
