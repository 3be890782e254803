"""A study made ready for people: its figures, its best networks taken apart, its facts in words."""

from __future__ import annotations

import datetime
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import optuna
from optuna.trial import TrialState

from zenopt.report.analysis import survivors
from zenopt.report.anatomy import Anatomy, dissect
from zenopt.report.figures import Figure, against_costs, amount, closed_form, progress
from zenopt.report.importances import importances
from zenopt.report.reading import StudyData
from zenopt.report.stage_figures import importance_figure, stage_figures


@dataclass(frozen=True)
class Network:
    """One of the best networks.

    Attributes:
        number: Its trial.
        structure: Canonical text.
        facts: (label, text) pairs; every network of a study has the same labels.
        anatomy: The network block by block.
    """

    number: int
    structure: str
    score: float
    facts: tuple[tuple[str, str], ...]
    anatomy: Anatomy

    @property
    def title(self) -> str:
        """The network in a line."""
        return f"trial {self.number}, score {self.score:.2f}"


@dataclass(frozen=True, eq=False)
class Section:
    """Everything a report shows of one study."""

    data: StudyData
    figures: tuple[Figure, ...]
    networks: tuple[Network, ...]
    tiles: tuple[tuple[str, str, str], ...]
    settings: str


def make_section(study: optuna.Study, data: StudyData, top: int) -> Section:
    """Computes figures and networks of a study.

    Args:
        study:
            The study, for the parameters behind the importances.
        data:
            What was read of it.
        top:
            How many of the best networks to show.
    """
    figures = [*progress(data), *against_costs(data), *closed_form(data)]
    history = survivors(data)
    if history is not None:
        figures += stage_figures(history)
    weights, trials = importances(study, data)
    if weights:
        figures.append(importance_figure(weights, trials))
    return Section(data, tuple(figures), best_networks(data, top), _tiles(data), describe_settings(data))


def best_networks(data: StudyData, count: int) -> tuple[Network, ...]:
    """Returns the best networks of distinct structure, best first."""
    return tuple(network_at(data, position) for position in data.top(count))


def network_at(data: StudyData, position: int) -> Network:
    """Returns the network of a trial that has a structure."""
    spec = data.spec
    anatomy = dissect(
        spec.build_space().parse(data.structures[position]),
        spec.resolution,
        spec.num_classes,
        use_se=spec.use_se,
        device=spec.limits().device,
    )
    return Network(
        number=int(data.numbers[position]),
        structure=str(data.structures[position]),
        score=float(data.values[position]),
        facts=_facts(data, position),
        anatomy=anatomy,
    )


def describe_settings(data: StudyData) -> str:
    """Returns the study's settings in a line."""
    spec = data.spec
    limits = ", ".join(f"{name} ≤ {amount(value)}" for name, value in spec.limits().budget.limits().items())
    limits = limits.replace("min_width ≤", "min_width ≥")
    parts = [
        f"space {spec.space.name}",
        f"{spec.resolution} px, {spec.num_classes} classes",
        f"score {spec.proxy.name}" + (f" at batch {spec.proxy.batch_size}" if spec.proxy.batch_size else ""),
        f"budget {limits or 'none'}" + (" (ZenNAS counts)" if spec.budget.counting == "zennas" else ""),
        f"sampler {spec.sampler.name}",
    ]
    if spec.latency is not None:
        parts.append(f"latency predicted for {spec.latency.device}")
    return " · ".join(parts)


def when(seconds: float) -> str:
    """Returns a Unix time as text."""
    return datetime.datetime.fromtimestamp(seconds, datetime.timezone.utc).strftime("%Y-%m-%d %H:%M UTC")


def duration(seconds: float) -> str:
    """Returns a number of seconds as text."""
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"


def _tiles(data: StudyData) -> tuple[tuple[str, str, str], ...]:
    """Returns (label, number, remark) triples."""
    counts = {state: int(data.in_state(state).sum()) for state in TrialState}
    other = [
        f"{counts[state]:,} {state.name.lower().replace('fail', 'failed')}"
        for state in (TrialState.PRUNED, TrialState.FAIL, TrialState.RUNNING, TrialState.WAITING)
        if counts[state]
    ]
    tiles = [("trials", f"{data.size:,}", ", ".join(other) or "all complete")]
    ranked = data.ranked()
    if len(ranked):
        best = ranked[0]
        tiles.append(("best score", f"{data.values[best]:.5g}", f"trial {data.numbers[best]}"))
    else:
        tiles.append(("best score", "none", "no candidate within the budget yet"))
    settled = int(data.scored.sum() + data.over_budget.sum())
    if settled:
        tiles.append(
            ("within budget", f"{data.scored.sum() / settled:.1%}", f"of {settled:,} settled trials")
        )
    distinct = len({text for text in data.structures if text is not None})
    tiles.append(("networks", f"{distinct:,}", "distinct structures"))
    if np.isfinite(data.ended).any():
        span = float(np.nanmax(data.ended) - np.nanmin(data.started))
        tiles.append(("time", duration(span), f"since {when(float(np.nanmin(data.started)))}"))
        measured = data.columns["score_seconds"]
        if np.isfinite(measured).any():
            tiles.append(("one score", f"{np.nanmedian(measured):.2g} s", "median time of a measurement"))
    return tuple(tiles)


def _facts(data: StudyData, position: int) -> tuple[tuple[str, str], ...]:
    def number(key: str) -> float:
        return float(data.columns[key][position])

    facts = [("trial", str(data.numbers[position])), ("score", f"{data.values[position]:.4f}")]
    if np.nanmax(data.columns["score_std"], initial=0.0) > 0:
        facts.append(("score, std of draws", _show(number("score_std"), ".3g")))
    rows: Sequence[tuple[str, str, str]] = (
        ("closed_form", "closed form", ".4f"),
        ("params", "params", ",.0f"),
        ("macs", "MACs", ",.0f"),
        ("zennas_params", "params, ZenNAS count", ",.0f"),
        ("zennas_flops", "MACs, ZenNAS count", ",.0f"),
        ("layers", "layers", ".0f"),
        ("convs", "convolutions", ".0f"),
        ("latency_ms", "latency, ms (predicted)", ".4f"),
    )
    facts += [
        (label, _show(number(key), form)) for key, label, form in rows if np.isfinite(data.columns[key]).any()
    ]
    return tuple(facts)


def _show(value: float, form: str) -> str:
    return format(value, form) if np.isfinite(value) else "-"
