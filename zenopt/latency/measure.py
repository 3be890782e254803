"""Measured latency: warmed up, synchronised, repeated until the median is stable.

Zen-NAS times one unsynchronised forward, which on a GPU measures how fast kernels are queued. Here the device is
synchronised around every run, and what was measured where is stored with the number.
"""

from __future__ import annotations

import platform
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import torch
from torch import nn

from zenopt.architecture import Block
from zenopt.errors import DeviceError
from zenopt.latency.cache import MeasurementCache
from zenopt.latency.timer import Timing, time_until_stable
from zenopt.nn import build_network
from zenopt.nn.modules import build_nodes

DTYPES = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}
RUNTIMES = ("torch", "onnxruntime")
CLOCKS = {"wall": time.perf_counter, "cpu": time.process_time}


class DoesNotFitError(DeviceError):
    """A network needs more memory than the device has. A search records it as infeasible and goes on."""


@dataclass(frozen=True)
class MeasureOptions:
    """How a network is run.

    Args:
        device:
            ``cpu``, ``cuda:0``, ``mps``.
        batch:
            Images per forward.
        resolution:
            Side of the square input image in pixels.
        dtype:
            ``fp32``, ``fp16`` or ``bf16``.
        threads:
            CPU threads; torch's own choice if ``None``.
        channels_last:
            Memory format of weights and images.
        compile:
            Whether the module goes through ``torch.compile``.
        runtime:
            ``torch`` or ``onnxruntime``.
        clock:
            ``wall``, or ``cpu`` for the processor time of this process: on a machine shared with others it leaves out
            the time they took, but not what they did to caches and clock rates. Only for the CPU with one thread.
        max_seconds:
            Time limit of one measurement.
        min_iterations:
            Timed runs before a median may be called stable.

    Raises:
        DeviceError: If a value is not allowed or two exclude each other.
    """

    device: str = "cpu"
    batch: int = 1
    resolution: int = 224
    dtype: str = "fp32"
    threads: int | None = None
    channels_last: bool = False
    compile: bool = False
    runtime: str = "torch"
    clock: str = "wall"
    max_seconds: float = 10.0
    min_iterations: int = 10

    def __post_init__(self) -> None:
        if self.dtype not in DTYPES:
            raise DeviceError(f"dtype must be one of {', '.join(DTYPES)}, got {self.dtype!r}.")
        if self.runtime not in RUNTIMES:
            raise DeviceError(f"runtime must be one of {', '.join(RUNTIMES)}, got {self.runtime!r}.")
        if self.runtime != "torch" and (self.compile or self.channels_last):
            raise DeviceError(
                "compile and channels-last are torch's; they cannot be combined with onnxruntime."
            )
        if self.clock not in CLOCKS:
            raise DeviceError(f"clock must be one of {', '.join(CLOCKS)}, got {self.clock!r}.")
        if self.clock == "cpu" and (self.device != "cpu" or self.threads != 1):
            raise DeviceError("The cpu clock counts every thread's time; it needs device cpu and one thread.")
        for name in ("batch", "resolution", "threads", "min_iterations"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise DeviceError(f"{name} must be at least 1, got {value}.")
        if not self.max_seconds > 0:
            raise DeviceError(f"max_seconds must be positive, got {self.max_seconds}.")


@dataclass(frozen=True)
class Measurement:
    """A measured latency.

    Attributes:
        latency_ms: Median milliseconds **per image**.
        batch_ms: Median milliseconds of one forward of the whole batch.
        minimum_ms: Fastest forward of the whole batch.
        spread: Interquartile range over median.
        iterations, seconds, is_stable: See :class:`~zenopt.latency.timer.Timing`.
        options: How it was run.
        environment: Device name, versions, threads.
        is_cached: Whether it was read from the cache.
    """

    latency_ms: float
    batch_ms: float
    minimum_ms: float
    spread: float
    iterations: int
    seconds: float
    is_stable: bool
    options: Mapping[str, Any]
    environment: Mapping[str, Any]
    is_cached: bool = False

    def per_image_ms(self, statistic: str = "median") -> float:
        """Returns the ``"median"`` or ``"minimum"`` in milliseconds per image."""
        if statistic == "minimum":
            return self.minimum_ms * self.latency_ms / self.batch_ms
        return self.latency_ms

    def to_json(self) -> dict[str, Any]:
        """Returns all of it as plain data."""
        return asdict(self)


def measure_architecture(
    architecture: Any,
    options: MeasureOptions,
    *,
    num_classes: int = 1000,
    use_se: bool = False,
    cache: MeasurementCache | None = None,
    refresh: bool = False,
) -> Measurement:
    """Measures the latency of an architecture, with its residual links.

    Args:
        architecture:
            What to build and time.
        options:
            How to run it.
        num_classes:
            Outputs of the classifier.
        use_se:
            Whether squeeze-excite gates are built.
        cache:
            Where results are looked up and kept; nowhere if ``None``.
        refresh:
            Measure even if the cache knows.

    Raises:
        DeviceError: If the device, number format or runtime is not there.
        DoesNotFitError: If the network does not fit in memory.
    """
    key = {
        "structure": str(architecture),
        "num_classes": num_classes,
        "use_se": use_se,
        **measurement_key(options),
    }
    return _cached(
        key,
        cache,
        refresh,
        options,
        lambda: build_network(architecture, num_classes=num_classes, use_se=use_se),
        None,
    )


def measure_block(
    block: Block,
    in_size: int,
    options: MeasureOptions,
    *,
    use_se: bool = False,
    cache: MeasurementCache | None = None,
    refresh: bool = False,
) -> Measurement:
    """Measures one super-block by itself at the map size it has in a network; see :func:`measure_architecture`."""
    key = {"block": str(block), "in_size": in_size, "use_se": use_se, **measurement_key(options)}
    shape = (block.in_channels, in_size, in_size)

    def make() -> nn.Module:
        return build_nodes(block.expand(), use_se=use_se, residual=True)

    return _cached(key, cache, refresh, options, make, shape)


def measure_head(
    width: int,
    size: int,
    num_classes: int,
    options: MeasureOptions,
    *,
    cache: MeasurementCache | None = None,
    refresh: bool = False,
) -> Measurement:
    """Measures global pooling and the classifier by themselves; see :func:`measure_architecture`."""
    key = {"head": [width, size, num_classes], **measurement_key(options)}

    def make() -> nn.Module:
        return nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(width, num_classes))

    return _cached(key, cache, refresh, options, make, (width, size, size))


