"""The best networks of a study, taken apart, and its Pareto front as a table."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from zenopt.core.costs import COST_KINDS
from zenopt.report.anatomy import Anatomy, dissect
from zenopt.report.objective_figures import objective_words
from zenopt.report.objectives import spread
from zenopt.report.reading import StudyData

#: Costs that are listed whether or not anything is asked of them.
_FACTS = ("params", "macs", "layers", "convs")
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


def best_networks(data: StudyData, count: int) -> tuple[Network, ...]:
    """Return the best networks of distinct structure, best first; of several objectives, a sample of the front.

    Nothing where networks cannot be taken apart: the module of the study's space is not imported, or it has none.
    """
    if data.spec.why_no_networks() is not None:
        return ()
    return tuple(network_at(data, position) for position in _best_positions(data, count))


def best_texts(data: StudyData, count: int) -> tuple[tuple[str, str], ...]:
    """Return (title, text) of what :func:`best_networks` would show where networks cannot be taken apart."""
    if data.spec.why_no_networks() is None:
        return ()
    found = [(_title(data, position), data.structures[position]) for position in _best_positions(data, count)]
    return tuple((title, text) for title, text in found if text is not None)


def _best_positions(data: StudyData, count: int) -> list[int]:
    positions = spread(data.front, count) if data.is_multi else data.top(count)
    return [int(position) for position in positions]


def make_front(data: StudyData) -> Front | None:
    """Return the front as a table; ``None`` where there is a single objective or no candidate."""
    if not data.is_multi or not data.scored.any():
        return None
    front, names = data.front, data.spec.objectives
    further = [key for key in ("params", "macs") if key not in names]
    rows = []
    for position in spread(front, FRONT_ROWS):
        cells = [str(data.numbers[position])]
        cells += [
            objective_text(name, value) for name, value in zip(names, data.objectives[position], strict=True)
        ]
        cells += [show(float(data.columns[key][position]), ",.0f") for key in further]
        rows.append(tuple(cells))
    arrows = [f"{name} {'↑' if is_up else '↓'}" for name, is_up in zip(names, data.directions, strict=True)]
    header = ("trial", *arrows, *("MACs" if key == "macs" else key for key in further))
    return Front(header, tuple(rows), len(front), objective_words(data))


def network_at(data: StudyData, position: int) -> Network:
    """Return the network of a trial that has a structure."""
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


def objective_text(name: str, value: float) -> str:
    """Return the value of an objective as text."""
    return f"{value:,.0f}" if name in COST_KINDS and name != "depth_to_width" else f"{value:.4f}"


def show(value: float, form: str) -> str:
    """Return a number as text, or a dash where it is not known."""
    return format(value, form) if np.isfinite(value) else "-"


def _title(data: StudyData, position: int) -> str:
    title = f"trial {data.numbers[position]}, score {show(data.values[position], '.2f')}"
    pairs = list(zip(data.spec.objectives, data.objectives[position], strict=True))[1:]
    return ", ".join((title, *(f"{name} {objective_text(name, value)}" for name, value in pairs)))


def _facts(data: StudyData, position: int) -> tuple[tuple[str, str], ...]:
    def number(key: str) -> float:
        return float(data.columns[key][position])

    facts = [("trial", str(data.numbers[position])), ("score", show(data.values[position], ".4f"))]
    if np.nanmax(data.columns["score_std"], initial=0.0) > 0:
        facts.append(("score, std of draws", show(number("score_std"), ".3g")))
    mode = data.spec.latency.mode if data.spec.latency is not None else "predicted"
    kind = {"table": "from measured blocks"}.get(mode, mode)
    named = {*data.spec.limits().budget.limits(), *data.spec.objectives}
    further = [key for key in COST_KINDS if key in named and key not in _FACTS]
    rows: Sequence[tuple[str, str, str]] = (
        ("closed_form", "closed form", ".4f"),
        ("params", "params", ",.0f"),
        ("macs", "MACs", ",.0f"),
        ("zennas_params", "params, ZenNAS count", ",.0f"),
        ("zennas_flops", "MACs, ZenNAS count", ",.0f"),
        ("layers", "layers", ".0f"),
        ("convs", "convolutions", ".0f"),
        *((key, COST_KINDS[key].title, ",.4g" if key == "depth_to_width" else ",.0f") for key in further),
        ("latency_ms", f"latency, ms ({kind})", ".4f"),
    )
    facts += [
        (label, show(number(key), form)) for key, label, form in rows if np.isfinite(data.columns[key]).any()
    ]
    return tuple(facts)
