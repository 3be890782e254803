"""Forward and backward passes that several proxies read.

Features of a pass: ``weights`` (gradients of the loss by the weights), ``activations`` (channel saliencies),
``hessian`` (Hessian times gradient) and ``jacobian`` (gradient of the outputs by the inputs).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn

from zenopt.core.errors import ProxyError
from zenopt.proxies.registry import Feature

RELUS = (nn.ReLU, nn.ReLU6)


@dataclass(frozen=True)
class Part:
    """A share of the batch: its samples, their targets and its weight in the mean over the batch."""

    inputs: torch.Tensor
    targets: torch.Tensor | None
    weight: float


@dataclass
class LossPass:
    """What the passes found, one entry per convolution or linear layer, ``None`` where no gradient arrives."""

    features: frozenset[Feature]
    weights: list[torch.Tensor]
    gradients: list[torch.Tensor | None] = field(default_factory=list)
    hessian_gradients: list[torch.Tensor | None] = field(default_factory=list)
    saliencies: list[torch.Tensor | None] = field(default_factory=list)
    jacobian: torch.Tensor | None = None


def weighted_layers(network: nn.Module) -> list[nn.Module]:
    """Return the two-dimensional convolutions and linear layers, which is where zero-cost-nas looks."""
    return [module for module in network.modules() if isinstance(module, nn.Conv2d | nn.Linear)]


def weight_of(layer: nn.Module) -> torch.Tensor:
    """Return the weight of a convolution or linear layer."""
    weight = layer.weight
    assert isinstance(weight, torch.Tensor)
    return weight


def call(network: nn.Module, inputs: torch.Tensor) -> torch.Tensor:
    """Run a network.

    Raises:
        ProxyError: If it returns anything but a tensor.
    """
    outputs = network(inputs)
    if not isinstance(outputs, torch.Tensor):
        raise ProxyError(
            f"{type(network).__name__} returns {type(outputs).__name__}, not a tensor of outputs; wrap it"
        )
    return outputs


def run_passes(
    network: nn.Module,
    parts: Sequence[Part],
    loss_fn: Callable[[torch.Tensor, torch.Tensor], torch.Tensor],
    features: frozenset[Feature],
) -> LossPass:
    """Run one forward and the backwards that ``features`` need over each part, and sum.

    Args:
        network:
            Its parameters must require gradients; their ``grad`` is not touched.
        parts:
            Parts of the batch.
        loss_fn:
            Loss, a mean over samples.
        features:
            What to compute.
    """
    layers = weighted_layers(network)
    found = LossPass(features, [weight_of(layer) for layer in layers])
    jacobian: list[torch.Tensor] = []
    needs_loss = bool(features - {"jacobian"})
    one_graph = len(parts) == 1
    samples = sum(len(part.inputs) for part in parts)
    for part in parts:
        inputs = part.inputs.detach().requires_grad_("jacobian" in features)
        with _Activations(network, layers, enabled="activations" in features) as activations:
            outputs = call(network, inputs)
        if "jacobian" in features:
            (rows,) = torch.autograd.grad(outputs.sum(), inputs, retain_graph=needs_loss)
            jacobian.append(rows.detach().flatten(1))
        if not needs_loss:
            continue
        assert part.targets is not None
        loss = loss_fn(outputs, part.targets) * part.weight
        second_order = "hessian" in features and one_graph
        tensors = [tensor for _, tensor in activations.recorded]
        gradients = torch.autograd.grad(
            loss, [*found.weights, *tensors], create_graph=second_order, allow_unused=True
        )
        first = gradients[: len(layers)]
        if second_order:
            found.hessian_gradients = _hessian_times_gradient(found.weights, first, first)
        found.gradients = _add(found.gradients, [g if g is None else g.detach() for g in first])
        if "activations" in features:
            activations.check_unchanged()
            part_saliencies = _saliencies(layers, activations.recorded, gradients[len(layers) :], samples)
            found.saliencies = _add(found.saliencies, part_saliencies)
    if "hessian" in features and not one_graph:
        # The gradient of the whole batch must be known before it can be multiplied.
        for part in parts:
            assert part.targets is not None
            loss = loss_fn(call(network, part.inputs), part.targets) * part.weight
            first = torch.autograd.grad(loss, found.weights, create_graph=True, allow_unused=True)
            found.hessian_gradients = _add(
                found.hessian_gradients, _hessian_times_gradient(found.weights, first, found.gradients)
            )
    if jacobian:
        found.jacobian = torch.cat(jacobian)
    return found


@torch.no_grad()
def run_codes(network: nn.Module, parts: Sequence[torch.Tensor]) -> list[torch.Tensor]:
    """Return which units of every ReLU call are on, as boolean ``batch x units`` tensors in order of the calls.

    Raises:
        ProxyError: If the network has no ReLU modules (``torch.relu`` as a function cannot be observed).
    """
    collected: list[list[torch.Tensor]] = []
    for inputs in parts:
        codes: list[torch.Tensor] = []

        def observe(module: nn.Module, args: tuple[Any, ...], codes: list[torch.Tensor] = codes) -> None:
            # Before the ReLU, because it may work in place.
            codes.append((args[0].detach() > 0).flatten(1))

        handles = [m.register_forward_pre_hook(observe) for m in network.modules() if isinstance(m, RELUS)]
        try:
            network(inputs)
        finally:
            for handle in handles:
                handle.remove()
        collected.append(codes)
    if not collected or not collected[0]:
        raise ProxyError(f"{type(network).__name__} runs no ReLU modules whose activations could be read")
    return [torch.cat(calls) for calls in zip(*collected, strict=True)]


class _Activations:
    """Records the outputs of layers during a forward; every call of a shared layer is an entry of its own."""

    def __init__(self, network: nn.Module, layers: Sequence[nn.Module], *, enabled: bool) -> None:
        self.recorded: list[tuple[int, torch.Tensor]] = []
        self._versions: list[int] = []
        self._handles: list[Any] = []
        self._layers = layers if enabled else ()
        # A module that works in place would overwrite what was recorded; it gets a copy to overwrite instead.
        self._copies = any(getattr(module, "inplace", False) for module in network.modules())

    def __enter__(self) -> _Activations:
        for index, layer in enumerate(self._layers):
            self._handles.append(layer.register_forward_hook(self._observer(index)))
        return self

    def __exit__(self, *_: object) -> None:
        for handle in self._handles:
            handle.remove()

    def _observer(self, index: int) -> Callable[..., torch.Tensor | None]:
        def observe(module: nn.Module, args: tuple[Any, ...], output: torch.Tensor) -> torch.Tensor | None:
            self.recorded.append((index, output))
            self._versions.append(output._version)
            return output.clone() if self._copies else None

        return observe

    def check_unchanged(self) -> None:
        """Raise a :class:`ProxyError` if a function worked in place on a recorded output."""
        for (_, tensor), version in zip(self.recorded, self._versions, strict=True):
            if tensor._version != version:
                raise ProxyError("a layer's output was changed in place by a function, so it cannot be read")


def _saliencies(
    layers: Sequence[nn.Module],
    recorded: Sequence[tuple[int, torch.Tensor]],
    gradients: Sequence[torch.Tensor | None],
    samples: int,
) -> list[torch.Tensor | None]:
    totals: list[torch.Tensor | None] = [None] * len(layers)
    for (index, activation), gradient in zip(recorded, gradients, strict=True):
        if gradient is None:
            continue
        product = activation.detach() * gradient.detach()
        # batch x channels x positions for convolutions; a linear layer's channels are last.
        if isinstance(layers[index], nn.Linear):
            product = product.movedim(-1, 1)
        per_sample = product.flatten(2).sum(2) if product.dim() > 2 else product
        saliency = per_sample.square().sum(0) / (2 * samples)
        previous = totals[index]
        totals[index] = saliency if previous is None else previous + saliency
    return totals


def _hessian_times_gradient(
    weights: Sequence[torch.Tensor],
    first: Sequence[torch.Tensor | None],
    vector: Sequence[torch.Tensor | None],
) -> list[torch.Tensor | None]:
    terms = [
        (v.detach() * g).sum()
        for v, g in zip(vector, first, strict=True)
        if v is not None and g is not None and g.requires_grad
    ]
    if not terms:
        return [None] * len(weights)
    second = torch.autograd.grad(torch.stack(terms).sum(), list(weights), allow_unused=True)
    return [h if h is None else h.detach() for h in second]


def _add(total: list[torch.Tensor | None], more: Sequence[torch.Tensor | None]) -> list[torch.Tensor | None]:
    if not total:
        return list(more)
    return [b if a is None else a if b is None else a + b for a, b in zip(total, more, strict=True)]
