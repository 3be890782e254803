"""What a profile's predictions are worth: good, to be used with care, or of no use."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

#: Mean relative error and Spearman correlation on networks not fitted, beyond which a person is warned.
WARN_ERROR, WARN_SPEARMAN = 0.15, 0.9
#: Beyond these a search by the predictions would be a search by chance.
USELESS_ERROR, USELESS_SPEARMAN = 0.30, 0.7
#: Standard error of the reference times themselves, beyond which they are part of the trouble.
_NOISY = 0.05


@dataclass(frozen=True)
class Verdict:
    """What to think of a profile.

    Attributes:
        is_usable: Whether its predictions should decide anything.
        warning: What is wrong, in words; ``None`` if nothing is.
        remedy: What to do about it; empty if nothing.
    """

    is_usable: bool
    warning: str | None = None
    remedy: str = ""


def judge(errors: Mapping[str, Any]) -> Verdict:
    """Judge a profile by its errors on networks that were not fitted.

    Args:
        errors:
            The ``errors`` of a :class:`~zenopt.latency.profile.DeviceProfile`. A profile of single kernels has no rank
            correlation, which is then not judged.
    """
    error, spearman = float(errors["mape"]), errors.get("spearman")
    # A correlation that is none: the measured or the predicted times are all alike.
    has_no_order = "spearman" in errors and spearman is None
    rank = 1.0 if spearman is None else float(spearman)
    if error <= WARN_ERROR and rank >= WARN_SPEARMAN and not has_no_order:
        return Verdict(True)
    is_usable = error <= USELESS_ERROR and rank >= USELESS_SPEARMAN and not has_no_order
    order = "" if spearman is None else f", their ranks agree with the measured ones by {rank:.2f} (Spearman)"
    meaning = (
        "they tell which of two networks is faster, but not which keeps a limit in milliseconds"
        if spearman is not None and rank >= WARN_SPEARMAN
        else "a search that trusts them will often take the slower of two networks for the faster"
        if is_usable
        else "they hardly tell which of two networks is faster"
    )
    warning = (
        f"On networks that were not fitted, predictions are off by {error:.0%} on average{order}: {meaning}."
    )
    noise = float((errors.get("noise_floor") or {}).get("standard_error", 0.0))
    remedy = "Calibrate for longer (--seconds 300) on a quiet machine; on a busy one, with --clock cpu --threads 1."
    if noise > _NOISY:
        remedy = f"The reference times themselves are known to {noise:.0%} only. {remedy}"
    return Verdict(is_usable, warning, remedy)
