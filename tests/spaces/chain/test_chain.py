"""Chain spaces: parameters <-> architecture, membership, the published mutation, shrinking."""

from __future__ import annotations

import random
from collections import Counter
from typing import Any

import optuna
import pytest
from goldens import load_fixture, record_id, structures
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from optuna.distributions import CategoricalDistribution, IntDistribution
from scipy.stats import chisquare

from zenopt.core.errors import SpecError, StructureError
from zenopt.spaces.chain.architecture import Architecture
from zenopt.spaces.chain.mobile import MobileSpace
from zenopt.spaces.chain.mutation import depth_choices, width_choices
from zenopt.spaces.chain.space import ChainSpace
from zenopt.spaces.chain.superres import SUPERRES_BLOCKS, SuperResSpace

STRIDES_224 = {"stage_strides": (2, 2, 2, 2), "stem_stride": 2}
SPACES = {
    "cifar": SuperResSpace(),
    "narrow": SuperResSpace(slots=2, max_depth=4, max_width=256, max_bottleneck=64, max_head=512),
    "mobile": MobileSpace(),
    "names": ChainSpace(("SuperResK3K3", "SuperResIDWE2K7"), stage_strides=(1, 2), slots=3, head_width=128),
}
TINY = SPACES["names"]


def space_of(record: dict[str, Any]) -> ChainSpace:
    """The default space of a golden; its strides are those the structure has."""
    stem, *body, _ = Architecture.parse(record["structure"]).blocks
    strides = tuple(block.stride for index, block in enumerate(body) if block.stride > 1 or index == 0)
    cls = {"XXBL": SuperResSpace, "IDW_fixfc": MobileSpace}[record["space"]]
    return cls(stage_strides=strides, stem_stride=stem.stride, initial=record["structure"])


# -- parameters <-> architecture ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("record", structures(), ids=record_id)
def test_goldens_round_trip(record: dict[str, Any]) -> None:
    space = space_of(record)
    # A block of depth 6 and more is split before it enters the space.
    architecture = Architecture.parse(record.get("split6", record["structure"]))
    params = space.encode(architecture)
    assert space.decode(params) == architecture
    assert space.contains(architecture)
    for name, value in params.items():
        assert space.distributions[name]._contains(space.distributions[name].to_internal_repr(value)), name


@pytest.mark.parametrize("record", [r for r in structures() if r["id"].startswith("zennet")], ids=record_id)
def test_published_networks_are_in_the_default_spaces(record: dict[str, Any]) -> None:
    expected = (1, 2, 2, 2) if record["resolution"] == 32 else (2, 2, 2, 2)
    space = space_of(record)
    if record["id"] == "zennet_cifar_model_size05M_res32":
        # The smallest released CIFAR net has one stage less.
        expected = space.stage_strides
    assert space.stage_strides == expected
    assert space.contains(Architecture.parse(record["structure"]))


class DrawnTrial:
    """A trial whose parameters hypothesis draws."""

    def __init__(self, data: st.DataObject) -> None:
        self._data = data
        self.params: dict[str, Any] = {}

    def suggest_int(self, name: str, low: int, high: int, *, step: int = 1, log: bool = False) -> int:
        self.params[name] = self._data.draw(st.integers(low, high))
        return self.params[name]

    def suggest_categorical(self, name: str, choices: tuple[Any, ...]) -> Any:
        self.params[name] = self._data.draw(st.sampled_from(choices))
        return self.params[name]


