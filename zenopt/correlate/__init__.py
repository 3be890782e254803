"""How well proxies rank architectures whose accuracy is known."""

from zenopt.core.statistics import kendall, spearman, top_overlap
from zenopt.correlate.measure import Measurement, measure
from zenopt.correlate.report import Correlation, correlate
from zenopt.correlate.score_cache import ScoreCache

__all__ = [
    "Correlation",
    "Measurement",
    "ScoreCache",
    "correlate",
    "kendall",
    "measure",
    "spearman",
    "top_overlap",
]
