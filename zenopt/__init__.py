"""zenopt: the best image network that fits a budget, found without training.

What is used most can be had from here; importing it loads neither torch nor Optuna, which take seconds.
"""

from __future__ import annotations

import warnings
from importlib import import_module
from typing import TYPE_CHECKING, Any

from zenopt._version import __version__
from zenopt.core.budget import Budget
from zenopt.core.costs import Costs, count
from zenopt.spaces.base import BaseArchitecture, BaseSpace
from zenopt.spaces.chain.architecture import Architecture, register_block
from zenopt.spaces.registry import get_space, list_spaces, parse_architecture, register_space

# Optuna and Hugging Face's hub import tqdm's part for notebooks, which complains where there are no widgets. No bar
# here needs any.
warnings.filterwarnings("ignore", message="IProgress not found")

if TYPE_CHECKING:
    from zenopt.api import evaluate_architectures, load_result, optimize, sample_architectures
    from zenopt.export.bundle import Bundle, read_bundle
    from zenopt.latency.limits import Limits
    from zenopt.nn.network import build_network
    from zenopt.proxies.evaluation import evaluate
    from zenopt.proxies.registry import get_proxy, register_proxy
    from zenopt.proxies.registry import proxy_names as list_proxies
    from zenopt.result import Candidate, Result
    from zenopt.samplers.zen import ZenSampler
    from zenopt.spaces.chain.zoo import create as create_model
    from zenopt.spaces.chain.zoo import list_models
    from zenopt.study.components import list_components
    from zenopt.study.registries import list_samplers
    from zenopt.study.scoring import score
    from zenopt.study.spec import StudySpec, list_presets

#: Loaded on first use: name -> module and, where it has another one there, its name in it.
_LAZY = {
    "Bundle": "zenopt.export.bundle",
    "Candidate": "zenopt.result",
    "Limits": "zenopt.latency.limits",
    "Result": "zenopt.result",
    "StudySpec": "zenopt.study.spec",
    "ZenSampler": "zenopt.samplers.zen",
    "build_network": "zenopt.nn.network",
    "create_model": "zenopt.spaces.chain.zoo:create",
    "evaluate_architectures": "zenopt.api",
    "evaluate": "zenopt.proxies.evaluation",
    "get_proxy": "zenopt.proxies.registry",
    "list_components": "zenopt.study.components",
    "list_models": "zenopt.spaces.chain.zoo",
    "list_presets": "zenopt.study.spec",
    "list_proxies": "zenopt.proxies.registry:proxy_names",
    "list_samplers": "zenopt.study.registries",
    "load_result": "zenopt.api",
    "optimize": "zenopt.api",
    "read_bundle": "zenopt.export.bundle",
    "register_proxy": "zenopt.proxies.registry",
    "sample_architectures": "zenopt.api",
    "score": "zenopt.study.scoring",
}

__all__ = [
    "Architecture",
    "BaseArchitecture",
    "BaseSpace",
    "Budget",
    "Bundle",
    "Candidate",
    "Costs",
    "Limits",
    "Result",
    "StudySpec",
    "ZenSampler",
    "__version__",
    "build_network",
    "count",
    "create_model",
    "evaluate",
    "evaluate_architectures",
    "get_proxy",
    "get_space",
    "list_components",
    "list_models",
    "list_presets",
    "list_proxies",
    "list_samplers",
    "list_spaces",
    "load_result",
    "optimize",
    "parse_architecture",
    "read_bundle",
    "register_block",
    "register_proxy",
    "register_space",
    "sample_architectures",
    "score",
]


def __getattr__(name: str) -> Any:
    if name not in _LAZY:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module, _, attribute = _LAZY[name].partition(":")
    with warnings.catch_warnings():
        # Optuna imports tqdm's bars, which in a notebook ask for ipywidgets; nothing here needs them.
        warnings.filterwarnings("ignore", message="IProgress not found")
        value = getattr(import_module(module), attribute or name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    # What a notebook completes after the point: not what this file imports.
    return sorted(__all__)
