"""zenopt: the best image network that fits a budget, found without training."""

from __future__ import annotations

import warnings
from importlib import import_module
from typing import TYPE_CHECKING, Any

from zenopt._version import __version__
from zenopt.core.budget import Budget
from zenopt.core.costs import Costs, count
from zenopt.spaces.chain.architecture import Architecture

# Optuna and Hugging Face's hub import tqdm's part for notebooks, which complains where there are no widgets. No bar
# here needs any.
warnings.filterwarnings("ignore", message="IProgress not found")

if TYPE_CHECKING:
    from zenopt.api import Candidate, Result, load_result, optimize

__all__ = [
    "Architecture",
    "Budget",
    "Candidate",
    "Costs",
    "Result",
    "__version__",
    "count",
    "load_result",
    "optimize",
]

#: Loaded on first use, because they import torch and Optuna, which take seconds.
_LAZY = ("Candidate", "Result", "load_result", "optimize")


def __getattr__(name: str) -> Any:
    if name in _LAZY:
        with warnings.catch_warnings():
            # Optuna imports tqdm's bars, which in a notebook ask for ipywidgets; nothing here needs them.
            warnings.filterwarnings("ignore", message="IProgress not found")
            value = getattr(import_module("zenopt.api"), name)
        globals()[name] = value
        return value
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *_LAZY})
