"""The picture of a network: every convolution drawn to scale, with what each block costs. Plain SVG, no dependency."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from zenopt.core.words import plural
from zenopt.report.anatomy import Anatomy, BlockFacts
from zenopt.report.diagram import diagram_content
from zenopt.report.slabs import BODY_WIDTH, BODY_X, body_height, is_grouped, slabs
from zenopt.report.svg import STYLE_FILE, WIDTH, frame, heading, kernel_class, nice_below, text

__all__ = ["STYLE_FILE", "WIDTH", "draw"]

_MAP_X, _MAP_MAX = 2, 44
_TEXT_X = 236
_SHARE_WIDTH, _SHARE_STEP = 52, 61
_ROW, _COMPACT_ROW = 54, 25
#: Height above which a row gets two lines instead of three.
_TALL = 1000


def draw(anatomy: Anatomy, title: str = "", *, standalone: bool = False) -> str:
    """Draw a network from top (image) to bottom (classifier).

    One slab is one convolution of the main path: as wide as its output channels (linear scale, the ruler says which),
    coloured by kernel, outlined where it is depthwise. Brackets at the left of the slabs are shortcuts, with a square
    where they project; dots at the right are squeeze-excite gates. The squares at the far left are the feature maps, to
    the scale of the input image. The bars at the right are the block's shares of the network's params, MACs and
    latency. Different cells are drawn as diagrams above the blocks.

    Args:
        anatomy:
            The network.
        title:
            Line above the picture.
        standalone:
            Include the style sheet, for a file of its own; a page that shows several includes it once.

    Returns:
        An ``<svg>`` element.
    """
    widest = max((conv.out_channels for block in anatomy.blocks for conv in block.convs), default=1)
    is_compact = sum(_height(block, _ROW) for block in anatomy.blocks) > _TALL
    lines, y = heading(title)
    parts = [lines]
    for name, diagram in anatomy.cells:
        content, height = diagram_content(diagram, y + 24)
        parts += [text(0, y + 14, name, "zp-faint"), content]
        y += height + 36
    header, y = _header(anatomy, y, widest)
    parts.append(header)
    stage: int | None = None
    for index, block in enumerate(anatomy.blocks):
        opens_stage = block.stage is not None and block.stage != stage
        changes_size = index == 0 or block.out_size != anatomy.blocks[index - 1].out_size
        map_room = _map_side(block, anatomy) + (34 if opens_stage else 22) if changes_size else 0
        height = max(_height(block, _COMPACT_ROW if is_compact else _ROW), map_room)
        if index and (opens_stage or block.stage != stage):
            parts.append(_rule(y))
        parts.append(f"<g><title>{escape(_tooltip(block, anatomy))}</title>")
        parts.append(f'<rect class="zp-hit" x="0" y="{y:.1f}" width="{WIDTH}" height="{height:.1f}"/>')
        parts.append(_map(block, anatomy, y, opens_stage, changes_size))
        parts.append(slabs(block, y, height, widest))
        parts.append((_line if is_compact else _words)(block, anatomy, y, height))
        parts.append("</g>")
        stage = block.stage
        y += height
    parts += [_rule(y), text(0, y + 17, _totals(anatomy), "zp-strong")]
    return frame("".join(parts), y + 26, title or "Picture of a network", standalone=standalone)


def _height(block: BlockFacts, least: float) -> float:
    return max(least, body_height(block) + (14 if least == _ROW else 6))


def _rule(y: float) -> str:
    return f'<line class="zp-rule" x1="0" x2="{WIDTH}" y1="{y:.1f}" y2="{y:.1f}"/>'


def _header(anatomy: Anatomy, top: float, widest: int) -> tuple[str, float]:
    """Return the legend, the ruler of channels and the names of the costs, and where they end."""
    y = top + 8
    found = []
    convs = [conv for block in anatomy.blocks for conv in block.convs]
    x = 0.0
    for kernel in sorted({conv.kernel for conv in convs}):
        found.append(_sample(x, y, kernel_class(kernel)) + text(x + 14, y + 9, f"{kernel}×{kernel}"))
        x += 46
    for position, (name, _) in enumerate(_shares(anatomy.blocks[0], anatomy)):
        found.append(text(_TEXT_X + position * _SHARE_STEP, y + 9, name, f"zp-{name.lower()}"))
    found.append(text(_TEXT_X, y + 25, "share of each block", "zp-faint"))
    shortcuts = [shortcut for block in anatomy.blocks for shortcut in block.shortcuts]
    marks = [
        (any(map(is_grouped, convs)), _sample(0, 0, "zp-k3 zp-grouped"), "depthwise or grouped"),
        (bool(shortcuts), '<path class="zp-shortcut" d="M8 0H5Q3 0 3 2V8Q3 10 5 10H8"/>', "shortcut"),
        (
            any(shortcut.projection is not None for shortcut in shortcuts),
            '<path class="zp-shortcut" d="M8 0H5Q3 0 3 2V8Q3 10 5 10H8"/><rect class="zp-projection" x="0.5" y="2.5" '
            'width="5" height="5"/>',
            "projected",
        ),
        (any(block.gates for block in anatomy.blocks), '<circle class="zp-gate" cx="5" cy="5" r="3"/>', "SE"),
    ]
    x, line = 0.0, y + 16
    for is_there, mark, words in marks:
        if not is_there:
            continue
        if x + 16 + 6.4 * len(words) > _TEXT_X - 8:
            x, line = 0.0, line + 16
        found.append(
            f'<g transform="translate({x:.0f} {line:.0f})">{mark}</g>{text(x + 14, line + 9, words)}'
        )
        x += 26 + 6.2 * len(words)
    y = line + (16 if x else 0)
    found.append(_ruler(y, widest))
    return "".join(found), y + 30


def _sample(x: float, y: float, css: str) -> str:
    return f'<rect class="zp-sample {css}" x="{x:.0f}" y="{y:.0f}" width="10" height="10" rx="2"/>'


def _ruler(y: float, widest: int) -> str:
    """Return the scale of the slabs' widths."""
    full = nice_below(widest)
    left, length = BODY_X - BODY_WIDTH / 2, BODY_WIDTH * full / widest
    ticks = "".join(f"M{left + length * share:.1f} {y + 18:.1f}v4" for share in (0, 0.5, 1))
    path = f'<path class="zp-ruler" d="M{left:.1f} {y + 20:.1f}h{length:.1f}{ticks}"/>'
    middle = text(left + length / 2, y + 14, f"{full / 2:g}", "zp-faint", "middle") if full > 1 else ""
    return (
        f"{path}{text(_MAP_X, y + 23, 'channels', 'zp-faint')}{text(left, y + 14, '0', 'zp-faint', 'middle')}{middle}"
        f"{text(left + length, y + 14, str(full), 'zp-faint', 'middle')}"
    )


