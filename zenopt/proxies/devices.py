"""Which torch devices there are, checked before anything is built on one."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext

import torch

from zenopt.core.errors import DeviceError


def available_devices() -> list[str]:
    """Return the names of the usable devices, ``cpu`` first."""
    names = ["cpu", *(f"cuda:{index}" for index in range(torch.cuda.device_count()))]
    if torch.backends.mps.is_available():
        names.append("mps")
    return names


def resolve_device(device: str | torch.device) -> torch.device:
    """Turn a name into a device that exists.

    Args:
        device:
            E.g. ``"cpu"``, ``"cuda"`` (the first GPU), ``"cuda:1"``.

    Raises:
        DeviceError: If there is no such device here.
    """
    available = available_devices()
    try:
        found = torch.device(device)
    except RuntimeError:
        found = None
    if found is not None and found.index is None and found.type == "cuda":
        found = torch.device("cuda", 0)
    if found is None or (str(found) not in available and f"{found.type}" not in available):
        raise DeviceError(f"{device} is not available; available: {', '.join(available)}")
    return found


def full_precision(device: torch.device) -> AbstractContextManager[None]:
    """Return a context in which convolutions on a GPU are true float32; what was set before comes back after it.

    By default cuDNN rounds their inputs to TF32's ten bits of mantissa. The Zen-score is a difference of features under
    a change of the input of one percent, and rounding of a tenth of a percent shows in it.
    """
    return (
        torch.backends.cudnn.flags(enabled=True, allow_tf32=False) if device.type == "cuda" else nullcontext()
    )
