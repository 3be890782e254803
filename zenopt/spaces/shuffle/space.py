"""The ShuffleNAS space: parameters ``block{i}.kind`` and ``block{i}.percent``, ``i`` from 1 to 20."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar

from zenopt.core.errors import SpecError, StructureError
from zenopt.spaces.registry import register_space
from zenopt.spaces.shuffle.architecture import (
    HEADS,
    KINDS,
    LAYOUTS,
    NUM_CLASSES,
    PERCENTS,
    PUBLISHED,
    RESOLUTION,
    STAGES,
    TEXT,
    ShuffleArchitecture,
)
from zenopt.spaces.slots import SlotSpace

_BLOCKS = range(1, sum(STAGES) + 1)


@register_space("shuffle")
@dataclass(frozen=True)
class ShuffleSpace(SlotSpace):
    """Networks of twenty blocks, each of four kinds and up to ten inner widths.

    Args:
        percents:
            Inner widths a block may have, in percent of half its stage's width: any of 20, 40, ..., 200.
        squeeze_excite:
            Whether the blocks of the last two stages have gates, and all but the first stage hard-swish.
        head:
            ``plain``, ``se`` (ShuffleNetV2+) or ``mobilenetv3``.
        layout:
            Widths of the stages: ``oneshot`` (64, 160, 320, 640) or ``shufflenetv2+`` (48, 128, 256, 512).
        initial:
            The network a search starts from; by default 3x3 kernels and a factor of 1, or the next below that is
            allowed.

    Raises:
        SpecError: If an option has no such value.
        StructureError: If the initial network is malformed or outside the space.
    """

    percents: tuple[int, ...] = PERCENTS
    squeeze_excite: bool = True
    head: str = "mobilenetv3"
    layout: str = "oneshot"
    initial: str = ""

    default_resolution: ClassVar[int] = RESOLUTION
    default_num_classes: ClassVar[int] = NUM_CLASSES
    architecture_type: ClassVar[type] = ShuffleArchitecture

    def __post_init__(self) -> None:
        percents = tuple(self.percents)
        if not percents or len(set(percents)) != len(percents) or not set(percents) <= set(PERCENTS):
            raise SpecError(
                f"space.percents must be different ones of {', '.join(map(str, PERCENTS))}; got {list(percents)}."
            )
        for name, value, allowed in (
            ("squeeze_excite", self.squeeze_excite, (True, False)),
            ("head", self.head, HEADS),
            ("layout", self.layout, tuple(LAYOUTS)),
        ):
            if value not in allowed:
                raise SpecError(f"space.{name} must be one of {', '.join(map(str, allowed))}; got {value!r}.")
        object.__setattr__(self, "percents", tuple(sorted(percents)))
        if not self.initial:
            middle = max((own for own in self.percents if own <= 100), default=self.percents[0])
            object.__setattr__(self, "initial", str(self.from_values((KINDS[0], middle) * len(_BLOCKS))))
        first = self.parse(self.initial)
        self.encode(first)
        object.__setattr__(self, "initial", str(first))

    @classmethod
    def recognises(cls, text: str) -> bool:
        """Return whether a text is twenty digits, a hyphen and twenty digits, or a published name."""
        return text.strip() in PUBLISHED or TEXT.match(text.strip()) is not None

    def parse(self, text: str) -> ShuffleArchitecture:
        return ShuffleArchitecture.parse(text)

    @cached_property
    def slots(self) -> dict[str, tuple[Any, ...]]:
        found: dict[str, tuple[Any, ...]] = {}
        for number in _BLOCKS:
            found[f"block{number}.kind"] = KINDS
            found[f"block{number}.percent"] = self.percents
        return found

    def from_values(self, values: Sequence[Any]) -> ShuffleArchitecture:
        kinds, percents = tuple(values[::2]), tuple(values[1::2])
        return ShuffleArchitecture(kinds, percents, self.squeeze_excite, self.head, self.layout)

    def values_of(self, architecture: ShuffleArchitecture) -> Sequence[Any]:
        for name in ("squeeze_excite", "head", "layout"):
            own, wanted = getattr(architecture, name), getattr(self, name)
            if own != wanted:
                raise StructureError(f"Outside the space: {name} is {own}; allowed is {wanted}.")
        return [
            value for both in zip(architecture.kinds, architecture.percents, strict=True) for value in both
        ]
