"""Paths through cells as columns: equal for equal graphs, different for others, and what they are good for."""

from __future__ import annotations

import itertools
import random
from dataclasses import dataclass

import numpy as np
import pytest

from zenopt.core.description import Description, Stack, Unit
from zenopt.core.errors import PredictorError
from zenopt.core.primitives import Conv, Edge, Graph, Node, Pool
from zenopt.predictors.evidence import choose
from zenopt.predictors.inputs import Inputs
from zenopt.predictors.kernels import Sample
from zenopt.predictors.networks import NetworkReader
from zenopt.predictors.observations import Observations
from zenopt.predictors.paths import COLUMNS, MOST, PATHS, path_columns, views_of
from zenopt.predictors.ranking import Ranking
from zenopt.predictors.surrogate import Surrogate
from zenopt.spaces.chain.superres import SuperResSpace
from zenopt.spaces.darts.space import DartsSpace
from zenopt.spaces.nasbench101.architecture import Nb101Architecture
from zenopt.spaces.nasbench201.architecture import CellArchitecture
from zenopt.spaces.nasbench201.space import NasBench201Space
from zenopt.spaces.transnas.micro import TransNasMicroSpace


def columns(architecture: object) -> list[float]:
    found = path_columns(architecture)
    assert found is not None and found.shape == (COLUMNS,)
    return found.tolist()


def cell(*operations: str) -> CellArchitecture:
    names = {"0": "none", "s": "skip_connect", "1": "nor_conv_1x1", "3": "nor_conv_3x3", "p": "avg_pool_3x3"}
    return CellArchitecture(tuple(names[letter] for letter in operations))


@dataclass(frozen=True)
class Drawn:
    """A network of one cell, given by the edges between its places."""

    edges: tuple[tuple[int, int, tuple[Node, ...]], ...]
    output: int

    @property
    def description(self) -> Description:
        return Description((Stack("stem", (Conv(3, 8, 3),), 3, 8), DrawnCell(self)))


@dataclass(frozen=True)
class DrawnCell(Unit):
    drawn: Drawn

    in_channels = out_channels = 8

    def expand(self) -> tuple[Node, ...]:
        return (Graph(1, tuple(Edge(*edge) for edge in self.drawn.edges), (self.drawn.output,)),)

    def __str__(self) -> str:
        return f"DrawnCell({self.drawn})"


def test_equal_graphs_have_equal_columns() -> None:
    conv, pool = (Conv(8, 8, 3),), (Pool(8, 3),)
    edges = [(0, 1, conv), (0, 2, pool), (1, 3, pool), (2, 3, conv), (1, 4, conv), (3, 4, pool)]
    expected = columns(Drawn(tuple(edges), 4))
    # Places 1 and 2 change names.
    renamed = tuple((*({1: 2, 2: 1}.get(end, end) for end in edge[:2]), edge[2]) for edge in reversed(edges))
    assert columns(Drawn(renamed, 4)) == expected
    assert columns(Drawn((*edges[:-1], (3, 4, conv)), 4)) != expected


def test_vertices_in_another_order_are_the_same_cell() -> None:
    one, two, other = (
        columns(Nb101Architecture.parse(f"nb101-3x3x128-{text}"))
        for text in ("conv3~0,conv1~0,out~1+2", "conv1~0,conv3~0,out~1+2", "conv3~0,conv1~0+1,out~1+2")
    )
    assert one == two and one != other


def test_what_computes_the_same_reads_the_same() -> None:
    # 0-1, 0-2, 1-2, 0-3, 1-3, 2-3: a 3x3 convolution alone, by three ways; dead operations count for nothing.
    ways = [
        cell(*"000300"),
        cell(*"s00030"),
        cell(*"3000s0"),
        cell(*"30p0s0"),
        cell(*"0s0003"),
        cell(*"s0s003"),
    ]
    assert len({tuple(columns(own)) for own in ways}) == 1
    assert columns(cell(*"000300")) != columns(cell(*"000100"))
    # Order matters: a pooling before a convolution is not one after it.
    assert columns(cell(*"3000p0")) != columns(cell(*"p00030"))
    assert columns(cell(*"000000")) == [0.0] * COLUMNS


def test_different_cells_differ() -> None:
    """All cells of one way of two operations, and one straight to the output."""
    seen = {}
    for operations in itertools.product("013p", repeat=3):
        first, second, direct = operations
        own = cell(first, "0", "0", direct, second, "0")
        path = tuple(sorted([tuple(x) for x in (first + second, direct) if "0" not in x]))
        assert seen.setdefault(tuple(columns(own)), path) == path
    assert len(seen) == 40  # Both ways open: 9 x 3; one of them: 9 + 3; none: 1.


def test_kinds_of_cells_are_told_apart() -> None:
    space = DartsSpace()
    text = "sep3~0+sep3~1,sep3~0+sep3~1,sep3~0+sep3~1,sep3~0+sep3~1"
    other = "sep5~0+sep5~1,sep5~0+sep5~1,sep5~0+sep5~1,sep5~0+sep5~1"
    assert columns(space.parse(f"{text}-{other}")) != columns(space.parse(f"{other}-{text}"))
    # Normal and reduction cell of one drawing are still two cells.
    both, normal = space.parse(f"{text}-{text}"), space.parse(f"{text}-{other}")
    assert columns(both) != columns(normal)


