"""What a study spec may name: evaluators, samplers and pruners."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from typing import Any

from zenopt.core.errors import SpecError, UnknownNameError
from zenopt.core.extensions import HUB
from zenopt.core.registry import Registry
from zenopt.core.text import quoted, quoted_list


def _class_or_function(base: str) -> Callable[[Any, str, bool], Any]:
    """Return what tells whether an object may be used: whatever a person names, of a stored name only classes."""

    def check(found: Any, name: str, is_named: bool) -> Any:
        # Whether it is of the right kind is found out when it is made.
        if is_named:
            return found
        module, _, attribute = base.partition(":")
        if isinstance(found, type) and issubclass(found, getattr(import_module(module), attribute)):
            return found
        raise UnknownNameError(
            f"{quoted(name)} was read, not asked for, and is no class that derives from {attribute}: name it yourself, "
            "e.g. with --set."
        )

    return check


#: What gives an architecture its value; see :class:`zenopt.study.evaluators.base.Evaluator`.
EVALUATORS: Registry[Any] = Registry(
    "evaluator",
    "zenopt.evaluators",
    {name: f"zenopt.study.evaluators.{name}" for name in ("proxy", "supernet", "table", "train")},
    convert=_class_or_function("zenopt.study.evaluators.base:Evaluator"),
)
#: Called with a spec and the index of the worker; returns a sampler. A sampler class is made with its options.
SAMPLERS: Registry[Any] = Registry(
    "sampler",
    "zenopt.samplers",
    dict.fromkeys(
        ("zen", "aging", "surrogate", "rejection", "local-search", "annealing", "reinforce", "ppo"),
        "zenopt.study.sampling",
    ),
    convert=_class_or_function("optuna.samplers:BaseSampler"),
)
#: Called with the number of epochs and options; returns a pruner. A pruner class is made with its options.
PRUNERS: Registry[Any] = Registry(
    "pruner",
    "zenopt.pruners",
    dict.fromkeys(("none", "median", "percentile", "halving", "hyperband"), "zenopt.study.pruners"),
    convert=_class_or_function("optuna.pruners:BasePruner"),
)
#: Short names of Optuna's own samplers; ``queue`` runs what was enqueued and proposes nothing.
STOCK_SAMPLERS = {
    "random": "RandomSampler",
    "queue": "RandomSampler",
    "tpe": "TPESampler",
    "nsga2": "NSGAIISampler",
    "nsga3": "NSGAIIISampler",
    "gp": "GPSampler",
    "cmaes": "CmaEsSampler",
    "qmc": "QMCSampler",
}


def list_samplers() -> list[str]:
    """Return the short names of samplers, sorted; classes of ``optuna.samplers`` have only their own."""
    return sorted({*SAMPLERS.names(), *STOCK_SAMPLERS} - {"queue"})


def check_sampler(name: str, *, stored: bool = False) -> None:
    """Find out whether there is a sampler of a name.

    Raises:
        SpecError: If there is none; the message lists the known names.
    """
    # A built-in one is not loaded for it: a list of studies needs no Optuna.
    if (
        name in SAMPLERS.built_in
        or name in STOCK_SAMPLERS
        or name.startswith(HUB)
        or _is_stock("samplers", "BaseSampler", name)
    ):
        return
    try:
        SAMPLERS.get(name, stored=stored)
    except UnknownNameError as error:
        raise SpecError(
            f"sampler.name: there is no sampler {quoted(name)}; known: {quoted_list(list_samplers())}, a class of "
            f"optuna.samplers, or module:object.{'' if str(error).startswith('Unknown ') else f' {error}'}"
        ) from None


def check_pruner(name: str, *, stored: bool = False) -> None:
    """Find out whether there is a pruner of a name.

    Raises:
        SpecError: If there is none; the message lists the known names.
    """
    if name in PRUNERS.names() or _is_stock("pruners", "BasePruner", name):
        return
    try:
        PRUNERS.get(name, stored=stored)
    except UnknownNameError as error:
        raise SpecError(f"training.pruner.name: {error}") from None


def _is_stock(package: str, base: str, name: str) -> bool:
    # Imported late: reading a preset with a sampler of zenopt's own needs no Optuna.
    if not name.isidentifier() or name in SAMPLERS.names():
        return False
    module = import_module(f"optuna.{package}")
    found = getattr(module, name, None)
    return isinstance(found, type) and issubclass(found, getattr(module, base))
