"""Calibration: from a minute of measurements to a profile of the device at hand.

Networks of the space to be searched are measured whole, and so is each of their blocks by itself. The whole networks
give the scale factor of the block table; both together give the additive model, which screens candidates whose blocks
nobody has measured. Networks that played no part then show how good the profile is, and how noisy the device.
"""

from __future__ import annotations

import random
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from datetime import date
from typing import Any

import numpy as np

from zenopt.costs import count
from zenopt.errors import DeviceError
from zenopt.latency.cache import MeasurementCache
from zenopt.latency.fit import coefficients_json, errors_of, fit_relative, term_matrix
from zenopt.latency.measure import (
    DoesNotFitError,
    MeasureOptions,
    environment,
    measure_architecture,
    measure_block,
    measure_head,
)
from zenopt.latency.models import AdditiveModel
from zenopt.latency.operations import Operation, block_operations, head_operations, layer_operation
from zenopt.latency.predict import predict_latency_ms
from zenopt.latency.profile import BYTES_PER_NUMBER, SCHEMA_VERSION, DeviceProfile, profile_from_json
from zenopt.latency.ranges import measured_ranges
from zenopt.latency.table import architecture_parts, block_key, fill_block_table, head_key
from zenopt.lowering import lower

#: Terms of the additive model of a device at hand: see docs/latency.md for how they compare.
TERMS = (
    "network", "pointwise_gmacs", "spatial_gmacs", "thin_gmacs", "conv_gb", "weight_gb", "depthwise_gmacs",
    "depthwise_gelements", "elementwise_gb", "conv_count", "elementwise_count",
)  # fmt: skip
#: Networks are kept within this factor of the initial one's multiply-adds.
SIZE_FACTOR = 6.0
MIN_NETWORKS = 4
#: A single block weighs less than a network in the additive fit: there are many, and networks are what matters.
BLOCK_WEIGHT = 0.3
MUTATIONS = 24

Progress = Callable[[str], None]


@dataclass
class _Samples:
    """What was measured: milliseconds per image."""

    networks: list[Any] = field(default_factory=list)
    network_ms: list[float] = field(default_factory=list)
    blocks: dict[str, float] = field(default_factory=dict)
    block_parts: dict[str, Sequence[Operation]] = field(default_factory=dict)


def calibrate(
    space: Any,
    options: MeasureOptions,
    *,
    name: str,
    num_classes: int = 1000,
    use_se: bool = False,
    seconds: float = 60.0,
    held_out: int = 20,
    statistic: str = "median",
    seed: int = 0,
    cache: MeasurementCache | None = None,
    progress: Progress = lambda line: None,
) -> DeviceProfile:
    """Measures networks and blocks of a space and fits a profile.

    Args:
        space:
            Where networks come from: its initial structure, mutated.
        options:
            How networks are run.
        name:
            Name of the profile.
        num_classes:
            Outputs of the classifier.
        use_se:
            Whether squeeze-excite gates are built.
        seconds:
            Time for what is fitted. Held-out networks come on top.
        held_out:
            Networks that show the errors; each is measured twice, before and after its new blocks.
        statistic:
            ``"median"``, or ``"minimum"`` on a machine that others disturb.
        seed:
            Of the choice of networks.
        cache:
            Where measurements are kept. Nothing is read from it: a calibration measures.
        progress:
            Called with a line for people now and then.

    Raises:
        DeviceError: If the device is not usable, or the time does not suffice for a handful of networks.
    """
    if statistic not in ("median", "minimum"):
        raise DeviceError(f"statistic must be median or minimum, got {statistic!r}.")
    if not seconds > 0 or held_out < 3:
        raise DeviceError(f"seconds must be positive and held_out at least 3, got {seconds} and {held_out}.")
    began = time.perf_counter()
    stream = network_stream(space, options.resolution, num_classes, use_se, seed)
    samples = _Samples()
    patience = max(0.2, min(1.5, seconds / 40))
    whole = replace(options, max_seconds=patience)
    single = replace(options, max_seconds=patience / 3)
    for network in stream:
        elapsed = time.perf_counter() - began
        if elapsed > seconds and len(samples.networks) >= MIN_NETWORKS:
            break
        if elapsed > 10 * seconds:
            raise DeviceError(
                f"{seconds:g} s are not enough to measure {MIN_NETWORKS} networks on this device."
            )
        try:
            measured = measure_architecture(
                network, whole, num_classes=num_classes, use_se=use_se, cache=cache, refresh=True
            )
        except DoesNotFitError:
            continue
        samples.networks.append(network)
        samples.network_ms.append(measured.per_image_ms(statistic))
        # Right after their network, so that a drifting machine does not drift into the scale factor.
        _measure_parts(samples, network, single, num_classes, use_se, statistic, cache)
        progress(
            f"network {len(samples.networks)}: {samples.network_ms[-1]:.3f} ms per image, "
            f"{len(samples.blocks)} blocks so far"
        )
    spent = time.perf_counter() - began
    model = _fit(samples, options, num_classes, use_se)
    profile = _profile(model, name, samples, options, statistic, spent, num_classes, use_se)
    return _with_errors(profile, stream, whole, held_out, statistic, num_classes, use_se, cache, progress)


