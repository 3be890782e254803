"""``zenopt supernet train``."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from zenopt.cli.hints import say_next
from zenopt.cli.options import FiniteRange, device_option, json_option, print_json, seed_option, wrapped
from zenopt.cli.study_choice import chosen_spec
from zenopt.cli.supernet.plan import SAMPLINGS, make_plan, path_options
from zenopt.cli.training import data_options, recipe_options, resume_mode, run_options, until_interrupted
from zenopt.core.words import plural

if TYPE_CHECKING:
    from zenopt.study.spec import StudySpec
    from zenopt.supernet.training import SupernetPlan
    from zenopt.train.distributed import World


@click.command()
@path_options
@data_options(required=True)
@click.option(
    "--output", type=click.Path(path_type=Path), help="Folder of the supernet; needed unless --dry-run."
)
@click.option(
    "--sampling",
    type=click.Choice(SAMPLINGS),
    default="fair",
    show_default=True,
    help="Paths of a step: one, drawn; one, each choice equally often; largest, smallest and two drawn ones; or one "
    "that walks over the --band, so that all of it is taken evenly.",
)
@click.option(
    "--split",
    "splits",
    multiple=True,
    metavar="PARAMETER",
    help="Few-shot: the values of this parameter of the space (a name or pattern) share nothing; repeatable.",
)
@click.option(
    "--initial-weights",
    type=click.Path(path_type=Path),
    metavar="DIR",
    help="Begin with the weights of this trained supernet; parts begin as copies of a whole one.",
)
@click.option(
    "--kernels",
    type=click.Choice(["centre", "transformed"]),
    default="centre",
    show_default=True,
    help="Smaller kernels: the centres of larger ones, or these times learned matrices (once-for-all).",
)
@recipe_options("supernet", "A recipe's name, or a YAML file.")
@click.option(
    "--held-back",
    type=FiniteRange(0, 1, min_open=True, max_open=True),
    default=0.1,
    show_default=True,
    help="Share of the training images that judges paths; the test images stay unseen.",
)
@click.option(
    "--images",
    type=click.IntRange(1, 100_000),
    default=1000,
    show_default=True,
    help="Held-back images that are kept beside the weights, at most.",
)
@click.option(
    "--settling",
    type=click.IntRange(2, 100_000),
    default=500,
    show_default=True,
    help="Training images kept for the statistics of batch normalisation, at most.",
)
@click.option(
    "--keep-every",
    type=click.IntRange(1),
    metavar="EPOCHS",
    help="Also keep the weights after every so many epochs, for rank --over-epochs.",
)
@seed_option("Of weights, order, augmentation and paths.")
@device_option()
@run_options
@json_option
def train(
    name: str,
    storage: str,
    overrides: tuple[str, ...],
    data_name: str,
    download: bool,
    share: float,
    output: Path | None,
    splits: tuple[str, ...],
    initial_weights: Path | None,
    sampling: str,
    kernels: str,
    recipe_name: str,
    epochs: int | None,
    recipe_overrides: tuple[str, ...],
    held_back: float,
    images: int,
    settling: int,
    keep_every: int | None,
    seed: int,
    device: str,
    resume: bool,
    auto_resume: bool,
    checkpoint_steps: int,
    loader_workers: int | None,
    loggers: tuple[str, ...],
    dry_run: bool,
    as_json: bool,
    **path_choice: Any,
) -> None:
    """Train every network of a study's space in one set of shared weights.

    Each step trains one path, or a few. Afterwards a network is judged by its path in about the time of a forward pass,
    and any search can use it: objective.kind=supernet.

    \b
    zenopt supernet train --study nasbench-macro-table --data cifar10:PATH \\
        --epochs 50 --output macro-supernet
    zenopt supernet train --study cifar-small --set space.bounds=narrow \\
        --data imagefolder:PATH --sampling sandwich --output small-supernet
    zenopt supernet train --study nasbench201 --data cifar10:PATH --whole-space \\
        --split edge03 --schedule few-shot --output few-shot-supernet
    """
    # Imported late: what is wrong with the options is said before torch is imported.
    from zenopt.train.distributed import join_world
    from zenopt.train.folder import check_free
    from zenopt.train.progress import observer
    from zenopt.train.recipe import load_recipe
    from zenopt.train.run import prepare_data
    from zenopt.train.timing import duration

    if output is None and not dry_run:
        raise click.UsageError("--output is needed: the folder of the supernet.")
    spec = chosen_spec(name, storage, overrides)
    recipe = load_recipe(recipe_name, recipe_overrides, **({"epochs": epochs} if epochs else {}))
    from zenopt.supernet.training import check_recipe, split, train_supernet

    recipe = check_recipe(recipe)
    plan = make_plan(
        spec,
        path_choice,
        seed=seed,
        sampling=sampling,
        kernels=kernels,
        split=splits,
        initial=initial_weights,
    )
    mode = resume_mode(resume, auto_resume)
    if output is not None and not dry_run:
        check_free(output, mode)
    with join_world(device) as world:
        watcher = observer(shown=world.is_first, judged_on="held-back")
        with until_interrupted(watcher, world.is_first):
            whole = prepare_data(data_name, world=world, share=share, download=download, observer=watcher)
            data = split(whole, held_back, plan)
            facts: dict[str, Any] = {}
            if world.is_first:
                lines, facts = _described(plan, spec, data, recipe, recipe_name, world)
                if dry_run:
                    watcher.close()
                    print_json(facts) if as_json else click.echo("\n".join(lines))
                else:
                    for line in lines:
                        watcher.note(line)
            if dry_run:
                return
            assert output is not None
            result = train_supernet(
                plan,
                data,
                recipe,
                output=output,
                world=world,
                resume=mode,
                workers=loader_workers,
                checkpoint_steps=checkpoint_steps,
                judged=images,
                settling=settling,
                keep_every=keep_every,
                loggers=loggers,
                observer=watcher,
            )
        if not world.is_first:
            return
    metrics = result.metrics
    if as_json:
        print_json({"output": str(output), **facts, **metrics})
        return
    click.echo(
        wrapped(
            f"Drawn paths reach {metrics['top1']:.2f} % on held-back images with the statistics of their batch; "
            f"{plural(metrics['epochs'], 'epoch')}, {duration(metrics['seconds'])}."
        )
    )
    place = shlex.quote(str(output))
    same = "".join(f" --set {shlex.quote(override)}" for override in overrides)
    objective = shlex.quote(f"objective={{kind: supernet, weights: {output}}}")
    say_next(
        (
            f"zenopt optimize --study {shlex.quote(name)}{same} --study-name NAME --set {objective} --sampler aging",
            "search by it",
        ),
        (f"zenopt supernet rank --weights {place} --table CSV#COLUMN", "how well it ranks"),
    )


def _kept(limits: Any) -> list[str]:
    """Return what drawn paths keep, in words."""
    from zenopt.supernet.band import BandLimits

    band = limits.band if isinstance(limits, BandLimits) else {}
    own = limits.limits if isinstance(limits, BandLimits) else limits
    budget = ["within the budget"] if own is not None and own.budget.limits() else []
    return budget + [f"{name} {low:g} to {high:g}" for name, (low, high) in band.items()]


def _parts(network: Any) -> list[str]:
    """Return how a supernet is split; no line where it is whole."""
    names = ", ".join(network.split.names)
    return [f"Split    {plural(len(network.parts), 'part')} that share nothing, by {names}"] if names else []


def _begun(plan: SupernetPlan, network: Any) -> list[str]:
    """Return with which weights a supernet begins; no line where they are new."""
    from zenopt.core.text import shortened_path

    if plan.initial is None:
        return []
    lost = network.left_out
    left = f"; of no network here: {plural(len(lost), 'tensor')}, e.g. {lost[0]}" if lost else ""
    return [f"Begins   with the weights of {shortened_path(plan.initial)}{left}"]


def _described(
    plan: SupernetPlan, spec: StudySpec, data: Any, recipe: Any, recipe_name: str, world: World
) -> tuple[list[str], dict[str, Any]]:
    """Return what will be trained, as lines for people and as plain data."""
    from zenopt.supernet.timing import estimate_supernet

    network, schedule = plan.build(), plan.schedule
    estimate = estimate_supernet(plan, network, data, recipe, device=world.device, processes=world.size)
    facts = {
        "space": spec.space.name,
        "supernet_params": network.params,
        "layers_shared": len(network.layers),
        "resolution": spec.resolution,
        "parts": len(network.parts),
        "sampling": plan.sampling,
        "train_images": len(data.train),
        "judging_images": len(data.test),
        "recipe": recipe_name,
        "epochs": recipe.epochs,
        "changes": recipe.changes(),
        "seconds": estimate.total_seconds,
    }
    if plan.initial is not None:
        facts["initial_weights"] = {"folder": str(plan.initial), "left_out": list(network.left_out)}
    shared = f", shared by {world.size} processes" if world.size > 1 else ""
    lines = [
        f"Supernet of the space {spec.space.name}: {network.params:,} params in {len(network.layers):,} shared layers, "
        f"{spec.resolution} px, {plural(spec.num_classes, 'class')}",
        f"Paths    {', '.join((plan.sampling, *_kept(network.sampler.limits)))}",
        *_parts(network),
        *_begun(plan, network),
        f"Data     {data.name}: {len(data.train):,} training images, {plural(len(data.test), 'image')} held back",
        f"Recipe   {recipe_name}: {plural(recipe.epochs, 'epoch')}, batches of {recipe.batch_size}{shared}",
        *(f"         {change}" for change in recipe.changes()),
        f"Time     {estimate.text()}",
    ]
    if schedule is not None:
        ends = {phase.name: end for phase, end in schedule.ends(recipe.epochs)}
        phases = ", ".join(f"{name} to {end:.3g}" for name, end in ends.items())
        lines.insert(2, f"Phases   {phases} of {plural(recipe.epochs, 'epoch')}")
        facts["phases"] = ends
    return [wrapped(line, indent_more=9) for line in lines], facts
