"""``zenopt verify``."""

from __future__ import annotations

import shlex

import click

from zenopt.cli.data_option import check_data
from zenopt.cli.hints import of_study, say_next
from zenopt.cli.options import (
    FiniteRange,
    devices_option,
    executor_options,
    json_option,
    print_json,
    quiet_option,
    read_devices,
    storage_option,
    study_option,
    table,
)
from zenopt.cli.second_stage import step_shown, training_shown
from zenopt.cli.study_choice import chosen_study
from zenopt.core.outputs import check_folder
from zenopt.progress.panel import Panel


@click.command()
@study_option
@storage_option
@click.option(
    "--data", "data_name", required=True, help="imagefolder:PATH, cifar10:PATH, cifar100:PATH, synthetic."
)
@click.option(
    "--top", type=click.IntRange(1, 1000), default=5, show_default=True, help="Best networks to train."
)
@click.option(
    "--epochs", type=click.IntRange(1), default=6, show_default=True, help="Epochs of each training."
)
@click.option(
    "--seeds", type=click.IntRange(1, 100), default=1, show_default=True, help="Trainings of each network."
)
@click.option(
    "--baselines",
    type=click.IntRange(0, 100),
    default=2,
    show_default=True,
    help="Networks of each baseline: random, params-max, macs-max, and Zen under each --conv-cap.",
)
@click.option(
    "--conv-cap", "conv_caps", type=click.IntRange(1), multiple=True, help="Most convolutions; repeatable."
)
@click.option(
    "--recipe", "recipe_name", default="basic", show_default=True, help="A recipe's name, or a file."
)
@click.option(
    "--set",
    "overrides",
    multiple=True,
    metavar="KEY=VALUE",
    help="Replace a field of the recipe; repeatable.",
)
@click.option(
    "--rate",
    "rates",
    type=FiniteRange(0, min_open=True),
    multiple=True,
    help="Learning rate to choose from, for each kind of network, on images held back; repeatable.",
)
@click.option(
    "--pruner",
    type=click.Choice(["none", "median", "halving"]),
    default="none",
    show_default=True,
    help="Ends trainings that fall behind: Optuna's median or successive-halving pruner.",
)
@click.option(
    "--output", default="runs/verify", show_default=True, type=click.Path(), help="Folder of the runs."
)
@click.option(
    "--export", "bundle_folder", type=click.Path(), help="Write the best trained network as a bundle."
)
@devices_option("Torch devices, shared out among the trainings.")
@click.option(
    "--workers",
    type=click.IntRange(1, 1024),
    help="Trainings at a time; by default one per core, or per device given.",
)
@executor_options
@quiet_option
@json_option
def verify(
    name: str | None,
    storage: str,
    data_name: str,
    top: int,
    epochs: int,
    seeds: int,
    baselines: int,
    conv_caps: tuple[int, ...],
    recipe_name: str,
    overrides: tuple[str, ...],
    rates: tuple[float, ...],
    pruner: str,
    output: str,
    bundle_folder: str | None,
    devices: str,
    workers: int | None,
    on: str,
    resources: str,
    quiet: bool,
    as_json: bool,
) -> None:
    """Train a study's best networks briefly, beside baselines of the same budget: what is the score worth?

    Accuracies are kept in the same storage as the study NAME-verify; a second run trains only what is missing. The
    table of rank agreement has 95 % intervals over networks and training seeds. What a second stage chose takes part.

    \b
    zenopt verify --study demo --data imagefolder:cifar --conv-cap 12
    """
    from dataclasses import replace
    from pathlib import Path

    from zenopt.export.bundle import check_bundle_folder
    from zenopt.train.recipe import load_recipe

    # What is wrong is said before torch is imported, and what cannot be written before hours of training.
    check_data(data_name)
    recipe = load_recipe(recipe_name, overrides, epochs=epochs)
    if bundle_folder is not None:
        check_bundle_folder(bundle_folder, overwrite=True)
    check_folder(output)
    used = read_devices(devices)
    with Panel(quiet=quiet or as_json) as panel:
        import optuna

        from zenopt.study.study import open_existing, read_spec

        optuna.logging.set_verbosity(optuna.logging.WARNING)
        opened = open_existing(storage)
        study = chosen_study(opened, name)
        name = study.study_name
        spec = read_spec(study)
        assert spec is not None
        from zenopt.verify import candidates as choices
        from zenopt.verify.agreement import agreement
        from zenopt.verify.compare import compare
        from zenopt.verify.final import read_winner
        from zenopt.verify.linked import Place

        candidates = choices.study_best(study, spec, top)
        winner = read_winner(opened, name)
        if winner is not None:
            chosen = winner.verified[0].candidate
            candidates.insert(0, replace(chosen, label="second stage"))
        if baselines:
            panel.note("Looking for baselines of the same budget.")
            candidates += choices.baselines(
                spec, each=baselines, conv_caps=conv_caps, seed=spec.seed, progress=panel
            )
        place = Place(
            opened,
            storage,
            Path(output),
            used,
            workers,
            on_result=training_shown(panel),
            progress=panel,
            on=on,
            resources=resources,
        )
        verified = compare(
            name,
            spec,
            candidates,
            place,
            data=data_name,
            recipe=recipe_name,
            overrides=overrides,
            epochs=epochs,
            seeds=seeds,
            rates=rates,
            pruner=pruner,
            on_step=step_shown(panel),
        )
    ranks = agreement(verified) if sum(bool(item.top1) for item in verified) >= 3 else []
    exported = None
    if bundle_folder is not None and verified and verified[0].top1:
        from zenopt.verify.final import export_trained

        exported = str(export_trained(spec, f"{name}-verify", verified, recipe, data_name, bundle_folder))
    if as_json:
        print_json(
            {
                "study": f"{name}-verify",
                "networks": [
                    {
                        "label": item.candidate.label,
                        "structure": item.candidate.structure,
                        "top1": list(item.top1),
                        "pruned": item.pruned,
                        "learning_rate": item.learning_rate,
                        "facts": dict(item.candidate.facts),
                    }
                    for item in verified
                ],
                "agreement": [item.to_json() for item in ranks],
                "bundle": exported,
            }
        )
        return
    rows = [
        (
            item.candidate.label,
            f"{item.mean:.2f}" if item.top1 else "-",
            " ".join(f"{value:.2f}" for value in item.top1) or f"{item.pruned} pruned",
            f"{item.learning_rate:g}",
            f"{item.candidate.facts.get('closed_form', float('nan')):.1f}",
            f"{item.candidate.facts['convs']:.0f}",
            f"{item.candidate.facts['macs'] / 1e6:.2f}",
        )
        for item in verified
    ]
    click.echo(table(rows, ("found by", "top-1 %", "each seed", "lr", "zen", "convs", "M MACs")))
    if ranks:
        click.echo()
        cells = [
            (
                item.column,
                f"{item.spearman:+.2f}",
                f"{item.spearman_interval[0]:+.2f} to {item.spearman_interval[1]:+.2f}",
                f"{item.kendall:+.2f}",
            )
            for item in ranks
        ]
        click.echo(table(cells, ("rank agreement with top-1", "Spearman", "95 %", "Kendall")))
    if exported:
        click.echo(f"\nExported {verified[0].candidate.label} to {exported}")
    best = verified[0].candidate.label if verified and verified[0].top1 else None
    if exported:
        say_next(
            (
                f"zenopt train --bundle {shlex.quote(str(exported))} --data {shlex.quote(data_name)} "
                f"--output {shlex.quote(f'runs/{name}')}",
                "train it in full",
            )
        )
    elif best is not None:
        say_next(
            (
                f"zenopt optimize {of_study(name, '--study-name')} --trials 0 --set objective.then=train "
                f"--set training.data={data_name}",
                "let short trainings choose",
            ),
        )
