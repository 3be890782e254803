"""What an evaluation says of one architecture: the one result type of proxies, tables and trainings."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Score:
    """The value of an architecture, or why there is none.

    Attributes:
        value: The value, always finite (a mean where there are repeats); ``None`` if there is none.
        seconds: Wall time of all repeats. A pass that several proxies share counts for the first of them.
        error: Why there is no value; ``None`` if there is one.
        source: The proxy, table column or recipe it came from.
        std: Population standard deviation over repeats; 0 for one.
        values: The value of every repeat.
        batch_size, resolution, seed, device: What it was measured with, where that matters.
        curve: Step (a training's epoch) -> intermediate value.
        layers: What each layer adds, a tensor by the layer's name; ``None`` unless asked for, and for values that are
            no sums over layers.
    """

    value: float | None
    seconds: float = 0.0
    error: str | None = None
    source: str = ""
    std: float = 0.0
    values: tuple[float, ...] = ()
    batch_size: int = 0
    resolution: int = 0
    seed: int = 0
    device: str = "cpu"
    curve: Mapping[int, float] = field(default_factory=dict, hash=False)
    layers: Mapping[str, Any] | None = field(default=None, repr=False, compare=False)

    def to_json(self) -> dict[str, Any]:
        """Return the score and what it was measured with as plain data."""
        keys = ("std", "values", "seconds", "batch_size", "resolution", "seed", "device")
        own = {key: getattr(self, key) for key in keys}
        return {"proxy": self.source, "mean": self.value, **own, "values": list(self.values)}

    @property
    def mean(self) -> float:
        """The value of a score that has one.

        Raises:
            ValueError: If it has none.
        """
        if self.value is None:
            raise ValueError(f"{self.source or 'The evaluation'} gave no value: {self.error}.")
        return self.value
