"""Structure strings: parsing, formatting, validation, splitting."""

from __future__ import annotations

import subprocess
import sys
import warnings
from dataclasses import FrozenInstanceError
from typing import Any

import pytest
from goldens import load_fixture, record_id, structures
from hypothesis import given
from hypothesis import strategies as st

from zenopt.core.errors import StructureError
from zenopt.spaces.chain.architecture import (
    Architecture,
    ResidualBlock,
    StructureWarning,
    block_types,
    block_variant,
    make_block,
    split_deep_blocks,
)

STEM = "SuperConvK3BNRELU(3,8,1,1)"
RESIDUAL_TYPES = [name for name in block_types() if issubclass(block_variant(name).cls, ResidualBlock)]


@st.composite
def architectures(draw: st.DrawFn) -> Architecture:
    blocks = []
    for _ in range(draw(st.integers(1, 8))):
        name = draw(st.sampled_from(block_types()))
        values = {
            argument: draw(st.integers(1, {"stride": 4, "depth": 1000}.get(argument, 65_536)))
            for argument in block_variant(name).cls.arguments
        }
        blocks.append(make_block(name, **values))
    return Architecture.chain(blocks)


@given(architectures())
def test_format_then_parse_gives_the_same(architecture: Architecture) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert Architecture.parse(str(architecture)) == architecture


@given(architectures(), st.data())
def test_white_space_and_prefixes_are_ignored(architecture: Architecture, data: st.DataObject) -> None:
    spaced = ""
    for block in architecture.blocks:
        name, _, inside = str(block).partition("(")
        space = data.draw(st.sampled_from(["", " ", "\n\t"]))
        prefix = data.draw(st.sampled_from(["", "block_7|", " a b |"]))
        spaced += f"{space}{name}{space}({prefix}{space}{inside.replace(',', f'{space},{space}')}{space}"
    assert Architecture.parse(spaced) == architecture


@given(st.text(max_size=60) | st.text(alphabet="SuperResConvK13BNRELU(),|0123456789 -", max_size=60))
def test_any_text_is_read_or_refused_in_one_line(text: str) -> None:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", StructureWarning)
            architecture = Architecture.parse(text)
    except StructureError as error:
        assert "\n" not in str(error)
    else:
        assert Architecture.parse(str(architecture)) == architecture


@pytest.mark.parametrize("record", structures(), ids=record_id)
def test_published_strings_are_canonical(record: dict[str, Any]) -> None:
    assert str(Architecture.parse(record["structure"])) == record["structure"]
    assert Architecture.parse(record["structure"]).depth == record["num_layers"]


def test_fields_of_a_parsed_structure() -> None:
    stem, residual = Architecture.parse(f"{STEM}SuperResIDWE4K5(8,24,2,16,3)").blocks
    assert (stem.type_name, stem.in_channels, stem.out_channels, stem.kernel) == (
        "SuperConvK3BNRELU",
        3,
        8,
        3,
    )
    assert (residual.in_channels, residual.out_channels, residual.stride) == (8, 24, 2)
    assert (residual.bottleneck, residual.depth, residual.expansion, residual.kernel) == (16, 3, 4, 5)


def test_architectures_are_immutable_values() -> None:
    text = f"{STEM}SuperResK3K3(8,16,1,8,1)"
    one, two = Architecture.parse(text), Architecture.parse(text)
    assert one == two
    assert hash(one) == hash(two)
    assert len({one, two, Architecture.parse(STEM)}) == 2
    assert hash(Architecture(list(one.blocks))) == hash(one)  # type: ignore[arg-type]
    with pytest.raises(FrozenInstanceError):
        one.blocks[0].depth = 2  # type: ignore[misc]
    with pytest.raises(FrozenInstanceError):
        one.blocks = ()  # type: ignore[misc]


def test_wrong_input_channels_are_rethreaded_with_a_warning() -> None:
    # The published initial structure of the latency searches ends so.
    text = f"{STEM}SuperResK3K3(8,512,2,256,1)SuperConvK1BNRELU(256,512,1,1)"
    with pytest.warns(StructureWarning, match=r"Block 2 .*\(256,512,1,1\) receives 512 channels, not 256"):
        architecture = Architecture.parse(text)
    assert [block.in_channels for block in architecture.blocks] == [3, 8, 512]


