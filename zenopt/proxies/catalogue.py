"""What the built-in proxies are, told without loading them: loading one imports torch, which takes seconds.

``zenopt proxies``, the completion of shells and the reading of study files need no more than this. A test compares it
with what the proxies declare themselves.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Summary:
    """What people are told of a proxy; the fields are those of :class:`zenopt.proxies.Proxy`."""

    name: str
    module: str
    cost_class: str
    needs: tuple[str, ...]
    description: str
    direction: Literal["maximize", "minimize"] = "maximize"


_BATCH = ("data", "labels", "gradients")

#: By name.
BUILTIN = {
    summary.name: summary
    for summary in (
        Summary(
            "zen",
            "zen",
            "forward",
            (),
            "Measured Zen-score: log change of the features under a small input change, plus BN terms",
        ),
        Summary(
            "zen-at-64",
            "zen_at_64",
            "forward",
            (),
            "Measured Zen-score at batch 64, estimated from a smaller batch (residual space, 32 pixels)",
        ),
        Summary(
            "zen-closed-form",
            "zen_closed_form",
            "closed form",
            (),
            "Expected Zen-score, computed by mean-field theory without tensors",
        ),
        Summary(
            "zennas-gradnorm",
            "gradnorm",
            "backward",
            ("gradients",),
            "L2 norm of the gradient by *all* parameters, at N(0, 1) weights, noise inputs and random labels",
        ),
        Summary(
            "te-nas-ntk",
            "te_nas",
            "backward",
            ("data", "gradients"),
            "Minus the condition number of the neural tangent kernel, so that more is better (ZenNAS's sign)",
        ),
        Summary(
            "te-nas-linear-regions",
            "te_nas",
            "forward",
            (),
            "Number of linear regions met: distinct on/off patterns of all ReLU units over 3,000 tiny noise images",
        ),
        Summary("params", "size", "closed form", (), "Number of parameters"),
        Summary(
            "macs",
            "size",
            "closed form",
            (),
            "Multiply-adds of convolutions and matrix products for one image",
        ),
        Summary(
            "random",
            "size",
            "closed form",
            (),
            "A number from N(0, 1): what a proxy without information ranks by",
        ),
        Summary(
            "zennas-params",
            "size",
            "closed form",
            (),
            "ZenNAS's Params: its own count (get_model_size) of the network without shortcuts",
        ),
        Summary(
            "zennas-flops",
            "size",
            "closed form",
            (),
            "ZenNAS's Flops: its own count of multiply-adds (get_FLOPs) of the network without shortcuts",
        ),
        Summary(
            "zico",
            "zico",
            "backward",
            _BATCH,
            "Sum over layers of ln( sum over weights of mean |g| / std g ), mean and std over two minibatches",
        ),
        Summary(
            "swap",
            "swap",
            "forward",
            ("data",),
            "Number of distinct patterns: each ReLU unit's pattern is its on/off over the samples of the batch",
        ),
        Summary(
            "meco",
            "meco",
            "forward",
            (),
            "Sum over feature maps of the smallest eigenvalue of the correlation matrix of the map's channels",
        ),
        Summary(
            "az-nas-expressivity",
            "az_nas",
            "forward",
            ("data",),
            "Sum over blocks of the entropy of the principal components of its features",
        ),
        Summary(
            "az-nas-progressivity",
            "az_nas",
            "forward",
            ("data",),
            "Smallest gain of that entropy from one block to the next",
        ),
        Summary(
            "az-nas-trainability",
            "az_nas",
            "backward",
            ("data", "gradients"),
            "Mean over blocks of 2 - s - 1/s: 0 where the block's Jacobian keeps the length of gradients (s = 1)",
        ),
        Summary("grad_norm", "zero_cost", "backward", _BATCH, "Sum over layers of the gradient's L2 norm"),
        Summary(
            "snip",
            "zero_cost",
            "backward",
            _BATCH,
            'Connection sensitivity: sum of |w * g| (Lee, Ajanthan & Torr, "SNIP", ICLR 2019)',
        ),
        Summary(
            "plain",
            "zero_cost",
            "backward",
            _BATCH,
            'Signed sum of w * g (Mozer & Smolensky, "Skeletonization", NIPS 1988)',
        ),
        Summary(
            "grasp",
            "zero_cost",
            "backward",
            _BATCH,
            'Sum of -w * (H g), H the Hessian of the loss (Wang, Zhang & Grosse, "GraSP", ICLR 2020)',
        ),
        Summary(
            "fisher",
            "zero_cost",
            "backward",
            _BATCH,
            "Fisher information of channels: sum over layers and channels of Delta times the channel's fan-in",
        ),
        Summary(
            "jacob_cov",
            "zero_cost",
            "backward",
            ("data", "gradients"),
            "Spread of the spectrum of the correlations between the samples' input gradients; labels are not used",
        ),
        Summary(
            "synflow-expected",
            "synflow_expected",
            "closed form",
            (),
            "Logarithm of the expected synflow of a NAS-Bench-201 cell (official build), borders left out",
        ),
        Summary(
            "naswot",
            "naswot",
            "forward",
            ("data",),
            "Logarithm of the determinant of the code agreement, on the network and the batch as they are",
        ),
        Summary("zennas-naswot", "naswot", "forward", (), "ZenNAS's NASWOT: on N(0, 1) weights and noise"),
        Summary(
            "synflow",
            "synflow",
            "backward",
            ("gradients",),
            "Sum of |w * dR/dw| over convolutions and linear layers, BN removed",
        ),
        Summary(
            "synflow_bn",
            "synflow",
            "backward",
            ("gradients",),
            "Synflow with BN in place, in the network's mode",
        ),
        Summary(
            "synflow-log",
            "synflow",
            "backward",
            ("gradients",),
            "Natural logarithm of synflow: the same ranking in numbers of ordinary size",
        ),
        Summary(
            "zennas-synflow",
            "synflow",
            "backward",
            ("gradients",),
            "ZenNAS's Syncflow: minus the flow per output channel, BN in training mode, N(0, 1) weights",
        ),
    )
}

#: The three measures that vote in Abdelfattah et al., "Zero-Cost Proxies for Lightweight NAS".
VOTERS = ("synflow", "jacob_cov", "snip")
#: The measures whose ranks AZ-NAS adds up.
AZ_NAS = ("az-nas-expressivity", "az-nas-progressivity", "az-nas-trainability", "macs")

#: Combination -> its proxies with their weights, where the spec gives none.
COMBINATIONS: dict[str, dict[str, float]] = {
    "vote": dict.fromkeys(VOTERS, 1.0),
    "az-nas": dict.fromkeys(AZ_NAS, 1.0),
    "sum": {},
}