@pytest.mark.parametrize("name", SPACES)
@settings(max_examples=25, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
@given(data=st.data())
def test_any_parameters_decode_and_come_back(name: str, data: st.DataObject) -> None:
    space, trial = SPACES[name], DrawnTrial(data)
    architecture = space.suggest(trial)  # type: ignore[arg-type]
    assert space.contains(architecture)
    assert space.decode(trial.params) == architecture
    assert Architecture.parse(str(architecture)) == architecture
    encoded = space.encode(architecture)
    assert space.decode(encoded) == architecture
    assert space.is_complete(trial.params)
    # Only widths change on the way: to the nearest multiple of 8.
    assert list(encoded) == list(trial.params)
    for key, value in encoded.items():
        if key.endswith(("width", "bottleneck")):
            assert value % 8 == 0
            assert abs(value - trial.params[key]) <= 4
        else:
            assert value == trial.params[key]


def test_parameters_read_well() -> None:
    space = SPACES["cifar"]
    block = [name for name in space.distributions if name.startswith("stage4.block8.")]
    assert [name.rpartition(".")[2] for name in block] == ["type", "kernel", "width", "bottleneck", "depth"]
    assert space.distributions["stage1.block1.type"] == CategoricalDistribution(("K1KXK1", "KXKX"))
    assert space.distributions["stage1.block1.kernel"] == CategoricalDistribution((3, 5, 7))
    assert space.distributions["stage1.block1.width"] == IntDistribution(8, 2560, log=True)
    assert space.distributions["stage1.blocks"] == IntDistribution(1, 8)
    assert space.distributions["head.width"] == IntDistribution(8, 8192, log=True)
    assert len(space.distributions) == 2 + 4 * (1 + 8 * 5)
    mobile = SPACES["mobile"].distributions
    assert mobile["stage1.block1.expansion"] == CategoricalDistribution((1, 2, 4, 6))
    assert "head.width" not in mobile
    params = space.encode(Architecture.parse(space.initial))
    assert params["stem.width"] == 8
    assert params["stage2.block1.type"] == "KXKX"
    assert params["stage2.block1.width"] == 32
    assert params["stage2.block1.bottleneck"] == 16
    assert params["head.width"] == 128


def test_types_that_are_no_product_are_spelled_by_name() -> None:
    assert TINY.distributions["stage1.block1.type"] == CategoricalDistribution(
        ("SuperResK3K3", "SuperResIDWE2K7")
    )
    assert "stage1.block1.kernel" not in TINY.distributions
    one = ChainSpace(("SuperResK5K5",), stage_strides=(1,))
    assert one.distributions["stage1.block1.type"] == CategoricalDistribution(("KXKX",))
    assert one.distributions["stage1.block1.kernel"] == CategoricalDistribution((5,))
    # Two families of three kernels each, but with one pair missing.
    five = ChainSpace(SUPERRES_BLOCKS[:5])
    assert five.distributions["stage1.block1.type"] == CategoricalDistribution(SUPERRES_BLOCKS[:5])


@pytest.mark.parametrize("name", SPACES)
def test_a_plain_optuna_objective(name: str) -> None:
    space = SPACES[name]
    found = []

    def objective(trial: optuna.Trial) -> float:
        found.append(space.suggest(trial))
        assert space.decode(trial.params) == found[-1]
        return float(found[-1].depth)

    study = optuna.create_study(sampler=optuna.samplers.TPESampler(seed=0, n_startup_trials=4))
    study.optimize(objective, n_trials=8)
    assert len(set(found)) == 8
    assert all(space.contains(architecture) for architecture in found)
    # A completed trial, a fixed one and a frozen one give the same architecture again.
    best = study.best_trial
    assert space.suggest(best) == space.suggest(optuna.trial.FixedTrial(best.params)) == found[best.number]


def test_all_slots_give_every_trial_the_same_parameters() -> None:
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    trial = study.ask()
    architecture = TINY.suggest(trial, all_slots=True)
    assert set(trial.params) == set(TINY.distributions)
    assert TINY.decode(trial.params) == architecture


def test_incomplete_and_unknown_parameters() -> None:
    params = TINY.encode(TINY.parse(TINY.initial))
    assert TINY.is_complete(params)
    for name in params:
        rest = {key: value for key, value in params.items() if key != name}
        assert not TINY.is_complete(rest)
        with pytest.raises(StructureError, match=rf"^Parameter '{name}' is missing\.$"):
            TINY.decode(rest)
    assert not TINY.is_complete({})
    with pytest.raises(StructureError, match=r"stage1\.block1\.\* spells no block type: SuperResK9K9"):
        TINY.decode({**params, "stage1.block1.type": "SuperResK9K9"})
    with pytest.raises(
        StructureError, match=r"Outside the space: width 4096 of block 1 .* exceeds max_width 2048"
    ):
        TINY.decode({**params, "stage1.block1.width": 4096})


# -- membership --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("SuperConvK3BNRELU(3,8,1,1)", "a stem, residual blocks and a head are needed, got only SuperConvK3"),
        ("{stem}SuperConvK1BNRELU(8,128,1,1)", "a stem, residual blocks and a head are needed"),
        (
            "SuperConvK5BNRELU(3,8,1,1){body}{head}",
            "the stem must be SuperConvK3BNRELU with stride 1 and depth 1",
        ),
        ("SuperConvK3BNRELU(3,8,2,1){body}{head}", "the stem must be SuperConvK3BNRELU with stride 1"),
        ("SuperConvK3BNRELU(3,8,1,2){body}{head}", "the stem must be .* got SuperConvK3BNRELU.3,8,1,2."),
        ("SuperConvK3BNRELU(3,12,1,1){body}{head}", "stem and head widths must be multiples of 8"),
        ("{stem}{body}SuperConvK3BNRELU(16,128,1,1)", "the head must be SuperConvK1BNRELU"),
        ("{stem}{body}SuperConvK1BNRELU(16,136,1,1)", "the head's width is fixed at 128, got 136"),
        (
            "{stem}SuperResK5K5(8,16,1,8,1)SuperResK3K3(16,16,2,8,1){head}",
            "block 1 .* not of an allowed type",
        ),
        (
            "{stem}SuperResK3K3(8,16,1,8,6)SuperResK3K3(16,16,2,8,1){head}",
            "depth 6 of block 1 .* max_depth 5",
        ),
        ("{stem}SuperResK3K3(8,16,1,4096,1)SuperResK3K3(16,16,2,8,1){head}", "bottleneck 4096 of block 1"),
        ("{stem}SuperResK3K3(8,16,1,12,1)SuperResK3K3(16,16,2,8,1){head}", "not a multiple of 8"),
        ("{stem}SuperResK3K3(8,16,1,8,1){head}", r"strides of the stages must be \(1, 2\), got \(1,\)"),
        ("{stem}" + "SuperResK3K3(16,16,1,8,1)" * 4 + "{head}", "stage 1 has more than 3 blocks"),
    ],
)
@pytest.mark.filterwarnings("ignore::zenopt.spaces.chain.architecture.StructureWarning")
def test_outside_the_space(text: str, problem: str) -> None:
    parts = {
        "stem": "SuperConvK3BNRELU(3,8,1,1)",
        "body": "SuperResK3K3(8,16,1,8,1)SuperResK3K3(16,16,2,8,1)",
        "head": "SuperConvK1BNRELU(16,128,1,1)",
    }
    architecture = Architecture.parse(text.format(**parts))
    assert not TINY.contains(architecture)
    with pytest.raises(StructureError, match=f"Outside the space: .*{problem}"):
        TINY.encode(architecture)
    assert TINY.contains(Architecture.parse("{stem}{body}{head}".format(**parts)))


