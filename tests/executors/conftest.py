"""What the tests of executors share."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import optuna
import pytest

from zenopt.storage import open_storage


@pytest.fixture(autouse=True, scope="module")
def _no_cluster_left() -> Iterator[None]:
    """End this process' part in a Ray cluster, which the next module of tests would be in."""
    yield
    if "ray" in sys.modules:
        sys.modules["ray"].shutdown()


@pytest.fixture
def study(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> optuna.Study:
    # Worker processes import the jobs.
    folders = [str(Path(__file__).parent), *filter(None, [os.environ.get("PYTHONPATH")])]
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(folders))
    return optuna.create_study(
        study_name="s", storage=open_storage(f"sqlite:///{tmp_path}/s.db"), direction="maximize"
    )
