"""Search spaces: which architectures exist, as Optuna parameters and as moves between them."""

from zenopt.spaces.base import BaseArchitecture, BaseSpace
from zenopt.spaces.registry import get_space, list_spaces, parse_architecture, register_space

__all__ = [
    "BaseArchitecture",
    "BaseSpace",
    "get_space",
    "list_spaces",
    "parse_architecture",
    "register_space",
]
