"""Calibration, the block table, tables from elsewhere, and live latency, on a device whose speed is known."""

from __future__ import annotations

import csv
import json
import math
import random
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from itertools import islice

import numpy as np
import pytest

from zenopt.core.errors import DataError, DeviceError, OutputError
from zenopt.latency import load_profile, predict_latency_ms
from zenopt.latency.cache import MeasurementCache
from zenopt.latency.calibrate import calibrate
from zenopt.latency.csvfit import fit_profile, read_rows
from zenopt.latency.figure import errors_of, held_out_pairs, predicted_against_measured, write_figure
from zenopt.latency.fill import ENOUGH_VISITS, FIRST_VISITS, TableFiller
from zenopt.latency.fit import fit_relative
from zenopt.latency.live import LiveLatency
from zenopt.latency.options import CLOCKS, MeasureOptions
from zenopt.latency.parts import BlockPart, Network, network_parts
from zenopt.latency.predict import operation_latencies
from zenopt.latency.runners import DoesNotFitError
from zenopt.latency.stream import network_stream
from zenopt.latency.table import TableModel
from zenopt.latency.visits import Bench, combined_ms, scatter_of, visit_in_turn
from zenopt.spaces.chain.architecture import Architecture
from zenopt.study.spec import StudySpec
from zenopt.study.targets import find_target

OPTIONS = MeasureOptions(batch=2, resolution=32, threads=1, max_seconds=0.05, min_iterations=3)


class Device:
    """A pretended device: every operation has a known time, a whole network takes ``factor`` times its blocks."""

    def __init__(self, factor: float = 0.9, noise: float = 0.0) -> None:
        self.factor = factor
        self.noise = noise
        self.rng = random.Random(0)
        self.too_large: set[str] = set()
        self.visits: Counter[str] = Counter()
        self.passed_s = 0.0

    def time_of(self, operations) -> float:
        return sum(op.macs / 3e8 + (op.read + op.written) / 4e7 + 0.001 for op in operations)

    def network_ms(self, architecture, resolution: int, num_classes: int, use_se: bool) -> float:
        network = Network(architecture, resolution, num_classes, use_se)
        return self.factor * self.time_of(network.operations())

    def visit(self, subject) -> float:
        name = str(subject.architecture) if isinstance(subject, Network) else subject.name
        if name in self.too_large:
            raise DoesNotFitError("too large")
        self.visits[name] += 1
        self.passed_s += 0.0002
        ms = self.time_of(subject.operations()) * (self.factor if isinstance(subject, Network) else 1)
        return ms * math.exp(self.rng.gauss(0, self.noise))


@pytest.fixture
def new_device(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Device]:
    """Return a maker of devices. Time is that of their visits: how many there is time for is not up to the machine."""

    def make(**how: float) -> Device:
        device = Device(**how)
        monkeypatch.setitem(CLOCKS, "wall", lambda: device.passed_s)
        return device

    return make


@pytest.fixture
def device(new_device: Callable[..., Device]) -> Device:
    return new_device()


@pytest.fixture
def space():
    return StudySpec.load("cifar-params1m").build_space()


def test_table_of_a_noiseless_device_is_exact(device, space) -> None:
    profile = calibrate(
        space, OPTIONS, visitor=device, name="pretended", num_classes=10, seconds=0.5, held_out=5
    )
    assert profile.model["scale"] == pytest.approx(0.9, rel=1e-3)
    assert profile.errors["mape"] < 0.002
    assert profile.errors["within_10"] == 1
    assert profile.errors["spearman"] == 1
    assert profile.errors["noise_floor"]["standard_error"] == pytest.approx(0, abs=1e-12)
    assert profile.errors["additive_only"]["mape"] < 0.1
    assert profile.resolutions == (32, 32)
    assert len(profile.errors["held_out"]) == 5


def test_calibrated_profile_survives_a_file(device, space, tmp_path) -> None:
    profile = calibrate(
        space, OPTIONS, visitor=device, name="pretended", num_classes=10, seconds=0.3, held_out=3
    )
    profile.save(tmp_path / "pretended.json")
    copy = load_profile(tmp_path / "pretended.json")
    network = space.parse(profile.errors["held_out"][0]["structure"])
    expected = device.network_ms(network, 32, 10, False)
    assert predict_latency_ms(network, copy, 32, 10) == pytest.approx(expected, rel=2e-3)
    assert sum(part.latency_ms for part in operation_latencies(network, copy, 32, 10)) == pytest.approx(
        predict_latency_ms(network, copy, 32, 10)
    )
    with pytest.raises(DeviceError, match="covers resolution 32, got 64"):
        predict_latency_ms(network, copy, 64, 10)


