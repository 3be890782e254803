"""The supernet as a network that ``zenopt.train`` trains: every batch takes other paths."""

from __future__ import annotations

from math import prod
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from zenopt.core.errors import SpecError
from zenopt.supernet.covering import covering
from zenopt.supernet.layers import Shapes, closing_norms, shapes_of
from zenopt.supernet.sampling import PathSampler
from zenopt.supernet.shared import SharedWeights, new_layers, union

#: Parameters of the largest supernet that is built: 2 GiB of weights, and as much again for an optimiser.
MAX_PARAMS = 500_000_000


class Supernet(nn.Module):
    """All layers of a space at their largest, and which path comes next.

    Args:
        sampler:
            Draws paths of its space.
        num_classes:
            Outputs of the classifier.
        use_se:
            Whether optional squeeze-excite gates are built.

    Attributes:
        batches: How many batches were trained on; saved with the weights, so that a resumed run takes the paths of an
            uninterrupted one.
        closing_norms: The layers that end bodies of residuals; with weights of 0, the bodies add nothing.

    Raises:
        SpecError: If the space's bounds are so wide that the supernet would be too large.
    """

    batches: torch.Tensor

    def __init__(self, sampler: PathSampler, num_classes: int, use_se: bool = False) -> None:
        super().__init__()
        self.sampler = sampler
        self.num_classes = num_classes
        self.use_se = use_se
        shapes: Shapes = {}
        closing: set[str] = set()
        for found in covering(sampler.space):
            shapes = union((shapes, shapes_of(found, num_classes, use_se)))
            closing |= closing_norms(found, use_se)
            self.params = sum(map(prod, shapes.values()))
            if self.params > MAX_PARAMS:
                # Said of the first ones already: to look at all of a wide space takes minutes.
                raise SpecError(
                    f"The supernet of this space would have more than {MAX_PARAMS:,} parameters; narrow the space, "
                    "e.g. --set space.bounds=narrow."
                )
        self.layers = nn.ModuleDict(new_layers(shapes))
        self.closing_norms = [self.layers[name] for name in sorted(closing)]
        self.register_buffer("batches", torch.zeros((), dtype=torch.int64))
        self._judged = 0

    @property
    def shared(self) -> SharedWeights:
        """The weights as they are now; they learn through it."""
        tensors = {
            f"{name}.{tensor}": value
            for name, layer in self.layers.items()
            for tensor, value in layer.named_parameters()
        }
        return SharedWeights(tensors, self.num_classes, self.use_se)

    def train(self, mode: bool = True) -> Supernet:
        """Set the mode; what is judged afterwards is judged on the same paths every time."""
        self._judged = 0
        super().train(mode)
        return self

    def training_loss(self, images: torch.Tensor, targets: torch.Tensor, smoothing: float) -> torch.Tensor:
        """Return the mean loss of the batch's paths; the first learns from the labels, others from it.

        Args:
            images:
                A ``batch x 3 x height x width`` tensor.
            targets:
                ``batch`` class numbers, or ``batch x classes`` probabilities.
            smoothing:
                Of the labels.
        """
        first, *others = self.sampler.paths(int(self.batches))
        self.batches += 1
        shared = self.shared
        logits = shared(first, images)
        losses = [F.cross_entropy(logits, targets, label_smoothing=smoothing)]
        taught = logits.detach().softmax(1)
        losses += [F.cross_entropy(shared(other, images), taught) for other in others]
        return torch.stack(losses).mean()

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Return the logits of one drawn path: of each batch another, the same ones after every epoch."""
        path: Any = self.sampler.draw(self._judged, "judged")
        self._judged += 1
        return self.shared(path, images, training=self.training)
