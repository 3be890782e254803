"""From the names a user gives to a run or an evaluation."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Literal

import torch
from torch import nn

from zenopt.nn.weights import load_weights
from zenopt.train import checkpoint
from zenopt.train.data import DataSet, Statistics, StatisticsName, open_data
from zenopt.train.distributed import World
from zenopt.train.download import download as fetch
from zenopt.train.engine import AMP, RunResult, fit
from zenopt.train.errors import CheckpointError, TrainError
from zenopt.train.evaluate import Evaluation, evaluate
from zenopt.train.loader import default_workers, test_loader
from zenopt.train.networks import NetworkSource, build_teacher
from zenopt.train.progress import Observer, Silent
from zenopt.train.recipe import Recipe
from zenopt.train.subsets import share_of


def prepare_data(
    name: str,
    *,
    world: World,
    seed: int = 0,
    share: float = 1.0,
    download: bool = False,
    observer: Observer | None = None,
) -> DataSet:
    """Open a data set, or a share of it, fetching it first where that is asked for.

    Args:
        name:
            See :func:`zenopt.train.data.open_data`.
        world:
            The processes that read it; the first one fetches.
        seed:
            Draws synthetic images.
        share:
            Of each class's training and test images, in (0, 1].
        download:
            Fetch CIFAR-10 or CIFAR-100 unless it is there.
        observer:
            Told of broken images.

    Raises:
        DataError: It is missing, malformed, or cannot be fetched.
    """
    if download:
        if world.is_first:
            fetch(name)
        world.wait()
    data = share_of(open_data(name, seed=seed), share)
    for image in data.broken:
        (observer or Silent()).note(f"Skipped a broken image: {image}")
    return data


def build_for_training(
    source: NetworkSource, recipe: Recipe, classes: int, *, seed: int = 0, weights: Path | None = None
) -> tuple[nn.Module, Recipe, bool]:
    """Build a network, with its first weights where it is fine-tuned.

    Returns:
        The network, the recipe that suits it (its initialisation is Zen-NAS's only for networks that it suits, and
        none at all for weights that are there), and whether the classifier has the weights of the file.
    """
    own_init = recipe.model.init != "custom" or source.has_zen_init
    if weights is not None or not own_init:
        # Without their norms and residuals Zen-NAS's weights explode.
        recipe = recipe.model_copy(update={"model": recipe.model.model_copy(update={"init": "default"})})
    torch.manual_seed(seed)  # `init: default` is what the layers draw themselves
    network = source.build(classes, drop_path=recipe.at_epoch(0).model.drop_path)
    loaded = weights is None or load_weights(network, weights, new_classifier=True)
    return network, recipe, loaded


def train(
    source: NetworkSource,
    data: DataSet | str,
    recipe: Recipe,
    *,
    output: Path,
    world: World,
    weights: Path | None = None,
    seed: int = 0,
    resume: Literal["never", "must", "auto"] = "never",
    workers: int | None = None,
    checkpoint_steps: int = 1000,
    expected_classes: int | None = None,
    teacher: tuple[nn.Module, int] | None = None,
    loggers: Sequence[str] = (),
    observer: Observer | None = None,
) -> RunResult:
    """Build the named network for the data and train it.

    Args:
        source:
            Which network.
        data:
            A data set, or its name (see :func:`zenopt.train.data.open_data`).
        weights:
            Weights to start from, to fine-tune. Where they are for another number of classes, the
            classifier starts anew.
        workers:
            Loader processes; None chooses by data and recipe.
        expected_classes:
            The classes that the network was searched for; a difference to the data's is told, not refused.
        teacher:
            What :func:`find_teacher` found; None looks for it.

    The others are those of :func:`zenopt.train.engine.fit`.
    """
    observer = observer or Silent()
    # A teacher that cannot be had must be known before any image is read.
    teacher = teacher or find_teacher(recipe)
    if isinstance(data, str):
        data = prepare_data(data, world=world, seed=seed, observer=observer)
    classes = len(data.classes)
    if expected_classes is not None and expected_classes != classes:
        observer.note(
            f"The bundle is for {expected_classes} classes; the classifier is built for the data's {classes}."
        )
    network, recipe, loaded = build_for_training(source, recipe, classes, seed=seed, weights=weights)
    if not loaded:
        observer.note(f"{weights} is for another number of classes; the classifier starts anew.")
    if weights is not None and source.statistics is not None:
        data = replace(data, statistics=source.statistics)  # published weights know no other
    return fit(
        network,
        data,
        recipe,
        output=output,
        resolution=source.resolution,
        identity=source.facts(),
        world=world,
        seed=seed,
        resume=resume,
        workers=loader_workers(data, recipe, world) if workers is None else workers,
        checkpoint_steps=checkpoint_steps,
        teacher=teacher,
        loggers=loggers,
        observer=observer,
    )


def find_teacher(recipe: Recipe) -> tuple[nn.Module, int] | None:
    """Return the recipe's teacher with its weights, and its input side; None where it has no teacher.

    Raises:
        TrainError, CheckpointError, UnknownNameError: The teacher or its weights cannot be had.
    """
    found = recipe.distill
    return build_teacher(found.teacher, found.weights, found.input_size) if found is not None else None


def loader_workers(data: DataSet, recipe: Recipe, world: World) -> int:
    """Return how many loader processes suit this machine, shared among the processes of a run."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return default_workers(data, recipe, cores // world.size)


