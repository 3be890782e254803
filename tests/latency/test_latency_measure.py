"""Measuring: the timer, the cache, the options, the errors."""

from __future__ import annotations

import json
import random
import sys
from collections.abc import Iterator

import pytest
import torch
from torch import nn

from zenopt.core.errors import DeviceError
from zenopt.latency import runners as runners_file
from zenopt.latency.cache import MeasurementCache
from zenopt.latency.environment import check_device
from zenopt.latency.measure import measure_architecture, measure_module, measure_subject, measurement_key
from zenopt.latency.onnx import run_command
from zenopt.latency.options import MeasureOptions
from zenopt.latency.parts import BlockPart, HeadPart
from zenopt.latency.runners import DoesNotFitError, prepared
from zenopt.latency.timer import standard_error, time_briefly, time_until_stable
from zenopt.spaces.chain.architecture import Architecture

TINY = Architecture.parse("SuperConvK3BNRELU(3,8,2,1)SuperResK3K3(8,16,1,8,1)")
FAST = MeasureOptions(resolution=16, threads=1, max_seconds=0.05, min_iterations=3)


class FakeClock:
    """A clock that runs take time on."""

    def __init__(self, durations: Iterator[float]) -> None:
        self.now = 0.0
        self.runs = 0
        self._durations = durations

    def __call__(self) -> float:
        return self.now

    def run(self) -> None:
        self.runs += 1
        self.now += next(self._durations)


def endless(*durations: float) -> Iterator[float]:
    while True:
        yield from durations


def test_steady_times_are_stable_at_once() -> None:
    clock = FakeClock(endless(0.01))
    timing = time_until_stable(clock.run, max_seconds=10, clock=clock, wall=clock)
    assert timing.is_stable
    assert timing.iterations == 10
    assert timing.median_ms == pytest.approx(10)
    assert timing.spread == pytest.approx(0)
    assert clock.runs > timing.iterations  # warm-up is not timed


def test_slow_start_is_not_part_of_the_median() -> None:
    def durations() -> Iterator[float]:
        yield from [1.0, 0.5]
        yield from endless(0.01)

    clock = FakeClock(durations())
    timing = time_until_stable(clock.run, max_seconds=10, clock=clock, wall=clock)
    assert timing.median_ms == pytest.approx(10)
    assert timing.minimum_ms == pytest.approx(10)


def test_drifting_times_go_on_until_the_limit() -> None:
    def durations() -> Iterator[float]:
        step = 0.01
        while True:
            yield step
            step *= 1.02

    clock = FakeClock(durations())
    timing = time_until_stable(clock.run, max_seconds=5, clock=clock, wall=clock)
    assert not timing.is_stable
    assert timing.seconds >= 5
    assert timing.spread > 0.1


def test_at_least_three_runs_are_timed_whatever_the_limit() -> None:
    clock = FakeClock(endless(100.0))
    timing = time_until_stable(clock.run, max_seconds=1, clock=clock, wall=clock)
    assert timing.iterations == 3


def test_median_and_minimum_of_an_alternating_run() -> None:
    clock = FakeClock(endless(0.01, 0.03))
    timing = time_until_stable(clock.run, max_seconds=100, clock=clock, wall=clock)
    assert timing.of("minimum") == pytest.approx(10)
    assert timing.of("median") == pytest.approx(20, abs=10.001)
    assert timing.spread > 0.5


def test_a_median_is_not_called_stable_before_its_time() -> None:
    clock = FakeClock(endless(0.01))
    timing = time_until_stable(clock.run, max_seconds=10, min_seconds=2, clock=clock, wall=clock)
    assert timing.is_stable
    assert 2 <= timing.seconds < 3
    clock = FakeClock(endless(0.01))
    timing = time_until_stable(clock.run, max_seconds=1, min_seconds=2, clock=clock, wall=clock)
    assert timing.is_stable  # Patience that ends before is not held against a steady device.


def test_slow_moods_of_a_machine_are_not_stable() -> None:
    def moods() -> Iterator[float]:
        while True:
            yield from [0.01] * 70
            yield from [0.013] * 70

    clock = FakeClock(moods())
    timing = time_until_stable(clock.run, max_seconds=10, min_seconds=2, clock=clock, wall=clock)
    assert not timing.is_stable
    assert 0.02 < timing.standard_error < 0.1


