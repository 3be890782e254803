"""How good a calibrated profile is on networks that played no part, and how far those measurements can be believed."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any

from zenopt.core.progress import Progress
from zenopt.latency.fill import ENOUGH_VISITS, TableFiller
from zenopt.latency.fit import errors_of
from zenopt.latency.models import AdditiveModel
from zenopt.latency.parts import Network
from zenopt.latency.predict import predict_latency_ms
from zenopt.latency.profile import BYTES_PER_NUMBER, DeviceProfile
from zenopt.latency.runners import DoesNotFitError
from zenopt.latency.tablefit import Samples
from zenopt.latency.visits import Visitor, combined_ms, scatter_of, standard_error_of

#: Held-out networks are visited until this standard error is expected, within limits.
TRUTH_ERROR = 0.02
MOST_VISITS = 32


def held_out_errors(
    profile: DeviceProfile,
    stream: Iterator[Network],
    count: int,
    samples: Samples,
    visitor: Visitor,
    progress: Progress,
) -> tuple[dict[str, Any], Mapping[str, float]]:
    """Visit networks that were not fitted, and their new blocks, in turn.

    Args:
        profile:
            The profile to test; its table is filled.
        stream:
            Where further networks come from.
        count:
            How many.
        samples:
            What was fitted: its scatter says how many visits a good truth takes.
        visitor:
            What visits.
        progress:
            Is told of every visit to a network.

    Returns:
        The ``errors`` of a profile, and the filled table's blocks.
    """
    scatter = scatter_of(samples.networks.values())
    passes = max(ENOUGH_VISITS, min(MOST_VISITS, math.ceil((scatter / TRUTH_ERROR) ** 2)))
    # Visits to one block are a whole pass apart here, whatever the clock says.
    filler = TableFiller(profile, visitor=visitor, apart_s=0.0)
    times: dict[Network, list[float]] = {}
    progress.start(count * passes, "visit")
    for network in stream:
        if len(times) == count:
            break
        try:
            times[network] = [visitor.visit(network)]
        except DoesNotFitError:
            continue
        progress.advance()
    for number in range(2, passes + 1):
        for network, series in times.items():
            series.append(visitor.visit(network))
            filler.fill(*network)
            progress.advance(round=f"{number}/{passes}")
    measured = {network: combined_ms(series) for network, series in times.items()}
    by_table = {network: predict_latency_ms(network.architecture, profile, *network[1:]) for network in times}
    additive = AdditiveModel(
        dict(profile.model["coefficients"]), profile.batch, BYTES_PER_NUMBER[profile.dtype]
    )
    by_additive = {
        network: additive.constant_ms + sum(additive.operation_times(network.operations()))
        for network in times
    }
    truth = list(measured.values())
    scatter = scatter_of(times.values())
    errors = {
        "protocol": f"{count} networks that were not fitted, {passes} visits each; "
        f"their new blocks visited {ENOUGH_VISITS} times or more, as a search does with what it keeps meeting",
        **errors_of(list(by_table.values()), truth).to_json(),
        "additive_only": errors_of(list(by_additive.values()), truth).to_json(),
        "noise_floor": {
            "standard_error": round(standard_error_of(scatter, passes), 4),
            "visit_scatter": round(scatter, 4),
            "visits": passes,
        },
        "held_out": [
            {
                "structure": str(network.architecture),
                "measured_ms": float(f"{measured[network]:.4g}"),
                "table_ms": float(f"{by_table[network]:.4g}"),
                "additive_ms": float(f"{by_additive[network]:.4g}"),
            }
            for network in times
        ],
    }
    blocks = profile.predictor.blocks  # type: ignore[attr-defined]
    return errors, {name: float(f"{ms:.4g}") for name, ms in blocks.items()}
