"""Weights of operations: what they are on average, and what gradients reach the alphas."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from zenopt.core.errors import SpecError
from zenopt.differentiable.relaxations import RELAXATIONS, expected
from zenopt.differentiable.settings import Temperature, list_methods, load_method

ALPHAS = torch.tensor([0.5, -1.0, 0.2])


@pytest.mark.parametrize("name", RELAXATIONS)
def test_weights_sum_to_one_and_alphas_get_gradients(name: str) -> None:
    torch.manual_seed(0)
    alphas = ALPHAS.clone().requires_grad_()
    values, drawn = RELAXATIONS[name](alphas, 0.7)
    assert values.sum().item() == pytest.approx(1, abs=1e-6)
    (values * torch.tensor([1.0, 2.0, 4.0])).sum().backward()
    assert alphas.grad is not None and float(alphas.grad.abs().sum()) > 0
    assert (drawn is not None) == (name == "gumbel-hard")


def test_hard_draws_are_one_operation_with_the_gradient_of_the_soft_ones() -> None:
    values = torch.tensor([1.0, 2.0, 4.0])
    for seed in range(5):
        found = []
        for name in ("gumbel", "gumbel-hard"):
            torch.manual_seed(seed)
            alphas = ALPHAS.clone().requires_grad_()
            weights = RELAXATIONS[name](alphas, 0.7)
            (weights.values * values).sum().backward()
            found.append((weights, alphas.grad))
        (soft, soft_gradient), (hard, hard_gradient) = found
        assert hard.drawn == int(soft.values.argmax())
        assert torch.allclose(hard.values, torch.eye(3)[hard.drawn], atol=1e-6)
        assert torch.allclose(hard_gradient, soft_gradient, atol=1e-6)


def test_draws_follow_their_distribution() -> None:
    torch.manual_seed(0)
    for name in ("gumbel-hard", "dirichlet"):
        drawn = torch.stack([RELAXATIONS[name](ALPHAS, 1.0).values for _ in range(4000)])
        assert torch.allclose(drawn.mean(0), expected(name, ALPHAS), atol=0.03)


def test_low_temperatures_are_nearly_hard() -> None:
    torch.manual_seed(0)
    drawn = torch.stack([RELAXATIONS["gumbel"](ALPHAS, 0.01).values.max() for _ in range(50)])
    assert float(drawn.mean()) > 0.95


def test_dirichlet_of_very_negative_alphas_exists() -> None:
    alphas = torch.tensor([-200.0, 1.0])
    assert bool(torch.isfinite(RELAXATIONS["dirichlet"](alphas, 1.0).values).all())


def test_temperatures_fall_from_start_to_end() -> None:
    linear = Temperature(start=10, end=0.1)
    assert [linear.at(epoch, 3) for epoch in range(3)] == pytest.approx([10, 5.05, 0.1])
    exponential = Temperature(start=4, end=1, decay="exponential")
    assert [exponential.at(epoch, 3) for epoch in range(3)] == pytest.approx([4, 2, 1])
    assert linear.at(0, 1) == 10


def test_methods_are_read_and_refused_in_one_line() -> None:
    assert list_methods() == ["darts-v1", "darts-v2", "drnas", "fbnet", "gdas", "snas"]
    assert load_method("darts-v2").order == 2
    found = load_method("darts-v1", ["alphas.lr=1e-2"], ("beta-decay", "skips"))
    assert found.alphas.lr == 0.01 and found.beta_decay is not None and found.stop_by_skips is not None
    for name, overrides, regularisers, said in (
        ("darts-v3", [], (), "known: darts-v1, darts-v2"),
        ("gdas", ["temprature.start=1"], (), "did you mean 'temperature'"),
        ("gdas", ["temperature.start=0"], (), "greater than 0"),
        ("snas", ["order=2"], (), "order 2 is of two levels"),
        ("gdas", ["held_back=1"], (), "less than 1"),
        ("gdas", [], ("beta",), "known: beta-decay, eigenvalue, skips"),
    ):
        with pytest.raises(SpecError) as error:
            load_method(name, overrides, regularisers)
        assert said in str(error.value) and "\n" not in str(error.value)


def test_a_method_of_ones_own_is_a_file(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text("relaxation: gumbel\ntemperature: {start: 3, end: 1}\n")
    assert load_method(str(path), ["temperature.end=2"]).temperature == Temperature(start=3, end=2)
    path.write_text("relaxation: gumbel\nlevel: triple\n")
    with pytest.raises(SpecError, match=r"mine\.yaml, line 2: level: .*'bilevel' or 'single'"):
        load_method(str(path))
    with pytest.raises(SpecError, match="absent"):
        load_method(str(tmp_path / "absent.yaml"))
