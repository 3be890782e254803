"""Architectures as data: an ordered tuple of super-blocks, with one parser and one formatter.

The canonical text is the ZenNAS structure string: super-blocks without separators, ``Name(in,out,stride,depth)`` for
convolutions and ``Name(in,out,stride,bottleneck,depth)`` for residual blocks. The block types are in ``zenopt.blocks``.
"""

from __future__ import annotations

import re
import sys
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from difflib import get_close_matches
from functools import cache, cached_property
from importlib.metadata import entry_points
from itertools import product
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar

from zenopt.core.description import Description, Unit
from zenopt.core.errors import StructureError
from zenopt.core.primitives import Node
from zenopt.core.text import QUOTED, quoted, quoted_list, shortened
from zenopt.spaces.base import BaseArchitecture

if TYPE_CHECKING:
    from zenopt.nn.network import Network

ENTRY_POINT_GROUP = "zenopt.blocks"
IMAGE_CHANNELS = 3
MAX_CHANNELS = 65_536
MAX_STRIDE = 4
MAX_DEPTH = 1_000
MAX_BLOCKS = 1_000
#: Of all blocks together: each unit of depth is several layers.
MAX_TOTAL_DEPTH = 10_000


class StructureWarning(UserWarning):
    """A structure string was repaired while it was read."""


@dataclass(frozen=True)
class Block(Unit):
    """One super-block. Subclasses register with :func:`register_block` and implement :meth:`expand`.

    A new type needs nothing else: counts, closed-form score, latency and the torch module follow from ``expand``.
    """

    in_channels: int
    out_channels: int
    stride: int
    depth: int

    arguments: ClassVar[tuple[str, ...]] = ("in_channels", "out_channels", "stride", "depth")
    #: Residual blocks are split when they get deep, and belong to a stage; stems and heads are not.
    is_residual: ClassVar[bool] = False
    in_stage: ClassVar[bool] = False
    _name_of: ClassVar[dict[tuple[int, ...], str]] = {}
    _name_fields: ClassVar[tuple[str, ...]] = ()

    def __post_init__(self) -> None:
        # Numbers are checked here, so that no block of impossible shape exists, however it was made.
        for name in self.arguments:
            _check_range(type(self).__name__, name, getattr(self, name))
        if tuple(getattr(self, name) for name in self._name_fields) not in self._name_of:
            wanted = ", ".join(f"{name}={getattr(self, name)}" for name in self._name_fields)
            known = ", ".join(sorted(self._name_of.values()))
            raise StructureError(f"{type(self).__name__} has no variant with {wanted}; allowed: {known}.")

    @property
    def type_name(self) -> str:
        """The ZenNAS name of the type, e.g. ``SuperResK1K5K1``."""
        return self._name_of[tuple(getattr(self, name) for name in self._name_fields)]

    def expand(self) -> tuple[Node, ...]:
        """Return the block as primitive nodes, in the order of execution."""
        raise NotImplementedError

    @property
    def repeats(self) -> int:
        return self.depth

    @property
    def label(self) -> str:
        """Short name for pictures and tables, e.g. ``K1K5K1``: what all types share is left out."""
        if self.type_name.startswith("SuperConv"):
            return f"{self.type_name.removeprefix('SuperConv').removesuffix('BNRELU')} conv"
        return self.type_name.removeprefix("SuperRes")

    def __str__(self) -> str:
        return f"{self.type_name}({','.join(str(getattr(self, name)) for name in self.arguments)})"


@dataclass(frozen=True)
class ResidualBlock(Block):
    """A super-block with a bottleneck width; the base of all residual types."""

    bottleneck: int

    arguments: ClassVar[tuple[str, ...]] = ("in_channels", "out_channels", "stride", "bottleneck", "depth")
    is_residual: ClassVar[bool] = True
    in_stage: ClassVar[bool] = True

    @property
    def inner_channels(self) -> int | None:
        return self.bottleneck


@dataclass(frozen=True)
class Variant:
    """A registered name: the class and the values its name fixes."""

    cls: type[Block]
    fixed: Mapping[str, int]


_VARIANTS: dict[str, Variant] = {}
_B = TypeVar("_B", bound=type[Block])


