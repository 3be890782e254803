"""A profile from a table of latencies that were measured somewhere else."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Protocol

import numpy as np

from zenopt.core.errors import DataError, ZenoptError
from zenopt.core.files import TABLE, number, open_csv, rows_of
from zenopt.core.text import quoted, quoted_list
from zenopt.latency.fit import coefficients_json, errors_of, fit_robust, leave_one_out, term_matrix
from zenopt.latency.operations import Operation, layer_operation
from zenopt.latency.profile import BYTES_PER_NUMBER, SCHEMA_VERSION, DeviceProfile, profile_from_json
from zenopt.latency.ranges import measured_ranges
from zenopt.latency.targets import Target

REQUIRED = ("structure", "latency_ms")
OPTIONAL = ("resolution", "num_classes", "use_se")
MIN_ROWS = 5
#: A set with more constants must lower the leave-one-out error to this share of what fewer reach, or it is chance.
WORTHWHILE = 0.95
#: From few constants to many; the set with the smallest leave-one-out error wins.
TERM_SETS: Mapping[str, tuple[str, ...]] = {
    "arithmetic": ("network", "gmacs"),
    "arithmetic + traffic": ("gmacs", "traffic_gb"),
    "two rates + traffic": ("dense_gmacs", "depthwise_gmacs", "traffic_gb"),
    "two rates + traffic + gates": ("dense_gmacs", "depthwise_gmacs", "traffic_gb", "gate_gb"),
    "two rates + traffic + launches": (
        "network", "dense_gmacs", "depthwise_gmacs", "traffic_gb", "conv_count", "elementwise_count",
    ),
    "full": (
        "network", "pointwise_gmacs", "spatial_gmacs", "thin_gmacs", "conv_gb", "weight_gb", "depthwise_gmacs",
        "depthwise_gelements", "elementwise_gb", "conv_count", "elementwise_count",
    ),
}  # fmt: skip


@dataclass(frozen=True)
class Row:
    """One measured network: milliseconds per image."""

    target: Target
    latency_ms: float


class Finder(Protocol):
    """Finds a network by what stands in a table; :func:`zenopt.study.targets.find_target` is one."""

    def __call__(self, name: str, *, resolution: int, num_classes: int, use_se: bool, stored: bool) -> Target:
        """Return the network of a name."""
        ...


def read_rows(path: str | Path, find: Finder, *, resolution: int = 224, num_classes: int = 1000) -> list[Row]:
    """Read a table of measured networks.

    Args:
        path:
            A CSV file with the columns ``structure`` and ``latency_ms`` (per image), and optionally ``resolution``,
            ``num_classes`` and ``use_se`` (0 or 1). A structure may be anything that ``find`` knows, e.g.
            ``torchvision:resnet34``.
        find:
            Finds the networks, e.g. :func:`zenopt.study.targets.find_target`.
        resolution, num_classes:
            For rows that do not say.

    Raises:
        DataError: If the file is missing or a row is wrong; names the line.
    """
    with open_csv(path) as reader:
        names = reader.fieldnames or []
        missing = [name for name in REQUIRED if name not in names]
        unknown = [name for name in names if name not in (*REQUIRED, *OPTIONAL)]
        if missing or unknown:
            raise TABLE.refusal(
                path,
                f"missing columns: {', '.join(missing) or 'none'}; unknown: {quoted_list(unknown)}; "
                f"allowed: {', '.join((*REQUIRED, *OPTIONAL))}",
            )
        return [
            _read_row(row, path, f"line {reader.line_num}:", find, resolution, num_classes)
            for row in rows_of(reader, path)
        ]


def _read_row(
    row: Mapping[str, str], path: object, place: str, find: Finder, resolution: int, num_classes: int
) -> Row:
    def whole(name: str, default: int, allowed: range) -> int:
        text = (row.get(name) or "").strip()
        value = (
            int(text) if text.isascii() and text.isdigit() and len(text) < 9 else default if not text else -1
        )
        if value not in allowed:
            raise TABLE.refusal(
                path, f"{name} must be from {allowed[0]} to {allowed[-1]:,}, got {quoted(text)}", place
            )
        return value

    latency_ms = number(row["latency_ms"])
    if latency_ms is None or latency_ms <= 0:
        raise TABLE.refusal(
            path, f"latency_ms must be a positive number, got {quoted(row['latency_ms'])}", place
        )
    try:
        target = find(
            row["structure"],
            resolution=whole("resolution", resolution, range(1, 8193)),
            num_classes=whole("num_classes", num_classes, range(1, 1_000_001)),
            use_se=bool(whole("use_se", 0, range(2))),
            stored=True,
        )
    except DataError:
        raise
    except ZenoptError as error:
        raise TABLE.refusal(path, str(error), place) from error
    return Row(target, latency_ms)


def target_operations(target: Target) -> tuple[Operation, ...]:
    """Return what a network computes for one image."""
    if target.architecture is None:
        from zenopt.latency.trace import trace_operations

        return trace_operations(target.build(), target.resolution)
    from zenopt.core.lowering import lower

    layers = lower(
        target.architecture, target.resolution, num_classes=target.num_classes, use_se=target.use_se
    )
    return tuple(map(layer_operation, layers))


def fit_profile(
    rows: Sequence[Row], *, name: str, device: str, batch: int = 1, dtype: str = "fp32", source: str = ""
) -> DeviceProfile:
    """Fit an additive model to measured networks, choosing its terms by leave-one-out error.

    Args:
        rows:
            Measured networks, at least five.
        name:
            Name of the profile.
        device:
            The device in words.
        batch:
            Images per forward of the measurements.
        dtype:
            Number format of the measurements.
        source:
            Where the numbers come from.

    Raises:
        DataError: If there are too few rows.
    """
    if len(rows) < MIN_ROWS:
        raise DataError(f"A fit needs at least {MIN_ROWS} measured networks, got {len(rows)}.")
    if dtype not in BYTES_PER_NUMBER:
        raise DataError(f"dtype must be one of {', '.join(BYTES_PER_NUMBER)}, got {dtype!r}.")
    networks = [target_operations(row.target) for row in rows]
    times = np.array([row.latency_ms for row in rows])
    best: tuple[float, str, np.ndarray, np.ndarray] | None = None
    for label, terms in TERM_SETS.items():
        matrix = term_matrix(networks, terms, batch, BYTES_PER_NUMBER[dtype])
        held_out = leave_one_out(matrix, times, fit_robust)
        mape = errors_of(held_out, times).mape
        if best is None or mape < WORTHWHILE * best[0] - 1e-3:
            best = (mape, label, held_out, fit_robust(matrix, times))
    assert best is not None
    _, label, held_out, values = best
    resolutions = [row.target.resolution for row in rows]
    return profile_from_json(
        {
            "schema_version": SCHEMA_VERSION,
            "name": name,
            "device": device,
            "runtime": "",
            "batch": batch,
            "dtype": dtype,
            "resolutions": [min(resolutions), max(resolutions)],
            "model": {"kind": "additive", "coefficients": dict(coefficients_json(TERM_SETS[label], values))},
            "data": {
                "source": source or "measured elsewhere",
                "networks": _named(rows, held_out),
            },
            "errors": {
                "protocol": f"leave one network out; terms ({label}) chosen among {len(TERM_SETS)} sets "
                "by the same error",
                **errors_of(held_out, times).to_json(),
            },
            "validity": {
                "latency_ms": [float(times.min()), float(times.max())],
                **measured_ranges(networks),
            },
            "created": date.today().isoformat(),
        }
    )


def _named(rows: Iterable[Row], held_out: np.ndarray) -> dict[str, dict[str, float]]:
    return {
        row.target.text: {"published_ms": row.latency_ms, "held_out_ms": float(f"{predicted:.4g}")}
        for row, predicted in zip(rows, held_out, strict=True)
    }
