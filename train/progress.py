"""What people see of a run: a progress bar on a terminal, a table in a notebook, plain lines elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from html import escape
from typing import Any, Protocol

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeRemainingColumn


class Observer(Protocol):
    """Is told how a run goes, or any other work."""

    def start(self, epoch: int, epochs: int, steps: int, first_step: int) -> None:
        """An epoch begins, at its step `first_step`."""
        ...

    def step(self, done: int, loss: float, lr: float) -> None:
        """So many steps of the epoch are done."""
        ...

    def end(self, row: dict[str, Any]) -> None:
        """The epoch is over, and its row written."""
        ...

    def work(self, label: str, done: int, total: int | None) -> None:
        """So much is done of what is called `label`; it is over when `done` is `total`, None is not known."""
        ...

    def note(self, text: str) -> None:
        """Something is to be said."""
        ...

    def close(self) -> None:
        """Nothing more comes."""
        ...


class Silent:
    """Shows nothing; what the processes after the first use."""

    def start(self, epoch: int, epochs: int, steps: int, first_step: int) -> None:
        pass

    def step(self, done: int, loss: float, lr: float) -> None:
        pass

    def end(self, row: dict[str, Any]) -> None:
        pass

    def work(self, label: str, done: int, total: int | None) -> None:
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


def loss_text(loss: float) -> str:
    """Return a loss with four digits behind the point, or in short where it has gone astray."""
    return f"{loss:.4f}" if loss < 1e4 else f"{loss:.4g}"


# What is left out of an epoch's line first where it is too long for the terminal.
_DISPENSABLE = ("lr", "images/s", "top-5", "test loss")


def summary(row: dict[str, Any], epochs: int, width: int | None = None, judged_on: str = "test") -> str:
    """Return the line of an epoch; within `width` characters where one is given and the line can be cut."""
    parts = {
        "epoch": f"epoch {row['epoch']}/{epochs}",
        "train loss": f"train loss {loss_text(row['train_loss'])}",
    }
    if row["top1"] is not None:
        parts["test loss"] = f"{judged_on} loss {loss_text(row['test_loss'])}"
        parts["top-1"] = f"top-1 {row['top1']:.2f} %"
        parts["top-5"] = f"top-5 {row['top5']:.2f} %"
    parts["lr"] = f"lr {row['lr']:.4g}"
    parts["images/s"] = f"{row['images_per_second']:.0f} images/s"
    parts["seconds"] = f"{row['seconds']:.1f} s"
    for name in _DISPENSABLE:
        if width is None or len("  ".join(parts.values())) <= width:
            break
        parts.pop(name, None)
    return "  ".join(parts.values())


class Lines(Silent):
    """A line an epoch, and one every 30 s within long work, on stderr."""

    def __init__(self, judged_on: str = "test", interval_s: float = 30.0) -> None:
        self._judged_on, self._interval_s = judged_on, interval_s
        self._next = time.monotonic() + interval_s
        self._epoch = self._epochs = self._steps = 0

    def start(self, epoch: int, epochs: int, steps: int, first_step: int) -> None:
        self._epoch, self._epochs, self._steps = epoch, epochs, steps
        self._next = time.monotonic() + self._interval_s

    def step(self, done: int, loss: float, lr: float) -> None:
        place = f"epoch {self._epoch}/{self._epochs}  step {done}/{self._steps}"
        self._now_and_then(f"{place}  loss {loss_text(loss)}  lr {lr:.4g}")

    def end(self, row: dict[str, Any]) -> None:
        self.note(summary(row, self._epochs, judged_on=self._judged_on))

    def work(self, label: str, done: int, total: int | None) -> None:
        self._now_and_then(f"{label}  {done}/{total}" if total else label)

    def note(self, text: str) -> None:
        print(text, file=sys.stderr, flush=True)

    def _now_and_then(self, text: str) -> None:
        if time.monotonic() >= self._next:
            self._next = time.monotonic() + self._interval_s
            self.note(text)


class Bar:
    """A bar over the whole run, and one below it while other work is done; finished epochs stay as lines above."""

    def __init__(self, judged_on: str = "test") -> None:
        self._judged_on = judged_on
        self._progress = Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(bar_width=None),
            TextColumn("{task.fields[count]}", markup=False),
            TextColumn("{task.fields[facts]}", markup=False),
            TimeRemainingColumn(compact=True),
            console=Console(stderr=True),
            expand=True,
        )
        self._run: TaskID | None = None
        self._work: TaskID | None = None
        self._label = ""
        self._epochs = self._steps = self._before = 0
        self._progress.start()

    def start(self, epoch: int, epochs: int, steps: int, first_step: int) -> None:
        self._epochs, self._steps, self._before = epochs, steps, (epoch - 1) * steps
        description, count = f"epoch {epoch}/{epochs}", f"step {first_step}/{steps}"
        done = self._before + first_step
        if self._run is None:
            # `completed` at its making: what a resumed run did earlier must not count as done in this moment.
            self._run = self._progress.add_task(
                description, total=epochs * steps, completed=done, count=count, facts=""
            )
        else:
            self._progress.update(self._run, description=description, completed=done, count=count)

    def step(self, done: int, loss: float, lr: float) -> None:
        if self._run is not None:
            self._progress.update(
                self._run,
                completed=self._before + done,
                count=f"step {done}/{self._steps}",
                facts=f"loss {loss_text(loss)}  lr {lr:.4g}",
            )

    def end(self, row: dict[str, Any]) -> None:
        self.note(summary(row, self._epochs, self._progress.console.width, self._judged_on))

    def work(self, label: str, done: int, total: int | None) -> None:
        if label != self._label or self._work is None:
            self._forget_work()
            self._label = label
            self._work = self._progress.add_task(label, total=total, count="", facts="")
        self._progress.update(self._work, completed=done, count=f"{done}/{total}" if total else "")
        if total is not None and done >= total:
            self._forget_work()

    def note(self, text: str) -> None:
        self._progress.console.print(text, highlight=False, markup=False, soft_wrap=True)

    def close(self) -> None:
        self._forget_work()
        self._progress.stop()

    def _forget_work(self) -> None:
        if self._work is not None:
            self._progress.remove_task(self._work)
        self._work, self._label = None, ""


class Page:
    """A notebook's display: a bar, and a table with a row an epoch. It needs no widgets."""

    _INTERVAL_S = 0.5

    def __init__(self, judged_on: str = "test") -> None:
        from IPython.display import display

        self._judged_on = judged_on
        self._rows: list[dict[str, Any]] = []
        self._notes: list[str] = []
        self._epoch = self._epochs = self._steps = self._step = 0
        self._facts = ""
        self._work: tuple[str, int, int | None] | None = None
        self._drawn = 0.0
        self._display: Any = display(self._content(), raw=True, display_id=True)

    def start(self, epoch: int, epochs: int, steps: int, first_step: int) -> None:
        self._epoch, self._epochs, self._steps, self._step = epoch, epochs, steps, first_step
        self._draw()

    def step(self, done: int, loss: float, lr: float) -> None:
        self._step, self._facts = done, f"loss {loss_text(loss)}, lr {lr:.4g}"
        self._draw()

    def end(self, row: dict[str, Any]) -> None:
        self._rows.append(row)
        self._draw(now=True)

    def work(self, label: str, done: int, total: int | None) -> None:
        self._work = None if total is not None and done >= total else (label, done, total)
        self._draw()

    def note(self, text: str) -> None:
        self._notes.append(text)
        self._draw(now=True)

    def close(self) -> None:
        self._work, self._facts = None, ""
        self._draw(now=True)

    def _draw(self, *, now: bool = False) -> None:
        if now or time.monotonic() - self._drawn >= self._INTERVAL_S:
            self._drawn = time.monotonic()
            self._display.update(self._content(), raw=True)

    def _content(self) -> dict[str, str]:
        lines = [*self._notes, *(summary(row, self._epochs, judged_on=self._judged_on) for row in self._rows)]
        return {"text/plain": "\n".join(lines) or "starting", "text/html": self._html()}

    def _html(self) -> str:
        parts = [f"<div>{escape(text)}</div>" for text in self._notes]
        if self._epochs:
            done = (self._epoch - 1) * self._steps + self._step
            parts.append(
                f"<div><progress value='{done}' max='{self._epochs * self._steps}' style='width:16em'></progress> "
                f"epoch {self._epoch}/{self._epochs}, step {self._step}/{self._steps} {escape(self._facts)}</div>"
            )
        if self._work is not None:
            label, done, total = self._work
            value = f" value='{done}' max='{total}'" if total else ""
            count = f" {done}/{total}" if total else ""
            parts.append(f"<div><progress{value} style='width:16em'></progress> {escape(label)}{count}</div>")
        if self._rows:
            head = (
                "epoch",
                "train loss",
                f"{self._judged_on} loss",
                "top-1 %",
                "top-5 %",
                "images/s",
                "seconds",
            )
            keys = ("epoch", "train_loss", "test_loss", "top1", "top5", "images_per_second", "seconds")
            forms = ("d", ".4f", ".4f", ".2f", ".2f", ".0f", ".1f")
            body = "".join(
                "<tr>"
                + "".join(
                    f"<td>{'' if row[key] is None else format(row[key], form)}</td>"
                    for key, form in zip(keys, forms, strict=True)
                )
                + "</tr>"
                for row in self._rows
            )
            header = "".join(f"<th>{name}</th>" for name in head)
            parts.append(
                f"<div style='max-height:24em;overflow:auto'><table><thead><tr>{header}</tr></thead>"
                f"<tbody>{body}</tbody></table></div>"
            )
        return "".join(parts) or "starting"


def observer(*, shown: bool, judged_on: str = "test") -> Observer:
    """Return a table in a notebook, a bar on a terminal, lines elsewhere, or nothing.

    `judged_on` names the images that judge every epoch: those of a test set, or some that training held back.
    """
    if not shown:
        return Silent()
    if in_notebook():
        return Page(judged_on)
    return Bar(judged_on) if sys.stderr.isatty() else Lines(judged_on)


def in_notebook() -> bool:
    """Return whether this process is the kernel of a notebook."""
    ipython = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython is not None else None
    return getattr(shell, "kernel", None) is not None