# -- the published mutation --------------------------------------------------------------------------------------------

#: The one-stage structures whose candidates were recorded: stem, a block of depth 4 and width 64, head.
RECORDED = {
    "XXBL": (SuperResSpace, "SuperResK3K3(64,64,1,64,4)", "SuperConvK1BNRELU(64,128,1,1)"),
    "IDW_fixfc": (MobileSpace, "SuperResIDWE6K3(64,64,1,64,4)", "SuperConvK1BNRELU(64,2048,1,1)"),
}


@pytest.mark.parametrize("name", RECORDED)
def test_mutations_have_the_published_frequencies(name: str) -> None:
    cls, middle, head = RECORDED[name]
    text = f"SuperConvK3BNRELU(3,64,1,1){middle}{head}"
    space = cls(stage_strides=(1,), stem_stride=1, initial=text)
    recorded = load_fixture("zennas_mutation")[name]
    parent, rng, draws = Architecture.parse(text), random.Random(0), 20_000
    seen: dict[str, Counter] = {
        key: Counter() for key in ("block", "type", "width", "bottleneck", "depth", "stem", "head")
    }
    for _ in range(draws):
        child = space.mutate(parent, rng, blocks=1)
        assert child is not None
        stem, *body, last = child.blocks
        changed = [a != b for a, b in zip(parent.blocks, child.blocks, strict=False)]
        seen["stem"][stem.out_channels] += stem != parent.blocks[0]
        seen["head"][last.out_channels] += last.out_channels != parent.out_channels
        if len(child.blocks) > 3 or (changed[1] and not changed[0]):
            block = body[0]
            seen["type"][block.type_name] += 1
            seen["width"][block.out_channels] += 1
            seen["bottleneck"][block.bottleneck] += 1
            seen["depth"][sum(part.depth for part in body)] += 1
    expected = recorded["block1"]
    # The unchanged block (1 in 6480 and 1 in 36045) cannot be told from a draw elsewhere, and is not counted.
    for key, values in (
        ("type", expected["types"]),
        ("width", dict.fromkeys(expected["out_channels"], 1)),
        ("bottleneck", dict.fromkeys(expected["bottlenecks"], 1)),
        ("depth", dict.fromkeys(expected["depths"], 1)),
    ):
        assert set(seen[key]) == set(values), key
        total = sum(seen[key].values())
        weights = [values[value] * total / sum(values.values()) for value in sorted(values)]
        assert chisquare([seen[key][value] for value in sorted(values)], weights).pvalue > 1e-3, key
    assert sum(seen["type"].values()) == pytest.approx(draws / 3, rel=0.05)
    for key, position in (("stem", "block0"), ("head", "block2")):
        moved = {width for width, times in seen[key].items() if times}
        start = 64 if key == "stem" else int(head.split(",")[1])
        assert moved | {start} == set(recorded[position]["out_channels"])


