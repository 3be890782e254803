"""The picture of a network: every convolution drawn to scale, with what each block costs. Plain SVG, no dependency."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from pathlib import Path

from zenopt.core.lowering import Layer
from zenopt.report.anatomy import Anatomy, BlockFacts

STYLE_FILE = Path(__file__).resolve().parent / "assets" / "picture.css"

# Geometry in SVG units; the picture is as wide as a phone's screen and scales from there.
WIDTH = 420
_MAP_X, _MAP_MAX = 2, 44
_BODY_X, _BODY_WIDTH = 142, 164
_TEXT_X = 236
_SHARE_WIDTH, _SHARE_STEP = 52, 61
_SLAB, _GAP = 3.2, 0.6
_ROW_MIN = 60
_TOP = 58
_KERNELS = (1, 3, 5, 7)


def draw(anatomy: Anatomy, title: str = "", *, standalone: bool = False) -> str:
    """Draws a network from top (image) to bottom (classifier).

    One slab is one convolution of the main path: as wide as its output channels (linear scale), coloured by kernel,
    outlined where it is depthwise. The squares at the left are the feature maps, to the scale of the input image. The
    bars at the right are the block's shares of the network's params, MACs and latency.

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
    parts: list[str] = []
    y = float(_TOP)
    stage: int | None = None
    for index, block in enumerate(anatomy.blocks):
        opens_stage = block.stage is not None and block.stage != stage
        changes_size = index == 0 or block.out_size != anatomy.blocks[index - 1].out_size
        map_room = _map_side(block, anatomy) + (34 if opens_stage else 22) if changes_size else 0
        height = max(_ROW_MIN, len(block.convs) * (_SLAB + _GAP) + 14, map_room)
        if index and (opens_stage or block.stage != stage):
            parts.append(f'<line class="zp-rule" x1="0" x2="{WIDTH}" y1="{y:.1f}" y2="{y:.1f}"/>')
        parts.append(_row(block, anatomy, y, height, widest, opens_stage, changes_size))
        stage = block.stage
        y += height
    parts.append(_totals(anatomy, y))
    height = y + 26
    label = title or "Picture of a network"
    style = f"<style>{STYLE_FILE.read_text(encoding='utf-8')}</style>" if standalone else ""
    # A file of its own has no page around it: it brings a margin and a background.
    left, top, width, total = (-10, -8, WIDTH + 20, height + 16) if standalone else (0, 0, WIDTH, height)
    size = f' width="{width}" height="{total:.0f}"' if standalone else ""
    background = (
        f'<rect class="zp-page" x="{left}" y="{top}" width="{width}" height="{total:.0f}"/>'
        if standalone
        else ""
    )
    return (
        f'<svg class="zp" xmlns="http://www.w3.org/2000/svg" viewBox="{left} {top} {width} {total:.0f}"{size} '
        f'role="img" aria-label="{escape(label)}">{style}{background}<title>{escape(label)}</title>'
        f"{_header(anatomy, title)}{''.join(parts)}</svg>"
    )


def _header(anatomy: Anatomy, title: str) -> str:
    found = [_text(0, 13, title, "zp-strong")] if title else []
    x = 0.0
    used = {conv.kernel for block in anatomy.blocks for conv in block.convs}
    for kernel in sorted(used):
        found.append(
            f'<rect class="zp-slab {_kernel_class(kernel)}" x="{x}" y="24" width="10" height="10" rx="2"/>'
        )
        found.append(_text(x + 14, 33, f"{kernel}×{kernel}"))
        x += 46
    if any(_is_grouped(conv) for block in anatomy.blocks for conv in block.convs):
        found.append('<rect class="zp-slab zp-k3 zp-grouped" x="0" y="40" width="10" height="10" rx="2"/>')
        found.append(_text(14, 49, "depthwise or grouped"))
    for position, name in enumerate(_cost_names(anatomy)):
        found.append(_text(_TEXT_X + position * _SHARE_STEP, 33, name, f"zp-{name.lower()}"))
    found.append(_text(_TEXT_X, 49, "share of each block", "zp-faint"))
    return "".join(found)


