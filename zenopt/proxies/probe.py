"""What a network proxy is given: a network, a batch, a loss, random numbers, and passes it shares with others."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Iterator
from functools import wraps

import torch
from torch import nn

from zenopt.core.errors import ProxyError
from zenopt.proxies.passes import LossPass, Part, run_codes, run_passes, weight_of
from zenopt.proxies.randomness import Initialisation, initialise
from zenopt.proxies.registry import Feature

Loss = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]
#: What each layer adds to a score: its weight or its name, and an array.
LayerArrays = Iterable[tuple["torch.Tensor | str", torch.Tensor]]


class Probe:
    """A network and a batch, as a proxy sees them.

    Passes are computed when first asked for and kept, so that proxies evaluated together share them. When memory runs
    out, the batch is split in more and more parts whose gradients are summed. Batch statistics are then those of the
    parts, so that values change where the network normalises by its batch.

    Args:
        network:
            The network, not to be changed by a proxy; :meth:`private_network` gives a copy that may be.
        inputs:
            A ``batch x channels x height x width`` tensor on the network's device.
        targets:
            What ``loss_fn`` takes beside the outputs, e.g. class indices of shape ``batch``; ``None`` without labels.
        generator:
            Source of every random number, on the network's device.
        loss_fn:
            Called as ``loss_fn(outputs, targets)`` and averaging over the batch; cross entropy by default.
        gamma:
            Size of the input perturbation (Zen-scores).
        plan:
            Features that will be asked for, so that one pass can serve them all.
    """

    def __init__(
        self,
        network: nn.Module,
        inputs: torch.Tensor,
        targets: torch.Tensor | None,
        generator: torch.Generator,
        *,
        loss_fn: Loss | None = None,
        gamma: float = 0.01,
        plan: Iterable[Feature] = (),
    ) -> None:
        self.network = network
        self.inputs = inputs
        self.targets = targets
        self.generator = generator
        self.loss_fn: Loss = nn.functional.cross_entropy if loss_fn is None else loss_fn
        self.gamma = gamma
        self.plan: frozenset[Feature] = frozenset(plan)
        self.parts = 1
        #: Whether a proxy has used something that can be computed in parts.
        self.is_splittable = False
        self._pass: LossPass | None = None
        self._codes: list[torch.Tensor] | None = None

    # -- copies and randomness --------------------------------------------------------------------------------------

    def private_network(self, scheme: Initialisation | None = None) -> nn.Module:
        """Return a copy of the network that the proxy may change.

        Args:
            scheme:
                Redraw its weights: ``"gaussian"``, ``"kaiming"`` or ``"pytorch"`` (see
                :func:`~zenopt.proxies.randomness.initialise`). By default they are kept.
        """
        network = copy.deepcopy(self.network)
        if scheme is not None:
            initialise(network, scheme, self.generator)
        return network

    def noise(self) -> torch.Tensor:
        """Return a batch from N(0, 1) of the inputs' shape."""
        return torch.randn(
            self.inputs.shape, generator=self.generator, device=self.inputs.device, dtype=torch.float32
        )

    def labels(self) -> torch.Tensor:
        """Return the targets.

        Raises:
            ProxyError: If there are none.
        """
        if self.targets is None:
            raise ProxyError("needs labels, and no targets were given")
        return self.targets

    # -- layers -----------------------------------------------------------------------------------------------------

    def by_layer(self, found: LayerArrays) -> dict[str, torch.Tensor]:
        """Return arrays by the name of their layer; a layer without one gets zeros of the shape of its weight.

        Args:
            found:
                Weight of a layer (as the passes below give it) or its name, and its array.
        """
        layers = {
            name: weight_of(module)
            for name, module in self.network.named_modules()
            if isinstance(module, nn.Conv2d | nn.Linear)
        }
        arrays = {key if isinstance(key, str) else id(key): array for key, array in found}
        return {
            name: arrays.get(name, arrays.get(id(weight), torch.zeros_like(weight))).detach()
            for name, weight in layers.items()
        }

    # -- shared passes ----------------------------------------------------------------------------------------------

    def weight_gradients(self) -> list[tuple[torch.Tensor, torch.Tensor]]:
        """Return (weight, gradient of the loss) of every convolution and linear layer that has a gradient."""
        found = self._loss_pass("weights")
        return [(w, g) for w, g in zip(found.weights, found.gradients, strict=True) if g is not None]

    def hessian_gradients(self) -> list[tuple[torch.Tensor, torch.Tensor]]:
        """Return (weight, Hessian of the loss times its gradient) of the same layers."""
        found = self._loss_pass("hessian")
        return [(w, h) for w, h in zip(found.weights, found.hessian_gradients, strict=True) if h is not None]

    def channel_saliencies(self) -> list[tuple[torch.Tensor, torch.Tensor]]:
        """Return (weight, half the mean square of ``sum over positions of activation * gradient`` per channel)."""
        found = self._loss_pass("activations")
        return [(w, s) for w, s in zip(found.weights, found.saliencies, strict=True) if s is not None]

    def input_jacobian(self) -> torch.Tensor:
        """Return d(sum of all outputs)/d(input), one row per sample: ``batch x (channels * height * width)``."""
        found = self._loss_pass("jacobian")
        assert found.jacobian is not None
        return found.jacobian

    def relu_codes(self) -> list[torch.Tensor]:
        """Returns, for every call of a ReLU module in order, which units are on: boolean ``batch x units`` tensors."""
        if self._codes is None:
            self.is_splittable = True
            self._codes = run_codes(self.network, [part.inputs for part in self._split()])
        return self._codes

    def split_further(self) -> bool:
        """Halve the parts after memory ran out and forget what was computed; false if no part can be halved."""
        self._pass = self._codes = None
        if self.parts >= len(self.inputs):
            return False
        self.parts = min(2 * self.parts, len(self.inputs))
        return True

    def _loss_pass(self, feature: Feature) -> LossPass:
        self.is_splittable = True
        if self._pass is None or feature not in self._pass.features:
            features = self.plan | {feature}
            if self.targets is None:
                features &= {"jacobian"}
                if feature != "jacobian":
                    self.labels()
            self._pass = run_passes(self.network, list(self._split()), self.loss_fn, features)
        return self._pass

    def _split(self) -> Iterator[Part]:
        targets = [None] * self.parts if self.targets is None else self.targets.tensor_split(self.parts)
        for inputs, wanted in zip(self.inputs.tensor_split(self.parts), targets, strict=True):
            yield Part(inputs, wanted, len(inputs) / len(self.inputs))


def over_layers(function: Callable[[Probe], LayerArrays]) -> Callable[[Probe], float]:
    """Make a proxy of a function that gives an array for each layer: the score is the sum of all of them.

    ``evaluate(..., per_layer=True)`` gives the arrays themselves.

    Example:
        .. code-block:: python

            @register_proxy("my-snip", cost_class="backward", needs=("data", "labels", "gradients"))
            @over_layers
            def my_snip(probe):
                for weight, gradient in probe.weight_gradients():
                    yield weight, (weight * gradient).abs()
    """

    @wraps(function)
    def score(probe: Probe) -> float:
        return sum(array.sum().item() for _, array in function(probe))

    score.per_layer = lambda probe: probe.by_layer(function(probe))  # type: ignore[attr-defined]
    return score
