from __future__ import annotations

import re
import xml.etree.ElementTree as ET
from itertools import pairwise

import pytest

from zenopt.core.costs import count
from zenopt.latency import load_profile
from zenopt.report import dissect, draw
from zenopt.spaces.chain.architecture import Architecture

SUPERRES = (
    "SuperConvK3BNRELU(3,32,1,1)SuperResK1K5K1(32,120,1,40,2)SuperResK3K3(120,48,2,16,3)"
    "SuperResK1K7K1(48,64,1,24,1)SuperConvK1BNRELU(64,128,1,1)"
)
MOBILE = "SuperConvK3BNRELU(3,16,2,1)SuperResIDWE4K5(16,40,2,40,2)SuperConvK1BNRELU(40,320,1,1)"
_SVG = "{http://www.w3.org/2000/svg}"


@pytest.mark.parametrize(("text", "use_se"), [(SUPERRES, False), (MOBILE, True)])
def test_shares_add_up_to_the_network(text: str, use_se: bool) -> None:
    architecture = Architecture.parse(text)
    anatomy = dissect(architecture, 224, 1000, use_se=use_se, device=load_profile("v100-fp16-b64"))
    costs = count(architecture, 224, 1000, use_se=use_se)
    assert (anatomy.params, anatomy.macs) == (costs.params, costs.macs)
    assert len(anatomy.blocks) == len(architecture.blocks) + 1
    assert sum(len(block.convs) for block in anatomy.blocks) == costs.convs
    assert anatomy.latency_ms is not None and anatomy.latency_ms > 0


def test_facts_of_blocks() -> None:
    stem, first, second, third, head, classifier = dissect(Architecture.parse(SUPERRES), 32, 10).blocks
    assert [block.stage for block in (stem, first, second, third, head, classifier)] == [
        None, 1, 2, 2, None, None,
    ]  # fmt: skip
    assert (first.name, first.depth, first.kernel, first.inner_channels) == ("K1K5K1", 2, 5, 40)
    assert (second.stride, second.in_size, second.out_size) == (2, 32, 16)
    assert (stem.name, head.name, classifier.name) == ("K3 conv", "K1 conv", "pool, linear")
    assert classifier.params == 128 * 10 + 10
    assert first.latency_ms is None


def test_slabs_are_to_scale() -> None:
    anatomy = dissect(Architecture.parse(SUPERRES), 32, 10)
    root = ET.fromstring(draw(anatomy, "a net"))
    slabs = [
        rect
        for group in root.iter(f"{_SVG}g")
        for rect in group.iter(f"{_SVG}rect")
        if "zp-slab" in rect.attrib["class"]
    ]
    convs = [conv for block in anatomy.blocks for conv in block.convs]
    assert len(slabs) == len(convs)
    widest = max(conv.out_channels for conv in convs)
    full = max(float(slab.attrib["width"]) for slab in slabs)
    for slab, conv in zip(slabs, convs, strict=True):
        assert float(slab.attrib["width"]) / full == pytest.approx(conv.out_channels / widest, abs=0.01)
        assert f"zp-k{conv.kernel}" in slab.attrib["class"].split()


def test_maps_are_to_scale() -> None:
    anatomy = dissect(Architecture.parse(SUPERRES), 32, 10)
    root = ET.fromstring(draw(anatomy))
    sides = [
        float(rect.attrib["width"]) for rect in root.iter(f"{_SVG}rect") if rect.attrib["class"] == "zp-map"
    ]
    assert sides[1] / sides[0] == pytest.approx(0.5, abs=0.03)


def test_words_of_a_picture() -> None:
    text = draw(
        dissect(Architecture.parse(MOBILE), 224, 1000, device=load_profile("v100-fp16-b64")), "<i>&</i>"
    )
    words = [element.text for element in ET.fromstring(text).iter(f"{_SVG}text")]
    assert {"<i>&</i>", "IDWE4K5 × 2", "stage 1", "112×112", "5×5", "depthwise or grouped", "latency"} <= set(
        words
    )
    assert any("ms predicted" in str(word) for word in words)
    shares = [float(found) for found in re.findall(r">([\d.]+) %<", text)]
    # Three shares per block; rounding moves each sum by half a unit at most.
    assert sum(shares) == pytest.approx(300, abs=3)


