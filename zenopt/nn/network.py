"""The network of an architecture: its units, global average pooling, linear classifier."""

from __future__ import annotations

from typing import Any, cast

import torch
from torch import nn

from zenopt.core.description import Description, Unit, describe
from zenopt.core.errors import StructureError
from zenopt.core.lowering import check_positive, unit_out_size, walk_units
from zenopt.nn.modules import OpenChoice, build_nodes, build_unit

#: Resolution at which down-sampling ratios are read off; every family's sizes divide it.
_RATIO_SIZE = 1024


class Network(nn.Module):
    """A described network with a classifier.

    Args:
        architecture:
            Anything with a :class:`~zenopt.core.description.Description`.
        num_classes:
            Outputs of the classifier.
        use_se:
            Whether optional squeeze-excite gates are built.
        residual:
            Whether residual links are built.
        description:
            What is built instead of the architecture's own description: another release's build of the same.
        open_choice:
            Builds what stands for a choice of the description; without it choices are refused.

    Attributes:
        classifier: ``nn.Linear`` with bias. Units have the names of the description; super-blocks and cells are the
            members of ``blocks``, an ``nn.ModuleList``.

    Raises:
        StructureError: If a number is not positive, or an option does not fit the family.
    """

    blocks: nn.ModuleList

    def __init__(
        self,
        architecture: Any,
        num_classes: int,
        use_se: bool = False,
        residual: bool = True,
        *,
        description: Description | None = None,
        open_choice: OpenChoice | None = None,
    ) -> None:
        super().__init__()
        check_positive(num_classes=num_classes)
        found = describe(architecture) if description is None else description
        found.check_options(getattr(architecture, "family", "These"), use_se=use_se, residual=residual)
        self.architecture = architecture
        self.description = found
        self.num_classes = num_classes
        self.use_se = use_se
        self.residual = residual
        for name, unit in zip(found.names, found.units, strict=True):
            self._place(name, self._build(unit, open_choice))
        if found.neck:
            self.neck = build_nodes(found.neck, use_se=use_se, residual=residual)
        if found.dropout:
            self.dropout = nn.Dropout(found.dropout)
        self.classifier = nn.Linear(found.features, num_classes)

    def _build(self, unit: Unit, open_choice: OpenChoice | None) -> nn.Module:
        """Return the module of a unit."""
        return build_unit(unit.expand(), use_se=self.use_se, residual=self.residual, open_choice=open_choice)

    def _place(self, name: str, module: nn.Module) -> None:
        """Register a unit under a name such as ``stem`` or ``blocks.3``."""
        holder, dot, _ = name.partition(".")
        if not dot:
            self.add_module(name, module)
            return
        if not hasattr(self, holder):
            self.add_module(holder, nn.ModuleList())
        cast("nn.ModuleList", getattr(self, holder)).append(module)

    def units(self) -> list[nn.Module]:
        """Return the modules of the units in order."""
        return [self.get_submodule(name) for name in self.description.names]

    def _outputs(self, x: torch.Tensor) -> list[torch.Tensor]:
        """Return the output of every unit."""
        outputs: list[torch.Tensor] = []
        for unit, module in zip(self.description.units, self.units(), strict=True):
            if unit.inputs == (-1,):
                outputs.append(module(outputs[-1] if outputs else x))
            else:
                outputs.append(module(*(outputs[max(0, len(outputs) + back)] for back in unit.inputs)))
        return outputs

    def forward_features(self, x: torch.Tensor) -> torch.Tensor:
        """Map a ``batch x 3 x height x width`` image tensor to the last feature map, before pooling."""
        if all(unit.inputs == (-1,) for unit in self.description.units):
            # Nothing is kept that is not needed any more.
            for module in self.units():
                x = module(x)
            return x
        return self._outputs(x)[-1]

    def forward_stages(self, x: torch.Tensor) -> dict[int, torch.Tensor]:
        """Return the last feature map at each down-sampling ratio, e.g. ``{16: ..., 32: ...}``.

        Args:
            x:
                A ``batch x 3 x height x width`` image tensor.

        Returns:
            Ratio of strides so far -> the deepest map of that ratio.
        """
        sizes = [unit_out_size(unit, size) for unit, size in walk_units(self.architecture, _RATIO_SIZE)]
        return {_RATIO_SIZE // size: output for size, output in zip(sizes, self._outputs(x), strict=True)}

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map a ``batch x 3 x height x width`` image tensor to ``batch x num_classes`` logits."""
        x = self.forward_features(x).mean(dim=(2, 3))
        if self.description.neck:
            x = self.neck(x[:, :, None, None]).flatten(1)
        if self.description.dropout:
            x = self.dropout(x)
        return self.classifier(x)


def build_network(
    architecture: Any,
    *,
    num_classes: int = 1000,
    use_se: bool = False,
    residual: bool = True,
    build: str = "official",
    auxiliary: bool = False,
) -> Network:
    """Build the torch module of an architecture.

    Args:
        architecture:
            Anything with a :class:`~zenopt.core.description.Description`.
        num_classes:
            Outputs of the classifier.
        use_se:
            Whether optional squeeze-excite gates are built.
        residual:
            Whether residual links are built. ``False`` gives the network Zen-NAS scores: no additions, no projections.
        build:
            Which release's network of the architecture, where its family has several.

    Returns:
        A module with ``forward`` and ``forward_features``, initialised as PyTorch initialises its layers.

    Raises:
        StructureError: If the architecture has no description, an option does not fit it, or ``num_classes`` is not
            positive.
    """
    description = describe(architecture) if build == "official" else architecture.describe(build)
    return Network(architecture, num_classes, use_se, residual, description=description)


def build_auxiliary(network: Network, resolution: int) -> nn.Sequential:
    """Build the second classifier that a network's family trains it with, for the output of one of its units.

    Args:
        network:
            A network whose description has one (:attr:`~zenopt.core.description.Description.auxiliary`).
        resolution:
            Side of the square input image in pixels.

    Returns:
        A module from the unit's output to logits of the network's classes; it is no part of the network.

    Raises:
        StructureError: If the family has none, or its maps are too small for it at this resolution.
    """
    found, family = network.description.auxiliary, getattr(network.architecture, "family", "These")
    if found is None:
        raise StructureError(f"{family} networks have no auxiliary classifier.")
    unit, sizes = walk_units(network.architecture, resolution)[found.unit]
    size = unit_out_size(unit, sizes)
    if size < found.least_size:
        raise StructureError(
            f"The auxiliary classifier of {family} networks takes maps of {found.least_size} px and more; at "
            f"{resolution} px it would get {size}."
        )
    nodes = build_nodes(found.nodes, use_se=network.use_se, residual=network.residual)
    linear = nn.Linear(found.features, network.num_classes)
    return nn.Sequential(*nodes, nn.AdaptiveAvgPool2d(1), nn.Flatten(), linear)
