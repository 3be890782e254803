"""The fitted constants of the correction; written by ``benchmarks/closed_form_fit.py``."""

from __future__ import annotations

from zenopt.closed_form.correction import Correction

FITTED = Correction(
    injection=0.814,
    area=0.3265,
    keep_local=((3, 1), (5, 0.3472), (7, 0.0008165)),
    growth=0.6903,
    growth_pointwise=0.6028,
    overlap_injection=3.011,
    overlap_width=68.22,
    overlap_keep=0.9676,
    overlap_keep_pointwise=0.2459,
    saturation=41.27,
    saturation_power=1.278,
    mean_decay=0.25,
    output_decay=0.125,
)
