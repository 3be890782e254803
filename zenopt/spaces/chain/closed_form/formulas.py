"""The closed forms under the names by which architectures offer them."""

from __future__ import annotations

from zenopt.spaces.chain.architecture import Architecture
from zenopt.spaces.chain.closed_form.batch64 import batch_correction
from zenopt.spaces.chain.closed_form.scalar import closed_form_zen


def zen(
    architecture: Architecture, *, resolution: int, num_classes: int, batch_size: int | None, gamma: float
) -> float:
    """Return the expected Zen-score, without residual links."""
    return closed_form_zen(architecture, resolution, gamma=gamma, batch_size=batch_size)


def zen_at_64(
    architecture: Architecture, *, resolution: int, num_classes: int, batch_size: int | None, gamma: float
) -> float | None:
    """Return what the Zen-score of a small batch lacks to that of 64 images; ``None`` where nothing was fitted."""
    return batch_correction(architecture, resolution, batch_size)
