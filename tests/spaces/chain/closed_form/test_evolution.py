from __future__ import annotations

import random
from collections import Counter

import numpy as np
import pytest

from zenopt.core.budget import Budget
from zenopt.core.costs import count
from zenopt.core.errors import BudgetError, SpecError
from zenopt.spaces.chain.architecture import Architecture
from zenopt.spaces.chain.closed_form import closed_form_zen
from zenopt.spaces.chain.closed_form.chains import DEPTH
from zenopt.spaces.chain.closed_form.evolution import (
    EvolutionSettings,
    evaluator_of,
    evolve,
    is_within,
    structure_distance,
)
from zenopt.spaces.chain.closed_form.moves import ChainMoves
from zenopt.spaces.chain.closed_form.steady import evolve_steadily
from zenopt.spaces.chain.fork import mutate_fork
from zenopt.spaces.chain.mobile import MobileSpace
from zenopt.spaces.chain.space import ChainSpace
from zenopt.spaces.chain.superres import SuperResSpace

SUPERRES = SuperResSpace()
BUDGET = Budget(params=2e5, layers=14, min_width=8, counting="zennas")
SHORT = EvolutionSettings(iterations=6_000, population=64, generation=500)


def parse(text: str) -> Architecture:
    return Architecture.parse(text)


def find(space: ChainSpace = SUPERRES, budget: Budget = BUDGET, batch_size: int | None = 16, **options):
    evaluator = evaluator_of(space, 32, num_classes=10, batch_size=batch_size)
    return evolve(
        space, evaluator, budget, [parse(space.initial)], settings=options.pop("settings", SHORT), **options
    )


def features(child: Architecture | None) -> list[tuple]:
    """What a mutation can change, in parts small enough for counting."""
    if child is None:
        return [("outside",)]
    stem, first, second, *_, head = child.blocks
    return [
        ("blocks", len(child.blocks)),
        ("stem", stem.out_channels),
        ("head", head.out_channels),
        ("type", first.type_name),
        ("type of the second", second.type_name),
        ("depth", first.depth),
        ("depth of the second", second.depth),
        ("widths", first.out_channels, first.bottleneck),
        ("changed", stem.out_channels != 16, first.bottleneck != 16, head.out_channels != 64),
    ]


@pytest.mark.parametrize("move", ["zen", "fork"])
@pytest.mark.parametrize(
    "space", [SUPERRES, MobileSpace(max_width=64, slots=1, max_depth=4)], ids=["superres", "mobile"]
)
def test_children_are_distributed_as_the_space_s(space: ChainSpace, move: str) -> None:
    kind = space.blocks[0]
    stem, head = f"{space.stem}(3,16,{space.stem_stride},1)", f"{space.head}(32,{space.head_width or 64},1,1)"
    middle = "".join(
        f"{kind}({16 if stage == 0 else 32},32,{stride},16,{4 if stage == 0 else 1})"
        for stage, stride in enumerate(space.stage_strides)
    )
    parent = parse(stem + middle + head)
    draws = 4_000
    evaluator = evaluator_of(space, 32)
    moves = ChainMoves(space, evaluator.codec)
    genes = np.repeat(evaluator.codec.encode([parent]), draws, axis=0)
    children, inside = moves.mutate(genes, np.random.default_rng(0), move=move)
    ours: Counter[tuple] = Counter()
    for child, is_inside in zip(children, inside, strict=True):
        ours.update(features(evaluator.codec.decode(child) if is_inside else None))
    rng = random.Random(0)
    mutate = (
        space.mutate if move == "zen" else lambda architecture, rng: mutate_fork(space, architecture, rng)
    )
    theirs: Counter[tuple] = Counter()
    for _ in range(draws):
        theirs.update(features(mutate(parent, rng)))
    # Two-sample chi-squared statistic over the values met often enough; its mean is at most their number.
    classes = [name for name in ours | theirs if ours[name] + theirs[name] >= 20]
    statistic = sum((ours[name] - theirs[name]) ** 2 / (ours[name] + theirs[name]) for name in classes)
    assert len(classes) > 20
    assert statistic < len(classes) + 5 * np.sqrt(2 * len(classes))


def test_children_stay_inside_the_space() -> None:
    space = SuperResSpace(slots=2, max_depth=5, max_width=64, max_bottleneck=32, max_head=128)
    evaluator = evaluator_of(space, 32)
    moves = ChainMoves(space, evaluator.codec)
    genes = np.repeat(evaluator.codec.encode([parse(space.initial)]), 400, axis=0)
    rng = np.random.default_rng(3)
    for _ in range(12):
        children, inside = moves.mutate(genes, rng)
        decoded = [evaluator.codec.decode(row) for row in children]
        assert [space.contains(child) for child in decoded] == inside.tolist()
        genes = children[inside][rng.integers(0, int(inside.sum()), 400)]


