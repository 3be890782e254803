"""Scoring any ``nn.Module`` by many proxies at once."""

from __future__ import annotations

import copy
import logging
import math
import time
from collections.abc import Sequence

import torch
from torch import nn

from zenopt.core.errors import ProxyError
from zenopt.core.score import Score
from zenopt.nn.seeding import seeded
from zenopt.proxies.devices import full_precision, resolve_device
from zenopt.proxies.probe import Loss, Probe
from zenopt.proxies.randomness import make_generator
from zenopt.proxies.registry import Proxy, get_proxy

_LOG = logging.getLogger(__name__)

#: The measures of the zero-cost-nas release.
ZERO_COST = ("grad_norm", "snip", "grasp", "fisher", "jacob_cov", "plain", "synflow_bn", "synflow")


def evaluate(
    network: nn.Module,
    inputs: torch.Tensor,
    targets: torch.Tensor | None = None,
    proxies: Sequence[str | Proxy] = ZERO_COST,
    *,
    loss_fn: Loss | None = None,
    device: str | torch.device | None = None,
    seed: int = 0,
    gamma: float = 0.01,
    per_layer: bool = False,
) -> dict[str, Score]:
    """Score a network by several proxies on one minibatch.

    The network is copied: its parameters, buffers, gradients, mode and device stay as they are, and so does the global
    random state. It is scored in the mode it is in; the proxies whose definition redraws the weights (``zen``,
    ``zennas-*``, ``az-nas-*``) do so on a copy. Proxies that read the same passes share them. When memory runs out, the
    batch is split in halves, quarters, ... as far as needed.

    Args:
        network:
            Maps ``inputs`` to a tensor of outputs.
        inputs:
            A ``batch x channels x height x width`` tensor.
        targets:
            What ``loss_fn`` takes beside the outputs; proxies that need labels fail without.
        proxies:
            Names of proxies; by default those of zero-cost-nas.
        loss_fn:
            Called as ``loss_fn(outputs, targets)``, a mean over samples; cross entropy by default.
        device:
            Where to compute; by default where the network is.
        seed:
            Fixes every random number.
        gamma:
            Size of the input perturbation (Zen-scores).
        per_layer:
            Also give what each convolution and linear layer adds, for proxies that are sums over layers
            (``grad_norm``, ``snip``, ``plain``, ``grasp``, ``fisher``, ``synflow``, ``synflow_bn``), as zero-cost-nas
            does: arrays of the shape of the layer's weight, of ``grad_norm`` a single number. Their sum is the score.

    Returns:
        One :class:`Result` per proxy. A proxy that fails, or whose score is not finite, has an ``error`` and no value.

    Raises:
        UnknownNameError: If a proxy does not exist.
        DeviceError: If the device does not exist.
        ProxyError: If the batch is empty or targets do not fit it.

    Example:
        .. code-block:: python

            results = evaluate(network, images, labels, ["snip", "synflow", "naswot"])
            print(results["snip"].value)
    """
    found = [get_proxy(proxy) if isinstance(proxy, str) else proxy for proxy in proxies]
    if len(inputs) == 0 or (targets is not None and len(targets) != len(inputs)):
        raise ProxyError(
            f"A batch needs at least one input and one target per input, got {len(inputs)} and "
            f"{'none' if targets is None else len(targets)}."
        )
    where = resolve_device(_device_of(network, inputs) if device is None else device)
    copied = copy.deepcopy(network).to(where).requires_grad_(True)
    probe = Probe(
        copied,
        inputs.to(where),
        None if targets is None else targets.to(where),
        make_generator(seed, 0, where),
        loss_fn=loss_fn,
        gamma=gamma,
        plan={feature for proxy in found for feature in proxy.shares},
    )
    return {proxy.name: _evaluate_one(proxy, probe, seed, per_layer) for proxy in found}


def _evaluate_one(proxy: Proxy, probe: Probe, seed: int, per_layer: bool) -> Score:
    start = time.perf_counter()
    layers: dict[str, torch.Tensor] | None = None
    while True:
        # The same numbers whatever was evaluated before, and after a batch was split.
        probe.generator = make_generator(seed, 0, probe.inputs.device)
        probe.is_splittable = False
        value: float | None
        error: str | None
        try:
            value, layers = _value(proxy, probe, seed, per_layer)
            error = None
            break
        except Exception as caught:
            # A third party's proxy may raise anything; it must not take the other proxies' values with it.
            _LOG.debug("proxy %s failed", proxy.name, exc_info=True)
            value, error = None, _describe(caught)
            out_of_memory = is_out_of_memory(caught)
        if not (out_of_memory and probe.is_splittable and probe.split_further()):
            break
        if probe.inputs.device.type == "cuda":
            torch.cuda.empty_cache()
    return Score(value, time.perf_counter() - start, error, proxy.name, layers=layers)


def _value(
    proxy: Proxy, probe: Probe, seed: int, per_layer: bool
) -> tuple[float, dict[str, torch.Tensor] | None]:
    if proxy.kind == "architecture":
        raise ProxyError("needs an architecture, not a network")
    # Layers such as dropout draw from the global state, which is put back.
    with seeded(seed, probe.inputs.device), full_precision(probe.inputs.device):
        layers = proxy.per_layer(probe) if per_layer and proxy.per_layer is not None else None
        if layers is None:
            value = float(proxy.function(probe))
        else:
            # The sum that the function takes, without computing everything once more.
            value = sum(array.sum().item() for array in layers.values())
    if not math.isfinite(value):
        raise ProxyError(f"the score is {value}")
    return value, layers


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an exception says that memory ran out, on a GPU or on the CPU."""
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    text = str(error)
    return isinstance(error, RuntimeError) and (
        "out of memory" in text or "DefaultCPUAllocator: can't allocate memory" in text
    )


def _describe(error: BaseException) -> str:
    first_line = (str(error).strip() or type(error).__name__).splitlines()[0]
    return first_line if isinstance(error, ProxyError) else f"{type(error).__name__}: {first_line}"


def _device_of(network: nn.Module, inputs: torch.Tensor) -> torch.device:
    return next((parameter.device for parameter in network.parameters()), inputs.device)
