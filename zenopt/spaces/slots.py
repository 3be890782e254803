"""Spaces whose architectures are a fixed number of slots, each with one of a few values."""

from __future__ import annotations

import random
from abc import abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from itertools import product
from math import prod
from typing import TYPE_CHECKING, Any, ClassVar

from zenopt.core.errors import StructureError
from zenopt.spaces.base import BaseSpace
from zenopt.spaces.values import NEIGHBOUR_STEPS

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution

#: Spaces of more combinations are not listed.
MAX_LISTED = 100_000


class SlotSpace(BaseSpace):
    """A space in which every parameter is always in use.

    Subclasses say which values a slot may have, from the cheapest network to the most expensive, and translate.

    Attributes:
        architecture_type: Type of its architectures.
    """

    architecture_type: ClassVar[type]

    @property
    @abstractmethod
    def slots(self) -> dict[str, tuple[Any, ...]]:
        """Every parameter with its values; make it a ``cached_property``. Equally spaced integers are a range."""

    @abstractmethod
    def from_values(self, values: Sequence[Any]) -> Any:
        """Return the architecture of the slots' values, in their order."""

    @abstractmethod
    def values_of(self, architecture: Any) -> Sequence[Any]:
        """Return the slots' values of an architecture of the family, inside the space or not.

        Raises:
            StructureError: If it has other slots.
        """

    # -- parameters -------------------------------------------------------------------------------------------------

    @cached_property
    def distributions(self) -> dict[str, BaseDistribution]:
        """Every parameter with its distribution: a range where values are numbers, else a category."""
        return {name: distribution_of(values) for name, values in self.slots.items()}

    def decode(self, params: Mapping[str, Any]) -> Any:
        """Return the architecture of parameter values.

        Raises:
            StructureError: If a parameter is missing or outside the space.
        """
        try:
            values = [params[name] for name in self.slots]
        except KeyError as error:
            raise StructureError(f"Parameter {error.args[0]!r} is missing.") from None
        self._check(values)
        return self.from_values(values)

    def encode(self, architecture: Any) -> dict[str, Any]:
        """Return the parameters of an architecture.

        Raises:
            StructureError: If it is outside the space.
        """
        if not isinstance(architecture, self.architecture_type):
            wanted, got = self.architecture_type.__name__, type(architecture).__name__
            raise StructureError(f"Outside the space: expected a {wanted}, got {got}.")
        values = self.values_of(architecture)
        self._check(values)
        return dict(zip(self.slots, values, strict=True))

    def _check(self, values: Sequence[Any]) -> None:
        for (name, allowed), value in zip(self.slots.items(), values, strict=True):
            if value not in allowed:
                shown = ", ".join(map(str, allowed))
                raise StructureError(f"Outside the space: {name} is {value}; allowed are {shown}.")

    # -- membership -------------------------------------------------------------------------------------------------

    def architectures(self) -> Iterator[Any] | None:
        """Return every network once, or ``None`` where there are more than :data:`MAX_LISTED` combinations."""
        if prod(map(len, self.slots.values())) > MAX_LISTED:
            return None
        # Several combinations may be the same network.
        return iter(dict.fromkeys(map(self.from_values, product(*self.slots.values()))))

    def draw(self, rng: random.Random) -> Any:
        """Return an architecture of values drawn uniformly."""
        return self.from_values([rng.choice(values) for values in self.slots.values()])

    # -- moves ------------------------------------------------------------------------------------------------------

    def mutate(self, architecture: Any, rng: random.Random, *, blocks: int = 1) -> Any | None:
        """Give slots another value.

        Args:
            architecture:
                The parent.
            rng:
                Source of randomness.
            blocks:
                Number of draws of a slot; one that is drawn again is skipped.

        Returns:
            The child, or ``None`` where no slot has a second value.
        """
        if not self._free:
            return None
        values = list(self.values_of(architecture))
        drawn = [rng.choice(self._free) for _ in range(blocks)]
        # A set of texts has another order in every process; one of numbers has not, and recorded studies go on by it.
        for index, allowed in set(drawn) if self._has_numbers_alone else dict.fromkeys(drawn):
            values[index] = rng.choice([value for value in allowed if value != values[index]])
        return self.from_values(values)

    @cached_property
    def _free(self) -> list[tuple[int, tuple[Any, ...]]]:
        """Slots of several values, by their place."""
        return [(index, values) for index, values in enumerate(self.slots.values()) if len(values) > 1]

    @cached_property
    def _has_numbers_alone(self) -> bool:
        return all(isinstance(value, int | float) for _, values in self._free for value in values)

    def neighbours(self, architecture: Any) -> list[Any]:
        """Return the architectures that differ in one slot, by one step where it is a range."""
        values = list(self.values_of(architecture))
        found: dict[Any, None] = {}
        for index, allowed in self._free:
            own = allowed.index(values[index])
            places = [own + step for step in NEIGHBOUR_STEPS] if _step(allowed) else range(len(allowed))
            for place in places:
                if place != own and 0 <= place < len(allowed):
                    child = self.from_values([*values[:index], allowed[place], *values[index + 1 :]])
                    found[child] = None
        found.pop(architecture, None)
        return list(found)

    def cheaper(self, name: str, value: Any) -> Any | None:
        """Return the next cheaper value of a slot; ``None`` where there is none, or the slot decides no cost."""
        allowed = self.slots[name]
        place = allowed.index(value)
        return allowed[place - 1] if place else None

    def shrink(self, architecture: Any) -> Any | None:
        """Return the architecture with the most expensive value a step cheaper, the last one of several."""
        values = list(self.values_of(architecture))
        found: tuple[int, int, Any] | None = None
        for index, (name, allowed) in enumerate(self.slots.items()):
            place, value = allowed.index(values[index]), self.cheaper(name, values[index])
            if value is not None and (found is None or place >= found[0]):
                found = place, index, value
        if found is None:
            return None
        _, index, value = found
        return self.from_values([*values[:index], value, *values[index + 1 :]])


def distribution_of(values: Sequence[Any]) -> BaseDistribution:
    """Return the distribution of some values: a range where they are equally spaced integers, else a category."""
    from optuna.distributions import CategoricalDistribution, IntDistribution

    step = _step(values)
    return IntDistribution(values[0], values[-1], step=step) if step else CategoricalDistribution(values)


def _step(values: Sequence[Any]) -> int:
    """Return the step of a range of at least three integers, else 0."""
    if len(values) < 3 or not all(type(value) is int for value in values):
        return 0
    step: int = values[1] - values[0]
    return step if step > 0 and list(values) == list(range(values[0], values[-1] + 1, step)) else 0
