"""A study made ready for people: its figures, its best networks taken apart, its facts in words."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import optuna

from zenopt.report.analysis import survivors
from zenopt.report.choices import Chosen, chosen_networks
from zenopt.report.commands import study_commands, trial_commands
from zenopt.report.figure import Figure
from zenopt.report.figures import against_costs, closed_form, progress
from zenopt.report.importances import importances, read_parameters
from zenopt.report.networks import Front, Network, best_networks, best_texts, make_front
from zenopt.report.objective_figures import front_figures, hypervolume_figures
from zenopt.report.parallel import parallel_figure
from zenopt.report.reading import StudyData
from zenopt.report.search_figures import search_figures
from zenopt.report.stage_figures import importance_figure, stage_figures
from zenopt.report.timeline import timeline
from zenopt.report.training_figures import training_figures
from zenopt.report.trainings import Trainings, read_trainings
from zenopt.report.words import describe_settings, search_tiles, training_tiles
from zenopt.samplers.surrogate import RECORD_KEY
from zenopt.study.trained import read_runs

TRAINED_GROUPS = {"second stage": "Trained", "verification": "Verified", "trainings": "Trained"}


@dataclass(frozen=True, eq=False)
class Section:
    """Everything a report shows of one study.

    Attributes:
        data: The study that was searched.
        name: Name of the study: of a linked study its own, though ``data`` is that of the search.
        figures: All figures, in order.
        networks: The best networks.
        texts: (title, text) of the best architectures where there are no networks to show.
        chosen: Networks that are shown large, with the reason.
        tiles: (label, number, remark) triples.
        settings: The settings in a line.
        trainings: Linked studies of short trainings.
        commands: (what it does, command) to go on from the study.
        trial_commands: The same for one of its trials.
        front: Only where there are several objectives.
        shows_search: Whether the search itself is shown; not in the report of a linked study.
        learned: What a sampler that learns says of its predictor; empty for others.
        runs: Networks of the study that were trained by themselves, best first.
    """

    data: StudyData
    name: str
    figures: tuple[Figure, ...]
    networks: tuple[Network, ...]
    chosen: tuple[Chosen, ...]
    tiles: tuple[tuple[str, str, str], ...]
    settings: str
    trainings: tuple[Trainings, ...]
    commands: Sequence[tuple[str, str]]
    trial_commands: Sequence[tuple[str, str]]
    front: Front | None = None
    shows_search: bool = True
    learned: Mapping[str, Any] = field(default_factory=dict)
    runs: Sequence[Mapping[str, Any]] = ()
    texts: tuple[tuple[str, str], ...] = ()


def make_section(study: optuna.Study, data: StudyData, top: int) -> Section:
    """Compute figures and networks of a study.

    Args:
        study:
            The study, for parameters, trainings and exports.
        data:
            What was read of it.
        top:
            How many of the best networks to show.
    """
    trainings = tuple(_read(study, data))
    search = progress(data)
    if data.is_multi:
        # The best score alone says little where other objectives count: the volume leads.
        search = [*hypervolume_figures(data), *(figure for figure in search if figure.key != "best-time")]
    figures = [*_trained(trainings, data), *search_figures(study, data), *front_figures(data), *search]
    figures += timeline(data)
    figures += [*against_costs(data), *closed_form(data)]
    missing = data.spec.why_no_networks()
    history = survivors(data) if missing is None else None
    if history is not None:
        figures += stage_figures(history)
    sample = read_parameters(study, data)
    weights = importances(data, sample)
    if weights:
        figures.append(importance_figure(weights, len(sample.trials)))
        figures += parallel_figure(data, sample, weights)
    return Section(
        data=data,
        name=data.name,
        figures=tuple(figures),
        networks=best_networks(data, top),
        texts=best_texts(data, top),
        chosen=chosen_networks(study, data, trainings),
        tiles=search_tiles(data, trainings),
        settings=describe_settings(data)
        + ("" if missing is None else f" · no pictures of networks: {missing}"),
        trainings=trainings,
        commands=study_commands(study, data),
        trial_commands=trial_commands(study, data),
        front=make_front(data),
        learned=study.user_attrs.get(RECORD_KEY) or {},
        runs=read_runs(study),
    )


def make_linked_section(study: optuna.Study, parent: optuna.Study, data: StudyData, name: str) -> Section:
    """Compute what a report shows of a linked study: its trainings and what they chose.

    Args:
        study:
            The linked study.
        parent:
            The study whose networks it trains.
        data:
            What was read of the parent.
        name:
            What to call the linked study.
    """
    trainings = tuple(_read(study, data))
    chosen = [item for item in chosen_networks(parent, data, trainings) if item.is_trained]
    return Section(
        data=data,
        name=name,
        figures=tuple(_trained(trainings, data)),
        networks=(),
        chosen=tuple(chosen),
        tiles=training_tiles(trainings[0]),
        settings=f"{trainings[0].kind} of study {trainings[0].parent} · {describe_settings(data)}",
        trainings=trainings,
        commands=study_commands(parent, data),
        trial_commands=trial_commands(parent, data),
        shows_search=False,
    )


def _read(study: optuna.Study, data: StudyData) -> list[Trainings]:
    """Return the trainings of a study's networks with what its search said of them."""
    scores: dict[str, float] = {}
    for position in data.ranked():
        if data.structures[position] is not None:
            scores.setdefault(str(data.structures[position]), float(data.values[position]))
    # On the scale of Zen-scores the formula speaks for what was not measured.
    return read_trainings(study, scores, by_formula=data.is_zen)


def numbers_by_structure(data: StudyData) -> dict[str, int]:
    """Return the first trial of each structure."""
    found: dict[str, int] = {}
    for position, text in enumerate(data.structures):
        if text is not None:
            found.setdefault(text, int(data.numbers[position]))
    return found


def _trained(trainings: Sequence[Trainings], data: StudyData) -> list[Figure]:
    if not trainings:
        return []
    numbers = numbers_by_structure(data)
    return [
        figure
        for found in trainings
        for figure in training_figures(found, numbers, TRAINED_GROUPS[found.kind])
    ]
