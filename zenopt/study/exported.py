"""What was exported from a study, written on the study, so that reports can say why it is not the best score."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import optuna

from zenopt.export.bundle import Bundle

#: Study user attribute of the last export.
EXPORTED_KEY = "zenopt:exported"


@dataclass(frozen=True)
class Exported:
    """The last export of a study.

    Attributes:
        structure: Structure string of the exported network.
        trial: Number of its trial; ``None`` where trainings chose it.
        at: When, Unix time in seconds.
        repeats: Fresh draws of each candidate; 0 where trainings chose.
        candidates: Candidates scored again, best fresh mean first: ``trial``, ``search``, ``mean``, ``std``.
    """

    structure: str
    trial: int | None
    at: float
    repeats: int
    candidates: tuple[Mapping[str, Any], ...]

    @property
    def is_trained(self) -> bool:
        """Whether trainings chose it."""
        return self.trial is None


def record_export(study: optuna.Study, bundle: Bundle) -> None:
    """Write on the study which network was exported and what it was compared with.

    Args:
        study:
            The study that was searched.
        bundle:
            What was written.
    """
    draws = (bundle.scores or {}).get("values", ())
    candidates = [] if bundle.trial is None else [
        {key: item[key] for key in ("trial", "search", "mean", "std")} for item in bundle.candidates
    ]  # fmt: skip
    content = {
        "structure": bundle.structure,
        "trial": bundle.trial,
        "at": time.time(),
        "repeats": len(draws),
        "candidates": candidates,
    }
    study.set_user_attr(EXPORTED_KEY, content)


def read_export(study: optuna.Study) -> Exported | None:
    """Return the last export of a study; ``None`` where there was none."""
    found = study.user_attrs.get(EXPORTED_KEY)
    if found is None:
        return None
    return Exported(**{**found, "candidates": tuple(found["candidates"])})
