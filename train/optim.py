"""Optimisers, the learning rate of every step, and the moving average of weights."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch
from torch import nn
from torch.optim import SGD, AdamW, Optimizer, RMSprop

from zenopt.core.errors import UnknownNameError
from zenopt.train.errors import TrainError
from zenopt.train.recipe import Optimizer as OptimizerOptions
from zenopt.train.recipe import Recipe

REFERENCE_BATCH = 256  # learning rates in recipes are for this many images a step


def parameter_groups(modules: Iterable[nn.Module], options: OptimizerOptions) -> list[dict[str, object]]:
    """Return the parameters in two groups: those that decay, and norms and biases, which do not.

    Vectors are exactly the norms' parameters and the biases.
    """
    decayed: list[nn.Parameter] = []
    kept: list[nn.Parameter] = []
    for module in modules:
        for parameter in module.parameters():
            if parameter.requires_grad:
                (decayed if parameter.ndim > 1 or options.decay_norm_and_bias else kept).append(parameter)
    groups = [
        {"params": decayed, "weight_decay": options.weight_decay},
        {"params": kept, "weight_decay": 0.0},
    ]
    return [group for group in groups if group["params"]]


def build_optimizer(modules: Iterable[nn.Module], options: OptimizerOptions, batch_size: int) -> Optimizer:
    """Build the recipe's optimiser over the trainable parameters of some modules.

    Raises:
        UnknownNameError: timm has no optimiser of that name.
        TrainError: timm is not installed.
    """
    groups = parameter_groups(modules, options)
    lr = options.lr * batch_size / REFERENCE_BATCH
    if options.name == "sgd":
        nesterov = options.nesterov and options.momentum > 0  # Nesterov's step is undefined without momentum
        return SGD(groups, lr=lr, momentum=options.momentum, nesterov=nesterov)
    if options.name == "adamw":
        return AdamW(groups, lr=lr, betas=options.betas, eps=options.eps)
    if options.name == "rmsprop":
        return RMSprop(groups, lr=lr, alpha=options.alpha, momentum=options.momentum, eps=options.eps)
    name = options.name.removeprefix("timm:")
    try:
        from timm.optim import create_optimizer_v2, list_optimizers
    except ImportError:
        raise TrainError(
            f"Optimiser {options.name!r} needs the package timm, which is not installed."
        ) from None
    if name not in list_optimizers():
        known = ", ".join(f"timm:{known}" for known in list_optimizers())
        raise UnknownNameError(
            f"Optimiser {options.name!r} does not exist; known: sgd, adamw, rmsprop, {known}."
        )
    # The groups already say what decays, so timm must not split them again (weight_decay 0 keeps it from it).
    return create_optimizer_v2(groups, opt=name, lr=lr, weight_decay=0.0, momentum=options.momentum)


@dataclass(frozen=True)
class Stretch:
    """Steps of a run with a learning-rate schedule of their own.

    Attributes:
        start, end: The first of them, and the first of the next ones, counted from 0.
        warmup: How many of them warm up.
        lr: Where the warm-up leads, for 256 images a step.
        is_new: Whether the optimiser begins anew, too, without what it remembers of earlier steps.
    """

    start: int
    end: int
    warmup: int
    lr: float
    is_new: bool = False


def whole_run(recipe: Recipe, steps_per_epoch: int) -> Stretch:
    """Return the only stretch of a run that follows its recipe."""
    warmup = round(recipe.schedule.warmup_epochs * steps_per_epoch)
    return Stretch(0, recipe.epochs * steps_per_epoch, warmup, recipe.optimizer.lr)


def stretch_at(stretches: Sequence[Stretch], step: int) -> Stretch:
    """Return the stretch of a step; the last one has whatever comes after it, too."""
    return next((own for own in stretches if step < own.end), stretches[-1])


def learning_rate(step: int, stretch: Stretch, recipe: Recipe) -> float:
    """Return the learning rate of an optimiser step, counted from 0.

    Warm-up rises linearly and reaches the peak at its last step; the decay then covers the steps of the stretch that
    are left, and comes within one step of the final rate at the last one, as cosine schedules that are updated after
    each step do.
    """
    schedule, scale = recipe.schedule, recipe.batch_size / REFERENCE_BATCH
    peak, final = stretch.lr * scale, schedule.final_lr * scale
    length = stretch.end - stretch.start
    warmup = min(stretch.warmup, length - 1)
    step -= stretch.start
    if step < warmup:
        return peak * (step + 1) / warmup
    share = (step - warmup) / (length - warmup)
    if schedule.name == "cosine":
        return final + (peak - final) * 0.5 * (1 + math.cos(math.pi * share))
    if schedule.name == "linear":
        return peak + (final - peak) * share
    if schedule.name == "step":
        return peak * schedule.factor ** sum(step / length >= milestone for milestone in schedule.milestones)
    return peak


class MovingAverage:
    """An exponential moving average of a network's weights and statistics.

    The decay starts low, `(1 + n) / (10 + n)` at update n, so that the first, poor weights are forgotten.
    """

    def __init__(self, network: nn.Module, decay: float) -> None:
        self._decay = decay
        self.updates = 0
        self.state = {key: value.detach().clone() for key, value in network.state_dict().items()}

    @torch.no_grad()
    def update(self, network: nn.Module) -> None:
        self.updates += 1
        decay = min(self._decay, (1 + self.updates) / (10 + self.updates))
        for key, value in network.state_dict().items():
            if value.is_floating_point():
                self.state[key].lerp_(value.detach(), 1 - decay)
            else:
                self.state[key].copy_(value)
