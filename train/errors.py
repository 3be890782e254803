"""Errors that end a training run, each with one clear line; `CheckpointError` is the one of `zenopt.nn.weights`."""

from __future__ import annotations

from zenopt.core.errors import ZenoptError
from zenopt.nn.weights import CheckpointError

__all__ = ["CheckpointError", "DivergedError", "TrainError"]


class TrainError(ZenoptError):
    """A run cannot start or go on: the loss is not finite, the disk is full, the options contradict each other."""


class DivergedError(TrainError):
    """A loss, weights or outputs are no longer numbers: the learning rate is too high for this network."""
