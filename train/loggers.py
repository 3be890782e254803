"""Where the numbers of a run go besides its own files: TensorBoard, Weights & Biases, MLflow, a CSV file.

A logger takes named numbers with a step. It knows nothing of training, so whatever has numbers and steps may use it.
Each imports its package when it is opened.
"""

from __future__ import annotations

import csv
import json
import os
import secrets
from collections.abc import Callable, Iterable, Mapping
from itertools import islice
from pathlib import Path
from textwrap import shorten
from typing import Any, Protocol

from zenopt.core.errors import ZenoptError


class LoggerError(ZenoptError):
    """A logger is not known, its package is missing, or its service cannot be had."""


class Logger(Protocol):
    """Takes numbers by name."""

    def log(self, step: int, values: Mapping[str, float]) -> None:
        """Take the numbers of a step; steps rise, but after a resume the first one may be there already."""
        ...

    def close(self, *, failed: bool = False) -> None:
        """Write out what is left; `failed` marks the run as broken off where the service knows such a mark."""
        ...


class CsvLogger:
    """A row a step in `log.csv`, a column for every name.

    Args:
        folder:
            Where.
        title, config:
            Not kept.
        first_step:
            Rows from this step on are dropped: they will be logged again.
    """

    def __init__(self, folder: Path, title: str, config: Mapping[str, Any], first_step: int) -> None:
        self._path = folder / "log.csv"
        self._columns = ["step"]
        self._rows: list[Mapping[str, Any]] = []
        if first_step > 0 and self._path.is_file():
            with self._path.open(newline="", encoding="utf-8") as file:
                reader = csv.DictReader(file)
                self._columns = list(reader.fieldnames or ["step"])
                self._rows = [
                    row for row in reader if (row["step"] or "").isdigit() and int(row["step"]) < first_step
                ]
        self._write("w", self._rows)

    def log(self, step: int, values: Mapping[str, float]) -> None:
        self._rows.append({"step": step, **values})
        new = [name for name in values if name not in self._columns]
        self._columns += new
        self._write("w" if new else "a", self._rows if new else self._rows[-1:])

    def _write(self, mode: str, rows: Iterable[Mapping[str, Any]]) -> None:
        with self._path.open(mode, newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, self._columns, lineterminator="\n")
            if mode == "w":
                writer.writeheader()
            writer.writerows(rows)

    def close(self, *, failed: bool = False) -> None:
        pass


class TensorBoardLogger:
    """TensorBoard's event files in `tensorboard/`; the arguments are those of :class:`CsvLogger`."""

    def __init__(self, folder: Path, title: str, config: Mapping[str, Any], first_step: int) -> None:
        from torch.utils.tensorboard import SummaryWriter

        # purge_step drops what a killed run wrote beyond its last checkpoint.
        self._writer: Any = SummaryWriter(str(folder / "tensorboard"), purge_step=first_step or None)
        if first_step == 0:
            self._writer.add_text("config", f"```json\n{json.dumps(config, indent=2, default=str)}\n```")

    def log(self, step: int, values: Mapping[str, float]) -> None:
        for name, value in values.items():
            self._writer.add_scalar(name, value, step)
        self._writer.flush()

    def close(self, *, failed: bool = False) -> None:
        self._writer.close()


class WandbLogger:
    """A run of Weights & Biases, in the project of `WANDB_PROJECT` (or `zenopt`); a resumed run goes on with it.

    The arguments are those of :class:`CsvLogger`. Without a network, `WANDB_MODE=offline` keeps all in the folder.
    """

    def __init__(self, folder: Path, title: str, config: Mapping[str, Any], first_step: int) -> None:
        import wandb

        identity = _identity(folder, "wandb", first_step) or secrets.token_hex(8)
        self._run: Any = wandb.init(
            project=os.environ.get("WANDB_PROJECT", "zenopt"),
            name=title,
            dir=str(folder),
            config=dict(config),
            id=identity,
            resume="allow",
        )
        _remember(folder, "wandb", identity)
        # Their own step only ever rises; ours may be logged again after a resume.
        self._run.define_metric("step")
        self._run.define_metric("*", step_metric="step")

    def log(self, step: int, values: Mapping[str, float]) -> None:
        self._run.log({**values, "step": step})

    def close(self, *, failed: bool = False) -> None:
        self._run.finish(exit_code=1 if failed else 0)


