"""The device and software that a measurement was made with."""

from __future__ import annotations

import platform
from pathlib import Path
from typing import Any

import torch

from zenopt.core.errors import DeviceError
from zenopt.latency.options import MeasureOptions


def check_device(device: str) -> torch.device:
    """Return the torch device.

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
    """Return the name of the hardware, e.g. the CPU's model."""
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
    """Return what besides the network decides how fast it runs."""
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
