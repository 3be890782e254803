"""The NAS-Bench-201 space: six edges, one of five operations on each, 15,625 cells.

Parameters are named ``edge01`` to ``edge23`` after the nodes an edge joins.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import product
from typing import TYPE_CHECKING, Any, ClassVar

from zenopt.core.errors import SpecError, StructureError
from zenopt.spaces.base import BaseSpace, check_factors
from zenopt.spaces.nasbench201.architecture import CellArchitecture, has_skeleton
from zenopt.spaces.nasbench201.cell import CELLS_PER_STAGE, CHANNELS, EDGES, OPERATIONS
from zenopt.spaces.registry import register_space

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution, CategoricalDistribution

    from zenopt.spaces.nasbench201.opened import OpenNasBench201

EDGE_NAMES = tuple(f"edge{start}{end}" for start, end in EDGES)
#: What replaces an operation in a smaller cell.
_CHEAPER = {"nor_conv_3x3": "nor_conv_1x1", "nor_conv_1x1": "skip_connect", "avg_pool_3x3": "skip_connect"}


@register_space("nasbench201")
@dataclass(frozen=True)
class NasBench201Space(BaseSpace):
    """All cells of the given operations.

    Args:
        operations:
            Operations that may be used, from :data:`~zenopt.spaces.nasbench201.architecture.OPERATIONS`.
        initial:
            Architecture string a search starts from; by default a 3x3 convolution on every edge.
        channels:
            Of the first stage of the network; texts without numbers are cells of this size.
        cells:
            Of every stage of the network.

    Raises:
        SpecError: If an operation is unknown or given twice.
        StructureError: If the initial architecture is malformed or uses another operation, or a number is out of range.
    """

    operations: tuple[str, ...] = OPERATIONS
    initial: str = ""
    channels: int = CHANNELS[0]
    cells: int = CELLS_PER_STAGE

    # The benchmark is one of 32-pixel images of 10 classes.
    default_resolution: ClassVar[int] = 32
    default_num_classes: ClassVar[int] = 10

    def __post_init__(self) -> None:
        object.__setattr__(self, "operations", tuple(self.operations))
        unknown = [name for name in self.operations if name not in OPERATIONS]
        if unknown or not self.operations or len(set(self.operations)) != len(self.operations):
            raise SpecError(
                f"space.operations must be different ones of {', '.join(OPERATIONS)}; got {list(self.operations)}."
            )
        if not self.initial:
            first = "nor_conv_3x3" if "nor_conv_3x3" in self.operations else self.operations[0]
            object.__setattr__(self, "initial", str(self._cell((first,) * len(EDGES))))
        self._check(self.parse(self.initial))

    # -- parameters -------------------------------------------------------------------------------------------------

    @cached_property
    def distributions(self) -> dict[str, BaseDistribution]:
        """Every parameter of the space with its distribution, the same in every trial."""
        found: dict[str, BaseDistribution] = {}
        found.update(self._categorical)
        return found

    @cached_property
    def _categorical(self) -> dict[str, CategoricalDistribution]:
        from optuna.distributions import CategoricalDistribution

        return {name: CategoricalDistribution(self.operations) for name in EDGE_NAMES}

    @classmethod
    def recognises(cls, text: str) -> bool:
        """Return whether a text begins as the benchmark's strings do."""
        return text.lstrip().startswith("|") or has_skeleton(text)

    def parse(self, text: str) -> CellArchitecture:
        """Read an architecture string."""
        found = CellArchitecture.parse(text)
        return found if has_skeleton(text) else self._cell(found.operations)

    def decode(self, params: Mapping[str, Any]) -> CellArchitecture:
        """Return the cell of parameter values.

        Raises:
            StructureError: If a parameter is missing or outside the space.
        """
        try:
            cell = self._cell(tuple(params[name] for name in EDGE_NAMES))
        except KeyError as error:
            raise StructureError(f"Parameter {error.args[0]!r} is missing.") from None
        self._check(cell)
        return cell

    def encode(self, architecture: CellArchitecture) -> dict[str, Any]:
        """Return the parameters of a cell; the inverse of :meth:`decode`.

        Raises:
            StructureError: If the cell is outside the space.
        """
        self._check(architecture)
        return dict(zip(EDGE_NAMES, architecture.operations, strict=True))

    # -- membership -------------------------------------------------------------------------------------------------

    def contains(self, architecture: Any) -> bool:
        """Return whether the architecture is a cell of this space."""
        return (
            isinstance(architecture, CellArchitecture)
            and set(architecture.operations) <= set(self.operations)
            and (architecture.channels, architecture.cells) == (self.channels, self.cells)
        )

    def _check(self, architecture: Any) -> None:
        if not isinstance(architecture, CellArchitecture):
            raise StructureError(
                f"Outside the space: expected a NAS-Bench-201 cell, got {type(architecture).__name__}."
            )
        if (architecture.channels, architecture.cells) != (self.channels, self.cells):
            raise StructureError(
                f"Outside the space: {architecture.channels} channels and {architecture.cells} cells in a stage; the "
                f"space has {self.channels} and {self.cells}."
            )
        for name, operation in zip(EDGE_NAMES, architecture.operations, strict=True):
            if operation not in self.operations:
                raise StructureError(
                    f"Outside the space: {operation} on {name}; allowed are {', '.join(self.operations)}."
                )

    def architectures(self) -> Iterator[CellArchitecture]:
        """Yield every cell of the space."""
        return (self._cell(chosen) for chosen in product(self.operations, repeat=len(EDGES)))

    def draw(self, rng: random.Random) -> CellArchitecture:
        """Return a cell, uniformly."""
        return self._cell(tuple(rng.choice(self.operations) for _ in EDGES))

    def _cell(self, operations: tuple[str, ...]) -> CellArchitecture:
        return CellArchitecture(operations, self.channels, self.cells)

    def open_network(self, *, channels: int | None = None, cells: int | None = None) -> OpenNasBench201:
        """Return the search network; ``channels`` are those of the first stage, ``cells`` those of every stage."""
        from zenopt.spaces.nasbench201.opened import OpenNasBench201

        return OpenNasBench201(
            self.operations,
            self.channels if channels is None else channels,
            self.cells if cells is None else cells,
            found=(self.channels, self.cells),
        )

    # -- moves ------------------------------------------------------------------------------------------------------

    def mutate(
        self, architecture: CellArchitecture, rng: random.Random, *, blocks: int = 1
    ) -> CellArchitecture | None:
        """Give edges another operation.

        Args:
            architecture:
                The parent.
            rng:
                Source of randomness.
            blocks:
                Number of draws of an edge; a repeated edge is skipped, as a repeated block is in chains.

        Returns:
            The child, or ``None`` where the space has only one operation.
        """
        if len(self.operations) < 2:
            return None
        operations = list(architecture.operations)
        for edge in {rng.randrange(len(EDGES)) for _ in range(blocks)}:
            operations[edge] = rng.choice([name for name in self.operations if name != operations[edge]])
        return self._cell(tuple(operations))

    def shrink(self, architecture: CellArchitecture) -> CellArchitecture | None:
        """Return a cell with the last of its most expensive operations made cheaper; ``None`` if there is none."""
        operations = list(architecture.operations)
        for name in _CHEAPER:
            cheaper = _CHEAPER[name]
            while cheaper not in self.operations and cheaper in _CHEAPER:
                cheaper = _CHEAPER[cheaper]
            if name in operations and cheaper in self.operations:
                last = len(operations) - 1 - operations[::-1].index(name)
                operations[last] = cheaper
                return self._cell(tuple(operations))
        return None

    def scale(
        self, architecture: CellArchitecture, *, width: float = 1.0, depth: float = 1.0
    ) -> CellArchitecture:
        """Return the cell in a skeleton of scaled channels and cells, at least one.

        Raises:
            StructureError: If a factor is no positive number, or there are too many.
        """
        check_factors(width=width, depth=depth)
        channels, cells = (
            max(1, round(own)) for own in (width * architecture.channels, depth * architecture.cells)
        )
        return replace(architecture, channels=channels, cells=cells)
