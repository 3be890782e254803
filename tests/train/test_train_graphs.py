"""The bookkeeping around a CUDA graph, with a graph that computes anew: warm-up leaves no trace, gradients arrive."""

from __future__ import annotations

import contextlib
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from structures import TWO_HALVINGS

from zenopt.nn.weights import read_torch_file
from zenopt.train import engine, graphs
from zenopt.train.data import DataSet
from zenopt.train.distributed import World
from zenopt.train.engine import fit
from zenopt.train.networks import NetworkSource
from zenopt.train.recipe import load_recipe

SOURCE = NetworkSource.from_structure(TWO_HALVINGS, 16)


class PretendedStep(graphs.GraphedStep):
    """Replays on the CPU: the same passes over the same tensors, into the same gradients."""

    captures = 0

    def _capture(self, images: torch.Tensor, targets: torch.Tensor) -> None:
        super()._capture(images, targets)
        PretendedStep.captures += 1
        self._graph = SimpleNamespace(replay=self._replay)  # type: ignore[assignment]

    def _replay(self) -> None:
        for parameter, _ in self._gradients:
            parameter.grad = None
        self._loss.copy_(self._compute(self._images, self._targets))
        for parameter, gradient in self._gradients:
            if gradient is not None and parameter.grad is not None:
                gradient.copy_(parameter.grad)
            parameter.grad = gradient


@pytest.fixture
def pretended(monkeypatch: pytest.MonkeyPatch) -> None:
    stream = SimpleNamespace(wait_stream=lambda other: None)
    replaced: dict[str, Any] = {
        "device": lambda device: contextlib.nullcontext(),
        "get_rng_state": lambda device: torch.get_rng_state(),
        "set_rng_state": lambda state, device: torch.set_rng_state(state),
        "Stream": lambda: stream,
        "current_stream": lambda: stream,
        "stream": lambda own: contextlib.nullcontext(),
        "CUDAGraph": SimpleNamespace,
        "graph": lambda graph, capture_error_mode: contextlib.nullcontext(),
    }
    for name, value in replaced.items():
        monkeypatch.setattr(torch.cuda, name, value)
    monkeypatch.setattr(engine, "check_graphs", lambda recipe, world: None)
    monkeypatch.setattr(engine, "GraphedStep", PretendedStep)
    monkeypatch.setattr(PretendedStep, "captures", 0)


@pytest.mark.parametrize(
    ("options", "captures"),
    [
        (["model.dropout=0.3", "model.drop_path=0.2", "ema_decay=0.9"], 1),
        (["model.drop_path=0.4", "model.drop_path_ramp=epoch"], 2),
        (["augment.mixup=0.2", "optimizer.clip_norm=1"], 1),
    ],
)
def test_a_graphed_run_is_an_eager_one(
    patches: DataSet, tmp_path: Path, alone: World, pretended: None, options: list[str], captures: int
) -> None:
    kept = []
    for mode in ("false", "graphs"):
        recipe = load_recipe("basic", ["epochs=2", "batch_size=16", f"precision.compile={mode}", *options])
        torch.manual_seed(0)
        facts, output = SOURCE.facts(), tmp_path / mode
        fit(SOURCE.build(4), patches, recipe, output=output, resolution=16, identity=facts, world=alone)
        kept.append(read_torch_file(output / "last.pt")["model"])
    assert all(torch.equal(kept[0][name], kept[1][name]) for name in kept[0])
    assert PretendedStep.captures == captures


def test_a_batch_of_another_shape_is_not_replayed(pretended: None) -> None:
    layer = torch.nn.Linear(2, 1)

    def compute(images: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        loss = (layer(images) - targets).square().mean()
        loss.backward()
        return loss.detach()

    step = PretendedStep(compute, layer, torch.device("cpu"))
    for count in (4, 3, 4):
        images, targets = torch.randn(count, 2), torch.randn(count, 1)
        layer.zero_grad(set_to_none=True)
        loss = step(images, targets).clone()
        found = layer.weight.grad.clone()
        layer.zero_grad(set_to_none=True)
        assert torch.equal(compute(images, targets), loss) and torch.equal(layer.weight.grad, found)
    assert PretendedStep.captures == 1
