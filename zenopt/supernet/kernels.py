"""Smaller kernels out of larger ones by learned matrices, as once-for-all networks make them (Cai et al., ICLR 2020).

A kernel of 5 is the centre of that of 7, flattened, times a matrix that all channels of the layer share; a kernel of 3
is the centre of that of 5 times another. The matrices begin as identities, which give plain centres. They are
parameters of the shared layer, called ``kernel5``, ``kernel3``, ... after what they give.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Literal, get_args

import torch
import torch.nn.functional as F
from torch import nn

from zenopt.core.errors import CheckpointError
from zenopt.supernet.layers import Shapes

Kernels = Literal["centre", "transformed"]
KERNELS: tuple[Kernels, ...] = get_args(Kernels)

_NAME = re.compile(r"(.+)\.kernel([0-9]{1,2})", re.ASCII)


class KernelSizes:
    """The smallest and the largest kernel of each layer in the networks of a space."""

    def __init__(self) -> None:
        self._sizes: dict[str, set[int]] = {}

    def add(self, shapes: Shapes) -> None:
        """Take notice of a network, by the shapes of its tensors."""
        for name, shape in shapes.items():
            if len(shape) == 4:
                self._sizes.setdefault(name.removesuffix(".weight"), set()).add(shape[2])

    def share(self, leaders: Mapping[str, str]) -> None:
        """Let layers that share weights, each with its leader, have the sizes of all of them."""
        found: dict[str, set[int]] = {}
        for layer, leader in leaders.items():
            found.setdefault(leader, set()).update(self._sizes.get(layer, ()))
        self._sizes = {layer: found[leader] for layer, leader in leaders.items() if found[leader]}

    def smaller(self, layer: str) -> range:
        """Return the sizes of a layer's kernels that come out of larger ones; none where it has one size."""
        sizes = self._sizes.get(layer)
        return range(min(sizes), max(sizes), 2) if sizes else range(0)

    def add_matrices(self, layers: Mapping[str, nn.Module]) -> int:
        """Give every layer of several sizes its matrices; return how many numbers these are.

        Sizes between the smallest and the largest have one even where no network uses them.
        """
        total = 0
        for name in self._sizes:
            for size in self.smaller(name):
                layers[name].register_parameter(f"kernel{size}", nn.Parameter(torch.eye(size**2)))
                total += size**4
        return total


def matrices_of(tensors: Mapping[str, torch.Tensor]) -> dict[str, dict[int, torch.Tensor]]:
    """Return the matrices of each layer that has any: layer -> size -> matrix, larger sizes first.

    Raises:
        CheckpointError: If a matrix has not the shape that its name tells.
    """
    found: dict[str, dict[int, torch.Tensor]] = {}
    for name, tensor in tensors.items():
        match = _NAME.fullmatch(name) if ".kernel" in name else None  # of thousands, at every step
        if match is not None:
            size = int(match[2])
            if tensor.shape != (size**2, size**2):
                raise CheckpointError(f"The supernet's matrix {name} has the shape {tuple(tensor.shape)}.")
            found.setdefault(match[1], {})[size] = tensor
    return {layer: dict(sorted(own.items(), reverse=True)) for layer, own in found.items()}


def part(
    tensor: torch.Tensor, shape: tuple[int, ...], matrices: Mapping[int, torch.Tensor] | None = None
) -> torch.Tensor:
    """Return a part of a shared tensor: the first channels, the centre of kernels.

    Args:
        tensor:
            ``out [x in [x height x width]]`` numbers.
        shape:
            That of the part, no side longer than the tensor's.
        matrices:
            Size -> matrix that makes a kernel of this size of the centre of a larger one, larger sizes first; none to
            leave centres as they are.
    """
    if matrices and shape[2:] != tensor.shape[2:]:
        tensor = _narrowed(tensor, (*shape[:2], *tensor.shape[2:]))
        for size, matrix in matrices.items():
            if shape[2] <= size < tensor.shape[2]:
                centre = _narrowed(tensor, (*shape[:2], size, size))
                tensor = F.linear(centre.flatten(2), matrix).view(centre.shape)
    return _narrowed(tensor, shape).contiguous()


def _narrowed(tensor: torch.Tensor, shape: Iterable[int]) -> torch.Tensor:
    for dimension, (size, wanted) in enumerate(zip(tensor.shape, shape, strict=True)):
        if size != wanted:
            start = (size - wanted) // 2 if dimension >= 2 else 0
            tensor = tensor.narrow(dimension, start, wanted)
    return tensor
