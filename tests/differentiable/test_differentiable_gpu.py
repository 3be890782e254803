"""Searches on a GPU, with images that lie there."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from gpu import DEVICE, NEEDS_GPU
from searches import tiny_plan

from zenopt.differentiable.search import search
from zenopt.train.data import DataSet
from zenopt.train.subsets import hold_back

pytestmark = NEEDS_GPU


@pytest.mark.parametrize("method", ["darts-v2", "gdas", "fbnet", "drnas"])
def test_methods_search_there(method: str, patches: DataSet, tmp_path: Path) -> None:
    plan = tiny_plan(method, regularisers=("eigenvalue", "beta-decay"))
    result = search(plan, hold_back(patches, 0.5), output=tmp_path, device=torch.device(DEVICE))
    assert len(result.curve) == 2 and result.curve[-1].train_loss > 0
    again = search(plan, hold_back(patches, 0.5), output=tmp_path, device=torch.device(DEVICE), resume="must")
    assert again.curve == result.curve