def evaluate_weights(
    source: NetworkSource | None,
    data_name: str,
    *,
    world: World,
    weights: Path | None = None,
    pretrained: bool = False,
    crop_size: int | None = None,
    crop_ratio: float | None = None,
    batch_size: int = 256,
    amp: str | None = None,
    share: float = 1.0,
    download: bool = False,
    observer: Observer | None = None,
) -> tuple[Evaluation, tuple[str, ...]]:
    """Evaluate weights on the test part of a data set; return the evaluation and the classes' names.

    A run's weights are judged as the run judged them; published weights as their authors did: with their channel
    statistics, their crop and their interpolation.

    Args:
        source:
            Which network; None where the weights are of a run here and say it themselves.
        data_name:
            See :func:`zenopt.train.data.open_data`.
        weights:
            A file; None needs `pretrained`.
        pretrained:
            Take the weights of timm or torchvision.
        crop_size:
            Side of the centre crop, pixels; larger ones are reduced to the network's resolution.
        crop_ratio:
            Crop / resized short side.
        amp:
            `fp16` or `bf16`.
        share, download:
            See :func:`prepare_data`.
        observer:
            Shown the progress.

    Raises:
        TrainError, CheckpointError: Nothing says which network or weights, they do not fit the data, or their outputs
            are no numbers.
    """
    observer = observer or Silent()
    recipe, content = Recipe(), checkpoint.read_facts(weights)
    if "recipe" in content:
        recipe = Recipe.model_validate(content["recipe"])
    if source is None:
        if "network" not in content:
            raise TrainError(
                "Name the network: --bundle, --study, --structure or --model, or --weights of a training run."
            )
        source = NetworkSource.from_facts(content["network"])
    if weights is None and not (pretrained and source.kind != "structure"):
        hint = "--weights FILE" if source.kind == "structure" else "--weights FILE or --pretrained"
        raise TrainError(f"A network without weights cannot be evaluated; give {hint}.")
    data = prepare_data(data_name, world=world, share=share, download=download, observer=observer)
    if content.get("classes") and len(content["classes"]) != len(data.classes):
        raise CheckpointError(
            f"{weights} is for {len(content['classes'])} classes, {data_name} has {len(data.classes)}."
        )
    judged = recipe.evaluation.model_dump()
    own_crop = recipe.crop_size if "recipe" in content else source.crop_size
    known: StatisticsName | Statistics | None = content.get("statistics") or source.statistics
    if known is not None:
        data = replace(data, statistics=known)
    elif weights is None:
        published = source.published_evaluation()
        data = replace(data, statistics=published.statistics)
        judged |= {"crop_ratio": published.crop_ratio, "interpolation": published.interpolation}
        own_crop = published.crop_size
    if crop_ratio is not None:
        judged["crop_ratio"] = crop_ratio
    recipe = recipe.model_copy(update={"evaluation": type(recipe.evaluation).model_validate(judged)})
    network = source.build(0 if weights is None else len(data.classes), pretrained=weights is None)
    if weights is not None:
        load_weights(network, weights)
    batches = test_loader(
        data,
        recipe,
        crop_size=crop_size or own_crop or source.resolution,
        batch_size=batch_size,
        rank=world.rank,
        world=world.size,
        pin=world.device.type == "cuda",
    )
    own_images = len(range(world.rank, len(data.test), world.size))
    evaluation = evaluate(
        network.to(world.device),
        batches,
        num_classes=len(data.classes),
        resolution=source.resolution,
        world=world,
        amp=AMP[amp] if amp else None,
        on_batch=lambda done: observer.work("test images", done, own_images),
    )
    observer.work("test images", own_images, own_images)
    if evaluation.undefined:
        hint = " or do not bear --amp fp16" if amp == "fp16" else ""
        raise TrainError(
            f"The network's outputs on {evaluation.undefined} of {evaluation.images} test images are no numbers: these "
            f"weights have diverged{hint}."
        )
    return evaluation, data.classes
