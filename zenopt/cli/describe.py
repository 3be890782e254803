"""``zenopt describe``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import click

from zenopt.cli.options import json_option, print_json, show_warnings, table
from zenopt.core.text import printable


@click.command()
@click.argument("network", metavar="STRUCTURE|FILE|BUNDLE|NAME")
@click.option(
    "--resolution",
    type=click.IntRange(1, 8192),
    show_default="224; NAS-Bench-201: 32",
    help="Image side, px.",
)
@click.option("--classes", type=click.IntRange(1, 1_000_000), show_default="1000; NAS-Bench-201: 10")
@click.option("--se", "use_se", is_flag=True, help="With squeeze-excite gates.")
@click.option(
    "--layers", "show_layers", is_flag=True, help="Print every layer instead of one line per block."
)
@click.option(
    "--latency", "device", metavar="PROFILE", help="Add predicted latency, with its share per block or layer."
)
@click.option("--verify", is_flag=True, help="Build the network and count it with torch and thop as well.")
@json_option
def describe(
    network: str,
    resolution: int | None,
    classes: int | None,
    use_se: bool,
    show_layers: bool,
    device: str | None,
    verify: bool,
    as_json: bool,
) -> None:
    """Layers and costs of a network.

    A NAME is that of a published ZenNet, nasbench201:ARCHSTR, timm:MODEL or torchvision:MODEL.

    \b
    zenopt describe "SuperConvK3BNRELU(3,8,1,1)SuperResK3K3(8,16,1,8,1)" --resolution 32 --classes 10
    zenopt describe demo-bundle --verify
    """
    from zenopt.core.costs import count
    from zenopt.core.lowering import lower
    from zenopt.export.names import resolve

    show_warnings()
    named = resolve(network)
    architecture, resolution, classes = (
        named.architecture,
        resolution or named.resolution,
        classes or named.num_classes,
    )
    if architecture is None:
        _describe_model(named, resolution, classes, show_layers, device, use_se or verify, as_json)
        return
    costs = count(architecture, resolution, classes, use_se=use_se)
    layers = lower(architecture, resolution, num_classes=classes, use_se=use_se)
    last = layers[-2]
    timed: Any = ()
    content: dict[str, Any] = {
        "structure": str(architecture),
        "resolution": resolution,
        "num_classes": classes,
        "use_se": use_se,
        **costs.__dict__,
        "output_shape": [last.in_channels, last.in_size, last.in_size],
    }
    if device is not None:
        from zenopt.latency import load_profile, operation_latencies
        from zenopt.latency.predict import predict

        profile = load_profile(device)
        content |= _prediction_json(predict(architecture, profile, resolution, classes, use_se), device)
        timed = operation_latencies(architecture, profile, resolution, classes, use_se)
    if verify:
        from zenopt.nn.verify import verify_counts

        content["verify"] = verify_counts(architecture, resolution, classes, use_se=use_se)
    if as_json:
        shares = [_share_json(item) for item in timed] or [{}] * len(layers)
        content["layer_table"] = [
            {**_layer_json(layer), **share} for layer, share in zip(layers, shares, strict=True)
        ]
        content["block_table"] = _block_rows(architecture, layers, timed)
        print_json(content)
        return
    click.echo(_layer_table(layers, timed) if show_layers else _block_table(architecture, layers, timed))
    click.echo()
    click.echo(_costs_text(content))
    if verify:
        click.echo()
        click.echo(_verify_text(content["verify"]))


def _layer_json(layer: Any) -> dict[str, Any]:
    return {name: getattr(layer, name) for name in (*layer.__slots__, "params", "macs")}


def _share_json(timed: Any) -> dict[str, float]:
    return {"latency_ms": timed.latency_ms, "latency_share": timed.share}


def _prediction_json(prediction: Any, device: str) -> dict[str, Any]:
    return {
        "latency_ms": prediction.latency_ms,
        "latency_device": device,
        "latency_warnings": list(prediction.warnings),
    }


def _with_shares(rows: Sequence[tuple[str, ...]], header: tuple[str, ...], shares: Any) -> str:
    """Returns a table with two more columns where a device is known: milliseconds and share of each row."""
    if shares:
        header = (*header, "ms", "share")
        rows = [(*row, f"{ms:.5f}", f"{share:.1%}") for row, (ms, share) in zip(rows, shares, strict=True)]
    return table(rows, header)


def _layer_table(layers: Any, timed: Any) -> str:
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


def _describe_model(
    named: Any,
    resolution: int,
    classes: int,
    show_layers: bool,
    device: str | None,
    has_chain_options: bool,
    as_json: bool,
) -> None:
    """Prints what is known of a library's model: a module, traced on shapes."""
    from zenopt.latency.trace import module_operation_latencies, predict_module, step_names, trace_operations

    if has_chain_options:
        raise click.UsageError("--se and --verify are for architectures of zenopt's own spaces.")
    model = named.build(classes)
    operations = trace_operations(model, resolution)
    content: dict[str, Any] = {
        "structure": named.text,
        "resolution": resolution,
        "num_classes": classes,
        "params": sum(parameter.numel() for parameter in model.parameters()),
        "macs": round(sum(operation.macs for operation in operations)),
        "convs": sum(operation.kind == "conv" for operation in operations),
    }
    timed: Any = ()
    if device is not None:
        content |= _prediction_json(predict_module(model, device, resolution), device)
        timed = module_operation_latencies(model, device, resolution)
    parts = _module_rows(step_names(model), operations, timed)
    if as_json:
        names = operations[0].__slots__ if operations else ()
        shares = [_share_json(item) for item in timed] or [{}] * len(operations)
        table_ = [
            {**{name: getattr(item, name) for name in names}, **share}
            for item, share in zip(operations, shares, strict=True)
        ]
        print_json({**content, "layer_table": table_, "block_table": parts})
        return
    click.echo(_operation_table(operations, timed) if show_layers else _module_table(parts, bool(timed)))
    click.echo()
    click.echo(f"params            {content['params']:,}")
    click.echo(f"MACs              {content['macs']:,}")
    click.echo(f"convolutions      {content['convs']}")
    if device is not None:
        click.echo(_latency_text(content))


