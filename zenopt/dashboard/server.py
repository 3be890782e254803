"""optuna-dashboard over a mirror of stored studies, served on this machine."""

from __future__ import annotations

import shutil
import tempfile
import threading
import zipfile
from collections.abc import Sequence
from pathlib import Path
from socketserver import ThreadingMixIn
from typing import Any
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

import optuna
import sqlalchemy.exc

from zenopt.core.errors import ZenoptError
from zenopt.core.paths import file_name
from zenopt.core.text import one_line, quoted
from zenopt.dashboard.mirror import LARGEST, MirrorStorage
from zenopt.dashboard.pages import StudyPage
from zenopt.export.bundle import read_bundle
from zenopt.study.study import open_existing

HOST = "127.0.0.1"
#: Seconds between two looks for a better network.
_WATCH_S = 5.0

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
        self._pages: dict[int, StudyPage] = {}
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
        """Wait until the process is interrupted."""
        while not self._stop.wait(3600.0):
            pass

    def update(self) -> None:
        """Bring notes, pictures and figures of all studies up to date."""
        with self._updating:
            mirrored_studies = self.mirror.mirrored()
            for gone in set(self._pages) - set(mirrored_studies):
                del self._pages[gone]
            for study_id, mirrored in mirrored_studies.items():
                if study_id not in self._pages:
                    self._pages[study_id] = StudyPage(
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
    """Pack the files of a folder; a link in it could lead to any other file."""
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as packed:
        for path in sorted(folder.rglob("*")):
            if path.is_file() and not path.is_symlink():
                packed.write(path, path.relative_to(folder))


class _Server(ThreadingMixIn, WSGIServer):
    daemon_threads = True
    # A second dashboard on a port must fail, not share it silently.
    allow_reuse_port = False


class _Handler(WSGIRequestHandler):
    def log_message(self, format: str, *arguments: Any) -> None:
        """Keep requests off the terminal."""