def register_block(pattern: str, **choices: Sequence[int]) -> Callable[[_B], _B]:
    """Register a block class under every name that ``pattern`` and ``choices`` give.

    Args:
        pattern:
            Name with placeholders of the fields it fixes, e.g. ``"SuperResK1K{kernel}K1"``.
        **choices:
            Allowed values of each placeholder, e.g. ``kernel=(3, 5, 7)``.

    Example:
        .. code-block:: python

            @register_block("SuperPlainK{kernel}", kernel=(3, 5))
            @dataclass(frozen=True)
            class SuperPlain(ResidualBlock):
                kernel: int

                def expand(self):
                    nodes, channels, stride = [], self.in_channels, self.stride
                    for _ in range(self.depth):
                        nodes += conv_norm(channels, self.bottleneck, self.kernel, stride)
                        nodes.append(Relu(self.bottleneck))
                        nodes += conv_norm(self.bottleneck, self.out_channels, self.kernel)
                        nodes.append(Relu(self.out_channels))
                        channels, stride = self.out_channels, 1
                    return tuple(nodes)

    Raises:
        ValueError: If a name is taken, given twice or unreadable, or the class is registered already.
    """

    def register(cls: _B) -> _B:
        if cls.__dict__.get("_name_of"):
            raise ValueError(f"{cls.__name__} is registered already, as {', '.join(cls._name_of.values())}.")
        names: dict[tuple[int, ...], str] = {}
        for values in product(*choices.values()):
            fixed = dict(zip(choices, values, strict=True))
            name = pattern.format(**fixed)
            if not _NAME.fullmatch(name):
                raise ValueError(f"Block type {name!r} must be letters, digits and underscores.")
            if name in names.values():
                raise ValueError(f"Block type {name!r} is given twice: {pattern!r} must hold every choice.")
            if name in _VARIANTS:
                raise ValueError(
                    f"Block type {name!r} is already registered by {_VARIANTS[name].cls.__name__}."
                )
            names[tuple(values)] = name
        cls._name_fields = tuple(choices)
        cls._name_of = names
        for values, name in names.items():
            _VARIANTS[name] = Variant(cls, dict(zip(choices, values, strict=True)))
        return cls

    return register


def block_types() -> list[str]:
    """Return the names of all block types: the published ones, those of installed packages, and registered ones."""
    _load_entry_points()
    return sorted(_VARIANTS)


def block_modules(type_names: Iterable[str]) -> dict[str, str]:
    """Return the module of every block type that is not zenopt's own; a type that is not known has none."""
    found = {name: _module_of(_VARIANTS[name].cls) for name in sorted(set(type_names)) if name in _VARIANTS}
    return {name: module for name, module in found.items() if module.partition(".")[0] != "zenopt"}


def _module_of(cls: type) -> str:
    main = sys.modules.get("__main__")
    if cls.__module__ != "__main__" or getattr(main, "__file__", None) is None:
        return cls.__module__
    # What another process must import is the file that was run.
    return str(main.__file__).replace("\\", "/").rpartition("/")[2].removesuffix(".py")  # type: ignore[union-attr]


@cache
def _load_entry_points() -> None:
    """Import the blocks of installed packages, when a type is asked for that nobody has registered."""
    for point in entry_points(group=ENTRY_POINT_GROUP):
        try:
            point.load()
        except Exception as error:
            # Somebody else's program may raise anything while it is imported.
            raise StructureError(
                f"Entry point {point.name!r} of {ENTRY_POINT_GROUP} ({point.value}) cannot be loaded: "
                f"{type(error).__name__}: {str(error).strip().splitlines()[0] if str(error).strip() else ''}"
            ) from error


def make_block(type_name: str, **values: int) -> Block:
    """Make a block from its type name and field values.

    Raises:
        StructureError: If the type is unknown or a value is out of range.
    """
    variant = block_variant(type_name)
    return variant.cls(**variant.fixed, **values)


