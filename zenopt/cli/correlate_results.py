"""The results of ``zenopt correlate``, as a table and as JSON."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from zenopt.cli.options import table, wrapped
from zenopt.core.text import printable
from zenopt.core.words import plural

if TYPE_CHECKING:
    from zenopt.correlate.combine import Combined
    from zenopt.correlate.report import Correlation

_HEADER = ("proxy", "Spearman", "95 % interval", "Kendall", "top", "n", "failed", "s/arch")


def results_text(found: Sequence[Correlation], combined: Combined) -> str:
    """Return a table per data set with a line per proxy, and a line per combination over random splits."""
    rows: dict[str, list[tuple[str, ...]]] = {}
    every = (*found, *combined.correlations)
    # A column of zeros is no news, and the table fits 80 columns without it.
    left_out = () if any(item.failed for item in every) else (_HEADER.index("failed"),)
    for item in every:
        rows.setdefault(item.column, []).append(_without(_row(item), left_out))
    header = _without(_HEADER, left_out)
    lines = ["\n\n".join(f"{printable(column)}\n{table(own, header)}" for column, own in rows.items())]
    for column, by_name in combined.splits.items():
        lines += [
            wrapped(
                f"{printable(column)}, {name}: {item.mean:.3f} over {plural(item.repeats, 'random split')} "
                f"({item.low:.3f} .. {item.high:.3f}), {item.train} learned from, {item.test} judged"
            )
            for name, item in by_name.items()
        ]
    lines += [
        wrapped(f"{printable(column)}, surrogate reads {', '.join(groups)}")
        for column, groups in combined.reads.items()
    ]
    return "\n".join(lines)


def results_json(found: Sequence[Correlation], combined: Combined | None) -> dict[str, Any]:
    """Return the same as plain data; ``combined`` is ``None`` where nothing was to be combined."""
    from zenopt.correlate.report import results_json

    if combined is None:
        return {"results": results_json(found)}
    splits = {
        column: {name: vars(item) for name, item in by_name.items()}
        for column, by_name in combined.splits.items()
    }
    return {
        "results": results_json([*found, *combined.correlations]),
        "learned_weights": combined.weights,
        "splits": splits,
        "surrogate_reads": combined.reads,
    }


def _row(item: Correlation) -> tuple[str, ...]:
    found = item.statistics
    return (
        item.proxy,
        _number(found.spearman.value),
        "-" if found.spearman.low is None else f"{found.spearman.low:.3f} .. {found.spearman.high:.3f}",
        _number(found.kendall.value),
        f"{found.top.value:.2f} of {found.top_count}",
        str(found.n),
        str(item.failed),
        f"{item.mean_seconds:.3f}",
    )


def _without(cells: tuple[str, ...], left_out: tuple[int, ...]) -> tuple[str, ...]:
    return tuple(cell for index, cell in enumerate(cells) if index not in left_out)


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"
