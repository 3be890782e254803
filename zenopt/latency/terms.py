"""Terms of additive latency models: what one operation contributes per image, by name.

A term is physical (arithmetic, bytes, kernel launches), so its coefficient is a rate that must not be negative, and a
model can be read: ``dense_gmacs: 0.026`` means 0.026 ms per 10^9 multiply-adds.
"""

from __future__ import annotations

from collections.abc import Callable

from zenopt.core.registry import Registry
from zenopt.latency.operations import Operation

#: ``term(operation, bytes_per_number, batch)``, for one image.
Term = Callable[[Operation, float, int], float]

_ELEMENTWISE = frozenset(("norm", "activation", "add", "multiply", "pool", "other"))

#: The term that is 1 for every network: what a forward costs whatever is in it.
CONSTANT = "network"


TERMS: Registry[Term] = Registry("latency term", "zenopt.latency_terms", {CONSTANT: "zenopt.latency.terms"})
#: Decorates a term that profiles can use by name; a name that is taken is a ``ValueError``.
register_term = TERMS.register


def get_term(name: str) -> Term:
    """Return the term registered under ``name``.

    Raises:
        UnknownNameError: If there is none; the message lists the known ones.
    """
    return TERMS.get(name, stored=True)


def _is_matrix(op: Operation) -> bool:
    return op.kind in ("conv", "linear", "matmul")


@register_term("dense_gmacs")
def _dense(op: Operation, bytes_per_number: float, batch: int) -> float:
    return 0.0 if op.is_depthwise else op.macs / 1e9


@register_term("gmacs")
def _gmacs(op: Operation, bytes_per_number: float, batch: int) -> float:
    return op.macs / 1e9


@register_term("pointwise_gmacs")
def _pointwise(op: Operation, bytes_per_number: float, batch: int) -> float:
    return op.macs / 1e9 if not op.is_depthwise and op.kernel == 1 else 0.0


@register_term("spatial_gmacs")
def _spatial(op: Operation, bytes_per_number: float, batch: int) -> float:
    return op.macs / 1e9 if not op.is_depthwise and op.kernel > 1 else 0.0


@register_term("thin_gmacs")
def _thin(op: Operation, bytes_per_number: float, batch: int) -> float:
    """Multiply-adds weighted by how narrow the channels are: vector units and tiles stay part empty."""
    if op.is_depthwise or not _is_matrix(op):
        return 0.0
    per_group = 8 * op.groups
    return op.macs / 1e9 * (per_group / op.in_channels + per_group / op.out_channels)


@register_term("depthwise_gmacs")
def _depthwise(op: Operation, bytes_per_number: float, batch: int) -> float:
    return op.macs / 1e9 if op.is_depthwise else 0.0


@register_term("depthwise_gelements")
def _depthwise_elements(op: Operation, bytes_per_number: float, batch: int) -> float:
    return op.written / 1e9 if op.is_depthwise else 0.0


@register_term("traffic_gb")
def _traffic(op: Operation, bytes_per_number: float, batch: int) -> float:
    """Feature maps read and written by every operation, as an eager runtime moves them."""
    return (op.read + op.written) * bytes_per_number / 1e9


@register_term("conv_gb")
def _conv_traffic(op: Operation, bytes_per_number: float, batch: int) -> float:
    return (op.read + op.written) * bytes_per_number / 1e9 if _is_matrix(op) else 0.0


@register_term("elementwise_gb")
def _elementwise_traffic(op: Operation, bytes_per_number: float, batch: int) -> float:
    return (op.read + op.written) * bytes_per_number / 1e9 if op.kind in _ELEMENTWISE else 0.0


@register_term("gate_gb")
def _gate_traffic(op: Operation, bytes_per_number: float, batch: int) -> float:
    """Pooling and broadcast multiplication: the small, badly fused kernels of squeeze-excite gates."""
    return (op.read + op.written) * bytes_per_number / 1e9 if op.kind in ("multiply", "pool") else 0.0


@register_term("weight_gb")
def _weights(op: Operation, bytes_per_number: float, batch: int) -> float:
    """Weights are read once per batch."""
    return op.weights * bytes_per_number / batch / 1e9


@register_term("conv_count")
def _convs(op: Operation, bytes_per_number: float, batch: int) -> float:
    """Launch are paid once per batch."""
    return 1.0 / batch if _is_matrix(op) else 0.0


@register_term("elementwise_count")
def _elementwises(op: Operation, bytes_per_number: float, batch: int) -> float:
    return 1.0 / batch if op.kind in _ELEMENTWISE else 0.0
