"""``zenopt describe``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from zenopt.cli.describe_tables import (
    block_rows,
    block_table,
    layer_table,
    module_rows,
    module_table,
    operation_table,
)
from zenopt.cli.options import (
    NETWORK,
    json_option,
    network_options,
    print_json,
    show_warnings,
    table,
    wrapped,
)
from zenopt.core.text import printable
from zenopt.core.words import plural

if TYPE_CHECKING:
    from zenopt.latency.targets import Target


@click.command()
@click.argument("network", metavar=NETWORK)
@network_options
@click.option(
    "--layers", "show_layers", is_flag=True, help="Print every layer instead of one line per block."
)
@click.option(
    "--latency", "device", metavar="PROFILE", help="Add predicted latency, with its share per block or layer."
)
@click.option(
    "--spellings", is_flag=True, help="Add the text as other programs write it (DARTS, aw_nas, NASLib)."
)
@click.option("--verify", is_flag=True, help="Build the network and count it with torch and thop as well.")
@json_option
def describe(
    network: str,
    resolution: int | None,
    classes: int | None,
    use_se: bool | None,
    show_layers: bool,
    device: str | None,
    spellings: bool,
    verify: bool,
    as_json: bool,
) -> None:
    """Show the layers and costs of a network.

    A bundle is described at its own resolution, with its own classes and gates. A NAME is that of a published ZenNet or
    of a preset (its initial structure), SPACE:TEXT (nasbench-macro:11111111), timm:MODEL or torchvision:MODEL.

    \b
    zenopt describe demo-bundle --verify
    zenopt describe "SuperConvK3BNRELU(3,8,1,1)SuperResK3K3(8,16,1,8,1)"
    """
    from zenopt.study.targets import find_target

    show_warnings()
    found = find_target(network, resolution=resolution, num_classes=classes, use_se=use_se)
    if found.architecture is None:
        if use_se or verify or spellings:
            raise click.UsageError(
                "--se, --spellings and --verify are for architectures of zenopt's own spaces."
            )
        _describe_module(found, show_layers, device, as_json)
    else:
        _describe_architecture(found, show_layers, device, spellings, verify, as_json)


def _describe_architecture(
    found: Target, show_layers: bool, device: str | None, spellings: bool, verify: bool, as_json: bool
) -> None:
    """Print what is known of an architecture without building it."""
    from zenopt.core.cells import sketches_of
    from zenopt.core.costs import count
    from zenopt.core.lowering import lower
    from zenopt.latency.training_speed import training_speed
    from zenopt.report.cells import cell_text

    architecture: Any = found.architecture
    resolution, classes, use_se = found.resolution, found.num_classes, found.use_se
    costs = count(architecture, resolution, classes, use_se=use_se)
    layers = lower(architecture, resolution, num_classes=classes, use_se=use_se)
    last = layers[-2]
    timed: Any = ()
    speed = training_speed(costs.macs, costs.activation_bytes)
    content: dict[str, Any] = {
        "structure": str(architecture),
        "resolution": resolution,
        "num_classes": classes,
        "use_se": use_se,
        **costs.__dict__,
        "output_shape": [last.in_channels, last.in_size, last.in_size],
        "training": speed.to_json(),
        "spellings": architecture.spellings(),
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
        content["block_table"] = block_rows(architecture, layers, timed)
        print_json(content)
        return
    click.echo(layer_table(layers, timed) if show_layers else block_table(architecture, layers, timed))
    click.echo()
    for name, sketch in sketches_of(architecture):
        click.echo(f"{cell_text(name, sketch)}\n")
    click.echo(_costs_text(content))
    click.echo(wrapped(f"training          {speed.text}", indent_more=18))
    if spellings:
        click.echo()
        click.echo(_spellings_text(content))
    if verify:
        click.echo()
        click.echo(_verify_text(content["verify"]))


def _describe_module(found: Target, show_layers: bool, device: str | None, as_json: bool) -> None:
    """Print what is known of a library's model: a module, traced on shapes."""
    from zenopt.latency.trace import module_operation_latencies, predict_module, step_names, trace_operations

    model = found.build()
    operations = trace_operations(model, found.resolution)
    content: dict[str, Any] = {
        "structure": found.text,
        "resolution": found.resolution,
        "num_classes": found.num_classes,
        "params": sum(parameter.numel() for parameter in model.parameters()),
        "macs": round(sum(operation.macs for operation in operations)),
        "convs": sum(operation.kind == "conv" for operation in operations),
    }
    timed: Any = ()
    if device is not None:
        content |= _prediction_json(predict_module(model, device, found.resolution), device)
        timed = module_operation_latencies(model, device, found.resolution)
    parts = module_rows(step_names(model), operations, timed)
    if as_json:
        names = operations[0].__slots__ if operations else ()
        shares = [_share_json(item) for item in timed] or [{}] * len(operations)
        layer_rows = [
            {**{name: getattr(item, name) for name in names}, **share}
            for item, share in zip(operations, shares, strict=True)
        ]
        print_json({**content, "layer_table": layer_rows, "block_table": parts})
        return
    click.echo(operation_table(operations, timed) if show_layers else module_table(parts, bool(timed)))
    click.echo()
    click.echo(_at_text(content))
    click.echo(f"params            {content['params']:,}")
    click.echo(f"MACs              {content['macs']:,}")
    click.echo(f"convolutions      {content['convs']}")
    if device is not None:
        click.echo(_latency_text(content))


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


def _costs_text(content: dict[str, Any]) -> str:
    lines = [
        _at_text(content),
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


def _at_text(content: dict[str, Any]) -> str:
    gates = ", squeeze-excite" if content.get("use_se") else ""
    return f"at                {content['resolution']} px, {plural(content['num_classes'], 'class')}{gates}"


def _latency_text(content: dict[str, Any]) -> str:
    lines = [f"latency           {content['latency_ms']:.4f} ms, predicted for {content['latency_device']}"]
    lines += [f"                  careful: {printable(warning)}" for warning in content["latency_warnings"]]
    return "\n".join(lines)


def _spellings_text(content: dict[str, Any]) -> str:
    """Return the spellings, each on a line of its own to be copied."""
    found = content["spellings"] or {"zenopt": content["structure"]}
    return "\n".join(f"{name}: {text}" for name, text in found.items())


def _verify_text(content: dict[str, Any]) -> str:
    rows = [
        (source, f"{counts['params']:,}" if counts["params"] else "-", f"{counts['macs']:,}", counts["note"])
        for source, counts in content.items()
    ]
    return table(rows, ("counted by", "params", "MACs", "note"))
