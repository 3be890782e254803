"""optuna-dashboard over a mirror of stored studies, with the best network's picture and the report's figures in it."""

from __future__ import annotations

import base64
import io
import shutil
import tempfile
import threading
import time
import zipfile
from collections.abc import Sequence
from pathlib import Path
from socketserver import ThreadingMixIn
from typing import Any
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

import optuna
import plotly.graph_objects as go
import sqlalchemy.exc

from zenopt.core.errors import ZenoptError
from zenopt.core.paths import file_name
from zenopt.core.text import one_line, quoted
from zenopt.dashboard.mirror import LARGEST, MirrorStorage
from zenopt.export.bundle import read_bundle
from zenopt.report.figures import score_label
from zenopt.report.picture import WIDTH, draw
from zenopt.report.reading import StudyData, read_study
from zenopt.report.sections import Network, describe_settings, make_front, make_section, network_at
from zenopt.study.study import open_existing, read_spec

HOST = "127.0.0.1"
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
)
#: Seconds between two looks for a better network, and between two drawings of the figures.
_WATCH_S, _REDRAW_S = 5.0, 60.0

_logger = optuna.logging.get_logger(__name__)


class DashboardError(ZenoptError):
    """The dashboard cannot be served."""


class Dashboard:
    """A running dashboard server on this machine.

    Args:
        url:
            Storage URL.
        port:
            Port on 127.0.0.1; 0 takes any free one.
        bundles:
            Bundle folders to offer for download with the study they came from.
        largest:
            Trials beyond which a study is shown by its elites.

    Raises:
        DashboardError: If optuna-dashboard is missing, the port is taken, or a bundle belongs to no stored study.
        StorageError: If the storage cannot be opened.

    Example:
        .. code-block:: python

            with Dashboard("sqlite:///zenopt.db") as dashboard:
                print(dashboard.address)
                dashboard.wait()
    """

    def __init__(
        self, url: str, port: int = 8080, *, bundles: Sequence[str | Path] = (), largest: int = LARGEST
    ) -> None:
        try:
            import optuna_dashboard
        except ImportError:
            raise DashboardError(
                "The dashboard needs optuna-dashboard: pip install 'zenopt[dashboard]'"
            ) from None
        self.mirror = MirrorStorage(open_existing(url), largest)
        self._folder = Path(tempfile.mkdtemp(prefix="zenopt-dashboard-"))
        self._artifacts = optuna.artifacts.FileSystemArtifactStore(str(self._folder))
        self._pages: dict[int, _StudyPage] = {}
        self._stop = threading.Event()
        self._updating = threading.Lock()
        try:
            self._attach(bundles)
            app = optuna_dashboard.wsgi(self.mirror, artifact_store=self._artifacts)
            self._server = make_server(HOST, port, app, server_class=_Server, handler_class=_Handler)
        except OSError as error:
            self._clean()
            raise DashboardError(
                f"Cannot serve on {HOST}:{port}: {error.strerror}; choose another --port."
            ) from None
        except ZenoptError:
            self._clean()
            raise
        self._threads = [
            threading.Thread(target=self._server.serve_forever, daemon=True),
            threading.Thread(target=self._follow, daemon=True),
        ]

    @property
    def address(self) -> str:
        """Where the browser finds it."""
        return f"http://{HOST}:{self._server.server_port}/"

    def __enter__(self) -> Dashboard:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._stop.set()
        self._server.shutdown()
        self._server.server_close()
        for thread in self._threads:
            thread.join()
        self._clean()

    def wait(self) -> None:
        """Waits until the process is interrupted."""
        while not self._stop.wait(3600.0):
            pass

    def update(self) -> None:
        """Brings notes, pictures and figures of all studies up to date."""
        with self._updating:
            mirrored_studies = self.mirror.mirrored()
            for gone in set(self._pages) - set(mirrored_studies):
                del self._pages[gone]
            for study_id, mirrored in mirrored_studies.items():
                if study_id not in self._pages:
                    self._pages[study_id] = _StudyPage(
                        optuna.load_study(study_name=mirrored.study.study_name, storage=self.mirror),
                        mirrored.study,
                        self._artifacts,
                    )
                try:
                    self._pages[study_id].update()
                except ZenoptError as error:
                    # What one study stores keeps no other one from being shown.
                    _logger.warning(f"Study {quoted(mirrored.study.study_name)}: {error}")

    def _follow(self) -> None:
        while not self._stop.is_set():
            try:
                self.update()
            except (ZenoptError, sqlalchemy.exc.SQLAlchemyError, optuna.exceptions.OptunaError) as error:
                # The database may be away for a while; what is shown stays, and the next look may succeed.
                _logger.warning(f"Cannot read the studies: {one_line(str(error))}")
            self._stop.wait(_WATCH_S)

    def _attach(self, bundles: Sequence[str | Path]) -> None:
        names = {study.study_name for study in self.mirror.get_all_studies()}
        for folder in bundles:
            bundle = read_bundle(folder)
            if bundle.study not in names:
                raise DashboardError(
                    f"Bundle {folder} comes from study {quoted(bundle.study)}, which is not in this storage."
                )
            packed = self._folder / file_name(f"bundle-trial-{bundle.trial}.zip", "A bundle's trial")
            _pack(Path(folder), packed)
            study = optuna.load_study(study_name=bundle.study, storage=self.mirror)
            optuna.artifacts.upload_artifact(
                artifact_store=self._artifacts,
                file_path=str(packed),
                study_or_trial=study,
                mimetype="application/zip",
            )

    def _clean(self) -> None:
        shutil.rmtree(self._folder, ignore_errors=True)


