"""Samplers: what proposes the next architecture."""

from typing import TYPE_CHECKING, Any

from zenopt.samplers.aging import AgingSampler
from zenopt.samplers.annealing import AnnealingSampler
from zenopt.samplers.guided import Guide, GuidedSampler
from zenopt.samplers.local_search import LocalSearchSampler
from zenopt.samplers.rejection import RejectionSampler
from zenopt.samplers.screening import Screening
from zenopt.samplers.zen import ZenSampler

if TYPE_CHECKING:
    from zenopt.samplers.ppo import PPOSampler
    from zenopt.samplers.reinforce import ReinforceSampler
    from zenopt.samplers.surrogate import SurrogateSampler

__all__ = [
    "AgingSampler",
    "AnnealingSampler",
    "Guide",
    "GuidedSampler",
    "LocalSearchSampler",
    "PPOSampler",
    "ReinforceSampler",
    "RejectionSampler",
    "Screening",
    "SurrogateSampler",
    "ZenSampler",
]
#: Samplers whose modules import what others can do without: scipy, numpy.
_LATE = {"PPOSampler": "ppo", "ReinforceSampler": "reinforce", "SurrogateSampler": "surrogate"}


def __getattr__(name: str) -> Any:
    """Import a sampler that needs more than the others when it is asked for."""
    if name in _LATE:
        from importlib import import_module

        return getattr(import_module(f"zenopt.samplers.{_LATE[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
