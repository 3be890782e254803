"""The two forwards of a Zen-score straight from the lowered layers, without modules.

The same arithmetic as a network without residual links in training mode, arranged for speed:

* weights are drawn once, into one buffer, in the layout the convolutions read;
* activations are channels-last, where 1x1 convolutions are plain matrix products;
* a batch normalisation is one pass for its statistics and one in place for ``scale * x + shift``; the ReLU is in place;
* x runs through the whole network before x' does, so that one activation at a time is hot in the cache. The running
  variances see x first and x' second, as they do in the released code.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch.nn import functional

from zenopt.core.lowering import Layer
from zenopt.nn import BN_EPS

#: Weight of a new batch in the running variance that the score reads.
MOMENTUM = 0.1
#: Up to this many positions a 1x1 convolution costs less as a matrix product: oneDNN's fixed cost per call is higher.
MAX_MATMUL_POSITIONS = 4096


def is_plain_chain(layers: Sequence[Layer]) -> bool:
    """Whether the layers before the head are convolutions, normalisations and ReLUs in sequence."""
    return all(layer.kind in ("conv", "norm", "relu") for layer in layers if layer.role != "head")


def draw_weights(layers: Sequence[Layer], generator: torch.Generator) -> list[torch.Tensor]:
    """Draw the weights of all convolutions from N(0, 1) into one buffer.

    Returns:
        One ``out x in x kernel x kernel`` view per convolution, channels-last in memory.
    """
    convs = [layer for layer in layers if layer.kind == "conv"]
    sizes = [layer.out_channels * layer.kernel**2 * (layer.in_channels // layer.groups) for layer in convs]
    buffer = torch.empty(sum(sizes), device=generator.device).normal_(generator=generator)
    return [
        part.view(layer.out_channels, layer.kernel, layer.kernel, -1).permute(0, 3, 1, 2)
        for part, layer in zip(buffer.split(sizes), convs, strict=True)
    ]


@torch.inference_mode()
def zen_of_chain(
    layers: Sequence[Layer], weights: Sequence[torch.Tensor], x: torch.Tensor, changed: torch.Tensor
) -> float:
    """Return the Zen-score of a chain of layers.

    Args:
        layers:
            Convolutions, normalisations and ReLUs in order; what belongs to the head is left out.
        weights:
            One ``out x in x kernel x kernel`` tensor per convolution.
        x, changed:
            The two ``batch x 3 x height x width`` inputs.
    """
    body = [layer for layer in layers if layer.role != "head"]
    channels = [layer.out_channels for layer in body if layer.kind == "norm"]
    # All running variances in one tensor: thousands of tiny ones would cost as much as a small convolution.
    running = torch.ones(sum(channels), device=x.device)
    difference = _features(body, weights, x, running, channels)
    difference -= _features(body, weights, changed, running, channels)
    score = difference.abs_().sum().div_(x.shape[0]).log_()
    if channels:
        counts = torch.tensor(channels, device=x.device)
        # Not index_add_, which adds in any order on a GPU: scores of equal seeds would differ in their last digits.
        means = torch.segment_reduce(running, "sum", lengths=counts, unsafe=True).div_(counts)
        score = score + 0.5 * means.log_().sum()
    return score.item()


def _features(
    body: Sequence[Layer],
    weights: Sequence[torch.Tensor],
    x: torch.Tensor,
    running: torch.Tensor,
    channels: Sequence[int],
) -> torch.Tensor:
    weight = iter(weights)
    variances = iter(running.split(list(channels)))
    means = iter(torch.zeros_like(running).split(list(channels)))
    # Clone, because layers work in place and a 1x1 stem could hand its input on.
    x = x.clone(memory_format=torch.channels_last)
    for layer in body:
        if layer.kind == "conv":
            x = _convolve(layer, next(weight), x)
        elif layer.kind == "norm":
            x = _normalise(x, means, variances)
        else:
            x = x.relu_()
    return x


def _convolve(layer: Layer, weight: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
    pointwise = layer.kernel == 1 and layer.stride == 1 and layer.groups == 1
    if pointwise and x.shape[0] * layer.in_size**2 <= MAX_MATMUL_POSITIONS and x.device.type == "cpu":
        rows = x.permute(0, 2, 3, 1).reshape(-1, layer.in_channels)
        out = torch.mm(rows, weight.reshape(layer.out_channels, layer.in_channels).t())
        return out.view(x.shape[0], layer.out_size, layer.out_size, -1).permute(0, 3, 1, 2)
    # Biases, where a layer has them, are 0 in a Zen-score.
    return functional.conv2d(
        x, weight, stride=layer.stride, padding=(layer.kernel - 1) // 2, groups=layer.groups
    )


def _normalise(
    x: torch.Tensor, means: Iterator[torch.Tensor], variances: Iterator[torch.Tensor]
) -> torch.Tensor:
    if x.numel() == x.shape[1]:
        # The same words torch.nn has for it; the statistics of one value would be silently 0.
        raise ValueError(
            f"Expected more than 1 value per channel when training, got input size {list(x.shape)}"
        )
    mean, variance = torch.batch_norm_update_stats(x, next(means), next(variances), MOMENTUM)
    scale = variance.add_(BN_EPS).rsqrt_()
    shift = mean.mul_(scale).neg_()
    # As rows of channels: broadcasting over the last dimension is the fast case.
    rows = x.permute(0, 2, 3, 1)
    torch.addcmul(shift, rows, scale, out=rows)
    return x
