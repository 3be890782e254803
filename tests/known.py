"""Networks with published counts: small fixtures, and whole tables where they are at hand."""

from __future__ import annotations

import csv
import gzip
import os
from pathlib import Path

import pytest

FIXTURES = Path(__file__).resolve().parent / "fixtures" / "families"
#: Tables of trained networks are no part of the project; ZENOPT_TABLES names their folder.
TABLES = Path(os.environ.get("ZENOPT_TABLES", Path(__file__).resolve().parents[2] / "shared/data/tables"))


def fixture_rows(name: str) -> list[dict[str, str]]:
    """Return the rows of ``tests/fixtures/families/NAME.csv``."""
    with (FIXTURES / f"{name}.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def table_path(name: str) -> Path:
    """Return the path of a published table; the test is skipped where it is not at hand."""
    path = TABLES / name
    if not path.is_file():
        pytest.skip(f"{path} is not here; set ZENOPT_TABLES to the folder of the published tables")
    return path


def table_rows(name: str) -> list[dict[str, str]]:
    """Return the rows of a published table; the test is skipped where it is not at hand."""
    with gzip.open(table_path(name), "rt", newline="") as file:
        return list(csv.DictReader(file))
