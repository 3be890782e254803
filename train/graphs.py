"""A step's forward and backward passes as one CUDA graph.

A small network's step is hundreds of kernels, each done before the next is launched, so that a GPU mostly waits for
Python. A graph launches them all at once. The optimiser stays outside: it is a few kernels over all weights, and its
learning rate changes.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import nn

from zenopt.core.text import one_line
from zenopt.train.distributed import World
from zenopt.train.errors import TrainError
from zenopt.train.recipe import Recipe

#: Passes before the capture: libraries choose their kernels and take their memory in the first ones.
WARMUPS = 3


def check_graphs(recipe: Recipe, world: World) -> None:
    """Refuse what cannot be a graph.

    Raises:
        TrainError: The device is no CUDA device, or gradients come together from several parts or processes.
    """
    hindrance = None
    if world.device.type != "cuda":
        hindrance = f"a CUDA device; the device is {world.device.type!r}"
    elif world.size > 1:
        hindrance = f"one process; there are {world.size}"
    elif recipe.accumulate > 1:
        hindrance = f"accumulate=1; it is {recipe.accumulate}"
    if hindrance is not None:
        raise TrainError(
            f"precision.compile=graphs needs {hindrance}. Leave it out, or take precision.compile=true."
        )


class GraphedStep:
    """Replays what `compute` did to a first batch of the same shape.

    Args:
        compute:
            Makes gradients from images and targets and returns the loss; it must not look at a number on the GPU.
        module:
            Whose parameters get gradients. What the passes before the capture do to its buffers is undone.
        device:
            Where they are.
    """

    def __init__(
        self,
        compute: Callable[[torch.Tensor, torch.Tensor], torch.Tensor],
        module: nn.Module,
        device: torch.device,
    ) -> None:
        self._compute = compute
        self._module = module
        self._device = device
        self._graph: torch.cuda.CUDAGraph | None = None

    def forget(self) -> None:
        """Capture anew at the next step, because a constant of the passes has changed."""
        self._graph = None

    def __call__(self, images: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        """Put the gradients of a batch into the parameters, which have none; return the loss."""
        with torch.cuda.device(self._device):
            if self._graph is None:
                self._capture(images, targets)
            elif (images.shape, targets.shape) != (self._images.shape, self._targets.shape):
                return self._compute(images, targets)  # images that cannot be decoded are missing
            assert self._graph is not None
            self._images.copy_(images, non_blocking=True)
            self._targets.copy_(targets, non_blocking=True)
            for parameter, gradient in self._gradients:
                parameter.grad = gradient
            self._graph.replay()
        return self._loss

    def _capture(self, images: torch.Tensor, targets: torch.Tensor) -> None:
        buffers = [(buffer, buffer.clone()) for buffer in self._module.buffers()]
        # Dropout draws what it would have drawn without these passes.
        random_state = torch.cuda.get_rng_state(self._device)
        self._images, self._targets = images.clone(), targets.clone()
        try:
            self._warm_up()
            graph = torch.cuda.CUDAGraph()
            # The thread that pins the batches of loader processes may take memory meanwhile.
            with torch.cuda.graph(graph, capture_error_mode="thread_local"):
                self._loss = self._compute(self._images, self._targets)
        except RuntimeError as error:
            raise TrainError(
                f"This step cannot be captured as a CUDA graph ({one_line(str(error), 120)}); "
                "leave out precision.compile=graphs."
            ) from error
        self._gradients = [(parameter, parameter.grad) for parameter in self._module.parameters()]
        self._graph = graph
        with torch.no_grad():
            for buffer, before in buffers:
                buffer.copy_(before)
        torch.cuda.set_rng_state(random_state, self._device)

    def _warm_up(self) -> None:
        """Run the passes on a stream of their own, as captures ask for; the gradients are thrown away."""
        side = torch.cuda.Stream()
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):
            for _ in range(WARMUPS):
                self._compute(self._images, self._targets)
                for parameter in self._module.parameters():
                    parameter.grad = None
        torch.cuda.current_stream().wait_stream(side)
