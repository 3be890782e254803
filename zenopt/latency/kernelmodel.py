"""Latency of networks from a library of convolution kernels (:mod:`zenopt.latency.kernels`)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from zenopt.core.errors import DeviceError
from zenopt.latency.kernels import Kernel, KernelLibrary, load_library
from zenopt.latency.models import LARGEST, LatencyModel, register_model
from zenopt.latency.operations import Operation
from zenopt.latency.terms import CONSTANT, get_term


def operation_kernel(op: Operation, batch: int, fused_add: bool = False) -> Kernel:
    """Return the kernel of a convolution or linear layer."""
    depthwise = op.is_depthwise and op.out_channels == op.in_channels
    groups = 1 if depthwise else op.groups
    return Kernel(
        batch, op.in_channels, op.in_size, op.out_channels, op.kernel, op.stride, depthwise, fused_add, groups
    )


class KernelModel(LatencyModel):
    """Convolutions from a kernel library, everything else from terms.

    Args:
        library:
            The kernels.
        dense, depthwise:
            Factors on the library's times.
        fused:
            Whether normalisations, activations and additions disappear into the convolution before them, as an
            inference engine does; if not, the terms count them, as an eager runtime runs them.
        coefficients:
            Milliseconds per unit of terms of :mod:`zenopt.latency.terms`, for what is no convolution (and launches).
        batch:
            Images per forward.
        bytes_per_number:
            Bytes of one number of a feature map.
    """

    def __init__(
        self,
        library: KernelLibrary,
        dense: float,
        depthwise: float,
        fused: bool,
        coefficients: Mapping[str, float],
        batch: int,
        bytes_per_number: float,
    ) -> None:
        self.library = library
        self.dense = dense
        self.depthwise = depthwise
        self.fused = fused
        self.coefficients = dict(coefficients)
        self.batch = batch
        self.bytes_per_number = bytes_per_number
        self.constant_ms = float(self.coefficients.get(CONSTANT, 0.0)) / batch
        self._terms = [(get_term(name), value) for name, value in coefficients.items() if name != CONSTANT]

    def kernels(self, operations: Sequence[Operation]) -> list[Kernel | None]:
        """Return the kernel of each operation, ``None`` for those that are no convolution."""
        adds = self._fused_adds(operations) if self.fused else frozenset()
        return [
            operation_kernel(op, self.batch, index in adds) if op.kind in ("conv", "linear") else None
            for index, op in enumerate(operations)
        ]

    def operation_times(self, operations: Sequence[Operation]) -> list[float]:
        times = []
        previous: str | None = None
        for op, kernel in zip(operations, self.kernels(operations), strict=True):
            if kernel is not None:
                factor = self.depthwise if kernel.depthwise else self.dense
                times.append(factor * self.library.time_ms(kernel) / self.batch + self._other(op))
            elif self.fused and _fuses(op.kind, previous):
                times.append(0.0)
                continue  # What follows a fused operation still follows the convolution.
            else:
                times.append(self._other(op))
            previous = op.kind
        return times

    def _other(self, op: Operation) -> float:
        return sum(value * term(op, self.bytes_per_number, self.batch) for term, value in self._terms)

    @staticmethod
    def _fused_adds(operations: Sequence[Operation]) -> frozenset[int]:
        """Indices of the convolutions that an addition is fused into: the last one of the main path before it."""
        fused = set()
        last: int | None = None
        for index, op in enumerate(operations):
            if op.kind == "conv" and op.role != "projection":
                last = index
            elif op.kind == "add" and last is not None:
                fused.add(last)
                last = None
        return frozenset(fused)


def _fuses(kind: str, previous: str | None) -> bool:
    return previous in ("conv", "linear") and kind in ("norm", "activation", "add")


@register_model("kernels")
def _load_kernels(model: Mapping[str, Any], batch: int, bytes_per_number: float) -> LatencyModel:
    coefficients = {str(name): float(value) for name, value in dict(model["coefficients"]).items()}
    factors = float(model["dense"]), float(model["depthwise"])
    if not all(0 <= value <= LARGEST for value in (*factors, *coefficients.values())):
        raise DeviceError(
            f"model.dense, model.depthwise and model.coefficients must be non-negative, at most {LARGEST:g}"
        )
    library = load_library(str(model["library"]))
    return KernelModel(library, *factors, bool(model["fused"]), coefficients, batch, bytes_per_number)
