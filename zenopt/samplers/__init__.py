"""Samplers: who proposes the next architecture."""

from zenopt.samplers.factory import make_sampler
from zenopt.samplers.screening import Screening
from zenopt.samplers.zen import ZenSampler

__all__ = ["Screening", "ZenSampler", "make_sampler"]