def _map(block: BlockFacts, anatomy: Anatomy, y: float, opens_stage: bool, changes_size: bool) -> str:
    """Return the feature map and the stage, where a block begins one."""
    parts = [text(_MAP_X, y + 13, f"stage {block.stage}", "zp-faint")] if opens_stage else []
    if changes_size and (block.convs or block.out_size > 1):
        side, top = _map_side(block, anatomy), y + (17 if opens_stage else 5)
        parts.append(
            f'<rect class="zp-map" x="{_MAP_X}" y="{top:.1f}" width="{side:.1f}" height="{side:.1f}"/>'
        )
        parts.append(text(_MAP_X, top + side + 11, f"{block.out_size}×{block.out_size}", "zp-small"))
    return "".join(parts)


def _map_side(block: BlockFacts, anatomy: Anatomy) -> float:
    return max(2.0, _MAP_MAX * block.out_size / anatomy.resolution)


def _words(block: BlockFacts, anatomy: Anatomy, y: float, height: float) -> str:
    """Return a block's name, shape and shares, below each other."""
    parts = [text(_TEXT_X, y + 13, _name(block), "zp-strong"), text(_TEXT_X, y + 27, _shape(block, anatomy))]
    for position, (name, share) in enumerate(_shares(block, anatomy)):
        x = _TEXT_X + position * _SHARE_STEP
        parts.append(text(x, y + 40, _percent(share), "zp-small"))
        parts.append(_bar(x, y + 43, _SHARE_WIDTH, 5, name, share))
    return "".join(parts)


