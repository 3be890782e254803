"""A proxy of one's own: one function and one decorator.

Run this file to score three networks by it::

    python examples/custom_proxy.py

or name it wherever a proxy is named, with the folder of this file on the Python path::

    PYTHONPATH=examples zenopt score "SuperConvK3BNRELU(3,16,1,1)SuperResK3K3(16,32,2,16,2)" \
        --proxy custom_proxy:dead_units --resolution 32
"""

from __future__ import annotations

import torch
from torch import nn

from zenopt.proxies import Probe, evaluate, register_proxy, score_architecture
from zenopt.spaces.chain.architecture import Architecture
from zenopt.spaces.nasbench201.architecture import CellArchitecture


@register_proxy("dead-units", "minimize", cost_class="forward", needs=("data",))
def dead_units(probe: Probe) -> float:
    """Share of ReLU units that no sample of the batch switches on.

    A unit that is off for every input passes no gradient, and the weights before it cannot learn.
    """
    codes = probe.relu_codes()
    units = sum(code.shape[1] for code in codes)
    alive = sum(int(code.any(dim=0).sum()) for code in codes)
    return 1.0 - alive / units


def main() -> None:
    # Architectures: networks are built with fresh weights, inputs are noise.
    chain = Architecture.parse(
        "SuperConvK3BNRELU(3,16,1,1)SuperResK3K3(16,32,2,16,2)SuperConvK1BNRELU(32,64,1,1)"
    )
    cell = CellArchitecture.parse(
        "|nor_conv_3x3~0|+|nor_conv_3x3~0|none~1|+|skip_connect~0|none~1|nor_conv_1x1~2|"
    )
    for architecture in (chain, cell):
        score = score_architecture(
            architecture, "dead-units", resolution=32, num_classes=10, batch_size=8, repeats=3
        )
        print(f"{score.mean:.4f} +- {score.std:.4f}  {architecture}")

    # Any module, with data of one's own, beside other proxies.
    torch.manual_seed(0)
    network = nn.Sequential(
        nn.Conv2d(3, 8, 3, bias=False), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 10)
    )
    images, labels = torch.rand(8, 3, 32, 32), torch.randint(10, (8,))
    for name, result in evaluate(network, images, labels, ["dead-units", "snip", "naswot"]).items():
        print(f"{name}: {result.error or format(result.value, '.4f')}")


if __name__ == "__main__":
    main()
