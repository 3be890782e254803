"""Spaces of super-block chains: Optuna parameters <-> architecture, and the Zen-NAS mutation.

A chain is stem, stages, head. A *stage* is a run of residual super-blocks of which only the first has a stride.
Parameters are named ``stage{i}.blocks``, ``stage{i}.block{j}.type`` (and ``.kernel``, ``.expansion``, ``.width``,
``.bottleneck``, ``.depth``), ``stem.width`` and ``head.width``, with ``i`` and ``j`` counted from 1.
"""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cached_property, partial
from itertools import accumulate
from math import prod
from typing import TYPE_CHECKING, Any, ClassVar

from zenopt.core.errors import StructureError
from zenopt.core.primitives import round_to_8
from zenopt.spaces.base import BaseSpace
from zenopt.spaces.chain.architecture import (
    Architecture,
    Block,
    ResidualBlock,
    block_modules,
    block_variant,
    make_block,
    split_deep_blocks,
)
from zenopt.spaces.chain.bounds import SPLIT_THRESHOLD, check_chain
from zenopt.spaces.chain.fork import mutate_fork, random_architecture
from zenopt.spaces.chain.mutation import PUBLISHED_TYPE_WEIGHTS, depth_choices, width_choices

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution

_STRUCTURE = re.compile(r"\s*[A-Za-z_][A-Za-z0-9_]*\s*\(\s*(?:[^()|]*\|)?\s*[0-9]", re.ASCII)


