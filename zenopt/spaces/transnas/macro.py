"""TransNAS-Bench-101's chains: parameters ``modules`` and ``module1``, ``module2``, ...; 3,256 chains.

A chain doubles its width one to three times and halves its map one to four times. What parameters spell beyond that is
read as the nearest chain: later doublings and halvings that are too many are left out, and where there is none the
first module gets it.
"""

from __future__ import annotations

import random
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from itertools import product
from typing import TYPE_CHECKING, Any, ClassVar

from zenopt.core.errors import StructureError
from zenopt.spaces.base import BaseSpace
from zenopt.spaces.registry import register_space
from zenopt.spaces.transnas.architecture import (
    DOUBLINGS,
    HALVINGS,
    MODULES,
    NUM_CLASSES,
    RESOLUTION,
    WIDTH,
    ChainArchitecture,
    doubles,
    halves,
)

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution

#: What the digits 1 to 4 are as parameters.
KINDS = ("plain", "wider", "smaller", "both")
_DIGITS = "1234"


@register_space("transnas-macro")
@dataclass(frozen=True)
class TransNasMacroSpace(BaseSpace):
    """All chains.

    Args:
        width:
            Channels behind the stem.
        initial:
            The network a search starts from.

    Raises:
        StructureError: If the initial network is malformed, or the width odd.
    """

    width: int = WIDTH
    initial: str = ""

    default_resolution: ClassVar[int] = RESOLUTION
    default_num_classes: ClassVar[int] = NUM_CLASSES

    def __post_init__(self) -> None:
        first = self.parse(self.initial) if self.initial else ChainArchitecture("41414", self.width)
        object.__setattr__(self, "initial", str(first))

    @classmethod
    def recognises(cls, text: str) -> bool:
        """Return whether a text is a whole name, or four or five digits from 1 to 4; six could be a cell."""
        return re.fullmatch(r"\s*(\d+-\d+-basic|[1-4]{4,5})\s*", text) is not None

    def parse(self, text: str) -> ChainArchitecture:
        return ChainArchitecture.parse(text)

    def text_of_row(self, row: Mapping[str, str]) -> str | None:
        """Return the column ``arch_code``."""
        return row.get("arch_code", "").strip() or super().text_of_row(row)

    # -- parameters -------------------------------------------------------------------------------------------------

    @cached_property
    def distributions(self) -> dict[str, BaseDistribution]:
        from optuna.distributions import CategoricalDistribution, IntDistribution

        found: dict[str, BaseDistribution] = {"modules": IntDistribution(MODULES[0], MODULES[-1])}
        found.update(
            (f"module{place}", CategoricalDistribution(KINDS)) for place in range(1, MODULES[-1] + 1)
        )
        return found

    def names_in_use(self, values: Mapping[str, Any]) -> Iterator[str]:
        """Yield the number of modules and each of them."""
        yield "modules"
        yield from (f"module{place}" for place in range(1, values["modules"] + 1))

    def decode(self, params: Mapping[str, Any]) -> ChainArchitecture:
        """Return the chain of parameter values, or the nearest one.

        Raises:
            StructureError: If a parameter is missing or outside the space.
        """
        try:
            kinds = [params[name] for name in self.names_in_use(params)][1:]
        except KeyError as error:
            raise StructureError(f"Parameter {error.args[0]!r} is missing.") from None
        if params["modules"] not in MODULES or not set(kinds) <= set(KINDS):
            raise StructureError(
                f"Outside the space: {params['modules']} modules, {', '.join(map(str, kinds))}; allowed are "
                f"{MODULES[0]} to {MODULES[-1]} of {', '.join(KINDS)}."
            )
        wider = _kept([doubles(_DIGITS[KINDS.index(kind)]) for kind in kinds], DOUBLINGS[-1])
        smaller = _kept([halves(_DIGITS[KINDS.index(kind)]) for kind in kinds], HALVINGS[-1])
        digits = (_DIGITS[wide + 2 * small] for wide, small in zip(wider, smaller, strict=True))
        return ChainArchitecture("".join(digits), self.width)

    def encode(self, architecture: ChainArchitecture) -> dict[str, Any]:
        """Return the parameters of a chain.

        Raises:
            StructureError: If it is outside the space.
        """
        if not isinstance(architecture, ChainArchitecture) or architecture.width != self.width:
            raise StructureError(
                f"Outside the space: expected a TransNAS chain of width {self.width}, got {architecture}."
            )
        kinds = {f"module{place}": KINDS[int(d) - 1] for place, d in enumerate(architecture.modules, start=1)}
        return {"modules": len(architecture.modules), **kinds}

    # -- membership -------------------------------------------------------------------------------------------------

    def architectures(self) -> Iterator[ChainArchitecture]:
        """Return every chain."""
        return iter(self._all)

    @cached_property
    def _all(self) -> list[ChainArchitecture]:
        texts = ("".join(digits) for length in MODULES for digits in product(_DIGITS, repeat=length))
        return [chain for text in texts if (chain := self._chain(text)) is not None]

    def _chain(self, modules: str) -> ChainArchitecture | None:
        try:
            return ChainArchitecture(modules, self.width)
        except StructureError:
            return None

    def draw(self, rng: random.Random) -> ChainArchitecture:
        """Return a chain, uniformly."""
        return rng.choice(self._all)

    # -- moves ------------------------------------------------------------------------------------------------------

    def neighbours(self, architecture: ChainArchitecture) -> list[ChainArchitecture]:
        """Return the chains in which one module is another, is left out or is added."""
        own = architecture.modules
        texts = {own[:place] + digit + own[place + 1 :] for place in range(len(own)) for digit in _DIGITS}
        texts |= {own[:place] + own[place + 1 :] for place in range(len(own))}
        texts |= {own[:place] + digit + own[place:] for place in range(len(own) + 1) for digit in _DIGITS}
        return [chain for text in sorted(texts - {own}) if (chain := self._chain(text)) is not None]

    def mutate(
        self, architecture: ChainArchitecture, rng: random.Random, *, blocks: int = 1
    ) -> ChainArchitecture | None:
        """Go to a neighbour, ``blocks`` times."""
        for _ in range(blocks):
            architecture = rng.choice(self.neighbours(architecture))
        return architecture

    def shrink(self, architecture: ChainArchitecture) -> ChainArchitecture | None:
        """Return the chain without its last module that changes nothing; without one, a module more halves the map."""
        own = architecture.modules
        place = own.rfind("1")
        texts = [own[:place] + own[place + 1 :]] if place >= 0 and len(own) > MODULES[0] else []
        for old, new in (("2", "1"), ("4", "3"), ("1", "3")):
            place = own.rfind(old)
            if place >= 0:
                texts.append(own[:place] + new + own[place + 1 :])
        return next((chain for text in texts if (chain := self._chain(text)) is not None), None)


def _kept(wanted: list[bool], most: int) -> list[bool]:
    """Return which of the wanted changes are made: the first ones, or the first module's if there is none."""
    if not any(wanted):
        return [True, *wanted[1:]]
    return [own and sum(wanted[: place + 1]) <= most for place, own in enumerate(wanted)]