def _line(block: BlockFacts, anatomy: Anatomy, y: float, height: float) -> str:
    """Return a block's name and shape in one line over its shares, for networks of very many blocks."""
    words = (
        f'<text class="zp-text zp-small" x="{_TEXT_X}" y="{y + 11:.1f}"><tspan class="zp-strong">'
        f'{escape(_name(block, 12))}</tspan> <tspan class="zp-faint">{escape(_shape(block, anatomy, short=True))}'
        "</tspan></text>"
    )
    bars = [
        _bar(_TEXT_X + position * _SHARE_STEP, y + 16, _SHARE_WIDTH, 4, name, share)
        for position, (name, share) in enumerate(_shares(block, anatomy))
    ]
    return words + "".join(bars)


def _bar(x: float, y: float, width: float, height: float, name: str, share: float) -> str:
    box = f'x="{x}" y="{y:.1f}" height="{height}" rx="{height / 2 - 0.5:g}"'
    return (
        f'<rect class="zp-track" {box} width="{width}"/>'
        f'<rect class="zp-bar zp-bar-{name.lower()}" {box} width="{width * share:.1f}"/>'
    )


def _totals(anatomy: Anatomy) -> str:
    facts = [f"{anatomy.params:,} params", f"{anatomy.macs / 1e6:,.1f} M MACs"]
    if anatomy.latency_ms is not None:
        facts.append(f"{anatomy.latency_ms:.4f} ms predicted")
    return " · ".join(facts)


def _shares(block: BlockFacts, anatomy: Anatomy) -> Sequence[tuple[str, float]]:
    found = [
        ("params", block.params / max(1, anatomy.params)),
        ("MACs", block.macs / max(1, anatomy.macs)),
    ]
    if anatomy.latency_ms:
        found.append(("latency", (block.latency_ms or 0.0) / anatomy.latency_ms))
    return found


def _name(block: BlockFacts, longest: int = 20) -> str:
    name = block.name if len(block.name) <= longest else block.name[: longest - 1] + "…"
    return f"{name} × {block.depth}" if block.depth > 1 else name


def _shape(block: BlockFacts, anatomy: Anatomy, *, short: bool = False) -> str:
    if not block.convs and block.name == "pool, linear":
        return f"{block.in_channels} to {plural(anatomy.num_classes, 'class')}"
    inner = f", inner {block.inner_channels}" if block.inner_channels is not None else ""
    stride = "" if block.stride <= 1 else f", /{block.stride}" if short else f", stride {block.stride}"
    return f"{block.out_channels} ch{inner}{stride}"


def _tooltip(block: BlockFacts, anatomy: Anatomy) -> str:
    lines = [
        _name(block),
        f"{block.in_channels}×{block.in_size}×{block.in_size} to "
        f"{block.out_channels}×{block.out_size}×{block.out_size}",
        f"{len(block.convs)} convolutions on the main path",
        f"{block.params:,} params, {block.macs:,} MACs",
    ]
    if block.latency_ms is not None:
        lines.append(f"{block.latency_ms:.5f} ms predicted for {anatomy.device}")
    return "\n".join(lines)


def _percent(share: float) -> str:
    return f"{100 * share:.1f} %" if share < 0.1 else f"{100 * share:.0f} %"