def test_noise_is_reported_and_many_visits_beat_it(space, new_device: Callable[..., Device]) -> None:
    device = new_device(noise=0.12)
    profile = calibrate(
        space, OPTIONS, visitor=device, name="noisy", num_classes=10, seconds=0.5, held_out=12
    )
    floor = profile.errors["noise_floor"]
    assert floor["visit_scatter"] == pytest.approx(0.12, rel=0.2)
    assert floor["visits"] >= 24
    assert floor["standard_error"] == pytest.approx(0.12 / floor["visits"] ** 0.5, rel=0.2)
    # A table that believed single visits would be off by 12 % a block.
    assert profile.errors["mape"] < 0.06
    assert profile.model["visit_scatter"] == pytest.approx(0.12, rel=0.2)
    assert profile.errors["held_out"][0]["measured_ms"] == pytest.approx(
        device.network_ms(space.parse(profile.errors["held_out"][0]["structure"]), 32, 10, False), rel=0.1
    )


def test_blocks_that_visits_know_badly_are_drawn_to_the_additive_model() -> None:
    additive = load_profile("v100-fp16-b64").predictor
    part = BlockPart(
        Architecture.parse("SuperConvK3BNRELU(3,16,1,1)SuperResK3K3(16,32,1,16,1)").blocks[1], 16
    )
    expected = additive.part_ms(part) / 0.5
    sure = TableModel({}, 0.5, additive, visit_scatter=0.0, additive_scatter=0.1)
    assert sure.believed_ms(part, 2 * expected, 4) == 2 * expected
    ignorant = TableModel({}, 0.5, additive, visit_scatter=0.2)
    assert ignorant.believed_ms(part, 2 * expected, 4) == 2 * expected
    # Four visits of 20 % scatter know a block as well as a model of 10 %: the logarithm is the mean.
    even = TableModel({}, 0.5, additive, visit_scatter=0.2, additive_scatter=0.1)
    assert even.believed_ms(part, 2 * expected, 4) == pytest.approx(math.sqrt(2) * expected)
    assert even.believed_ms(part, 2 * expected, 400) == pytest.approx(2 * expected, rel=0.01)


def test_visits_in_turn_and_what_they_agree_on(device, space) -> None:
    networks = [Network(n, 32, 10) for n in islice(network_stream(space, 32, 10, False, 5), 3)]
    device.too_large = {str(networks[1].architecture)}
    times = visit_in_turn(device, networks, 4)
    assert [len(times[network]) for network in networks] == [4, 0, 4]
    assert combined_ms([1.0, 4.0]) == pytest.approx(2.0)
    # A wild visit counts as one at twice the median.
    assert combined_ms([1.0, 1.0, 1000.0]) == pytest.approx(2 ** (1 / 3))
    rng = random.Random(0)
    series = [[math.exp(rng.gauss(level, 0.1)) for _ in range(5)] for level in range(200)]
    assert scatter_of(series) == pytest.approx(0.1, rel=0.1)
    assert scatter_of([[1.0]]) == 0


def test_bench_visits_a_real_network(space) -> None:
    network = Network(space.parse(space.initial), 32, 10)
    bench = Bench(OPTIONS)
    assert bench.visit(network) > 0
    assert all(bench.visit(part) > 0 for part in network.parts()[:2])
    with pytest.raises(DeviceError, match="statistic must be"):
        Bench(OPTIONS, "mode")


def test_networks_that_do_not_fit_are_left_out(device, space) -> None:
    first = list(islice(network_stream(space, 32, 10, False, 0), 3))
    device.too_large = {str(first[0]), str(first[2])}
    profile = calibrate(space, OPTIONS, visitor=device, name="small", num_classes=10, seconds=0.3, held_out=3)
    measured = set(profile.data["measured_ms"])
    assert str(first[1]) in measured
    assert not measured & device.too_large


def test_bad_calibration_settings(device, space) -> None:
    with pytest.raises(DeviceError, match="statistic must be"):
        calibrate(space, OPTIONS, name="x", statistic="mode")
    with pytest.raises(DeviceError, match="held_out at least 3"):
        calibrate(space, OPTIONS, visitor=device, name="x", held_out=1)


def test_stream_gives_different_networks_of_similar_size(space) -> None:
    from zenopt.core.costs import count

    networks = list(islice(network_stream(space, 32, 10, False, 1), 30))
    assert len({str(network) for network in networks}) == 30
    centre = count(space.parse(space.initial), 32, 10).macs
    assert all(centre / 6.01 <= count(network, 32, 10).macs <= centre * 6.01 for network in networks)
    assert list(islice(network_stream(space, 32, 10, False, 1), 3)) == networks[:3]


