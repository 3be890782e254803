"""The contract of a family of networks: what an architecture and a space of it must be able to do.

A family is a folder with an architecture (text and description) and one space or more (parameters and moves). Nothing
outside it asks which family it has before it: what only some families can do is a method here with an answer that says
"no". :mod:`zenopt.testing` runs a family, also one of your own, through everything that is promised.
"""

from __future__ import annotations

import random
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from functools import cache
from importlib import import_module
from math import inf
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

from zenopt.core.description import Description
from zenopt.core.errors import SpecError, StructureError
from zenopt.spaces.values import combinations, decoded, draw_value, drawn_values, suggest, values_beside

if TYPE_CHECKING:
    import optuna
    from optuna.distributions import BaseDistribution

    from zenopt.core.budget import Budget
    from zenopt.nn.network import Network
    from zenopt.spaces.opened import OpenNetwork

#: Mutations of a random walk.
WALK = 30
#: Why an architecture has no larger or smaller versions.
NOT_SCALABLE = "Only chains of super-blocks can be scaled, and families whose space has a method scale"


class BaseArchitecture(ABC):
    """One network of a family. Subclasses are frozen dataclasses: immutable, hashable, equal when their texts are.

    Attributes:
        family: Name under which :func:`~zenopt.spaces.registry.parse_architecture` reads the text again: that of a
            space of the family.
        builds: Releases that build the same architecture differently; the first is what :attr:`description` gives.
        zen_init: Whether networks train from Zen-NAS's initial weights, which explode in others.
        closed_forms: Score -> ``module:function`` that computes it, called with the architecture and the arguments of
            :meth:`closed_form`; found when it is needed, because formulas take architectures.
        ranking: By which inputs of predictors (``"log MACs"``, ``"log params"``, a closed form, a shape feature; see
            :mod:`zenopt.predictors.ranking`) networks of the family are ranked best before any is trained, larger
            first; what a learned search begins with. Empty where nothing ranks them.
    """

    family: ClassVar[str]
    builds: ClassVar[tuple[str, ...]] = ("official",)
    zen_init: ClassVar[bool] = False
    closed_forms: ClassVar[Mapping[str, str]] = {}
    ranking: ClassVar[str] = "log MACs"

    @property
    @abstractmethod
    def description(self) -> Description:
        """The network as data; make it a ``cached_property`` where it takes time."""

    @abstractmethod
    def __str__(self) -> str:
        """Return the canonical text."""

    def describe(self, build: str = "official") -> Description:
        """Return the network as one of :attr:`builds` makes it.

        Raises:
            StructureError: If there is no such build.
        """
        if build not in self.builds:
            raise StructureError(
                f"Unknown build {build!r} of {self.family}; allowed: {', '.join(self.builds)}."
            )
        return self.description

    @property
    def places(self) -> tuple[str, ...]:
        """The place of each unit in the family, different ones; a supernet shares weights between units of one place.

        Units of one place may differ in widths, kernels and repetitions. Where they are alternatives (other kinds of
        blocks), the alternative belongs to the name; where units may be missing, a place is where one would stand.
        """
        return self.description.names

    def closed_form(
        self,
        score: str,
        *,
        resolution: int,
        num_classes: int = 1000,
        batch_size: int | None = None,
        gamma: float = 0.01,
    ) -> float | None:
        """Return a score computed without tensors; ``None`` where :attr:`closed_forms` has no formula.

        Args:
            score:
                ``"zen"``, ``"synflow"``, or a correction that only the family knows.
            resolution:
                Side of the square input image in pixels.
            num_classes:
                Outputs of the classifier.
            batch_size:
                Batch whose measured scores are predicted; ``None`` for the plain formula.
            gamma:
                Size of the input perturbation (Zen-scores).
        """
        path = self.closed_forms.get(score)
        if path is None:
            return None
        found: float | None = load(path)(
            self, resolution=resolution, num_classes=num_classes, batch_size=batch_size, gamma=gamma
        )
        return found

    def shape_features(self) -> dict[str, float]:
        """Return numbers that describe the shape, for predictors; the same names for all of the family.

        Counts and depths are derived from the description and need not be listed.
        """
        return {}

    def published_counts(self) -> dict[str, float]:
        """Return what the family's own tables say of the network, by their columns and in their way of counting.

        Published counts may leave things out or add some; :func:`zenopt.core.costs.count` gives the truth.
        """
        return {}

    def spellings(self) -> dict[str, str]:
        """Return the texts (or keys) by which other people's programs know the architecture, by the program's name."""
        return {}

    def guarded(self) -> dict[str, float]:
        """Return what guards of latency models limit: any of ``expansion``, ``bottleneck``, ``stem_width``."""
        return {}

    def published_keys(self, network: Network) -> dict[str, str]:
        """Return the weights' names in a published release of the family -> ours; empty where there is none."""
        return {}

    def foreign_modules(self) -> dict[str, str]:
        """Return the parts that come from elsewhere than zenopt, each with the module that defines it."""
        return {}


