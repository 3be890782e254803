"""What people see of a run: a progress bar on a terminal, plain lines elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from typing import Any, Protocol

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn


class Observer(Protocol):
    """Is told how a run goes."""

    def start(self, epoch: int, epochs: int, steps: int, first_step: int) -> None: ...

    def step(self, done: int, loss: float, lr: float) -> None: ...

    def end(self, row: dict[str, Any]) -> None: ...

    def note(self, text: str) -> None: ...

    def close(self) -> None: ...


class Silent:
    """Shows nothing; what the processes after the first use."""

    def start(self, epoch: int, epochs: int, steps: int, first_step: int) -> None:
        pass

    def step(self, done: int, loss: float, lr: float) -> None:
        pass

    def end(self, row: dict[str, Any]) -> None:
        pass

    def note(self, text: str) -> None:
        pass

    def close(self) -> None:
        pass


class EpochReporter(Silent):
    """Hands the accuracy of every epoch on, and shows nothing.

    Args:
        report:
            Told (epoch, top-1 in percent) after the epoch was kept; what it raises ends the run there.
    """

    def __init__(self, report: Callable[[int, float], None]) -> None:
        self._report = report

    def end(self, row: dict[str, Any]) -> None:
        if row["top1"] is not None:
            self._report(row["epoch"], row["top1"])


def summary(row: dict[str, Any], epochs: int) -> str:
    """Return the line of an epoch."""
    parts = [f"epoch {row['epoch']}/{epochs}", f"train loss {row['train_loss']:.4f}"]
    if row["top1"] is not None:
        parts.append(
            f"test loss {row['test_loss']:.4f}  top-1 {row['top1']:.2f} %  top-5 {row['top5']:.2f} %"
        )
    parts.append(f"lr {row['lr']:.4g}  {row['images_per_second']:.0f} images/s  {row['seconds']:.1f} s")
    return "  ".join(parts)


class Lines:
    """A line an epoch, and one every 30 s within a long one, on stderr."""

    def __init__(self, interval_s: float = 30.0) -> None:
        self._interval_s = interval_s
        self._next = 0.0
        self._epoch = self._epochs = self._steps = 0

    def start(self, epoch: int, epochs: int, steps: int, first_step: int) -> None:
        self._epoch, self._epochs, self._steps = epoch, epochs, steps
        self._next = time.monotonic() + self._interval_s

    def step(self, done: int, loss: float, lr: float) -> None:
        if time.monotonic() >= self._next:
            self._next = time.monotonic() + self._interval_s
            place = f"epoch {self._epoch}/{self._epochs}  step {done}/{self._steps}"
            self.note(f"{place}  loss {loss:.4f}  lr {lr:.4g}")

    def end(self, row: dict[str, Any]) -> None:
        self.note(summary(row, self._epochs))

    def note(self, text: str) -> None:
        print(text, file=sys.stderr, flush=True)

    def close(self) -> None:
        pass


class Bar:
    """A progress bar over the steps of an epoch; finished epochs stay as lines above it."""

    def __init__(self) -> None:
        self._progress = Progress(
            TextColumn("epoch {task.fields[place]}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("loss {task.fields[loss]:.4f}  lr {task.fields[lr]:.4g}"),
            TimeRemainingColumn(),
            console=Console(stderr=True),
        )
        self._task = self._progress.add_task("train", total=1, place="", loss=0.0, lr=0.0)
        self._epochs = 0
        self._progress.start()

    def start(self, epoch: int, epochs: int, steps: int, first_step: int) -> None:
        self._epochs = epochs
        self._progress.reset(self._task, total=steps, completed=first_step, place=f"{epoch}/{epochs}")

    def step(self, done: int, loss: float, lr: float) -> None:
        self._progress.update(self._task, completed=done, loss=loss, lr=lr)

    def end(self, row: dict[str, Any]) -> None:
        self.note(summary(row, self._epochs))

    def note(self, text: str) -> None:
        self._progress.console.print(text, highlight=False, markup=False)

    def close(self) -> None:
        self._progress.stop()


def observer(*, shown: bool) -> Observer:
    """Return a bar on a terminal, lines elsewhere, or nothing."""
    if not shown:
        return Silent()
    return Bar() if sys.stderr.isatty() else Lines()
