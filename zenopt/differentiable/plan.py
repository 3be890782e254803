"""What a differentiable search is to do: of which space, by which method, with which training of the weights."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch

from zenopt.core.errors import SpecError
from zenopt.differentiable.network import SearchNetwork
from zenopt.differentiable.settings import Method
from zenopt.spaces.opened import OpenNetwork
from zenopt.train.data import DataSet
from zenopt.train.recipe import Recipe, of_single_networks, without_custom_init


@dataclass(frozen=True)
class SearchPlan:
    """What is searched, and how.

    Args:
        opened:
            The search network of the space.
        space_name, options:
            The space, and with which options it was made.
        resolution:
            Input side, pixels.
        num_classes:
            Outputs of the classifier.
        method:
            How operations are found.
        recipe:
            How weights are trained; see :func:`check_recipe`.
        seed:
            Of weights, order, augmentation and draws.
        measure:
            Returns the cost of an architecture, where the method has one.
        value:
            Returns what is known of an architecture, e.g. a table's accuracy; shown for every epoch's.
    """

    opened: OpenNetwork
    space_name: str
    options: dict[str, Any]
    resolution: int
    num_classes: int
    method: Method
    recipe: Recipe
    seed: int = 0
    measure: Callable[[Any], float] | None = None
    value: Callable[[Any], float | None] = lambda architecture: None

    def facts(self, data: DataSet) -> dict[str, Any]:
        """Return what makes a search this one and no other."""
        return {
            "space": self.space_name,
            "options": self.options,
            "resolution": self.resolution,
            "method": self.method.model_dump(mode="json"),
            "recipe": self.recipe.model_dump(mode="json"),
            "data": data.name,
            "classes": list(data.classes),
            "images": [len(data.train), len(data.test)],
            "seed": self.seed,
        }

    def build(self) -> SearchNetwork:
        """Return the search network with initial weights and alphas."""
        torch.manual_seed(self.seed)
        method = self.method
        return SearchNetwork(self.opened, self.num_classes, method.relaxation, method.alphas.deviation)


def check_recipe(recipe: Recipe, method: Method) -> Recipe:
    """Return a recipe as it suits search networks: their initial weights are PyTorch's unless it names others.

    Raises:
        SpecError: If it asks for what only the training of a single network has.
    """
    asked = of_single_networks(recipe)
    asked += ["ema_decay"] if recipe.ema_decay is not None else []
    asked += ["accumulate"] if recipe.accumulate > 1 else []
    asked += ["precision.amp fp16 (bf16 works)"] if recipe.precision.amp == "fp16" else []
    if asked:
        raise SpecError(f"The recipe's {asked[0]} is not for search networks; leave it out.")
    if method.order == 2 and recipe.optimizer.name != "sgd":
        raise SpecError(
            f"Order 2 looks one step of SGD ahead; the recipe's optimizer is {recipe.optimizer.name}."
        )
    return without_custom_init(recipe)
