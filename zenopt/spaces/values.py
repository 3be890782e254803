"""Values of a space's parameters: asked for, chosen, drawn, those beside one; and the architecture that they make."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from math import inf, prod
from typing import TYPE_CHECKING, Any

from zenopt.core.errors import StructureError

if TYPE_CHECKING:
    import optuna
    from optuna.distributions import BaseDistribution

#: Values of an integer parameter that a neighbour may take, as steps from its own.
NEIGHBOUR_STEPS = (-1, 1)
#: A space of parameters that combine in more ways is not listed.
MOST_COMBINATIONS = 20_000


def suggest(trial: optuna.Trial, name: str, distribution: BaseDistribution) -> Any:
    """Ask a trial for a parameter of a distribution."""
    from optuna.distributions import CategoricalDistribution, IntDistribution

    if isinstance(distribution, CategoricalDistribution):
        return trial.suggest_categorical(name, distribution.choices)
    if isinstance(distribution, IntDistribution):
        return trial.suggest_int(
            name, distribution.low, distribution.high, step=distribution.step, log=distribution.log
        )
    return trial.suggest_float(name, distribution.low, distribution.high, log=distribution.log)  # type: ignore[attr-defined]


def draw_value(distribution: BaseDistribution, rng: random.Random) -> Any:
    """Draw a value of a distribution, as Optuna's random sampler does."""
    from optuna.distributions import CategoricalDistribution, IntDistribution

    if isinstance(distribution, CategoricalDistribution):
        return rng.choice(distribution.choices)
    if isinstance(distribution, IntDistribution) and distribution.log:
        from math import exp, log

        drawn = exp(rng.uniform(log(distribution.low - 0.5), log(distribution.high + 0.5)))
        return min(max(round(drawn), distribution.low), distribution.high)
    if isinstance(distribution, IntDistribution):
        return rng.randrange(distribution.low, distribution.high + 1, distribution.step)
    return rng.uniform(distribution.low, distribution.high)  # type: ignore[attr-defined]


def chosen_values(space: Any, choose: Callable[[str], Any]) -> dict[str, Any]:
    """Return a value of every parameter in use, each chosen when those before it are known."""
    values: dict[str, Any] = {}
    for name in space.names_in_use(values):
        values[name] = choose(name)
    return values


def drawn_values(space: Any, rng: random.Random, known: Mapping[str, Any]) -> dict[str, Any]:
    """Return a value of every parameter in use: the known one, or one that is drawn."""
    return chosen_values(
        space, lambda name: known[name] if name in known else draw_value(space.distributions[name], rng)
    )


def decoded(space: Any, values: Mapping[str, Any]) -> Any | None:
    """Return the architecture of parameter values; ``None`` where they make none, as not every combination does."""
    try:
        return space.decode(values)
    except StructureError:
        return None


def combinations(space: Any) -> Iterator[dict[str, Any]] | None:
    """Return every combination of values of the parameters in use; ``None`` where there may be too many.

    Too many are more than :data:`MOST_COMBINATIONS`, counted as if all parameters were always in use.
    """
    values = {name: values_of(distribution) for name, distribution in space.distributions.items()}
    if prod(inf if own is None else len(own) for own in values.values()) > MOST_COMBINATIONS:
        return None

    def extended(known: dict[str, Any]) -> Iterator[dict[str, Any]]:
        name = next((name for name in space.names_in_use(known) if name not in known), None)
        if name is None:
            yield known
            return
        for value in values[name] or ():
            yield from extended({**known, name: value})

    return extended({})


def values_of(distribution: BaseDistribution) -> Sequence[Any] | None:
    """Return all values of a parameter; ``None`` for real numbers, which have no end."""
    from optuna.distributions import CategoricalDistribution, IntDistribution

    if isinstance(distribution, CategoricalDistribution):
        return distribution.choices
    if isinstance(distribution, IntDistribution):
        return range(distribution.low, distribution.high + 1, distribution.step)
    return None


def values_beside(distribution: BaseDistribution, value: Any) -> list[Any]:
    """Return the values next to one: all others of a category, one step up and down of a number."""
    from optuna.distributions import CategoricalDistribution, IntDistribution

    if isinstance(distribution, CategoricalDistribution):
        return [other for other in distribution.choices if other != value]
    if isinstance(distribution, IntDistribution):
        steps = (value + step * distribution.step for step in NEIGHBOUR_STEPS)
        return [other for other in steps if distribution.low <= other <= distribution.high]
    return []
