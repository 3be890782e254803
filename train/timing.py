"""How long a training will take, from a few steps on the device that will do it."""

from __future__ import annotations

import copy
import time
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import nn

from zenopt.train.data import DataSet
from zenopt.train.engine import AMP
from zenopt.train.layout import put_channels_last
from zenopt.train.loader import Key, TestBatches, TrainBatches, resident
from zenopt.train.objective import Objective
from zenopt.train.optim import build_optimizer
from zenopt.train.recipe import Recipe

_FIRST_SIZE = 8  # images of the first step; doubled until the batch is whole or a step takes a while
_LINEAR = 1.6  # a doubled step that takes this much longer is paid by the image
_PATIENCE = 5  # times `seconds` that a single step may take
_REPEATS = 5
_LOADED = 32  # images that are loaded to time the loading


@dataclass(frozen=True)
class Estimate:
    """What a training will take, but for what else the machine does.

    Attributes:
        device: Where it was measured.
        train_images_per_second: Of whole steps, over all processes, loading included where data was given.
        test_images_per_second: Of evaluations.
        epoch_seconds: An epoch with its share of evaluations.
        total_seconds: All epochs.
    """

    device: str
    train_images_per_second: float
    test_images_per_second: float
    epoch_seconds: float
    total_seconds: float

    def text(self) -> str:
        """Return the estimate as a line for people."""
        return (
            f"{_rate(self.train_images_per_second)} images/s on {self.device}: {duration(self.epoch_seconds)} an "
            f"epoch, about {duration(self.total_seconds)}"
        )


