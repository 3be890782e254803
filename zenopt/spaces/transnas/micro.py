"""TransNAS-Bench-101's cells: parameters ``edge01`` to ``edge23``, one of four operations each, 4,096 cells."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar

from zenopt.core.errors import StructureError
from zenopt.spaces.nasbench201.architecture import EDGES
from zenopt.spaces.registry import register_space
from zenopt.spaces.slots import SlotSpace
from zenopt.spaces.transnas.architecture import (
    CELL_MODULES,
    CELLS_PER_MODULE,
    NUM_CLASSES,
    OPERATIONS,
    RESOLUTION,
    WIDTH,
    MicroArchitecture,
    check_width,
)

if TYPE_CHECKING:
    from zenopt.spaces.transnas.opened import OpenTransNas


@register_space("transnas-micro")
@dataclass(frozen=True)
class TransNasMicroSpace(SlotSpace):
    """All cells.

    Args:
        width:
            Channels behind the stem.
        initial:
            The network a search starts from; by default a 3x3 convolution on every edge.

    Raises:
        StructureError: If the initial network is malformed, or the width odd.
    """

    width: int = WIDTH
    initial: str = ""

    default_resolution: ClassVar[int] = RESOLUTION
    default_num_classes: ClassVar[int] = NUM_CLASSES
    architecture_type: ClassVar[type] = MicroArchitecture

    def __post_init__(self) -> None:
        first = self.parse(self.initial) if self.initial else MicroArchitecture("3" * len(EDGES), self.width)
        object.__setattr__(self, "initial", str(first))

    @classmethod
    def recognises(cls, text: str) -> bool:
        """Return whether a text is ``a_bc_def``, alone or in a whole name; bare digits could be anything."""
        return re.fullmatch(r"\s*(\d+-\d+-)?\d_\d\d_\d\d\d\s*", text) is not None

    def parse(self, text: str) -> MicroArchitecture:
        return MicroArchitecture.parse(text)

    def text_of_row(self, row: Mapping[str, str]) -> str | None:
        """Return the column ``arch_code``."""
        return row.get("arch_code", "").strip() or super().text_of_row(row)

    def open_network(self, *, channels: int | None = None, cells: int | None = None) -> OpenTransNas:
        """Return the search network; ``channels`` are those behind the stem, and the cells are always ten.

        Raises:
            StructureError: If another number of cells is asked for, or the width is odd.
        """
        from zenopt.spaces.transnas.opened import OpenTransNas

        if cells not in (None, CELLS_PER_MODULE * len(CELL_MODULES)):
            raise StructureError(f"The search network of TransNAS has ten cells, got {cells}.")
        width = self.width if channels is None else channels
        check_width(width)
        return OpenTransNas(width, self.width)

    @cached_property
    def slots(self) -> dict[str, tuple[Any, ...]]:
        return {f"edge{start}{end}": OPERATIONS for start, end in EDGES}

    def from_values(self, values: Sequence[Any]) -> MicroArchitecture:
        return MicroArchitecture("".join(str(OPERATIONS.index(value)) for value in values), self.width)

    def values_of(self, architecture: MicroArchitecture) -> Sequence[Any]:
        if architecture.width != self.width:
            raise StructureError(
                f"Outside the space: the width is {architecture.width}; allowed is {self.width}."
            )
        return [OPERATIONS[int(digit)] for digit in architecture.operations]
