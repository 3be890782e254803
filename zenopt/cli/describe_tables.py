"""The tables of ``zenopt describe``: layers and blocks of an architecture, operations and parts of a module."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from zenopt.cli.options import table


def block_rows(architecture: Any, layers: Any, timed: Any) -> list[dict[str, Any]]:
    """Return a row per block that has layers, the head last."""
    from zenopt.core.description import unit_names
    from zenopt.latency import block_latencies

    times = block_latencies(timed)
    names = [] if architecture is None else unit_names(architecture)
    rows = []
    for index in range(layers[-1].block + 1):
        own = [layer for layer in layers if layer.block == index]
        if not own:
            # A cell without any operation has no layers.
            continue
        name = names[index] if index < len(names) else _part_name(own)
        if index == layers[-1].block:
            name = "pool, linear"
        last = [layer for layer in own if layer.role in ("body", "head")][-1]
        row = {
            "name": name,
            "output": [last.out_channels, last.out_size, last.out_size],
            "params": sum(layer.params for layer in own),
            "macs": sum(layer.macs for layer in own),
        }
        if times:
            row["latency_ms"], row["latency_share"] = times.get(index, (0.0, 0.0))
        rows.append(row)
    return rows


def block_table(architecture: Any, layers: Any, timed: Any) -> str:
    """Return a line per block: output, params and MACs with their shares, and times where a device is known."""
    blocks = block_rows(architecture, layers, timed)
    params, macs = (sum(row[key] for row in blocks) for key in ("params", "macs"))
    rows = [
        (
            row["name"],
            "x".join(map(str, row["output"])),
            f"{row['params']:,}",
            f"{row['params'] / params:.1%}",
            f"{row['macs']:,}",
            f"{row['macs'] / macs:.1%}",
        )
        for row in blocks
    ]
    header = ("block", "output", "params", "share", "MACs", "share")
    return _with_shares(
        rows, header, [(row["latency_ms"], row["latency_share"]) for row in blocks] if timed else ()
    )


def layer_table(layers: Any, timed: Any) -> str:
    """Return a line per layer of an architecture."""
    rows = [
        (
            str(layer.block),
            layer.kind,
            layer.role,
            f"{layer.in_channels}x{layer.in_size}x{layer.in_size}",
            f"{layer.out_channels}x{layer.out_size}x{layer.out_size}",
            str(layer.kernel),
            str(layer.stride),
            str(layer.groups),
            f"{layer.params:,}",
            f"{layer.macs:,}",
        )
        for layer in layers
    ]
    header = ("block", "layer", "role", "input", "output", "kernel", "stride", "groups", "params", "MACs")
    return _with_shares(rows, header, [(item.latency_ms, item.share) for item in timed])


def module_rows(names: list[str], operations: Any, timed: Any) -> list[dict[str, Any]]:
    """Return a row per direct child of a module that computes anything."""
    from zenopt.latency import block_latencies

    times = block_latencies(timed)
    rows = []
    for index in sorted({operation.block for operation in operations}):
        macs = round(sum(operation.macs for operation in operations if operation.block == index))
        row = {"name": names[index] if index < len(names) else str(index), "macs": macs}
        if times:
            row["latency_ms"], row["latency_share"] = times[index]
        rows.append(row)
    return rows


def module_table(parts: list[dict[str, Any]], is_timed: bool) -> str:
    """Return a line per part of a module."""
    macs = sum(row["macs"] for row in parts) or 1
    rows = [(row["name"], f"{row['macs']:,}", f"{row['macs'] / macs:.1%}") for row in parts]
    shares = [(row["latency_ms"], row["latency_share"]) for row in parts] if is_timed else ()
    return _with_shares(rows, ("part", "MACs", "share"), shares)


def operation_table(operations: Any, timed: Any) -> str:
    """Return a line per operation of a module."""
    rows = [
        (
            str(item.block),
            item.kind,
            f"{item.in_channels}x{item.in_size:g}x{item.in_size:g}",
            f"{item.out_channels}x{item.out_size:g}x{item.out_size:g}",
            f"{item.kernel:g}",
            str(item.stride),
            str(item.groups),
            f"{item.macs:,.0f}",
        )
        for item in operations
    ]
    header = ("part", "operation", "input", "output", "kernel", "stride", "groups", "MACs")
    return _with_shares(rows, header, [(item.latency_ms, item.share) for item in timed])


def _with_shares(rows: Sequence[tuple[str, ...]], header: tuple[str, ...], shares: Any) -> str:
    """Return a table with two more columns where a device is known: milliseconds and share of each row."""
    if shares:
        header = (*header, "ms", "share")
        rows = [(*row, f"{ms:.5f}", f"{share:.1%}") for row, (ms, share) in zip(rows, shares, strict=True)]
    return table(rows, header)


def _part_name(layers: Any) -> str:
    """Name a part of a network of cells."""
    if layers[0].block == 0:
        return "stem"
    return "reduction" if any(layer.role == "projection" for layer in layers) else "cell"
