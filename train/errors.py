"""Errors that end a training run, each with one clear line; `CheckpointError` is the one of `zenopt.weights`."""

from __future__ import annotations

from zenopt.errors import ZenoptError
from zenopt.weights import CheckpointError

__all__ = ["CheckpointError", "TrainError"]


class TrainError(ZenoptError):
    """A run cannot start or go on: the loss is not finite, the disk is full, the options contradict each other."""
