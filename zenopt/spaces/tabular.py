"""A space cut down to the architectures of a table."""

from __future__ import annotations

import random
from collections.abc import Collection, Iterable, Iterator, Mapping
from functools import cached_property
from heapq import nsmallest
from operator import ne
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zenopt.core.costs import count
from zenopt.core.errors import DataError, ZenoptError
from zenopt.core.tables import Row, Table, load_table, text_of_row
from zenopt.spaces.base import BaseSpace

if TYPE_CHECKING:
    import optuna
    from optuna.distributions import BaseDistribution

#: Draws before a move gives up; a benchmark that lists half of its space needs two on average.
MAX_DRAWS = 200
#: Where a table is sparse, architectures that count as near, per changed block.
NEAREST = 10
#: Architectures whose neighbours tell whether a table is sparse.
_PROBED = 20


class _RowText:
    """Reads the canonical text of a row's architecture; equal for equal spaces, so that a table is read once."""

    def __init__(self, space: Any) -> None:
        # The dataclasses of equal options have the same text; not all of their options can be hashed.
        self._space, self._identity = space, repr(space)

    def __call__(self, row: Row) -> str | None:
        text: str | None = getattr(self._space, "text_of_row", text_of_row)(row)
        return str(self._space.parse(text)) if text else text

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _RowText) and other._identity == self._identity

    def __hash__(self) -> int:
        return hash(self._identity)


def space_table(space: Any, path: str | Path, where: Iterable[str] = ()) -> Table:
    """Read a table of a space's architectures; numbers are by canonical text.

    Args:
        space:
            Says where a row's architecture stands.
        path, where:
            As for :func:`~zenopt.core.tables.load_table`.
    """
    return load_table(path, where, _RowText(space))


