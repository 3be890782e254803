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
from zenopt.report.figures import (
    Figure,
    against_costs,
    amount,
    closed_form,
    key_label,
    progress,
    score_source,
)
from zenopt.report.importances import importances
from zenopt.report.objective_figures import front_figures, hypervolume_figures, objective_words
from zenopt.report.objectives import spread
from zenopt.report.reading import StudyData
from zenopt.report.stage_figures import importance_figure, stage_figures

#: Members of a front that its table lists.
FRONT_ROWS = 24


@dataclass(frozen=True)
class Network:
    """One of the best networks.

    Attributes:
        number: Its trial.
        structure: Canonical text.
        score: Its score.
        title: The network in a line.
        facts: (label, text) pairs; every network of a study has the same labels.
        anatomy: The network block by block.
    """

    number: int
    structure: str
    score: float
    title: str
    facts: tuple[tuple[str, str], ...]
    anatomy: Anatomy


@dataclass(frozen=True)
class Front:
    """The Pareto front of a study with several objectives, as a table.

    Attributes:
        header: Names of the columns.
        rows: Members, best score first; of a long front a sample that holds both ends.
        size: How many members there are.
        words: The objectives with their directions.
    """

    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    size: int
    words: str


@dataclass(frozen=True, eq=False)
class Section:
    """Everything a report shows of one study; ``front`` only where there are several objectives."""

    data: StudyData
    figures: tuple[Figure, ...]
    networks: tuple[Network, ...]
    tiles: tuple[tuple[str, str, str], ...]
    settings: str
    front: Front | None = None


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
    search = progress(data)
    if data.is_multi:
        # The best score alone says little where other objectives count: the volume leads.
        search = [*hypervolume_figures(data), *(figure for figure in search if figure.key != "best-time")]
    figures = [*front_figures(data), *search, *against_costs(data), *closed_form(data)]
    missing = data.spec.missing_module()
    history = survivors(data) if missing is None else None
    if history is not None:
        figures += stage_figures(history)
    weights, trials = importances(study, data)
    if weights:
        figures.append(importance_figure(weights, trials))
    networks = best_networks(data, top) if missing is None else ()
    settings = describe_settings(data) + ("" if missing is None else f" · no pictures of networks: {missing}")
    return Section(data, tuple(figures), networks, _tiles(data), settings, make_front(data))


def best_networks(data: StudyData, count: int) -> tuple[Network, ...]:
    """Returns the best networks of distinct structure, best first; of several objectives, a sample of the front."""
    positions = spread(data.front, count) if data.is_multi else data.top(count)
    return tuple(network_at(data, int(position)) for position in positions)


def make_front(data: StudyData) -> Front | None:
    """Returns the front as a table; ``None`` where there is a single objective or no candidate."""
    if not data.is_multi or not data.scored.any():
        return None
    front, names = data.front, data.spec.objectives
    further = [key for key in ("params", "macs") if key not in names]
    rows = []
    for position in spread(front, FRONT_ROWS):
        cells = [str(data.numbers[position])]
        cells += [
            _objective(name, value) for name, value in zip(names, data.objectives[position], strict=True)
        ]
        cells += [_show(float(data.columns[key][position]), ",.0f") for key in further]
        rows.append(tuple(cells))
    arrows = [f"{name} {'↑' if is_up else '↓'}" for name, is_up in zip(names, data.directions, strict=True)]
    header = ("trial", *arrows, *("MACs" if key == "macs" else key for key in further))
    return Front(header, tuple(rows), len(front), objective_words(data))


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
        title=_title(data, position),
        facts=_facts(data, position),
        anatomy=anatomy,
    )


def _title(data: StudyData, position: int) -> str:
    title = f"trial {data.numbers[position]}, score {data.values[position]:.2f}"
    pairs = list(zip(data.spec.objectives, data.objectives[position], strict=True))[1:]
    return ", ".join((title, *(f"{name} {_objective(name, value)}" for name, value in pairs)))


def _objective(name: str, value: float) -> str:
    return f"{value:,.0f}" if name in ("params", "macs") else f"{value:.4f}"


def describe_settings(data: StudyData) -> str:
    """Returns the study's settings in a line."""
    spec = data.spec
    limits = ", ".join(f"{name} ≤ {amount(value)}" for name, value in spec.limits().budget.limits().items())
    limits = limits.replace("min_width ≤", "min_width ≥")
    parts = [
        f"space {spec.space.name}",
        f"{spec.resolution} px, {spec.num_classes} classes",
        f"score {score_source(spec)}"
        + (f" at batch {spec.proxy.batch_size}" if spec.objective.kind == "proxy" else ""),
        f"budget {limits or 'none'}" + (" (ZenNAS counts)" if spec.budget.counting == "zennas" else ""),
        f"sampler {spec.sampler.name}",
    ]
    if spec.latency is not None:
        parts.append(f"latency {spec.latency.label}")
    if data.is_multi:
        parts.append(f"objectives {objective_words(data)}")
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
        if data.is_multi:
            tiles.append(
                ("Pareto front", f"{len(data.front):,}", f"of {len(ranked):,} networks within the budget")
            )
        tiles.append(("best score", f"{data.values[best]:.5g}", f"trial {data.numbers[best]}"))
        for index, name in enumerate(data.spec.objectives[1:], start=1):
            least = ranked[np.argmin(data.objectives[ranked, index])]
            value = data.objectives[least, index]
            tiles.append(
                (f"least {key_label(name)}", _objective(name, value), f"trial {data.numbers[least]}")
            )
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
    mode = data.spec.latency.mode if data.spec.latency is not None else "predicted"
    kind = {"table": "from measured blocks"}.get(mode, mode)
    rows: Sequence[tuple[str, str, str]] = (
        ("closed_form", "closed form", ".4f"),
        ("params", "params", ",.0f"),
        ("macs", "MACs", ",.0f"),
        ("zennas_params", "params, ZenNAS count", ",.0f"),
        ("zennas_flops", "MACs, ZenNAS count", ",.0f"),
        ("layers", "layers", ".0f"),
        ("convs", "convolutions", ".0f"),
        ("latency_ms", f"latency, ms ({kind})", ".4f"),
    )
    facts += [
        (label, _show(number(key), form)) for key, label, form in rows if np.isfinite(data.columns[key]).any()
    ]
    return tuple(facts)


def _show(value: float, form: str) -> str:
    return format(value, form) if np.isfinite(value) else "-"
