"""Latency: measured on the device at hand, predicted for the device one does not have.

Prediction and guards (this page) import neither torch nor optuna; measuring, calibrating and fitting live in modules of
their own: :mod:`zenopt.latency.measure`, :mod:`~zenopt.latency.calibrate`, :mod:`~zenopt.latency.csvfit`,
:mod:`~zenopt.latency.live`, :mod:`~zenopt.latency.trace`.
"""

from zenopt.latency.guards import NO_GUARDS, Guards, guard_violations
from zenopt.latency.predict import (
    Prediction,
    block_latencies,
    operation_latencies,
    predict_latency_ms,
)
from zenopt.latency.profile import DeviceProfile, list_profiles, load_profile

__all__ = [
    "NO_GUARDS",
    "DeviceProfile",
    "Guards",
    "Prediction",
    "block_latencies",
    "guard_violations",
    "list_profiles",
    "load_profile",
    "operation_latencies",
    "predict_latency_ms",
]
