"""Random numbers of proxies: explicit generators, and networks filled from them.

Torch's global random state is neither read nor changed.
"""

from __future__ import annotations

import math
from typing import Any, Literal

import numpy as np
import torch
from torch import nn

from zenopt.nn import build_network
from zenopt.nn.seeding import seeded

Initialisation = Literal["gaussian", "kaiming", "pytorch"]

_PLAIN_MODULES = (nn.Conv2d, nn.Linear, nn.BatchNorm2d)


def make_generator(seed: int, repeat: int, device: torch.device) -> torch.Generator:
    """Return a generator on ``device`` whose stream is fixed by ``(seed, repeat)``.

    The two are mixed, so that neighbouring seeds and repeats share no stream. Streams differ between device types.
    """
    # Negative seeds are legal in torch; SeedSequence wants them unsigned.
    state = np.random.SeedSequence([seed % 2**64, repeat]).generate_state(1, np.uint64)
    return torch.Generator(device=device).manual_seed(int(state[0] >> np.uint64(1)))


def initialise(network: nn.Module, scheme: Initialisation, generator: torch.Generator) -> None:
    """Fill the parameters of a network in place, in the order of its modules.

    Args:
        network:
            Its convolutions, linear layers and batch normalisations are filled; other modules keep their values.
        scheme:
            ``"gaussian"``: every weight of a convolution or linear layer from N(0, 1), biases 0 (what ZenNAS does
            before it scores). ``"kaiming"``: N(0, 2 / fan-in), biases 0. ``"pytorch"``: PyTorch's defaults
            (weights and biases uniform within 1 / sqrt(fan-in)).
            Batch normalisations get weight 1, bias 0 and fresh statistics either way.
        generator:
            Source of the numbers, on the network's device.
    """
    with torch.no_grad():
        for module in network.modules():
            if isinstance(module, nn.modules.batchnorm._BatchNorm):
                module.reset_parameters()
            elif isinstance(module, nn.modules.conv._ConvNd | nn.Linear):
                _draw(module, scheme, generator)


def _draw(layer: nn.Module, scheme: Initialisation, generator: torch.Generator) -> None:
    weight, bias = layer.weight, layer.bias
    assert isinstance(weight, torch.Tensor)
    fan_in = max(1, weight[0].numel())
    if scheme == "pytorch":
        bound = 1.0 / math.sqrt(fan_in)
        weight.uniform_(-bound, bound, generator=generator)
        if isinstance(bias, torch.Tensor):
            bias.uniform_(-bound, bound, generator=generator)
        return
    weight.normal_(0.0, 1.0 if scheme == "gaussian" else math.sqrt(2.0 / fan_in), generator=generator)
    if isinstance(bias, torch.Tensor):
        bias.zero_()


def fresh_network(
    architecture: Any,
    generator: torch.Generator,
    *,
    num_classes: int,
    use_se: bool,
    residual: bool,
    scheme: Initialisation = "pytorch",
) -> nn.Module:
    """Build a network on the generator's device, in training mode, every weight from ``generator``.

    Modules are made without storage and filled once: PyTorch would otherwise initialise every weight on the way.
    """

    def build() -> nn.Module:
        return build_network(architecture, num_classes=num_classes, use_se=use_se, residual=residual)

    with torch.device("meta"):
        network = build()
    if all(_is_plain(module) for module in network.modules()):
        network = network.to_empty(device=generator.device)
    else:
        # A module of another kind knows best how to initialise itself, from the global generator.
        with seeded(generator.initial_seed()):
            network = build().to(generator.device)
    initialise(network, scheme, generator)
    return network.train()


def _is_plain(module: nn.Module) -> bool:
    holds_tensors = any(True for _ in module.parameters(False)) or any(True for _ in module.buffers(False))
    return type(module) in _PLAIN_MODULES or not holds_tensors
