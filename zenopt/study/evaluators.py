"""What gives an architecture its value: a proxy, or a table of known results."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from zenopt.core.errors import DataError
from zenopt.core.tables import load_table

if TYPE_CHECKING:
    from zenopt.proxies import Score
    from zenopt.study.spec import StudySpec


def evaluate_architecture(
    spec: StudySpec, architecture: Any, *, seed: int, device: str, repeats: int | None = None
) -> Score:
    """Returns the value of an architecture under a spec's objective.

    Args:
        spec:
            The resolved study spec.
        architecture:
            What to evaluate.
        seed:
            Fixes every random number.
        device:
            Torch device of the measurements.
        repeats:
            Fresh draws; by default the spec's. A table has one value.

    Raises:
        DataError: If the table cannot be read, or does not list the architecture.
        ProxyError: If the proxy fails or is not finite.
    """
    # Imported late: scoring imports torch, which planning a study does not need.
    from zenopt.proxies import Score, get_proxy, score_architecture

    if spec.objective.kind == "table":
        value = table_value(spec, architecture)
        if value is None:
            raise DataError(f"{spec.objective.table} does not list {architecture}.")
        return Score(
            proxy=f"table {spec.objective.column}",
            mean=value,
            std=0.0,
            values=(value,),
            seconds=0.0,
            batch_size=0,
            resolution=spec.resolution,
            seed=seed,
            device=device,
        )
    proxy = spec.proxy
    return score_architecture(
        architecture,
        get_proxy(proxy.name, stored=True),
        resolution=spec.resolution,
        num_classes=spec.num_classes,
        batch_size=proxy.batch_size or proxy.batch_sizes.cpu,
        repeats=proxy.repeats if repeats is None else repeats,
        gamma=proxy.gamma,
        seed=seed,
        device=device,
        residual=proxy.residual,
    )


def table_value(spec: StudySpec, architecture: Any) -> float | None:
    """Returns what the spec's table says of an architecture; ``None`` if it does not list it."""
    table, column = spec.objective.table, spec.objective.column
    assert table is not None and column is not None
    return load_table(table).column(column).get(str(architecture))