def test_candidate_widths_and_depths_are_the_published_ones() -> None:
    recorded = load_fixture("zennas_mutation")["XXBL"]
    assert list(width_choices(64, 2048)) == recorded["block1"]["out_channels"]
    assert list(width_choices(128, 8192)) == recorded["block2"]["out_channels"]
    assert list(depth_choices(4)) == recorded["block1"]["depths"]
    assert depth_choices(1) == (1, 2, 3)
    # 8 * 1.5 = 12 rounds to 16, as 8 * 2 and 8 * 2.5 = 20 do (halves to even).
    assert width_choices(8, 2048) == (8, 16)
    assert width_choices(2000, 2048)[-1] == 2048
    assert all(width % 8 == 0 for width in width_choices(1000, 10_000))


def test_two_draws_mutate_up_to_two_blocks() -> None:
    space, rng = SPACES["cifar"], random.Random(5)
    parent = Architecture.parse(space.initial)
    changed = Counter()
    for _ in range(500):
        child = space.mutate(parent, rng, blocks=2)
        assert child is not None
        changed[
            sum(
                (a.type_name, a.out_channels, a.depth) != (b.type_name, b.out_channels, b.depth)
                or getattr(a, "bottleneck", 0) != getattr(b, "bottleneck", 0)
                for a, b in zip(parent.blocks, child.blocks, strict=True)
            )
        ] += 1
    assert set(changed) <= {0, 1, 2}
    # A repeated index (1 in 6) is skipped, as in the release; most often two blocks change.
    assert changed[2] > changed[1] > 0


@pytest.mark.parametrize("name", SPACES)
@settings(max_examples=25)
@given(seed=st.integers(0, 2**32), steps=st.integers(1, 30), blocks=st.integers(1, 3))
def test_mutation_stays_inside(name: str, seed: int, steps: int, blocks: int) -> None:
    space, rng = SPACES[name], random.Random(seed)
    architecture = space.parse(space.initial)
    for _ in range(steps):
        child = space.mutate(architecture, rng, blocks=blocks)
        if child is None:
            continue
        architecture = child
        assert space.contains(architecture)
        assert space.decode(space.encode(architecture)) == architecture
        assert Architecture.parse(str(architecture)) == architecture


def test_a_split_without_a_free_slot_is_no_child() -> None:
    full = "SuperConvK3BNRELU(3,8,1,1)SuperResK3K3(8,16,1,8,5)SuperConvK1BNRELU(16,128,1,1)"
    one = ChainSpace(("SuperResK3K3",), stage_strides=(1,), slots=1, initial=full)
    two = ChainSpace(("SuperResK3K3",), stage_strides=(1,), slots=2, initial=full)
    rng = random.Random(0)
    children = [one.mutate(one.parse(full), rng, blocks=1) for _ in range(200)]
    assert None in children
    assert {len(child.blocks) for child in children if child} == {3}
    split = [two.mutate(two.parse(full), rng, blocks=1) for _ in range(200)]
    depths = {tuple(block.depth for block in child.blocks[1:-1]) for child in split if child}
    assert {(3, 3), (3, 4)} <= depths
    assert None not in split


def test_type_weights_choose_the_types() -> None:
    weights = {"SuperResK3K3": 0, "SuperResIDWE2K7": 2.5}
    space = ChainSpace(("SuperResK3K3", "SuperResIDWE2K7"), stage_strides=(1,), type_weights=weights)
    rng, architecture = random.Random(0), space.parse(space.initial)
    assert architecture.blocks[1].type_name == "SuperResK3K3"
    for _ in range(30):
        architecture = space.mutate(architecture, rng) or architecture
    assert {block.type_name for block in architecture.blocks[1:-1]} == {"SuperResIDWE2K7"}


# -- shrinking and initial structures ----------------------------------------------------------------------------------


