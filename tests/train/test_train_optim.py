from __future__ import annotations

import copy
from typing import get_args

import pytest
import torch
from torch import nn

from zenopt.core.errors import UnknownNameError
from zenopt.nn import build_network
from zenopt.nn.modules import ResidualModule
from zenopt.spaces.chain.architecture import Architecture
from zenopt.train.checkpoint import check_optimizer
from zenopt.train.errors import TrainError
from zenopt.train.optim import (
    MovingAverage,
    Stretch,
    build_optimizer,
    learning_rate,
    parameter_groups,
    stretch_at,
    whole_run,
)
from zenopt.train.recipe import Init, Optimizer, Recipe, Schedule
from zenopt.train.regularise import CUSTOM_GAIN, initialise, set_drop_path, set_dropout


def small() -> nn.Module:
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(4, 2))


def test_norms_and_biases_do_not_decay() -> None:
    decayed, kept = parameter_groups([small()], Optimizer(weight_decay=0.01))
    assert [p.ndim for p in decayed["params"]] == [4, 2] and decayed["weight_decay"] == 0.01  # type: ignore[attr-defined]
    # Convolution bias, BN weight and bias, linear bias.
    assert len(kept["params"]) == 4 and kept["weight_decay"] == 0  # type: ignore[arg-type]
    (everything,) = parameter_groups([small()], Optimizer(weight_decay=0.01, decay_norm_and_bias=True))
    assert len(everything["params"]) == 6  # type: ignore[arg-type]


@pytest.mark.parametrize("name", ["sgd", "adamw", "rmsprop", "timm:lamb"])
def test_optimisers_step_and_scale_with_the_batch(name: str) -> None:
    if name.startswith("timm:"):
        pytest.importorskip("timm")
    network = small()
    optimizer = build_optimizer([network], Optimizer(name=name, lr=0.01), batch_size=64)
    assert all(group["lr"] == pytest.approx(0.01 * 64 / 256) for group in optimizer.param_groups)
    assert sorted(group["weight_decay"] for group in optimizer.param_groups) == [0, 5e-4]
    before = [parameter.detach().clone() for parameter in network.parameters()]
    network(torch.randn(8, 3, 3, 3)).square().sum().backward()
    optimizer.step()
    # The convolution's bias has no gradient: the norm behind it takes any constant away.
    moved = [not torch.equal(a, b) for a, b in zip(before, network.parameters(), strict=True)]
    assert moved[0] and moved[4] and moved[5]


def test_an_unknown_timm_optimiser_is_named() -> None:
    pytest.importorskip("timm")
    with pytest.raises(UnknownNameError, match="timm:nope"):
        build_optimizer([small()], Optimizer(name="timm:nope"), 64)


def rates(schedule: Schedule, steps: int = 10, epochs: int = 10, final: float = 0.0) -> list[float]:
    recipe = Recipe(
        epochs=epochs,
        batch_size=256,
        optimizer=Optimizer(lr=1.0),
        schedule=schedule.model_copy(update={"final_lr": final}),
    )
    return [learning_rate(step, whole_run(recipe, steps), recipe) for step in range(steps * epochs)]


def test_warm_up_then_cosine() -> None:
    values = rates(Schedule(warmup_epochs=2), final=0.1)
    assert values[0] == pytest.approx(1 / 20) and values[19] == 1.0 and values[20] == 1.0
    assert values[60] == pytest.approx(0.55)  # half-way: the mean of peak and final
    assert values[-1] == pytest.approx(0.1, abs=1e-3) and values[-1] > 0.1
    assert values[19:] == sorted(values[19:], reverse=True)


def test_other_schedules() -> None:
    linear = rates(Schedule(name="linear", warmup_epochs=0))
    assert linear[0] == 1.0 and linear[50] == pytest.approx(0.5) and linear[-1] == pytest.approx(0.01)
    step = rates(Schedule(name="step", warmup_epochs=0, milestones=(0.5, 0.75), factor=0.1))
    assert step[49] == 1.0 and step[50] == pytest.approx(0.1) and step[75] == pytest.approx(0.01)
    assert set(rates(Schedule(name="constant", warmup_epochs=0))) == {1.0}
    # Warm-up longer than the run still rises, and never divides by zero.
    assert rates(Schedule(warmup_epochs=50), steps=2, epochs=1) == [1.0, 1.0]


