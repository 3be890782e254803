"""The NAS-Bench-Macro space: parameters ``layer1`` to ``layer8``, one of three operations each."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar

from zenopt.spaces.nasbenchmacro.architecture import (
    NUM_CLASSES,
    OPERATIONS,
    RESOLUTION,
    STAGES,
    MacroArchitecture,
)
from zenopt.spaces.registry import register_space
from zenopt.spaces.slots import SlotSpace


@register_space("nasbench-macro")
@dataclass(frozen=True)
class NasBenchMacroSpace(SlotSpace):
    """All networks of the benchmark.

    Args:
        initial:
            The network a search starts from.

    Raises:
        StructureError: If it is malformed.
    """

    initial: str = "1" * sum(STAGES)

    default_resolution: ClassVar[int] = RESOLUTION
    default_num_classes: ClassVar[int] = NUM_CLASSES
    architecture_type: ClassVar[type] = MacroArchitecture

    def __post_init__(self) -> None:
        object.__setattr__(self, "initial", str(self.parse(self.initial)))

    @classmethod
    def recognises(cls, text: str) -> bool:
        """Return whether a text is eight digits from 0 to 2, which no other family's are."""
        return re.fullmatch(r"\s*[012]{8}\s*", text) is not None

    def parse(self, text: str) -> MacroArchitecture:
        return MacroArchitecture(text.strip())

    def text_of_row(self, row: Mapping[str, str]) -> str | None:
        """Return the column ``arch``."""
        return row.get("arch", "").strip() or super().text_of_row(row)

    @cached_property
    def slots(self) -> dict[str, tuple[Any, ...]]:
        return {f"layer{number}": OPERATIONS for number in range(1, sum(STAGES) + 1)}

    def from_values(self, values: Sequence[Any]) -> MacroArchitecture:
        return MacroArchitecture("".join(str(OPERATIONS.index(value)) for value in values))

    def values_of(self, architecture: MacroArchitecture) -> Sequence[Any]:
        return [OPERATIONS[int(digit)] for digit in architecture.digits]