def estimate_training(
    network: nn.Module,
    recipe: Recipe,
    *,
    resolution: int,
    num_classes: int,
    train_images: int,
    test_images: int = 0,
    device: torch.device | str = "cpu",
    data: DataSet | None = None,
    workers: int = 0,
    processes: int = 1,
    teacher: tuple[nn.Module, int] | None = None,
    seconds: float = 1.0,
) -> Estimate:
    """Measure a few steps of a training and of an evaluation, and say what the whole will take.

    Args:
        network:
            What would be trained; copies are, it stays as it is.
        recipe:
            How; its batch is taken whole where the device does it in time.
        resolution:
            The network's input side, pixels.
        num_classes:
            Outputs of the classifier.
        train_images, test_images:
            How many there are.
        device:
            Where.
        data:
            The data set, to time its loading too.
        workers:
            Loader processes.
        processes:
            Training processes that share every batch.
        teacher:
            A teacher and its input side, where the recipe distils.
        seconds:
            About how long to measure for each of the two; a slow network takes as long as one small step.
    """
    device, recipe = torch.device(device), recipe.at_epoch(0)
    crop = recipe.crop_size or resolution
    batch = min(recipe.batch_size, train_images)
    piece = max(1, batch // (processes * recipe.accumulate))
    if teacher is not None:
        teacher = (copy.deepcopy(teacher[0]).to(device), teacher[1])
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        network = copy.deepcopy(network).to(device)
        channels_last = recipe.precision.channels_last
        if channels_last:
            network = put_channels_last(network, device)
        objective = Objective(network, recipe, num_classes, resolution, teacher).to(device)
        train_s = _seconds_per_image(
            _trainer(objective, recipe, crop, num_classes, device, channels_last), piece, seconds, device
        )
        network.eval()
        test_s = _seconds_per_image(_evaluator(network, resolution, device), 256, seconds / 2, device)
    if data is not None:
        placed = resident(data, recipe, crop, device) if device.type == "cuda" else None
        workers = workers if placed is None else 0
        train_load_s, test_load_s = _load_seconds(placed or data, recipe, crop, device)
        shared = train_load_s / max(1, workers)
        # Loaders work beside a GPU, but take turns with a CPU that trains.
        train_s = max(train_s, shared) if device.type == "cuda" and workers else train_s + shared
        test_s += test_load_s / max(1, min(workers, 2))
    steps = max(1, train_images // batch)
    epoch_s = (steps * batch * train_s + test_images * test_s / recipe.evaluation.every_epochs) / processes
    return Estimate(_name(device), processes / train_s, processes / test_s, epoch_s, recipe.epochs * epoch_s)


def _trainer(
    objective: Objective,
    recipe: Recipe,
    crop: int,
    num_classes: int,
    device: torch.device,
    channels_last: bool,
) -> Callable[[int], None]:
    """Return what trains one step on so many images."""
    optimizer = build_optimizer([objective], recipe.optimizer, recipe.batch_size)
    amp = AMP[recipe.precision.amp] if recipe.precision.amp else None
    scaler = torch.amp.GradScaler(device.type, enabled=amp is torch.float16)
    objective.train()

    def step(count: int) -> None:
        images = torch.randn(count, 3, crop, crop, device=device)
        if channels_last:
            images = images.contiguous(memory_format=torch.channels_last)
        targets = torch.randint(0, num_classes, (count,), device=device)
        with torch.autocast(device.type, dtype=amp, enabled=amp is not None):
            loss = objective(images, targets)
        scaler.scale(loss).backward()
        scaler.step(optimizer)
        scaler.update()
        optimizer.zero_grad(set_to_none=True)

    return step


def _evaluator(network: nn.Module, resolution: int, device: torch.device) -> Callable[[int], None]:
    @torch.inference_mode()
    def step(count: int) -> None:
        network(torch.randn(count, 3, resolution, resolution, device=device))

    return step


def _seconds_per_image(step: Callable[[int], None], full: int, seconds: float, device: torch.device) -> float:
    """Time steps of up to `full` images: doubled until they cost by the image, not by the step, or take too long."""
    size, before = min(full, _FIRST_SIZE), 0.0
    while True:
        spent = _timed(step, size, device)
        if spent < seconds / 4:
            spent = min(spent, _timed(step, size, device))  # the first one also allocates and chooses kernels
        costs_by_image = before > 0 and spent > _LINEAR * before
        if size == full or (spent > seconds and costs_by_image) or spent > _PATIENCE * seconds:
            break
        size, before = min(full, 2 * size), spent
    times = [spent]
    # The first step of a size also allocates and chooses kernels: a second one is worth its time.
    while (sum(times) < seconds or (len(times) == 1 and spent < 2 * seconds)) and len(times) < _REPEATS:
        times.append(_timed(step, size, device))
    return sorted(times)[(len(times) - 1) // 2] / size


def _timed(step: Callable[[int], None], size: int, device: torch.device) -> float:
    _synchronise(device)
    start = time.perf_counter()
    step(size)
    _synchronise(device)
    return time.perf_counter() - start


def _synchronise(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def _load_seconds(data: DataSet, recipe: Recipe, crop: int, device: torch.device) -> tuple[float, float]:
    """Return the seconds in which one process, or the GPU where images lie on it, makes a training and a test image."""
    on_gpu = data.train.labels.is_cuda
    count = min(recipe.batch_size if on_gpu else _LOADED, len(data.train))
    # At even distances, as shuffled ones lie on a disk.
    places = (torch.arange(count) * len(data.train) // count).tolist()
    train = TrainBatches(data.train, len(data.classes), recipe, crop, data.statistics)
    batch = min(count, len(data.test))
    test = TestBatches(data.test, recipe, crop, data.statistics, batch, 0, 1)
    for _ in range(2 if on_gpu else 1):  # a GPU's kernels are loaded when they are first used
        _synchronise(device)
        start = time.perf_counter()
        train[Key((0, 0, 0), places, slice(0, count))]
        _synchronise(device)
        middle = time.perf_counter()
        test[0]
        _synchronise(device)
        end = time.perf_counter()
    return (middle - start) / count, (end - middle) / batch


def _name(device: torch.device) -> str:
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    if device.type == "cpu":
        threads = torch.get_num_threads()
        return f"the CPU ({threads} thread{'s' * (threads > 1)})"
    return device.type


def _rate(value: float) -> str:
    return f"{value:,.0f}" if value >= 10 else f"{value:.2g}"


def duration(seconds: float) -> str:
    """Return a duration in the unit that suits it, e.g. `12 s`, `4.5 min`, `3 h`, `2.5 days`."""
    for limit, unit, name in (
        (90, 1, "s"),
        (90 * 60, 60, "min"),
        (36 * 3600, 3600, "h"),
        (float("inf"), 86400, "days"),
    ):
        if seconds < limit:
            value = seconds / unit
            return f"{value:.0f} {name}" if value >= 10 else f"{value:.2g} {name}"
    raise AssertionError