def test_distances_are_those_of_the_paths() -> None:
    """The columns of two networks are as far apart as their sets of paths, but for a small error."""
    rng = random.Random(0)
    space = TransNasMicroSpace()
    networks = [space.draw(rng) for _ in range(30)]
    matrix = np.array([columns(own) for own in networks])
    squares = ((matrix[:, None] - matrix) ** 2).sum(axis=2) / COLUMNS
    views = [views_of(own) for own in networks]
    exact = np.array([[len(a ^ b) for b in views] for a in views])
    assert (squares[exact == 0] == 0).all() and exact.max() > 20
    assert np.corrcoef(squares[exact > 0], exact[exact > 0])[0, 1] > 0.9
    assert np.mean(np.abs(squares / np.maximum(exact, 1) - (exact > 0))) < 0.25


def test_very_many_paths_end_early_and_alike() -> None:
    conv = (Conv(8, 8, 3),)
    other = (Conv(8, 8, 5),)
    wide = [(start, start + 1, nodes) for start in range(14) for nodes in (conv, other)]
    short = (0, 14, conv)
    found = columns(Drawn((*wide, short), 14))
    # 2^14 long ways are left out, the short one is there.
    assert MOST < 2**14 and found == columns(Drawn((short,), 14))
    assert columns(Drawn((short, *reversed(wide)), 14)) == found


def test_networks_without_cells_have_none() -> None:
    space = SuperResSpace()
    assert path_columns(space.parse(space.initial)) is None
    assert PATHS not in NetworkReader(space, 32, 10).groups
    reader = NetworkReader(NasBench201Space(), 32, 10)
    assert reader.groups.count(PATHS) == COLUMNS
    with pytest.raises(PredictorError, match=r"no input is called 'paths 1'; there are .*synflow, one of"):
        Ranking.all_of(reader.read([cell(*"333333")]), "paths 1")


def test_paths_teach_what_counts_do_not() -> None:
    """What is good here is a pooling that comes after a convolution: counts of operations cannot tell."""
    cells = [
        cell(*operations)
        for operations in itertools.product("13p", repeat=4)
        for operations in [(*operations[:1], operations[1], "0", "0", *operations[2:])]
    ]
    paths = [
        ((own.operations[0], own.operations[4]), (own.operations[1], own.operations[5])) for own in cells
    ]
    values = np.array(
        [sum(a.startswith("nor") and b.startswith("avg") for a, b in own) for own in paths], dtype=float
    )
    names = sorted({name for own in cells for name in own.operations if name != "none"})
    counts = np.array([[own.operations.count(name) for name in names] for own in cells], dtype=float)
    matrix = np.concatenate([counts, [columns(own) for own in cells]], axis=1)
    inputs = Inputs(
        (*names, *(f"{PATHS} {n}" for n in range(COLUMNS))), ("shape",) * 3 + (PATHS,) * COLUMNS, matrix
    )
    order = np.random.default_rng(0).permutation(len(cells))
    known, unseen = order[:40], order[40:]
    reached = {}
    for groups in ((), ("shape",)):
        surrogate = Surrogate(inputs, groups=groups)
        surrogate.learn(Observations.of(inputs.rows(known), [str(cells[i]) for i in known], values[known]))
        found = surrogate.predict(inputs.rows(unseen)).mean
        reached[groups] = float(np.corrcoef(found, values[unseen])[0, 1])
        assert (PATHS in surrogate.reads) == (groups == ())
    assert reached[()] > 0.9 and reached["shape",] < 0.7, reached


def test_groups_that_enter_need_evidence() -> None:
    rng = np.random.default_rng(2)
    matrix = rng.normal(size=(60, 9))
    values = matrix[:, 0] * matrix[:, 1] + matrix[:, 3] ** 2 + 0.05 * rng.normal(size=60)
    columns = {"shape": np.arange(3), PATHS: np.arange(3, 6), "noise": np.arange(6, 9)}
    fit = choose(columns, (1.0,), Sample.of(matrix), values, entering=(PATHS,))
    assert fit.groups == ("shape", PATHS)
    assert ("shape", "noise") in {trial.groups for trial in fit.trials}
    # Noise does not enter; and what enters is not read before there is evidence.
    fit = choose(columns, (1.0,), Sample.of(matrix), values, entering=("noise",))
    assert fit.groups == ("shape", PATHS)
    few = Sample.of(matrix[:6])
    assert choose(columns, (1.0,), few, values[:6], entering=(PATHS,)).groups == ("shape", "noise")
    fit = choose(columns, (1.0,), Sample.of(matrix[:29]), values[:29], entering=(PATHS,))
    assert not any(PATHS in trial.groups for trial in fit.trials)
    assert choose({PATHS: np.arange(3, 6)}, (1.0,), few, values[:6], entering=(PATHS,)).groups == (PATHS,)


def test_groups_of_inputs_can_be_named() -> None:
    rng = np.random.default_rng(0)
    inputs = Inputs(("a", "b"), ("shape", "costs"), rng.normal(size=(20, 2)))
    surrogate = Surrogate(inputs, groups=["costs"])
    surrogate.learn(Observations.of(inputs, list(range(20)), inputs.matrix[:, 0]))
    assert surrogate.reads == ("costs",)
    with pytest.raises(PredictorError, match=r"inputs: no group is called 'cost'; there are shape, costs\."):
        Surrogate(inputs, groups=["cost"])
    constant = Inputs(("a", "b"), ("shape", "costs"), np.stack([np.ones(20), inputs.matrix[:, 1]], axis=1))
    with pytest.raises(PredictorError, match="do not differ in shape"):
        Surrogate(constant, groups=["shape"])
