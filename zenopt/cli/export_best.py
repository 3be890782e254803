"""``zenopt export-best``."""

from __future__ import annotations

import shlex
from importlib.util import find_spec
from typing import TYPE_CHECKING

import click

from zenopt.cli.hints import say_next
from zenopt.cli.options import (
    choosing_options,
    json_option,
    print_json,
    quiet_option,
    storage_option,
    study_option,
    wrapped,
)
from zenopt.cli.study_choice import searched_study
from zenopt.core.text import one_line, printable
from zenopt.core.words import plural
from zenopt.progress.panel import Panel

if TYPE_CHECKING:
    from pathlib import Path

    from zenopt.study.best import Rescored


@click.command()
@study_option
@storage_option
@click.option(
    "-o", "--output", required=True, metavar="DIR", type=click.Path(file_okay=False), help="Bundle folder."
)
@click.option(
    "--top",
    type=click.IntRange(1, 1000),
    default=5,
    show_default=True,
    help="Candidates that are scored again.",
)
@choosing_options
@click.option(
    "--format",
    "formats",
    multiple=True,
    type=click.Choice(["torchscript", "torch-export", "onnx"]),
    help="Also write the network with initial weights, BN folded, to measure its speed; repeatable. "
    "Trained weights: `zenopt deploy`.",
)
@click.option(
    "--weights/--no-weights",
    "with_weights",
    default=True,
    show_default=True,
    help="Whether the best network of a supernet brings the weights that it inherits, as best.pt.",
)
@click.option("--force", is_flag=True, help="Replace a bundle that is there.")
@quiet_option
@json_option
def export_best(
    name: str | None,
    storage: str,
    output: str,
    top: int,
    repeats: int,
    device: str,
    formats: tuple[str, ...],
    by: str,
    with_weights: bool,
    force: bool,
    quiet: bool,
    as_json: bool,
) -> None:
    """Score the best trials again and write the best as a bundle.

    One lucky draw must not win: the top candidates get fresh draws, and the best mean is exported. Infeasible trials
    never are, nor what breaks a latency budget when it is measured on the calibrated device. The folder also gets
    model.py, which builds the network with nothing but torch. Of a study with a second stage (objective.then: train)
    it is the network that trained best, with its weights in best.pt. Of a search by a supernet, best.pt holds what the
    network inherits, a start for zenopt train --weights.

    \b
    zenopt export-best --study demo --output demo-bundle
    """
    from zenopt.export.bundle import check_bundle_folder, read_bundle, write_bundle

    # Before the work of minutes, not after it.
    check_bundle_folder(output, overwrite=force)
    _check_formats(formats)
    with Panel(quiet=quiet or as_json) as panel:
        from zenopt.study.study import open_existing

        study = searched_study(open_existing(storage), name, panel, "exporting from")
        # Imported late: scoring imports torch, which takes seconds.
        import optuna
        import sqlalchemy.exc

        from zenopt.export.deploy import deploy_bundle
        from zenopt.export.standalone import write_bundle_model
        from zenopt.latency.training_speed import training_speed
        from zenopt.study.best import make_bundle, rescore_top
        from zenopt.study.exported import record_export
        from zenopt.study.finalists import why_not_measured
        from zenopt.study.inherited import write_inherited
        from zenopt.train.checkpoint import BEST
        from zenopt.verify.final import decide, export_winner

        winner = decide(study, by)
        candidates: list[Rescored] = []
        inherited: Path | None = None
        if winner is not None:
            folder = export_winner(study, winner, output, overwrite=force)
            bundle = read_bundle(folder)
        else:
            spec, candidates = rescore_top(study, count=top, repeats=repeats, device=device, progress=panel)
            reason = why_not_measured(spec)
            if reason is not None:
                panel.note(f"Finalists were not measured: {reason}")
            bundle = make_bundle(study, spec, candidates)
            folder = write_bundle(bundle, output, overwrite=force)
            # Weights that an earlier bundle left here are of another network.
            (folder / BEST).unlink(missing_ok=True)
            if with_weights:
                inherited = write_inherited(spec, spec.build_space().parse(bundle.structure), folder, device)
        write_bundle_model(bundle, folder)
        try:
            record_export(study, bundle)
        except (optuna.exceptions.StorageInternalError, sqlalchemy.exc.SQLAlchemyError) as error:
            # Who may only read a study may still export from it.
            panel.note(
                "Warning: the export is not noted on the study, so its report cannot name it: "
                f"{one_line(str(error.__cause__ or error), 200)}"
            )
        deployed = deploy_bundle(bundle, folder, formats) if formats else []
    costs = bundle.costs or {}
    speed = training_speed(costs["macs"], costs["activation_bytes"])
    if as_json:
        files = [{**item.__dict__, "file": str(item.file)} for item in deployed]
        print_json(
            {
                "output": str(folder),
                **bundle.__dict__,
                "candidates": list(bundle.candidates),
                "files": files,
                "weights": None if inherited is None else str(inherited),
                "training": speed.to_json(),
            }
        )
        return
    if winner is not None:
        from zenopt.cli.second_stage import winner_table

        click.echo(winner_table(winner))
    else:
        click.echo(_candidates_text(candidates))
    latency = f", {costs['latency_ms']:.4f} ms {costs['latency_kind']}" if "latency_ms" in costs else ""
    what = f"trial {bundle.trial}" if winner is None else "the best trained network, with its weights,"
    if inherited is not None:
        what += ", with the weights it inherits,"
    click.echo(
        wrapped(
            f"Exported {what} to {folder}: {costs['params']:,} params, {costs['macs']:,} MACs, "
            f"{plural(costs['layers'], 'layer')}{latency}"
        )
    )
    click.echo(wrapped(f"Training: {speed.text}"))
    click.echo(printable(bundle.structure))
    for written in deployed:
        click.echo(
            f"{written.format}: {written.file} ({written.file_bytes:,} bytes, largest error {written.max_error:.1e})"
        )
    place = shlex.quote(str(folder))
    run = shlex.quote(f"runs/{study.study_name}")
    start = "" if inherited is None else f" --weights {shlex.quote(str(inherited))}"
    say_next(
        (f"zenopt describe {place}", "its blocks, costs and shapes"),
        (
            f"zenopt train --bundle {place}{start} --data imagefolder:PATH --output {run}",
            "train it" if inherited is None else "go on from the weights it inherits",
        ),
    )


def _check_formats(formats: tuple[str, ...]) -> None:
    missing = [package for package in ("onnx", "onnxscript") if find_spec(package) is None]
    if "onnx" in formats and missing:
        raise click.UsageError(
            f"--format onnx needs {missing[0]}, which is not installed: pip install 'zenopt[onnx]'."
        )


def _candidates_text(candidates: list[Rescored]) -> str:
    is_measured = any(item.latency is not None for item in candidates)
    # What has one value was not drawn again.
    is_drawn = any(len(item.score.values) > 1 for item in candidates)
    header = f"trial  search score{'  fresh mean +- std' if is_drawn else ''}"
    lines = [f"{header}{'   measured' if is_measured else ''}"]
    for item in candidates:
        line = f"{item.record.number:5d}  {item.record.value:12.3f}"
        if is_drawn:
            line += f"  {item.score.mean:10.3f} +- {item.score.std:.3f}"
        if item.latency is not None:
            line += f"  {item.latency.latency_ms:.4g} ms +- {item.latency.standard_error:.1%}"
        lines.append(line)
    return "\n".join(lines)
