"""A family nobody but this folder knows: plain VGG stages, some of which join their input to their output."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, ClassVar

from zenopt.core.description import Description, Unit
from zenopt.core.errors import StructureError
from zenopt.core.primitives import Branches, Conv, Node, Norm, Pool, Relu
from zenopt.spaces import BaseArchitecture, BaseSpace, register_space

STAGES = 2
_STAGE = re.compile(r"([0-9]{1,4})x([0-9]{1,2})(\+?)")


@dataclass(frozen=True)
class Stage(Unit):
    """``depth`` convolutions of 3x3, then max pooling; a dense stage concatenates its input before it pools."""

    in_channels: int
    width: int
    depth: int
    dense: bool

    @property
    def out_channels(self) -> int:  # type: ignore[override]
        return self.width + self.in_channels * self.dense

    def expand(self) -> tuple[Node, ...]:
        convs: list[Node] = []
        channels = self.in_channels
        for _ in range(self.depth):
            convs += [Conv(channels, self.width, 3), Norm(self.width), Relu(self.width)]
            channels = self.width
        body = (Branches((tuple(convs), ()), "concat"),) if self.dense else tuple(convs)
        return (*body, Pool(self.out_channels, 2, 2, "max"))

    def __str__(self) -> str:
        return f"VggStage({self.in_channels},{self.width},{self.depth},{int(self.dense)})"


@dataclass(frozen=True)
class DenseVgg(BaseArchitecture):
    """Stages of (width, depth, dense); the text is ``vgg-16x2-32x1+``."""

    stages: tuple[tuple[int, int, bool], ...]

    family: ClassVar[str] = "densevgg"

    @classmethod
    def parse(cls, text: str) -> DenseVgg:
        head, *parts = text.strip().split("-")
        found = [_STAGE.fullmatch(part) for part in parts]
        if head != "vgg" or len(parts) != STAGES or not all(found):
            raise StructureError(
                f"Expected vgg- and {STAGES} stages such as 16x2 or 16x2+, got {text[:60]!r}."
            )
        return cls(tuple((int(m[1]), int(m[2]), m[3] == "+") for m in found if m))

    @cached_property
    def description(self) -> Description:
        units: list[Unit] = []
        channels = 3
        for width, depth, dense in self.stages:
            units.append(Stage(channels, width, depth, dense))
            channels = units[-1].out_channels
        return Description(tuple(units))

    def __str__(self) -> str:
        return "vgg-" + "-".join(f"{width}x{depth}{'+' * dense}" for width, depth, dense in self.stages)


@register_space("densevgg")
@dataclass(frozen=True)
class DenseVggSpace(BaseSpace):
    """Two stages of up to ``max_width`` channels."""

    max_width: int = 24
    initial: str = "vgg-8x1-8x1"

    @classmethod
    def recognises(cls, text: str) -> bool:
        return text.lstrip().startswith("vgg-")

    def parse(self, text: str) -> DenseVgg:
        return DenseVgg.parse(text)

    @cached_property
    def distributions(self) -> dict[str, Any]:
        from optuna.distributions import CategoricalDistribution, IntDistribution

        found: dict[str, Any] = {}
        for stage in range(1, STAGES + 1):
            found[f"stage{stage}.width"] = IntDistribution(8, self.max_width, step=8)
            found[f"stage{stage}.depth"] = IntDistribution(1, 3)
            found[f"stage{stage}.dense"] = CategoricalDistribution((False, True))
        return found

    def decode(self, params: Mapping[str, Any]) -> DenseVgg:
        try:
            stages = [
                tuple(params[f"stage{stage}.{key}"] for key in ("width", "depth", "dense"))
                for stage in range(1, STAGES + 1)
            ]
        except KeyError as error:
            raise StructureError(f"Parameter {error.args[0]!r} is missing.") from None
        return DenseVgg(tuple(stages))  # type: ignore[arg-type]

    def encode(self, architecture: DenseVgg) -> dict[str, Any]:
        params: dict[str, Any] = {}
        for stage, (width, depth, dense) in enumerate(architecture.stages, start=1):
            if width % 8 or not 8 <= width <= self.max_width or not 1 <= depth <= 3:
                raise StructureError(f"Outside the space: stage {stage} of {architecture}.")
            params.update(
                {f"stage{stage}.width": width, f"stage{stage}.depth": depth, f"stage{stage}.dense": dense}
            )
        return params

    def shrink(self, architecture: DenseVgg) -> DenseVgg | None:
        for key, smallest, step in ((1, 1, 1), (0, 8, 8)):
            for index, stage in enumerate(architecture.stages):
                if stage[key] > smallest:
                    values = list(stage)
                    values[key] -= step
                    stages = (*architecture.stages[:index], tuple(values), *architecture.stages[index + 1 :])
                    return replace(architecture, stages=stages)  # type: ignore[arg-type]
        return None
