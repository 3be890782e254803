"""zenopt: the best image network that fits a budget, found without training."""

from zenopt._version import __version__

__all__ = ["__version__"]
