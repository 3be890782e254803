"""What each worker takes of a cluster, as people write it: ``cpu=4,gpu=0.25,time=4h``."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from zenopt.core.errors import ExecutorError
from zenopt.core.text import quoted

_BYTES = {"": 1, "K": 2**10, "M": 2**20, "G": 2**30, "T": 2**40}
_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86_400}


@dataclass(frozen=True)
class Resources:
    """What each worker takes.

    Attributes:
        cpu: Cores; ``None`` where nothing was said.
        gpu: GPUs; a fraction lets several workers share one.
        others: Anything else by name, as it was written.
    """

    cpu: float | None = None
    gpu: float = 0.0
    others: Mapping[str, str] = field(default_factory=dict)

    def __bool__(self) -> bool:
        return bool(self.to_dict())

    @property
    def threads(self) -> int:
        """Torch threads of a worker."""
        return max(1, int(self.cpu or 1))

    def to_dict(self) -> dict[str, str]:
        """Return what was asked for, by name."""
        found = {} if self.cpu is None else {"cpu": f"{self.cpu:g}"}
        if self.gpu:
            found["gpu"] = f"{self.gpu:g}"
        return {**found, **self.others}

    def __str__(self) -> str:
        return ",".join(f"{name}={value}" for name, value in self.to_dict().items()) or "cpu=1"


def read_resources(text: str) -> Resources:
    """Return the resources written as ``NAME=VALUE[,NAME=VALUE...]``.

    Raises:
        ExecutorError: If they are malformed.
    """
    found: dict[str, str] = {}
    for part in filter(None, (part.strip() for part in text.split(","))):
        name, equals, value = (item.strip() for item in part.partition("="))
        if not equals or not value or not re.fullmatch(r"[A-Za-z][\w.:/-]*", name):
            raise ExecutorError(
                f"--resources: {quoted(part)} is not NAME=VALUE; write e.g. cpu=4,gpu=0.25,time=4h."
            )
        if name in found:
            raise ExecutorError(f"--resources: {name} is given twice.")
        found[name] = value
    cpu, gpu = found.pop("cpu", None), found.pop("gpu", None)
    count = 0.0 if gpu is None else number("gpu", gpu)
    if count > 1 and count != int(count):
        raise ExecutorError(f"--resources: gpu must be a fraction of one GPU or a whole number, got {gpu}.")
    cores = None if cpu is None else number("cpu", cpu)
    return Resources(cores, count, found)


def number(name: str, text: str) -> float:
    """Return a resource that is a number.

    Raises:
        ExecutorError: If it is none, or negative.
    """
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 <= value < math.inf:
        raise ExecutorError(f"--resources: {name} must be a number from 0, got {quoted(text)}.")
    return value


def bytes_of(name: str, text: str) -> int:
    """Return an amount of memory such as ``4G`` in bytes.

    Raises:
        ExecutorError: If it is none.
    """
    found = re.fullmatch(r"(\d+(?:\.\d+)?)([KMGT]?)(?:i?B)?", text, re.IGNORECASE)
    if found is None:
        raise ExecutorError(
            f"--resources: {name} must be an amount of memory such as 4G, got {quoted(text)}."
        )
    return int(float(found[1]) * _BYTES[found[2].upper()])


def minutes_of(name: str, text: str) -> int:
    """Return a time such as ``4h``, ``90m`` or SLURM's ``D-HH:MM:SS`` in whole minutes.

    Raises:
        ExecutorError: If it is none.
    """
    found = re.fullmatch(r"(\d+(?:\.\d+)?)([smhd])", text)
    clock = re.fullmatch(r"(?:(\d+)-)?(\d+):(\d\d)(?::(\d\d))?", text)
    if found is not None:
        seconds = float(found[1]) * _SECONDS[found[2]]
    elif clock is not None:
        days, hours, minutes, rest = (int(item or 0) for item in clock.groups())
        seconds = days * 86_400 + hours * 3600 + minutes * 60 + rest
    else:
        raise ExecutorError(f"--resources: {name} must be a time such as 90m or 4h, got {quoted(text)}.")
    if seconds < 60:
        raise ExecutorError(f"--resources: {name} must be a minute or more, got {quoted(text)}.")
    return math.ceil(seconds / 60)
