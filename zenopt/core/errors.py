"""Errors a user can cause. Each message is one line: what is wrong, where, and what is allowed.

The command line prints them without a traceback and exits with code 2.
"""

from __future__ import annotations

from zenopt.core.text import printable


class ZenoptError(ValueError):
    """Base of every error that bad input can cause; what it quotes cannot reach a terminal as an order."""

    def __init__(self, message: str = "") -> None:
        super().__init__(printable(message))


class StructureError(ZenoptError):
    """A structure string or architecture is malformed or unsupported."""


class SpecError(ZenoptError):
    """A study spec, recipe or command-line override is invalid."""


class BudgetError(ZenoptError):
    """No architecture can satisfy the budget."""


class StorageError(ZenoptError):
    """A storage URL is invalid, or the database cannot be used."""


class StorageLostError(StorageError):
    """The file of a storage was deleted or replaced while it was in use; the message says where its content is."""


class StudyError(ZenoptError):
    """A study is missing, empty, infeasible, or differs from what was asked for."""


class DeviceError(ZenoptError):
    """A compute device or device profile is not available."""


class ExecutorError(ZenoptError):
    """An executor is unknown or not installed, or cannot give workers what is asked for."""


class BundleError(ZenoptError):
    """An exported bundle is missing, incomplete or of an unknown version."""


class CheckpointError(ZenoptError):
    """A checkpoint is missing, unreadable, or of another network or run."""


class OutputError(ZenoptError):
    """A file or folder that is to be written cannot be."""


class DataError(ZenoptError):
    """A data set is missing or malformed."""


class ExtensionError(ZenoptError):
    """A module of the user's own cannot be imported."""


class UnknownNameError(ZenoptError):
    """A registry does not hold the requested name."""


class EvaluationError(ZenoptError):
    """An architecture has no value, for a reason of its own: its trial fails, and a search goes on."""


class ProxyError(EvaluationError):
    """A proxy could not score a network, or its score was not a finite number."""


class PredictorError(ZenoptError):
    """What was given cannot be learned from or predicted."""
