"""The Zen-score computed instead of sampled: microseconds per candidate, no noise, neither torch nor optuna."""

from zenopt.closed_form.scalar import closed_form_zen

__all__ = ["closed_form_zen"]
