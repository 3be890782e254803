"""Zen-NAS's evolution on the closed form, a generation at a time.

Zen-NAS adds one candidate per iteration to a population of which only the worst is ever dropped. Doing so for a whole
generation of children at once changes only that a child becomes a parent a little later, and lets everything be
computed over arrays.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from zenopt.core.budget import Budget, is_lower_limit
from zenopt.core.errors import BudgetError, SpecError
from zenopt.spaces.chain.architecture import Architecture
from zenopt.spaces.chain.closed_form.arrays import ArrayCosts, ChainEvaluator
from zenopt.spaces.chain.closed_form.chains import DEPTH, Genes, fingerprints
from zenopt.spaces.chain.closed_form.edges import Array
from zenopt.spaces.chain.closed_form.moves import MOVES, ChainMoves

if TYPE_CHECKING:
    from zenopt.spaces.chain.space import ChainSpace

#: Zen-NAS mutates one block of the initial structure until the population is larger.
WARM_UP = 10
DIVERSITIES = ("none", "depth")


@dataclass(frozen=True)
class EvolutionSettings:
    """How an evolution runs.

    Attributes:
        iterations: Children in all; one that is over budget or outside the space consumes its iteration.
        population: Most parents.
        generation: Children made at a time.
        move: ``"zen"`` or ``"fork"`` (see :meth:`~zenopt.spaces.chain.closed_form.moves.ChainMoves.mutate`).
        diversity: ``"none"`` keeps the best, as Zen-NAS does; ``"depth"`` lets no number of layers hold more than
            ``niche_share`` of the population, so that shallow and deep networks live beside each other.
        niche_share: Largest share of the population with the same number of layers (at least one).
        distinct: Whether a structure enters the population only once. Zen-NAS does not look.
    """

    iterations: int = 480_000
    population: int = 512
    generation: int = 1024
    move: str = "zen"
    diversity: str = "none"
    niche_share: float = 0.25
    distinct: bool = True

    def __post_init__(self) -> None:
        for name in ("iterations", "population", "generation"):
            if getattr(self, name) < 1:
                raise SpecError(f"The evolution's {name} must be at least 1, got {getattr(self, name)}.")
        if self.move not in MOVES:
            raise SpecError(f"The evolution's move must be one of {', '.join(MOVES)}; got {self.move!r}.")
        if self.diversity not in DIVERSITIES:
            raise SpecError(
                f"The evolution's diversity must be one of {', '.join(DIVERSITIES)}; got {self.diversity!r}."
            )
        if not 0 < self.niche_share <= 1:
            raise SpecError(f"The evolution's niche_share must be in (0, 1], got {self.niche_share}.")


@dataclass(frozen=True)
class Ranked:
    """A structure an evolution found, and its value."""

    architecture: Architecture
    value: float


@dataclass(frozen=True)
class Evolved:
    """What an evolution found.

    Attributes:
        best: Distinct structures by falling value, none of them known before.
        iterations: Children made.
        inside: Children inside the space and the budget.
        course: (iterations, best value so far) at the end of each generation.
    """

    best: tuple[Ranked, ...]
    iterations: int
    inside: int
    course: tuple[tuple[int, float], ...]


def evolve(
    space: ChainSpace,
    evaluator: ChainEvaluator,
    budget: Budget,
    parents: Sequence[Architecture],
    *,
    seed: int = 0,
    settings: EvolutionSettings | None = None,
    keep: int = 64,
    distance: int = 1,
    known: Collection[str] = (),
    value: Callable[[Genes], Array] | None = None,
    accept: Callable[[Architecture], bool] | None = None,
) -> Evolved:
    """Evolve chains within a budget on a closed form.

    Args:
        space:
            Bounds and types of the chains.
        evaluator:
            Scores and costs them; must know the space's types (see :func:`evaluator_of`).
        budget:
            Limits. A latency limit is not looked at: give ``accept``.
        parents:
            Where to begin; those outside the budget are left out. With at most 10 of them, the first generation mutates
            one block of each, as Zen-NAS begins.
        seed:
            Seed of all draws; the same seed gives the same result.
        settings:
            Length, size and kind of the evolution.
        keep:
            Most structures to return.
        distance:
            Fewest blocks in which any two returned structures differ (see :func:`structure_distance`).
        known:
            Structure strings that are never returned; they may still be parents.
        value:
            What to maximise, over arrays; the closed-form Zen-score by default.
        accept:
            A slower check of a candidate, e.g. of its latency. Asked once per structure, and only for those good enough
            to enter the population.

    Returns:
        The best structures found.

    Raises:
        BudgetError: If no parent is inside the budget.

    Example:
        .. code-block:: python

            space = get_space("superres")
            evaluator = evaluator_of(space, 32, num_classes=100)
            parents = [space.parse(space.initial)]
            found = evolve(space, evaluator, Budget(params=1e6, layers=18), parents, seed=1)
            print(found.best[0].architecture, found.best[0].value)
    """
    settings = settings or EvolutionSettings()
    run = _Run(space, evaluator, budget, settings, value or evaluator.score, accept)
    run.begin(parents)
    rng = np.random.default_rng(seed)
    course = []
    made = 0
    while made < settings.iterations:
        size = min(settings.generation, settings.iterations - made)
        is_warm = len(run.genes) > WARM_UP or made > 0
        chosen = run.genes[rng.integers(0, len(run.genes), size)]
        children, is_inside = run.moves.mutate(chosen, rng, blocks=2 if is_warm else 1, move=settings.move)
        run.admit(children[is_inside])
        made += size
        course.append((made, float(run.values[0])))
    return Evolved(run.best(keep, distance, known), made, run.inside, tuple(course))


def evaluator_of(
    space: ChainSpace,
    resolution: int,
    *,
    num_classes: int = 1000,
    batch_size: int | None = 64,
    use_se: bool = False,
) -> ChainEvaluator:
    """Make an evaluator that knows a space's types.

    Args:
        space:
            The space.
        resolution:
            Side of the square input image in pixels.
        num_classes:
            Outputs of the classifier.
        batch_size:
            Batch whose scores are predicted; ``None`` is the uncorrected formula.
        use_se:
            Whether squeeze-excite gates are counted.
    """
    types = (space.stem, *space.blocks, space.head)
    return ChainEvaluator(types, resolution, num_classes=num_classes, batch_size=batch_size, use_se=use_se)


def is_within(budget: Budget, costs: ArrayCosts) -> NDArray[np.bool_]:
    """Return which candidates keep the limits of a budget; a latency limit is not looked at."""
    counted = {"true": (costs.params, costs.macs), "zennas": (costs.zennas_params, costs.zennas_flops)}
    params, macs = counted[budget.counting]
    used = {"params": params, "macs": macs}
    within = np.ones(len(params), dtype=bool)
    for name, limit in budget.limits().items():
        if name == "latency_ms":
            continue
        column = used[name] if name in used else getattr(costs, name)
        within &= column >= limit if is_lower_limit(name) else column <= limit
    return within


def structure_distance(one: Genes, others: Genes) -> NDArray[np.int64]:
    """Return in how many places the blocks of ``one`` (``places x 5``) differ from those of each of ``others``."""
    differences: NDArray[np.int64] = (others != one[None]).any(axis=2).sum(axis=1)
    return differences


class _Run:
    """The population of an evolution, best first."""

    def __init__(
        self,
        space: ChainSpace,
        evaluator: ChainEvaluator,
        budget: Budget,
        settings: EvolutionSettings,
        value: Callable[[Genes], Array],
        accept: Callable[[Architecture], bool] | None,
    ) -> None:
        self.moves = ChainMoves(space, evaluator.codec)
        self.inside = 0
        self.genes: Genes = np.zeros((0, self.moves.places, 5), dtype=np.int32)
        self.values: Array = np.zeros(0)
        self._hashes = np.zeros(0, dtype=np.uint64)
        self._evaluator = evaluator
        self._budget = budget
        self._settings = settings
        self._value = value
        self._accept = accept
        self._verdicts: dict[int, bool] = {}
        limits = budget.limits()
        self._needs_widths = "min_width" in limits or "depth_to_width" in limits

    def begin(self, parents: Sequence[Architecture]) -> None:
        if parents:
            self.admit(self._evaluator.codec.encode(parents, self.moves.places))
        if len(self.genes) == 0:
            limits = ", ".join(f"{name} <= {limit:g}" for name, limit in self._budget.limits().items())
            raise BudgetError(f"None of the {len(parents)} parents fits the budget ({limits}).")

    def admit(self, genes: Genes) -> None:
        """Let the candidates that are in budget, and good enough, into the population."""
        if len(genes) and self._settings.distinct:
            hashes, first = np.unique(fingerprints(genes), return_index=True)
            genes = genes[np.sort(first[~np.isin(hashes, self._hashes)])]
        if len(genes) == 0:
            return
        costs = self._evaluator.costs(genes, widths=self._needs_widths)
        genes = genes[is_within(self._budget, costs)]
        self.inside += len(genes)
        if len(genes) == 0:
            return
        values = self._value(genes)
        if len(self.values) >= self._settings.population and self._settings.diversity == "none":
            good = values > self.values[-1]
            genes, values = genes[good], values[good]
        if self._accept is not None:
            genes, values = self._checked(genes, values)
        self._merge(genes, values)

    def _checked(self, genes: Genes, values: Array) -> tuple[Genes, Array]:
        hashes = fingerprints(genes).tolist()
        for key, row in zip(hashes, genes, strict=True):
            if key not in self._verdicts:
                self._verdicts[key] = bool(self._accept(self._evaluator.codec.decode(row)))  # type: ignore[misc]
        verdicts = np.array([self._verdicts[key] for key in hashes], dtype=bool)
        return genes[verdicts], values[verdicts]

    def _merge(self, genes: Genes, values: Array) -> None:
        genes = np.concatenate([self.genes, genes])
        values = np.concatenate([self.values, values])
        # Stable, so that of equals the elder stays.
        order = np.argsort(-values, kind="stable")
        if self._settings.diversity == "depth":
            order = order[self._niche_ranks(genes[order]) < self._niche_size]
        order = order[: self._settings.population]
        self.genes, self.values = genes[order], values[order]
        self._hashes = fingerprints(self.genes)

    @property
    def _niche_size(self) -> int:
        return max(1, int(self._settings.niche_share * self._settings.population))

    def _niche_ranks(self, genes: Genes) -> NDArray[np.int64]:
        """Return how many better ones share each candidate's number of layers."""
        layers = genes[:, :, DEPTH].sum(axis=1)
        ranks = np.zeros(len(genes), dtype=np.int64)
        for count in np.unique(layers):
            members = layers == count
            ranks[members] = np.arange(int(members.sum()))
        return ranks

    def best(self, keep: int, distance: int, known: Collection[str]) -> tuple[Ranked, ...]:
        found: list[Ranked] = []
        chosen = np.zeros((0, *self.genes.shape[1:]), dtype=np.int32)
        seen = set()
        for row, value in zip(self.genes, self.values.tolist(), strict=True):
            if len(found) == keep:
                break
            if len(chosen) and structure_distance(row, chosen).min() < distance:
                continue
            architecture = self._evaluator.codec.decode(row)
            text = str(architecture)
            if text in known or text in seen:
                continue
            seen.add(text)
            found.append(Ranked(architecture, value))
            chosen = np.concatenate([chosen, row[None]])
        return tuple(found)
