"""Search spaces: which architectures exist, as Optuna parameters and as moves between them."""

from zenopt.spaces.registry import get_space, list_spaces, register_space

__all__ = ["get_space", "list_spaces", "register_space"]
