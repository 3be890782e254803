from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from structures import NO_BLOCKS

from zenopt.core.costs import count
from zenopt.core.errors import StructureError
from zenopt.spaces.chain.architecture import Architecture, block_types, make_block
from zenopt.spaces.chain.closed_form import ChainEvaluator, Codec, closed_form_zen
from zenopt.spaces.chain.closed_form.chains import fingerprints

CONVS = ["SuperConvK1BNRELU", "SuperConvK3BNRELU", "SuperConvK5BNRELU"]
TYPES = CONVS + [name for name in block_types() if name.startswith("SuperRes")]
FIELDS = (
    "params", "macs", "layers", "convs", "activation_bytes", "min_width", "depth_to_width", "zennas_params",
    "zennas_flops",
)  # fmt: skip
_EVALUATORS: dict[tuple, ChainEvaluator] = {}


def evaluator(
    resolution: int, batch_size: int | None, true_variance: bool = False, se: bool = False
) -> ChainEvaluator:
    key = (resolution, batch_size, true_variance, se)
    if key not in _EVALUATORS:
        _EVALUATORS[key] = ChainEvaluator(
            TYPES, resolution, num_classes=10, batch_size=batch_size, true_variance=true_variance, use_se=se
        )
    return _EVALUATORS[key]


widths = st.integers(1, 20).map(lambda eighth: 8 * eighth)


@st.composite
def chains(draw: st.DrawFn) -> Architecture:
    blocks = [
        make_block(draw(st.sampled_from(CONVS)), in_channels=3, out_channels=draw(widths), stride=1, depth=1)
    ]
    for _ in range(draw(st.integers(0, 4))):
        name = draw(st.sampled_from(TYPES))
        values = {"bottleneck": draw(widths)} if name.startswith("SuperRes") else {}
        blocks.append(
            make_block(
                name,
                in_channels=8,
                out_channels=draw(widths),
                stride=draw(st.sampled_from([1, 2])),
                depth=draw(st.integers(1, 4)),
                **values,
            )
        )
    return Architecture.chain(blocks)


@settings(max_examples=25, deadline=None)
@given(
    st.lists(chains(), min_size=1, max_size=4),
    st.sampled_from([(32, None), (32, 16), (20, 64)]),
    st.booleans(),
)
def test_scores_are_those_of_one_architecture(
    architectures: list[Architecture], setting: tuple[int, int | None], true_variance: bool
) -> None:
    resolution, batch_size = setting
    arrays = evaluator(resolution, batch_size, true_variance)
    scores = arrays.score(arrays.codec.encode(architectures))
    expected = [
        closed_form_zen(architecture, resolution, batch_size=batch_size, true_variance=true_variance)
        for architecture in architectures
    ]
    assert scores == pytest.approx(np.array(expected), rel=1e-9)


@settings(max_examples=25, deadline=None)
@given(st.lists(chains(), min_size=1, max_size=4), st.sampled_from([32, 20]), st.booleans())
def test_costs_are_those_of_one_architecture(
    architectures: list[Architecture], resolution: int, use_se: bool
) -> None:
    arrays = evaluator(resolution, None, se=use_se)
    costs = arrays.costs(arrays.codec.encode(architectures))
    for index, architecture in enumerate(architectures):
        expected = count(architecture, resolution, 10, use_se=use_se)
        for name in FIELDS:
            assert getattr(costs, name)[index] == pytest.approx(getattr(expected, name), rel=1e-12), name


@settings(max_examples=25, deadline=None)
@given(st.lists(chains(), min_size=1, max_size=5))
def test_encoding_goes_both_ways(architectures: list[Architecture]) -> None:
    codec = Codec(TYPES)
    genes = codec.encode(architectures, places=9)
    assert [codec.decode(row) for row in genes] == architectures
    texts = [str(architecture) for architecture in architectures]
    assert len(set(fingerprints(genes).tolist())) == len(set(texts))
    assert (fingerprints(codec.encode(architectures)) == fingerprints(genes)).all()


def test_other_gammas_are_tabulated_too() -> None:
    architecture = Architecture.parse(
        "SuperConvK3BNRELU(3,8,1,1)SuperResK3K3(8,16,2,8,3)SuperConvK1BNRELU(16,32,1,1)"
    )
    for gamma in (1e-5, 0.3):
        arrays = ChainEvaluator(TYPES, 16, gamma=gamma, batch_size=None)
        expected = closed_form_zen(architecture, 16, gamma=gamma, batch_size=None)
        assert arrays.score(arrays.codec.encode([architecture]))[0] == pytest.approx(expected, rel=1e-9)


def test_unknown_types_and_long_chains_are_refused() -> None:
    architecture = Architecture.parse(NO_BLOCKS)
    with pytest.raises(StructureError, match="SuperConvK3BNRELU is not among SuperConvK1BNRELU"):
        Codec(["SuperConvK1BNRELU"]).encode([architecture])
    with pytest.raises(StructureError, match="A chain has 2 blocks; there is room for 1"):
        Codec(TYPES).encode([architecture], places=1)
    with pytest.raises(StructureError, match="batch_size must be a positive integer"):
        ChainEvaluator(TYPES, 16, batch_size=0)