def _module_rows(names: list[str], operations: Any, timed: Any) -> list[dict[str, Any]]:
    """Returns a row per direct child of a module that computes anything."""
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


def _module_table(parts: list[dict[str, Any]], is_timed: bool) -> str:
    macs = sum(row["macs"] for row in parts) or 1
    rows = [(row["name"], f"{row['macs']:,}", f"{row['macs'] / macs:.1%}") for row in parts]
    shares = [(row["latency_ms"], row["latency_share"]) for row in parts] if is_timed else ()
    return _with_shares(rows, ("part", "MACs", "share"), shares)


def _operation_table(operations: Any, timed: Any) -> str:
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


def _block_rows(architecture: Any, layers: Any, timed: Any) -> list[dict[str, Any]]:
    """Returns a row per block that has layers, the head last."""
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


def _block_table(architecture: Any, layers: Any, timed: Any) -> str:
    blocks = _block_rows(architecture, layers, timed)
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


def _part_name(layers: Any) -> str:
    """Names a part of a network of cells."""
    if layers[0].block == 0:
        return "stem"
    return "reduction" if any(layer.role == "projection" for layer in layers) else "cell"


def _costs_text(content: dict[str, Any]) -> str:
    lines = [
        f"params            {content['params']:,}",
        f"MACs              {content['macs']:,}",
        f"layers            {content['layers']} ({content['convs']} convolutions on the main path)",
        f"activations       {content['activation_bytes']:,} bytes (fp32, convolutions and linear)",
        f"narrowest, L/w    {content['min_width']} channels, {content['depth_to_width']:.3f}",
        f"ZenNAS counts     {content['zennas_params']:,} params, {content['zennas_flops']:,} flops",
        f"features          {'x'.join(map(str, content['output_shape']))}",
    ]
    if "latency_ms" in content:
        lines.append(_latency_text(content))
    return "\n".join(lines)


def _latency_text(content: dict[str, Any]) -> str:
    lines = [f"latency           {content['latency_ms']:.4f} ms, predicted for {content['latency_device']}"]
    lines += [f"                  careful: {printable(warning)}" for warning in content["latency_warnings"]]
    return "\n".join(lines)


def _verify_text(content: dict[str, Any]) -> str:
    rows = [
        (source, f"{counts['params']:,}" if counts["params"] else "-", f"{counts['macs']:,}", counts["note"])
        for source, counts in content.items()
    ]
    return table(rows, ("counted by", "params", "MACs", "note"))
