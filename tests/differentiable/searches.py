"""Small searches that several tests use."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from zenopt.core.costs import count
from zenopt.differentiable.plan import SearchPlan, check_recipe
from zenopt.differentiable.search import SearchResult, search
from zenopt.differentiable.settings import load_method
from zenopt.spaces.registry import get_space
from zenopt.train.data import DataSet
from zenopt.train.recipe import load_recipe
from zenopt.train.subsets import hold_back

SMALL = ("network.channels=2", "network.cells=1")


def tiny_plan(
    method: str = "darts-v1",
    *overrides: str,
    regularisers: tuple[str, ...] = (),
    epochs: int = 2,
    seed: int = 0,
    **fields: Any,
) -> SearchPlan:
    """Return the plan of a search of four classes at 8 px."""
    found = load_method(method, (*SMALL, *overrides), regularisers)
    if found.cost.kind == "auto":
        found = found.model_copy(update={"cost": found.cost.model_copy(update={"kind": "macs"})})
    recipe = load_recipe("cell-search", ["batch_size=16", "augment.crop.padding=1"], epochs=epochs)
    opened = get_space("nasbench201")().open_network(channels=2, cells=1)
    return SearchPlan(
        opened,
        "nasbench201",
        {},
        8,
        4,
        found,
        check_recipe(recipe, found),
        seed,
        lambda architecture: float(count(architecture, 32, 10).macs),
        **fields,
    )


def run(plan: SearchPlan, data: DataSet, output: Path, **options: Any) -> SearchResult:
    """Search, with half of the images held back."""
    return search(plan, hold_back(data, 0.5), output=output, device=torch.device("cpu"), **options)
