"""Scores of whatever has a name: architectures by their own road, a library's models as plain modules."""

from __future__ import annotations

import statistics
from pathlib import Path
from typing import Any

import torch

from zenopt.core.errors import ProxyError
from zenopt.latency.targets import Target
from zenopt.nn.seeding import seeded
from zenopt.proxies import Proxy, Score, evaluate, get_proxy, score_architecture
from zenopt.proxies.devices import resolve_device
from zenopt.proxies.randomness import make_generator
from zenopt.study.targets import find_target, target_of


def score(
    network: Any,
    proxy: str = "zen-closed-form",
    *,
    resolution: int | None = None,
    num_classes: int | None = None,
    use_se: bool | None = None,
    batch_size: int = 16,
    repeats: int = 1,
    gamma: float = 0.01,
    seed: int = 0,
    device: str = "cpu",
    residual: bool | None = None,
) -> Score:
    """Score a network by a training-free proxy, on noise inputs and random labels.

    Args:
        network:
            An architecture, or what names one: a structure string, a file, a bundle, a preset (its initial structure),
            a published network, ``SPACE:TEXT``, ``timm:MODEL`` or ``torchvision:MODEL``.
        proxy:
            Name of the proxy; see :func:`zenopt.list_proxies`.
        resolution, num_classes, use_se:
            Side of the square input in pixels, outputs of the classifier, squeeze-excite gates; by default those of
            the bundle, preset or family.
        batch_size, repeats, gamma, seed, device, residual:
            As in :func:`zenopt.proxies.score_architecture`.

    Raises:
        StructureError: If the network cannot be found.
        ProxyError: If the proxy fails, or an option does not fit the family.

    Example:
        .. code-block:: python

            zenopt.score("zennet_cifar10_1M").value
    """
    given = {"resolution": resolution, "num_classes": num_classes, "use_se": use_se}
    if isinstance(network, str | Path):
        found = find_target(str(network), **given)  # type: ignore[arg-type]
    else:
        found = target_of(network, **given)  # type: ignore[arg-type]
    options: dict[str, Any] = {
        "batch_size": batch_size, "repeats": repeats, "gamma": gamma, "seed": seed, "device": device,
        "residual": residual,
    }  # fmt: skip
    return score_target(found, get_proxy(proxy), **options)


def score_target(
    found: Target,
    proxy: Proxy,
    *,
    batch_size: int,
    repeats: int,
    gamma: float,
    seed: int,
    device: str,
    residual: bool | None,
) -> Score:
    """Score what :func:`zenopt.study.targets.find_target` found, on noise inputs and random labels.

    The arguments are those of :func:`zenopt.proxies.score_architecture`.

    Raises:
        ProxyError: If the proxy fails, or an option does not fit the family.
    """
    if found.architecture is not None:
        return score_architecture(
            found.architecture,
            proxy,
            resolution=found.resolution,
            num_classes=found.num_classes,
            batch_size=batch_size,
            repeats=repeats,
            gamma=gamma,
            seed=seed,
            device=device,
            residual=residual,
            use_se=found.use_se,
        )
    if found.use_se or residual is not None:
        raise ProxyError(
            f"{found.text} is scored as it is; gates and links are options of super-block networks."
        )
    if proxy.kind == "architecture":
        raise ProxyError(
            f"Proxy {proxy.name!r} takes architectures of zenopt's own spaces, not {found.text}."
        )
    where = resolve_device(device)
    values, seconds = [], 0.0
    for repeat in range(repeats):
        generator = make_generator(seed, repeat, torch.device("cpu"))
        # A library's model initialises itself from the global state.
        with seeded(generator.initial_seed()):
            network = found.build().train()
        inputs = torch.randn((batch_size, 3, found.resolution, found.resolution), generator=generator)
        targets = torch.randint(found.num_classes, (batch_size,), generator=generator)
        options: dict[str, Any] = {"device": where, "seed": seed + repeat, "gamma": gamma}
        result = evaluate(network, inputs, targets, [proxy], **options)[proxy.name]
        if result.value is None:
            raise ProxyError(f"Proxy {proxy.name!r} failed on {found.text}: {result.error}.")
        values.append(result.value)
        seconds += result.seconds
    return Score(
        source=proxy.name,
        value=statistics.fmean(values),
        std=statistics.pstdev(values),
        values=tuple(values),
        seconds=seconds,
        batch_size=batch_size,
        resolution=found.resolution,
        seed=seed,
        device=str(where),
    )
