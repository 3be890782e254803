"""Constants of the correction for finite width and finite batch, fitted by ``benchmarks/closed_form_fit.py``."""

from __future__ import annotations

from dataclasses import dataclass

#: The largest batch among the measurements the constants were fitted on.
LARGEST_BATCH = 64


@dataclass(frozen=True)
class Correction:
    """How the scale of activations spreads from layer to layer, and what a batch of few samples sees of it.

    A position's activations share a random scale. Its relative variance has a part that a whole sample shares,
    ``whole``, and a part of short range, ``local``; ``overlap`` is the mean squared correlation of different samples.
    All three are linear recursions over the layers of a network.

    Attributes:
        injection: Scale variance that a layer reading ``n`` channels adds is ``injection / n``.
        area: Pixels that share what is added, per pixel of the block's largest window; the share of it that the whole
            map has in common joins ``whole``.
        keep_local: Share of ``local`` that survives a window, by kernel.
        growth: On a map with hills (see :mod:`zenopt.spaces.chain.closed_form.edges`) a sample of larger scale
        reaches the border
            more weakly, so ``whole`` grows by this much per window and unit of the pattern's variance.
        growth_pointwise: The same for 1x1 convolutions, as a share of ``growth``.
        overlap_injection, overlap_width: A layer adds ``overlap_injection / (n + overlap_width)`` to ``overlap``.
        overlap_keep, overlap_keep_pointwise: Share of ``overlap`` that survives a window or a 1x1 convolution.
        saturation, saturation_power: A batch of ``B`` shows ``q / (1 + saturation q / B**saturation_power)`` of a scale
            variance ``q``.
        mean_decay: The squared mean of activations falls by ``exp(-mean_decay q)``; 1/4 for log-normal scales.
        output_decay: The logarithm of the output distance falls by ``output_decay q``; 1/8 for log-normal scales.
    """

    injection: float
    area: float
    keep_local: tuple[tuple[int, float], ...]
    growth: float
    growth_pointwise: float
    overlap_injection: float
    overlap_width: float
    overlap_keep: float
    overlap_keep_pointwise: float
    saturation: float
    saturation_power: float
    mean_decay: float
    output_decay: float

    def local_kept(self, kernel: int) -> float:
        """Return the share of local scale variance that survives a convolution."""
        kept = 1.0
        for size, share in self.keep_local:
            if kernel >= size:
                kept = share
        return kept

    def saturation_of(self, batch_size: int) -> float:
        """Return the factor ``s`` of ``q / (1 + s q)``; larger batches than were measured count as the largest."""
        return self.saturation / float(min(batch_size, LARGEST_BATCH)) ** self.saturation_power
