"""What ``zenopt supernet train`` and ``paths`` share: whose networks, and which of them are paths."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from zenopt.cli.options import set_option, storage_option

if TYPE_CHECKING:
    from zenopt.study.spec import StudySpec
    from zenopt.supernet.training import SupernetPlan

F = TypeVar("F", bound=Callable[..., Any])
#: Those of :data:`zenopt.supernet.sampling.SAMPLINGS`, which is imported late.
SAMPLINGS = ("uniform", "fair", "sandwich", "strolling")

_OPTIONS = (
    click.option(
        "--study",
        "name",
        required=True,
        metavar="NAME|PRESET|FILE",
        help="Whose space, resolution, classes, gates and budget: a preset, a YAML file, or a stored study.",
    ),
    storage_option,
    set_option("Replaces a field of the study; repeatable."),
    click.option(
        "--schedule",
        "schedule_name",
        metavar="NAME|FILE",
        help="Which values paths may take, and what shares weights, in the course of training: progressive-shrinking "
        "or ofa (once-for-all), channel-warm-up (single-path one-shot), few-shot (parts begin as copies), "
        "sharing-curriculum (edges of cells, CLOSE), or a YAML file; by default all values are open.",
    ),
    click.option(
        "--within-budget/--whole-space",
        default=True,
        show_default=True,
        help="Whether drawn paths keep the study's budget.",
    ),
    click.option(
        "--band",
        "bands",
        multiple=True,
        metavar="COST=LOW:HIGH",
        help="Drawn paths cost as much as this, e.g. macs=190e6:330e6; repeatable. The first is the one that strolling "
        "cuts into slices.",
    ),
)


def path_options(command: F) -> F:
    """Add the options that say which paths there are; :func:`make_plan` reads them."""
    for option in reversed(_OPTIONS):
        command = option(command)
    return command


def make_plan(
    spec: StudySpec,
    options: dict[str, Any],
    *,
    seed: int,
    sampling: Any,
    kernels: Any = "centre",
    split: tuple[str, ...] = (),
    initial: Path | None = None,
) -> SupernetPlan:
    """Return the plan of a study's supernet.

    Args:
        spec:
            Whose space.
        options:
            Values of ``schedule_name``, ``within_budget`` and ``bands``.
        seed, sampling, kernels, split, initial:
            See :class:`zenopt.supernet.training.SupernetPlan`.
    """
    from zenopt.supernet.band import read_band
    from zenopt.supernet.schedule import load_schedule
    from zenopt.supernet.training import SupernetPlan

    spec.require_networks()
    limits, section, schedule = spec.limits(), spec.space, options["schedule_name"]
    return SupernetPlan(
        section.build(),
        section.name,
        section.arguments(),
        limits if options["within_budget"] else limits.unlimited(),
        sampling,
        seed,
        kernels,
        load_schedule(schedule) if schedule is not None else None,
        read_band(options["bands"]),
        split,
        initial,
    )
