"""What zenopt adds to a study in the dashboard: a note, pictures of networks, the report's figures."""

from __future__ import annotations

import base64
import io
import tempfile
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import optuna
import plotly.graph_objects as go

from zenopt.report.choices import Chosen
from zenopt.report.figure import Figure, score_label
from zenopt.report.networks import Front, Network, best_networks, best_texts
from zenopt.report.picture import draw
from zenopt.report.reading import read_study
from zenopt.report.sections import Section, make_linked_section, make_section, numbers_by_structure
from zenopt.report.training_figures import training_table
from zenopt.report.trainings import Trainings, parent_of
from zenopt.study.study import load_study, note_of, read_spec

#: Figures of the report that the dashboard does not have by itself.
_FIGURES = (
    "hypervolume-trials",
    "score-params",
    "score-macs",
    "score-latency-ms",
    "closed-form",
    "feasible",
    "stage-width",
    "stage-kernel",
    "trained-score",
    "trained-curves",
    "verify-score",
    "verify-curves",
)
#: Seconds between two drawings of the figures.
_REDRAW_S = 60.0


class StudyPage:
    """Note, pictures and figures of one study, made anew when there is something new.

    Args:
        shown:
            The study as the dashboard has it.
        source:
            The stored study.
        artifacts:
            Where pictures are kept.
    """

    def __init__(self, shown: optuna.Study, source: optuna.Study, artifacts: Any) -> None:
        self._shown, self._source, self._artifacts = shown, source, artifacts
        self._parent = parent_of(source)
        spec = read_spec(source, missing_ok=True)
        self._is_ours = self._parent is not None or spec is not None
        self._best: int | None = None
        self._size = -1
        self._drawn_at = float("-inf")
        # The note that every study is made with gives way to a longer one; what a person wrote does not.
        self._note = "" if spec is None else note_of(spec)
        self._is_noted = False
        self._pictures: dict[str, str] = {}

    def update(self) -> None:
        """Look for a better network, and now and then for new trials."""
        if not self._is_ours:
            return
        storage, study_id = self._shown._storage, self._shown._study_id
        size = storage.get_n_trials(study_id)
        try:
            best: int | None = storage.get_best_trial(study_id).number
        except ValueError:
            best = None
        is_due = size != self._size and time.monotonic() - self._drawn_at > _REDRAW_S
        if best == self._best and not is_due and self._is_noted:
            return
        section = self._read()
        names = (
            ["accuracy, %"]
            if self._parent
            else [score_label(section.data.spec), *section.data.spec.objectives[1:]]
        )
        # What Study.set_metric_names() writes, without its warning that it is experimental.
        storage.set_study_system_attr(study_id, "study:metric_names", names)
        for chosen in section.chosen:
            self._save_picture(chosen)
        self._save_note(_note(section, self._pictures, study_id))
        if is_due or self._size < 0:
            for figure in section.figures:
                if figure.key in _FIGURES or figure.group == "Front":
                    self._save_graph(_fitted(figure), figure.key)
            self._drawn_at, self._size = time.monotonic(), size
        self._best = best

    def _read(self) -> Section:
        if self._parent is None:
            section = make_section(self._source, read_study(self._source, time.time()), 0)
            # Of several objectives none is the best network; one of the front is shown as an example.
            example = [
                Chosen("best", "Best score", "The network of the front with the best score.", network)
                for network in best_networks(section.data, 1)
                if not section.chosen
            ]
            return replace(section, chosen=(*section.chosen, *example))
        searched = load_study(self._source._storage, self._parent)
        return make_linked_section(
            self._source, searched, read_study(searched, time.time()), self._source.study_name
        )

    def _save_graph(self, figure: go.Figure, key: str) -> None:
        from optuna_dashboard import save_plotly_graph_object

        save_plotly_graph_object(self._shown, figure, graph_object_id=key)

    def _save_picture(self, chosen: Chosen) -> None:
        network = chosen.network
        picture = draw(network.anatomy, network.title, standalone=True)
        self._save_graph(
            _picture_figure(picture, f"{chosen.title}: {network.title}"), f"{chosen.key}-network"
        )
        if chosen.key in self._pictures:
            self._artifacts.write(self._pictures[chosen.key], io.BytesIO(picture.encode()))
            return
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / f"{chosen.key}-network.svg"
            path.write_text(picture, encoding="utf-8")
            self._pictures[chosen.key] = optuna.artifacts.upload_artifact(
                artifact_store=self._artifacts, file_path=str(path), study_or_trial=self._shown
            )

    def _save_note(self, text: str) -> None:
        from optuna_dashboard import get_note, save_note

        # What a person has written over our note stays.
        if text != self._note and get_note(self._shown) in (self._note, ""):
            save_note(self._shown, text)
            self._note = text
        self._is_noted = True


