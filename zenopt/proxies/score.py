"""Scoring architectures: repeats of one proxy over fresh networks."""

from __future__ import annotations

import math
import statistics
import time
from typing import Any

import torch

from zenopt.core.description import describe
from zenopt.core.errors import ProxyError, ZenoptError
from zenopt.core.lowering import check_positive
from zenopt.core.score import Score
from zenopt.proxies.devices import full_precision, resolve_device
from zenopt.proxies.probe import Probe
from zenopt.proxies.randomness import fresh_network, make_generator
from zenopt.proxies.registry import Proxy, ScoreSettings, get_proxy


def score_architecture(
    architecture: Any,
    proxy: str | Proxy = "zen",
    *,
    resolution: int,
    num_classes: int = 1000,
    batch_size: int = 16,
    repeats: int = 1,
    gamma: float = 0.01,
    seed: int = 0,
    device: str | torch.device = "cpu",
    residual: bool | None = None,
    use_se: bool = False,
) -> Score:
    """Score an architecture by a proxy, on noise inputs and random labels.

    Args:
        architecture:
            An architecture of any family.
        proxy:
            Name of a proxy (see :func:`~zenopt.proxies.get_proxy`).
        resolution:
            Side of the square input image in pixels.
        num_classes:
            Outputs of the classifier.
        batch_size:
            Images in a batch. Scores are comparable at one batch size only.
        repeats:
            Independent repeats, each with fresh weights, inputs and statistics.
        gamma:
            Size of the input perturbation (Zen-scores), above 0.
        seed:
            Fixes every random number; the global random state is not touched. Values differ between device types.
        device:
            Where to compute.
        residual:
            Whether the scored network has residual links; by default what the proxy declares (Zen-scores and ZenNAS's
            other proxies: no). Families whose links cannot be taken away keep them by default.
        use_se:
            Whether the scored network has squeeze-excite gates (ZenNAS scores without).

    Returns:
        The score.

    Raises:
        UnknownNameError: If the proxy does not exist.
        DeviceError: If the device does not exist.
        ProxyError: If the proxy fails on this architecture, or a value is not finite.
        StructureError: If a number is not positive.
    """
    check_positive(resolution=resolution, num_classes=num_classes, batch_size=batch_size, repeats=repeats)
    if not gamma > 0.0 or not math.isfinite(gamma):
        raise ProxyError(f"gamma must be a positive number, got {gamma!r}.")
    found = get_proxy(proxy) if isinstance(proxy, str) else proxy
    where = resolve_device(device)
    # Some families cannot be had without their links.
    default_residual = found.residual or not describe(architecture).has_links
    values = []
    start = time.perf_counter()
    for repeat in range(1 if found.deterministic else repeats):
        settings = ScoreSettings(
            resolution=resolution,
            num_classes=num_classes,
            batch_size=batch_size,
            gamma=gamma,
            seed=seed,
            repeat=repeat,
            device=str(where),
            residual=default_residual if residual is None else residual,
            use_se=use_se,
        )
        try:
            with full_precision(where):
                value = float(_score_once(found, architecture, settings))
        except ZenoptError:
            raise
        except (RuntimeError, ValueError, ArithmeticError) as error:
            # What torch and numpy raise when a network or a batch does not suit a proxy; a bug would be another type.
            reason = (str(error).strip() or type(error).__name__).splitlines()[0]
            raise ProxyError(f"Proxy {found.name!r} failed: {reason}") from error
        if not math.isfinite(value):
            raise ProxyError(f"Proxy {found.name!r} gave {value} (seed {seed}, repeat {repeat}).")
        values.append(value)
    if found.deterministic:
        values *= repeats
    return Score(
        source=found.name,
        value=statistics.fmean(values),
        std=statistics.pstdev(values),
        values=tuple(values),
        seconds=time.perf_counter() - start,
        batch_size=batch_size,
        resolution=found.own_resolution or resolution,
        seed=seed,
        device=str(where),
    )


def _score_once(proxy: Proxy, architecture: Any, settings: ScoreSettings) -> float:
    if proxy.kind == "architecture":
        return proxy.function(architecture, settings)
    if proxy.on_architecture is not None:
        return proxy.on_architecture(architecture, settings)
    generator = make_generator(settings.seed, settings.repeat, torch.device(settings.device))
    network = fresh_network(
        architecture,
        generator,
        num_classes=settings.num_classes,
        use_se=settings.use_se,
        residual=settings.residual,
    )
    shape = (settings.batch_size, 3, settings.resolution, settings.resolution)
    inputs = torch.randn(shape, generator=generator, device=generator.device)
    targets = torch.randint(settings.num_classes, shape[:1], generator=generator, device=generator.device)
    return proxy.function(Probe(network, inputs, targets, generator, gamma=settings.gamma))
