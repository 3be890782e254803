"""ONNX: export, onnxruntime, and devices that are reached only by a command.

``onnx``, ``onnxscript`` and ``onnxruntime`` are optional packages, imported when they are needed.
"""

from __future__ import annotations

import math
import re
import shlex
import subprocess
import tempfile
import warnings
from collections.abc import Callable
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from zenopt.core.errors import DeviceError

if TYPE_CHECKING:
    from zenopt.latency.options import MeasureOptions

OPSET = 18
_NUMBER = re.compile(r"[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?")


def onnxruntime_version() -> str:
    """Return the installed version of onnxruntime.

    Raises:
        DeviceError: If it is not installed.
    """
    for name in ("onnxruntime", "onnxruntime-gpu"):
        try:
            return metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    raise DeviceError("onnxruntime is not installed: pip install onnxruntime onnxscript.")


def export_onnx(
    module: nn.Module, path: str | Path, shape: tuple[int, ...], dtype: torch.dtype = torch.float32
) -> None:
    """Write a module as one ONNX file with a fixed input shape, ``images`` -> ``output``.

    Args:
        module:
            A module that takes one tensor; it is put in inference mode and converted to ``dtype``.
        path:
            The file to write.
        shape:
            Shape of the input, batch included.
        dtype:
            Number format of weights and input.

    Raises:
        DeviceError: If the ONNX packages are missing or the module cannot be exported.
    """
    try:
        import onnxscript  # noqa: F401
    except ImportError as error:
        raise DeviceError("ONNX export needs onnxscript: pip install onnx onnxscript.") from error
    module = module.to(device="cpu", dtype=dtype).eval()
    images = torch.zeros(shape, dtype=dtype)
    try:
        # The exporter warns about its own deprecations and talks on stdout, which belongs to --json.
        with warnings.catch_warnings(), torch.inference_mode(False), torch.no_grad():
            warnings.simplefilter("ignore")
            torch.onnx.export(
                module, (images,), str(path), dynamo=True, external_data=False, opset_version=OPSET,
                input_names=["images"], output_names=["output"], verbose=False,
            )  # fmt: skip
    except (RuntimeError, ValueError, torch.onnx.errors.OnnxExporterError) as error:
        first = str(error).strip().partition("\n")[0]
        raise DeviceError(f"{type(module).__name__} cannot be exported to ONNX: {first}") from error


def onnx_runner(module: nn.Module, shape: tuple[int, ...], options: MeasureOptions) -> Callable[[], None]:
    """Return a function that runs one forward in onnxruntime.

    Raises:
        DeviceError: If onnxruntime or its provider for the device is missing.
    """
    version = onnxruntime_version()
    import numpy as np
    import onnxruntime

    provider = {
        "cpu": "CPUExecutionProvider",
        "cuda": "CUDAExecutionProvider",
        "mps": "CoreMLExecutionProvider",
    }[options.device.partition(":")[0]]
    if provider not in onnxruntime.get_available_providers():
        raise DeviceError(f"onnxruntime {version} here has no {provider}, which {options.device} needs.")
    if options.dtype == "bf16":
        raise DeviceError("bf16 does not work in onnxruntime here; use fp32 or fp16.")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "network.onnx"
        export_onnx(module, path, shape, torch.float16 if options.dtype == "fp16" else torch.float32)
        settings = onnxruntime.SessionOptions()
        settings.log_severity_level = 3
        settings.intra_op_num_threads = options.threads or torch.get_num_threads()
        index = options.device.partition(":")[2]
        arguments: Any = (
            [(provider, {"device_id": index or "0"})] if provider.startswith("CUDA") else [provider]
        )
        try:
            session = onnxruntime.InferenceSession(str(path), settings, providers=arguments)
        except Exception as error:
            # onnxruntime's errors have no common base but Exception.
            first = str(error).strip().partition("\n")[0]
            raise DeviceError(f"onnxruntime refuses the network: {first}") from error
    images = np.zeros(shape, dtype=np.float16 if options.dtype == "fp16" else np.float32)

    def run() -> None:
        # run() copies the outputs to the host, so it returns only when the device has finished.
        session.run(None, {"images": images})

    return run


def measure_by_command(
    module: nn.Module, command: str, *, batch: int = 1, resolution: int = 224, timeout_s: float = 600.0
) -> float:
    """Measure on a device that only a command can reach.

    The command gets an ONNX file (fp32, fixed batch) and prints the milliseconds of **one forward of the batch**; the
    last number on its standard output counts. It is run without a shell.

    Args:
        module:
            What to time.
        command:
            E.g. ``"python run_on_phone.py {onnx}"``; the path is appended where ``{onnx}`` is missing.
        batch:
            Images per forward.
        resolution:
            Side of the square input image in pixels.
        timeout_s:
            Time limit of the command.

    Returns:
        Milliseconds **per image**.

    Raises:
        DeviceError: If the command is not found, fails, takes too long, or prints no positive number.
    """
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "network.onnx"
        export_onnx(module, path, (batch, 3, resolution, resolution))
        return run_command(command, path, timeout_s) / batch


def run_command(command: str, path: Path, timeout_s: float = 600.0) -> float:
    """Run a command with the path of an ONNX file and return the last number it prints.

    Raises:
        DeviceError: If the command is not found, fails, takes too long, or prints no positive number.
    """
    try:
        words = shlex.split(command)
    except ValueError as error:
        raise DeviceError(f"Cannot read the command {command!r}: {error}.") from error
    if not words:
        raise DeviceError("The command is empty; give e.g. 'python run_on_phone.py {onnx}'.")
    has_place = any("{onnx}" in word for word in words)
    arguments = [word.replace("{onnx}", str(path)) for word in words] + ([] if has_place else [str(path)])
    try:
        done = subprocess.run(arguments, capture_output=True, text=True, timeout=timeout_s, check=False)
    except FileNotFoundError as error:
        raise DeviceError(f"Command not found: {words[0]!r}.") from error
    except OSError as error:
        raise DeviceError(f"Cannot run {words[0]!r}: {error.strerror}.") from error
    except subprocess.TimeoutExpired as error:
        raise DeviceError(f"The command {words[0]!r} took longer than {timeout_s:g} s.") from error
    if done.returncode != 0:
        last = done.stderr.strip().splitlines()[-1:] or ["no message"]
        raise DeviceError(f"The command {words[0]!r} failed with exit code {done.returncode}: {last[0]}")
    numbers = _NUMBER.findall(done.stdout)
    latency_ms = float(numbers[-1]) if numbers else math.nan
    if not (math.isfinite(latency_ms) and latency_ms > 0):
        raise DeviceError(f"The command {words[0]!r} printed no positive number of milliseconds.")
    return latency_ms
