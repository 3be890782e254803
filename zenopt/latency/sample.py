"""Networks to be measured somewhere else: a CSV file, and an ONNX file for each."""

from __future__ import annotations

import csv
from itertools import islice
from pathlib import Path
from typing import Any

from zenopt.core.errors import DeviceError
from zenopt.core.outputs import prepare_output
from zenopt.core.progress import SILENT, Progress
from zenopt.latency.onnx import export_onnx, measure_by_command
from zenopt.latency.stream import network_stream
from zenopt.latency.targets import Target


def write_sample(
    space: Any,
    output: str | Path,
    *,
    resolution: int,
    num_classes: int,
    use_se: bool,
    count: int,
    command: str | None = None,
    batch: int = 1,
    onnx_folder: str | Path | None = None,
    seed: int = 0,
    progress: Progress = SILENT,
) -> int:
    """Draw networks of a space and write them as a table that :mod:`zenopt.latency.csvfit` reads.

    Rows are written as they come, so that a device that fails half-way loses nothing.

    Args:
        space:
            The space.
        output:
            CSV file to write, with the columns structure, latency_ms, resolution, num_classes, use_se.
        resolution, num_classes, use_se:
            Of the networks.
        count:
            How many networks.
        command:
            A program that measures an ONNX file (see :func:`zenopt.latency.onnx.measure_by_command`); without one the
            column ``latency_ms`` is left empty.
        batch:
            Images per forward of the ONNX files.
        onnx_folder:
            Where to write ``0000.onnx`` and so on; not at all if ``None``.
        seed:
            Of the choice of networks.
        progress:
            Is told of every network.

    Returns:
        How many networks were written.

    Raises:
        DeviceError: If a file cannot be written or the command fails.
    """
    output = prepare_output(output)
    stream = network_stream(space, resolution, num_classes, use_se, seed)
    try:
        if onnx_folder is not None:
            Path(onnx_folder).mkdir(parents=True, exist_ok=True)
        with Path(output).open("w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file)
            writer.writerow(("structure", "latency_ms", "resolution", "num_classes", "use_se"))
            progress.start(count, "network")
            for index, network in enumerate(islice(stream, count)):
                target = Target(str(network), network, resolution, num_classes, use_se)
                latency_ms = ""
                if onnx_folder is not None:
                    shape = (batch, 3, resolution, resolution)
                    export_onnx(target.build(), Path(onnx_folder) / f"{index:04d}.onnx", shape)
                if command is not None:
                    measured = measure_by_command(target.build(), command, batch=batch, resolution=resolution)
                    latency_ms = f"{measured:.6g}"
                writer.writerow((target.text, latency_ms, resolution, num_classes, int(use_se)))
                file.flush()
                progress.advance(latency_ms=latency_ms or None)
    except OSError as error:
        raise DeviceError(f"Cannot write {error.filename or output}: {error.strerror}.") from error
    return count
