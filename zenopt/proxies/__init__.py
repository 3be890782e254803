"""Training-free scores of networks, one file per family, behind one registry.

Importing this package imports no torch; names that need it load on first use.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from zenopt.core.score import Score
from zenopt.proxies.registry import (
    Proxy,
    ScoreSettings,
    get_proxy,
    list_proxies,
    proxy_names,
    register_proxy,
)

if TYPE_CHECKING:
    from zenopt.proxies.batches import draw_batch
    from zenopt.proxies.devices import resolve_device
    from zenopt.proxies.evaluation import evaluate
    from zenopt.proxies.probe import Probe
    from zenopt.proxies.score import score_architecture

_LAZY = {
    "Probe": "zenopt.proxies.probe",
    "draw_batch": "zenopt.proxies.batches",
    "evaluate": "zenopt.proxies.evaluation",
    "resolve_device": "zenopt.proxies.devices",
    "score_architecture": "zenopt.proxies.score",
}


def __getattr__(name: str) -> Any:
    if name in _LAZY:
        return getattr(import_module(_LAZY[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


__all__ = [
    "Probe",
    "Proxy",
    "Score",
    "ScoreSettings",
    "draw_batch",
    "evaluate",
    "get_proxy",
    "list_proxies",
    "proxy_names",
    "register_proxy",
    "resolve_device",
    "score_architecture",
]