def test_table_fills_as_a_search_goes(device, space, tmp_path) -> None:
    profile = calibrate(
        space, OPTIONS, visitor=device, name="pretended", num_classes=10, seconds=0.3, held_out=3
    )
    known = set(profile.predictor.blocks)
    network = next(
        n
        for n in network_stream(space, 32, 10, False, 99)
        if not {part.name for part in network_parts(n, 32, 10)} <= known
    )
    new = {part.name for part in network_parts(network, 32, 10)} - known
    device.visits.clear()
    cache = MeasurementCache(tmp_path / "latency.db")
    filler = TableFiller(profile, visitor=device, cache=cache, apart_s=1000)
    assert filler.fill(network, 32, 10) == len(new)
    assert device.visits == dict.fromkeys(new, FIRST_VISITS)
    assert filler.fill(network, 32, 10) == 0
    # Too soon after the first visits for another to tell anything new.
    assert device.visits == dict.fromkeys(new, FIRST_VISITS)
    exact = device.network_ms(network, 32, 10, False)
    assert predict_latency_ms(network, profile, 32, 10) == pytest.approx(exact, rel=2e-3)
    # Another process goes on where this one stopped, and comes back until it is enough.
    fresh = replace(profile)
    other = TableFiller(fresh, visitor=device, cache=cache, apart_s=0)
    for _ in range(ENOUGH_VISITS):
        other.fill(network, 32, 10)
    assert device.visits == dict.fromkeys(new, ENOUGH_VISITS)
    assert predict_latency_ms(network, fresh, 32, 10) == pytest.approx(exact, rel=2e-3)


def test_table_of_other_hardware_is_refused(device, space) -> None:
    profile = calibrate(
        space, OPTIONS, visitor=device, name="pretended", num_classes=10, seconds=0.3, held_out=3
    )
    elsewhere = replace(profile, environment={**profile.environment, "device_name": "Abacus 3000"})
    with pytest.raises(DeviceError, match="calibrated with device_name 'Abacus 3000'"):
        TableFiller(elsewhere)
    with pytest.raises(DeviceError, match="has no block table"):
        TableFiller(load_profile("v100-fp16-b64"))


def test_unknown_blocks_get_the_additive_model() -> None:
    profile = load_profile("v100-fp16-b64")
    additive = profile.predictor
    architecture = Architecture.parse("SuperConvK3BNRELU(3,8,2,1)SuperResK3K3(8,16,1,8,1)")
    model = TableModel({"SuperConvK3BNRELU(3,8,2,1)@32": 5.0}, 0.5, additive)
    stem, residual = architecture.blocks
    assert model.part_ms(BlockPart(stem, 32)) == 2.5
    for unknown in (BlockPart(stem, 32, True), BlockPart(residual, 16)):
        assert model.part_ms(unknown) == additive.part_ms(unknown)


def test_live_latency(device, space, tmp_path, monkeypatch) -> None:
    profile = calibrate(
        space, OPTIONS, visitor=device, name="pretended", num_classes=10, seconds=0.3, held_out=3
    )
    cache = MeasurementCache(tmp_path / "latency.db")
    live = LiveLatency(OPTIONS, 10, profile=profile, cache=cache, visitor=device)
    network = next(islice(network_stream(space, 32, 10, False, 7), 3, 4))
    exact = device.network_ms(network, 32, 10, False)
    assert live.tabled_ms(network) == pytest.approx(exact, rel=2e-3)
    assert live.screened_ms(network) == live.tabled_ms(network)
    smaller = space.parse(space.initial)
    device.too_large = {str(smaller)}
    finalists = live.finalists([network, smaller], visits=5)
    assert finalists[0].latency_ms == pytest.approx(exact)
    assert finalists[0].visits == 5
    assert finalists[1].latency_ms == math.inf
    assert math.isfinite(live.measured_ms(smaller))

    def full(*arguments, **options):
        raise DoesNotFitError("too large")

    monkeypatch.setattr("zenopt.latency.live.measure_architecture", full)
    assert live.measured_ms(network) == math.inf
    monkeypatch.setattr(device, "visit", full)
    other = LiveLatency(OPTIONS, 10, profile=replace(profile), visitor=device)
    bigger = next(islice(network_stream(space, 32, 10, False, 8), 5, 6))
    assert other.tabled_ms(bigger) == math.inf
    with pytest.raises(DeviceError, match="needs a profile of this device"):
        LiveLatency(OPTIONS).screened_ms(network)


