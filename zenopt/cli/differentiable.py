"""``zenopt differentiable``."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from zenopt.cli.hints import of_study, say_next
from zenopt.cli.options import device_option, json_option, print_json, set_option, storage_option, wrapped
from zenopt.cli.study_choice import chosen_spec
from zenopt.cli.training import data_options, recipe_options, resume_mode, run_options, until_interrupted
from zenopt.core.words import plural

if TYPE_CHECKING:
    import optuna

    from zenopt.differentiable.plan import SearchPlan
    from zenopt.differentiable.search import SearchResult
    from zenopt.differentiable.settings import Method
    from zenopt.spaces.opened import OpenNetwork
    from zenopt.study.derived import Recorded
    from zenopt.study.spec import StudySpec
    from zenopt.train.recipe import Recipe


@click.command()
@click.option(
    "--study",
    "name",
    required=True,
    metavar="NAME|PRESET|FILE",
    help="Whose space, resolution, classes, budget and objective: a preset, a YAML file, or a stored study.",
)
@click.option(
    "--method",
    "method_name",
    default="darts-v1",
    show_default=True,
    metavar="NAME|FILE",
    help="darts-v1, darts-v2, gdas, snas, fbnet, drnas, or a YAML file.",
)
@click.option(
    "--method-set",
    "method_overrides",
    multiple=True,
    metavar="KEY=VALUE",
    help="Replaces a field of the method, e.g. network.channels=4; repeatable.",
)
@click.option(
    "--regulariser",
    "regularisers",
    multiple=True,
    metavar="NAME",
    help="Keeps the search from collapsing: beta-decay, or an early end by eigenvalue or skips; repeatable.",
)
@data_options(required=True)
@click.option(
    "--output", type=click.Path(path_type=Path), help="Folder of the search; needed unless --dry-run."
)
@recipe_options(
    None,
    "How the weights are trained: a recipe's name, or a YAML file; by default what is published for the space.",
)
@click.option(
    "--seed",
    type=click.IntRange(0, 2**31 - 1),
    default=0,
    show_default=True,
    help="Of weights, order, augmentation and draws.",
)
@storage_option
@click.option(
    "--study-name",
    metavar="NAME",
    help="Study in which the architecture becomes a trial; by default NAME-differentiable.",
)
@set_option("Replaces a field of the study; repeatable.")
@device_option()
@run_options
@json_option
def differentiable(
    name: str,
    method_name: str,
    method_overrides: tuple[str, ...],
    regularisers: tuple[str, ...],
    data_name: str,
    download: bool,
    share: float,
    output: Path | None,
    recipe_name: str | None,
    epochs: int | None,
    recipe_overrides: tuple[str, ...],
    seed: int,
    storage: str,
    study_name: str | None,
    overrides: tuple[str, ...],
    device: str,
    resume: bool,
    auto_resume: bool,
    checkpoint_steps: int,
    loader_workers: int | None,
    loggers: tuple[str, ...],
    dry_run: bool,
    as_json: bool,
) -> None:
    """Search cells by gradients: DARTS, GDAS, SNAS, FBNet, DrNAS.

    One network holds all operations of the space at once. Their weights learn from held-back images while the network's
    own learn from the others, and every epoch says which architecture would be derived. The last one becomes a trial of
    a study, evaluated by the study's objective; where that is a table, its value is shown for every epoch.

    \b
    zenopt differentiable --study nasbench201-table --data cifar10:PATH \\
        --set objective.table=CSV --regulariser beta-decay --output beta
    zenopt differentiable --study nasbench201 --method gdas --output small \\
        --data cifar10:PATH --method-set network.channels=4
    """
    # Imported late: what is wrong with the options is said before torch is imported.
    from zenopt.train.folder import check_free
    from zenopt.train.recipe import load_recipe
    from zenopt.train.timing import duration

    if output is None and not dry_run:
        raise click.UsageError("--output is needed: the folder of the search.")
    spec = chosen_spec(name, storage, overrides)
    from zenopt.differentiable.plan import check_recipe
    from zenopt.differentiable.search import search
    from zenopt.differentiable.settings import load_method
    from zenopt.study import derived
    from zenopt.train.data import DataSet
    from zenopt.train.distributed import World, resolve_device
    from zenopt.train.progress import observer
    from zenopt.train.run import loader_workers as fitting_workers
    from zenopt.train.run import prepare_data
    from zenopt.train.subsets import hold_back

    method = load_method(method_name, method_overrides, regularisers)
    opened = _opened(spec, method)
    recipe_name = recipe_name or opened.recipe
    recipe = load_recipe(recipe_name, recipe_overrides, **({"epochs": epochs} if epochs else {}))
    plan = _plan(spec, opened, method, check_recipe(recipe, method), seed)
    mode = resume_mode(resume, auto_resume)
    if output is not None and not dry_run:
        check_free(output, mode)
    world = World(0, 1, resolve_device(device))
    study_name = study_name or f"{spec.name}-differentiable"
    watcher = observer(shown=True)
    with until_interrupted(watcher, True):
        whole: DataSet = prepare_data(
            data_name, world=world, share=share, download=download, observer=watcher
        )
        whole.check_classes(plan.num_classes)
        data = hold_back(whole, plan.method.held_back)
        lines, facts = _described(plan, data, method_name, recipe_name, world.device)
        if dry_run:
            watcher.close()
            print_json(facts) if as_json else click.echo("\n".join(lines))
            return
        with _opened_storage(storage) as own_storage:
            # A study that cannot take the result is said now, not after the search.
            derived.check(spec, own_storage, study_name, str(world.device))

        def begun(epochs: int) -> None:
            # Not before: a search that is refused, or fails at once, leaves no empty study.
            if epochs == 1:
                with _opened_storage(storage) as own_storage:
                    derived.join(spec, own_storage, study_name, str(world.device))

        for line in lines:
            watcher.note(line)
        assert output is not None
        result = search(
            plan,
            data,
            output=output,
            device=world.device,
            resume=mode,
            workers=fitting_workers(data, recipe, world) if loader_workers is None else loader_workers,
            checkpoint_steps=checkpoint_steps,
            loggers=loggers,
            observer=watcher,
            on_epoch=begun,
        )
        recorded = _record(spec, storage, study_name, method_name, plan, result, str(world.device))
    check = spec.limits().check(result.architecture)
    costs = check.costs
    if as_json:
        print_json(
            {
                "output": str(output),
                **facts,
                "architecture": str(result.architecture),
                "epoch": result.epoch,
                "was_ended": result.was_ended,
                "params": costs.params,
                "macs": costs.macs,
                "seconds": result.seconds,
                "study_name": recorded.study,
                "trial": recorded.trial,
                "state": recorded.state.name,
                "value": recorded.value,
            }
        )
        return
    ended = f", ended early after {len(result.curve)}" if result.was_ended else ""
    click.echo(
        f"Architecture {result.architecture}\n"
        f"  {costs.params:,} params, {costs.macs / 1e6:.2f}M MACs; derived after "
        f"{plural(result.epoch, 'epoch')}{ended}, {duration(result.seconds)}."
    )
    click.echo(_recorded_text(spec, recorded, check.violations))
    say_next(
        (
            f"zenopt train {of_study(recorded.study)} --trial {recorded.trial} --data DATA --output DIR",
            "train it from the beginning",
        ),
        (f"zenopt report {of_study(recorded.study)}", "its curve, beside those of other searches"),
        (f"zenopt describe {shlex.quote(str(result.architecture))}", "its layers and costs"),
    )


def _opened(spec: StudySpec, method: Method) -> OpenNetwork:
    """Return the search network of the study's space.

    Raises:
        SpecError: If it has none.
    """
    from zenopt.core.errors import SpecError
    from zenopt.spaces.base import BaseSpace
    from zenopt.spaces.registry import get_space, list_spaces

    spec.require_networks()
    size = method.network
    opened: OpenNetwork | None = spec.space.build().open_network(channels=size.channels, cells=size.cells)
    if opened is None:
        none = BaseSpace.open_network
        known = (name for name in list_spaces() if getattr(get_space(name), "open_network", none) is not none)
        raise SpecError(
            f"The space {spec.space.name} has no search network of mixed operations; spaces that have one: "
            f"{', '.join(known)}."
        )
    if spec.use_se:
        raise SpecError("Search networks have no squeeze-excite gates; leave out use_se.")
    return opened


def _plan(spec: StudySpec, opened: OpenNetwork, method: Method, recipe: Recipe, seed: int) -> SearchPlan:
    """Return what is searched.

    Raises:
        SpecError: If the method's cost needs a device and the study names none.
    """
    from zenopt.core.errors import SpecError
    from zenopt.differentiable.plan import SearchPlan

    kind = method.cost.kind
    if kind == "auto":
        kind = "latency_ms" if spec.latency is not None else "macs"
        method = method.model_copy(update={"cost": method.cost.model_copy(update={"kind": kind})})
    if kind == "latency_ms" and spec.latency is None:
        raise SpecError(
            "cost.kind latency_ms needs a study that names a device: --set latency.device=PROFILE."
        )
    return SearchPlan(
        opened,
        spec.space.name,
        spec.space.arguments(),
        spec.resolution,
        spec.num_classes,
        method,
        recipe,
        seed,
        _measure(spec, kind),
        _value(spec),
    )


def _measure(spec: StudySpec, kind: str) -> Any:
    """Return what tells the cost of an architecture: its latency as the study has it, or a count."""
    from zenopt.study.objective import live_latency

    limits = spec.limits()
    if kind == "latency_ms":
        return live_latency(spec, limits) or limits.latency_ms
    return lambda architecture: float(getattr(limits.count(architecture), kind))


def _value(spec: StudySpec) -> Any:
    """Return what tells an architecture's value in the study's table; nothing for other objectives."""
    if spec.objective.kind != "table":
        return lambda architecture: None
    spec.evaluator().check(spec)
    evaluator = spec.evaluator()(spec)

    def value(architecture: Any) -> float | None:
        if not evaluator.lists(architecture):
            return None
        found: float = evaluator.evaluate(architecture, seed=0, settings={}).mean
        return found

    return value


def _described(
    plan: SearchPlan, data: Any, method_name: str, recipe_name: str, device: Any
) -> tuple[list[str], dict[str, Any]]:
    """Return what will be searched, as lines for people and as plain data."""
    from zenopt.differentiable.search import estimated_seconds
    from zenopt.train.timing import duration

    network = plan.build()
    params = sum(weight.numel() for weight in network.network.parameters())
    alphas = sum(alpha.numel() for alpha in network.alphas.values())
    seconds = estimated_seconds(plan, data, device)
    facts = {
        "space": plan.space_name,
        "method": method_name,
        "network_params": params,
        "alphas": alphas,
        "resolution": plan.resolution,
        "train_images": len(data.train),
        "held_back_images": len(data.test),
        "recipe": recipe_name,
        "epochs": plan.recipe.epochs,
        "changes": plan.recipe.changes(),
        "seed": plan.seed,
        "estimated_seconds": seconds,
    }
    lines = [
        f"Search network of the space {plan.space_name}: {params:,} params, {plural(len(network.alphas), 'choice')}, "
        f"{plural(alphas, 'alpha')}, {plan.resolution} px, {plural(plan.num_classes, 'class')}",
        f"Method   {method_name}: {plan.method.description}",
        f"Data     {data.name}: {len(data.train):,} images for weights, {len(data.test):,} for alphas",
        f"Recipe   {recipe_name}: {plural(plan.recipe.epochs, 'epoch')}, batches of {plan.recipe.batch_size}",
        *(f"         {change}" for change in plan.recipe.changes()),
        f"Time     about {duration(seconds)} on {device}",
    ]
    return [wrapped(line, indent_more=9) for line in lines], facts


def _record(
    spec: StudySpec,
    storage: str,
    study_name: str,
    method_name: str,
    plan: SearchPlan,
    result: SearchResult,
    device: str,
) -> Recorded:
    from zenopt.differentiable.files import curve_columns
    from zenopt.study import derived

    curve = result.curve
    attributes = {
        derived.METHOD_KEY: method_name,
        derived.SEED_KEY: result.facts["seed"],
        derived.EPOCH_KEY: result.epoch,
        derived.CURVE_KEY: curve_columns(curve, plan.opened.choices),
        derived.WEIGHTS_KEY: curve[result.epoch - 1].probabilities,
        "search_data": result.facts["data"],
        "search_epochs": len(curve),
        "search_seconds": result.seconds,
    }
    with _opened_storage(storage) as opened:
        return derived.record(
            spec,
            opened,
            study_name,
            result.architecture,
            search=derived.identity(result.facts),
            attributes=attributes,
            values={row.epoch: row.value for row in curve if row.value is not None},
            device=device,
        )


@contextmanager
def _opened_storage(url: str) -> Iterator[optuna.storages.BaseStorage]:
    from zenopt.storage import open_storage

    opened = open_storage(url)
    try:
        yield opened
    finally:
        opened.remove_session()


def _recorded_text(spec: StudySpec, recorded: Recorded, violations: Mapping[str, float]) -> str:
    place = f"{'trial' if recorded.is_new else 'already recorded as trial'} {recorded.trial} of study {recorded.study}"
    if recorded.value is not None:
        return f"  {spec.evaluator().label(spec)} {recorded.value:g}: {place}."
    over = {name: violation for name, violation in violations.items() if violation > 0}
    reason = ", ".join(f"over budget.{name} by {violation:.1%}" for name, violation in over.items())
    if not reason:
        reason = (
            "the table does not list it" if spec.objective.kind == "table" else recorded.state.name.lower()
        )
    return f"  no value ({reason}): {place}."
