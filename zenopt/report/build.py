"""From studies to a report file, or to a file of a single figure."""

from __future__ import annotations

import shlex
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import optuna

from zenopt.core.errors import StudyError, ZenoptError
from zenopt.export.bundle import write_atomically
from zenopt.report.compare_figures import comparison
from zenopt.report.figure import Figure
from zenopt.report.networks import network_at
from zenopt.report.page import render
from zenopt.report.picture import draw
from zenopt.report.reading import StudyData, read_study
from zenopt.report.sections import Section, make_linked_section, make_section
from zenopt.report.training_figures import comparison_of
from zenopt.report.trainings import parent_of
from zenopt.study.study import load_study

#: Networks drawn side by side.
TOP = 6
_NETWORK = "network"


class ReportError(ZenoptError):
    """A report or figure cannot be made or written."""


def write_report(
    studies: Sequence[optuna.Study],
    path: str | Path,
    *,
    top: int = TOP,
    labels: Sequence[str] | None = None,
    imports: Sequence[str] = (),
) -> list[Section]:
    """Write the report of one or several studies as one HTML file.

    Args:
        studies:
            Studies made by zenopt, running or finished; several, of one storage or of many, are compared. A linked
            study of trainings is shown by these.
        path:
            The file, ``.html``; an older one is replaced.
        top:
            How many of the best networks to show of each study.
        labels:
            What to call the studies; by default by their names.
        imports:
            Modules or ``.py`` files of one's own that the commands in the report import.

    Returns:
        What the report shows, one entry per study.

    Raises:
        StudyError: If a study was not made by zenopt.
        ReportError: If the file has another ending, or cannot be written.

    Example:
        .. code-block:: python

            study = load_study(open_storage("sqlite:///zenopt.db"), "demo")
            write_report([study], "report.html")
    """
    path = Path(path)
    if path.suffix.lower() not in (".html", ".htm"):
        raise ReportError(
            f"A report is one HTML file: name it .html, got {path.name!r}. A single figure is written as .svg, .png, "
            ".pdf or .json with --figure KEY."
        )
    sections = [
        _section(study, label, top) for study, label in zip(studies, _labels(studies, labels), strict=True)
    ]
    sections = [_importing(section, imports) for section in sections]
    _write(path, render(sections, _comparison(sections) if len(sections) > 1 else []))
    return sections


def _section(study: optuna.Study, label: str, top: int) -> Section:
    parent = parent_of(study)
    if parent is None:
        return make_section(study, _read(study, label), top)
    searched = load_study(study._storage, parent)
    return make_linked_section(study, searched, _read(searched, parent), label)


def _importing(section: Section, modules: Sequence[str]) -> Section:
    """Return a section whose commands know what the present one knows."""
    options = "".join(f" --import {shlex.quote(module)}" for module in modules)
    return replace(
        section,
        commands=[(words, command + options) for words, command in section.commands],
        trial_commands=[(words, command + options) for words, command in section.trial_commands],
    )


def _comparison(sections: Sequence[Section]) -> list[Figure]:
    searched = [section.data for section in sections if section.shows_search]
    figures = comparison(searched) if len(searched) > 1 else []
    trained = [(section.name, section.trainings[0]) for section in sections if section.trainings]
    if len(trained) > 1:
        caption = "The best training of each study's best network; accuracies compare only on the same data and epochs."
        figures.insert(
            0,
            Figure(
                "compare-accuracy",
                "Learning curve of the best",
                caption,
                comparison_of(trained),
                "Comparison",
            ),
        )
    return figures


def write_figure(
    studies: Sequence[optuna.Study], key: str, path: str | Path, *, labels: Sequence[str] | None = None
) -> None:
    """Write one figure of the report to a file of its own.

    Args:
        studies, labels:
            As for :func:`write_report`.
        key:
            ``"network"`` (the best), ``"network-trial-N"``, or the key of a figure of the report, e.g. ``"best-time"``.
        path:
            ``.svg`` for any; ``.png``, ``.pdf``, ``.svg`` for plotly figures, which need the package ``kaleido``;
            ``.json`` for plotly figures without it.

    Raises:
        ReportError: If there is no such figure, or the format is not possible.
    """
    path = Path(path)
    names = _labels(studies, labels)
    if key == _NETWORK or key.startswith(f"{_NETWORK}-trial-"):
        parent = parent_of(studies[0])
        searched = studies[0] if parent is None else load_study(studies[0]._storage, parent)
        _write_network(_read(searched, names[0]), key, path)
        return
    sections = [_section(study, label, 0) for study, label in zip(studies, names, strict=True)]
    figures = {figure.key: figure for figure in sections[0].figures}
    if len(sections) > 1:
        figures.update({figure.key: figure for figure in _comparison(sections)})
    if key not in figures:
        raise ReportError(
            f"No figure {key!r}; figures are {', '.join((_NETWORK, 'network-trial-N', *figures))}."
        )
    figure = figures[key].figure
    if path.suffix == ".json":
        _write(path, figure.to_json())
        return
    if path.suffix not in (".svg", ".png", ".pdf"):
        raise ReportError(f"A figure is written as .svg, .png, .pdf or .json, got {path.name!r}.")
    _write_image(figures[key].titled(), path)


def _write_network(data: StudyData, key: str, path: Path) -> None:
    reason = data.spec.why_no_networks()
    if reason is not None:
        raise ReportError(f"Study {data.name!r} has no pictures of networks: {reason}")
    if path.suffix != ".svg":
        raise ReportError(f"The picture of a network is written as .svg, got {path.name!r}.")
    wanted = key.removeprefix(f"{_NETWORK}-trial-")
    if key == _NETWORK:
        positions = data.top(1)
        if not positions:
            raise StudyError(f"Study {data.name!r} has no candidate within the budget to draw.")
    else:
        positions = [
            int(p) for p in np.flatnonzero(data.numbers == (int(wanted) if wanted.isdigit() else -1))
        ]
        if not positions or data.structures[positions[0]] is None:
            raise ReportError(f"Study {data.name!r} has no trial {wanted} with a structure.")
    network = network_at(data, positions[0])
    _write(path, draw(network.anatomy, f"{data.name}, {network.title}", standalone=True))


def _write_image(figure: object, path: Path) -> None:
    try:
        import kaleido  # noqa: F401
    except ImportError:
        raise ReportError(
            f"Writing {path.name} needs the package kaleido (pip install 'zenopt[figures]'); in the report itself the "
            "camera button of a figure saves it as SVG."
        ) from None
    try:
        figure.write_image(path, width=900, height=560)  # type: ignore[attr-defined]
    except (OSError, RuntimeError, ValueError) as error:
        raise ReportError(f"kaleido could not write {path}: {' '.join(str(error).split())[:300]}") from error


def _labels(studies: Sequence[optuna.Study], labels: Sequence[str] | None) -> Sequence[str]:
    return [study.study_name for study in studies] if labels is None else labels


def _read(study: optuna.Study, label: str) -> StudyData:
    return replace(read_study(study, time.time()), name=label)


def _write(path: Path, text: str) -> None:
    try:
        write_atomically(path, text)
    except OSError as error:
        raise ReportError(f"Cannot write {path}: {error.strerror or error}.") from None
