"""Weights that all networks of a space share, and the network of one architecture with its part of them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from functools import lru_cache
from types import MappingProxyType
from typing import Any

import torch
from torch import nn
from torch.func import functional_call

from zenopt.core.description import Unit
from zenopt.core.errors import CheckpointError, StructureError
from zenopt.core.text import shortened
from zenopt.nn.modules import OpenChoice, build_unit
from zenopt.nn.network import Network, build_network
from zenopt.supernet.kernels import matrices_of, part
from zenopt.supernet.layers import Shapes, layers_of, shapes_of
from zenopt.supernet.splits import WHOLE, Split
from zenopt.train.layout import put_channels_last

NO_ORDERS: Mapping[tuple[str, int], torch.Tensor] = MappingProxyType({})


class SharedWeights:
    """The tensors of a supernet by name (see :mod:`zenopt.supernet.layers`).

    Args:
        tensors:
            ``layer.weight`` and ``layer.bias`` -> tensor, as large as the largest network of the space needs it; and
            matrices that make smaller kernels (:mod:`zenopt.supernet.kernels`).
        num_classes:
            Outputs of the classifier.
        use_se:
            Whether optional squeeze-excite gates are built.
        orders:
            Tensor and dimension -> order in which its channels are taken; by default as they stand.
        split:
            Which part an architecture takes; by default there is one.
    """

    def __init__(
        self,
        tensors: Mapping[str, torch.Tensor],
        num_classes: int,
        use_se: bool = False,
        orders: Mapping[tuple[str, int], torch.Tensor] = NO_ORDERS,
        split: Split = WHOLE,
    ) -> None:
        self.tensors = tensors
        self._matrices = matrices_of(tensors)
        self._orders = orders
        self._split = split
        self.num_classes = num_classes
        self.use_se = use_se

    def __call__(self, architecture: Any, images: torch.Tensor, *, training: bool = True) -> torch.Tensor:
        """Return the logits of an architecture's path; gradients reach the shared tensors.

        Batch normalisation takes the statistics of the batch, in training and out of it: those of a path are nobody
        else's, so none are kept.
        """
        # Images tell the layout in which a run trains.
        is_channels_last = images.is_contiguous(memory_format=torch.channels_last)
        layout = images.device.type if is_channels_last else None
        path = skeleton(architecture, self.num_classes, self.use_se, layout)
        path.train(training)
        logits: torch.Tensor = functional_call(path, self._parts(architecture, path), (images,), strict=True)
        return logits

    def network(self, architecture: Any) -> Network:
        """Return the stand-alone network of an architecture with a copy of its part of the weights.

        The statistics of its batch normalisations are those of nothing; see :func:`zenopt.supernet.judging.settle`.
        """
        with torch.device("meta"):
            network = build_network(architecture, num_classes=self.num_classes, use_se=self.use_se)
        network.to_empty(device=next(iter(self.tensors.values())).device)
        for module in network.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.reset_running_stats()
        with torch.no_grad():
            state = dict(network.named_parameters())
            for name, value in self._parts(architecture, network).items():
                state[name].copy_(value)
        return network

    def misfit(self, architecture: Any) -> str | None:
        """Return why an architecture is no path of this supernet, in words; ``None`` where it is one."""
        try:
            prefix = self._split.prefix(architecture)
        except StructureError as error:
            return str(error).rstrip(".")
        wanted = shapes_of(architecture, self.num_classes, self.use_se)
        return misfit({f"{prefix}{name}": shape for name, shape in wanted.items()}, self._shapes)

    def check(self, architectures: Iterable[Any]) -> None:
        """Find out whether architectures are paths of this supernet.

        Raises:
            CheckpointError: If one is not; the message names it and the layer.
        """
        for architecture in architectures:
            if self.misfit(architecture) is not None:
                raise self._refusal(architecture)

    def _refusal(self, architecture: Any) -> CheckpointError:
        return CheckpointError(
            f"The supernet does not hold {shortened(str(architecture))}: {self.misfit(architecture)}."
        )

    @property
    def _shapes(self) -> Shapes:
        return {name: tuple(tensor.shape) for name, tensor in self.tensors.items()}

    def part(self, layer: str, tensor: str, shape: tuple[int, ...]) -> torch.Tensor | None:
        """Return the part of a shared tensor that has some shape; ``None`` where there is none."""
        name = f"{layer}.{tensor}"
        shared = self.tensors.get(name)
        if shared is None or not is_part(shape, tuple(shared.shape)):
            return None
        for dimension in (0, 1) if self._orders else ():
            order = self._orders.get((name, dimension))
            if order is not None:
                shared = shared.index_select(dimension, order[: shape[dimension]])
        return part(shared, shape, self._matrices.get(layer) if tensor == "weight" else None)

    def _parts(self, architecture: Any, network: Network) -> dict[str, torch.Tensor]:
        """Return the parts of the shared tensors by the names of a network's parameters."""
        names = {id(module): name for name, module in network.named_modules()}
        found: dict[str, torch.Tensor] = {}
        try:
            prefix = self._split.prefix(architecture)
        except StructureError:
            raise self._refusal(architecture) from None
        for layer, module in layers_of(network).items():
            for tensor, own in module.named_parameters():
                taken = self.part(f"{prefix}{layer}", tensor, tuple(own.shape))
                if taken is None:
                    raise self._refusal(architecture)
                found[f"{names[id(module)]}.{tensor}"] = taken
        return found


