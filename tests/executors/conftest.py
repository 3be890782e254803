"""What the tests of executors share."""

from __future__ import annotations

import sys
from collections.abc import Iterator

import pytest


@pytest.fixture(autouse=True, scope="module")
def _no_cluster_left() -> Iterator[None]:
    """End this process' part in a Ray cluster, which the next module of tests would be in."""
    yield
    if "ray" in sys.modules:
        sys.modules["ray"].shutdown()