def _pack(folder: Path, target: Path) -> None:
    """Packs the files of a folder; a link in it could lead to any other file."""
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as packed:
        for path in sorted(folder.rglob("*")):
            if path.is_file() and not path.is_symlink():
                packed.write(path, path.relative_to(folder))


class _StudyPage:
    """Note, picture and figures of one study, made anew when there is something new."""

    def __init__(self, shown: optuna.Study, source: optuna.Study, artifacts: Any) -> None:
        self._shown, self._source, self._artifacts = shown, source, artifacts
        self._is_ours = read_spec(source, missing_ok=True) is not None
        self._best: int | None = None
        self._size = -1
        self._drawn_at = float("-inf")
        self._note = ""
        self._picture_id: str | None = None

    def update(self) -> None:
        """Looks for a better network, and now and then for new trials."""
        from optuna_dashboard import save_plotly_graph_object

        if not self._is_ours:
            return
        size = self._shown._storage.get_n_trials(self._shown._study_id)
        try:
            best: int | None = self._shown._storage.get_best_trial(self._shown._study_id).number
        except ValueError:
            best = None
        is_due = size != self._size and time.monotonic() - self._drawn_at > _REDRAW_S
        if best == self._best and not is_due and self._note:
            return
        data = read_study(self._source, time.time())
        # What Study.set_metric_names() writes, without its warning that it is experimental.
        self._shown._storage.set_study_system_attr(
            self._shown._study_id, "study:metric_names", _metric_names(data)
        )
        missing = data.spec.missing_module()
        networks = [network_at(data, position) for position in data.top(1)] if missing is None else []
        if networks:
            self._save_picture(networks[0])
            graph = _picture_figure(networks[0])
            save_plotly_graph_object(self._shown, graph, graph_object_id="best-network")
        self._save_note(missing or _note(data, networks, self._picture_id, self._shown._study_id))
        if is_due or self._size < 0:
            for figure in make_section(self._source, data, 0).figures:
                if figure.key in _FIGURES or figure.group == "Front":
                    save_plotly_graph_object(self._shown, figure.titled(), graph_object_id=figure.key)
            self._drawn_at, self._size = time.monotonic(), size
        self._best = best

    def _save_picture(self, network: Network) -> None:
        picture = draw(network.anatomy, network.title, standalone=True).encode()
        if self._picture_id is None:
            with tempfile.TemporaryDirectory() as folder:
                path = Path(folder) / "best-network.svg"
                path.write_bytes(picture)
                self._picture_id = optuna.artifacts.upload_artifact(
                    artifact_store=self._artifacts, file_path=str(path), study_or_trial=self._shown
                )
        else:
            self._artifacts.write(self._picture_id, io.BytesIO(picture))

    def _save_note(self, text: str) -> None:
        from optuna_dashboard import get_note, save_note

        # What a person has written over our note stays.
        if text != self._note and get_note(self._shown) == self._note:
            save_note(self._shown, text)
            self._note = text


def _metric_names(data: StudyData) -> list[str]:
    return [score_label(data.spec), *data.spec.objectives[1:]]


def _note(data: StudyData, networks: Sequence[Network], picture_id: str | None, study_id: int) -> str:
    """The study's note, in Markdown."""
    lines = [describe_settings(data), ""]
    if not networks:
        return "\n".join([*lines, "No candidate within the budget yet."])
    best = networks[0]
    front = make_front(data)
    if front is not None:
        lines += [
            f"## Pareto front of {front.words}",
            "",
            _row(front.header),
            "|---" * len(front.header) + "|",
        ]
        lines += [*map(_row, front.rows), ""]
        if len(front.rows) < front.size:
            lines += [f"{len(front.rows)} of {front.size} networks, evenly along the front.", ""]
    lines += [f"## {'Best network' if front is None else 'Best score'}: {best.title}", ""]
    lines += ["| what | value |", "|---|---|"]
    lines += [f"| {label} | {text} |" for label, text in best.facts]
    lines += ["", "```", best.structure, "```", ""]
    if picture_id is not None:
        # The query makes the browser load the picture anew when the best network changes.
        lines.append(f"![picture of the network](/artifacts/{study_id}/{picture_id}?trial={best.number})")
    return "\n".join(lines)


def _row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _picture_figure(network: Network) -> go.Figure:
    """The network's picture as a plotly figure."""
    picture = draw(network.anatomy, network.title, standalone=True)
    height = float(picture.split('viewBox="', 1)[1].split('"', 1)[0].split()[3])
    source = "data:image/svg+xml;base64," + base64.b64encode(picture.encode()).decode()
    figure = go.Figure()
    figure.add_layout_image(
        source=source, xref="paper", yref="paper", x=0, y=1, sizex=1, sizey=1, sizing="contain"
    )
    figure.update_xaxes(visible=False)
    figure.update_yaxes(visible=False)
    figure.update_layout(
        template="plotly_white", title={"text": f"Best network: {network.title}"}, height=height * 1.1,
        margin={"l": 8, "r": 8, "t": 48, "b": 8}, width=WIDTH * 1.3,
    )  # fmt: skip
    return figure


class _Server(ThreadingMixIn, WSGIServer):
    daemon_threads = True
    # A second dashboard on a port must fail, not share it silently.
    allow_reuse_port = False


class _Handler(WSGIRequestHandler):
    def log_message(self, format: str, *arguments: Any) -> None:
        """Keeps requests off the terminal."""