class MlflowLogger:
    """A run of MLflow, where `MLFLOW_TRACKING_URI` and `MLFLOW_EXPERIMENT_NAME` say; a resumed run goes on with it.

    The arguments are those of :class:`CsvLogger`.
    """

    def __init__(self, folder: Path, title: str, config: Mapping[str, Any], first_step: int) -> None:
        import mlflow

        self._mlflow: Any = mlflow
        identity = _identity(folder, "mlflow", first_step)
        run = mlflow.start_run(run_id=identity, run_name=None if identity else title)
        if identity is None:
            params = iter(flat(config).items())
            # A server takes at most a hundred at once, each of at most 500 characters.
            while part := dict(islice(params, 100)):
                mlflow.log_params({key: str(value)[:500] for key, value in part.items()})
        _remember(folder, "mlflow", run.info.run_id)

    def log(self, step: int, values: Mapping[str, float]) -> None:
        self._mlflow.log_metrics(dict(values), step=step)

    def close(self, *, failed: bool = False) -> None:
        self._mlflow.end_run(status="FAILED" if failed else "FINISHED")


LOGGERS: dict[str, Callable[[Path, str, Mapping[str, Any], int], Logger]] = {
    "csv": CsvLogger,
    "tensorboard": TensorBoardLogger,
    "wandb": WandbLogger,
    "mlflow": MlflowLogger,
}


class Loggers:
    """Several loggers as one.

    Args:
        names:
            Some of :data:`LOGGERS`.
        folder:
            Where those that write files do so.
        title:
            What the run is called.
        config:
            What is kept with it, as plain data.
        first_step:
            The first step that will be logged: 0 begins a run, more go on with the one in the folder.
        note:
            Told of a logger that fails on the way; the run goes on without it.

    Raises:
        LoggerError: A name is not known, its package is not installed, or it cannot be opened.
    """

    def __init__(
        self,
        names: Iterable[str],
        *,
        folder: Path,
        title: str,
        config: Mapping[str, Any],
        first_step: int = 0,
        note: Callable[[str], None] = lambda text: None,
    ) -> None:
        self._loggers: dict[str, Logger] = {}
        self._note = note
        for name in dict.fromkeys(names):
            if name not in LOGGERS:
                raise LoggerError(f"Logger {name!r} is not known; allowed: {', '.join(LOGGERS)}.")
            try:
                self._loggers[name] = LOGGERS[name](folder, title, config, first_step)
            # Services have errors of their own (no key, no server, no disk); each means the same to the user.
            except Exception as error:
                self.close(failed=True)
                if isinstance(error, ImportError):
                    raise LoggerError(
                        f"Logger {name!r} needs the package {name}, which is not installed: pip install {name}."
                    ) from None
                raise LoggerError(f"Logger {name!r} cannot be opened: {_line(error)}") from None

    def log(self, step: int, values: Mapping[str, float | None]) -> None:
        """Give the numbers of a step to all; what is None is left out."""
        known = {name: value for name, value in values.items() if value is not None}
        for name, logger in list(self._loggers.items()):
            # A service that is away must not end a training of days.
            try:
                logger.log(step, known)
            except Exception as error:
                del self._loggers[name]
                self._note(
                    f"Logger {name!r} failed at step {step} and is left out from here on: {_line(error)}"
                )

    def close(self, *, failed: bool = False) -> None:
        """Close all of them."""
        for name, logger in self._loggers.items():
            try:
                logger.close(failed=failed)
            except Exception as error:
                self._note(f"Logger {name!r} could not be closed: {_line(error)}")
        self._loggers = {}

    def __enter__(self) -> Loggers:
        return self

    def __exit__(self, kind: object, error: object, trace: object) -> None:
        self.close(failed=error is not None)


def flat(content: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Return a nested mapping with dotted keys."""
    found: dict[str, Any] = {}
    for key, value in content.items():
        found.update(
            flat(value, f"{prefix}{key}.") if isinstance(value, Mapping) else {f"{prefix}{key}": value}
        )
    return found


def _identity(folder: Path, service: str, first_step: int) -> str | None:
    """Return under which name a service knows the run, where it goes on with one."""
    path = folder / f"{service}-run.txt"
    return path.read_text(encoding="utf-8").strip() if first_step > 0 and path.is_file() else None


def _remember(folder: Path, service: str, identity: str) -> None:
    (folder / f"{service}-run.txt").write_text(f"{identity}\n", encoding="utf-8")


def _line(error: Exception) -> str:
    return shorten(f"{type(error).__name__}: {error}", 200, placeholder=" ...")