class TabularSpace(BaseSpace):
    """What the table does not list does not exist: moves skip it, random draws never give it.

    A sparse table lists so little of its space that hardly a step leads from one of its architectures to another. Moves
    then lead to the nearest ones: those with the fewest differing parameters.

    Parameters can still spell it (Optuna's own samplers know nothing of tables); the objective prunes such a trial. The
    table is read when it is first needed, so that a spec can be looked at without it.

    Args:
        space:
            The whole space.
        path:
            The table (see :func:`space_table`).
        column:
            Architectures without a number in this column do not exist either.
    """

    def __init__(self, space: Any, path: str, column: str) -> None:
        self.space = space
        self._path = path
        self._column = column

    @property
    def has_networks(self) -> bool:  # type: ignore[override]
        """Whether the whole space's architectures have a description."""
        return bool(self.space.has_networks)

    @cached_property
    def _texts(self) -> dict[str, None]:
        """Architectures of the table that the space can spell, as an ordered set."""
        known = space_table(self.space, self._path).column(self._column)
        texts: dict[str, None] = {}
        for text in known:
            try:
                if self.space.contains(self.space.parse(text)):
                    texts[text] = None
            except ZenoptError as error:
                raise DataError(f"Table {self._path}: {error}") from None
        if not texts:
            raise DataError(f"Table {self._path} lists no architecture of this space.")
        return texts

    @cached_property
    def initial(self) -> str:  # type: ignore[override]
        """The space's initial architecture, or the one nearest to it (in parameters) that the table lists."""
        wanted = self.space.parse(self.space.initial)
        return str(wanted) if str(wanted) in self._texts else self._nearest(wanted)[0]

    @cached_property
    def _points(self) -> list[list[Any]]:
        """Parameters of all architectures of the table, in the order of the space's."""
        return [self._point(self.space.parse(text)) for text in self._listed]

    def _point(self, architecture: Any) -> list[Any]:
        params = self.space.encode(architecture)
        return [params.get(name) for name in self.space.distributions]

    def _nearest(self, architecture: Any, count: int = 1, among: Collection[str] | None = None) -> list[str]:
        """Return other architectures of the table (``among`` these); the fewest differing parameters come first."""
        own, point = str(architecture), self._point(architecture)
        found = (
            (sum(map(ne, point, other)), text)
            for text, other in zip(self._listed, self._points, strict=True)
            if text != own and (among is None or text in among)
        )
        return [text for _, text in nsmallest(count, found)]

    # -- as the whole space -----------------------------------------------------------------------------------------

    @property
    def distributions(self) -> dict[str, BaseDistribution]:
        """Every parameter of the whole space."""
        found: dict[str, BaseDistribution] = self.space.distributions
        return found

    def names_in_use(self, values: Mapping[str, Any]) -> Iterator[str]:
        """Yield what the whole space yields."""
        yield from self.space.names_in_use(values)

    def suggest(self, trial: optuna.Trial, *, all_slots: bool = False) -> Any:
        """Ask an Optuna trial for an architecture of the whole space."""
        return self.space.suggest(trial, all_slots=all_slots)

    def foreign_modules(self) -> dict[str, str]:
        """Return those of the whole space."""
        found: dict[str, str] = self.space.foreign_modules()
        return found

    def parse(self, text: str) -> Any:
        """Read the text of an architecture."""
        return self.space.parse(text)

    def decode(self, params: Mapping[str, Any]) -> Any:
        """Return the architecture of parameter values, whether the table lists it or not."""
        return self.space.decode(params)

    def encode(self, architecture: Any) -> dict[str, Any]:
        """Return the parameters of an architecture."""
        found: dict[str, Any] = self.space.encode(architecture)
        return found

    # -- cut down ---------------------------------------------------------------------------------------------------

    def contains(self, architecture: Any) -> bool:
        """Return whether the table lists the architecture."""
        return str(architecture) in self._texts

    def architectures(self) -> Iterator[Any]:
        """Yield every architecture of the table."""
        return (self.space.parse(text) for text in self._texts)

    def draw(self, rng: random.Random) -> Any:
        """Return an architecture of the table, uniformly."""
        return self.space.parse(rng.choice(self._listed))

    @cached_property
    def _listed(self) -> list[str]:
        return list(self._texts)

    def mutate(self, architecture: Any, rng: random.Random, **options: Any) -> Any | None:
        """Mutate as the space does until the table lists the child; ``None`` after many draws."""
        if self._is_sparse:
            near = self._nearest(architecture, NEAREST * options.get("blocks", 1))
            return self.space.parse(rng.choice(near)) if near else None
        for _ in range(MAX_DRAWS):
            found = self.space.mutate(architecture, rng, **options)
            if found is not None and self.contains(found):
                return found
        return None

    def neighbours(self, architecture: Any) -> list[Any]:
        """Return the neighbours that the table lists."""
        if self._is_sparse:
            return [self.space.parse(text) for text in self._nearest(architecture, NEAREST)]
        return self._listed_neighbours(architecture)

    def _listed_neighbours(self, architecture: Any) -> list[Any]:
        return [other for other in self.space.neighbours(architecture) if self.contains(other)]

    @cached_property
    def _is_sparse(self) -> bool:
        probed = self._listed[:: max(1, len(self._listed) // _PROBED)]
        lonely = sum(not self._listed_neighbours(self.space.parse(text)) for text in probed)
        return 2 * lonely > len(probed)

    def shrink(self, architecture: Any) -> Any | None:
        """Return the next smaller architecture that the table lists; ``None`` when there is none."""
        smaller = self.space.shrink(architecture)
        while smaller is not None and not self.contains(smaller):
            smaller = self.space.shrink(smaller)
        if smaller is not None or not self._is_sparse:
            return smaller
        params, macs = self._size(architecture)
        among = {text for text, size in self._sizes.items() if size[0] < params and size[1] <= macs}
        near = self._nearest(architecture, among=among)
        return self.space.parse(near[0]) if near else None

    @cached_property
    def _sizes(self) -> dict[str, tuple[float, float]]:
        return {text: self._size(self.space.parse(text)) for text in self._listed}

    def _size(self, architecture: Any) -> tuple[float, float]:
        costs = count(architecture, self.space.default_resolution, self.space.default_num_classes)
        return costs.params, costs.macs