def _row(
    block: BlockFacts,
    anatomy: Anatomy,
    y: float,
    height: float,
    widest: int,
    opens_stage: bool,
    changes_size: bool,
) -> str:
    parts = [f"<g><title>{escape(_tooltip(block, anatomy))}</title>"]
    parts.append(f'<rect class="zp-hit" x="0" y="{y:.1f}" width="{WIDTH}" height="{height:.1f}"/>')
    if opens_stage:
        parts.append(_text(_MAP_X, y + 13, f"stage {block.stage}", "zp-faint"))
    if changes_size and block.convs:
        side = _map_side(block, anatomy)
        top = y + (17 if opens_stage else 5)
        parts.append(
            f'<rect class="zp-map" x="{_MAP_X}" y="{top:.1f}" width="{side:.1f}" height="{side:.1f}"/>'
        )
        parts.append(_text(_MAP_X, top + side + 11, f"{block.out_size}×{block.out_size}", "zp-small"))
    parts.append(_slabs(block.convs, y, height, widest))
    parts.append(_text(_TEXT_X, y + 15, _name(block), "zp-strong"))
    parts.append(_text(_TEXT_X, y + 29, _shape(block, anatomy)))
    for position, (name, share) in enumerate(_shares(block, anatomy)):
        x = _TEXT_X + position * _SHARE_STEP
        parts.append(_text(x, y + 43, _percent(share), "zp-small"))
        parts.append(
            f'<rect class="zp-track" x="{x}" y="{y + 47:.1f}" width="{_SHARE_WIDTH}" height="5" rx="2"/>'
        )
        parts.append(
            f'<rect class="zp-bar zp-bar-{name.lower()}" x="{x}" y="{y + 47:.1f}" '
            f'width="{_SHARE_WIDTH * share:.1f}" height="5" rx="2"/>'
        )
    return "".join((*parts, "</g>"))


def _map_side(block: BlockFacts, anatomy: Anatomy) -> float:
    return max(2.0, _MAP_MAX * block.out_size / anatomy.resolution)


def _slabs(convs: Sequence[Layer], y: float, height: float, widest: int) -> str:
    total = len(convs) * (_SLAB + _GAP)
    top = y + (height - total) / 2
    parts = []
    for index, conv in enumerate(convs):
        width = max(1.5, _BODY_WIDTH * conv.out_channels / widest)
        grouped = " zp-grouped" if _is_grouped(conv) else ""
        parts.append(
            f'<rect class="zp-slab {_kernel_class(conv.kernel)}{grouped}" x="{_BODY_X - width / 2:.1f}" '
            f'y="{top + index * (_SLAB + _GAP):.1f}" width="{width:.1f}" height="{_SLAB}"/>'
        )
    return "".join(parts)


def _totals(anatomy: Anatomy, y: float) -> str:
    facts = [f"{anatomy.params:,} params", f"{anatomy.macs / 1e6:,.1f} M MACs"]
    if anatomy.latency_ms is not None:
        facts.append(f"{anatomy.latency_ms:.4f} ms predicted")
    rule = f'<line class="zp-rule" x1="0" x2="{WIDTH}" y1="{y:.1f}" y2="{y:.1f}"/>'
    return rule + _text(0, y + 17, " · ".join(facts), "zp-strong")


def _shares(block: BlockFacts, anatomy: Anatomy) -> list[tuple[str, float]]:
    found = [
        ("params", block.params / max(1, anatomy.params)),
        ("MACs", block.macs / max(1, anatomy.macs)),
    ]
    if anatomy.latency_ms:
        found.append(("latency", (block.latency_ms or 0.0) / anatomy.latency_ms))
    return found


def _cost_names(anatomy: Anatomy) -> list[str]:
    return ["params", "MACs"] + (["latency"] if anatomy.latency_ms else [])


def _name(block: BlockFacts) -> str:
    name = block.name if len(block.name) <= 20 else block.name[:19] + "…"
    return f"{name} × {block.depth}" if block.depth > 1 else name


def _shape(block: BlockFacts, anatomy: Anatomy) -> str:
    if not block.convs:
        return f"{block.in_channels} to {anatomy.num_classes} classes"
    inner = f", inner {block.inner_channels}" if block.inner_channels is not None else ""
    stride = f", stride {block.stride}" if block.stride > 1 else ""
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


def _kernel_class(kernel: int) -> str:
    return f"zp-k{kernel}" if kernel in _KERNELS else "zp-kx"


def _is_grouped(conv: Layer) -> bool:
    return conv.groups > 1


def _percent(share: float) -> str:
    return f"{100 * share:.1f} %" if share < 0.1 else f"{100 * share:.0f} %"


def _text(x: float, y: float, text: str, css: str = "") -> str:
    return f'<text class="zp-text {css}" x="{x:.0f}" y="{y:.1f}">{escape(text)}</text>'