def measure_module(
    module: nn.Module, options: MeasureOptions, *, input_shape: tuple[int, ...] | None = None
) -> Measurement:
    """Measures any module that takes one tensor; nothing is cached, because a module has no name.

    The module's parameters are converted to the device and number format in place.

    Args:
        module:
            What to time; it is put in inference mode.
        options:
            How to run it.
        input_shape:
            Shape of one input without the batch; an RGB image of ``options.resolution`` if not given.
    """
    with prepared(module, options, input_shape) as run:
        timing = time_until_stable(
            run,
            max_seconds=options.max_seconds,
            min_iterations=options.min_iterations,
            clock=CLOCKS[options.clock],
        )
        return _measurement(timing, options)


@contextmanager
def prepared(
    module: nn.Module, options: MeasureOptions, input_shape: tuple[int, ...] | None = None
) -> Iterator[Callable[[], None]]:
    """Yields a function that runs one synchronised forward; device errors become one line.

    Raises:
        DeviceError: If the device, number format or runtime is not there.
        DoesNotFitError: If the network does not fit in memory.
    """
    check_device(options.device)
    shape = (options.batch, *(input_shape or (3, options.resolution, options.resolution)))
    with _threads(options.threads), _explained(options), torch.inference_mode():
        if options.runtime == "onnxruntime":
            from zenopt.latency.onnx import onnx_runner

            run = onnx_runner(module, shape, options)
        else:
            run = _torch_runner(module, shape, options)
        run()  # The first forward fails here if it fails at all, and is never timed.
        yield run


