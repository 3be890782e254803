"""``zenopt export-best``."""

from __future__ import annotations

import click

from zenopt.cli.options import json_option, print_json, storage_option


@click.command()
@click.option("--study", "name", required=True, metavar="NAME", help="Name of the study in the storage.")
@storage_option
@click.option(
    "--output", required=True, metavar="DIR", type=click.Path(file_okay=False), help="Bundle folder."
)
@click.option(
    "--top",
    type=click.IntRange(1, 1000),
    default=5,
    show_default=True,
    help="Candidates that are scored again.",
)
@click.option(
    "--repeats",
    type=click.IntRange(1, 10_000),
    default=8,
    show_default=True,
    help="Fresh draws of each candidate.",
)
@click.option("--device", default="cpu", show_default=True, help="Torch device.")
@click.option(
    "--format",
    "formats",
    multiple=True,
    type=click.Choice(["torchscript", "torch-export", "onnx"]),
    help="Also write the network with initial weights, BN folded, to measure its speed; repeatable. "
    "Trained weights: `zenopt deploy`.",
)
@click.option("--force", is_flag=True, help="Replace a bundle that is there.")
@json_option
def export_best(
    name: str,
    storage: str,
    output: str,
    top: int,
    repeats: int,
    device: str,
    formats: tuple[str, ...],
    force: bool,
    as_json: bool,
) -> None:
    """Score the best trials again and write the best as a bundle.

    One lucky draw must not win: the top candidates get fresh draws, and the best mean is exported. Infeasible trials
    never are. The folder also gets model.py, which builds the network with nothing but torch.

    \b
    zenopt export-best --study demo --output demo-bundle
    """
    from zenopt.architecture import Architecture
    from zenopt.best import make_bundle, rescore_top
    from zenopt.deploy import deploy_bundle
    from zenopt.export import write_bundle
    from zenopt.standalone import write_model_file
    from zenopt.study import load_study, open_existing

    study = load_study(open_existing(storage), name)
    spec, candidates = rescore_top(study, count=top, repeats=repeats, device=device)
    bundle = make_bundle(study, spec, candidates)
    folder = write_bundle(bundle, output, overwrite=force)
    if bundle.family == "chain":
        write_model_file(
            Architecture.parse(bundle.structure),
            folder / "model.py",
            resolution=bundle.resolution,
            num_classes=bundle.num_classes,
            use_se=bundle.use_se,
        )
    deployed = deploy_bundle(bundle, folder, formats) if formats else []
    if as_json:
        files = [{**item.__dict__, "file": str(item.file)} for item in deployed]
        print_json(
            {"output": str(folder), **bundle.__dict__, "candidates": list(bundle.candidates), "files": files}
        )
        return
    click.echo("trial  search score  fresh mean +- std")
    for item in candidates:
        click.echo(
            f"{item.record.number:5d}  {item.record.value:12.3f}  {item.score.mean:10.3f} +- {item.score.std:.3f}"
        )
    costs = bundle.costs or {}
    latency = f", {costs['latency_ms']:.4f} ms {costs['latency_kind']}" if "latency_ms" in costs else ""
    click.echo(
        f"Exported trial {bundle.trial} to {folder}: {costs['params']:,} params, {costs['macs']:,} MACs, "
        f"{costs['layers']} layers{latency}"
    )
    click.echo(bundle.structure)
    for written in deployed:
        click.echo(
            f"{written.format}: {written.file} ({written.file_bytes:,} bytes, largest error {written.max_error:.1e})"
        )