def test_standard_error_of_independent_runs_is_that_of_a_median() -> None:
    rng = random.Random(0)
    errors = [standard_error([rng.gauss(1, 0.1) for _ in range(400)]) for _ in range(50)]
    # A normal distribution's median has 1.2533 times the standard error of its mean, here 0.1 / 20.
    assert sum(errors) / 50 == pytest.approx(1.2533 * 0.1 / 20, rel=0.15)


def test_a_visit_warms_up_once_and_times_at_least_three_runs() -> None:
    clock = FakeClock(endless(1.0))
    assert time_briefly(clock.run, seconds=0.1, clock=clock, wall=clock).iterations == 3
    assert clock.runs == 4
    clock = FakeClock(endless(0.01))
    assert time_briefly(clock.run, seconds=0.1, clock=clock, wall=clock).iterations in (10, 11)


def test_measurement_is_per_image_and_says_where() -> None:
    measured = measure_architecture(TINY, MeasureOptions(**{**FAST.__dict__, "batch": 4}), num_classes=10)
    assert measured.latency_ms == pytest.approx(measured.batch_ms / 4)
    assert measured.minimum_ms <= measured.batch_ms
    assert measured.iterations >= 3
    assert measured.environment["torch"] == torch.__version__
    assert measured.environment["threads"] == 1
    assert measured.environment["device_name"]
    assert json.loads(json.dumps(measured.to_json()))["options"]["batch"] == 4


def test_threads_are_put_back() -> None:
    before = torch.get_num_threads()
    measure_module(nn.Conv2d(3, 4, 3), FAST)
    assert torch.get_num_threads() == before


def test_random_state_is_left_alone() -> None:
    torch.manual_seed(3)
    expected = torch.rand(2)
    torch.manual_seed(3)
    measure_module(nn.ReLU(), FAST)
    assert torch.equal(torch.rand(2), expected)


def test_second_measurement_comes_from_the_cache(tmp_path) -> None:
    cache = MeasurementCache(tmp_path / "deep" / "latency.db")
    first = measure_architecture(TINY, FAST, num_classes=10, cache=cache)
    second = measure_architecture(TINY, FAST, num_classes=10, cache=cache)
    assert not first.is_cached
    assert second.is_cached
    assert second.batch_ms == first.batch_ms
    assert not measure_architecture(TINY, FAST, num_classes=10, cache=cache, refresh=True).is_cached


def test_cache_key_holds_everything_that_matters(tmp_path) -> None:
    cache = MeasurementCache(tmp_path / "latency.db")
    base = {**FAST.__dict__}
    changes = [
        {}, {"batch": 2}, {"resolution": 18}, {"dtype": "bf16"}, {"channels_last": True}, {"threads": 2},
        {"clock": "cpu"},
    ]  # fmt: skip
    for change in changes:
        measure_architecture(TINY, MeasureOptions(**{**base, **change}), num_classes=10, cache=cache)
    measure_architecture(TINY, FAST, num_classes=11, cache=cache)
    measure_architecture(TINY, FAST, num_classes=10, use_se=True, cache=cache)
    for part in (BlockPart(TINY.blocks[1], 8), BlockPart(TINY.blocks[1], 9), HeadPart(16, 8, 10)):
        measure_subject(part, FAST, cache=cache)
    assert len(cache) == len(changes) + 5
    # Patience does not make another measurement.
    patient = MeasureOptions(**{**base, "max_seconds": 0.06, "min_iterations": 4})
    assert measure_architecture(TINY, patient, num_classes=10, cache=cache).is_cached
    assert {"torch", "device_name"} <= set(measurement_key(FAST))


def test_cache_that_is_no_database_is_refused(tmp_path) -> None:
    path = tmp_path / "latency.db"
    path.write_text("this is no database, and long enough to be read as a header of one" * 40)
    with pytest.raises(DeviceError, match="cannot be used") as error:
        MeasurementCache(path)
    assert "\n" not in str(error.value)
    (tmp_path / "file").write_text("")
    with pytest.raises(DeviceError, match="folder of the latency cache"):
        MeasurementCache(tmp_path / "file" / "latency.db")


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"dtype": "fp4"}, "dtype must be one of"),
        ({"runtime": "magic"}, "runtime must be one of"),
        ({"batch": 0}, "batch must be at least 1"),
        ({"runtime": "onnxruntime", "compile": True}, "cannot be combined"),
        ({"clock": "sun"}, "clock must be one of"),
        ({"clock": "cpu"}, "one thread"),
        ({"max_seconds": 0}, "max_seconds must be positive"),
        ({"min_seconds": -1}, "min_seconds must not be negative"),
    ],
)
def test_bad_options_are_refused(values, message) -> None:
    with pytest.raises(DeviceError, match=message):
        MeasureOptions(**values)


