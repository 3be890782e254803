"""Fixtures of everything that reads stored studies or opens pages. A plugin of the root conftest."""

from __future__ import annotations

import shutil
from pathlib import Path

import optuna
import pytest
from report_pages import make_trainings
from report_studies import make_study

optuna.logging.set_verbosity(optuna.logging.WARNING)


@pytest.fixture(scope="session")
def url(tmp_path_factory: pytest.TempPathFactory) -> str:
    return f"sqlite:///{tmp_path_factory.mktemp('report')}/studies.db"


@pytest.fixture(scope="session")
def study(url: str) -> optuna.Study:
    """A CIFAR study of 300 trials with every state but WAITING; the last trial is running."""
    return make_study(url, "cifar", 300)


@pytest.fixture(scope="session")
def latency_study(url: str) -> optuna.Study:
    """A study with predicted latencies and a name that is markup."""
    return make_study(url, "<b>latency</b> & co", 60, preset="latency01ms")


@pytest.fixture(scope="session")
def multi_study(url: str) -> optuna.Study:
    """A study of score, latency and params."""
    objectives = ("objectives=[score, latency_ms, params]", "sampler.screening=off")
    return make_study(url, "multi", 120, preset="latency01ms", overrides=objectives)


@pytest.fixture(scope="session")
def trained_study(tmp_path_factory: pytest.TempPathFactory) -> optuna.Study:
    """A study of 80 trials with a second stage, in a storage of its own."""
    study = make_study(f"sqlite:///{tmp_path_factory.mktemp('trained')}/studies.db", "small", 80)
    make_trainings(study)
    return study


@pytest.fixture(scope="session")
def chromium() -> Path:
    for name in ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable"):
        found = shutil.which(name)
        if found:
            return Path(found)
    pytest.skip("no Chromium on the PATH: pages are checked without a browser only")