def misfit(wanted: Shapes, held: Shapes) -> str | None:
    """Return what of some shapes is not held in others, in words; ``None`` where all of it is."""
    for name, shape in wanted.items():
        if name not in held:
            return f"it has no {name}"
        if not is_part(shape, held[name]):
            return f"{name} of shape {shape} is not part of {held[name]}"
    return None


def is_part(shape: tuple[int, ...], held: tuple[int, ...]) -> bool:
    """Return whether a tensor of one shape is a part of a tensor of another."""
    return len(shape) == len(held) and all(own <= size for own, size in zip(shape, held, strict=True))


def union(shapes: Iterable[Shapes]) -> Shapes:
    """Return the smallest shapes that hold all of some.

    Raises:
        StructureError: If tensors of one name are of different kinds.
    """
    found: Shapes = {}
    for own in shapes:
        for name, shape in own.items():
            known = found.get(name, shape)
            if len(known) != len(shape):
                raise StructureError(
                    f"{name} has {len(shape)} dimensions in one network, {len(known)} in another."
                )
            found[name] = tuple(map(max, known, shape))
    return found


class _Skeleton(Network):
    """A network without weights, whose units others share: one is in use at a time, and lends them its weights."""

    def __init__(
        self, architecture: Any, num_classes: int, use_se: bool, channels_last_on: str | None
    ) -> None:
        self._layout = channels_last_on
        self._turns: Counter[Unit] = Counter()
        with torch.device("meta"):
            super().__init__(architecture, num_classes, use_se)
        _bare(self, channels_last_on)

    def _build(self, unit: Unit, open_choice: OpenChoice | None) -> nn.Module:
        self._turns[unit] += 1
        return _bare_unit(unit, self._turns[unit], self.use_se, self._layout)


@lru_cache(maxsize=512)
def skeleton(
    architecture: Any, num_classes: int, use_se: bool, channels_last_on: str | None = None
) -> Network:
    """Return the network of an architecture without weights, whose batch normalisations keep no statistics.

    Args:
        architecture:
            The architecture.
        num_classes:
            Outputs of the classifier.
        use_se:
            Whether optional squeeze-excite gates are built.
        channels_last_on:
            Kind of device that computes it in channels-last layout, if any does (see :mod:`zenopt.train.layout`).
    """
    return _Skeleton(architecture, num_classes, use_se, channels_last_on)


@lru_cache(maxsize=4096)
def _bare_unit(unit: Unit, turn: int, use_se: bool, channels_last_on: str | None) -> nn.Module:
    """Return the module of a unit without weights; the turn tells equal units of one network apart."""
    return _bare(build_unit(unit.expand(), use_se=use_se, residual=True), channels_last_on)


def _bare(module: nn.Module, channels_last_on: str | None) -> nn.Module:
    """Return a module without statistics, in a layout."""
    for inner in module.modules():
        if isinstance(inner, nn.BatchNorm2d):
            inner.track_running_stats = False
            for buffer in ("running_mean", "running_var", "num_batches_tracked"):
                inner.register_buffer(buffer, None)
    return module if channels_last_on is None else put_channels_last(module, torch.device(channels_last_on))


def new_layers(shapes: Shapes) -> dict[str, nn.Module]:
    """Return freshly initialised layers of the given shapes, by name: PyTorch's own initial weights.

    They hold weights and compute nothing; a depthwise convolution is one like any other.
    """
    found: dict[str, nn.Module] = {}
    for name, shape in shapes.items():
        layer, _, tensor = name.rpartition(".")
        if tensor != "weight":
            continue
        has_bias = f"{layer}.bias" in shapes
        if len(shape) == 4:
            found[layer] = nn.Conv2d(shape[1], shape[0], (shape[2], shape[3]), bias=has_bias)
        elif len(shape) == 2:
            found[layer] = nn.Linear(shape[1], shape[0], bias=has_bias)
        else:
            found[layer] = nn.BatchNorm2d(shape[0], track_running_stats=False)
    return found
