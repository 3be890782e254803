"""The kernel library: against measured kernels, and how operations become kernels."""

from __future__ import annotations

import csv
import statistics
from pathlib import Path

import pytest

from zenopt.core.errors import DeviceError, UnknownNameError
from zenopt.latency import load_profile
from zenopt.latency.kernelmodel import KernelModel, operation_kernel
from zenopt.latency.kernels import Kernel, load_library
from zenopt.latency.models import make_model
from zenopt.latency.operations import head_operations, unit_operations
from zenopt.spaces.chain.architecture import Architecture

FIXTURE = Path(__file__).resolve().parents[1] / "fixtures" / "latency" / "kernels.csv"
LIBRARY = "v100-trt-conv-fp16"


def _measured() -> list[tuple[Kernel, float]]:
    with FIXTURE.open() as stream:
        return [
            (
                Kernel(
                    int(row["batch"]), int(row["in_channels"]), int(row["in_height"]), int(row["out_channels"]),
                    int(row["kernel"]), int(row["stride"]), row["depthwise"] == "1",
                    row["fused_elementwise_add"] == "1",
                ),
                float(row["latency_ms"]),
            )
            for row in csv.DictReader(stream)
        ]  # fmt: skip


@pytest.mark.parametrize(("depthwise", "limit"), [(False, 0.09), (True, 0.14)])
def test_library_agrees_with_a_sample_of_measured_kernels(depthwise: bool, limit: float) -> None:
    library = load_library(LIBRARY)
    errors = [abs(library.time_ms(k) / ms - 1) for k, ms in _measured() if k.depthwise == depthwise]
    assert len(errors) >= 40
    assert statistics.mean(errors) < limit
    assert all(not library.outside(kernel) for kernel, _ in _measured())


def test_library_keeps_the_errors_it_was_published_with() -> None:
    errors = load_library(LIBRARY).errors
    for kind, limit in (("dense", 0.08), ("depthwise", 0.12)):
        assert errors[kind]["held-out shapes, 20 %"]["mape"] < limit
        assert sum(name.startswith("unseen resolution") for name in errors[kind]) == 4


def test_extrapolation_stays_sane() -> None:
    library = load_library(LIBRARY)
    base = Kernel(64, 512, 28, 512, 3, 1, False, False)
    time = library.time_ms(base)
    # Ten times the channels on both sides is a hundred times the work.
    assert 60 < library.time_ms(base._replace(in_channels=5120, out_channels=5120)) / time < 160
    assert library.outside(base._replace(in_channels=5120, out_channels=5120)) == [
        "in_channels",
        "out_channels",
    ]
    assert library.outside(base._replace(groups=32)) == ["groups"]
    assert library.outside(base._replace(kernel=9)) == ["kernel"]


def test_operations_become_kernels() -> None:
    block = Architecture.parse("SuperConvK3BNRELU(3,16,2,1)SuperResIDWE4K5(16,24,2,24,1)").blocks[1]
    convs = [op for op in unit_operations(block, 112, False) if op.kind == "conv"]
    kernels = [operation_kernel(op, 64) for op in convs]
    # First residual of width 24: 1x1 to 96, depthwise 5x5 with the stride, 1x1 to 24, then its projection.
    assert kernels[0] == Kernel(64, 16, 112, 96, 1, 1, False, False)
    assert kernels[1] == Kernel(64, 96, 112, 96, 5, 2, True, False)
    assert kernels[2] == Kernel(64, 96, 56, 24, 1, 1, False, False)
    assert kernels[3] == Kernel(64, 16, 112, 24, 1, 2, False, False)


def test_engine_fuses_what_follows_a_convolution() -> None:
    model = load_profile("v100-fp16-b64-tensorrt").predictor
    assert isinstance(model, KernelModel)
    block = Architecture.parse("SuperConvK3BNRELU(3,16,2,1)SuperResK3K3(16,32,2,16,1)").blocks[1]
    operations = unit_operations(block, 56, False)
    times = model.operation_times(operations)
    for op, ms in zip(operations, times, strict=True):
        assert (ms > 0) == (op.kind == "conv"), op
    fused = [kernel.fused_add for kernel in model.kernels(operations) if kernel is not None]
    # The addition goes into the last convolution of the body, not into the projection.
    assert fused == [False, True, False]
    gated = unit_operations(block, 56, True)
    assert sum(model.operation_times(gated)) > sum(times)
    multiply = next(i for i, op in enumerate(gated) if op.kind == "multiply")
    assert model.operation_times(gated)[multiply] > 0
    assert all(ms > 0 for ms in model.operation_times(head_operations(32, 28, 1000)))


def test_bad_kernel_models_are_refused() -> None:
    good = {
        "kind": "kernels",
        "library": LIBRARY,
        "dense": 1,
        "depthwise": 1,
        "fused": False,
        "coefficients": {},
    }
    assert make_model(good, 64, 2.0).constant_ms == 0
    with pytest.raises(UnknownNameError, match="known: v100-trt-conv-fp16"):
        make_model({**good, "library": "none"}, 64, 2.0)
    with pytest.raises(DeviceError, match="non-negative"):
        make_model({**good, "dense": -1}, 64, 2.0)
    with pytest.raises(DeviceError, match="cannot be read"):
        make_model({key: value for key, value in good.items() if key != "fused"}, 64, 2.0)
    with pytest.raises(UnknownNameError, match="Unknown latency term 'horses'"):
        make_model({**good, "coefficients": {"horses": 1}}, 64, 2.0)
