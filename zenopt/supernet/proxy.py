"""The proxy ``supernet:DIR``: what a trained supernet says of a network, as a score like any other.

It combines with other proxies, and it is an input of what learns from trained networks: ``zenopt correlate --combine``,
and the guide of sampler ``surrogate``.
"""

from __future__ import annotations

from functools import lru_cache, partial
from pathlib import Path
from typing import Any

from zenopt.core.errors import CheckpointError, EvaluationError, ProxyError
from zenopt.proxies.registry import Proxy, ScoreSettings
from zenopt.supernet.files import SUPERNET_FILE, read_supernet
from zenopt.supernet.judging import PathJudge

PREFIX = "supernet:"


def supernet_proxy(name: str) -> Proxy:
    """Return the proxy of ``supernet:DIR``.

    Paths are judged at the resolution that the supernet was trained at, whatever that of other scores is, and in
    bfloat16 where it was trained so.

    Raises:
        ProxyError: If there is no trained supernet in the folder.
    """
    folder = Path(name.removeprefix(PREFIX)).expanduser()
    judge = _judge(folder, _stamp(folder), "cpu")
    return Proxy(
        name=name,
        direction="maximize",
        cost_class="forward",
        needs=(),
        kind="architecture",
        description=f"Accuracy on {judge.images} held-back images with the weights of a supernet",
        function=partial(_score, folder),
        deterministic=True,
        version=str(_stamp(folder)),
        own_resolution=judge.resolution,
    )


def _score(folder: Path, architecture: Any, settings: ScoreSettings) -> float:
    try:
        return _judge(folder, _stamp(folder), settings.device).accuracy(architecture)
    except (CheckpointError, EvaluationError) as error:
        raise ProxyError(str(error)) from None


def _stamp(folder: Path) -> int:
    """Return when a supernet was written; 0 where there is none."""
    try:
        return (folder / SUPERNET_FILE).stat().st_mtime_ns
    except (OSError, ValueError):
        return 0


@lru_cache(maxsize=4)
def _judge(folder: Path, stamp: int, device: str) -> PathJudge:
    """Read a supernet once per version of its file.

    Raises:
        ProxyError: If it cannot be read.
    """
    try:
        found = read_supernet(folder)
        trained_in = found.facts.recipe.precision.amp
        # CPUs are slow with the other one.
        return PathJudge(found, device, amp="bf16" if trained_in == "bf16" else None)
    except CheckpointError as error:
        raise ProxyError(str(error)) from None
