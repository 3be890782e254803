"""The global random state: what seeds the CPU's leaves GPUs alone."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from structures import TWO_HALVINGS
from torch import nn
from torchvision.transforms import v2

from zenopt.nn.seeding import seeded
from zenopt.proxies import evaluate, score_architecture
from zenopt.spaces.chain.architecture import Architecture
from zenopt.train.augment import apply_seeded


def _jitter() -> None:
    apply_seeded(v2.ColorJitter(0.4), torch.zeros(3, 8, 8, dtype=torch.uint8), 3)


def _probe() -> None:
    with seeded(0):
        network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Dropout(), nn.Flatten(), nn.Linear(144, 2))
    assert evaluate(network, torch.ones(2, 3, 8, 8), torch.tensor([0, 1]), ["snip"])["snip"].error is None


def _own_modules() -> None:
    with pytest.MonkeyPatch.context() as patch:
        # As if they were of a kind that draws its own weights.
        patch.setattr("zenopt.proxies.randomness._is_plain", lambda module: False)
        score_architecture(Architecture.parse(TWO_HALVINGS), "snip", resolution=16, batch_size=2)


def _seeded() -> None:
    with seeded(1):
        torch.rand(1)


@pytest.mark.parametrize("work", [_jitter, _probe, _own_modules, _seeded])
def test_work_on_the_cpu_touches_no_gpu(work: Callable[[], None], monkeypatch: pytest.MonkeyPatch) -> None:
    """A GPU's generator seeded on the way changes what dropout draws there; opening a GPU takes its memory."""

    def touched(*_: object) -> None:
        raise AssertionError("a GPU was touched")

    monkeypatch.setattr(torch.cuda, "manual_seed_all", touched)
    monkeypatch.setattr(torch.cuda, "get_rng_state", touched)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    before = torch.get_rng_state()
    work()
    assert torch.equal(torch.get_rng_state(), before)


def test_equal_seeds_draw_equal_numbers() -> None:
    def draw(seed: int) -> list[float]:
        with seeded(seed):
            return torch.rand(3).tolist()

    assert draw(1) == draw(1) != draw(2)
