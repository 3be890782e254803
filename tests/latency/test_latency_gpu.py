"""Latency on a CUDA device: what is measured there, and a calibration on it."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from gpu import DEVICE, NEEDS_GPU
from structures import TWO_HALVINGS

from zenopt.cli import main
from zenopt.latency import load_profile, predict_latency_ms
from zenopt.latency.calibrate import calibrate
from zenopt.latency.measure import measure_architecture
from zenopt.latency.options import MeasureOptions
from zenopt.latency.runners import DoesNotFitError, make_runner, running
from zenopt.nn import build_network
from zenopt.spaces.chain.architecture import Architecture
from zenopt.study.spec import StudySpec

pytestmark = NEEDS_GPU

TINY = Architecture.parse(TWO_HALVINGS)


def quick(**settings: object) -> MeasureOptions:
    common = {"device": DEVICE, "batch": 4, "resolution": 32, "max_seconds": 0.5, "min_seconds": 0.0}
    return MeasureOptions(**{**common, **settings})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "settings", [{}, {"dtype": "fp16", "channels_last": True}, {"dtype": "bf16"}, {"device": "cuda"}]
)
def test_a_measurement_says_where_it_was_made(settings: dict[str, object]) -> None:
    found = measure_architecture(TINY, quick(**settings), num_classes=10)
    assert 0 < found.latency_ms < 1000 and found.batch_ms == pytest.approx(4 * found.latency_ms)
    assert found.environment["device_name"] == torch.cuda.get_device_name(0)
    assert found.environment["cuda"] == torch.version.cuda and found.environment["cudnn"]


def test_a_run_returns_when_the_gpu_is_done() -> None:
    network = build_network(TINY, num_classes=10)
    options = quick(batch=64)
    with running(options):
        run = make_runner(network, options)
        for _ in range(3):
            run()
            assert torch.cuda.current_stream(torch.device(DEVICE)).query()  # nothing is left to do


def test_a_network_that_does_not_fit() -> None:
    torch.cuda.empty_cache()
    torch.cuda.set_per_process_memory_fraction(1e-4, 0)
    try:
        with pytest.raises(DoesNotFitError, match=f"memory of {DEVICE}"):
            measure_architecture(TINY, quick(batch=512, resolution=64), num_classes=10)
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0, 0)


def test_a_calibration_predicts_on_the_gpu(tmp_path: Path) -> None:
    spec = StudySpec.load("cifar-small")
    space = spec.build_space()
    profile = calibrate(space, quick(batch=64), name="here", num_classes=10, seconds=4, held_out=4)
    assert torch.cuda.get_device_name(0) in profile.device and DEVICE in profile.device
    assert len(profile.errors["held_out"]) == 4 and profile.errors["mape"] >= 0
    profile.save(tmp_path / "here.json")
    assert predict_latency_ms(space.parse(space.initial), load_profile(tmp_path / "here.json"), 32, 10) > 0


def test_the_command_measures_on_the_gpu(capsys: pytest.CaptureFixture[str]) -> None:
    main(
        ["latency", "measure", TWO_HALVINGS, "--resolution", "32", "--device", DEVICE, "--no-cache", "--json"]
    )
    assert torch.cuda.get_device_name(0) in capsys.readouterr().out
