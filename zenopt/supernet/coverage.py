"""Which costs the paths of a training have: their coverage of a band, as numbers and as a figure."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import ceil
from pathlib import Path
from typing import Any

import numpy as np

from zenopt.core.costs import COST_KINDS
from zenopt.core.figurepage import lay_out, write_figure
from zenopt.core.words import plural
from zenopt.supernet.band import Band
from zenopt.supernet.training import SupernetPlan

#: Equal parts of a band that are counted, and bars of a histogram.
PARTS, _BARS = 10, 40
_COLOURS = ("#4c8bd0", "#d98324", "#3aa675", "#9a6fd0")
#: Costs that are shown where a band names no others.
_SHOWN = ("params", "macs")


@dataclass(frozen=True)
class Coverage:
    """The paths of some steps.

    Attributes:
        sampling: How they were drawn.
        costs: Cost -> its values, one for each path.
        seconds: How long a step's paths took to draw, on average.
    """

    sampling: str
    costs: dict[str, list[float]]
    seconds: float

    def rarest(self, band: Band) -> dict[str, float]:
        """Return for each cost of a band the share of the paths in that tenth of it which has the fewest."""
        found = {}
        for name, ends in band.items():
            counts, _ = np.histogram(self.costs[name], bins=PARTS, range=ends)
            found[name] = float(counts.min()) / max(1, len(self.costs[name]))
        return found


def cover(plan: SupernetPlan, steps: int) -> Coverage:
    """Return the costs of the paths that the first steps of a training would take.

    Args:
        plan:
            Which supernet, and how its paths are drawn; a schedule's phases share the steps.
        steps:
            How many of them.

    Raises:
        SpecError, BudgetError: If none of many drawn architectures is within the limits.
    """
    timetable = plan.schedule.timetable(plan.sampler, steps) if plan.schedule is not None else None
    names = tuple(dict.fromkeys((*plan.band, *_SHOWN)))
    started = time.perf_counter()
    paths = [
        path
        for step in range(steps)
        for path in (timetable.at(step) if timetable is not None else plan.sampler).paths(step)
    ]
    seconds = (time.perf_counter() - started) / steps
    rows = [plan.limits.used(plan.limits.check(path), names) for path in paths]
    return Coverage(plan.sampling, {name: [row[name] for row in rows] for name in names}, seconds)


def write_coverage(found: Sequence[Coverage], band: Band, title: str, output: str | Path) -> None:
    """Write histograms of the costs, one panel for each, as a page (``.html``) or as plotly's JSON (``.json``).

    Raises:
        OutputError: If the ending is another, or the file cannot be written.
    """
    paths = {own.sampling: len(own.costs["macs"]) for own in found}
    words = ", ".join(f"{name}: {plural(count, 'path')}" for name, count in paths.items())
    note = " Dotted lines: the ends of the band." if band else ""
    write_figure(_figure(found, band), title, f"{words}.{note}", output)


def _figure(found: Sequence[Coverage], band: Band) -> Any:
    from plotly.subplots import make_subplots

    names = list(found[0].costs)
    figure = make_subplots(len(names), 1, vertical_spacing=0.28 / len(names))
    for row, name in enumerate(names, start=1):
        edges = _edges([own.costs[name] for own in found], band.get(name))
        for own, colour in zip(found, _COLOURS, strict=False):
            counts, _ = np.histogram(own.costs[name], bins=edges)
            shares = counts / len(own.costs[name])
            # Drawn as outlines: bars of one sampling would hide those of another.
            figure.add_scatter(
                x=edges, y=[*shares.tolist(), 0.0], mode="lines", fill="tozeroy", line={"shape": "hv", "color": colour},
                name=own.sampling, legendgroup=own.sampling, showlegend=row == 1, row=row, col=1,
                hovertemplate="from %{x:.4s}: %{y:.1%}<extra>" + own.sampling + "</extra>",
            )  # fmt: skip
        for end in band.get(name, ()):
            figure.add_vline(x=end, line={"color": "#98a2b3", "dash": "dot"}, row=row, col=1)
        figure.update_xaxes(title=_title(name), row=row, col=1)
        figure.update_yaxes(title="share of paths", tickformat=".0%", rangemode="tozero", row=row, col=1)
    return lay_out(figure, 110 + 300 * len(names))


def _edges(values: Sequence[Sequence[float]], ends: tuple[float, float] | None) -> list[float]:
    """Return the edges of bars over all values and the whole band; a band's ends are edges."""
    low, high = min(map(min, values)), max(map(max, values))
    start, end = ends or (low, high if high > low else low + 1)
    width = (end - start) / _BARS
    before, after = (max(0, ceil(beyond / width)) for beyond in (start - low, high - end))
    return [start + width * bar for bar in range(-before, _BARS + after + 1)]


def _title(name: str) -> str:
    return COST_KINDS[name].title if name in COST_KINDS else "latency, ms per image"


def summary(own: Coverage, band: Band) -> dict[str, Mapping[str, float]]:
    """Return the least and the largest value of each cost, and the share of the rarest tenth of its band."""
    rarest = own.rarest(band)
    return {
        name: {
            "least": min(values),
            "largest": max(values),
            **({"rarest_tenth": rarest[name]} if name in rarest else {}),
        }
        for name, values in own.costs.items()
    }
