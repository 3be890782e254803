"""Pruners by name: what ends a training early that will not be among the best."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import optuna
from optuna.pruners import BasePruner

from zenopt.core.errors import SpecError, UnknownNameError
from zenopt.study.registries import PRUNERS

if TYPE_CHECKING:
    from zenopt.study.spec import StudySpec


@PRUNERS.register("none")
def _none(epochs: int, **options: Any) -> BasePruner:
    """End no training early."""
    return optuna.pruners.NopPruner(**options)


@PRUNERS.register("median")
def _median(epochs: int, **options: Any) -> BasePruner:
    """End what is worse than the median of the others after the same step."""
    defaults = {"n_startup_trials": 5, "n_warmup_steps": max(1, epochs // 4)}
    return optuna.pruners.MedianPruner(**{**defaults, **options})


@PRUNERS.register("percentile")
def _percentile(epochs: int, percentile: float = 25.0, **options: Any) -> BasePruner:
    """End what is not among the best quarter after the same step."""
    defaults = {"n_startup_trials": 5, "n_warmup_steps": max(1, epochs // 4)}
    return optuna.pruners.PercentilePruner(percentile, **{**defaults, **options})


@PRUNERS.register("halving")
def _halving(epochs: int, **options: Any) -> BasePruner:
    """Let only the better half go on, after twice as many steps each time."""
    defaults = {"min_resource": max(1, epochs // 4), "reduction_factor": 2}
    return optuna.pruners.SuccessiveHalvingPruner(**{**defaults, **options})


@PRUNERS.register("hyperband")
def _hyperband(epochs: int, **options: Any) -> BasePruner:
    """Halve in several brackets, which begin after different steps."""
    defaults = {"min_resource": max(1, epochs // 8), "max_resource": epochs, "reduction_factor": 2}
    return optuna.pruners.HyperbandPruner(**{**defaults, **options})


def make_pruner(spec: StudySpec) -> BasePruner:
    """Return the pruner of a study's trainings, or of the learning curves of its table.

    Its name is one of :data:`PRUNERS`, a class of ``optuna.pruners`` (``WilcoxonPruner``), or ``module:Class``. Tables
    have few points of a curve: zenopt's own pruners begin with the first of them.

    Raises:
        SpecError: If the options do not fit it.
        UnknownNameError: If there is no such pruner.
    """
    section = spec.training.pruner
    steps = sorted(spec.objective.columns_by_epoch)
    epochs, options = spec.training.epochs, section.options
    if steps:
        epochs, options = steps[-1], {**_from_step(section.name, steps[0]), **options}
    stock = getattr(optuna.pruners, section.name, None)
    try:
        if isinstance(stock, type) and issubclass(stock, BasePruner):
            return stock(**section.options)
        factory = PRUNERS.get(section.name, stored=True)
        if isinstance(factory, type):
            found: Any = factory(**section.options)
        else:
            found = factory(epochs, **options)
    except (TypeError, ValueError) as error:
        if isinstance(error, UnknownNameError):
            raise
        raise SpecError(f"training.pruner.options do not fit {section.name!r}: {error}.") from None
    if not isinstance(found, BasePruner):
        raise SpecError(f"training.pruner.name: {section.name!r} is no Optuna pruner.")
    return found


def _from_step(name: str, step: int) -> dict[str, Any]:
    """Return the options with which a pruner of ours looks at the curves from a step on."""
    return {
        "median": {"n_warmup_steps": step},
        "percentile": {"n_warmup_steps": step},
        "halving": {"min_resource": step},
        "hyperband": {"min_resource": step},
    }.get(name, {})
