"""PPO: a controller that learns from a batch several times, but never goes far from what it was.

Schulman, Wolski, Dhariwal, Radford & Klimov, "Proximal Policy Optimization Algorithms", 2017: the clipped objective.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import exp
from typing import Any

import numpy as np

from zenopt.core.changing import Changing
from zenopt.core.errors import SpecError
from zenopt.latency.limits import Limits
from zenopt.samplers.controller import ControllerSampler, Lesson
from zenopt.samplers.policy import Adam, Array


class PPOSampler(ControllerSampler):
    """A controller that takes ``epochs`` steps of Adam per batch up the clipped objective.

    A trial counts by how much likelier its decisions have become since the batch began, but no further than by the
    factor ``1 + clip``, or ``1 - clip`` for what was worse than the average.

    Args:
        space, limits:
            As for :class:`~zenopt.samplers.controller.ControllerSampler`.
        batch:
            Trials of one update.
        epochs:
            Steps per batch.
        clip:
            How much likelier or less likely an update may make the decisions of a trial; it may change over the study.
        options:
            Further keyword arguments of :class:`~zenopt.samplers.controller.ControllerSampler`.
    """

    def __init__(
        self,
        space: Any,
        limits: Limits,
        *,
        batch: int = 4,
        epochs: int = 4,
        clip: float | Changing = 0.2,
        **options: Any,
    ) -> None:
        self._epochs, self._clip = epochs, Changing.of(clip)
        if not 0 < self._clip.start < 1:
            raise SpecError(f"ppo needs a clip between 0 and 1, got {self._clip.start:g}.")
        super().__init__(space, limits, batch=batch, **options)

    def learn(
        self, weights: Array, moments: Adam, batch: Sequence[Lesson], number: int
    ) -> tuple[Array, Adam]:
        """Return weights and moments after the steps of a batch."""
        rate, entropy, clip = self._rate.at(number), self._entropy.at(number), self._clip.at(number)
        before: list[float] = []
        for _ in range(self._epochs):
            traces = [self._policy.follow(weights, lesson.decisions) for lesson in batch]
            likely = [sum(step.log_probability for step in steps) for steps in traces]
            before = before or likely
            gradient = np.zeros_like(weights)
            for lesson, steps, now, then in zip(batch, traces, likely, before, strict=True):
                ratio = exp(now - then)
                # Past the clip the objective is flat, on the side that the advantage leads to.
                is_flat = ratio > 1 + clip if lesson.advantage > 0 else ratio < 1 - clip
                weight = 0.0 if is_flat else ratio * lesson.advantage
                gradient += self._policy.gradient(weights, steps, weight, entropy)
            weights, moments = moments.ascend(weights, gradient / len(batch), rate)
        return weights, moments