def network_stream(space: Any, resolution: int, num_classes: int, use_se: bool, seed: int) -> Iterator[Any]:
    """Yields different networks of a space: random walks of mutations from its initial structure.

    Sizes are kept within a factor of the initial one's multiply-adds, on both sides.
    """
    rng = random.Random(seed)
    initial = space.parse(space.initial)
    centre = count(initial, resolution, num_classes, use_se=use_se).macs
    seen: set[str] = set()
    while True:
        network = initial
        for _ in range(rng.randint(1, MUTATIONS)):
            child = space.mutate(network, rng)
            if child is None:
                continue
            macs = count(child, resolution, num_classes, use_se=use_se).macs
            if centre / SIZE_FACTOR <= macs <= centre * SIZE_FACTOR:
                network = child
        if str(network) not in seen:
            seen.add(str(network))
            yield network


def _measure_parts(
    samples: _Samples,
    network: Any,
    options: MeasureOptions,
    num_classes: int,
    use_se: bool,
    statistic: str,
    cache: MeasurementCache | None,
) -> None:
    for block, size in architecture_parts(network, options.resolution):
        if block is None:
            key = head_key(network.out_channels, size, num_classes)
            if key not in samples.blocks:
                measured = measure_head(
                    network.out_channels, size, num_classes, options, cache=cache, refresh=True
                )
                samples.blocks[key] = measured.per_image_ms(statistic)
                samples.block_parts[key] = head_operations(network.out_channels, size, num_classes)
            continue
        key = block_key(block, size, use_se)
        if key not in samples.blocks:
            measured = measure_block(block, size, options, use_se=use_se, cache=cache, refresh=True)
            samples.blocks[key] = measured.per_image_ms(statistic)
            samples.block_parts[key] = block_operations(block, size, use_se)


def _fit(samples: _Samples, options: MeasureOptions, num_classes: int, use_se: bool) -> dict[str, Any]:
    """Returns the model of a profile: scale factor, table, additive coefficients."""
    ratios = []
    for network, ms in zip(samples.networks, samples.network_ms, strict=True):
        parts = 0.0
        for block, size in architecture_parts(network, options.resolution):
            if block is None:
                parts += samples.blocks[head_key(network.out_channels, size, num_classes)]
            else:
                parts += samples.blocks[block_key(block, size, use_se)]
        ratios.append(ms / parts)
    scale = statistics.median(ratios)
    bytes_per_number = BYTES_PER_NUMBER[options.dtype]
    lowered = [
        [
            layer_operation(layer)
            for layer in lower(n, options.resolution, num_classes=num_classes, use_se=use_se)
        ]
        for n in samples.networks
    ]
    nets = term_matrix(lowered, TERMS, options.batch, bytes_per_number)
    parts_matrix = term_matrix(list(samples.block_parts.values()), TERMS, options.batch, bytes_per_number)
    # What a whole forward costs besides its layers is not in a block's time.
    parts_matrix[:, TERMS.index("network")] = 0.0
    parts_ms = scale * np.array(list(samples.blocks.values()))
    # Scaling a row and its target weights its relative error; fit_relative divides both by the target.
    matrix = np.vstack([nets, parts_matrix])
    times = np.concatenate([np.array(samples.network_ms), parts_ms])
    weights = np.concatenate([np.ones(len(nets)), np.full(len(parts_ms), BLOCK_WEIGHT)])
    values = fit_relative(matrix, times, weights)
    return {
        "kind": "table",
        "scale": float(f"{scale:.4g}"),
        "coefficients": dict(coefficients_json(TERMS, values)),
        "blocks": {key: float(f"{ms:.4g}") for key, ms in samples.blocks.items()},
    }


