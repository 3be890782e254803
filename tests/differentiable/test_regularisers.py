"""What ends a search early, and the terms that are added to its loss."""

from __future__ import annotations

import pytest
import torch

from zenopt.core.costs import count
from zenopt.differentiable.cost import CostTable, with_cost
from zenopt.differentiable.regularisers import beta_decay, dominant_eigenvalue, epoch_to_return_to
from zenopt.differentiable.relaxations import Weights
from zenopt.differentiable.settings import Cost, load_method
from zenopt.spaces.registry import get_space

SPACE = get_space("nasbench201")()
OPENED = SPACE.open_network()


@pytest.mark.parametrize("values", [(3.0, 1.0, -0.5), (-4.0, 1.5, 0.3), (-3.0, -2.0, -1.0)])
def test_dominant_eigenvalue_is_the_largest(values: tuple[float, ...]) -> None:
    rotation, _ = torch.linalg.qr(torch.randn(3, 3, generator=torch.Generator().manual_seed(0)))
    hessian = rotation @ torch.diag(torch.tensor(values)) @ rotation.T
    point = [torch.ones(1, requires_grad=True), torch.ones(2, requires_grad=True)]
    flat = torch.cat(point)
    loss = flat @ hessian @ flat / 2
    assert dominant_eigenvalue(loss, point, 500, 1e-7) == pytest.approx(max(values), abs=0.01)


def test_beta_decay_pulls_by_the_softmax() -> None:
    alphas = [torch.randn(5, requires_grad=True), torch.randn(5, requires_grad=True)]
    beta_decay(alphas).backward()
    for alpha in alphas:
        assert alpha.grad is not None and torch.allclose(alpha.grad, alpha.detach().softmax(0) / 2)


def test_ends_when_the_eigenvalue_rises() -> None:
    method = load_method("darts-v1", ["stop_by_eigenvalue.window=2"], ("eigenvalue",))
    cells = [OPENED.only()] * 9

    def taken(eigenvalues: list[float]) -> int | None:
        return epoch_to_return_to(method, OPENED, cells[: len(eigenvalues)], eigenvalues)

    assert taken([1, 1, 9]) is None, "two windows are compared"
    assert taken([1, 1, 1.2, 1.2]) is None
    assert taken([1, 1, 2, 2]) == 2
    assert taken([1, 1, 1, 1, 2, 2]) == 4
    assert taken([-1, -1, -0.1, -0.1]) is None


def test_ends_at_too_many_skips_with_the_cell_before() -> None:
    method = load_method("darts-v1", ["stop_by_skips.most=1"], ("skips",))

    def cell(skips: int) -> object:
        return SPACE.parse(str(type(OPENED.only())(("skip_connect",) * skips + ("none",) * (6 - skips))))

    def taken(*skips: int) -> int | None:
        return epoch_to_return_to(method, OPENED, [cell(count) for count in skips], [])

    assert taken(0, 1, 1) is None
    assert taken(0, 1, 2) == 2
    assert taken(3, 3) is None, "no cell so far had fewer"
    assert taken(3, 1, 2) == 2


def test_expected_cost_is_that_of_the_architecture_of_one_operation_per_edge() -> None:
    def macs(architecture: object) -> float:
        return float(count(architecture, 32, 10).macs)

    table = CostTable.measured(OPENED, macs)
    architecture = SPACE.parse(
        "|nor_conv_3x3~0|+|nor_conv_1x1~0|skip_connect~1|+|none~0|avg_pool_3x3~1|nor_conv_3x3~2|"
    )
    mixture = {
        name: Weights(torch.eye(5)[operations.index(operation)])
        for (name, operations), operation in zip(OPENED.choices.items(), architecture.operations, strict=True)
    }
    assert float(table.expected(mixture)) == macs(architecture)
    assert table.dearest == macs(OPENED.derive({name: [0, 0, 0, 1, 0] for name in OPENED.choices}))


def test_cost_terms() -> None:
    table = CostTable(10.0, {"edge": (0.0, 90.0)})
    weights = torch.tensor([0.5, 0.5], requires_grad=True)
    mixture = {"edge": Weights(weights)}
    loss = torch.tensor(2.0)
    added = with_cost(loss, table, mixture, Cost(kind="macs", form="add", weight=3.0))
    assert added.item() == pytest.approx(2 + 3 * 55 / 100)
    options = Cost(kind="macs", form="multiply", weight=0.2, power=0.6)
    multiplied = with_cost(loss, table, mixture, options)
    assert multiplied.item() == pytest.approx(2 * 0.2 * torch.tensor(55.0).log().item() ** 0.6)
    in_ms = with_cost(loss, table, mixture, options.model_copy(update={"kind": "latency_ms"}))
    assert in_ms.item() == pytest.approx(2 * 0.2 * torch.tensor(55e3).log().item() ** 0.6)
    multiplied.backward()
    assert weights.grad is not None and weights.grad[1] > weights.grad[0] >= 0
