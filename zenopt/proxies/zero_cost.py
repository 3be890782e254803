"""Scores from the gradients of one minibatch, as the zero-cost-nas release defines them.

Abdelfattah, Mehrotra, Dudziak & Lane, "Zero-Cost Proxies for Lightweight NAS", ICLR 2021. With w the weight of a
convolution or linear layer (no biases, no BN) and g its gradient of the mean cross entropy, each score is a sum over
layers. The network is used as it is, in the mode it is in. All share one forward and one backward pass.
"""

from __future__ import annotations

import numpy as np

from zenopt.core.errors import ProxyError
from zenopt.proxies.probe import LayerArrays, Probe, over_layers
from zenopt.proxies.registry import register_proxy

_BATCH = ("data", "labels", "gradients")


@register_proxy("grad_norm", cost_class="backward", needs=_BATCH, shares=("weights",))
@over_layers
def grad_norm(probe: Probe) -> LayerArrays:
    """Sum over layers of the gradient's L2 norm.

    One norm per layer, then the sum: not the norm of the whole gradient (``zennas-gradnorm`` is that).
    """
    return ((weight, gradient.norm()) for weight, gradient in probe.weight_gradients())


@register_proxy("snip", cost_class="backward", needs=_BATCH, shares=("weights",))
@over_layers
def snip(probe: Probe) -> LayerArrays:
    """Connection sensitivity: sum of |w * g| (Lee, Ajanthan & Torr, "SNIP", ICLR 2019)."""
    return ((weight, (weight * gradient).abs()) for weight, gradient in probe.weight_gradients())


@register_proxy("plain", cost_class="backward", needs=_BATCH, shares=("weights",))
@over_layers
def plain(probe: Probe) -> LayerArrays:
    """Signed sum of w * g (Mozer & Smolensky, "Skeletonization", NIPS 1988)."""
    return ((weight, weight * gradient) for weight, gradient in probe.weight_gradients())


@register_proxy("grasp", cost_class="backward", needs=_BATCH, shares=("hessian",))
@over_layers
def grasp(probe: Probe) -> LayerArrays:
    """Sum of -w * (H g), H the Hessian of the loss (Wang, Zhang & Grosse, "GraSP", ICLR 2020).

    As in the release: temperature 1 (GraSP has 200), one batch for both passes, g in the product a constant, the minus
    sign kept.
    """
    return ((weight, -(weight * product)) for weight, product in probe.hessian_gradients())


@register_proxy("fisher", cost_class="backward", needs=_BATCH, shares=("activations",))
@over_layers
def fisher(probe: Probe) -> LayerArrays:
    """Fisher information of channels: sum over layers and channels of Delta times the channel's fan-in.

    ``Delta = 1/2 mean over samples of (sum over positions of a * dL/da)^2`` for a layer's output a, before BN and ReLU
    (Theis et al. 2018; Turner et al., "BlockSwap", ICLR 2020). The fan-in enters because the release broadcasts Delta
    over the weights of the channel. dL/da is of the batch mean, so the score falls with the square of the batch.
    """
    for weight, saliency in probe.channel_saliencies():
        yield weight, saliency.reshape(-1, *[1] * (weight.dim() - 1)).expand_as(weight)


@register_proxy("jacob_cov", cost_class="backward", needs=("data", "gradients"), shares=("jacobian",))
def jacob_cov(probe: Probe) -> float:
    """Spread of the spectrum of the correlations between the samples' input gradients; labels are not used.

    ``-sum over eigenvalues v of log(v + k) + 1/(v + k)``, k = 1e-5, of the correlation matrix of the rows of the
    Jacobian (Mellor et al., "Neural Architecture Search without Training", first version). At best about minus the
    batch size. Eigenvalues are taken by the symmetric solver; where the matrix is nearly singular the smallest ones,
    and the score with them, are rounding.
    """
    rows = probe.input_jacobian().cpu().numpy()
    if (rows.std(axis=1) == 0).any():
        raise ProxyError("a sample has no input gradient, so its correlations are undefined")
    eigenvalues = np.linalg.eigvalsh(np.corrcoef(rows)) + 1e-5
    with np.errstate(invalid="ignore"):
        return float(-np.sum(np.log(eigenvalues) + 1.0 / eigenvalues))
