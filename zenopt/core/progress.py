"""What long work tells of itself while it runs, and the listener that shows nothing.

Work takes a :class:`Progress` and knows nothing of terminals; the command line hands it its panel
(:class:`zenopt.progress.panel.Panel`), everybody else the silent one.
"""

from __future__ import annotations

from typing import Protocol


class Progress(Protocol):
    """Is told how long work goes.

    The calls come in the order ``start``, any number of ``advance`` and ``note``, then another ``start`` or ``finish``.
    A note may also come before the first start.
    """

    def start(self, total: float | None, unit: str, *, limit_s: float | None = None) -> None:
        """Begin a part of the work.

        Args:
            total:
                How much there is to do; ``None`` where nobody knows.
            unit:
                What is counted, in the singular: ``"trial"``.
            limit_s:
                Seconds after which the part ends whatever is done by then.
        """
        ...

    def advance(self, n: float = 1, *, under_way: float = 0.0, **facts: object) -> None:
        """Say that ``n`` more units are done, and what is known now, e.g. ``best=104.2``.

        Args:
            n:
                Units.
            under_way:
                How much of further units is done at this moment: 0.5 for one that is half over.
            facts:
                What is known.
        """
        ...

    def note(self, text: str) -> None:
        """Say something in a line that stays."""
        ...

    def finish(self, text: str = "") -> None:
        """Say that all is done; ``text`` stays."""
        ...


class Silent:
    """Shows nothing."""

    def start(self, total: float | None, unit: str, *, limit_s: float | None = None) -> None:
        pass

    def advance(self, n: float = 1, *, under_way: float = 0.0, **facts: object) -> None:
        pass

    def note(self, text: str) -> None:
        pass

    def finish(self, text: str = "") -> None:
        pass


SILENT = Silent()