def test_it_finds_better_structures_within_the_budget() -> None:
    found = find(seed=1)
    values = [entry.value for entry in found.best]
    assert values == sorted(values, reverse=True)
    assert len({str(entry.architecture) for entry in found.best}) == len(values) == 64
    assert values[0] > 2 * closed_form_zen(parse(SUPERRES.initial), 32, batch_size=16)
    assert found.iterations == 6_000
    for entry in found.best:
        costs = count(entry.architecture, 32, 10)
        assert costs.zennas_params <= 2e5
        assert costs.layers <= 14
        assert entry.value == pytest.approx(closed_form_zen(entry.architecture, 32, batch_size=16), rel=1e-9)
        assert SUPERRES.contains(entry.architecture)


def test_the_same_seed_gives_the_same_result() -> None:
    assert find(seed=5).best == find(seed=5).best
    assert find(seed=5).best != find(seed=6).best


def test_known_structures_are_not_returned() -> None:
    first = find(seed=2, keep=10)
    known = {str(entry.architecture) for entry in first.best}
    again = find(seed=2, keep=10, known=known)
    assert not known & {str(entry.architecture) for entry in again.best}
    assert len(again.best) == 10


def test_returned_structures_can_be_kept_apart() -> None:
    found = find(seed=2, keep=8, distance=3)
    codec = evaluator_of(SUPERRES, 32).codec
    genes = codec.encode([entry.architecture for entry in found.best], 34)
    for index in range(1, len(genes)):
        assert structure_distance(genes[index], genes[:index]).min() >= 3


def test_niches_keep_shallow_and_deep_ones() -> None:
    niches = EvolutionSettings(
        iterations=6_000, population=64, generation=500, diversity="depth", niche_share=0.1
    )
    layers = [count(entry.architecture, 32).layers for entry in find(seed=1, settings=niches).best]
    assert max(Counter(layers).values()) <= 6
    plain = [count(entry.architecture, 32).layers for entry in find(seed=1).best]
    assert len(set(layers)) > len(set(plain))


def test_a_slower_check_is_asked_once_per_structure() -> None:
    asked: list[str] = []

    def accept(architecture: Architecture) -> bool:
        asked.append(str(architecture))
        return architecture.blocks[0].out_channels <= 16

    found = find(seed=1, accept=accept)
    assert all(entry.architecture.blocks[0].out_channels <= 16 for entry in found.best)
    assert len(asked) == len(set(asked)) < found.inside


def test_another_value_can_be_maximised() -> None:
    found = find(seed=1, value=lambda genes: -genes[:, :, DEPTH].sum(axis=1).astype(float))
    assert found.best[0].architecture.depth == 6


@pytest.mark.parametrize(
    "budget",
    [
        Budget(macs=3e6), Budget(convs=20), Budget(min_width=16, params=1e6), Budget(depth_to_width=0.1),
        Budget(params=1e5, counting="true"),
    ],
)  # fmt: skip
def test_limits_are_those_of_the_budget(budget: Budget) -> None:
    evaluator = evaluator_of(SUPERRES, 32, num_classes=10)
    found = find(
        budget=Budget(params=5e5), settings=EvolutionSettings(iterations=500, generation=100), keep=40
    )
    architectures = [entry.architecture for entry in found.best]
    within = is_within(budget, evaluator.costs(evaluator.codec.encode(architectures)))
    expected = [
        all(violation <= 0 for violation in budget.violations(count(architecture, 32, 10)).values())
        for architecture in architectures
    ]
    assert within.tolist() == expected


def test_the_fork_s_move_works_in_the_loop() -> None:
    settings = EvolutionSettings(iterations=4_000, population=64, generation=500, move="fork")
    assert find(seed=1, settings=settings).best[0].value > 40


def test_an_impossible_budget_is_named() -> None:
    with pytest.raises(BudgetError, match="None of the 1 parents fits the budget \\(params <= 100\\)"):
        find(budget=Budget(params=100))


def test_bad_settings_are_refused() -> None:
    with pytest.raises(SpecError, match="move must be one of zen, fork"):
        EvolutionSettings(move="none")
    with pytest.raises(SpecError, match="generation must be at least 1"):
        EvolutionSettings(generation=0)
    with pytest.raises(SpecError, match="diversity must be one of"):
        EvolutionSettings(diversity="all")
    with pytest.raises(SpecError, match="niche_share"):
        EvolutionSettings(niche_share=0)


def test_the_published_loop_finds_about_the_same() -> None:
    def within(architecture: Architecture) -> bool:
        return all(violation <= 0 for violation in BUDGET.violations(count(architecture, 32, 10)).values())

    steady = evolve_steadily(
        SUPERRES,
        lambda architecture: closed_form_zen(architecture, 32, batch_size=None),
        within,
        parse(SUPERRES.initial),
        seed=1,
        iterations=1_500,
        population=64,
    )
    generations = find(
        batch_size=None,
        seed=1,
        settings=EvolutionSettings(iterations=1_500, population=64, generation=32, distinct=False),
    )
    assert all(within(entry.architecture) for entry in steady.best)
    assert [value for _, value in steady.course] == sorted(value for _, value in steady.course)
    assert steady.best[0].value == pytest.approx(generations.best[0].value, rel=0.25)