def test_stretches_begin_anew() -> None:
    recipe = Recipe(batch_size=128, schedule=Schedule(warmup_epochs=9))
    stretches = (Stretch(0, 10, 0, 1.0), Stretch(10, 30, 4, 0.5, is_new=True))
    values = [learning_rate(step, stretch_at(stretches, step), recipe) for step in range(31)]
    assert values[0] == 0.5 and values[5] == pytest.approx(0.25)  # half of the rate: half of 256 images
    assert values[10:14] == pytest.approx([0.25 / 4, 0.25 / 2, 0.75 / 4, 0.25]) and values[14] == 0.25
    assert values[22] == pytest.approx(0.125) and values[30] == pytest.approx(0.0)


def test_moving_average() -> None:
    network = nn.Linear(1, 1, bias=False)
    nn.init.constant_(network.weight, 1.0)
    average = MovingAverage(network, decay=0.9)
    nn.init.constant_(network.weight, 3.0)
    average.update(network)  # decay min(0.9, 2/11): 1 * 2/11 + 3 * 9/11
    assert average.state["weight"].item() == pytest.approx(2 / 11 + 27 / 11)
    for _ in range(200):
        average.update(network)
    assert average.state["weight"].item() == pytest.approx(3.0, abs=1e-4)


def test_custom_initialisation() -> None:
    text = "SuperConvK3BNRELU(3,64,1,1)SuperResK3K3(64,64,1,64,2)SuperConvK1BNRELU(64,256,1,1)"
    network = build_network(Architecture.parse(text), num_classes=10)
    initialise(network, "custom", torch.Generator().manual_seed(0))
    residuals = [module for module in network.modules() if isinstance(module, ResidualModule)]
    assert len(residuals) == 2
    for residual in residuals:
        first, last = (m for m in residual.body if isinstance(m, nn.BatchNorm2d))
        assert torch.all(first.weight == 1) and torch.all(last.weight == 0)
    convolution = residuals[0].body[0]
    assert isinstance(convolution, nn.Conv2d)
    # Xavier: std = gain * sqrt(2 / (fan_in + fan_out)), both 64 * 9.
    assert convolution.weight.std().item() == pytest.approx(CUSTOM_GAIN * (2 / 1152) ** 0.5, rel=0.03)
    classifier = network.classifier
    assert isinstance(classifier, nn.Linear)
    assert classifier.weight.std().item() == pytest.approx(CUSTOM_GAIN * (2 / 266) ** 0.5, rel=0.05)
    assert torch.all(classifier.bias == 0)


# Standard deviations of a 3x3 convolution 64 -> 128 and of the classifier 128 -> 10, worked out from the definitions.
PUBLISHED = {
    "msra-prelu": (3.26033 * (2 / (9 * 192)) ** 0.5, 3.26033 * (2 / 138) ** 0.5),
    "xavier": (2**0.5 * (2 / (9 * 192)) ** 0.5, 3.26033 * (2 / 138) ** 0.5),
    "fan-out": ((9 * 128) ** -0.5, 10**-0.5),
    "fan-out-0.1": (0.1 * (9 * 128) ** -0.5, 0.1 * 10**-0.5),
    "fan-out-0.001": (0.001 * (9 * 128) ** -0.5, 0.001 * 10**-0.5),
    "kaiming": ((2 / (9 * 128)) ** 0.5, 0.01),
    "normal": (0.01, 0.01),
    "oneshot": (1 / 64, 0.01),
}


@pytest.mark.parametrize("init", PUBLISHED)
def test_published_initialisations(init: str) -> None:
    network = nn.Sequential(
        nn.Conv2d(3, 64, 3, bias=False),
        nn.Conv2d(64, 128, 3),
        nn.BatchNorm2d(128),
        nn.Flatten(),
        nn.Linear(128, 10),
    )
    for parameter in network.parameters():
        nn.init.constant_(parameter, 7.0)
    initialise(network, init, torch.Generator().manual_seed(0))
    stem, convolution, norm, _, classifier = network
    spread = [layer.weight.std().item() for layer in (convolution, classifier)]
    assert spread == [pytest.approx(PUBLISHED[init][0], rel=0.03), pytest.approx(PUBLISHED[init][1], rel=0.1)]
    assert torch.all(norm.weight == 1) and torch.all(norm.bias == (1e-4 if init == "oneshot" else 0))
    assert torch.all(convolution.bias == 0) and torch.all(classifier.bias == 0)
    if init == "oneshot":
        assert stem.weight.std().item() == pytest.approx(0.01, rel=0.1)


def test_every_initialisation_of_a_recipe_is_known() -> None:
    assert set(get_args(Init)) == {*PUBLISHED, "custom", "default", "shortcuts"}
    for name in get_args(Init):
        network = small()
        before = [parameter.detach().clone() for parameter in network.parameters()]
        initialise(network, name, torch.Generator().manual_seed(0))
        moved = not torch.equal(before[0], network[0].weight)
        assert moved == (name not in ("default", "shortcuts")), name


