"""TE-NAS: trainability by the neural tangent kernel, expressivity by linear regions.

Chen, Gong & Wang, "Neural Architecture Search on ImageNet in Four GPU Hours", ICLR 2021.
"""

from __future__ import annotations

import numpy as np
import torch

from zenopt.core.errors import ProxyError
from zenopt.proxies.passes import call, run_codes
from zenopt.proxies.probe import Probe
from zenopt.proxies.registry import register_proxy

#: Tiny images, so that the count is limited by the network and not by the number of images.
REGION_BATCHES, REGION_IMAGES, REGION_SIZE = 3, 1000, 3


@register_proxy("te-nas-ntk", cost_class="backward", needs=("data", "gradients"), residual=False)
def te_nas_ntk(probe: Probe) -> float:
    """Minus the condition number of the neural tangent kernel, so that more is better (ZenNAS's sign).

    Row i of G is the gradient of the sum of sample i's outputs by every parameter named ``weight`` (convolutions, BN,
    classifier; no biases); ``K = G G^T``; the score is ``-lambda_max / lambda_min``. One forward serves all samples, so
    BN in training mode couples them. Weights and inputs as they are; ZenNAS has PyTorch's initialisation and noise,
    which is what an architecture is scored with.

    Differences: K and its eigenvalues are in float64, and a smallest eigenvalue that is not positive is an error (the
    release would turn its sign into a *good* score).
    """
    weights = [parameter for name, parameter in probe.network.named_parameters() if "weight" in name]
    outputs = call(probe.network, probe.inputs).flatten(1).sum(1)
    rows = []
    for index, output in enumerate(outputs):
        gradients = torch.autograd.grad(
            output, weights, retain_graph=index + 1 < len(outputs), allow_unused=True
        )
        rows.append(torch.cat([g.flatten() for g in gradients if g is not None]))
    matrix = torch.stack(rows).double()
    eigenvalues = torch.linalg.eigvalsh(matrix @ matrix.t())
    smallest, largest = eigenvalues[0].item(), eigenvalues[-1].item()
    if smallest <= 0.0:
        raise ProxyError(f"the smallest eigenvalue of the kernel is {smallest:.3g}, not positive")
    return -largest / smallest


@register_proxy("te-nas-linear-regions", cost_class="forward", residual=False)
def te_nas_linear_regions(probe: Probe) -> float:
    """Number of linear regions met: distinct on/off patterns of all ReLU units over 3,000 tiny noise images.

    As in TE-NAS: three batches of 1,000 images of 3 x 3 pixels. Weights as they are (there redrawn by Kaiming's rule);
    images have the network's own number of channels (there 1, with a stem to match).
    """
    shape = (REGION_IMAGES, probe.inputs.shape[1], REGION_SIZE, REGION_SIZE)
    patterns = []
    for _ in range(REGION_BATCHES):
        images = torch.randn(shape, generator=probe.generator, device=probe.inputs.device)
        codes = torch.cat(run_codes(probe.network, [images]), dim=1)
        patterns.append(np.packbits(codes.cpu().numpy(), axis=1))
    return float(len(np.unique(np.concatenate(patterns), axis=0)))
