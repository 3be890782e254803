"""The fitted constants of the correction; written by ``benchmarks/closed_form_fit.py``."""

from __future__ import annotations

from zenopt.spaces.chain.closed_form.correction import Correction

FITTED = Correction(
    injection=0.6896,
    area=0.3265,
    keep_local=((3, 0.9998), (5, 0.3261), (7, 0.002057)),
    growth=0.6386,
    growth_pointwise=0.7163,
    overlap_injection=1.971,
    overlap_width=40.28,
    overlap_keep=0.9456,
    overlap_keep_pointwise=0.2417,
    saturation=18.78,
    saturation_power=0.8769,
    mean_decay=0.25,
    output_decay=0.125,
)
