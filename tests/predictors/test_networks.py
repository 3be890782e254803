"""What is read of networks, of every family by the contract alone."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import pytest

from zenopt.core.costs import count
from zenopt.core.errors import StructureError
from zenopt.predictors.inputs import Scaling
from zenopt.predictors.networks import NetworkReader
from zenopt.predictors.ranking import Ranking
from zenopt.spaces import get_space
from zenopt.spaces.chain.superres import SuperResSpace
from zenopt.spaces.nasbench201.space import NasBench201Space
from zenopt.spaces.registry import list_spaces


def drawn(space: Any, size: int = 12) -> list[Any]:
    rng = random.Random(0)
    return [found for _ in range(size) if (found := space.draw(rng)) is not None]


@pytest.mark.parametrize("name", [name for name in list_spaces() if get_space(name).has_networks])
def test_every_family_is_read(name: str) -> None:
    space = get_space(name)()
    networks = drawn(space)
    reader = NetworkReader(space, space.default_resolution, space.default_num_classes)
    found = reader.read(networks)
    assert len(found) == len(networks) and len(set(found.names)) == len(found.names)
    assert {"shape", "costs"} <= set(found.groups) and reader.ranking is not None
    assert all(len(own.scores(found)) == len(found) for own in Ranking.all_of(found, reader.ranking))
    assert {"shape", "costs"} <= set(Scaling.of(found).group_names)
    # Networks that differ in cost differ to the predictor, and what was read before is read alike.
    costs = [count(own, space.default_resolution, space.default_num_classes).params for own in networks]
    assert len(np.unique(found.matrix, axis=0)) >= len(set(costs))
    assert (reader.read(networks[::-1]).matrix == found.matrix[::-1]).all()


def test_genes_are_those_of_spaces_of_few_values() -> None:
    cells = NetworkReader(NasBench201Space(), 32, 10)
    assert cells.groups.count("genes") == 30 and "edge01=nor_conv_3x3" in cells.names
    assert "genes" not in NetworkReader(SuperResSpace(), 32, 10).groups


def test_a_score_that_fails_is_below_all_others() -> None:
    space = NasBench201Space()
    none = space.parse("|none~0|+|none~0|none~1|+|none~0|none~1|none~2|")
    reader = NetworkReader(space, 32, 10)
    found = reader.read([*drawn(space), none])
    column = found.matrix[:, found.names.index("synflow")]
    assert np.isfinite(column).all() and (column[-1] < column[:-1]).all()
    assert reader.read([none]).matrix[0].tolist() == found.matrix[-1].tolist()


def test_networks_of_another_family_are_refused() -> None:
    chain = SuperResSpace().parse(SuperResSpace().initial)
    with pytest.raises(StructureError, match="expected CellArchitecture, got Architecture"):
        NetworkReader(NasBench201Space(), 32, 10).read([chain])
