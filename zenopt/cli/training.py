"""The options that `train`, `evaluate` and `deploy` share: which network, which data."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeVar

import click

from zenopt.storage.urls import DEFAULT_STORAGE, STORAGE_VARIABLE, default_storage

if TYPE_CHECKING:
    from zenopt.study.trained import Chosen
    from zenopt.train.networks import NetworkSource
    from zenopt.train.progress import Observer

F = TypeVar("F", bound=Callable[..., Any])

_OPTIONS = (
    click.option("--bundle", type=click.Path(path_type=Path), help="A folder that export-best wrote."),
    click.option(
        "--study",
        "study_name",
        metavar="NAME",
        help="The network of a stored study that was exported last, else its best.",
    ),
    click.option(
        "--trial", type=click.IntRange(0), metavar="N", help="With --study: the network of this trial."
    ),
    click.option(
        "--storage",
        metavar="URL",
        default=default_storage,
        show_default=f"{STORAGE_VARIABLE} of the environment, else {DEFAULT_STORAGE}",
        help="With --study: where it is kept.",
    ),
    click.option("--structure", help="A structure string, or a file that holds one."),
    click.option("--model", help="timm:NAME, torchvision:NAME, or a published ZenNet."),
    click.option("--resolution", type=click.IntRange(8), help="Input side, pixels; needed with --structure."),
    click.option(
        "--se/--no-se",
        "use_se",
        default=None,
        help="Squeeze-excite gates; else as the bundle, study or published network says.",
    ),
)
KEYS = ("bundle", "study_name", "trial", "storage", "structure", "model", "resolution", "use_se")


def network_options(command: F) -> F:
    """Add the options that say which network; :func:`read_network` reads them."""
    for option in reversed(_OPTIONS):
        command = option(command)
    return command


def data_options(*, required: bool, help_text: str = "") -> Callable[[F], F]:
    """Return what adds ``--data``, ``--download`` and ``--share``."""
    kinds = "imagefolder:PATH, imagenet:PATH, cifar10:PATH, cifar100:PATH, synthetic[:N]."

    def add(command: F) -> F:
        for option in (
            click.option(
                "--share",
                type=click.FloatRange(0, 1, min_open=True),
                default=1.0,
                show_default=True,
                help="Share of each class's images, the same ones every time: a quick look.",
            ),
            click.option(
                "--download", is_flag=True, help="Fetch CIFAR-10 or CIFAR-100 into PATH unless it is there."
            ),
            click.option("--data", "data_name", required=required, help=f"{help_text}{kinds}"),
        ):
            command = option(command)
        return command

    return add


_RUN_OPTIONS = (
    click.option("--resume", is_flag=True, help="Continue the run in --output."),
    click.option("--auto-resume", is_flag=True, help="Continue the run in --output if there is one."),
    click.option(
        "--checkpoint-steps",
        default=1000,
        show_default=True,
        type=click.IntRange(1),
        help="Steps between checkpoints within an epoch.",
    ),
    click.option(
        "--loader-workers",
        type=click.IntRange(0),
        help="Processes that prepare batches; chosen by the recipe unless given.",
    ),
    click.option(
        "--logger",
        "loggers",
        multiple=True,
        type=click.Choice(["csv", "tensorboard", "wandb", "mlflow"]),
        help="Also send every epoch's numbers there; repeatable.",
    ),
    click.option(
        "--dry-run", is_flag=True, help="Say what would be trained and how long it would take, and end."
    ),
)


def recipe_options(default: str | None, of: str) -> Callable[[F], F]:
    """Return what adds ``--recipe``, ``--epochs`` and ``--recipe-set``; ``of`` says what the recipe is of."""

    def add(command: F) -> F:
        for option in (
            click.option(
                "--recipe-set",
                "recipe_overrides",
                multiple=True,
                metavar="KEY=VALUE",
                help="Replaces a field of the recipe; repeatable.",
            ),
            click.option("--epochs", type=click.IntRange(1), help="Replaces the recipe's number."),
            click.option(
                "--recipe", "recipe_name", default=default, show_default=default is not None, help=of
            ),
        ):
            command = option(command)
        return command

    return add


def run_options(command: F) -> F:
    """Add the options that say how a run goes: its checkpoints, loader, loggers, and ``--dry-run``."""
    for option in reversed(_RUN_OPTIONS):
        command = option(command)
    return command


def resume_mode(resume: bool, auto_resume: bool) -> Literal["never", "must", "auto"]:
    """Return how ``--resume`` and ``--auto-resume`` are to be taken."""
    return "must" if resume else "auto" if auto_resume else "never"


@contextmanager
def until_interrupted(watcher: Observer, shown: bool) -> Iterator[None]:
    """Close a run's progress at its end; where Ctrl-C ends it, say how it goes on, and exit with 130."""
    try:
        yield
    except KeyboardInterrupt:
        watcher.close()
        if shown:
            click.echo(
                "Interrupted; the same command with --auto-resume goes on from the last checkpoint.", err=True
            )
        raise click.exceptions.Exit(130) from None
    finally:
        watcher.close()


