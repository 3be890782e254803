"""Latency: measured on the device at hand, predicted for the device one does not have.

Prediction (this page) imports neither torch nor optuna; measuring and calibrating live in their own modules.
"""

from zenopt.latency.predict import predict_latency_ms
from zenopt.latency.profile import DeviceProfile, list_profiles, load_profile

__all__ = ["DeviceProfile", "list_profiles", "load_profile", "predict_latency_ms"]
