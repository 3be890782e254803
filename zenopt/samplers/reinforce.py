"""REINFORCE: a controller that makes likelier what is better than its average.

Williams, "Simple Statistical Gradient-Following Algorithms for Connectionist Reinforcement Learning", Machine Learning
8, 1992; for architectures Zoph & Le, ICLR 2017, and Dong & Yang, "NAS-Bench-201", ICLR 2020.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from zenopt.samplers.controller import ControllerSampler, Lesson
from zenopt.samplers.policy import Adam, Array


class ReinforceSampler(ControllerSampler):
    """A controller that takes one step of Adam per batch up the policy gradient.

    The gradient is that of the log-probability of a trial's decisions times its advantage, plus ``entropy`` times the
    policy's entropy. By default every trial is a batch of its own.

    Deliberate differences from NAS-Bench-201's baseline, which learns a table of independent probabilities from plain
    accuracies with a learning rate of 0.001: an LSTM, ranks as rewards, 0.01, and nothing is evaluated twice.
    """

    def learn(
        self, weights: Array, moments: Adam, batch: Sequence[Lesson], number: int
    ) -> tuple[Array, Adam]:
        """Return weights and moments after one step."""
        gradient, entropy = np.zeros_like(weights), self._entropy.at(number)
        for lesson in batch:
            steps = self._policy.follow(weights, lesson.decisions)
            gradient += self._policy.gradient(weights, steps, lesson.advantage, entropy)
        return moments.ascend(weights, gradient / len(batch), self._rate.at(number))
