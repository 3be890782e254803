"""zenopt's networks as a model of timm, so that ``timm.create_model("local-dir:CARD")`` builds a model card.

Importing this module registers ``zenopt_network`` with timm:

    import timm
    import zenopt.export.timm_model

    model = timm.create_model("local-dir:my-card", pretrained=True)
"""

from __future__ import annotations

from typing import Any

from timm.models import build_model_with_cfg, register_model
from torch import nn

from zenopt.nn import build_network
from zenopt.spaces.registry import parse_architecture

__all__: list[str] = []
#: Name under which timm knows the networks.
NAME = "zenopt_network"


def _build(structure: str, family: str = "chain", use_se: bool = False, num_classes: int = 1000) -> nn.Module:
    return build_network(parse_architecture(family, structure), num_classes=num_classes, use_se=use_se)


@register_model
def zenopt_network(pretrained: bool = False, **kwargs: Any) -> nn.Module:
    """Build the architecture given by ``family`` and ``structure``, with gates if ``use_se``.

    Three image channels and average pooling are what these networks are made for; timm's ``in_chans`` and
    ``global_pool`` are ignored.
    """
    ignored: Any = ("in_chans", "global_pool", "img_size")
    model: nn.Module = build_model_with_cfg(_build, NAME, pretrained, kwargs_filter=ignored, **kwargs)
    return model
