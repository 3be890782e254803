"""The Zen-score computed instead of sampled: microseconds per candidate, no noise, neither torch nor optuna."""

from zenopt.spaces.chain.closed_form.arrays import ArrayCosts, ChainEvaluator
from zenopt.spaces.chain.closed_form.batch64 import batch_correction
from zenopt.spaces.chain.closed_form.chains import Codec
from zenopt.spaces.chain.closed_form.scalar import closed_form_zen

__all__ = ["ArrayCosts", "ChainEvaluator", "Codec", "batch_correction", "closed_form_zen"]