def test_shrinking_cuts_depths_then_blocks_then_widths() -> None:
    text = (
        "SuperConvK3BNRELU(3,16,1,1)SuperResK3K3(16,32,1,16,2)SuperResK3K3(32,32,1,8,3)"
        "SuperResK3K3(32,64,2,24,1)SuperConvK1BNRELU(64,128,1,1)"
    )
    architecture = TINY.parse(text)
    steps = []
    while architecture is not None:
        assert TINY.contains(architecture)
        steps.append(architecture)
        architecture = TINY.shrink(architecture)
    depths = [tuple(block.depth for block in step.blocks[1:-1]) for step in steps]
    assert depths[:5] == [(2, 3, 1), (2, 2, 1), (2, 1, 1), (1, 1, 1), (1, 1)]
    assert set(depths[4:]) == {(1, 1)}
    # The head's width is fixed in this space.
    assert str(steps[5]) == (
        "SuperConvK3BNRELU(3,8,1,1)SuperResK3K3(8,24,1,8,1)SuperResK3K3(24,56,2,16,1)SuperConvK1BNRELU(56,128,1,1)"
    )
    smallest = (
        "SuperConvK3BNRELU(3,8,1,1)SuperResK3K3(8,8,1,8,1)SuperResK3K3(8,8,2,8,1)SuperConvK1BNRELU(8,128,1,1)"
    )
    assert str(steps[-1]) == smallest


@pytest.mark.parametrize("name", ["cifar", "narrow", "mobile"])
def test_default_initial_structures_are_the_published_ones_and_inside(name: str) -> None:
    space = SPACES[name]
    assert space.contains(space.parse(space.initial))
    assert space.initial == type(space)().initial


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"stage_strides": (2, 2, 2, 2, 4), "stem_stride": 2},
        {"max_width": 24, "max_bottleneck": 8, "max_head": 8},
        {"max_depth": 1, "slots": 1, "head_width": 96},
    ],
)
def test_without_an_initial_structure_a_plain_one_is_made(settings: dict[str, Any]) -> None:
    space = ChainSpace(SUPERRES_BLOCKS, **settings)
    architecture = space.parse(space.initial)
    assert space.contains(architecture)
    assert len(architecture.blocks) == len(space.stage_strides) + 2
    assert all(block.depth == 1 for block in architecture.blocks)


# -- settings ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"blocks": ()}, "space.blocks must name at least one block type"),
        ({"blocks": ("SuperResK4K4",)}, "space.blocks: unknown block type 'SuperResK4K4'; did you mean"),
        ({"blocks": ("SuperConvK3BNRELU",)}, "space.blocks: SuperConvK3BNRELU is not a residual block type"),
        ({"blocks": ("SuperResK3K3",) * 2}, "space.blocks names a block type twice"),
        ({"stem": "SuperResK3K3"}, "space.stem: SuperResK3K3 is not a convolution block type"),
        ({"head": "Conv"}, "space.head: unknown block type 'Conv'"),
        ({"stage_strides": ()}, "space.stage_strides must be integers from 1 to 4"),
        ({"stage_strides": (1, 1)}, r"from 2 after the first stage; got \[1, 1\]"),
        ({"stage_strides": (1, 5)}, r"space.stage_strides must be integers from 1 to 4.*got \[1, 5\]"),
        ({"stage_strides": ("1", 2)}, "space.stage_strides must be integers"),
        ({"stem_stride": 0}, "space.stem_stride must be an integer from 1 to 4, got 0"),
        ({"slots": 0}, "space.slots must be an integer from 1 to 1000, got 0"),
        ({"slots": 2.5}, r"space.slots must be an integer from 1 to 1000, got 2\.5"),
        ({"max_depth": 6}, "space.max_depth must be an integer from 1 to 5, got 6"),
        ({"max_width": 20}, "space.max_width must be a multiple of 8 from 8 to 65536, got 20"),
        ({"max_head": None}, "space.max_head must be a multiple of 8 from 8 to 65536, got None"),
        ({"head_width": 4}, "space.head_width must be a multiple of 8"),
        ({"max_bottleneck": "64"}, "space.max_bottleneck must be a multiple of 8 from 8 to 65536, got '64'"),
        ({"type_weights": {"SuperResK5K5": 1}}, "types that are not in space.blocks: SuperResK5K5"),
        ({"type_weights": {"SuperResK3K3": -1}}, "SuperResK3K3 must be a number from 0, got -1"),
        ({"type_weights": {"SuperResK3K3": 0}}, "must leave at least one type a positive weight"),
    ],
)
def test_unusable_settings(settings: dict[str, Any], message: str) -> None:
    with pytest.raises((SpecError, StructureError), match=message) as caught:
        ChainSpace(**{"blocks": ("SuperResK3K3",), **settings})
    assert "\n" not in str(caught.value)
