"""What is minimised: the label loss, and what a recipe adds to it."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn

from zenopt.nn import Network, build_auxiliary
from zenopt.train.distill import Distiller
from zenopt.train.features import FeatureTap, keep_output, reduce_images
from zenopt.train.recipe import Recipe


class AuxiliaryHead(nn.Module):
    """The auxiliary classifier of DARTS and aw_nas on any map, for networks whose family has none of its own."""

    def __init__(self, in_channels: int, num_classes: int) -> None:
        super().__init__()
        # Pooled to 2x2 whatever the map's size (DARTS' 5x5 pooling of stride 3 gives 2x2 on its 8x8 maps).
        self.layers = nn.Sequential(
            nn.ReLU(),
            nn.AdaptiveAvgPool2d(2),
            nn.Conv2d(in_channels, 128, 1, bias=False),
            nn.BatchNorm2d(128),
            nn.ReLU(),
            nn.Conv2d(128, 768, 2, bias=False),
            nn.BatchNorm2d(768),
            nn.ReLU(),
            nn.Flatten(),
            nn.Linear(768, num_classes),
        )

    def forward(self, feature: torch.Tensor) -> torch.Tensor:
        return self.layers(feature)


class Objective(nn.Module):
    """The network together with its losses, as one module, so that DDP sees every gradient.

    A network with a method `training_loss(images, targets, smoothing)` makes its own, which may leave parameters out: a
    supernet is several networks.

    Args:
        network:
            The network to train.
        recipe:
            Label smoothing, auxiliary head, distillation.
        num_classes:
            Classes of the data.
        resolution:
            The network's input side, pixels.
        teacher:
            A teacher and its input side, when the recipe distils.
    """

    def __init__(
        self,
        network: nn.Module,
        recipe: Recipe,
        num_classes: int,
        resolution: int,
        teacher: tuple[nn.Module, int] | None = None,
    ) -> None:
        super().__init__()
        self.network = network
        self._resolution = resolution
        self._smoothing = recipe.loss.label_smoothing
        self._auxiliary = recipe.loss.auxiliary
        # `extras` learn along with the network, but are no part of it.
        self.extras = nn.ModuleDict()
        ratios = set()
        if recipe.distill is not None and recipe.distill.feature_weight:
            ratios |= set(recipe.distill.ratios)
        own = network.description.auxiliary if isinstance(network, Network) else None
        if self._auxiliary is not None and own is None:
            ratios.add(self._auxiliary.ratio)
        self._tap = FeatureTap(network, sorted(ratios), resolution) if ratios else None
        # What the auxiliary classifier sees: maps of the last forward pass, and which of them.
        self._seen: tuple[dict[int, torch.Tensor], int] | None = None
        if self._auxiliary is not None and isinstance(network, Network) and own is not None:
            self._seen = {}, own.unit
            keep_output(network.units()[own.unit], *self._seen)
            self.extras["auxiliary"] = build_auxiliary(network, resolution)
        elif self._auxiliary is not None and self._tap is not None:
            self._seen = self._tap.maps, self._auxiliary.ratio
            self.extras["auxiliary"] = AuxiliaryHead(self._tap.channels[self._auxiliary.ratio], num_classes)
        if recipe.distill is not None and teacher is not None:
            self.extras["distiller"] = Distiller(teacher[0], self._tap, recipe.distill, teacher[1])

    def forward(self, images: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        """Return the loss of a batch.

        Args:
            images:
                `batch x 3 x crop x crop`.
            targets:
                `batch` class numbers, or `batch x classes` probabilities.
        """
        own_loss = getattr(self.network, "training_loss", None)
        if own_loss is not None:
            own: torch.Tensor = own_loss(reduce_images(images, self._resolution), targets, self._smoothing)
            return own
        logits = self.network(reduce_images(images, self._resolution))
        loss = F.cross_entropy(logits, targets, label_smoothing=self._smoothing)
        if self._auxiliary is not None and self._seen is not None:
            maps, which = self._seen
            second = self.extras["auxiliary"](maps[which])
            loss = loss + self._auxiliary.weight * F.cross_entropy(
                second, targets, label_smoothing=self._smoothing
            )
        if "distiller" in self.extras:
            loss = loss + self.extras["distiller"](images, logits)
        return loss
