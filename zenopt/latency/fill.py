"""Filling the block table of a calibrated profile while a search runs."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from pydantic import TypeAdapter, ValidationError

from zenopt.core.errors import DeviceError, ZenoptError
from zenopt.core.files import first_problem
from zenopt.core.text import one_line, quoted
from zenopt.latency.environment import environment
from zenopt.latency.measure import measurement_key
from zenopt.latency.options import MeasureOptions
from zenopt.latency.parts import Part, network_parts
from zenopt.latency.profile import DeviceProfile
from zenopt.latency.table import TableModel
from zenopt.latency.visits import Bench, Visitor, combined_ms

if TYPE_CHECKING:
    from typing import Any

    from zenopt.latency.cache import MeasurementCache

#: Visits of a block that nobody has seen: its candidate is being judged now.
FIRST_VISITS = 3
#: Visits after which a block is left alone. Later ones are made as later candidates bring it again.
ENOUGH_VISITS = 10
#: Seconds between visits after the first ones, so that they find the machine in another mood.
APART_S = 1.0


def profile_options(profile: DeviceProfile, **more: Any) -> MeasureOptions:
    """Return how networks were run when a profile was calibrated.

    Raises:
        DeviceError: If the profile was not calibrated, but came with zenopt or from a table.
    """
    options = profile.environment.get("options")
    if not isinstance(options, dict):
        raise DeviceError(
            f"Device profile {profile.name} was not calibrated on a device at hand: zenopt latency calibrate."
        )
    # Torch's own choice of threads differs between a shell and a worker; what was calibrated does not.
    threads = options.get("threads") or profile.environment.get("threads")
    try:
        found = MeasureOptions(**{**options, "threads": threads, **more})
        return TypeAdapter(MeasureOptions).validate_python(vars(found))
    except ZenoptError:
        raise
    except (TypeError, ValueError) as error:
        said = ": ".join(first_problem(error)) if isinstance(error, ValidationError) else str(error)
        raise DeviceError(
            f"Device profile {quoted(profile.name)}: environment.options: {one_line(said, 160)}."
        ) from error


def difference_from_here(profile: DeviceProfile) -> str | None:
    """Return in what this machine differs from the one a profile was calibrated on; ``None`` if in nothing."""
    try:
        here = environment(profile_options(profile))
    except DeviceError as error:
        return str(error)
    for name in ("device_name", "torch", "threads"):
        calibrated = profile.environment.get(name, here[name])
        if here[name] != calibrated:
            return (
                f"Device profile {profile.name} was calibrated with {name} {calibrated!r}, "
                f"here it is {here[name]!r}: calibrate again."
            )
    return None


class TableFiller:
    """Measures the blocks that candidates bring and the profile does not know, by visits.

    A new block is visited a few times at once. Whenever a later candidate has it, it is visited once more, until it has
    been visited often enough: what a search keeps meeting is known best.

    Args:
        profile:
            A profile with a block table, calibrated on this device; its model is filled.
        cache:
            Where visits are kept, for other processes and later runs.
        visitor:
            What visits; a bench of its own if not given.
        apart_s:
            Seconds between visits after the first ones.

    Raises:
        DeviceError: If the profile has no table, or was calibrated on other hardware or versions.
    """

    def __init__(
        self,
        profile: DeviceProfile,
        *,
        cache: MeasurementCache | None = None,
        visitor: Visitor | None = None,
        apart_s: float = APART_S,
    ) -> None:
        model = profile.predictor
        if not isinstance(model, TableModel):
            raise DeviceError(
                f"Device profile {profile.name} has no block table; only calibrated profiles have one."
            )
        difference = difference_from_here(profile)
        if difference is not None:
            raise DeviceError(difference)
        options = profile_options(profile)
        statistic = str(profile.environment.get("statistic", "median"))
        self._profile = profile
        self._model = model
        self._cache = cache
        self._visitor = visitor or Bench(options, statistic)
        self._key = {**measurement_key(options), "visits": statistic}
        self._apart_s = apart_s
        self._calibrated = frozenset(model.blocks)
        self._visits: dict[str, list[float]] = {}
        self._last: dict[str, float] = {}

    def fill(self, architecture: Any, resolution: int, num_classes: int = 1000, use_se: bool = False) -> int:
        """Visits the blocks of an architecture that are not known well enough yet, and enters them in the table.

        Args:
            architecture:
                Whose blocks are needed.
            resolution:
                Side of the square input image in pixels.
            num_classes:
                Outputs of the classifier.
            use_se:
                Whether squeeze-excite gates are built.

        Returns:
            How many blocks were new.

        Raises:
            DoesNotFitError: If a block does not fit in memory.
        """
        parts = {part.name: part for part in network_parts(architecture, resolution, num_classes, use_se)}
        unsure = [part for name, part in parts.items() if name not in self._calibrated]
        new = [part for part in unsure if part.name not in self._visits]
        for part in new:
            self._visits[part.name] = self._shared(part, [])
        for round_ in range(FIRST_VISITS):
            for part in new:
                if len(self._visits[part.name]) <= round_:
                    self._visit(part)
        for part in unsure:
            if len(self._visits[part.name]) < ENOUGH_VISITS and self._is_due(part):
                self._visit(part)
        for part in unsure:
            times = self._visits[part.name]
            self._model.blocks[part.name] = self._model.believed_ms(part, combined_ms(times), len(times))
            self._profile.cache.pop(part, None)
        return len(new)

    def _visit(self, part: Part) -> None:
        time_ms = self._visitor.visit(part)
        self._visits[part.name] = self._shared(part, [time_ms])
        self._last[part.name] = time.monotonic()

    def _shared(self, part: Part, times: list[float]) -> list[float]:
        """Add visits to what is known of a part, by every process that shares the cache."""
        if self._cache is None:
            return [*self._visits.get(part.name, []), *times]
        return self._cache.extend({**self._key, **part.identity}, times)

    def _is_due(self, part: Part) -> bool:
        last = self._last.get(part.name)
        return last is None or time.monotonic() - last >= self._apart_s
