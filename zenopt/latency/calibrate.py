"""Calibration: from a minute of measurements to a profile of the device at hand.

Networks of the space to be searched and each of their blocks are visited in turn, again and again
(:mod:`zenopt.latency.visits`). The whole networks give the scale factor of the block table; both together give the
additive model, which screens candidates whose blocks nobody has measured. Networks that played no part then show how
good the profile is, and how noisy the device.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import asdict
from datetime import date
from typing import Any

from zenopt.core.errors import DeviceError
from zenopt.core.progress import SILENT, Progress
from zenopt.core.words import plural
from zenopt.latency.environment import environment
from zenopt.latency.heldout import held_out_errors
from zenopt.latency.options import CLOCKS, MeasureOptions
from zenopt.latency.parts import Network
from zenopt.latency.profile import BYTES_PER_NUMBER, SCHEMA_VERSION, DeviceProfile, profile_from_json
from zenopt.latency.ranges import measured_ranges
from zenopt.latency.runners import DoesNotFitError
from zenopt.latency.stream import network_stream
from zenopt.latency.tablefit import Samples, TableFit, fit_table
from zenopt.latency.visits import Bench, Visitor, combined_ms

MIN_NETWORKS = 4
#: Share of the time after which no more networks are drawn; the rest goes to further visits of those there are.
FIRST_PASS_SHARE = 0.15
MIN_PASSES = 3
MAX_PASSES = 40


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
    visitor: Visitor | None = None,
    progress: Progress = SILENT,
) -> DeviceProfile:
    """Measure networks and blocks of a space and fit a profile.

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
            Time for what is fitted, by the clock of the options. Held-out networks come on top.
        held_out:
            Networks that show the errors.
        statistic:
            ``"median"`` of the runs of a visit, or ``"minimum"`` on a machine that others disturb.
        seed:
            Of the choice of networks.
        visitor:
            What visits networks and blocks; a bench on the device if not given.
        progress:
            Is told of the two parts: the seconds of what is fitted, then the visits to held-out networks.

    Raises:
        DeviceError: If the device is not usable, or the time does not suffice for a handful of networks.
    """
    if not seconds > 0 or held_out < 3:
        raise DeviceError(f"seconds must be positive and held_out at least 3, got {seconds} and {held_out}.")
    visitor = visitor or Bench(options, statistic)
    stream = (
        Network(architecture, options.resolution, num_classes, use_se)
        for architecture in network_stream(space, options.resolution, num_classes, use_se, seed)
    )
    # A machine that others use gives a process less than a second per second.
    clock = CLOCKS[options.clock]
    began = clock()
    samples = _visited(visitor, stream, seconds, clock, progress)
    spent = clock() - began
    progress.note(
        f"Measured {plural(len(samples.networks), 'network')} and {plural(len(samples.parts), 'block')}; next, "
        f"{held_out} networks that play no part in the fit."
    )
    fit = fit_table(samples, options.batch, BYTES_PER_NUMBER[options.dtype])
    content = _content(fit, name, samples, options, statistic, spent)
    errors, blocks = held_out_errors(profile_from_json(content), stream, held_out, samples, visitor, progress)
    # Blocks of the held-out networks were measured too; the table may keep them.
    model = {**content["model"], "blocks": blocks}
    return profile_from_json({**content, "model": model, "errors": errors})


def _visited(
    visitor: Visitor,
    stream: Iterator[Network],
    seconds: float,
    clock: Callable[[], float],
    progress: Progress,
) -> Samples:
    """Visits networks and their blocks: a first pass draws them, further ones come back to all of them."""
    began = clock()

    def elapsed() -> float:
        return clock() - began

    told_s = 0.0

    def tell(passes: int) -> None:
        nonlocal told_s
        now_s = min(elapsed(), seconds)
        progress.advance(
            now_s - told_s, networks=len(samples.networks), blocks=len(samples.parts), round=passes
        )
        told_s = now_s

    samples = Samples()
    progress.start(seconds, "second")
    for network in stream:
        if elapsed() > FIRST_PASS_SHARE * seconds and len(samples.networks) >= MIN_NETWORKS:
            break
        if elapsed() > 10 * seconds:
            raise DeviceError(
                f"{seconds:g} s are not enough to measure {MIN_NETWORKS} networks on this device."
            )
        try:
            times = [visitor.visit(network)]
        except DoesNotFitError:
            continue
        samples.networks[network] = times
        for part in network.parts():
            if part not in samples.parts:
                samples.parts[part] = [visitor.visit(part)]
        tell(1)
    for passes in range(2, MAX_PASSES + 1):
        if elapsed() > seconds and passes > MIN_PASSES:
            break
        for subject, times in [*samples.networks.items(), *samples.parts.items()]:
            if elapsed() > seconds and len(times) >= MIN_PASSES:
                break
            times.append(visitor.visit(subject))
            tell(passes)
    return samples


def _content(
    fit: TableFit,
    name: str,
    samples: Samples,
    options: MeasureOptions,
    statistic: str,
    spent: float,
) -> dict[str, Any]:
    """Return a profile as JSON, without errors yet."""
    here = environment(options)
    runtime = "onnxruntime" if options.runtime == "onnxruntime" else "PyTorch"
    network_ms = {network: combined_ms(times) for network, times in samples.networks.items()}
    kept = {
        key: value
        for key, value in asdict(options).items()
        if key not in ("max_seconds", "min_seconds", "min_iterations")
    }
    first = next(iter(network_ms))
    return {
        "schema_version": SCHEMA_VERSION,
        "name": name,
        "device": f"{here['device_name']} ({options.device})",
        "runtime": f"{runtime} {here.get('onnxruntime', here['torch'])}{' compiled' if options.compile else ''}",
        "batch": options.batch,
        "dtype": options.dtype,
        "resolutions": [options.resolution, options.resolution],
        "model": fit.to_json(),
        "data": {
            "source": "measured on this device",
            "networks": len(samples.networks),
            "blocks": len(samples.parts),
            "visits": min(map(len, [*samples.networks.values(), *samples.parts.values()])),
            "seconds": round(spent, 1),
            "num_classes": first.num_classes,
            "use_se": first.use_se,
            "measured_ms": {str(n.architecture): float(f"{ms:.4g}") for n, ms in network_ms.items()},
        },
        "errors": {},
        "validity": {
            "latency_ms": [min(network_ms.values()), max(network_ms.values())],
            **measured_ranges([network.operations() for network in network_ms]),
        },
        "environment": {**here, "options": kept, "statistic": statistic},
        "created": date.today().isoformat(),
        "notes": f"{'Minimum' if statistic == 'minimum' else 'Median'} times of visits; blocks not in the table are "
        "screened by the additive model.",
    }
