"""zenopt: the best image network that fits a budget, found without training."""

from zenopt._version import __version__
from zenopt.architecture import Architecture
from zenopt.budget import Budget
from zenopt.costs import Costs, count

__all__ = ["Architecture", "Budget", "Costs", "__version__", "count"]
