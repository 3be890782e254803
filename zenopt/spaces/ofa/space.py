"""Once-for-all's MobileNetV3 space: ``stage{i}.depth``, and ``.kernel`` and ``.expansion`` of ``stage{i}.block{j}``."""

from __future__ import annotations

import random
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar

from zenopt.core.errors import SpecError, StructureError
from zenopt.spaces.base import BaseSpace
from zenopt.spaces.ofa.architecture import (
    DEPTHS,
    EXPANSIONS,
    KERNELS,
    MAX_WIDTH,
    MIN_WIDTH,
    NUM_CLASSES,
    RESOLUTION,
    STRIDES,
    BlockChoice,
    OfaArchitecture,
)
from zenopt.spaces.registry import register_space
from zenopt.spaces.slots import distribution_of

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution

_STAGES = range(1, len(STRIDES) + 1)


@register_space("ofa-mobilenetv3")
@dataclass(frozen=True)
class OfaSpace(BaseSpace):
    """Networks of five stages, each of two to four blocks with a kernel and an expansion of their own.

    Args:
        kernels:
            What a block may choose: any of 3, 5, 7.
        expansions:
            What a block may choose: any of 3, 4, 6.
        depths:
            How many blocks a stage may have: any of 2, 3, 4.
        width:
            Multiplier of all widths; 1 and 1.2 were published.
        initial:
            The network a search starts from; by default the smallest.

    Raises:
        SpecError: If an option has no such value.
        StructureError: If the initial network is malformed or outside the space.
    """

    kernels: tuple[int, ...] = KERNELS
    expansions: tuple[int, ...] = EXPANSIONS
    depths: tuple[int, ...] = DEPTHS
    width: float = 1.0
    initial: str = ""

    default_resolution: ClassVar[int] = RESOLUTION
    default_num_classes: ClassVar[int] = NUM_CLASSES

    def __post_init__(self) -> None:
        for name, allowed in (("kernels", KERNELS), ("expansions", EXPANSIONS), ("depths", DEPTHS)):
            values = tuple(getattr(self, name))
            if not values or len(set(values)) != len(values) or not set(values) <= set(allowed):
                raise SpecError(
                    f"space.{name} must be different ones of {', '.join(map(str, allowed))}; got {list(values)}."
                )
            object.__setattr__(self, name, tuple(sorted(values)))
        width = self.width
        if (
            isinstance(width, bool)
            or not isinstance(width, int | float)
            or not MIN_WIDTH <= width <= MAX_WIDTH
        ):
            raise SpecError(f"space.width must be from {MIN_WIDTH} to {MAX_WIDTH}; got {width!r}.")
        # Texts have three digits of it.
        object.__setattr__(self, "width", round(float(width), 3))
        if not self.initial:
            block = BlockChoice(self.kernels[0], self.expansions[0])
            smallest = OfaArchitecture(((block,) * self.depths[0],) * len(_STAGES), self.width)
            object.__setattr__(self, "initial", str(smallest))
        first = self.parse(self.initial)
        self.encode(first)
        object.__setattr__(self, "initial", str(first))

    @classmethod
    def recognises(cls, text: str) -> bool:
        """Return whether a text begins with a block."""
        return re.match(r"\s*k\d+e\d+[.-]", text) is not None

    def parse(self, text: str) -> OfaArchitecture:
        return OfaArchitecture.parse(text)

    # -- parameters -------------------------------------------------------------------------------------------------

    @cached_property
    def _values(self) -> dict[str, tuple[int, ...]]:
        """Every parameter with its values, from the cheapest."""
        found: dict[str, tuple[int, ...]] = {}
        for stage in _STAGES:
            found[f"stage{stage}.depth"] = self.depths
            for block in range(1, self.depths[-1] + 1):
                found[f"stage{stage}.block{block}.kernel"] = self.kernels
                found[f"stage{stage}.block{block}.expansion"] = self.expansions
        return found

    @cached_property
    def distributions(self) -> dict[str, BaseDistribution]:
        return {name: distribution_of(values) for name, values in self._values.items()}

    def names_in_use(self, values: Mapping[str, Any]) -> Iterator[str]:
        """Yield each stage's depth, then kernel and expansion of its blocks."""
        for stage in _STAGES:
            yield f"stage{stage}.depth"
            for block in range(1, values[f"stage{stage}.depth"] + 1):
                yield f"stage{stage}.block{block}.kernel"
                yield f"stage{stage}.block{block}.expansion"

    def decode(self, params: Mapping[str, Any]) -> OfaArchitecture:
        """Return the network of parameter values.

        Raises:
            StructureError: If a parameter is missing or outside the space.
        """
        try:
            for name in self.names_in_use(params):
                if params[name] not in self._values.get(name, ()):
                    allowed = ", ".join(map(str, self._values.get(name, ()))) or "none"
                    raise StructureError(
                        f"Outside the space: {name} is {params[name]}; allowed are {allowed}."
                    )
        except KeyError as error:
            raise StructureError(f"Parameter {error.args[0]!r} is missing.") from None

        def block(place: str) -> BlockChoice:
            return BlockChoice(params[f"{place}.kernel"], params[f"{place}.expansion"])

        stages = (
            tuple(block(f"stage{stage}.block{number + 1}") for number in range(params[f"stage{stage}.depth"]))
            for stage in _STAGES
        )
        return OfaArchitecture(tuple(stages), self.width)

    def encode(self, architecture: OfaArchitecture) -> dict[str, Any]:
        """Return the parameters of a network.

        Raises:
            StructureError: If it is outside the space.
        """
        if not isinstance(architecture, OfaArchitecture):
            got = type(architecture).__name__
            raise StructureError(f"Outside the space: expected an OfaArchitecture, got {got}.")
        if architecture.width != self.width:
            raise StructureError(
                f"Outside the space: width is {architecture.width}; allowed is {self.width}."
            )
        params: dict[str, Any] = {}
        for stage, blocks in enumerate(architecture.stages, start=1):
            params[f"stage{stage}.depth"] = len(blocks)
            for number, (kernel, expansion) in enumerate(blocks, start=1):
                params[f"stage{stage}.block{number}.kernel"] = kernel
                params[f"stage{stage}.block{number}.expansion"] = expansion
        self.decode(params)
        return params

    # -- moves ------------------------------------------------------------------------------------------------------

    def draw(self, rng: random.Random) -> OfaArchitecture:
        """Return a network of values drawn uniformly."""
        found = self._completed({}, rng)
        assert isinstance(found, OfaArchitecture)
        return found

    def shrink(self, architecture: OfaArchitecture) -> OfaArchitecture | None:
        """Return the network with the highest value a step lower, the last one of several."""
        params = self.encode(architecture)
        places = {name: self._values[name].index(value) for name, value in params.items()}
        name = max(reversed(places), key=places.__getitem__)
        if places[name] == 0:
            return None
        return self.decode({**params, name: self._values[name][places[name] - 1]})