def check_device(device: str) -> torch.device:
    """Returns the torch device.

    Raises:
        DeviceError: If the text is no device or the device is not there.
    """
    try:
        found = torch.device(device)
    except RuntimeError as error:
        raise DeviceError(f"{device!r} is no device; give cpu, cuda, cuda:N or mps.") from error
    if found.type == "cuda":
        count = torch.cuda.device_count() if torch.cuda.is_available() else 0
        if (found.index or 0) >= count:
            raise DeviceError(f"Device {device!r} is not available: this machine has {count} CUDA devices.")
    elif found.type == "mps":
        if not torch.backends.mps.is_available():
            raise DeviceError(f"Device {device!r} is not available on this machine.")
    elif found.type != "cpu":
        raise DeviceError(f"Device {device!r} cannot be timed; give cpu, cuda, cuda:N or mps.")
    return found


def device_name(device: str) -> str:
    """Returns the name of the hardware, e.g. the CPU's model."""
    found = check_device(device)
    if found.type == "cuda":
        return str(torch.cuda.get_device_name(found))
    name = platform.processor() or platform.machine()
    info = Path("/proc/cpuinfo")
    if found.type == "cpu" and info.is_file():
        for line in info.read_text(encoding="utf-8", errors="replace").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return name


def environment(options: MeasureOptions) -> dict[str, Any]:
    """Returns what besides the network decides how fast it runs."""
    content: dict[str, Any] = {
        "device_name": device_name(options.device),
        "machine": platform.machine(),
        "system": platform.system(),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "threads": options.threads or torch.get_num_threads(),
    }
    if options.device.startswith("cuda"):
        content["cuda"] = torch.version.cuda
        content["cudnn"] = torch.backends.cudnn.version()
    if options.runtime == "onnxruntime":
        from zenopt.latency.onnx import onnxruntime_version

        content["onnxruntime"] = onnxruntime_version()
    return content


def measurement_key(options: MeasureOptions) -> dict[str, Any]:
    """Returns everything about a run that a stored result must agree with; patience is not part of it."""
    content = asdict(options)
    for name in ("max_seconds", "min_iterations", "threads"):
        del content[name]
    return {"schema": 1, **content, **environment(options)}


def _cached(
    key: Mapping[str, Any],
    cache: MeasurementCache | None,
    refresh: bool,
    options: MeasureOptions,
    make: Callable[[], nn.Module],
    input_shape: tuple[int, ...] | None,
) -> Measurement:
    known = cache.get(key) if cache is not None and not refresh else None
    if known is not None:
        return replace(Measurement(**known), is_cached=True)
    with _explained(options):
        module = make()
    measurement = measure_module(module, options, input_shape=input_shape)
    if cache is not None:
        cache.put(key, measurement.to_json())
    return measurement


def _measurement(timing: Timing, options: MeasureOptions) -> Measurement:
    return Measurement(
        latency_ms=timing.median_ms / options.batch,
        batch_ms=timing.median_ms,
        minimum_ms=timing.minimum_ms,
        spread=timing.spread,
        iterations=timing.iterations,
        seconds=timing.seconds,
        is_stable=timing.is_stable,
        options=asdict(options),
        environment={
            **environment(options),
            "date": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        },
    )


def _torch_runner(module: nn.Module, shape: tuple[int, ...], options: MeasureOptions) -> Callable[[], None]:
    device, dtype = torch.device(options.device), DTYPES[options.dtype]
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
    """Sets torch's threads for a while: they are a global setting, which others share."""
    before = torch.get_num_threads()
    if threads is not None:
        torch.set_num_threads(threads)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@contextmanager
def _explained(options: MeasureOptions) -> Iterator[None]:
    """Turns torch's errors of missing memory and missing number formats into ours."""
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