def test_standalone_files_bring_their_style() -> None:
    anatomy = dissect(Architecture.parse(MOBILE), 224, 1000)
    inline, standalone = draw(anatomy), draw(anatomy, standalone=True)
    assert "<style>" not in inline
    assert "<style>" in standalone and "prefers-color-scheme" in standalone
    ET.fromstring(standalone)


def test_other_families_need_a_description_only() -> None:
    class Other:
        description = Architecture.parse(SUPERRES).description

        def __str__(self) -> str:
            return "|other|"

    anatomy = dissect(Other(), 32, 10, device=load_profile("v100-fp16-b64"))
    assert anatomy.structure == "|other|"
    assert anatomy.macs == count(Architecture.parse(SUPERRES), 32, 10).macs
    ET.fromstring(draw(anatomy))


def _with_class(text: str, name: str) -> list[ET.Element]:
    # The legend's samples stand in groups of their own, moved into place.
    root = ET.fromstring(text)
    legend = {
        id(element)
        for group in root.iter(f"{_SVG}g")
        if "transform" in group.attrib
        for element in group.iter()
    }
    return [
        element
        for element in root.iter()
        if name in element.attrib.get("class", "").split() and id(element) not in legend
    ]


def test_shortcuts_and_their_projections() -> None:
    anatomy = dissect(Architecture.parse(SUPERRES), 32, 10)
    text = draw(anatomy)
    # K1K5K1 twice and K1K7K1 once have two residuals a unit, K3K3 three units of one each.
    assert [len(block.shortcuts) for block in anatomy.blocks] == [0, 4, 3, 2, 0, 0]
    assert len(_with_class(text, "zp-shortcut")) == 9
    # Each block projects once, where it begins.
    assert [shortcut.projection is not None for shortcut in anatomy.blocks[1].shortcuts] == [
        True,
        False,
        False,
        False,
    ]
    assert len(_with_class(text, "zp-projection")) == 3
    spans = [(shortcut.start, shortcut.end) for shortcut in anatomy.blocks[1].shortcuts]
    assert spans == [(0, 3), (3, 6), (6, 9), (9, 12)]


def test_squeeze_excite_gates() -> None:
    gated = dissect(Architecture.parse(MOBILE), 224, 1000, use_se=True)
    plain = dissect(Architecture.parse(MOBILE), 224, 1000)
    assert len(_with_class(draw(gated), "zp-gate")) == sum(len(block.gates) for block in gated.blocks) > 0
    assert _with_class(draw(plain), "zp-gate") == []
    assert "SE" in draw(gated) and ">SE<" not in draw(plain)


def test_the_ruler_gives_the_scale() -> None:
    anatomy = dissect(Architecture.parse(SUPERRES), 32, 10)
    text = draw(anatomy)
    length = float(re.search(r'class="zp-ruler" d="M[\d.]+ [\d.]+h([\d.]+)', text)[1])
    words = [element.text for element in ET.fromstring(text).iter(f"{_SVG}text")]
    assert {"channels", "0", "50", "100"} <= set(words)
    widest = max(_with_class(text, "zp-slab"), key=lambda slab: float(slab.attrib["width"]))
    assert length / float(widest.attrib["width"]) == pytest.approx(100 / 128, abs=0.01)


def _deep(blocks: int) -> Architecture:
    middle = "".join(f"SuperResK1K3K1(64,64,1,{8 * (1 + index % 4)},1)" for index in range(blocks))
    return Architecture.parse(f"SuperConvK3BNRELU(3,64,1,1){middle}SuperConvK1BNRELU(64,128,1,1)")


def test_eighty_blocks_can_be_read() -> None:
    text = draw(dissect(_deep(80), 32, 10), "deep")
    root = ET.fromstring(text)
    height = float(root.attrib["viewBox"].split()[3])
    assert height < 2800
    # No line of a block's words lies on the next one's.
    lines = [
        float(element.attrib["y"]) for element in root.iter(f"{_SVG}text") if element.attrib["x"] == "236"
    ]
    gaps = [second - first for first, second in pairwise(lines[2:])]
    assert min(gaps) > 11
    short = draw(dissect(_deep(5), 32, 10), "short")
    assert float(ET.fromstring(short).attrib["viewBox"].split()[3]) < 560
    assert text.count("zp-bar ") == 82 * 2 + 2
