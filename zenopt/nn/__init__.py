"""Torch networks of architectures."""

from zenopt.nn.checkpoint import LoadReport, load_zennas_state_dict, zennas_keys
from zenopt.nn.modules import BN_EPS
from zenopt.nn.nasbench201 import CellNetwork
from zenopt.nn.network import Network, build_network, register_builder

__all__ = [
    "BN_EPS",
    "CellNetwork",
    "LoadReport",
    "Network",
    "build_network",
    "load_zennas_state_dict",
    "register_builder",
    "zennas_keys",
]
