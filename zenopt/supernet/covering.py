"""Architectures that show, between them, every layer of a space at its largest; and its extremes."""

from __future__ import annotations

import random
from collections.abc import Iterator
from itertools import chain
from typing import TYPE_CHECKING, Any

from zenopt.spaces.values import chosen_values, decoded, drawn_values

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution


def covering(space: Any) -> Iterator[Any]:
    """Yield architectures whose layers include every layer of the space, at its largest size at least once.

    Numbers (widths, depths, kernels) are at their highest while categories (kinds of blocks, operations) go through
    their values together; around each of these, every parameter alone takes its other categories or its lowest number:
    a projection, for one, exists only where two widths differ.
    """
    distributions = space.distributions
    turns = max((len(_categories(own)) for own in distributions.values()), default=0)
    for turn in range(max(1, turns)):
        base = {name: _value(own, turn) for name, own in distributions.items()}
        used = chosen_values(space, base.__getitem__)
        changed = (
            chosen_values(space, {**base, name: other}.__getitem__)
            for name in used
            for other in _others(distributions[name])
            if other != base[name]
        )
        for values in chain((used,), changed):
            found = decoded(space, values)
            if found is not None:
                yield found


def extreme(space: Any, rng: random.Random, *, largest: bool) -> Any:
    """Return an architecture whose numbers are all at their highest or lowest; categories are drawn.

    Raises:
        StructureError: If it is not in the space.
    """
    ends = {
        name: numbers[largest]
        for name, distribution in space.distributions.items()
        if (numbers := _numbers(distribution)) is not None
    }
    return space.decode(drawn_values(space, rng, ends))


def has_numbers(space: Any) -> bool:
    """Return whether any parameter of a space is a number, so that there are larger and smaller networks."""
    return any(_numbers(distribution) is not None for distribution in space.distributions.values())


def _value(distribution: BaseDistribution, turn: int) -> Any:
    """Return the highest number; of categories the one whose turn it is."""
    numbers, categories = _numbers(distribution), _categories(distribution)
    return categories[turn % len(categories)] if numbers is None else numbers[1]


def _others(distribution: BaseDistribution) -> tuple[Any, ...]:
    """Return the values that a parameter takes alone: all of a category, the lowest of a range."""
    from optuna.distributions import CategoricalDistribution

    if isinstance(distribution, CategoricalDistribution):
        return tuple(distribution.choices)
    return (distribution.low,)  # type: ignore[attr-defined]


def _numbers(distribution: BaseDistribution) -> tuple[Any, Any] | None:
    """Return the lowest and the highest value; ``None`` for categories that are not numbers."""
    from optuna.distributions import CategoricalDistribution

    if not isinstance(distribution, CategoricalDistribution):
        return distribution.low, distribution.high  # type: ignore[attr-defined]
    if all(isinstance(choice, int | float) for choice in distribution.choices):
        return min(distribution.choices), max(distribution.choices)  # type: ignore[type-var]
    return None


def _categories(distribution: BaseDistribution) -> tuple[Any, ...]:
    """Return the values of a category that are not numbers; nothing for numbers."""
    if _numbers(distribution) is not None:
        return ()
    found: tuple[Any, ...] = distribution.choices  # type: ignore[attr-defined]
    return found
