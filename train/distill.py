"""Knowledge distillation as Zen-NAS does it: the teacher's feature maps and its class probabilities."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import nn

from zenopt.train.errors import TrainError
from zenopt.train.features import FeatureTap, reduce_images
from zenopt.train.recipe import Distill


class Distiller(nn.Module):
    """The loss against a frozen teacher.

    Loss = feature_weight * sum over ratios of smooth-L1(1x1 convolution of the student's map, teacher's map)
    + logit_weight * T^2 * cross-entropy(softmax(teacher / T), log-softmax(student / T)).

    The teacher's map is resized to the student's. The factor T^2 keeps the size of gradients when T is
    changed (Hinton et al. 2015); at the published T = 1 it is 1. The convolutions (with bias, without norm and
    ReLU) begin near zero, N(0, 1e-4 / sqrt(outputs)), are trained along and thrown away.

    Args:
        teacher:
            The teacher; it is frozen and stays in evaluation mode.
        student:
            Taps the student's feature maps; only needed for a feature loss.
        options:
            Weights, ratios, temperature.
        input_size:
            The teacher's input side, pixels.
    """

    def __init__(
        self, teacher: nn.Module, student: FeatureTap | None, options: Distill, input_size: int
    ) -> None:
        super().__init__()
        for parameter in teacher.parameters():
            parameter.requires_grad_(False)
        # In a tuple it is no submodule: train() does not reach it, checkpoints do not hold it, DDP does not
        # broadcast it.
        self._teacher = (teacher.eval(),)
        self._student = student
        self.options = options
        self._input_size = input_size
        self._tap: FeatureTap | None = None
        self.adapters = nn.ModuleDict()
        if options.feature_weight and student is not None:
            self._tap = FeatureTap(teacher, options.ratios, input_size)
            for ratio in options.ratios:
                adapter = nn.Conv2d(student.channels[ratio], self._tap.channels[ratio], 1)
                nn.init.normal_(adapter.weight, std=1e-4 / math.sqrt(self._tap.channels[ratio]))
                assert adapter.bias is not None
                nn.init.zeros_(adapter.bias)
                self.adapters[str(ratio)] = adapter

    def forward(self, images: torch.Tensor, logits: torch.Tensor) -> torch.Tensor:
        """Return the loss of the student's last forward pass.

        Args:
            images:
                The batch as the data pipeline delivers it, `batch x 3 x crop x crop`.
            logits:
                What the student made of it, `batch x classes`.
        """
        with torch.no_grad():
            teacher_logits = self._teacher[0](reduce_images(images, self._input_size))
        loss = logits.new_zeros(())
        if self._tap is not None and self._student is not None:
            for ratio, adapter in self.adapters.items():
                feature = adapter(self._student.maps[int(ratio)])
                goal = self._tap.maps[int(ratio)].to(feature.dtype)
                if goal.shape[-2:] != feature.shape[-2:]:
                    goal = F.interpolate(goal, size=feature.shape[-2:], mode="bilinear", align_corners=False)
                loss = loss + self.options.feature_weight * F.smooth_l1_loss(feature, goal)
        if self.options.logit_weight:
            if teacher_logits.shape != logits.shape:
                raise TrainError(
                    f"The teacher knows {teacher_logits.shape[1]} classes, the data {logits.shape[1]}; "
                    "set distill.logit_weight=0 to learn from its features alone."
                )
            t = self.options.temperature
            soft = F.softmax(teacher_logits.float() / t, dim=1)
            cross = -(soft * F.log_softmax(logits.float() / t, dim=1)).sum(dim=1).mean()
            loss = loss + self.options.logit_weight * t * t * cross
        return loss
