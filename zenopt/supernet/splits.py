"""Few-shot splits: a supernet of parts that share no weights (Zhao et al., "Few-shot NAS", ICML 2021).

A parameter of the space splits it: every value has layers of its own, so that paths which disturb each other most no
longer meet. All parts are one supernet, whose layers have names with the values in front:
``layer2=mb3_k3/stem/conv0``. An architecture takes the part of its values.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import product
from math import prod
from typing import Any

from zenopt.core.errors import SpecError
from zenopt.spaces.values import values_of
from zenopt.supernet.layers import key
from zenopt.supernet.restricted import OpenSpace, parameters_named

#: Parts of the most finely split supernet.
MAX_PARTS = 128


@dataclass(frozen=True)
class Split:
    """Which parameters of a space split its supernet; none leave it whole.

    Args:
        space:
            Says which values an architecture has; ``None`` where nothing is split.
        names:
            The parameters.
    """

    space: Any = None
    names: tuple[str, ...] = ()

    @classmethod
    def named(cls, space: Any, patterns: Iterable[str]) -> Split:
        """Return the split of a space by all parameters that patterns name.

        Raises:
            SpecError: If there is no such parameter, or there are too many values.
        """
        names = dict.fromkeys(name for own in patterns for name in parameters_named(space, own, "The split"))
        counts: list[int] = []
        for name in names:
            values = values_of(space.distributions[name])
            if values is None:
                raise SpecError(
                    f"{name} is a real number, which cannot split a supernet; name another parameter."
                )
            counts.append(len(values))
        if prod(counts) > MAX_PARTS:
            raise SpecError(
                f"A split by {', '.join(names)} has {prod(counts):,} parts; at most {MAX_PARTS} are allowed. Name "
                "fewer parameters, or such of fewer values."
            )
        return cls(space if names else None, tuple(names))

    def prefix(self, architecture: Any) -> str:
        """Return what stands before the names of an architecture's layers.

        Raises:
            StructureError: If the architecture is outside the space.
        """
        if not self.names:
            return ""
        values = self.space.encode(architecture)
        words = (f"{name}={values[name]}" if name in values else name for name in self.names)
        return key(",".join(words)).replace("/", "|") + "/"

    def whole(self, layer: str) -> str:
        """Return what a layer of a part is called in a supernet that is whole."""
        return layer.partition("/")[2] if self.names else layer

    def spaces(self, space: Any) -> Iterator[Any]:
        """Yield a space cut down to each part; an architecture that has several spellings may be of another part."""
        own = space.distributions
        choices = [values_of(own[name]) or () for name in self.names]
        for values in product(*choices):
            fixed = {name: _fixed(value) for name, value in zip(self.names, values, strict=True)}
            yield OpenSpace(space, {**own, **fixed}) if fixed else space


def _fixed(value: Any) -> Any:
    from optuna.distributions import CategoricalDistribution

    return CategoricalDistribution([value])


#: A supernet that is not split.
WHOLE = Split()
