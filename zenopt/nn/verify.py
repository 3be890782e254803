"""Counts of a built network by other counters, to hold ours against."""

from __future__ import annotations

import logging
from typing import Any

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from zenopt.core.costs import count
from zenopt.nn.network import build_network


def verify_counts(
    architecture: Any, resolution: int, num_classes: int, *, use_se: bool = False
) -> dict[str, dict[str, Any]]:
    """Count an architecture in three ways.

    Args:
        architecture:
            What to count.
        resolution:
            Side of the square input image in pixels.
        num_classes:
            Outputs of the classifier.
        use_se:
            Whether squeeze-excite gates are built.

    Returns:
        Counter -> ``params``, ``macs`` and a ``note``: ours, torch's and thop's. thop counts BN and pooling as well, so
        MACs are near ours, not equal.
    """
    costs = count(architecture, resolution, num_classes, use_se=use_se)
    # Meta tensors have shapes and no data: nothing is allocated and nothing computed.
    with torch.device("meta"):
        network = build_network(architecture, num_classes=num_classes, use_se=use_se).eval()
        image = torch.empty(1, 3, resolution, resolution)
    params = sum(parameter.numel() for parameter in network.parameters())
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        network(image)
    macs = counter.get_total_flops() // 2
    agrees = "equal to ours" if (params, macs) == (costs.params, costs.macs) else "DIFFERS from ours"
    thop_macs, thop_params = _thop(network, image)
    return {
        "zenopt": {"params": costs.params, "macs": costs.macs, "note": ""},
        "torch": {"params": params, "macs": macs, "note": agrees},
        "thop": {"params": thop_params, "macs": thop_macs, "note": "counts BN and pooling, too"},
    }


def _thop(network: nn.Module, image: torch.Tensor) -> tuple[int, int]:
    # Imported late: it needs distutils, and it adds buffers to what it profiles, hence the throw-away network.
    import thop

    level = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        macs, params = thop.profile(network, inputs=(image,), verbose=False)
    finally:
        logging.disable(level)
    return int(macs), int(params)
