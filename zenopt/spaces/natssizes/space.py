"""NATS-Bench's size search space: parameters ``c1`` to ``c5``, 32,768 networks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar

from zenopt.core.errors import SpecError
from zenopt.spaces.natssizes.architecture import NUM_CLASSES, RESOLUTION, TEXT, WIDTHS, SizesArchitecture
from zenopt.spaces.registry import register_space
from zenopt.spaces.slots import SlotSpace

_NAMES = ("c1", "c2", "c3", "c4", "c5")


@register_space("nats-sizes")
@dataclass(frozen=True)
class NatsSizesSpace(SlotSpace):
    """All networks of the given widths.

    Args:
        widths:
            Widths that may be used, in channels; by default the benchmark's, 8 to 64 in steps of 8.
        initial:
            The network a search starts from; by default the widest.

    Raises:
        SpecError: If the widths are not different numbers from 1 to 9999.
        StructureError: If the initial network is malformed or has another width.
    """

    widths: tuple[int, ...] = WIDTHS
    initial: str = ""

    default_resolution: ClassVar[int] = RESOLUTION
    default_num_classes: ClassVar[int] = NUM_CLASSES
    architecture_type: ClassVar[type] = SizesArchitecture

    def __post_init__(self) -> None:
        widths = tuple(self.widths)
        known = all(type(width) is int and 1 <= width <= 9999 for width in widths)
        if not known or not widths or len(set(widths)) != len(widths):
            raise SpecError(f"space.widths must be different numbers from 1 to 9999; got {list(widths)}.")
        object.__setattr__(self, "widths", tuple(sorted(widths)))
        first = self.parse(self.initial) if self.initial else self.from_values((max(widths),) * len(_NAMES))
        self.encode(first)
        object.__setattr__(self, "initial", str(first))

    @classmethod
    def recognises(cls, text: str) -> bool:
        """Return whether a text is five numbers joined by colons."""
        return TEXT.fullmatch(text.strip()) is not None

    def parse(self, text: str) -> SizesArchitecture:
        return SizesArchitecture.parse(text)

    def text_of_row(self, row: Mapping[str, str]) -> str | None:
        """Return the columns ``c1`` to ``c5`` as a text."""
        if not all(name in row for name in _NAMES):
            return super().text_of_row(row)
        return ":".join(row[name].strip() for name in _NAMES)

    @cached_property
    def slots(self) -> dict[str, tuple[Any, ...]]:
        return dict.fromkeys(_NAMES, self.widths)

    def from_values(self, values: Sequence[Any]) -> SizesArchitecture:
        return SizesArchitecture(tuple(values))

    def values_of(self, architecture: SizesArchitecture) -> Sequence[Any]:
        return architecture.widths