@dataclass(frozen=True)
class Meant:
    """The network that the options name.

    Attributes:
        source: How it is built.
        expected_classes: The classes that it was searched for, where that is known.
        chosen: The trial it is of, where it is a study's.
        name: What to call it; empty where it has no name but its text.
    """

    source: NetworkSource
    expected_classes: int | None = None
    chosen: Chosen | None = None
    name: str = ""


def read_network(options: dict[str, Any], *, required: bool = True) -> Meant | None:
    """Take the network options out of a command's parameters, and return the network that they name.

    Args:
        options:
            The parameters; those of :func:`network_options` are removed.
        required:
            Whether there must be one.

    Raises:
        click.UsageError: If none or several are named, or an option goes with none of them.
        ZenoptError: If there is no such network, or gates cannot be chosen for it.
    """
    given = {key: options.pop(key) for key in KEYS}
    names = [key for key in ("bundle", "study_name", "structure", "model") if given[key] is not None]
    if given["trial"] is not None and given["study_name"] is None:
        raise click.UsageError("--trial needs --study.")
    if not names and not required:
        lost = [
            flag
            for key, flag in (("resolution", "--resolution"), ("use_se", "--se"))
            if given[key] is not None
        ]
        if lost:
            raise click.UsageError(
                f"{lost[0]} needs --bundle, --study, --structure or --model; the weights of a run say themselves how "
                "their network is built."
            )
        return None
    if len(names) != 1:
        raise click.UsageError("Give exactly one of --bundle, --study, --structure and --model.")
    found = _find(given)
    return replace(found, source=found.source.with_gates(given["use_se"]))


def _find(given: dict[str, Any]) -> Meant:
    from zenopt.train.networks import NetworkSource

    resolution = given["resolution"]
    if given["bundle"] is not None:
        from zenopt.export.bundle import read_bundle

        bundle = read_bundle(given["bundle"])
        return Meant(
            NetworkSource.from_bundle(bundle, resolution), bundle.num_classes, name=Path(given["bundle"]).name
        )
    if given["study_name"] is not None:
        from zenopt.study.study import load_study, open_existing
        from zenopt.study.trained import choose

        chosen = choose(load_study(open_existing(given["storage"]), given["study_name"]), given["trial"])
        spec = chosen.spec
        source = NetworkSource.from_structure(
            chosen.structure, resolution or spec.resolution, spec.use_se, chosen.family
        )
        return Meant(source, spec.num_classes, chosen, f"{given['study_name']}, trial {chosen.trial},")
    if given["model"] is not None:
        return Meant(NetworkSource.from_model(given["model"], resolution), name=given["model"])
    if resolution is None:
        raise click.UsageError("--structure needs --resolution.")
    from zenopt.cli.options import show_warnings
    from zenopt.export.names import resolve

    show_warnings()
    named = resolve(given["structure"])
    if named.architecture is None:
        return Meant(NetworkSource.from_model(given["structure"], resolution))
    return Meant(NetworkSource.from_structure(named.text, resolution, False, named.family))
