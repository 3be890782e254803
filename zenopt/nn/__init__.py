"""Torch networks of architectures."""

from zenopt.nn.modules import BN_EPS
from zenopt.nn.network import Network, build_network, register_builder
from zenopt.spaces.chain.checkpoint import LoadReport, load_zennas_state_dict, zennas_keys
from zenopt.spaces.nasbench201.network import CellNetwork

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