def _profile(
    model: dict[str, Any],
    name: str,
    samples: _Samples,
    options: MeasureOptions,
    statistic: str,
    spent: float,
    num_classes: int,
    use_se: bool,
) -> DeviceProfile:
    here = environment(options)
    runtime = "onnxruntime" if options.runtime == "onnxruntime" else "PyTorch"
    lowered = [
        [
            layer_operation(layer)
            for layer in lower(n, options.resolution, num_classes=num_classes, use_se=use_se)
        ]
        for n in samples.networks
    ]
    kept = {
        key: value for key, value in asdict(options).items() if key not in ("max_seconds", "min_iterations")
    }
    content = {
        "schema_version": SCHEMA_VERSION,
        "name": name,
        "device": f"{here['device_name']} ({options.device})",
        "runtime": f"{runtime} {here.get('onnxruntime', here['torch'])}{' compiled' if options.compile else ''}",
        "batch": options.batch,
        "dtype": options.dtype,
        "resolutions": [options.resolution, options.resolution],
        "model": model,
        "data": {
            "source": "measured on this device",
            "networks": len(samples.networks),
            "blocks": len(samples.blocks),
            "seconds": round(spent, 1),
            "num_classes": num_classes,
            "use_se": use_se,
            "measured_ms": {
                str(n): float(f"{ms:.4g}") for n, ms in zip(samples.networks, samples.network_ms, strict=True)
            },
        },
        "errors": {},
        "validity": {
            "latency_ms": [min(samples.network_ms), max(samples.network_ms)],
            **measured_ranges(lowered),
        },
        "environment": {**here, "options": kept, "statistic": statistic},
        "created": date.today().isoformat(),
        "notes": f"{'Minimum' if statistic == 'minimum' else 'Median'} times; blocks not in the table are screened by "
        "the additive model.",
    }
    return profile_from_json(content)


def _with_errors(
    profile: DeviceProfile,
    stream: Iterator[Any],
    options: MeasureOptions,
    held_out: int,
    statistic: str,
    num_classes: int,
    use_se: bool,
    cache: MeasurementCache | None,
    progress: Progress,
) -> DeviceProfile:
    additive = AdditiveModel(
        dict(profile.model["coefficients"]), profile.batch, BYTES_PER_NUMBER[profile.dtype]
    )
    measured: list[float] = []
    repeats: list[float] = []
    by_additive: list[float] = []
    by_table: list[float] = []
    names: list[str] = []
    arguments = (options.resolution, num_classes, use_se)
    for network in stream:
        if len(measured) == held_out:
            break
        layers = lower(network, options.resolution, num_classes=num_classes, use_se=use_se)
        try:
            first, second = _twice(network, profile, options, statistic, num_classes, use_se, cache)
        except DoesNotFitError:
            continue
        measured.append(min(first, second) if statistic == "minimum" else (first + second) / 2)
        repeats.append(abs(first - second) / min(first, second))
        by_additive.append(
            additive.constant_ms + sum(additive.operation_times([layer_operation(x) for x in layers]))
        )
        by_table.append(predict_latency_ms(network, profile, *arguments))
        names.append(str(network))
        progress(f"held out {len(measured)}: {measured[-1]:.3f} ms measured, {by_table[-1]:.3f} ms predicted")
    rows = zip(names, measured, by_table, by_additive, strict=True)
    errors = {
        "protocol": f"{held_out} networks that were not fitted, each measured twice; "
        "their new blocks measured as a search does",
        **errors_of(by_table, measured).to_json(),
        "additive_only": errors_of(by_additive, measured).to_json(),
        "noise_floor": {
            "median": round(statistics.median(repeats), 4),
            "p90": round(float(np.quantile(repeats, 0.9)), 4),
        },
        "held_out": [
            {
                "structure": structure,
                "measured_ms": float(f"{truth:.4g}"),
                "table_ms": float(f"{table:.4g}"),
                "additive_ms": float(f"{simple:.4g}"),
            }
            for structure, truth, table, simple in rows
        ],
    }
    # Blocks of the held-out networks were measured too; the table may keep them.
    blocks = {key: float(f"{ms:.4g}") for key, ms in profile.predictor.blocks.items()}  # type: ignore[attr-defined]
    return profile_from_json(
        {**profile.to_json(), "model": {**profile.model, "blocks": blocks}, "errors": errors}
    )


def _twice(
    network: Any,
    profile: DeviceProfile,
    options: MeasureOptions,
    statistic: str,
    num_classes: int,
    use_se: bool,
    cache: MeasurementCache | None,
) -> tuple[float, float]:
    """Measures a network before and after its new blocks, so that a drift of the machine is seen."""
    times = []
    for turn in range(2):
        measured = measure_architecture(
            network, options, num_classes=num_classes, use_se=use_se, cache=cache, refresh=True
        )
        times.append(measured.per_image_ms(statistic))
        if turn == 0:
            fill_block_table(
                profile, network, options.resolution, num_classes, use_se, max_seconds=options.max_seconds / 3
            )
    return times[0], times[1]
