"""Accuracy of a path: statistics of batch normalisation from training images, then images that were held back."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from zenopt.core.errors import EvaluationError
from zenopt.nn.network import Network
from zenopt.supernet.files import TrainedSupernet
from zenopt.train.engine import AMP

#: Images of a forward pass: what fits a CPU's cache.
BATCH = 64


class PathJudge:
    """Judges architectures with the weights of a supernet.

    Args:
        supernet:
            The supernet.
        device:
            Torch device of the evaluations.
        images, settling:
            How many held-back images judge, and how many training images give statistics; by default all there are.
        amp:
            Lower precision of the forward passes: ``"bf16"`` or ``"fp16"``.
    """

    def __init__(
        self,
        supernet: TrainedSupernet,
        device: str = "cpu",
        images: int | None = None,
        settling: int | None = None,
        amp: str | None = None,
    ) -> None:
        self._amp = AMP[amp] if amp is not None else None
        self._weights = supernet.weights
        self._device = torch.device(device)
        kept, side = supernet.images, supernet.facts.resolution
        #: Side of the images that judge, pixels.
        self.resolution = side
        self._judged = self._placed(kept.normalised(kept.judged[:images], side))
        self._labels = kept.labels[:images].to(self._device)
        self._settling = self._placed(kept.normalised(kept.settling[:settling], side))

    def _placed(self, images: torch.Tensor) -> torch.Tensor:
        # Channels side by side are faster on CPUs and GPUs alike, and nothing is trained here.
        return images.to(self._device, memory_format=torch.channels_last)

    @property
    def images(self) -> int:
        """How many images judge."""
        return len(self._labels)

    def network(self, architecture: Any) -> Network:
        """Return the network of an architecture with inherited weights and its own statistics, in evaluation mode.

        Raises:
            CheckpointError: If it is not in the supernet.
        """
        network = self._weights.network(architecture).to(self._device)
        network = network.to(memory_format=torch.channels_last)
        with self._precision():
            settle(network, self._settling)
        return network

    def _precision(self) -> torch.autocast:
        return torch.autocast(self._device.type, dtype=self._amp, enabled=self._amp is not None)

    @torch.inference_mode()
    def accuracy(self, architecture: Any) -> float:
        """Return the top-1 accuracy of an architecture in percent.

        Raises:
            CheckpointError: If it is not in the supernet.
            EvaluationError: If its outputs are no numbers.
        """
        return self.accuracy_of(self.network(architecture))

    @torch.inference_mode()
    def accuracy_of(self, network: Network) -> float:
        """Return the top-1 accuracy of what :meth:`network` returned, in percent.

        Raises:
            EvaluationError: If its outputs are no numbers.
        """
        correct = 0
        for start in range(0, len(self._labels), BATCH):
            with self._precision():
                logits = network(self._judged[start : start + BATCH])
            if not bool(torch.isfinite(logits).all()):
                raise EvaluationError(
                    f"The outputs of {network.architecture} with inherited weights are no numbers."
                )
            correct += int((logits.argmax(1) == self._labels[start : start + BATCH]).sum())
        return 100.0 * correct / len(self._labels)


@torch.no_grad()
def settle(network: nn.Module, images: torch.Tensor) -> None:
    """Give every batch normalisation the mean statistics of its inputs over some images; ends in evaluation mode.

    Args:
        network:
            Changed in place.
        images:
            A ``count x 3 x height x width`` tensor of training images, normalised.
    """
    network.eval()
    norms = [module for module in network.modules() if isinstance(module, nn.BatchNorm2d)]
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # a mean over all batches
        norm.train()
    # Batches of equal size, so that every image counts alike.
    count = -(-len(images) // BATCH)
    for batch in images.tensor_split(count):
        network(batch)
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum
        norm.eval()