def test_made_directly_wrong_input_channels_are_an_error() -> None:
    block = make_block("SuperConvK3BNRELU", in_channels=4, out_channels=8, stride=1, depth=1)
    with pytest.raises(StructureError, match=r"Block 0 .* takes 4 channels but receives 3"):
        Architecture((block,))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "structure string is empty"),
        ("  \n", "structure string is empty"),
        (f"{STEM}SuperResK3K4(8,16,1,8,1)", r"Block 1 SuperResK3K4 at position 26: unknown block type"),
        ("SuperResK3K4(8,16,1,8,1)", r"did you mean SuperResK3K3\? Known types: SuperConvK1BNRELU, "),
        (f"{STEM} SuperResK3K3(8,16,1,8)", r"Block 1 SuperResK3K3 at position 27: takes 5 numbers .*, got 4"),
        ("SuperConvK3BNRELU(3,8,1)", r"takes 4 numbers \(in_channels, out_channels, stride, depth\), got 3"),
        ("SuperConvK3BNRELU(3,8,0,1)", r"stride must be an integer from 1 to 4, got 0"),
        ("SuperConvK3BNRELU(3,8,5,1)", r"Block 0 SuperConvK3BNRELU at position 0: stride .* 1 to 4, got 5"),
        ("SuperConvK3BNRELU(3,-8,1,1)", r"out_channels must be an integer from 1 to 65536, got '-8'"),
        ("SuperConvK3BNRELU(3,8.0,1,1)", r"out_channels must be an integer from 1 to 65536, got '8.0'"),
        (
            "SuperConvK3BNRELU(3,12345678901,1,1)",
            r"out_channels must be an integer from 1 to 65536, got '12345",
        ),
        ("SuperConvK3BNRELU(3,,1,1)", r"out_channels must be an integer .*, got ''"),
        ("SuperConvK3BNRELU(3,8,1,1001)", r"depth must be an integer from 1 to 1000, got 1001"),
        (f"{STEM}+{STEM}", r"Block 1 at position 26: cannot read '\+Super.*expected Name\(number"),
        (f"{STEM}SuperResK3K3", r"Block 1 at position 26: cannot read 'SuperResK3K3'"),
        ("SuperConvK3BNRELU(3,8,1,1", r"Block 0 at position 0: cannot read"),
        ("SuperConvK3BNRELU((3,8,1,1))", r"Block 0 at position 0: cannot read"),
        ("SuperConvK3BNRELU(３,8,1,1)", r"in_channels must be an integer"),
    ],
)
def test_malformed_structures(text: str, message: str) -> None:
    with pytest.raises(StructureError, match=message) as caught:
        Architecture.parse(text)
    assert "\n" not in str(caught.value)


def test_too_many_blocks() -> None:
    with pytest.raises(StructureError, match="1 to 1000 blocks"):
        Architecture.parse(STEM + "SuperConvK3BNRELU(8,8,1,1)" * 1000)
    with pytest.raises(StructureError, match="1 to 1000 blocks, got 0"):
        Architecture(())


@pytest.mark.parametrize("value", [0, -8, 1.5, True, "8", None])
def test_no_block_of_impossible_shape_exists(value: Any) -> None:
    with pytest.raises(StructureError, match="out_channels must be an integer from 1 to 65536, got"):
        make_block("SuperConvK3BNRELU", in_channels=3, out_channels=value, stride=1, depth=1)


def test_a_variant_that_no_name_spells_does_not_exist() -> None:
    cls = block_variant("SuperResK3K3").cls
    with pytest.raises(
        StructureError, match=r"no variant with kernel=4; allowed: SuperResK3K3, SuperResK5K5"
    ):
        cls(in_channels=8, out_channels=8, stride=1, bottleneck=8, depth=1, kernel=4)  # type: ignore[call-arg]


@pytest.mark.parametrize(
    "case", load_fixture("zennas_split_cases"), ids=lambda case: case["structure"][26:60]
)
def test_splits_as_published(case: dict[str, Any]) -> None:
    once = split_deep_blocks(Architecture.parse(case["structure"]), 6)
    assert str(once) == case["split6"]
    assert str(split_deep_blocks(once, 6)) == case["split6_twice"]


@given(architectures(), st.integers(4, 12))
def test_splitting_keeps_depth_and_shape(architecture: Architecture, threshold: int) -> None:
    split = split_deep_blocks(architecture, threshold)
    assert split.depth == architecture.depth
    assert split.out_channels == architecture.out_channels
    assert sum(b.stride > 1 for b in split.blocks) == sum(b.stride > 1 for b in architecture.blocks)
    convolutions = [block for block in architecture.blocks if not block.is_residual]
    assert [block for block in split.blocks if not block.is_residual] == convolutions


def test_imports_neither_torch_nor_optuna() -> None:
    code = (
        "import sys, zenopt.spaces.chain.architecture, zenopt.core.lowering, zenopt.core.costs, zenopt.core.budget\n"
        "import zenopt.latency.limits\n"
        "sys.exit(bool({'torch', 'optuna'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
