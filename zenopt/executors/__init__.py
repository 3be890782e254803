"""Where the workers of a run are: processes of this machine, actors of a Ray cluster, jobs of SLURM, or elsewhere."""

from __future__ import annotations

from typing import Any

from zenopt.core.errors import ExecutorError
from zenopt.core.registry import Registry
from zenopt.core.text import quoted
from zenopt.executors.base import Ended, Executor, Job, Post
from zenopt.executors.resources import Resources, read_resources

__all__ = ["EXECUTORS", "Ended", "Executor", "Job", "Post", "Resources", "make_executor", "read_resources"]


def _checked(found: Any, name: str, is_named: bool) -> type[Executor]:
    if isinstance(found, type) and issubclass(found, Executor):
        return found
    raise ExecutorError(f"Executor {quoted(name)} is no class that derives from zenopt.executors.Executor.")


#: Classes of executors by name.
EXECUTORS: Registry[type[Executor]] = Registry(
    "executor",
    "zenopt.executors",
    {name: f"zenopt.executors.{name}" for name in ("processes", "ray", "slurm")},
    convert=_checked,
    error=ExecutorError,
)


def make_executor(on: str = "processes", resources: str | Resources | None = None) -> Executor:
    """Return the executor of ``NAME``, ``NAME:ADDRESS`` or ``package.module:Class``.

    Args:
        on:
            A known name, with an address where the executor takes one: ``ray:10.0.0.5:6379``, ``slurm:local``.
        resources:
            What each worker takes, as :func:`read_resources` reads it.

    Raises:
        UnknownNameError: If there is none of this name; the message lists the known ones.
        ExecutorError: If it is no executor, or cannot take the resources.
    """
    name, _, address = on.partition(":")
    if name not in EXECUTORS.names():
        name, address = on, ""
    if not isinstance(resources, Resources):
        resources = read_resources(resources or "")
    made = EXECUTORS.get(name)(address, resources)
    unknown = sorted(set(resources.others) - set(made.takes)) if made.takes is not None else []
    if unknown or (made.takes == () and resources):
        what = unknown[0] if unknown else next(iter(resources.to_dict()))
        allowed = f"it takes {', '.join(('cpu', 'gpu', *made.takes))}" if made.takes else "it takes none"
        raise ExecutorError(f"--resources: {name} knows no {quoted(what)}; {allowed}.")
    return made