def _note(section: Section, pictures: dict[str, str], study_id: int) -> str:
    """Return the study's note, in Markdown."""
    description = section.data.spec.description
    lines = [description, ""] if description and section.shows_search else []
    lines += [section.settings, ""]
    limits = list(section.data.spec.limits().budget.limits())
    if limits and section.shows_search:
        # The dashboard lists constraints as numbers without names.
        lines += [
            f"Constraints, in the order of a trial's list (kept where not above 0): {', '.join(limits)}.",
            "",
        ]
    if section.front is not None:
        lines += _front(section.front)
    for chosen in section.chosen:
        lines += _network(chosen.network, f"{chosen.title}: {chosen.network.title}", chosen.reason)
        if chosen.key in pictures:
            # The query makes the browser load the picture anew when the best network changes.
            address = f"/artifacts/{study_id}/{pictures[chosen.key]}?trial={chosen.network.number}"
            lines += [f"![picture of the network]({address})", ""]
    texts = best_texts(section.data, 1) if section.shows_search and section.front is None else ()
    for title, text in texts:
        lines += [f"## Best score: {title}", "", "```", text, "```", ""]
    if not section.chosen and not texts and section.front is None and section.shows_search:
        lines += ["No candidate within the budget yet.", ""]
    for found in section.trainings:
        lines += _trainings(section, found)
    return "\n".join(lines).strip()


def _front(front: Front) -> list[str]:
    lines = [f"## Pareto front of {front.words}", "", *_table(front.header, front.rows), ""]
    if len(front.rows) < front.size:
        lines += [f"{len(front.rows)} of {front.size} networks, evenly along the front.", ""]
    return lines


def _network(network: Network, title: str, reason: str) -> list[str]:
    rows = [*_table(("what", "value"), network.facts)]
    return [f"## {title}", "", reason, "", *rows, "", "```", network.structure, "```", ""]


def _trainings(section: Section, found: Trainings) -> list[str]:
    header, rows = training_table(found, numbers_by_structure(section.data))
    title = f"## {found.kind.capitalize()}: {found.summary()}"
    return [
        title,
        "",
        f"Study {found.name}, trained on {found.data or 'unknown data'}.",
        "",
        *_table(header, rows),
        "",
    ]


def _table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    return [_row(header), "|---" * len(header) + "|", *map(_row, rows)]


def _row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _fitted(figure: Figure) -> go.Figure:
    """Return a figure without a size of its own: the dashboard's cards have one, and cut off what is larger."""
    return figure.titled().update_layout(height=None, width=None, autosize=True)


def _picture_figure(picture: str, title: str) -> go.Figure:
    """Return a network's picture as a plotly figure that fits whatever room the dashboard gives it."""
    source = "data:image/svg+xml;base64," + base64.b64encode(picture.encode()).decode()
    figure = go.Figure()
    figure.add_layout_image(
        source=source, xref="paper", yref="paper", x=0.5, y=0.5, xanchor="center", yanchor="middle", sizex=1, sizey=1,
        sizing="contain",
    )  # fmt: skip
    figure.update_xaxes(visible=False)
    figure.update_yaxes(visible=False)
    figure.update_layout(
        template="plotly_white",
        title={"text": f"{title}<br><sup>in full size in the note</sup>"},
        margin={"l": 8, "r": 8, "t": 64, "b": 8},
        autosize=True,
    )
    return figure
