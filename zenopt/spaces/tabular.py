"""A space cut down to the architectures of a table."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Mapping
from functools import cached_property
from typing import TYPE_CHECKING, Any

from zenopt.core.errors import DataError, ZenoptError
from zenopt.core.tables import load_table
from zenopt.spaces.base import BaseSpace

if TYPE_CHECKING:
    import optuna
    from optuna.distributions import BaseDistribution

#: Draws before a move gives up; a benchmark that lists half of its space needs two on average.
MAX_DRAWS = 200


class TabularSpace(BaseSpace):
    """What the table does not list does not exist: moves skip it, random draws never give it.

    Parameters can still spell it (Optuna's own samplers know nothing of tables); the objective prunes such a trial. The
    table is read when it is first needed, so that a spec can be looked at without it.

    Args:
        space:
            The whole space.
        path:
            The table (see :func:`zenopt.core.tables.load_table`).
        column:
            Architectures without a number in this column do not exist either.
    """

    def __init__(self, space: Any, path: str, column: str) -> None:
        self.space = space
        self._path = path
        self._column = column

    @cached_property
    def _texts(self) -> dict[str, None]:
        """Architectures of the table that the space can spell, as an ordered set."""
        known = load_table(self._path).column(self._column)
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
        wanted = str(self.space.parse(self.space.initial))
        if wanted in self._texts:
            return wanted
        params = self.space.encode(self.space.parse(wanted))

        def distance(text: str) -> tuple[int, str]:
            other = self.space.encode(self.space.parse(text))
            return sum(params.get(name) != other.get(name) for name in {*params, *other}), text

        return min(self._texts, key=distance)

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
        """Reads the text of an architecture."""
        return self.space.parse(text)

    def decode(self, params: Mapping[str, Any]) -> Any:
        """Returns the architecture of parameter values, whether the table lists it or not."""
        return self.space.decode(params)

    def encode(self, architecture: Any) -> dict[str, Any]:
        """Returns the parameters of an architecture."""
        found: dict[str, Any] = self.space.encode(architecture)
        return found

    # -- cut down ---------------------------------------------------------------------------------------------------

    def contains(self, architecture: Any) -> bool:
        """Returns whether the table lists the architecture."""
        return str(architecture) in self._texts

    def architectures(self) -> Iterator[Any]:
        """Yields every architecture of the table."""
        return (self.space.parse(text) for text in self._texts)

    def draw(self, rng: random.Random) -> Any:
        """Returns an architecture of the table, uniformly."""
        return self.space.parse(rng.choice(self._listed))

    @cached_property
    def _listed(self) -> list[str]:
        return list(self._texts)

    def mutate(self, architecture: Any, rng: random.Random, **options: Any) -> Any | None:
        """Mutates as the space does until the table lists the child; ``None`` after many draws."""
        return self._redraw(lambda: self.space.mutate(architecture, rng, **options))

    def neighbours(self, architecture: Any) -> list[Any]:
        """Returns the neighbours that the table lists."""
        return [other for other in self.space.neighbours(architecture) if self.contains(other)]

    def shrink(self, architecture: Any) -> Any | None:
        """Returns the next smaller architecture that the table lists; ``None`` when there is none."""
        smaller = self.space.shrink(architecture)
        while smaller is not None and not self.contains(smaller):
            smaller = self.space.shrink(smaller)
        return smaller

    def _redraw(self, draw: Callable[[], Any | None]) -> Any | None:
        for _ in range(MAX_DRAWS):
            found = draw()
            if found is not None and self.contains(found):
                return found
        return None
