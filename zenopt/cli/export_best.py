"""``zenopt export-best``."""

from __future__ import annotations

import click

from zenopt.cli.options import device_option, json_option, print_json, storage_option
from zenopt.core.text import printable


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
@device_option("cpu", "Torch device.")
@click.option(
    "--format",
    "formats",
    multiple=True,
    type=click.Choice(["torchscript", "torch-export", "onnx"]),
    help="Also write the network with initial weights, BN folded, to measure its speed; repeatable. "
    "Trained weights: `zenopt deploy`.",
)
@click.option(
    "--by",
    type=click.Choice(["auto", "score", "training"]),
    default="auto",
    show_default=True,
    help="What decides; auto: the second stage's trainings where the study has them, else the score.",
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
    by: str,
    force: bool,
    as_json: bool,
) -> None:
    """Score the best trials again and write the best as a bundle.

    One lucky draw must not win: the top candidates get fresh draws, and the best mean is exported. Infeasible trials
    never are, nor what breaks a latency budget when it is measured on the calibrated device. The folder also gets
    model.py, which builds the network with nothing but torch. Of a study with a second stage (objective.then: train)
    it is the network that trained best, with its weights in best.pt.

    \b
    zenopt export-best --study demo --output demo-bundle
    """
    from zenopt.cli.second_stage import winner_table
    from zenopt.export.bundle import read_bundle, write_bundle
    from zenopt.export.deploy import deploy_bundle
    from zenopt.export.standalone import write_model_file
    from zenopt.spaces.registry import parse_architecture
    from zenopt.study.best import Rescored, make_bundle, rescore_top
    from zenopt.study.finalists import why_not_measured
    from zenopt.study.study import load_study, open_existing
    from zenopt.verify.final import decide, export_winner

    study = load_study(open_existing(storage), name)
    winner = decide(study, by)
    candidates: list[Rescored] = []
    if winner is not None:
        folder = export_winner(study, winner, output, overwrite=force)
        bundle = read_bundle(folder)
    else:
        spec, candidates = rescore_top(
            study,
            count=top,
            repeats=repeats,
            device=device,
            progress=lambda line: click.echo(line, err=True),
        )
        reason = why_not_measured(spec)
        if reason is not None:
            click.echo(f"Finalists were not measured: {reason}", err=True)
        bundle = make_bundle(study, spec, candidates)
        folder = write_bundle(bundle, output, overwrite=force)
    write_model_file(
        parse_architecture(bundle.family, bundle.structure),
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
    if winner is not None:
        click.echo(winner_table(winner))
    else:
        is_measured = any(item.latency is not None for item in candidates)
        click.echo(f"trial  search score  fresh mean +- std{'   measured' if is_measured else ''}")
    for item in candidates:
        line = f"{item.record.number:5d}  {item.record.value:12.3f}  {item.score.mean:10.3f} +- {item.score.std:.3f}"
        if item.latency is not None:
            line += f"  {item.latency.latency_ms:.4g} ms +- {item.latency.standard_error:.1%}"
        click.echo(line)
    costs = bundle.costs or {}
    latency = f", {costs['latency_ms']:.4f} ms {costs['latency_kind']}" if "latency_ms" in costs else ""
    what = f"trial {bundle.trial}" if winner is None else "the best trained network, with its weights,"
    click.echo(
        f"Exported {what} to {folder}: {costs['params']:,} params, {costs['macs']:,} MACs, "
        f"{costs['layers']} layers{latency}"
    )
    click.echo(printable(bundle.structure))
    for written in deployed:
        click.echo(
            f"{written.format}: {written.file} ({written.file_bytes:,} bytes, largest error {written.max_error:.1e})"
        )
