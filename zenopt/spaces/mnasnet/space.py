"""The MnasNet space: parameters ``block{i}.expansion``, ``.kernel``, ``.layers`` and ``.se``, ``i`` from 1 to 7."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar

from zenopt.spaces.mnasnet.architecture import (
    EXPANSIONS,
    KERNELS,
    MAX_LAYERS,
    NUM_CLASSES,
    RESOLUTION,
    BlockChoice,
    MnasNetArchitecture,
)
from zenopt.spaces.registry import register_space
from zenopt.spaces.slots import SlotSpace

_KEYS = ("e", "k", "l", "se")


@register_space("mnasnet")
@dataclass(frozen=True)
class MnasNetSpace(SlotSpace):
    """All 1.04e11 networks of Accel-NASBench's space.

    Args:
        initial:
            The network a search starts from; by default the shape of EfficientNet-B0.

    Raises:
        StructureError: If it is malformed.
    """

    initial: str = "e1k3l1s-e6k3l2s-e6k5l2s-e6k3l3s-e6k5l3s-e6k5l4s-e6k3l1s"

    default_resolution: ClassVar[int] = RESOLUTION
    default_num_classes: ClassVar[int] = NUM_CLASSES
    architecture_type: ClassVar[type] = MnasNetArchitecture

    def __post_init__(self) -> None:
        object.__setattr__(self, "initial", str(self.parse(self.initial)))

    @classmethod
    def recognises(cls, text: str) -> bool:
        """Return whether a text begins with a block."""
        return re.match(r"\s*e\d+k\d+l\d", text) is not None

    def parse(self, text: str) -> MnasNetArchitecture:
        return MnasNetArchitecture.parse(text)

    def text_of_row(self, row: Mapping[str, str]) -> str | None:
        """Return the columns ``block0_e``, ``block0_k``, ``block0_l``, ``block0_se``, ``block1_e``, ... as a text."""
        columns = [[f"block{index}_{key}" for key in _KEYS] for index in range(len(MAX_LAYERS))]
        if not all(column in row for block in columns for column in block):
            return super().text_of_row(row)
        blocks = [[row[column].strip() for column in block] for block in columns]
        return "-".join(
            f"e{e}k{k}l{layers}{'' if se in ('0', 'False') else 's'}" for e, k, layers, se in blocks
        )

    @cached_property
    def slots(self) -> dict[str, tuple[Any, ...]]:
        found: dict[str, tuple[Any, ...]] = {}
        for number, most in enumerate(MAX_LAYERS, start=1):
            found[f"block{number}.expansion"] = EXPANSIONS
            found[f"block{number}.kernel"] = KERNELS
            found[f"block{number}.layers"] = tuple(range(1, most + 1))
            found[f"block{number}.se"] = (False, True)
        return found

    def from_values(self, values: Sequence[Any]) -> MnasNetArchitecture:
        return MnasNetArchitecture(tuple(BlockChoice(*values[i : i + 4]) for i in range(0, len(values), 4)))

    def values_of(self, architecture: MnasNetArchitecture) -> Sequence[Any]:
        return [value for block in architecture.blocks for value in block]