@pytest.mark.parametrize(
    ("device", "message"),
    [("abacus", "is no device"), ("cuda:99", "not available"), ("meta", "cannot be timed")],
)
def test_device_that_is_not_there(device, message) -> None:
    with pytest.raises(DeviceError, match=message):
        check_device(device)


class _Failing(nn.Module):
    def __init__(self, message: str) -> None:
        super().__init__()
        self.message = message

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        raise RuntimeError(self.message)


def test_missing_memory_and_number_formats_are_one_line() -> None:
    with pytest.raises(DoesNotFitError, match="does not fit in the memory of cpu"):
        measure_module(_Failing("[enforce fail] DefaultCPUAllocator: can't allocate memory\nstack"), FAST)
    with pytest.raises(DeviceError, match="fp32 does not work on cpu here") as error:
        measure_module(_Failing("\"slow_conv\" not implemented for 'Half'\nmore"), FAST)
    assert "\n" not in str(error.value)
    with pytest.raises(RuntimeError, match="a bug"):
        measure_module(_Failing("a bug"), FAST)


def test_device_is_synchronised_in_every_run(monkeypatch) -> None:
    calls: list[str] = []
    monkeypatch.setattr(runners_file, "_synchronise", lambda device: lambda: calls.append(device.type))
    with prepared(nn.ReLU(), FAST) as run:
        first = len(calls)
        run()
        run()
    assert first == 1
    assert calls == ["cpu"] * 3


def test_command_runner(tmp_path) -> None:
    path = tmp_path / "network.onnx"
    path.write_bytes(b"network")
    script = tmp_path / "runner.py"
    script.write_text(
        "import sys, pathlib\nprint('read', len(pathlib.Path(sys.argv[1]).read_bytes()))\nprint('3.5 ms')\n"
    )
    assert run_command(f"{sys.executable} {script} {{onnx}}", path) == 3.5
    assert run_command(f"{sys.executable} {script}", path) == 3.5


@pytest.mark.parametrize(
    ("code", "message"),
    [
        ("raise SystemExit('no phone')", "failed with exit code 1: no phone"),
        ("print('hello')", "no positive number"),
        ("print(-2)", "no positive number"),
        ("import time; time.sleep(30)", "took longer than"),
    ],
)
def test_command_that_fails(tmp_path, code, message) -> None:
    script = tmp_path / "runner.py"
    script.write_text(code)
    with pytest.raises(DeviceError, match=message):
        run_command(
            f"{sys.executable} {script}", tmp_path / "x.onnx", timeout_s=300 if "sleep" not in code else 0.5
        )


def test_command_that_is_not_there(tmp_path) -> None:
    with pytest.raises(DeviceError, match="Command not found: 'no-such-program-here'"):
        run_command("no-such-program-here", tmp_path / "x.onnx")
    with pytest.raises(DeviceError, match="The command is empty"):
        run_command("", tmp_path / "x.onnx")
    with pytest.raises(DeviceError, match="Cannot read the command"):
        run_command("run 'unclosed", tmp_path / "x.onnx")


@pytest.mark.slow
@pytest.mark.parametrize("dtype", ["fp32", "fp16"])
def test_onnxruntime(dtype) -> None:
    pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    options = MeasureOptions(**{**FAST.__dict__, "runtime": "onnxruntime", "dtype": dtype})
    measured = measure_architecture(TINY, options, num_classes=10)
    assert measured.latency_ms > 0
    assert measured.environment["onnxruntime"]


@pytest.mark.slow
def test_onnx_file_computes_what_the_network_does(tmp_path) -> None:
    onnxruntime = pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    from zenopt.latency.onnx import export_onnx
    from zenopt.nn import build_network

    network = build_network(TINY, num_classes=10).eval()
    export_onnx(network, tmp_path / "network.onnx", (2, 3, 16, 16))
    images = torch.rand(2, 3, 16, 16)
    session = onnxruntime.InferenceSession(str(tmp_path / "network.onnx"), providers=["CPUExecutionProvider"])
    (output,) = session.run(None, {"images": images.numpy()})
    with torch.no_grad():
        assert torch.allclose(torch.from_numpy(output), network(images), atol=1e-4)