@dataclass(frozen=True)
class Architecture(BaseArchitecture):
    """An ordered, immutable, hashable chain of super-blocks.

    The network it stands for is the blocks in order, global average pooling and a linear classifier.

    Args:
        blocks:
            Super-blocks; each must take the channels the previous one gives, the first takes the image's 3.

    Raises:
        StructureError: If there are no blocks or their channels do not fit.
    """

    blocks: tuple[Block, ...]

    family: ClassVar[str] = "chain"
    zen_init: ClassVar[bool] = True
    closed_forms: ClassVar[Mapping[str, str]] = {
        "zen": "zenopt.spaces.chain.closed_form.formulas:zen",
        "zen-at-64": "zenopt.spaces.chain.closed_form.formulas:zen_at_64",
    }
    ranking: ClassVar[str] = "zen at equal convolutions and log MACs"

    def __post_init__(self) -> None:
        object.__setattr__(self, "blocks", tuple(self.blocks))
        if not 1 <= len(self.blocks) <= MAX_BLOCKS:
            raise StructureError(f"An architecture has 1 to {MAX_BLOCKS} blocks, got {len(self.blocks)}.")
        if self.depth > MAX_TOTAL_DEPTH:
            raise StructureError(
                f"The depths of an architecture's blocks are at most {MAX_TOTAL_DEPTH:,} together, got {self.depth:,}."
            )
        channels = IMAGE_CHANNELS
        for index, block in enumerate(self.blocks):
            if block.in_channels != channels:
                raise StructureError(
                    f"Block {index} {block} takes {block.in_channels} channels but receives {channels}; "
                    f"use Architecture.chain to re-thread channels."
                )
            channels = block.out_channels

    @classmethod
    def chain(cls, blocks: Iterable[Block]) -> Architecture:
        """Make an architecture, setting each block's input channels to what it receives."""
        threaded = []
        channels = IMAGE_CHANNELS
        for block in blocks:
            threaded.append(block if block.in_channels == channels else replace(block, in_channels=channels))
            channels = block.out_channels
        return cls(tuple(threaded))

    @classmethod
    def parse(cls, text: str) -> Architecture:
        """Read a structure string.

        White space and ZenNAS's ``name|`` prefixes are ignored. Wrong input channels are re-threaded with a
        :class:`StructureWarning`, because a published initial structure has one.

        Args:
            text:
                E.g. ``"SuperConvK3BNRELU(3,8,1,1)SuperResK3K3(8,16,1,8,1)"``.

        Raises:
            StructureError: If anything else is wrong; the message names block, position and what is allowed.
        """
        blocks = _parse_blocks(text)
        architecture = cls.chain(blocks)
        for index, (read, used) in enumerate(zip(blocks, architecture.blocks, strict=True)):
            if read != used:
                warnings.warn(
                    f"Block {index} {read} receives {used.in_channels} channels, not {read.in_channels}; "
                    f"its input was re-threaded.",
                    StructureWarning,
                    stacklevel=2,
                )
        return architecture

    @cached_property
    def description(self) -> Description:
        """The blocks in order; gates and links are options."""
        return Description(self.blocks, depth=self.depth, has_gates=True, has_links=True)

    @cached_property
    def places(self) -> tuple[str, ...]:
        """Stage, slot and class of each residual block; what stands before and after the stages goes by its number."""
        found: list[str] = []
        stage = slot = 0
        for index, block in enumerate(self.blocks):
            if not block.in_stage:
                found.append(
                    "stem" if index == 0 else "head" if index == len(self.blocks) - 1 else f"block{index}"
                )
                continue
            # A stage is recognised by its stride; only the first may do without.
            stage, slot = (stage + 1, 1) if block.stride > 1 or stage == 0 else (stage, slot + 1)
            found.append(f"stage{stage}.block{slot}.{type(block).__name__.removeprefix('SuperRes')}")
        return tuple(found)

    @property
    def depth(self) -> int:
        """Sum of the depths of all blocks: what ZenNAS calls the number of layers."""
        return sum(block.depth for block in self.blocks)

    @property
    def out_channels(self) -> int:
        """Width of the features that enter the classifier."""
        return self.blocks[-1].out_channels

    def guarded(self) -> dict[str, float]:
        """Return the widest expansion, the narrowest bottleneck, and the stem's width."""
        residual = [block for block in self.blocks if isinstance(block, ResidualBlock)]
        found = {"stem_width": float(self.blocks[0].out_channels)}
        if residual:
            found["expansion"] = max(block.out_channels / block.bottleneck for block in residual)
            found["bottleneck"] = float(min(block.bottleneck for block in residual))
        return found

    def published_keys(self, network: Network) -> dict[str, str]:
        """Return the keys of a ZenNAS checkpoint -> ours."""
        from zenopt.spaces.chain.checkpoint import zennas_keys

        return zennas_keys(network) if network.residual else {}

    def foreign_modules(self) -> dict[str, str]:
        """Return the modules of block types that are not zenopt's own."""
        return block_modules(block.type_name for block in self.blocks)

    def __str__(self) -> str:
        return "".join(map(str, self.blocks))


