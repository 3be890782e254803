"""Networks of ShuffleNAS: the space of single-path one-shot search (Guo et al., "Single Path One-Shot Neural
Architecture Search with Uniform Sampling", ECCV 2020) as its published MXNet release searches it.

Twenty blocks of ShuffleNetV2's kind in stages of 4, 4, 8 and 4. Each is one of four kinds and has an inner width: a
factor from 0.2 to 2.0 of half its stage's width. A block with stride 1 passes half of the shuffled channels on as they
are; one with stride 2 projects all of them.

The text is a digit per block for its kind (``0``, ``1``, ``2``: kernels 3, 5, 7; ``3``: Xception), a hyphen, a digit
per block for its factor (``0`` is 0.2, ``9`` is 2.0), and what differs from the plainest network of the family:
``00010010320122120020-87685734242345663346-se-mobilenetv3``. The names of published networks are read, too.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar

from zenopt.core.costs import count
from zenopt.core.description import Description, Stack, Unit
from zenopt.core.errors import StructureError
from zenopt.core.lowering import lower
from zenopt.core.primitives import Activation, Branches, Conv, Node, Shuffle, Slice, SqueezeExcite
from zenopt.core.text import quoted
from zenopt.spaces.base import BaseArchitecture
from zenopt.spaces.layers import conv_norm, conv_norm_act
from zenopt.spaces.shape import shape_profile

#: Kinds of blocks in the order of their digits.
KINDS = ("k3", "k5", "k7", "xception")
#: Inner widths in the order of their digits, in percent of half the stage's width.
PERCENTS = tuple(range(20, 201, 20))
#: Blocks of the stages; the first of each has stride 2.
STAGES = (4, 4, 8, 4)
#: Widths of the stages.
LAYOUTS = {"oneshot": (64, 160, 320, 640), "shufflenetv2+": (48, 128, 256, 512)}
#: What follows the blocks: a convolution before pooling, ShuffleNetV2+'s with a gate, MobileNetV3's after pooling.
HEADS = ("plain", "se", "mobilenetv3")
STEM_CHANNELS, GATED_CHANNELS, HEAD_CHANNELS = 16, 768, 1024
#: Of the published networks.
RESOLUTION, NUM_CLASSES = 224, 1000
#: Published networks by name.
PUBLISHED = {
    "OneShot": "00311100202110202132-65352634257546744543",
    "OneShot+": "00311100202110202132-65352634257546744543-se-mobilenetv3",
    "OneShot-S+": "00010010320122120020-87685734242345663346-se-mobilenetv3",
}

_BLOCKS = sum(STAGES)
TEXT = re.compile(r"([0-3]{20})-([0-9]{20})(-se)?(?:-(sehead|mobilenetv3))?(?:-(shufflenetv2\+))?", re.ASCII)


@dataclass(frozen=True)
class ShuffleArchitecture(BaseArchitecture):
    """A network of ShuffleNAS.

    Args:
        kinds:
            Kind of each block, one of :data:`KINDS`.
        percents:
            Inner width of each block, one of :data:`PERCENTS`.
        squeeze_excite:
            Whether the blocks of the last two stages end in a gate; all but the first stage then have hard-swish.
        head:
            One of :data:`HEADS`.
        layout:
            Widths of the stages, a key of :data:`LAYOUTS`.

    Raises:
        StructureError: If there are not twenty blocks, or one is something else.
    """

    kinds: tuple[str, ...]
    percents: tuple[int, ...]
    squeeze_excite: bool = False
    head: str = "plain"
    layout: str = "oneshot"

    family: ClassVar[str] = "shuffle"

    def __post_init__(self) -> None:
        if len(self.kinds) != _BLOCKS or len(self.percents) != _BLOCKS:
            raise StructureError(
                f"A ShuffleNAS network has {_BLOCKS} kinds of blocks and as many widths, got {len(self.kinds)} and "
                f"{len(self.percents)}."
            )
        for what, values, allowed in (
            ("kind of block", self.kinds, KINDS),
            ("inner width in percent", self.percents, PERCENTS),
            ("head", (self.head,), HEADS),
            ("layout", (self.layout,), tuple(LAYOUTS)),
        ):
            for value in values:
                if value not in allowed:
                    shown = ", ".join(map(str, allowed))
                    raise StructureError(f"ShuffleNAS has no {what} {quoted(str(value))}; allowed: {shown}.")

    @classmethod
    def parse(cls, text: str) -> ShuffleArchitecture:
        """Read the text or the published name of a network.

        Raises:
            StructureError: If it is malformed.
        """
        match = TEXT.fullmatch(PUBLISHED.get(text.strip(), text.strip()))
        if match is None:
            raise StructureError(
                "A ShuffleNAS text is 20 digits from 0 to 3, a hyphen and 20 digits, then -se, -sehead or "
                f"-mobilenetv3, -shufflenetv2+ where they hold, or a name ({', '.join(PUBLISHED)}); "
                f"got {quoted(text[:90])}."
            )
        head = {None: "plain", "sehead": "se"}.get(match[4], match[4])
        return cls(
            tuple(KINDS[int(digit)] for digit in match[1]),
            tuple(PERCENTS[int(digit)] for digit in match[2]),
            match[3] is not None,
            str(head),
            match[5] or "oneshot",
        )

    @property
    def stages(self) -> tuple[int, ...]:
        """Stage of each block, from 0."""
        return tuple(stage for stage, blocks in enumerate(STAGES) for _ in range(blocks))

    @cached_property
    def places(self) -> tuple[str, ...]:
        """Number of the block, and its kind: kinds share nothing."""
        blocks = (f"block{number}.{kind}" for number, kind in enumerate(self.kinds, start=1))
        return ("stem", *blocks, *(() if self.head == "mobilenetv3" else ("head",)))

    @cached_property
    def description(self) -> Description:
        function = "hardswish" if self.squeeze_excite else "relu"
        stem = conv_norm_act(3, STEM_CHANNELS, 3, 2, function=function)
        units: list[Unit] = [Stack("stem", stem, 3, STEM_CHANNELS, self.family)]
        names = ["stem", *(f"blocks.{index}" for index in range(_BLOCKS))]
        previous = -1
        for stage, kind, percent in zip(self.stages, self.kinds, self.percents, strict=True):
            width = LAYOUTS[self.layout][stage]
            units.append(
                ShuffleBlock(
                    kind,
                    units[-1].out_channels,
                    percent * (width // 2) // 100,
                    width,
                    2 if stage != previous else 1,
                    "relu" if stage == 0 else function,
                    self.squeeze_excite and stage >= 2,
                )
            )
            previous = stage
        last = units[-1].out_channels
        neck: tuple[Node, ...] = ()
        if self.head == "mobilenetv3":
            neck = _biased(last, function)
        else:
            is_gated = self.head == "se"
            width = GATED_CHANNELS if is_gated else HEAD_CHANNELS
            nodes = conv_norm_act(last, width, 1, function="hardswish" if is_gated else function)
            units.append(Stack("head", nodes, last, width, self.family))
            names.append("head")
            neck = (_gate(width), *_biased(width, "hardswish")) if is_gated else ()
        return Description(
            tuple(units), tuple(names), neck, HEAD_CHANNELS, dropout=0.2 if self.squeeze_excite else 0.1
        )

    def __str__(self) -> str:
        kinds = "".join(str(KINDS.index(kind)) for kind in self.kinds)
        percents = "".join(str(PERCENTS.index(percent)) for percent in self.percents)
        head = {"plain": "", "se": "-sehead"}.get(self.head, f"-{self.head}")
        layout = "" if self.layout == "oneshot" else f"-{self.layout}"
        return f"{kinds}-{percents}{'-se' * self.squeeze_excite}{head}{layout}"

    def shape_features(self) -> dict[str, float]:
        return shape_profile(self, RESOLUTION, 6)

    def published_counts(self) -> dict[str, float]:
        """Return ``params`` and ``flops``: MACs, the additions of biases, and the inputs of every global pooling."""
        layers = lower(self, RESOLUTION, num_classes=NUM_CLASSES)
        flops = sum(layer.macs + (layer.out_elements if layer.bias else 0) for layer in layers)
        flops += sum(layer.in_channels * layer.in_size**2 for layer in layers if layer.kind == "pool")
        return {"params": count(self, RESOLUTION, NUM_CLASSES).params, "flops": flops}


@dataclass(frozen=True)
class ShuffleBlock(Unit):
    """One block: its main branch beside channels that are passed on (stride 1) or projected (stride 2).

    Args:
        kind:
            One of :data:`KINDS`.
        in_channels, inner, out_channels:
            Channels that enter, those inside the main branch, and those that leave.
        stride:
            Of the block.
        function:
            Activation.
        is_gated:
            Whether the main branch ends in a gate.
    """

    kind: str
    in_channels: int
    inner: int
    out_channels: int
    stride: int
    function: str
    is_gated: bool

    @property
    def label(self) -> str:
        return self.kind

    @property
    def inner_channels(self) -> int:
        return self.inner

    def expand(self) -> tuple[Node, ...]:
        width = self.in_channels
        if self.stride == 1:
            half = width // 2
            passed: tuple[Node, ...] = (Slice(width, 0, half),)
            main = (Slice(width, half, width), *self._main(width - half, self.out_channels - half))
            joined = Branches((passed, main), "concat", ("passed", "main"), shortcut=0)
            return Shuffle(width, 2), joined
        kernel = 3 if self.kind == "xception" else int(self.kind[1:])
        projected = (*conv_norm(width, width, kernel, 2, groups=width), *self._pointwise(width, width))
        main = self._main(width, self.out_channels - width)
        return (Branches((projected, main), "concat", ("passed", "main"), shortcut=0),)

    def _main(self, in_channels: int, out_channels: int) -> tuple[Node, ...]:
        if self.kind == "xception":
            nodes = (
                *conv_norm(in_channels, in_channels, 3, self.stride, groups=in_channels),
                *self._pointwise(in_channels, self.inner),
                *conv_norm(self.inner, self.inner, 3, groups=self.inner),
                *self._pointwise(self.inner, self.inner),
                *conv_norm(self.inner, self.inner, 3, groups=self.inner),
            )
        else:
            kernel = int(self.kind[1:])
            nodes = (
                *self._pointwise(in_channels, self.inner),
                *conv_norm(self.inner, self.inner, kernel, self.stride, groups=self.inner),
            )
        gate = (_gate(out_channels),) if self.is_gated else ()
        return (*nodes, *self._pointwise(self.inner, out_channels), *gate)

    def _pointwise(self, in_channels: int, out_channels: int) -> tuple[Node, ...]:
        return conv_norm_act(in_channels, out_channels, 1, function=self.function)

    def __str__(self) -> str:
        gate = ",se" if self.is_gated else ""
        widths = f"{self.in_channels},{self.inner},{self.out_channels},{self.stride}"
        return f"ShuffleBlock({self.kind},{widths},{self.function}{gate})"


def _gate(channels: int) -> SqueezeExcite:
    """Return a gate of a quarter of the channels inside, rounded up to a multiple of 8."""
    inner = -(-(channels // 4) // 8) * 8
    return SqueezeExcite(channels, inner, norm=False, bias=True, gate="hardsigmoid", optional=False)


def _biased(in_channels: int, function: str) -> tuple[Node, ...]:
    """Return the last convolution of a head behind the pooling: with bias, without BN."""
    return Conv(in_channels, HEAD_CHANNELS, 1, bias=True), Activation(HEAD_CHANNELS, function)
