"""Screening over arrays: what it picks is new, in budget, good, and no sibling of the best."""

from __future__ import annotations

import random

import pytest

from zenopt.core.budget import Budget
from zenopt.latency import load_profile
from zenopt.latency.limits import Limits
from zenopt.spaces.chain.architecture import Architecture
from zenopt.spaces.chain.closed_form import closed_form_zen
from zenopt.spaces.chain.screening import DISTANCE, ArrayScreen
from zenopt.spaces.chain.superres import SuperResSpace


@pytest.fixture(scope="module")
def space() -> SuperResSpace:
    return SuperResSpace(slots=3, max_width=256, max_bottleneck=64, max_head=256)


@pytest.fixture(scope="module")
def limits() -> Limits:
    return Limits(Budget(params=2e5, layers=12, convs=60), resolution=32, num_classes=10)


def picks(
    space: SuperResSpace, limits: Limits, count: int, seed: int = 0, **options: object
) -> list[Architecture]:
    screen = ArrayScreen(space, limits, candidates=600, elites=64, **options)  # type: ignore[arg-type]
    rng = random.Random(seed)
    parents = [limits.closest_fit(space, space.parse(space.initial))]
    found: list[Architecture] = []
    for _ in range(count):
        pick = screen.pick(parents, {str(parent) for parent in parents}, rng)
        assert pick is not None
        found.append(pick)
        parents = sorted([*parents, pick], key=lambda item: -closed_form_zen(item, 32))
    return found


def blocks_that_differ(one: Architecture, other: Architecture) -> int:
    """Places with another type, width, bottleneck, depth or stride; missing blocks count."""

    def genes(architecture: Architecture) -> list[tuple[object, ...]]:
        return [
            (b.type_name, b.stride, b.depth, b.out_channels, getattr(b, "bottleneck", 0))
            for b in architecture.blocks
        ]

    a, b = genes(one), genes(other)
    return sum(x != y for x, y in zip(a, b, strict=False)) + abs(len(a) - len(b))


@pytest.mark.parametrize("mutation", ["zen", "fork"])
def test_picks_are_new_in_the_space_and_in_budget(
    space: SuperResSpace, limits: Limits, mutation: str
) -> None:
    found = picks(space, limits, 6, move=mutation)
    assert len(set(found)) == 6
    for architecture in found:
        assert space.contains(architecture)
        assert limits.check(architecture).is_feasible


def test_picks_climb_and_are_no_siblings(space: SuperResSpace, limits: Limits) -> None:
    found = picks(space, limits, 12)
    values = [closed_form_zen(architecture, 32) for architecture in found]
    initial = closed_form_zen(limits.closest_fit(space, space.parse(space.initial)), 32)
    assert min(values) > initial
    assert max(values[6:]) > values[0]
    for index, architecture in enumerate(found[1:], start=1):
        is_record = values[index] > max(values[:index])
        assert is_record or min(blocks_that_differ(architecture, e) for e in found[:index]) >= DISTANCE


def test_picks_depend_on_the_seed_alone(space: SuperResSpace, limits: Limits) -> None:
    assert picks(space, limits, 3, seed=5) == picks(space, limits, 3, seed=5)
    assert picks(space, limits, 3, seed=5) != picks(space, limits, 3, seed=6)


def test_a_latency_limit_is_kept() -> None:
    space = SuperResSpace(stage_strides=(2, 2, 2, 2), stem_stride=2, slots=2)
    device = load_profile("v100-fp16-b64")
    limits = Limits(Budget(latency_ms=0.07, layers=8), resolution=224, device=device)
    for architecture in picks_at_224(space, limits, 3):
        latency_ms = limits.latency_ms(architecture)
        assert latency_ms is not None and latency_ms <= 0.07


def picks_at_224(space: SuperResSpace, limits: Limits, count: int) -> list[Architecture]:
    screen = ArrayScreen(space, limits, candidates=300, elites=64)
    parents = [limits.closest_fit(space, space.parse(space.initial))]
    rng = random.Random(0)
    for _ in range(count):
        pick = screen.pick(parents, {str(parent) for parent in parents}, rng)
        assert pick is not None
        parents.append(pick)
    return parents[1:]


def test_nothing_new_gives_none(limits: Limits) -> None:
    # One block type, one slot, smallest widths: the space has few architectures, and all are made known.
    space = SuperResSpace(
        blocks=("SuperResK3K3",),
        stage_strides=(1,),
        slots=1,
        max_depth=1,
        max_width=8,
        max_bottleneck=8,
        max_head=8,
        initial="SuperConvK3BNRELU(3,8,1,1)SuperResK3K3(8,8,1,8,1)SuperConvK1BNRELU(8,8,1,1)",
    )
    screen = ArrayScreen(space, limits, candidates=50, elites=64)
    only = space.parse(space.initial)
    assert screen.pick([only], {str(only)}, random.Random(0)) is None
