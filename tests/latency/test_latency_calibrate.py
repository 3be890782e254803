"""Calibration, the block table, tables from elsewhere, and live latency, on a device whose speed is known."""

from __future__ import annotations

import csv
import json
import random
from dataclasses import replace
from itertools import islice

import numpy as np
import pytest

from zenopt.architecture import Architecture
from zenopt.errors import DataError, DeviceError
from zenopt.latency import calibrate as calibrate_file
from zenopt.latency import load_profile, predict_latency_ms
from zenopt.latency import measure as measure_file
from zenopt.latency.cache import MeasurementCache
from zenopt.latency.calibrate import calibrate, network_stream
from zenopt.latency.csvfit import fit_profile, read_rows
from zenopt.latency.figure import held_out_pairs, predicted_against_measured, write_figure
from zenopt.latency.fit import fit_relative
from zenopt.latency.live import LiveLatency
from zenopt.latency.measure import DoesNotFitError, Measurement, MeasureOptions
from zenopt.latency.operations import block_operations, head_operations
from zenopt.latency.predict import operation_latencies
from zenopt.latency.table import TableModel, block_key, fill_block_table, head_key
from zenopt.lowering import block_out_size
from zenopt.spec import StudySpec

OPTIONS = MeasureOptions(batch=2, resolution=32, threads=1, max_seconds=0.05, min_iterations=3)


class Device:
    """A pretended device: every operation has a known time, a whole network takes ``factor`` times its blocks."""

    def __init__(self, factor: float = 0.9, noise: float = 0.0) -> None:
        self.factor = factor
        self.noise = noise
        self.rng = random.Random(0)
        self.too_large: set[str] = set()
        self.blocks_measured = 0

    def time_of(self, operations) -> float:
        return sum(op.macs / 3e8 + (op.read + op.written) / 4e7 + 0.001 for op in operations)

    def measurement(self, ms: float, options: MeasureOptions) -> Measurement:
        ms *= 1 + self.noise * self.rng.uniform(-1, 1)
        return Measurement(
            ms, ms * options.batch, ms * options.batch, 0.0, 3, 0.0, True, options.__dict__, {}
        )

    def network_ms(self, architecture, resolution: int, num_classes: int, use_se: bool) -> float:
        size, total = resolution, 0.0
        for block in architecture.blocks:
            total += self.time_of(block_operations(block, size, use_se))
            size = block_out_size(block, size)
        return self.factor * (
            total + self.time_of(head_operations(architecture.out_channels, size, num_classes))
        )

    def architecture(
        self, architecture, options, *, num_classes=1000, use_se=False, cache=None, refresh=False
    ):
        if str(architecture) in self.too_large:
            raise DoesNotFitError("too large")
        return self.measurement(
            self.network_ms(architecture, options.resolution, num_classes, use_se), options
        )

    def block(self, block, in_size, options, *, use_se=False, cache=None, refresh=False):
        self.blocks_measured += 1
        return self.measurement(self.time_of(block_operations(block, in_size, use_se)), options)

    def head(self, width, size, num_classes, options, *, cache=None, refresh=False):
        return self.measurement(self.time_of(head_operations(width, size, num_classes)), options)


@pytest.fixture
def device(monkeypatch) -> Device:
    pretended = Device()
    for module in (calibrate_file, measure_file):
        monkeypatch.setattr(module, "measure_architecture", pretended.architecture)
        monkeypatch.setattr(module, "measure_block", pretended.block)
        monkeypatch.setattr(module, "measure_head", pretended.head)
    monkeypatch.setattr("zenopt.latency.live.measure_architecture", pretended.architecture)
    return pretended


@pytest.fixture
def space():
    return StudySpec.load("cifar-params1m").build_space()


