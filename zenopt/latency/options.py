"""How a network is run when it is timed."""

from __future__ import annotations

import time
from dataclasses import dataclass

from zenopt.core.errors import DeviceError

DTYPES = ("fp32", "fp16", "bf16")
RUNTIMES = ("torch", "onnxruntime")
CLOCKS = {"wall": time.perf_counter, "cpu": time.process_time}


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
        min_seconds:
            Wall time before a median may be called stable: what disturbs a machine lasts longer than a few runs.
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
    min_seconds: float = 1.0
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
        if not self.min_seconds >= 0:
            raise DeviceError(f"min_seconds must not be negative, got {self.min_seconds}.")
