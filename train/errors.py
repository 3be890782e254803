"""Errors that end a training run, each with one clear line."""

from __future__ import annotations

from zenopt.errors import ZenoptError


class TrainError(ZenoptError):
    """A run cannot start or go on: the loss is not finite, the disk is full, the options contradict each other."""


class CheckpointError(ZenoptError):
    """A checkpoint is missing, unreadable, or belongs to another run."""
