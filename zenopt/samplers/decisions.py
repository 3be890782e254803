"""A space's parameters as a sequence of decisions, each among a few actions: what a controller walks."""

from __future__ import annotations

from bisect import bisect
from collections.abc import Callable, Iterator, Mapping
from itertools import pairwise
from math import exp, log
from typing import TYPE_CHECKING, Any

from zenopt.spaces.values import chosen_values

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution

#: Values of a number that are told apart; a parameter with more has so many, evenly spaced (by ratio where it is log).
LEVELS = 8


class Decisions:
    """The parameters of a space in order, and the actions of each.

    Attributes:
        actions: The values that are chosen from, by parameter.

    Args:
        space:
            Its parameters may depend on earlier ones: those in use are walked.
    """

    def __init__(self, space: Any) -> None:
        self._space = space
        self.actions: dict[str, list[Any]] = {
            name: actions_of(distribution) for name, distribution in space.distributions.items()
        }
        self._middles = {
            name: [(low + high) / 2 for low, high in pairwise(values)]
            for name, values in self.actions.items()
            if _is_number(space.distributions[name])
        }

    def walk(self, choose: Callable[[str], int]) -> dict[str, Any]:
        """Return parameter values: of every parameter in use the action that is chosen when its turn comes."""
        return chosen_values(self._space, lambda name: self.actions[name][choose(name)])

    def of(self, params: Mapping[str, Any]) -> Iterator[tuple[str, int]]:
        """Yield the decisions that lead to parameter values, or as near to them as actions lie."""
        for name in self._space.names_in_use(params):
            if name in self._middles:
                yield name, bisect(self._middles[name], params[name])
            else:
                yield name, self.actions[name].index(params[name])


def actions_of(distribution: BaseDistribution) -> list[Any]:
    """Return the values of a parameter, at most :data:`LEVELS` of a number, ascending."""
    from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

    if isinstance(distribution, CategoricalDistribution):
        return list(distribution.choices)
    assert isinstance(distribution, (IntDistribution, FloatDistribution))
    low, high, step = distribution.low, distribution.high, distribution.step
    if step is not None and not distribution.log and (high - low) / step < LEVELS:
        return [low + index * step for index in range(round((high - low) / step) + 1)]
    shares = [index / (LEVELS - 1) for index in range(LEVELS)]
    if distribution.log:
        spread = [exp(log(low) + share * (log(high) - log(low))) for share in shares]
    else:
        spread = [low + share * (high - low) for share in shares]
    if isinstance(distribution, IntDistribution):
        stepped = (low + round((value - low) / distribution.step) * distribution.step for value in spread)
        return sorted({int(min(max(value, low), high)) for value in stepped})
    return spread


def _is_number(distribution: BaseDistribution) -> bool:
    return hasattr(distribution, "low")
