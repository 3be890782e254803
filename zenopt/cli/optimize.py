"""``zenopt optimize``."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

import click

from zenopt.cli.data_option import check_data
from zenopt.cli.hints import of_results, of_study, say_next
from zenopt.cli.options import (
    SECONDS,
    devices_option,
    executor_options,
    json_option,
    print_json,
    read_devices,
    set_option,
    storage_option,
    warn,
)
from zenopt.core.outputs import check_folder
from zenopt.core.paths import file_name

if TYPE_CHECKING:
    from zenopt.study.search import Progress
    from zenopt.study.spec import StudySpec
    from zenopt.study.study import StudyStatus


#: What the help names.
_SAMPLERS = (
    *("zen", "aging", "surrogate", "reinforce", "ppo", "local-search", "annealing", "rejection"),
    *("random", "tpe", "nsga2", "gp"),
)


@click.command()
@click.option(
    "--study", metavar="PRESET|FILE", help="A preset (see `zenopt studies`) or a YAML file of your own."
)
@click.option(
    "--study-name", metavar="NAME", help="Name of the study in the storage; by default that of the spec."
)
@storage_option
@click.option(
    "--trials",
    type=click.IntRange(min=0),
    help="Trials to add, shared by the workers; 0 for the second stage alone.",
)
@click.option("--timeout", "timeout_s", type=SECONDS, help="Seconds after which no further trial begins.")
@click.option(
    "--workers",
    type=click.IntRange(1, 1024),
    help="Most workers at a time; by default one per core, or per device given; on a cluster what there is room for.",
)
@executor_options
@click.option("--dry-run", is_flag=True, help="Of --on slurm: print what would be submitted, and end.")
@click.option(
    "--sampler",
    metavar="NAME",
    help=f"What proposes candidates: {', '.join(_SAMPLERS)}, a class of optuna.samplers, or your own module:Class.",
)
@click.option("--seed", type=click.IntRange(min=0), help="Seed of all proposals and scores.")
@devices_option("Torch devices, shared out among the workers: cpu, cuda:0, mps.")
@set_option()
@click.option(
    "--synchronous",
    type=click.Choice(["NORMAL", "FULL"]),
    default="NORMAL",
    show_default=True,
    help="SQLite: FULL also survives a power cut, at the price of a disk flush per commit.",
)
@click.option(
    "--runs",
    default="runs",
    show_default=True,
    type=click.Path(file_okay=False),
    help="Folder of the trainings of a second stage (objective.then: train), and of what loggers write.",
)
@click.option(
    "--logger",
    "loggers",
    multiple=True,
    type=click.Choice(["csv", "tensorboard", "wandb", "mlflow"]),
    help="Also send the numbers of every trial there; repeatable.",
)
@click.option("--quiet", is_flag=True, help="No progress, only the summary.")
@click.option("--verbose", is_flag=True, help="A line for every finished trial.")
@click.option(
    "--log-file", metavar="FILE", help="Append what --verbose shows and the summary to a file, with times."
)
@json_option
def optimize(
    study: str | None,
    study_name: str | None,
    storage: str,
    trials: int | None,
    timeout_s: float | None,
    workers: int | None,
    on: str,
    resources: str,
    dry_run: bool,
    sampler: str | None,
    seed: int | None,
    devices: str,
    overrides: tuple[str, ...],
    synchronous: str,
    runs: str,
    loggers: tuple[str, ...],
    quiet: bool,
    verbose: bool,
    log_file: str | None,
    as_json: bool,
) -> None:
    """Create or resume a study and add trials to it.

    Give --study to start from a preset or file; a stored study goes on with --study-name alone. Ctrl-C finishes the
    trials under way and prints the summary (exit code 130); run the same command again to go on.

    Where the spec says objective.then: train, the best of every class are then trained briefly and judged on training
    images held back; export-best writes the one that trained best.

    \b
    zenopt optimize --study cifar-params1m --trials 300
    zenopt optimize --study mine.yaml --set budget.params=5e5 --timeout 600
    zenopt optimize --study latency01ms --storage postgresql://user@host/db
    zenopt optimize --study mine.yaml --on ray --resources cpu=2,gpu=0.25
    """
    import logging
    from pathlib import Path

    from zenopt.cli.second_stage import run_trainings, winner_json, winner_table
    from zenopt.progress.search import Reporter
    from zenopt.study.advice import warnings_before
    from zenopt.study.search import run_search
    from zenopt.study.spec import StudySpec
    from zenopt.study.study import load_study, open_existing, read_spec, read_status

    if quiet:
        logging.getLogger("zenopt").setLevel(logging.ERROR)
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
    is_trained = spec.objective.kind == "train"
    trains = is_trained or (spec.objective.then == "train" and spec.training.data is not None)
    if trials == 0 and not trains:
        raise click.UsageError(
            "--trials 0 is for a second stage: set objective.then=train and training.data=..."
        )
    if trains and spec.training.data is not None:
        check_data(str(spec.training.data), "training.data")
        check_folder(runs)
    if trials != 0:
        for warning in warnings_before(spec):
            warn(warning)
    used = read_devices(devices)
    if dry_run:
        from zenopt.executors import make_executor
        from zenopt.study.search import folder_of

        click.echo(make_executor(on, resources).describe(workers, str(folder_of(spec, name, runs))))
        return
    opened = open_existing(storage) if trials == 0 else None
    result = None
    if opened is None:
        reporter = Reporter(
            spec,
            name,
            storage,
            trials=trials,
            timeout_s=timeout_s,
            quiet=quiet or as_json,
            verbose=verbose,
            log_file=log_file,
        )
        with contextlib.ExitStack() as listening:
            listeners = [listening.enter_context(log) for log in _logs(loggers, spec, name, storage, runs)]
            listeners.append(listening.enter_context(reporter))

            def update(progress: Progress) -> None:
                for listener in listeners:
                    listener.update(progress)

            result = run_search(
                spec,
                storage,
                name,
                trials=trials,
                timeout_s=timeout_s,
                workers=workers,
                devices=used,
                synchronous=synchronous,
                runs=runs,
                on=on,
                resources=resources,
                on_progress=update,
                on_ready=reporter.ready,
            )
        opened = result.storage
    summary = read_status(load_study(opened, name))
    if result is not None and not as_json:
        reporter.summary(summary, result)
    for failure in result.failures if result is not None else ():
        warn(failure)
    winner = None
    if trains and (result is None or (result.is_complete and not result.stopped)):
        winner = run_trainings(
            opened,
            name,
            spec,
            runs=Path(runs),
            devices=used,
            workers=workers,
            url=storage,
            on=on,
            resources=resources,
            quiet=quiet or as_json,
        )
    if result is not None and "csv" in loggers and not quiet and not as_json:
        click.echo(f"Log of the trials: {Path(runs) / file_name(name, 'name') / 'log.csv'}")
    if as_json:
        content = (
            {"done": result.done, "seconds": result.seconds, "stopped": result.stopped} if result else {}
        )
        failures = list(result.failures) if result else []
        trained = {"trained": winner_json(winner)} if winner else {}
        print_json({**summary.to_json(), **content, "failures": failures, **trained})
    else:
        if winner is not None:
            click.echo(winner_table(winner))
            click.echo(f"Winner: top-1 {winner.test_top1:.2f} % on the test images, {winner.weights}")
        if not storage.startswith("memory:"):
            _say_next(summary, spec, spec.objective.then == "train" and not trains)
    if result is not None and result.stopped:
        raise click.exceptions.Exit(130)
    if result is not None and result.failures and not result.is_complete:
        raise click.exceptions.Exit(1)


def _logs(names: tuple[str, ...], spec: StudySpec, name: str, storage: str, runs: str) -> list[Any]:
    """Return what sends trials to loggers, if any were asked for."""
    if not names:
        return []
    from zenopt.progress.trial_log import TrialLog

    return [TrialLog(names, spec, name, storage, runs)]


def _say_next(status: StudyStatus, spec: StudySpec, lacks_data: bool) -> None:
    from zenopt.study.registries import SAMPLERS

    study, stored = of_study(status.name), of_study(status.name, "--study-name")
    if status.best is None:
        again = f"zenopt optimize {stored} --trials {spec.trials or 100}"
        # Optuna's samplers draw from the whole space, of which a tight budget may leave next to nothing.
        kept = spec.sampler.name in SAMPLERS.built_in
        other = (f"{again} --sampler zen", "a sampler that proposes only what is within the budget")
        say_next(*([] if kept else [other]), (again, "search on; or raise the budget"))
        return
    second_stage = f"zenopt optimize {stored} --trials 0 --set training.data=imagefolder:PATH"
    say_next(
        *([(second_stage, "the second stage: short trainings choose")] if lacks_data else []),
        (f"zenopt status {study}", "its progress so far"),
        *of_results(status.name, study, spec.has_networks),
    )
