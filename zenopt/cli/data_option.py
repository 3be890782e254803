"""Data sets that are named on the command line, looked at before anything heavy is imported."""

from __future__ import annotations

from pathlib import Path

from zenopt.core.errors import DataError


def check_data(name: str, where: str = "--data") -> None:
    """Refuse a data set whose folder does not exist; what is in it is read later.

    Raises:
        DataError: If there is no such folder.
    """
    kind, _, path = name.partition(":")
    if kind != "synthetic" and path and not Path(path).is_dir():
        raise DataError(f"{where} {name}: folder {path} does not exist.")
