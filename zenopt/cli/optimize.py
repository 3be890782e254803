"""``zenopt optimize``."""

from __future__ import annotations

import click

from zenopt.cli.options import json_option, print_json, storage_option


@click.command()
@click.option(
    "--study", metavar="PRESET|FILE", help="A preset (see `zenopt studies`) or a YAML file of your own."
)
@click.option("--study-name", metavar="NAME", help="Name in the storage; by default the spec's name.")
@storage_option
@click.option("--trials", type=click.IntRange(min=1), help="Trials to add, shared by the workers.")
@click.option(
    "--timeout", "timeout_s", type=click.FloatRange(min=0, min_open=True), help="Seconds to search."
)
@click.option(
    "--workers", type=click.IntRange(1, 1024), help="Processes; by default one per core, or per device given."
)
@click.option(
    "--sampler", type=click.Choice(["zen", "random", "tpe", "nsga2", "gp", "aging"]), help="Who proposes."
)
@click.option("--seed", type=click.IntRange(min=0), help="Seed of all proposals and scores.")
@click.option(
    "--device",
    "--devices",
    "devices",
    default="cpu",
    show_default=True,
    metavar="D[,D...]",
    help="Torch devices, shared out among the workers: cpu, cuda:0, mps.",
)
@click.option(
    "--set",
    "overrides",
    multiple=True,
    metavar="PATH=VALUE",
    help="Override a field, e.g. budget.params=5e5.",
)
@click.option(
    "--synchronous",
    type=click.Choice(["NORMAL", "FULL"]),
    default="NORMAL",
    show_default=True,
    help="SQLite: FULL also survives a power cut, at the price of a disk flush per commit.",
)
@click.option("--quiet", is_flag=True, help="No progress, only the summary.")
@json_option
def optimize(
    study: str | None,
    study_name: str | None,
    storage: str,
    trials: int | None,
    timeout_s: float | None,
    workers: int | None,
    sampler: str | None,
    seed: int | None,
    devices: str,
    overrides: tuple[str, ...],
    synchronous: str,
    quiet: bool,
    as_json: bool,
) -> None:
    """Create or resume a study and add trials to it.

    Give --study to start from a preset or file; a stored study goes on with --study-name alone. Ctrl-C finishes the
    trials under way and prints the summary (exit code 130); run the same command again to go on.

    \b
    zenopt optimize --study cifar-params1m --trials 300
    zenopt optimize --study mine.yaml --set budget.params=5e5 --timeout 600
    zenopt optimize --study latency01ms --storage postgresql://user@host/db --workers 4
    """
    from zenopt.cli.progress import Reporter
    from zenopt.search import run_search
    from zenopt.spec import StudySpec
    from zenopt.study import load_study, open_existing, read_spec, read_status

    if study is None and study_name is None:
        raise click.UsageError("give --study PRESET|FILE, or --study-name of a stored study.")
    assignments = list(overrides)
    if sampler is not None:
        assignments.append(f"sampler.name={sampler}")
    if seed is not None:
        assignments.append(f"seed={seed}")
    if study is not None:
        spec = StudySpec.load(study, assignments)
    else:
        stored = read_spec(load_study(open_existing(storage), str(study_name)))
        assert stored is not None
        spec = stored.overridden(assignments)
    name = study_name or spec.name
    # A limit given here replaces both of the spec's: `--trials 30` is not cut short by a preset's timeout.
    if trials is None and timeout_s is None:
        trials, timeout_s = spec.trials, spec.timeout_s
    with Reporter(spec, name, storage, quiet=quiet or as_json) as reporter:
        result = run_search(
            spec,
            storage,
            name,
            trials=trials,
            timeout_s=timeout_s,
            workers=workers,
            devices=tuple(device.strip() for device in devices.split(",")),
            synchronous=synchronous,
            on_progress=reporter.update,
            on_ready=reporter.ready,
        )
    summary = read_status(load_study(result.storage, name))
    if as_json:
        content = {"done": result.done, "seconds": result.seconds, "stopped": result.stopped}
        print_json({**summary.to_json(), **content, "failures": list(result.failures)})
    else:
        reporter.summary(summary, result)
    for failure in result.failures:
        click.echo(f"Warning: {failure}", err=True)
    if result.stopped:
        raise click.exceptions.Exit(130)
    if result.failures and not result.is_complete:
        raise click.exceptions.Exit(1)
