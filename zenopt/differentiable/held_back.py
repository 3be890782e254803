"""The order of the images that alphas learn from."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from itertools import islice

from torch.utils.data import Sampler

from zenopt.train.loader import Key, StepSampler


class HeldBackSampler(Sampler[Key]):
    """Yields batches of held-back images, one for every step of the weights; after the last one they begin anew.

    Args:
        images, batch_size, seed:
            As of :class:`~zenopt.train.loader.StepSampler`.
        steps:
            Steps of an epoch of the weights.

    Attributes:
        epoch, first_step: Where the weights stand.
    """

    def __init__(self, images: int, batch_size: int, seed: int, steps: int) -> None:
        self._own = StepSampler(images, batch_size, seed)
        self._steps = steps
        self.epoch = self.first_step = 0

    def __len__(self) -> int:
        return self._steps - self.first_step

    def __iter__(self) -> Iterator[Key]:
        left, done = len(self), self.epoch * self._steps + self.first_step
        while left:
            epoch, step = divmod(done, self._own.steps)
            keys = list(islice(replace(self._own, epoch=epoch, first_step=step), left))
            # They have their own order, but the settings of the weights' epoch.
            yield from (key._replace(epoch=self.epoch) for key in keys)
            left, done = left - len(keys), done + len(keys)
