"""Samplers: what proposes the next architecture."""

from zenopt.samplers.aging import AgingSampler
from zenopt.samplers.guided import Guide, GuidedSampler
from zenopt.samplers.screening import Screening
from zenopt.samplers.zen import ZenSampler

__all__ = ["AgingSampler", "Guide", "GuidedSampler", "Screening", "ZenSampler"]