class Checked(Protocol):
    """What :meth:`Limits.check <zenopt.latency.limits.Limits.check>` returns, as far as spaces read it."""

    @property
    def is_feasible(self) -> bool: ...


class Checker(Protocol):
    """What a space is told of limits: a budget at a resolution."""

    @property
    def budget(self) -> Budget: ...
    @property
    def resolution(self) -> int: ...
    @property
    def num_classes(self) -> int: ...
    @property
    def use_se(self) -> bool: ...
    @property
    def needs_check(self) -> bool:
        """Whether there are limits that costs alone do not tell."""

    def check(self, architecture: Any) -> Checked: ...


class ArrayScreening(Protocol):
    """Thousands of candidates scored as arrays; made by :meth:`BaseSpace.array_screening`."""

    def pick(self, parents: Any, known: Any, rng: random.Random) -> Any | None:
        """Return the best new architecture, or ``None``."""


class BaseSpace(ABC):
    """Which architectures exist: Optuna parameters, and moves between architectures.

    The methods below that are not abstract work on parameters alone; a family replaces those it knows better.

    Attributes:
        initial: Text of the architecture a search starts from.
        default_resolution, default_num_classes: What its networks are shown and scored with where nobody says another.
        array_screen: ``module:class`` that screens arrays, called as ``Class(space, limits, candidates=..., ...)``;
            empty where there is none.
        has_networks: Whether its architectures have a description, so that they can be built, trained and drawn.
        reads_files: Whether it reads a file that may be missing, when something is asked of it; a spec is then read
            without trying the initial architecture.
        examples: Options that only its user knows, with values that stand for them in a study file to begin with.
        shares_table: Whether its option ``table`` is the table of a study's objective, where nobody names another.
        no_supernet: Why its networks cannot share weights; empty where they can.
    """

    initial: str
    has_networks: ClassVar[bool] = True
    reads_files: ClassVar[bool] = False
    default_resolution: ClassVar[int] = 224
    default_num_classes: ClassVar[int] = 1000
    array_screen: ClassVar[str] = ""
    examples: ClassVar[Mapping[str, Any]] = {}
    shares_table: ClassVar[bool] = False
    no_supernet: ClassVar[str] = ""

    # -- text -------------------------------------------------------------------------------------------------------

    @classmethod
    def recognises(cls, text: str) -> bool:
        """Return whether a text looks like an architecture of the family, right or wrong."""
        return False

    @abstractmethod
    def parse(self, text: str) -> Any:
        """Read the canonical text of an architecture of the family.

        Raises:
            StructureError: If it is malformed.
        """

    def text_of_row(self, row: Mapping[str, str]) -> str | None:
        """Return the text of the architecture in a row of a table of known results, by column.

        By default it stands in a column named ``arch_str`` or ``structure``. A family whose benchmark's tables spell it
        otherwise reads those, too.

        Returns:
            What :meth:`parse` reads; ``None`` where the row has none.
        """
        # Imported late: reading files needs pydantic, and a space that is only searched reads none.
        from zenopt.core.tables import text_of_row

        return text_of_row(row)

    # -- parameters -------------------------------------------------------------------------------------------------

    @property
    @abstractmethod
    def distributions(self) -> dict[str, BaseDistribution]:
        """Every parameter with its distribution, the same in every trial."""

    @abstractmethod
    def decode(self, params: Mapping[str, Any]) -> Any:
        """Return the architecture of parameter values.

        Raises:
            StructureError: If a parameter is missing or outside the space.
        """

    @abstractmethod
    def encode(self, architecture: Any) -> dict[str, Any]:
        """Return the parameters of an architecture; the inverse of :meth:`decode`.

        Raises:
            StructureError: If the architecture is outside the space.
        """

    def names_in_use(self, values: Mapping[str, Any]) -> Iterator[str]:
        """Yield the names of the parameters in use, in an order in which each may depend on those before it.

        Args:
            values:
                Values so far; filled by the caller meanwhile.
        """
        yield from self.distributions

    def suggest(self, trial: optuna.Trial, *, all_slots: bool = False) -> Any:
        """Ask an Optuna trial for the parameters of one architecture.

        Args:
            trial:
                The trial.
            all_slots:
                Suggest parameters that are not in use, too (they are ignored), for samplers that need a fixed search
                space: NSGA-II, GP, CMA-ES.
        """
        values: dict[str, Any] = {}
        for name in self.distributions if all_slots else self.names_in_use(values):
            values[name] = suggest(trial, name, self.distributions[name])
        return self.decode(values)

    def is_complete(self, params: Mapping[str, Any]) -> bool:
        """Return whether ``params`` spell an architecture: every parameter in use has a value."""
        try:
            return all(name in params for name in self.names_in_use(params))
        except KeyError:
            return False

    # -- membership -------------------------------------------------------------------------------------------------

    def contains(self, architecture: Any) -> bool:
        """Return whether the architecture can be spelled in this space."""
        try:
            self.encode(architecture)
        except StructureError:
            return False
        return True

    def architectures(self) -> Iterator[Any] | None:
        """Return an iterator over every architecture, or ``None`` where there are too many to list.

        Where parameters have few combinations these are gone through; a family that can list more overrides this.
        """
        every = combinations(self)
        if every is None:
            return None
        decoded_ones = (decoded(self, values) for values in every)
        # Several combinations may be the same network.
        return iter(
            {str(own): own for own in decoded_ones if own is not None and self.contains(own)}.values()
        )

    def foreign_modules(self) -> dict[str, str]:
        """Return the parts of the space that come from elsewhere than zenopt, each with its module."""
        own = type(self).__module__
        found = {} if own.partition(".")[0] in ("zenopt", "__main__") else {type(self).__name__: own}
        return {**found, **self.parse(self.initial).foreign_modules()} if self.initial else found

    def open_network(self, *, channels: int | None = None, cells: int | None = None) -> OpenNetwork | None:
        """Return the network in which a differentiable search finds operations; ``None`` where the family has none.

        Args:
            channels, cells:
                Its width and depth, by default the published ones; what they count, the family says.

        Raises:
            StructureError: If there can be no such network.
        """
        return None

    # -- moves ------------------------------------------------------------------------------------------------------

    @property
    def moves(self) -> dict[str, Callable[..., Any | None]]:
        """Named mutations; ``zen`` is :meth:`mutate`."""
        return {"zen": self.mutate}

    def mutate(self, architecture: Any, rng: random.Random, *, blocks: int = 1) -> Any | None:
        """Return a neighbour: ``blocks`` of the parameters in use drawn anew.

        Args:
            architecture:
                The parent, inside the space.
            rng:
                Source of randomness.
            blocks:
                Number of draws.

        Returns:
            The child, or ``None`` where the result has no place in the space.
        """
        params = self.encode(architecture)
        names = sorted(params)
        # Not a set: that of texts has another order in every process.
        for name in dict.fromkeys(rng.choice(names) for _ in range(blocks)):
            params[name] = draw_value(self.distributions[name], rng)
        return self._completed(params, rng)

    def neighbours(self, architecture: Any) -> list[Any]:
        """Return the architectures that differ in one parameter, by one step where it is a number."""
        params = self.encode(architecture)
        found: dict[str, Any] = {}
        for name, value in params.items():
            for other in values_beside(self.distributions[name], value):
                child = self._completed({**params, name: other}, random.Random(0))
                if child is not None and child != architecture:
                    found.setdefault(str(child), child)
        return list(found.values())

    @abstractmethod
    def shrink(self, architecture: Any) -> Any | None:
        """Return a slightly smaller architecture, or ``None`` when nothing is left to cut.

        Searches shrink their initial architecture into the budget.
        """

    def scale(self, architecture: Any, *, width: float = 1.0, depth: float = 1.0) -> Any:
        """Return an architecture with scaled widths and depths, which need not be in the space.

        Raises:
            StructureError: If the family has no scaling, or the result cannot exist.
        """
        raise StructureError(f"{NOT_SCALABLE}; {architecture} is neither.")

    def draw(self, rng: random.Random) -> Any | None:
        """Return a random architecture, which need not fit any budget; ``None`` where no mutation succeeds.

        A random walk of :data:`WALK` mutations from the initial architecture, unless the family draws otherwise.
        """
        current, start = None, self.parse(self.initial)
        for _ in range(WALK):
            current = self.mutate(start if current is None else current, rng) or current
        return current

    def array_screening(
        self, limits: Checker, *, candidates: int, elites: int, batch_size: int | None, move: str
    ) -> ArrayScreening | None:
        """Return what picks proposals by an evolution over arrays, or ``None``.

        Args:
            limits:
                Candidates outside are dropped.
            candidates, elites:
                Mutations tried for a proposal, and members of the evolution's population.
            batch_size:
                Batch whose scores are predicted.
            move:
                One of :attr:`moves`.
        """
        if not self.array_screen:
            return None
        found: ArrayScreening = load(self.array_screen)(
            self, limits, candidates=candidates, elites=elites, batch_size=batch_size, move=move
        )
        return found

    def _completed(self, params: dict[str, Any], rng: random.Random) -> Any | None:
        """Return the architecture of changed parameters: what has come into use is drawn, what fell out of it goes."""
        child = decoded(self, drawn_values(self, rng, params))
        return child if child is not None and self.contains(child) else None


def require_supernet(space: Any, name: str) -> None:
    """Refuse a space, or what makes it, whose networks cannot share weights.

    Raises:
        SpecError: If they cannot; the message says why.
    """
    reason = getattr(space, "no_supernet", "")
    if reason:
        raise SpecError(f"The space {name} has no supernet: {reason}.")


def check_factors(**factors: float) -> None:
    """Raise a :class:`StructureError` naming the first factor of a scaling that is not a positive number."""
    for name, factor in factors.items():
        if not 0 < factor < inf:
            raise StructureError(f"The factor of {name} must be a positive number, got {factor}.")


@cache
def load(path: str) -> Any:
    """Return the object ``module:name`` of zenopt's own, or of a family's."""
    module, _, name = path.partition(":")
    return getattr(import_module(module), name)
