"""Torch networks of described architectures, and weights for them."""

from zenopt.nn.modules import BN_EPS
from zenopt.nn.network import Network, build_auxiliary, build_network

__all__ = ["BN_EPS", "Network", "build_auxiliary", "build_network"]