def test_table_of_a_noiseless_device_is_exact(device, space) -> None:
    profile = calibrate(space, OPTIONS, name="pretended", num_classes=10, seconds=0.5, held_out=5)
    assert profile.model["scale"] == pytest.approx(0.9, rel=1e-3)
    assert profile.errors["mape"] < 0.002
    assert profile.errors["within_10"] == 1
    assert profile.errors["spearman"] == 1
    assert profile.errors["noise_floor"]["median"] == 0
    assert profile.errors["additive_only"]["mape"] < 0.1
    assert profile.resolutions == (32, 32)
    assert len(profile.errors["held_out"]) == 5


def test_calibrated_profile_survives_a_file(device, space, tmp_path) -> None:
    profile = calibrate(space, OPTIONS, name="pretended", num_classes=10, seconds=0.3, held_out=3)
    profile.save(tmp_path / "pretended.json")
    copy = load_profile(tmp_path / "pretended.json")
    network = space.parse(profile.errors["held_out"][0]["structure"])
    expected = device.network_ms(network, 32, 10, False)
    assert predict_latency_ms(network, copy, 32, 10) == pytest.approx(expected, rel=2e-3)
    assert sum(part.latency_ms for part in operation_latencies(network, copy, 32, 10)) == pytest.approx(
        predict_latency_ms(network, copy, 32, 10)
    )
    with pytest.raises(DeviceError, match="speaks about resolution 32, got 64"):
        predict_latency_ms(network, copy, 64, 10)


def test_noise_is_reported(device, space) -> None:
    device.noise = 0.2
    profile = calibrate(space, OPTIONS, name="noisy", num_classes=10, seconds=0.3, held_out=8)
    assert 0.02 < profile.errors["noise_floor"]["median"] < 0.4
    assert profile.errors["mape"] > 0.01


def test_networks_that_do_not_fit_are_left_out(device, space) -> None:
    first = list(islice(network_stream(space, 32, 10, False, 0), 3))
    device.too_large = {str(first[0]), str(first[2])}
    profile = calibrate(space, OPTIONS, name="small", num_classes=10, seconds=0.3, held_out=3)
    measured = set(profile.data["measured_ms"])
    assert str(first[1]) in measured
    assert not measured & device.too_large


def test_bad_calibration_settings(device, space) -> None:
    with pytest.raises(DeviceError, match="statistic must be"):
        calibrate(space, OPTIONS, name="x", statistic="mode")
    with pytest.raises(DeviceError, match="held_out at least 3"):
        calibrate(space, OPTIONS, name="x", held_out=1)


def test_stream_gives_different_networks_of_similar_size(space) -> None:
    from zenopt.costs import count

    networks = list(islice(network_stream(space, 32, 10, False, 1), 30))
    assert len({str(network) for network in networks}) == 30
    centre = count(space.parse(space.initial), 32, 10).macs
    assert all(centre / 6.01 <= count(network, 32, 10).macs <= centre * 6.01 for network in networks)
    assert list(islice(network_stream(space, 32, 10, False, 1), 3)) == networks[:3]


def test_table_fills_as_a_search_goes(device, space) -> None:
    profile = calibrate(space, OPTIONS, name="pretended", num_classes=10, seconds=0.3, held_out=3)
    network = next(n for n in network_stream(space, 32, 10, False, 99) if not _is_known(profile, n))
    exact = device.network_ms(network, 32, 10, False)
    before = device.blocks_measured
    added = fill_block_table(profile, network, 32, 10)
    assert added > 0
    assert device.blocks_measured - before <= added
    assert fill_block_table(profile, network, 32, 10) == 0
    assert predict_latency_ms(network, profile, 32, 10) == pytest.approx(exact, rel=2e-3)


def _is_known(profile, network) -> bool:
    size, known = 32, True
    for block in network.blocks:
        known &= block_key(block, size, False) in profile.predictor.blocks
        size = block_out_size(block, size)
    return known and head_key(network.out_channels, size, 10) in profile.predictor.blocks