def _write(
    path, device, networks, columns=("structure", "latency_ms", "resolution", "num_classes", "use_se")
) -> None:
    with path.open("w", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(columns)
        for network in networks:
            writer.writerow((str(network), f"{device.network_ms(network, 32, 10, False):.8g}", 32, 10, 0))


def test_fit_of_a_table_recovers_the_device(space, tmp_path) -> None:
    device = Device(factor=1.0)
    networks = list(islice(network_stream(space, 32, 10, False, 3), 30))
    _write(tmp_path / "table.csv", device, networks[:20])
    profile = fit_profile(
        read_rows(tmp_path / "table.csv", find_target), name="elsewhere", device="A phone", source="table.csv"
    )
    assert profile.errors["mape"] < 0.01
    assert profile.resolutions == (32, 32)
    for network in networks[20:]:
        expected = device.network_ms(network, 32, 10, False)
        assert predict_latency_ms(network, profile, 32, 10) == pytest.approx(expected, rel=0.03)
    assert len(held_out_pairs(profile)) == 20


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("structure\nx\n", "missing columns: latency_ms"),
        ("structure,latency_ms,colour\n", "unknown: colour"),
        ("structure,latency_ms\n'X',fast\n", "line 2"),
        (
            'structure,latency_ms\n"SuperConvK3BNRELU(3,8,1,1)",-1\n',
            "line 2: latency_ms must be a positive number",
        ),
        ('structure,latency_ms\n"SuperConvK3BNRELU(3,8,1,1)",1\n"Magic(1)",1\n', "line 3.*Magic"),
    ],
)
def test_bad_tables_name_the_line(tmp_path, text, message) -> None:
    (tmp_path / "table.csv").write_text(text)
    with pytest.raises(DataError, match=message) as error:
        read_rows(tmp_path / "table.csv", find_target)
    assert "\n" not in str(error.value)


def test_missing_and_short_tables(tmp_path) -> None:
    with pytest.raises(DataError, match="cannot be read: No such file"):
        read_rows(tmp_path / "none.csv", find_target)
    (tmp_path / "table.csv").write_text('structure,latency_ms\n"SuperConvK3BNRELU(3,8,1,1)",1\n')
    with pytest.raises(DataError, match="at least 5"):
        fit_profile(read_rows(tmp_path / "table.csv", find_target), name="x", device="x")


def test_weights_of_a_fit() -> None:
    matrix, times = np.ones((2, 1)), np.array([1.0, 2.0])
    heavy_first = fit_relative(matrix, times, np.array([1e6, 1.0]))
    heavy_last = fit_relative(matrix, times, np.array([1.0, 1e6]))
    assert heavy_first[0] == pytest.approx(1, abs=1e-3)
    assert heavy_last[0] == pytest.approx(2, abs=1e-3)


def test_figure(tmp_path) -> None:
    profile = load_profile("v100-fp16-b64-eager")
    figure = predicted_against_measured(held_out_pairs(profile), "title")
    points = [trace for trace in figure.data if trace.name in ("within 10 %", "beyond 10 %")]
    assert sum(len(trace.x) for trace in points) == 18
    # Every network is named beside its error, the largest at the top.
    bars = figure.data[-1]
    assert len(bars.x) == len(figure.layout.yaxis2.ticktext) == 18
    assert (
        abs(bars.x[-1])
        == max(abs(error) for error in bars.x)
        == pytest.approx(profile.errors["max"], abs=1e-3)
    )
    assert "ZenNet-flops400M-SE" in figure.layout.yaxis2.ticktext
    errors = errors_of(held_out_pairs(profile))
    assert errors.mean == pytest.approx(profile.errors["mape"], abs=1e-3)
    assert errors.within_10 == pytest.approx(profile.errors["within_10"], abs=1e-3)
    assert "61% within 10 %" in figure.layout.title.text and "title" in figure.layout.title.text
    # Ticks are whole numbers, not the bare 2 and 5 of plotly's own.
    assert {"0.1", "0.2", "0.5", "1"} <= set(figure.layout.xaxis.ticktext)
    write_figure(held_out_pairs(profile), "title", tmp_path / "figure.json")
    assert json.loads((tmp_path / "figure.json").read_text())["data"]
    with pytest.raises(OutputError, match=r"\.html or \.json"):
        write_figure(held_out_pairs(profile), "title", tmp_path / "figure.gif")
    with pytest.raises(DeviceError, match="keeps no held-out networks"):
        held_out_pairs(load_profile("v100-fp16-b64-tensorrt"))