def split_deep_blocks(architecture: Architecture, threshold: int = 6) -> Architecture:
    """Split residual blocks of depth ``n >= threshold`` into two of the same type, of depths 3 and ``n - 3``.

    The second has stride 1. It begins with an unconditional projection, so the costs rise (as in ZenNAS). One call
    splits each block once; Zen-NAS calls it twice per candidate.
    """
    blocks: list[Block] = []
    for block in architecture.blocks:
        if block.is_residual and block.depth >= threshold:
            blocks.append(replace(block, depth=3))
            blocks.append(replace(block, in_channels=block.out_channels, stride=1, depth=block.depth - 3))
        else:
            blocks.append(block)
    return Architecture(tuple(blocks))


_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*", re.ASCII)
_BLOCK = re.compile(rf"\s*({_NAME.pattern})\s*\(([^()]*)\)", re.ASCII)
_INTEGER = re.compile(r"[0-9]{1,9}", re.ASCII)


def _parse_blocks(text: str) -> tuple[Block, ...]:
    if not isinstance(text, str) or not text.strip():
        raise StructureError("The structure string is empty; expected e.g. 'SuperConvK3BNRELU(3,8,1,1)'.")
    blocks: list[Block] = []
    position = 0
    end = len(text.rstrip())
    while position < end:
        match = _BLOCK.match(text, position)
        if match is None:
            rest = text[position:end].lstrip()
            snippet = rest if len(rest) <= 24 else rest[:24] + "..."
            raise StructureError(
                f"Block {len(blocks)} at position {end - len(rest)}: cannot read {snippet!r}; "
                f"expected Name(number,...)."
            )
        blocks.append(_read_block(match.group(1), match.group(2), len(blocks), match.start(1)))
        if len(blocks) > MAX_BLOCKS:
            raise StructureError(f"An architecture has 1 to {MAX_BLOCKS} blocks, got more.")
        position = match.end()
    return tuple(blocks)


def _read_block(name: str, inside: str, index: int, position: int) -> Block:
    where = f"Block {index} {shortened(name, 40)} at position {position}: "
    variant = block_variant(name, where)
    wanted = variant.cls.arguments
    items = [item.strip() for item in inside.rpartition("|")[2].split(",")]
    if len(items) != len(wanted):
        raise StructureError(f"{where}takes {len(wanted)} numbers ({', '.join(wanted)}), got {len(items)}.")
    values: dict[str, int] = dict(variant.fixed)
    for argument, item in zip(wanted, items, strict=True):
        if not _INTEGER.fullmatch(item):
            raise StructureError(
                f"{where}{argument} must be an integer from 1 to {_largest(argument)}, got {quoted(item)}."
            )
        values[argument] = int(item)
    try:
        return variant.cls(**values)
    except StructureError as error:
        raise StructureError(f"{where}{str(error).removeprefix(f'{variant.cls.__name__}: ')}") from None


def block_variant(name: str, where: str = "") -> Variant:
    """Return the registered class and fixed values of a block type name.

    Raises:
        StructureError: If the type is unknown; the message begins with ``where``.
    """
    if name not in _VARIANTS:
        _load_entry_points()
    if name not in _VARIANTS:
        close = get_close_matches(name[:QUOTED], _VARIANTS, n=1)
        hint = f"; did you mean {close[0]}?" if close else "."
        raise StructureError(
            f"{where}unknown block type {quoted(name)}{hint} Known types: {quoted_list(block_types(), 150)}; blocks of "
            "your own: --import MODULE"
        )
    return _VARIANTS[name]


def _check_range(block: str, name: str, value: Any) -> None:
    limit = _largest(name)
    if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= limit:
        raise StructureError(f"{block}: {name} must be an integer from 1 to {limit}, got {quoted(value)}.")


def _largest(argument: str) -> int:
    return {"stride": MAX_STRIDE, "depth": MAX_DEPTH}.get(argument, MAX_CHANNELS)
