"""Samplers: what proposes the next architecture."""

from typing import TYPE_CHECKING, Any

from zenopt.samplers.aging import AgingSampler
from zenopt.samplers.guided import Guide, GuidedSampler
from zenopt.samplers.screening import Screening
from zenopt.samplers.zen import ZenSampler

if TYPE_CHECKING:
    from zenopt.samplers.surrogate import SurrogateSampler

__all__ = ["AgingSampler", "Guide", "GuidedSampler", "Screening", "SurrogateSampler", "ZenSampler"]


def __getattr__(name: str) -> Any:
    """Import the sampler that needs scipy when it is asked for."""
    if name == "SurrogateSampler":
        from zenopt.samplers.surrogate import SurrogateSampler

        return SurrogateSampler
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
