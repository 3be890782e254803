"""ZenNAS checkpoints: their keys mapped to ours.

ZenNAS nests ``module_list`` for super-blocks, for the layers of a super-block (ReLUs are numbered too) and for the body
of a residual; a leaf keeps its tensors in ``netblock``, a shortcut in ``proj``, the classifier in ``fc_linear``. Our
modules keep the same numbering, so each key maps by renaming.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import cast

import torch
from torch import nn

from zenopt.core.errors import BundleError
from zenopt.nn.modules import ResidualModule, SqueezeExciteModule
from zenopt.nn.network import Network
from zenopt.nn.weights import LoadReport, load_renamed

_PREFIX = re.compile(r"^(?:module\.)?")


def zennas_keys(network: Network) -> dict[str, str]:
    """Return ZenNAS key -> our key, in the order of ZenNAS's ``state_dict``."""
    names: dict[str, str] = {}
    for index, block in enumerate(network.blocks):
        names.update(_walk(cast("nn.Sequential", block), f"blocks.{index}", f"module_list.{index}"))
    names["classifier"] = "fc_linear.netblock"
    ours = network.state_dict()
    mapped = {}
    for key in ours:
        module, _, tensor = key.rpartition(".")
        mapped[f"{names[module]}.{tensor}"] = key
    return mapped


def load_zennas_state_dict(
    network: nn.Module, state_dict: Mapping[str, torch.Tensor], *, strict: bool = True
) -> LoadReport:
    """Load the weights of a ZenNAS checkpoint.

    Args:
        network:
            A network from :func:`~zenopt.nn.build_network` with residual links.
        state_dict:
            ZenNAS's ``state_dict``. A ``module.`` prefix from ``DataParallel`` is ignored.
        strict:
            Raise if any key is missing or unexpected.

    Returns:
        What was missing and what was unexpected.

    Raises:
        BundleError: If the network is of another kind, a tensor has another shape or, when ``strict``, keys do not
            match. Nothing is loaded then.

    Example:
        .. code-block:: python

            network = build_network(architecture, num_classes=10)
            checkpoint = torch.load(path, map_location="cpu", weights_only=True)
            load_zennas_state_dict(network, checkpoint["state_dict"])
    """
    if not isinstance(network, Network):
        raise BundleError(f"ZenNAS checkpoints fit chains of super-blocks, not {type(network).__name__}.")
    if not network.residual:
        raise BundleError("ZenNAS checkpoints fit networks with residual links only (residual=True).")
    given = {_PREFIX.sub("", key): tensor for key, tensor in state_dict.items()}
    return load_renamed(network, given, zennas_keys(network), strict=strict)


def _walk(sequence: nn.Sequential, ours: str, theirs: str) -> Iterator[tuple[str, str]]:
    for index, module in enumerate(sequence):
        here, there = f"{ours}.{index}", f"{theirs}.module_list.{index}"
        if isinstance(module, ResidualModule):
            yield from _walk(module.body, f"{here}.body", there)
            for position in range(len(module.projection or ())):
                yield f"{here}.projection.{position}", f"{there}.proj.{position}"
        elif isinstance(module, SqueezeExciteModule):
            for position in range(len(module.gate)):
                yield f"{here}.gate.{position}", f"{there}.netblock.{position}"
        else:
            yield here, f"{there}.netblock"