def test_residuals_begin_as_their_shortcuts_and_nothing_else_changes() -> None:
    text = "SuperConvK3BNRELU(3,16,1,1)SuperResK3K3(16,16,2,8,2)"
    network = build_network(Architecture.parse(text), num_classes=10)
    before = {name: value.detach().clone() for name, value in network.named_parameters()}
    initialise(network, "shortcuts")
    changed = {name for name, value in network.named_parameters() if not torch.equal(value, before[name])}
    bodies = [module.body for module in network.modules() if isinstance(module, ResidualModule)]
    last = {id([own for own in body if isinstance(own, nn.BatchNorm2d)][-1].weight) for body in bodies}
    assert len(last) == 2
    assert {id(network.get_parameter(name)) for name in changed} == last
    assert not any(network.get_parameter(name).any() for name in changed)


def test_gates_of_a_oneshot_network_begin_narrow() -> None:
    text = "SuperConvK3BNRELU(3,64,1,1)SuperResK3K3(64,64,1,64,1)"
    network = build_network(Architecture.parse(text), num_classes=10, use_se=True)
    initialise(network, "oneshot", torch.Generator().manual_seed(0))
    gate = next(module for module in network.modules() if type(module).__name__ == "SqueezeExciteModule")
    assert gate.gate[1].weight.std().item() == pytest.approx(0.01, rel=0.2)
    residual = next(module for module in network.modules() if isinstance(module, ResidualModule))
    assert residual.body[0].weight.std().item() == pytest.approx(1 / 64, rel=0.05)


def test_dropout_drops_the_classifiers_inputs_in_training_only() -> None:
    network = nn.Sequential(nn.Flatten(), nn.Linear(1000, 1, bias=False))
    nn.init.ones_(network[1].weight)
    names = list(network.state_dict())
    set_dropout(network, 0.25)
    torch.manual_seed(0)
    x = torch.ones(64, 1000)
    kept = 0.75 * network(x)  # kept inputs count 1 / 0.75 each
    assert kept.mean().item() == pytest.approx(750, rel=0.01) and kept.std() > 1
    assert torch.all(network.eval()(x) == 1000)
    assert list(network.state_dict()) == names
    with pytest.raises(TrainError, match="needs a linear classifier"):
        set_dropout(nn.Conv2d(3, 4, 1), 0.5)


def test_a_networks_own_dropout_gets_the_rate() -> None:
    network = nn.Sequential(nn.Flatten(), nn.Dropout(0.2), nn.Linear(4, 2))
    network.dropout = network[1]
    set_dropout(network, 0.4)
    assert network[1].p == 0.4 and not any(module._forward_pre_hooks for module in network.modules())


def test_a_copy_drops_too() -> None:
    network = nn.Sequential(nn.Linear(100, 1, bias=False))
    set_dropout(network, 0.5)
    twin = copy.deepcopy(network)
    assert twin(torch.ones(1, 100)).item() != twin(torch.ones(1, 100)).item()


def test_drop_path_rises_with_depth_or_with_time() -> None:
    text = "SuperConvK3BNRELU(3,8,1,1)SuperResK3K3(8,8,1,8,4)"
    network = build_network(Architecture.parse(text), num_classes=10)
    residuals = [module for module in network.modules() if isinstance(module, ResidualModule)]
    set_drop_path(network, 0.2)
    assert [r.drop_path for r in residuals] == pytest.approx([0.05, 0.1, 0.15, 0.2])
    set_drop_path(network, 0.2, share=0.5)
    assert [r.drop_path for r in residuals] == pytest.approx([0.1] * 4)


def test_timm_missing_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    monkeypatch.setitem(sys.modules, "timm.optim", None)
    with pytest.raises(TrainError, match="needs the package timm"):
        build_optimizer([small()], Optimizer(name="timm:lamb"), 64)


@pytest.mark.parametrize(
    ("key", "value"),
    [("lr", True), ("lr", 2**64), ("weight_decay", -(2**63)), ("momentum", float("nan")), ("nesterov", 1)],
)
def test_settings_of_a_saved_optimizer_are_numbers_that_tensors_take(key: str, value: object) -> None:
    optimizer = torch.optim.SGD([nn.Parameter(torch.ones(2))], lr=0.1, momentum=0.9)
    saved = optimizer.state_dict()
    check_optimizer(saved, optimizer)
    saved["param_groups"][0][key] = value
    with pytest.raises(ValueError, match=f"the optimiser's '{key}'"):
        check_optimizer(saved, optimizer)
