"""``zenopt train``."""

from __future__ import annotations

import shlex
from pathlib import Path
from statistics import mean, stdev
from typing import TYPE_CHECKING, Any

import click

from zenopt.cli.hints import with_same_imports
from zenopt.cli.options import SeedRange, device_option, json_option, print_json
from zenopt.cli.training import (
    data_options,
    network_options,
    read_network,
    resume_mode,
    run_options,
    until_interrupted,
)

if TYPE_CHECKING:
    from zenopt.train.engine import RunResult


@click.command("train")
@network_options
@data_options(required=True)
@click.option("--weights", type=click.Path(path_type=Path), help="Start from these weights (fine-tuning).")
@click.option("--output", type=click.Path(path_type=Path), help="Folder of the run; needed unless --dry-run.")
@click.option(
    "--recipe", "recipe_name", default="basic", show_default=True, help="A recipe's name, or a YAML file."
)
@click.option("--epochs", type=click.IntRange(1), help="Replaces the recipe's number.")
@click.option(
    "--set",
    "overrides",
    multiple=True,
    metavar="KEY=VALUE",
    help="Replaces a field of the recipe; repeatable.",
)
@click.option(
    "--seed",
    "seeds",
    default=(0,),
    show_default="0",
    multiple=True,
    type=SeedRange(),
    help="Of weights, order and augmentation. Repeatable: one run after the other, in OUTPUT/seedN, and one report.",
)
@device_option()
@run_options
@json_option
def train_command(
    data_name: str,
    download: bool,
    share: float,
    weights: Path | None,
    output: Path | None,
    recipe_name: str,
    epochs: int | None,
    overrides: tuple[str, ...],
    seeds: tuple[int, ...],
    device: str,
    resume: bool,
    auto_resume: bool,
    checkpoint_steps: int,
    loader_workers: int | None,
    loggers: tuple[str, ...],
    dry_run: bool,
    as_json: bool,
    **network: Any,
) -> None:
    """Train a network and keep its weights and metrics.

    The network is a bundle's, the best of a stored study (its accuracy is then recorded there), or any that has a name.
    torchrun -m zenopt.train takes the same options and trains in several processes.

    \b
    zenopt train --bundle demo-bundle --data cifar10:PATH --download \\
        --output runs/demo
    zenopt train --study demo --data imagefolder:PATH --epochs 30 --output demo
    zenopt train --study demo --trial 17 --data cifar10:PATH --dry-run
    """
    from zenopt.nn.weights import check_checkpoint
    from zenopt.train.distributed import join_world
    from zenopt.train.folder import check_free
    from zenopt.train.plan import make_plan
    from zenopt.train.progress import observer
    from zenopt.train.recipe import load_recipe
    from zenopt.train.run import find_teacher, prepare_data, train
    from zenopt.train.timing import duration

    if output is None and not dry_run:
        raise click.UsageError("--output is needed: the folder of the run.")
    recipe = load_recipe(recipe_name, overrides, **({"epochs": epochs} if epochs else {}))
    meant = read_network(network)
    assert meant is not None
    if weights is not None:
        check_checkpoint(weights)
    seeds = tuple(dict.fromkeys(seeds))
    folders = {seed: Path(output or "") / (f"seed{seed}" if len(seeds) > 1 else "") for seed in seeds}
    mode = resume_mode(resume, auto_resume)
    if not dry_run:
        for folder in folders.values():
            check_free(folder, mode)  # before anything is read or measured
    results: dict[int, RunResult] = {}
    with join_world(device) as world:
        watcher = observer(shown=world.is_first)
        with until_interrupted(watcher, world.is_first):
            teacher = find_teacher(recipe)
            data = prepare_data(
                data_name, world=world, seed=seeds[0], share=share, download=download, observer=watcher
            )
            if world.is_first:
                watcher.work("measuring the speed", 0, None)
                plan = make_plan(
                    meant.source, recipe, recipe_name, data, world, workers=loader_workers, teacher=teacher
                )
                watcher.work("measuring the speed", 1, 1)
                if dry_run:
                    watcher.close()
                    print_json(plan.facts()) if as_json else click.echo("\n".join(plan.lines()))
                    return
                for line in plan.lines():
                    watcher.note(line)
            elif dry_run:
                return
            for seed in seeds:
                results[seed] = train(
                    meant.source,
                    data,
                    recipe,
                    output=folders[seed],
                    world=world,
                    weights=weights,
                    seed=seed,
                    resume=mode,
                    workers=loader_workers,
                    checkpoint_steps=checkpoint_steps,
                    expected_classes=meant.expected_classes,
                    teacher=teacher if seed == seeds[0] else None,
                    loggers=loggers,
                    observer=watcher,
                )
        if not world.is_first:
            return
    assert output is not None
    # Late: it imports what training does without.
    from zenopt.report.training import write_training_report

    page = output / "report.html"
    write_training_report(page, [results[seed] for seed in seeds], meant.source, name=meant.name)
    if meant.chosen is not None:
        from zenopt.study.trained import record_training

        for seed, result in results.items():
            record_training(
                meant.chosen.study, meant.chosen.trial, folders[seed], result.metrics, recipe_name
            )
    if as_json:
        metrics = [result.metrics for result in results.values()]
        print_json(metrics[0] if len(seeds) == 1 else {"runs": metrics})
        return
    for seed, result in results.items():
        facts, best = result.metrics, result.metrics["best"]
        which = f"seed {seed}: " if len(seeds) > 1 else ""
        click.echo(
            f"{which}top-1 {facts['top1']:.2f} %, top-5 {facts['top5']:.2f} %; "
            f"best top-1 {best['top1']:.2f} % at epoch {best['epoch']}; {duration(facts['seconds'])}"
        )
    if len(seeds) > 1:
        values = [result.metrics["top1"] for result in results.values()]
        click.echo(f"top-1 {mean(values):.2f} +- {stdev(values):.2f} % over {len(values)} seeds")
    if meant.chosen is not None:
        click.echo(f"Recorded beside trial {meant.chosen.trial} of study {meant.chosen.study.study_name}.")
    winner = max(results, key=lambda seed: results[seed].metrics["best"]["top1"])
    weights_ = shlex.quote(str(folders[winner] / "best.pt"))
    click.echo(f"Report: {page}")
    evaluate = f"zenopt evaluate --weights {weights_} --data {shlex.quote(data_name)}"
    deploy = (
        f"zenopt deploy --weights {weights_} --format onnx --output {shlex.quote(str(output / 'deployed'))}"
    )
    click.echo(f"Next:   {with_same_imports(evaluate)}")
    click.echo(f"        {with_same_imports(deploy)}")