def test_table_of_other_hardware_is_refused(device, space) -> None:
    profile = calibrate(space, OPTIONS, name="pretended", num_classes=10, seconds=0.3, held_out=3)
    network = space.parse(space.initial)
    elsewhere = replace(profile, environment={**profile.environment, "device_name": "Abacus 3000"})
    with pytest.raises(DeviceError, match="calibrated with device_name 'Abacus 3000'"):
        fill_block_table(elsewhere, network, 32, 10)
    with pytest.raises(DeviceError, match="has no block table"):
        fill_block_table(load_profile("v100-fp16-b64"), network, 32, 10)


def test_unknown_blocks_get_the_additive_model() -> None:
    profile = load_profile("v100-fp16-b64")
    additive = profile.predictor
    architecture = Architecture.parse("SuperConvK3BNRELU(3,8,2,1)SuperResK3K3(8,16,1,8,1)")
    model = TableModel({"SuperConvK3BNRELU(3,8,2,1)@32": 5.0}, 0.5, additive)
    assert model.block_ms(architecture.blocks[0], 32, False) == 2.5
    assert model.block_ms(architecture.blocks[0], 32, True) == additive.block_ms(
        architecture.blocks[0], 32, True
    )
    assert model.block_ms(architecture.blocks[1], 16, False) == additive.block_ms(
        architecture.blocks[1], 16, False
    )


def test_live_latency(device, space, tmp_path) -> None:
    profile = calibrate(space, OPTIONS, name="pretended", num_classes=10, seconds=0.3, held_out=3)
    live = LiveLatency(OPTIONS, 10, profile=profile, cache=MeasurementCache(tmp_path / "latency.db"))
    network = next(islice(network_stream(space, 32, 10, False, 7), 3, 4))
    exact = device.network_ms(network, 32, 10, False)
    assert live.measured_ms(network) == pytest.approx(exact)
    assert live.tabled_ms(network) == pytest.approx(exact, rel=2e-3)
    assert live.screened_ms(network) == live.tabled_ms(network)
    device.too_large = {str(network)}
    assert live.measured_ms(network) == float("inf")
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
        read_rows(tmp_path / "table.csv"), name="elsewhere", device="A phone", source="table.csv"
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
        read_rows(tmp_path / "table.csv")
    assert "\n" not in str(error.value)


def test_missing_and_short_tables(tmp_path) -> None:
    with pytest.raises(DataError, match="Cannot read"):
        read_rows(tmp_path / "none.csv")
    (tmp_path / "table.csv").write_text('structure,latency_ms\n"SuperConvK3BNRELU(3,8,1,1)",1\n')
    with pytest.raises(DataError, match="at least 5"):
        fit_profile(read_rows(tmp_path / "table.csv"), name="x", device="x")


def test_weights_of_a_fit() -> None:
    matrix, times = np.ones((2, 1)), np.array([1.0, 2.0])
    heavy_first = fit_relative(matrix, times, np.array([1e6, 1.0]))
    heavy_last = fit_relative(matrix, times, np.array([1.0, 1e6]))
    assert heavy_first[0] == pytest.approx(1, abs=1e-3)
    assert heavy_last[0] == pytest.approx(2, abs=1e-3)


def test_figure(tmp_path) -> None:
    profile = load_profile("v100-fp16-b64-eager")
    figure = predicted_against_measured(held_out_pairs(profile), "title")
    assert len(figure.data[-1].x) == 18
    write_figure(held_out_pairs(profile), "title", tmp_path / "figure.json")
    assert json.loads((tmp_path / "figure.json").read_text())["data"]
    with pytest.raises(DeviceError, match=r"\.html or \.json"):
        write_figure(held_out_pairs(profile), "title", tmp_path / "figure.gif")
    with pytest.raises(DeviceError, match="keeps no held-out networks"):
        held_out_pairs(load_profile("v100-fp16-b64-tensorrt"))