@dataclass(frozen=True)
class ChainSpace(BaseSpace):
    """All chains of the given block types within bounds.

    Args:
        blocks:
            Names of the residual block types that may be used.
        stage_strides:
            Stride of the first block of each stage; only the first stage may have stride 1.
        stem:
            Type of the stem, e.g. ``"SuperConvK3BNRELU"``.
        stem_stride:
            Its stride.
        head:
            Type of the last convolution.
        initial:
            Structure a search starts from; if empty, one block of the first type per stage, of doubling widths.
        slots:
            Most blocks in a stage.
        max_depth:
            Largest depth of a block.
        max_width:
            Largest width of a block or the stem in channels, a multiple of 8.
        max_bottleneck:
            Largest bottleneck in channels, a multiple of 8.
        max_head:
            Largest width of the head in channels, a multiple of 8.
        head_width:
            Fixed width of the head; ``None`` makes it a parameter.
        type_weights:
            Relative frequency of each type in mutations. Defaults to the published ones; a type without one gets 1.

    Raises:
        SpecError: If a bound or a block type is not usable.
    """

    blocks: tuple[str, ...]
    stage_strides: tuple[int, ...] = (1, 2, 2, 2)
    stem: str = "SuperConvK3BNRELU"
    stem_stride: int = 1
    head: str = "SuperConvK1BNRELU"
    initial: str = ""
    slots: int = 8
    max_depth: int = 5
    max_width: int = 2048
    max_bottleneck: int = 2048
    max_head: int = 8192
    head_width: int | None = None
    type_weights: Mapping[str, float] | None = None

    array_screen: ClassVar[str] = "zenopt.spaces.chain.screening:ArrayScreen"

    def __post_init__(self) -> None:
        object.__setattr__(self, "blocks", tuple(self.blocks))
        object.__setattr__(self, "stage_strides", tuple(self.stage_strides))
        check_chain(self)
        if not self.initial:
            object.__setattr__(self, "initial", str(self._plain()))

    def _plain(self) -> Architecture:
        """Return a small chain like the published initial ones."""
        width = 8
        blocks = [self._make(self.stem, 3, width, self.stem_stride)]
        for stride in self.stage_strides:
            width = min(2 * width, self.max_width)
            bottleneck = min(round_to_8(width / 2), self.max_bottleneck)
            blocks.append(
                make_block(
                    self.blocks[0],
                    in_channels=8,
                    out_channels=width,
                    stride=stride,
                    bottleneck=bottleneck,
                    depth=1,
                )
            )
        head = self.head_width or min(2 * width, self.max_head)
        return Architecture.chain([*blocks, self._make(self.head, 8, head, 1)])

    # -- parameters -------------------------------------------------------------------------------------------------

    @cached_property
    def _choices(self) -> dict[str, tuple[Any, ...]]:
        """Categorical parameters of a block: family and name fields, or the full type name.

        Families with name fields read best (``type=K1KXK1, kernel=5``), but only a full product of them can be spelled
        with independent parameters; other lists of types use one parameter with the full names.
        """
        variants = [block_variant(name) for name in self.blocks]
        names = {name for variant in variants for name in variant.fixed}
        fields = {
            name: tuple(sorted({variant.fixed[name] for variant in variants if name in variant.fixed}))
            for name in sorted(names, reverse=True)
        }
        classes = dict.fromkeys(variant.cls for variant in variants)
        families = tuple(dict.fromkeys(_family(cls) for cls in classes))
        is_product = len(self.blocks) == len(classes) * prod(len(values) for values in fields.values())
        if is_product and len(families) == len(classes) and all(set(v.fixed) == names for v in variants):
            return {"type": families, **fields}
        return {"type": self.blocks}

    @cached_property
    def _type_of(self) -> dict[tuple[Any, ...], str]:
        """Values of the categorical parameters -> type name."""
        return {tuple(self._categories(name).values()): name for name in self.blocks}

    def _categories(self, type_name: str) -> dict[str, Any]:
        if self._choices == {"type": self.blocks}:
            return {"type": type_name}
        variant = block_variant(type_name)
        values = {"type": _family(variant.cls), **variant.fixed}
        return {key: values[key] for key in self._choices}

    @cached_property
    def distributions(self) -> dict[str, BaseDistribution]:
        """Every parameter of the space with its distribution, the same in every trial."""
        from optuna.distributions import CategoricalDistribution, IntDistribution

        block: dict[str, BaseDistribution] = {
            key: CategoricalDistribution(choices) for key, choices in self._choices.items()
        }
        block["width"] = IntDistribution(8, self.max_width, log=True)
        block["bottleneck"] = IntDistribution(8, self.max_bottleneck, log=True)
        block["depth"] = IntDistribution(1, self.max_depth)
        found: dict[str, BaseDistribution] = {"stem.width": IntDistribution(8, self.max_width, log=True)}
        for stage in range(1, len(self.stage_strides) + 1):
            found[f"stage{stage}.blocks"] = IntDistribution(1, self.slots)
            for slot in range(1, self.slots + 1):
                found.update((f"stage{stage}.block{slot}.{key}", value) for key, value in block.items())
        if self.head_width is None:
            found["head.width"] = IntDistribution(8, self.max_head, log=True)
        return found

    def names_in_use(self, values: Mapping[str, Any]) -> Iterator[str]:
        """Yield the parameters of filled slots."""
        yield "stem.width"
        keys = (*self._choices, "width", "bottleneck", "depth")
        for stage in range(1, len(self.stage_strides) + 1):
            yield f"stage{stage}.blocks"
            for slot in range(1, values[f"stage{stage}.blocks"] + 1):
                yield from (f"stage{stage}.block{slot}.{key}" for key in keys)
        if self.head_width is None:
            yield "head.width"

    @classmethod
    def recognises(cls, text: str) -> bool:
        """Return whether a text is a name followed by numbers in brackets."""
        return _STRUCTURE.match(text) is not None

    def parse(self, text: str) -> Architecture:
        """Read the canonical text of an architecture of this family."""
        return Architecture.parse(text)

    def decode(self, params: Mapping[str, Any]) -> Architecture:
        """Return the architecture of parameter values; widths are rounded to the nearest multiple of 8.

        Raises:
            StructureError: If a parameter is missing or outside the space.
        """
        try:
            blocks = [self._make(self.stem, 3, round_to_8(params["stem.width"]), self.stem_stride)]
            for stage, first_stride in enumerate(self.stage_strides, start=1):
                for slot in range(1, params[f"stage{stage}.blocks"] + 1):
                    prefix = f"stage{stage}.block{slot}."
                    categories = tuple(params[prefix + key] for key in self._choices)
                    if categories not in self._type_of:
                        raise StructureError(
                            f"Outside the space: {prefix}* spells no block type: {', '.join(map(str, categories))}."
                        )
                    blocks.append(
                        make_block(
                            self._type_of[categories],
                            in_channels=8,
                            out_channels=round_to_8(params[prefix + "width"]),
                            stride=first_stride if slot == 1 else 1,
                            bottleneck=round_to_8(params[prefix + "bottleneck"]),
                            depth=params[prefix + "depth"],
                        )
                    )
            head = round_to_8(params["head.width"]) if self.head_width is None else self.head_width
            blocks.append(self._make(self.head, 8, head, 1))
        except KeyError as error:
            raise StructureError(f"Parameter {error.args[0]!r} is missing.") from None
        architecture = Architecture.chain(blocks)
        self._check(architecture)
        return architecture

    def encode(self, architecture: Architecture) -> dict[str, Any]:
        """Return the parameters of an architecture; the inverse of :meth:`decode`.

        Raises:
            StructureError: If the architecture is outside the space; the message names the block and the limit.
        """
        stages = self.stages(architecture)
        params: dict[str, Any] = {"stem.width": architecture.blocks[0].out_channels}
        for stage, blocks in enumerate(stages, start=1):
            params[f"stage{stage}.blocks"] = len(blocks)
            for slot, block in enumerate(blocks, start=1):
                prefix = f"stage{stage}.block{slot}."
                for key, value in self._categories(block.type_name).items():
                    params[prefix + key] = value
                params[prefix + "width"] = block.out_channels
                params[prefix + "bottleneck"] = block.bottleneck
                params[prefix + "depth"] = block.depth
        if self.head_width is None:
            params["head.width"] = architecture.out_channels
        return params

    # -- membership -------------------------------------------------------------------------------------------------

    def stages(self, architecture: Architecture) -> list[list[ResidualBlock]]:
        """Return the residual blocks by stage.

        Raises:
            StructureError: If the architecture is outside the space.
        """
        self._check(architecture)
        stages: list[list[ResidualBlock]] = []
        for block in architecture.blocks[1:-1]:
            if not stages or block.stride > 1:
                stages.append([])
            stages[-1].append(block)  # type: ignore[arg-type]
        return stages

    def contains(self, architecture: Architecture) -> bool:
        """Return whether the architecture can be spelled in this space."""
        return self._problem(architecture) is None

    def _check(self, architecture: Architecture) -> None:
        problem = self._problem(architecture)
        if problem:
            raise StructureError(f"Outside the space: {problem}.")

    def _problem(self, architecture: Any) -> str | None:
        if not isinstance(architecture, Architecture):
            return f"expected super-blocks, got {type(architecture).__name__}"
        if len(architecture.blocks) < 3:
            return f"a stem, residual blocks and a head are needed, got only {architecture}"
        stem, *body, head = architecture.blocks
        if stem.type_name != self.stem or stem.stride != self.stem_stride or stem.depth != 1:
            return f"the stem must be {self.stem} with stride {self.stem_stride} and depth 1, got {stem}"
        if head.type_name != self.head or head.stride != 1 or head.depth != 1:
            return f"the head must be {self.head} with stride 1 and depth 1, got {head}"
        if self.head_width is None and head.out_channels > self.max_head:
            return f"head width {head.out_channels} exceeds max_head {self.max_head}"
        if self.head_width is not None and head.out_channels != self.head_width:
            return f"the head's width is fixed at {self.head_width}, got {head.out_channels}"
        strides: list[int] = []
        filled = 0
        for index, block in enumerate(body, start=1):
            if block.type_name not in self.blocks or not isinstance(block, ResidualBlock):
                return f"block {index} {block} is not of an allowed type ({', '.join(self.blocks)})"
            for name, value, limit in (
                ("depth", block.depth, self.max_depth),
                ("width", block.out_channels, self.max_width),
                ("bottleneck", block.bottleneck, self.max_bottleneck),
            ):
                if value > limit:
                    return f"{name} {value} of block {index} {block} exceeds max_{name} {limit}"
            if block.out_channels % 8 or block.bottleneck % 8:
                return f"block {index} {block} has a width that is not a multiple of 8"
            if not strides or block.stride > 1:
                strides.append(block.stride)
                filled = 0
            filled += 1
            if filled > self.slots:
                return f"stage {len(strides)} has more than {self.slots} blocks"
        if tuple(strides) != self.stage_strides:
            return f"the strides of the stages must be {self.stage_strides}, got {tuple(strides)}"
        if stem.out_channels > self.max_width or stem.out_channels % 8 or head.out_channels % 8:
            return f"stem and head widths must be multiples of 8, the stem's at most {self.max_width}"
        return None

    # -- moves ------------------------------------------------------------------------------------------------------

    def mutate(
        self, architecture: Architecture, rng: random.Random, *, blocks: int = 2
    ) -> Architecture | None:
        """Mutate as Zen-NAS does.

        ``blocks`` draws of a block index; a repeated index is skipped. A residual block gets a new type (with the
        published weights), width, bottleneck and depth, the stem and the head a new width. Then input channels are
        re-threaded and blocks of depth 6 and more are split, twice.

        Args:
            architecture:
                The parent, inside the space.
            rng:
                Source of randomness.
            blocks:
                Number of draws; Zen-NAS uses 1 while the population is small.

        Returns:
            The child, or ``None`` where the result has no place in the space (e.g. a split without a free slot).
        """
        chain = list(architecture.blocks)
        last = len(chain) - 1
        drawn: set[int] = set()
        for _ in range(blocks):
            index = rng.randrange(len(chain))
            if index in drawn:
                continue
            drawn.add(index)
            block = chain[index]
            if isinstance(block, ResidualBlock):
                chain[index] = make_block(
                    rng.choices(self.blocks, cum_weights=self._cumulative_weights)[0],
                    in_channels=block.in_channels,
                    out_channels=rng.choice(width_choices(block.out_channels, self.max_width)),
                    stride=block.stride,
                    bottleneck=rng.choice(width_choices(block.bottleneck, self.max_bottleneck)),
                    depth=rng.choice(depth_choices(block.depth)),
                )
            elif index < last or self.head_width is None:
                largest = self.max_width if index < last else self.max_head
                chain[index] = replace(
                    block, out_channels=rng.choice(width_choices(block.out_channels, largest))
                )
        child = split_deep_blocks(
            split_deep_blocks(Architecture.chain(chain), SPLIT_THRESHOLD), SPLIT_THRESHOLD
        )
        return child if self.contains(child) else None

    @cached_property
    def _cumulative_weights(self) -> list[float]:
        weights = {**PUBLISHED_TYPE_WEIGHTS, **(self.type_weights or {})}
        return list(accumulate(weights.get(name, 1.0) for name in self.blocks))

    def neighbours(self, architecture: Architecture) -> list[Architecture]:
        """Return the chains that one change of one block of a Zen-NAS mutation leads to, splits left out."""
        chain = architecture.blocks
        last = len(chain) - 1
        changes: list[tuple[int, Block]] = []
        for index, block in enumerate(chain):
            if isinstance(block, ResidualBlock):
                fields = {
                    "in_channels": block.in_channels, "out_channels": block.out_channels, "stride": block.stride,
                    "bottleneck": block.bottleneck, "depth": block.depth,
                }  # fmt: skip
                changes += [(index, make_block(name, **fields)) for name in self.blocks]
                changes += [
                    (index, replace(block, bottleneck=width))
                    for width in width_choices(block.bottleneck, self.max_bottleneck)
                ]
                changes += [
                    (index, replace(block, depth=depth))
                    for depth in depth_choices(block.depth)
                    if depth <= self.max_depth
                ]
            if index < last or self.head_width is None:
                largest = self.max_width if index < last else self.max_head
                changes += [
                    (index, replace(block, out_channels=width))
                    for width in width_choices(block.out_channels, largest)
                ]
        found: dict[Architecture, None] = {}
        for index, block in changes:
            child = Architecture.chain((*chain[:index], block, *chain[index + 1 :]))
            if child != architecture and self.contains(child):
                found.setdefault(child)
        return list(found)

    @property
    def moves(self) -> dict[str, Callable[..., Any | None]]:
        """Zen-NAS's mutation and the fork's."""
        return {"zen": self.mutate, "fork": partial(mutate_fork, self)}

    def draw(self, rng: random.Random) -> Any | None:
        """Return a random architecture as the fork draws them; where bounds do not hold such a one, a random walk."""
        return random_architecture(self, rng) or super().draw(rng)

    def foreign_modules(self) -> dict[str, str]:
        """Return the modules of block types that are not zenopt's own."""
        return {**super().foreign_modules(), **block_modules((*self.blocks, self.stem, self.head))}

    def scale(self, architecture: Architecture, *, width: float = 1.0, depth: float = 1.0) -> Architecture:
        """Return a chain with scaled widths, bottlenecks and depths; see :mod:`zenopt.spaces.chain.scaling`."""
        from zenopt.spaces.chain.scaling import Factors, scale

        return scale(architecture, Factors(width, depth))

    def shrink(self, architecture: Architecture) -> Architecture | None:
        """Return a slightly smaller architecture; ``None`` when nothing is left to cut.

        Depths are cut first, then blocks that are not the only one of their stage, then all widths together.
        """
        chain = list(architecture.blocks)
        deepest = max(range(len(chain)), key=lambda index: (chain[index].depth, index))
        if chain[deepest].depth > 1:
            chain[deepest] = replace(chain[deepest], depth=chain[deepest].depth - 1)
            return Architecture.chain(chain)
        for index in range(len(chain) - 2, 1, -1):
            if chain[index].stride == 1:
                return Architecture.chain(chain[:index] + chain[index + 1 :])
        smaller = []
        for index, block in enumerate(chain):
            is_fixed = index == len(chain) - 1 and self.head_width is not None
            width = block.out_channels if is_fixed else _narrower(block.out_channels)
            cut = replace(block, out_channels=width)
            if isinstance(cut, ResidualBlock):
                cut = replace(cut, bottleneck=_narrower(cut.bottleneck))
            smaller.append(cut)
        result = Architecture.chain(smaller)
        return None if result == architecture else result

    def _make(self, type_name: str, in_channels: int, out_channels: int, stride: int) -> Block:
        return make_block(
            type_name, in_channels=in_channels, out_channels=out_channels, stride=stride, depth=1
        )


def _narrower(width: int) -> int:
    return max(8, min(width - 8, round_to_8(width * 0.85)))


def _family(cls: type[Block]) -> str:
    return cls.__name__.removeprefix("SuperRes")
