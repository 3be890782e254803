"""From a module to a function that runs one synchronised forward, with the device's errors in one line."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn

from zenopt.core.errors import DeviceError
from zenopt.latency.environment import check_device
from zenopt.latency.options import MeasureOptions

_DTYPES = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}


class DoesNotFitError(DeviceError):
    """A network needs more memory than the device has. A search records it as infeasible and goes on."""


@contextmanager
def running(options: MeasureOptions) -> Iterator[None]:
    """Set up torch for timed runs; device errors inside become one line.

    Raises:
        DeviceError: If the device, number format or runtime is not there.
        DoesNotFitError: If the network does not fit in memory.
    """
    check_device(options.device)
    with _threads(options.threads), explained(options), torch.inference_mode():
        yield


def make_runner(
    module: nn.Module, options: MeasureOptions, input_shape: tuple[int, ...] | None = None
) -> Callable[[], None]:
    """Return a function that runs one synchronised forward; call both within :func:`running`.

    The module's parameters are converted to the device and number format in place.

    Args:
        module:
            What to run; it is put in inference mode.
        options:
            How to run it.
        input_shape:
            Shape of one input without the batch; an RGB image of ``options.resolution`` if not given.
    """
    shape = (options.batch, *(input_shape or (3, options.resolution, options.resolution)))
    if options.runtime == "onnxruntime":
        from zenopt.latency.onnx import onnx_runner

        run = onnx_runner(module, shape, options)
    else:
        run = _torch_runner(module, shape, options)
    run()  # The first forward fails here if it fails at all, and is never timed.
    return run


@contextmanager
def prepared(
    module: nn.Module, options: MeasureOptions, input_shape: tuple[int, ...] | None = None
) -> Iterator[Callable[[], None]]:
    """Yield a runner; see :func:`make_runner` and :func:`running`."""
    with running(options):
        yield make_runner(module, options, input_shape)


def _torch_runner(module: nn.Module, shape: tuple[int, ...], options: MeasureOptions) -> Callable[[], None]:
    device, dtype = torch.device(options.device), _DTYPES[options.dtype]
    memory_format = torch.channels_last if options.channels_last else torch.contiguous_format
    # An unseeded generator would do; a seeded one keeps the global random state untouched.
    images = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    images = images.to(device=device, dtype=dtype)
    if images.dim() == 4:
        images = images.contiguous(memory_format=memory_format)
        module = module.to(device=device, dtype=dtype, memory_format=memory_format).eval()  # type: ignore[call-overload]
    else:
        module = module.to(device=device, dtype=dtype).eval()
    forward: Any = torch.compile(module) if options.compile else module
    synchronise = _synchronise(device)

    def run() -> None:
        forward(images)
        synchronise()

    return run


def _synchronise(device: torch.device) -> Callable[[], None]:
    if device.type == "cuda":
        return lambda: torch.cuda.synchronize(device)
    if device.type == "mps":
        return torch.mps.synchronize
    return lambda: None


@contextmanager
def _threads(threads: int | None) -> Iterator[None]:
    """Set torch's threads for a while: they are a global setting, which others share."""
    before = torch.get_num_threads()
    if threads is not None:
        torch.set_num_threads(threads)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@contextmanager
def explained(options: MeasureOptions) -> Iterator[None]:
    """Turn torch's errors of missing memory and missing number formats into ours."""
    try:
        yield
    except (torch.OutOfMemoryError, MemoryError) as error:
        raise DoesNotFitError(f"The network does not fit in the memory of {options.device}.") from error
    except RuntimeError as error:
        text = str(error)
        first = text.strip().partition("\n")[0]
        if "DefaultCPUAllocator" in text or "out of memory" in text.lower():
            raise DoesNotFitError(f"The network does not fit in the memory of {options.device}.") from error
        if "not implemented for" in text or "not supported" in text.lower():
            raise DeviceError(f"{options.dtype} does not work on {options.device} here: {first}") from error
        if options.compile:
            raise DeviceError(f"torch.compile does not work on {options.device} here: {first}") from error
        raise
