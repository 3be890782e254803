"""The DARTS space: two cells of four nodes, each the sum of two operations on two different earlier states.

Parameters are ``normal.node{i}.inputs`` (which states, ``"0,2"``), ``.first`` and ``.second`` (the operations on them),
and the same for ``reduce``; nodes are counted as genotypes do, from 2. Node 2 has no choice of inputs.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import combinations
from typing import TYPE_CHECKING, Any, ClassVar

from zenopt.core.errors import SpecError, StructureError
from zenopt.spaces.base import check_factors
from zenopt.spaces.darts.architecture import DartsArchitecture, Settings
from zenopt.spaces.darts.genotype import NODES, OPERATIONS, SHORT_NAMES, Genotype, Term, node_terms
from zenopt.spaces.darts.published import NUM_CLASSES, RESOLUTION
from zenopt.spaces.registry import register_space
from zenopt.spaces.slots import SlotSpace

if TYPE_CHECKING:
    from zenopt.spaces.darts.opened import OpenDarts

CELLS = ("normal", "reduce")


@register_space("darts")
@dataclass(frozen=True)
class DartsSpace(SlotSpace):
    """All genotypes, stacked in one way: 20 cells of 36 channels evaluate on CIFAR-10, 8 of 16 are searched.

    Args:
        cells:
            Number of cells.
        channels:
            Width of the first cells' operations.
        stem:
            ``"cifar"``, which keeps the size of the image, or ``"imagenet"``, which halves it three times.
        operations:
            Operations that may be used, by the names of the release or the short ones.
        initial:
            The network a search starts from, as a genotype or a text; by default the cells that DARTS published
            ("DARTS_V2") as far as the operations allow it.

    Raises:
        SpecError: If an operation is unknown or given twice.
        StructureError: If the stacking is impossible, or the initial network malformed or outside the space.
    """

    cells: int = 20
    channels: int = 36
    stem: str = "cifar"
    operations: tuple[str, ...] = OPERATIONS
    initial: str = ""

    default_resolution: ClassVar[int] = RESOLUTION
    default_num_classes: ClassVar[int] = NUM_CLASSES
    architecture_type: ClassVar[type] = DartsArchitecture

    def __post_init__(self) -> None:
        chosen = [SHORT_NAMES.get(name, name) for name in self.operations]
        if not chosen or len(set(chosen)) != len(chosen) or not set(chosen) <= set(OPERATIONS):
            raise SpecError(
                f"space.operations must be different ones of {', '.join(SHORT_NAMES)}; got {list(self.operations)}."
            )
        # From the cheapest to the most expensive.
        object.__setattr__(self, "operations", tuple(name for name in OPERATIONS if name in chosen))
        if self.initial:
            first = self.parse(self.initial)
            self.encode(first)
        else:
            first = DartsArchitecture(self._allowed(Genotype.parse(DARTS_V2)), self.settings)
        object.__setattr__(self, "initial", str(first))

    @cached_property
    def settings(self) -> Settings:
        """How cells are stacked."""
        return Settings(self.cells, self.channels, self.stem)

    def _allowed(self, genotype: Genotype) -> Genotype:
        """Return a genotype with the most expensive operation in place of those that may not be used."""
        cells = (
            tuple((name if name in self.operations else self.operations[-1], state) for name, state in cell)
            for cell in (genotype.normal, genotype.reduce)
        )
        return Genotype(*cells)

    def open_network(self, *, channels: int | None = None, cells: int | None = None) -> OpenDarts:
        """Return the search network; ``cells`` are all of its cells, ``channels`` the width of the first ones."""
        from zenopt.spaces.darts.opened import SEARCH, OpenDarts

        settings = Settings(
            SEARCH.cells if cells is None else cells,
            SEARCH.channels if channels is None else channels,
            self.stem,
        )
        return OpenDarts(self.operations, settings, self.settings)

    @classmethod
    def recognises(cls, text: str) -> bool:
        """Return whether a text begins as a genotype of DARTS, aw_nas or NASLib, or a canonical text does."""
        return text.lstrip().startswith(("Genotype(", "CNNGenotype(", "[[(", "[[[", "darts-"))

    def parse(self, text: str) -> DartsArchitecture:
        """Read a canonical text, or a genotype, which is then stacked as the space says."""
        return DartsArchitecture.parse(text, self.settings)

    def text_of_row(self, row: Mapping[str, str]) -> str | None:
        """Return the column ``architecture`` (OnceNAS-Bench) or ``naslib_encoding``."""
        for column in ("architecture", "naslib_encoding"):
            if column in row:
                return row[column].strip()
        return super().text_of_row(row)

    @cached_property
    def slots(self) -> dict[str, tuple[Any, ...]]:
        found: dict[str, tuple[Any, ...]] = {}
        for cell in CELLS:
            for node in NODES:
                if node > NODES[0]:
                    pairs = combinations(range(node), 2)
                    found[f"{cell}.node{node}.inputs"] = tuple(f"{first},{second}" for first, second in pairs)
                found[f"{cell}.node{node}.first"] = self.operations
                found[f"{cell}.node{node}.second"] = self.operations
        return found

    def from_values(self, values: Sequence[Any]) -> DartsArchitecture:
        left = iter(values)
        cells = []
        for _ in CELLS:
            terms: list[Term] = []
            for node in NODES:
                first, second = (0, 1) if node == NODES[0] else map(int, next(left).split(","))
                terms += [(next(left), first), (next(left), second)]
            cells.append(tuple(terms))
        return DartsArchitecture(Genotype(*cells), self.settings)

    def values_of(self, architecture: DartsArchitecture) -> Sequence[Any]:
        if architecture.settings != self.settings:
            raise StructureError(
                f"Outside the space: cells are stacked as {architecture.settings}; allowed is {self.settings}."
            )
        values: list[Any] = []
        for cell in (architecture.genotype.normal, architecture.genotype.reduce):
            for node in NODES:
                (first, low), (second, high) = node_terms(cell, node)
                if node > NODES[0]:
                    values.append(f"{low},{high}")
                elif (low, high) != (0, 1):
                    raise StructureError(f"Outside the space: node {node} takes state {low} twice.")
                values += [first, second]
        return values

    def scale(
        self, architecture: DartsArchitecture, *, width: float = 1.0, depth: float = 1.0
    ) -> DartsArchitecture:
        """Return the same cells stacked otherwise: ``width`` times the channels, ``depth`` times the cells, rounded.

        What was searched with 8 cells of 16 channels is thus trained with 20 of 36: 2.25 and 2.5.

        Raises:
            StructureError: If a factor is no positive number, or the result too large or too small.
        """
        check_factors(width=width, depth=depth)
        old = architecture.settings
        settings = Settings(round(old.cells * depth), round(old.channels * width), old.stem)
        return DartsArchitecture(architecture.genotype, settings)

    def cheaper(self, name: str, value: Any) -> Any | None:
        return None if name.endswith(".inputs") else super().cheaper(name, value)


#: The cells of the second-order search.
DARTS_V2 = "-".join(
    (
        "sep3~0+sep3~1,sep3~0+sep3~1,skip~0+sep3~1,skip~0+dil3~2",
        "max3~0+max3~1,max3~1+skip~2,max3~0+skip~2,max3~1+skip~2",
    )
)
