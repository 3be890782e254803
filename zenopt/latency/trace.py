"""Operations of a plain torch module, so that any network can be predicted: torchvision's, timm's or one's own.

The module runs once on meta tensors (shapes only, no arithmetic, no memory) while every call that reaches torch's
dispatcher is written down. Unlike hooks on leaf modules this also sees what has no module: residual additions, gates,
functional activations, attention.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Mapping, Sequence
from math import prod, sqrt
from typing import Any

import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from zenopt.core.errors import DeviceError
from zenopt.latency.operations import Operation, OperationKind
from zenopt.latency.predict import OperationLatency, Prediction, check_resolution, judged, with_shares
from zenopt.latency.profile import DeviceProfile, load_profile

_NORMS = ("batch_norm", "layer_norm", "group_norm", "instance_norm", "rms_norm")
_POOLS = ("pool", "mean")
_ACTIVATIONS = (
    "relu", "relu6", "hardtanh", "silu", "hardswish", "hardsigmoid", "sigmoid", "gelu", "tanh", "leaky_relu", "elu",
    "mish", "clamp", "softmax", "_softmax", "softplus", "prelu", "threshold",
)  # fmt: skip
#: Calls that touch no data: they are not counted even where torch does not mark them as views.
_FREE = ("empty", "_unsafe_view", "lift_fresh", "_to_copy", "arange", "zeros", "ones", "scalar_tensor")


def trace_operations(
    module: nn.Module, resolution: int, *, in_channels: int = 3, input_shape: Sequence[int] | None = None
) -> tuple[Operation, ...]:
    """Return what a module computes for one image, in inference mode.

    Args:
        module:
            Any module that takes one image tensor; it is copied, not changed.
        resolution:
            Side of the square input image in pixels.
        in_channels:
            Channels of the image.
        input_shape:
            Shape of one input without the batch, where it is not a square image.

    Returns:
        One operation per call, in order; ``block`` is the position of the direct child the call came from.

    Raises:
        DeviceError: If the module cannot run on shapes alone (e.g. its path depends on data).
    """
    shape = tuple(input_shape or (in_channels, resolution, resolution))
    try:
        twin = copy.deepcopy(module).to("meta").eval()
        recorder = _Recorder()
        # The twin is thrown away, and its hooks with it.
        for index, child in enumerate(_steps(twin).values()):
            child.register_forward_pre_hook(recorder.entering(index))
        with torch.no_grad(), recorder:
            twin(torch.empty((1, *shape), device="meta"))
    except (RuntimeError, NotImplementedError, TypeError, ValueError) as error:
        reason = str(error).strip().partition("\n")[0]
        raise DeviceError(
            f"Cannot trace {type(module).__name__} on an input of shape {(1, *shape)}: {reason}"
        ) from error
    return tuple(recorder.operations)


def predict_module(
    module: nn.Module, profile: DeviceProfile | str, resolution: int, *, any_resolution: bool = False
) -> Prediction:
    """Predict the latency of any torch module and say how far the profile can be trusted with it.

    Args:
        module:
            A module that takes a ``batch x 3 x resolution x resolution`` tensor.
        profile:
            A device profile, its name or its path.
        resolution:
            Side of the square input image in pixels.
        any_resolution:
            Predict at resolutions the profile does not speak about, too.

    Raises:
        DeviceError: If the profile is unusable, covers other resolutions, or the module cannot be traced.
    """
    profile = load_profile(profile)
    parts = module_operation_latencies(module, profile, resolution, any_resolution=any_resolution)
    total = profile.predictor.constant_ms + sum(part.latency_ms for part in parts)
    return judged(profile, total, resolution, parts)


def predict_module_latency_ms(
    module: nn.Module, profile: DeviceProfile | str, resolution: int, *, any_resolution: bool = False
) -> float:
    """Predict the latency of any torch module, in milliseconds per image at the profile's batch.

    Args and errors are those of :func:`predict_module`.
    """
    return predict_module(module, profile, resolution, any_resolution=any_resolution).latency_ms


def module_operation_latencies(
    module: nn.Module, profile: DeviceProfile | str, resolution: int, *, any_resolution: bool = False
) -> list[OperationLatency]:
    """Return the predicted time of every operation of a torch module, in the order of :func:`trace_operations`.

    Args and errors are those of :func:`predict_module`. The constant part of a model belongs to no operation.
    """
    profile = load_profile(profile)
    check_resolution(profile, resolution, any_resolution)
    operations = trace_operations(module, resolution)
    return with_shares(list(zip(operations, profile.predictor.operation_times(operations), strict=True)))


def step_names(module: nn.Module) -> list[str]:
    """Return the names of the children that :attr:`Operation.block` counts, e.g. ``layer1.0``."""
    return list(_steps(module))


def _steps(module: nn.Module) -> dict[str, nn.Module]:
    """Direct children by name, with containers that have no forward of their own opened."""
    steps: dict[str, nn.Module] = {}
    for name, child in module.named_children():
        if isinstance(child, nn.Sequential | nn.ModuleList):
            steps.update({f"{name}.{index}": inner for index, inner in child.named_children()})
        else:
            steps[name] = child
    return steps


class _Recorder(TorchDispatchMode):
    """Writes down the calls that reach torch's dispatcher."""

    def __init__(self) -> None:
        super().__init__()
        self.operations: list[Operation] = []
        self._step = 0

    def entering(self, index: int) -> Callable[..., None]:
        """Return a hook that remembers which step runs."""

        def hook(module: nn.Module, args: Any) -> None:
            self._step = index

        return hook

    def __torch_dispatch__(
        self,
        func: Any,
        types: Iterable[Any],
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        out = func(*args, **(kwargs or {}))
        name = func.overloadpacket.__name__.rstrip("_")
        if not func.is_view and not any(name.startswith(free) for free in _FREE):
            result = out[0] if isinstance(out, tuple | list) else out
            if isinstance(result, torch.Tensor) and result.numel():
                self.operations.append(_operation(name, args, result, self._step))
        return out


def _operation(name: str, args: tuple[Any, ...], out: torch.Tensor, step: int) -> Operation:
    if name in ("convolution", "_convolution", "cudnn_convolution", "mkldnn_convolution"):
        return _convolution(args, out, step)
    if name in ("addmm", "mm", "linear"):
        return _linear(name, args, out, step)
    tensors = [tensor for tensor in _flatten(args) if isinstance(tensor, torch.Tensor)]
    if name in ("bmm", "baddbmm") or "scaled_dot_product" in name:
        return _matmul(name, tensors, out, step)
    kind: OperationKind = "other"
    weights = 0
    read = sum(tensor.numel() for tensor in tensors)
    if any(norm in name for norm in _NORMS):
        kind = "norm"
        # Scale and shift; running statistics are folded into them.
        weights = sum(tensor.numel() for tensor in tensors[1:3])
        read = tensors[0].numel()
    elif name in _ACTIVATIONS:
        kind = "activation"
    elif any(pool in name for pool in _POOLS):
        kind = "pool"
    elif name in ("add", "sub"):
        kind = "add"
    elif name in ("mul", "div"):
        kind = "multiply"
    first = max(tensors, key=lambda tensor: tensor.numel(), default=out)
    return Operation(
        kind, step, "body", _channels(first), _channels(out), 1, 1, 1, _side(first), _side(out), 0, read, out.numel(),
        weights,
    )  # fmt: skip


def _convolution(args: tuple[Any, ...], out: torch.Tensor, step: int) -> Operation:
    image, weight, bias, stride = args[0], args[1], args[2], args[3]
    groups = args[8]
    kernel = prod(weight.shape[2:]) ** (1 / max(1, len(weight.shape) - 2))
    # Roots are inexact: 7 * 7 must come back as 7.
    kernel = round(kernel) if abs(kernel - round(kernel)) < 1e-9 else kernel
    weights = weight.numel() + (bias.numel() if bias is not None else 0)
    transposed = args[6]
    positions = (image if transposed else out).numel() // _channels(image if transposed else out)
    return Operation(
        "conv", step, "body", _channels(image), _channels(out), kernel, max(stride), groups, _side(image), _side(out),
        weight.numel() * positions, image.numel(), out.numel(), weights,
    )  # fmt: skip


def _linear(name: str, args: tuple[Any, ...], out: torch.Tensor, step: int) -> Operation:
    bias, features, weight = args[:3] if name == "addmm" else (None, args[0], args[1])
    inner = features.shape[-1]
    rows = features.numel() // inner
    weights = weight.numel() + (bias.numel() if bias is not None else 0)
    side = _whole(sqrt(rows))
    return Operation(
        "linear", step, "body", inner, out.shape[-1], 1, 1, 1, side, side, out.numel() * inner, features.numel(),
        out.numel(), weights,
    )  # fmt: skip


def _matmul(name: str, tensors: list[torch.Tensor], out: torch.Tensor, step: int) -> Operation:
    inner = tensors[-2].shape[-1]
    macs = out.numel() * inner
    if "scaled_dot_product" in name:
        # queries x keys and weights x values, each tokens x tokens x width per head.
        macs = 2 * tensors[0].numel() * tensors[1].shape[-2]
    read = sum(tensor.numel() for tensor in tensors)
    side = _whole(sqrt(out.shape[-2]))
    return Operation(
        "matmul", step, "body", inner, out.shape[-1], 1, 1, 1, side, side, macs, read, out.numel(), 0
    )


def _channels(tensor: torch.Tensor) -> int:
    return int(tensor.shape[1]) if tensor.dim() > 1 else 1


def _side(tensor: torch.Tensor) -> float:
    return _whole(sqrt(prod(tensor.shape[2:]))) if tensor.dim() > 2 else 1


def _whole(side: float) -> float:
    """Keep whole numbers exact, so that a traced network equals its lowering."""
    return int(side) if side.is_integer() else side


def _flatten(args: Iterable[Any]) -> list[Any]:
    flat: list[Any] = []
    for arg in args:
        flat += _flatten(arg) if isinstance(arg, list | tuple) else [arg]
    return flat
