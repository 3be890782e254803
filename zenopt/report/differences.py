"""Several studies at a glance: their numbers in one table, and the settings in which they differ."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from zenopt.report.figure import duration_of
from zenopt.report.networks import show
from zenopt.report.sections import Section
from zenopt.report.words import duration

#: Settings that say nothing of how a study was made.
_IGNORED = ("name", "description")


def summary_table(sections: Sequence[Section]) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
    """Return header and rows: what each study found, and at what price."""
    header = [
        "study",
        "trials",
        "best score",
        "trial",
        "params",
        "MACs",
        "latency, ms",
        "within budget",
        "time",
    ]
    rows = []
    for section in sections:
        data = section.data
        row = [section.name, f"{data.size:,}"]
        ranked = data.ranked()
        if len(ranked):
            best = ranked[0]
            row += [f"{data.values[best]:.5g}", str(data.numbers[best])]
            row += [
                show(float(data.columns[key][best]), form)
                for key, form in (("params", ",.0f"), ("macs", ",.0f"), ("latency_ms", ".4f"))
            ]
        else:
            row += ["none", "-", "-", "-", "-"]
        settled = int(data.scored.sum() + data.over_budget.sum())
        row += [f"{data.scored.sum() / settled:.1%}" if settled else "-", duration(duration_of(data))]
        accuracies = [item.best.mean for item in section.trainings if item.best is not None]
        row.append(show(max(accuracies, default=float("nan")), ".2f"))
        rows.append(tuple(row))
    header.append("best accuracy, %")
    kept = [index for index in range(len(header)) if index == 0 or any(row[index] != "-" for row in rows)]
    return tuple(header[index] for index in kept), [tuple(row[index] for index in kept) for row in rows]


def differing_settings(sections: Sequence[Section]) -> tuple[tuple[str, ...], list[tuple[str, ...]]] | None:
    """Return header and rows of the spec's fields that are not the same in all; ``None`` where all are."""
    flat = [_flat(section.data.spec.model_dump(mode="json")) for section in sections]
    keys = dict.fromkeys(key for own in flat for key in own)
    rows = []
    for key in keys:
        values = [own.get(key) for own in flat]
        if key not in _IGNORED and len({json.dumps(value, sort_keys=True) for value in values}) > 1:
            rows.append((key, *("-" if value is None else _words(value) for value in values)))
    return (("field", *(section.name for section in sections)), rows) if rows else None


def _flat(content: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in content.items():
        if isinstance(value, dict):
            found.update(_flat(value, f"{prefix}{key}."))
        else:
            found[f"{prefix}{key}"] = value
    return found


def _words(value: Any) -> str:
    text = value if isinstance(value, str) else json.dumps(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
