"""What the page's script works with: every trial of a study as columns, and how it is packed into the page."""

from __future__ import annotations

import base64
import gzip
import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from optuna.trial import TrialState

from zenopt.core.costs import COST_KINDS
from zenopt.report.figure import first_start, score_label
from zenopt.report.figures import budget_costs
from zenopt.report.reading import StudyData
from zenopt.report.timeline import worker_name

#: Columns of the table of trials after score and objectives: attribute, heading.
_COLUMNS = (
    ("score_std", "score, std of draws"),
    ("closed_form", "closed form"),
    *((key, kind.title) for key, kind in COST_KINDS.items()),
    ("zennas_params", "params, ZenNAS count"),
    ("zennas_flops", "MACs, ZenNAS count"),
    ("latency_ms", "latency, ms"),
    ("duplicate_of", "same as trial"),
)
_DIGITS = 7
_STATES = ("candidate", "over budget", "pruned", "failed", "running", "waiting")


def pack(content: Any) -> str:
    """Return content as compressed JSON in text that may stand in a page."""
    return pack_text(json.dumps(content, separators=(",", ":"), allow_nan=False))


def pack_text(text: str) -> str:
    """Return text compressed, in letters that may stand in a page."""
    # A fixed time of day keeps equal reports equal.
    return base64.b64encode(gzip.compress(text.encode("utf-8"), compresslevel=6, mtime=0)).decode("ascii")


def study_payload(
    data: StudyData,
    commands: Sequence[tuple[str, str]],
    pictures: Mapping[int, str],
    notes: Mapping[int, str],
) -> dict[str, Any]:
    """Return a study's trials for the page's script.

    Args:
        data:
            The study.
        commands:
            (what it does, command) for a trial, with ``{number}`` and ``{structure}``.
        pictures:
            Pictures of networks by trial number.
        notes:
            What is special about a trial, by number.

    Returns:
        Plain data: ``columns`` (key, heading, values), states, workers and structures by trial.
    """
    columns = [
        ("trial", "trial", data.numbers.tolist()),
        ("score", score_label(data.spec), _numbers(data.values)),
    ]
    for index, name in enumerate(data.spec.objectives[1:], start=1):
        if name not in dict(_COLUMNS):
            columns.append((name, name.replace("_", " "), _numbers(data.objectives[:, index])))
    for key, heading in _COLUMNS:
        if np.isfinite(data.columns[key]).any() and (key != "score_std" or np.nanmax(data.columns[key]) > 0):
            columns.append((key, heading, _numbers(data.columns[key])))
    columns.append(("started", "started, s", _numbers(np.round(data.started - first_start(data), 2))))
    columns.append(("seconds", "seconds", _numbers(np.round(data.ended - data.started, 2))))
    workers = [worker_name(text) if text is not None else "" for text in data.workers]
    worker_names = list(dict.fromkeys(workers))
    place = {name: index for index, name in enumerate(worker_names)}
    limits = data.spec.limits().budget.limits()
    costs = budget_costs(data.spec)
    return {
        "name": data.name,
        "maximize": bool(data.maximize),
        "columns": columns,
        "states": list(_STATES),
        "state": _states(data).tolist(),
        "workers": worker_names,
        "worker": [place[name] for name in workers],
        "structures": _structures(data.structures),
        "limits": {costs[name].column: limit for name, limit in limits.items()},
        "commands": list(commands),
        "pictures": {str(number): picture for number, picture in pictures.items()},
        "notes": {str(number): note for number, note in notes.items()},
    }


def _states(data: StudyData) -> np.ndarray:
    """Return the index in :data:`_STATES` of each trial."""
    found = np.full(data.size, _STATES.index("waiting"))
    found[data.in_state(TrialState.COMPLETE)] = _STATES.index("candidate")
    found[data.in_state(TrialState.PRUNED)] = _STATES.index("pruned")
    found[data.over_budget] = _STATES.index("over budget")
    found[data.in_state(TrialState.FAIL)] = _STATES.index("failed")
    found[data.in_state(TrialState.RUNNING)] = _STATES.index("running")
    return found


def _numbers(values: np.ndarray) -> list[float | int | None]:
    """Return numbers for JSON, with the digits that a person may want."""
    values = np.asarray(values, dtype=float)
    known = np.isfinite(values)
    sizes = np.abs(np.where(known & (values != 0.0), values, 1.0))
    # Powers of ten below 1 are not exact: round where they are.
    factor = 10.0 ** np.clip(_DIGITS - 1 - np.floor(np.log10(sizes)), 0, 12)
    rounded = np.where(known, np.round(values * factor) / factor, np.nan)
    return [
        None if not is_known else int(value) if value == int(value) else value
        for is_known, value in zip(known.tolist(), rounded.tolist(), strict=True)
    ]


def _structures(texts: Sequence[str | None]) -> dict[str, Any]:
    """Return structures as lists of blocks that are written once: mutations leave most blocks as they were."""
    place: dict[str, int] = {}
    items: list[list[int] | None] = []
    for text in texts:
        if text is None:
            items.append(None)
            continue
        blocks = text.replace(")", ")\n").splitlines()
        items.append([place.setdefault(block, len(place)) for block in blocks])
    return {"blocks": list(place), "items": items}
