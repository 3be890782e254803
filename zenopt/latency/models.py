"""Latency models: how a profile turns operations into milliseconds.

A model sees the operations of one super-block (or of the head) at a time, so that a mutated candidate costs only its
new blocks. A kind of model is registered under the name that profiles give in ``model.kind``.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from zenopt.core.errors import DeviceError, UnknownNameError, ZenoptError
from zenopt.core.registry import Registry
from zenopt.core.text import one_line, quoted, quoted_list
from zenopt.latency.operations import Operation
from zenopt.latency.parts import Part
from zenopt.latency.terms import CONSTANT, get_term

#: Of a model's numbers: no sum of products of them is infinite.
LARGEST = 1e12


class LatencyModel(ABC):
    """What a profile needs of a model. All times are milliseconds per image."""

    #: Time of a network with nothing in it.
    constant_ms: float = 0.0

    @abstractmethod
    def operation_times(self, operations: Sequence[Operation]) -> list[float]:
        """Return one time per operation; those fused into another have 0."""

    def part_ms(self, part: Part) -> float:
        """Return the time of a super-block or a head."""
        return sum(self.operation_times(part.operations()))


#: Reads a profile's ``model`` of one kind: ``loader(model, batch, bytes_per_number)``.
Loader = Callable[[Mapping[str, Any], int, float], LatencyModel]

MODELS: Registry[Loader] = Registry(
    "latency model kind",
    "zenopt.latency_models",
    {
        "additive": "zenopt.latency.models",
        "kernels": "zenopt.latency.kernelmodel",
        "table": "zenopt.latency.table",
    },
)
#: Decorates what reads a profile's ``model`` of a kind; a name that is taken is a ``ValueError``.
register_model = MODELS.register


def make_model(model: Mapping[str, Any], batch: int, bytes_per_number: float) -> LatencyModel:
    """Make the model that a profile describes.

    Raises:
        UnknownNameError: If its kind is unknown.
        DeviceError: If its content does not make sense.
    """
    kind = model.get("kind")
    if not isinstance(kind, str):
        raise UnknownNameError(
            f"Unknown latency model kind {quoted(kind)}; known: {quoted_list(MODELS.names())}."
        )
    loader = MODELS.get(kind, stored=True)
    try:
        return loader(model, batch, bytes_per_number)
    except (KeyError, TypeError, ValueError, OverflowError, AttributeError) as error:
        if isinstance(error, ZenoptError):
            raise
        raise DeviceError(f"model of kind {kind!r} cannot be read: {one_line(repr(error), 120)}") from error


class AdditiveModel(LatencyModel):
    """A weighted sum of terms.

    Args:
        coefficients:
            Milliseconds per unit of each term of :mod:`zenopt.latency.terms`.
        batch:
            Images per forward.
        bytes_per_number:
            Bytes of one number of a feature map.
    """

    def __init__(self, coefficients: Mapping[str, float], batch: int, bytes_per_number: float) -> None:
        self.coefficients = dict(coefficients)
        self.batch = batch
        self.bytes_per_number = bytes_per_number
        self.constant_ms = float(self.coefficients.get(CONSTANT, 0.0)) / batch
        self._terms = [(get_term(name), value) for name, value in coefficients.items() if name != CONSTANT]

    def operation_times(self, operations: Sequence[Operation]) -> list[float]:
        size, batch = self.bytes_per_number, self.batch
        return [sum(value * term(op, size, batch) for term, value in self._terms) for op in operations]


def read_coefficients(model: Mapping[str, Any]) -> dict[str, float]:
    """Return the checked ``coefficients`` of a stored model.

    Raises:
        DeviceError: If there are none or one is negative.
    """
    coefficients = {str(name): float(value) for name, value in dict(model["coefficients"]).items()}
    if not coefficients or not all(0 <= value <= LARGEST for value in coefficients.values()):
        raise DeviceError(
            f"model.coefficients must be non-negative numbers of at most {LARGEST:g} by term name"
        )
    return coefficients


@register_model("additive")
def _load_additive(model: Mapping[str, Any], batch: int, bytes_per_number: float) -> LatencyModel:
    return AdditiveModel(read_coefficients(model), batch, bytes_per_number)
