"""From the names a user gives to a run or an evaluation."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Literal

import torch

from zenopt.nn.weights import load_weights
from zenopt.train import checkpoint
from zenopt.train.data import DataSet, open_data
from zenopt.train.distributed import World
from zenopt.train.engine import AMP, RunResult, fit
from zenopt.train.errors import CheckpointError, TrainError
from zenopt.train.evaluate import Evaluation, evaluate
from zenopt.train.loader import default_workers, test_loader
from zenopt.train.networks import NetworkSource, build_teacher
from zenopt.train.progress import Observer, Silent
from zenopt.train.recipe import Recipe
from zenopt.train.report import write_report


def train(
    source: NetworkSource,
    data_name: str,
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
    observer: Observer | None = None,
) -> RunResult:
    """Build the named network for the named data, train it, and write the report beside its metrics.

    Args:
        source:
            Which network.
        data_name:
            See :func:`zenopt.train.data.open_data`.
        weights:
            Weights to start from, to fine-tune. Where they are for another number of classes, the
            classifier starts anew.
        workers:
            Loader processes; None chooses by data and recipe.
        expected_classes:
            The classes that the network was searched for; a difference to the data's is told, not refused.

    The others are those of :func:`zenopt.train.engine.fit`.
    """
    observer = observer or Silent()
    if source.kind != "structure" or weights is not None:
        # Zen-NAS's initial weights are for its networks; without their norms and residuals they explode.
        recipe = recipe.model_copy(update={"model": recipe.model.model_copy(update={"init": "default"})})
    # A teacher that cannot be had must be known before any image is read.
    teacher = None
    if recipe.distill is not None:
        teacher = build_teacher(recipe.distill.teacher, recipe.distill.weights, recipe.distill.input_size)
    data = open_data(data_name, seed=seed)
    for name in data.broken:
        observer.note(f"Skipped a broken image: {name}")
    classes = len(data.classes)
    if expected_classes is not None and expected_classes != classes:
        observer.note(
            f"The bundle is for {expected_classes} classes; the classifier is built for the data's {classes} classes."
        )
    torch.manual_seed(
        seed
    )  # initial weights of recipes with `init: default`, which the layers draw themselves
    network = source.build(classes, drop_path=recipe.model.drop_path)
    if weights is not None and not load_weights(network, weights, new_classifier=True):
        observer.note(f"{weights} is for another number of classes; the classifier starts anew.")
    if workers is None:
        cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
        workers = default_workers(data, recipe, cores // world.size)
    result = fit(
        network,
        data,
        recipe,
        output=output,
        resolution=source.resolution,
        identity=source.facts(),
        world=world,
        seed=seed,
        resume=resume,
        workers=workers,
        checkpoint_steps=checkpoint_steps,
        teacher=teacher,
        observer=observer,
    )
    if world.is_first and result.evaluation is not None:
        write_report(
            output / "report.html",
            history=result.history,
            confusion=result.evaluation.confusion,
            classes=data.classes,
            title=f"{source.text if len(source.text) <= 80 else source.text[:77] + '...'} on {data.name}",
        )
    return result


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
) -> tuple[Evaluation, tuple[str, ...]]:
    """Evaluate weights on the test part of a data set; return the evaluation and the classes' names.

    Args:
        source:
            Which network; None where the weights are of a run here and say it themselves.
        data_name:
            See :func:`zenopt.train.data.open_data`.
        weights:
            A file; None needs `pretrained`.
        crop_size:
            Side of the centre crop, pixels; larger ones are reduced to the network's resolution.
        crop_ratio:
            Crop / resized short side.
        amp:
            `fp16` or `bf16`.

    Raises:
        TrainError, CheckpointError: Nothing says which network or weights, or they do not fit the data.
    """
    recipe, content = Recipe(), {}
    if weights is not None and weights.suffix != ".safetensors":
        content = checkpoint.read(weights)
        if "recipe" in content:
            recipe = Recipe.model_validate(content["recipe"])
    if source is None:
        if "network" not in content:
            raise TrainError(
                "Name the network: --bundle, --structure or --model, or --weights of a training run."
            )
        source = NetworkSource.from_facts(content["network"])
    if weights is None and not (pretrained and source.kind != "structure"):
        hint = "--weights FILE" if source.kind == "structure" else "--weights FILE or --pretrained"
        raise TrainError(f"A network without weights cannot be evaluated; give {hint}.")
    data = open_data(data_name)
    if content.get("classes") and len(content["classes"]) != len(data.classes):
        raise CheckpointError(
            f"{weights} is for {len(content['classes'])} classes, {data_name} has {len(data.classes)}."
        )
    if content.get("statistics"):
        data = DataSet(data.name, data.classes, data.train, data.test, content["statistics"], data.broken)
    if crop_ratio is not None:
        recipe = recipe.model_copy(
            update={"evaluation": recipe.evaluation.model_copy(update={"crop_ratio": crop_ratio})}
        )
    network = source.build(0 if weights is None else len(data.classes), pretrained=weights is None)
    if weights is not None:
        load_weights(network, weights)
    # A run's weights are judged as the run judged them; a published network as its authors did.
    own_crop = recipe.crop_size if "recipe" in content else source.crop_size
    batches = test_loader(
        data,
        recipe,
        crop_size=crop_size or own_crop or source.resolution,
        batch_size=batch_size,
        rank=world.rank,
        world=world.size,
    )
    evaluation = evaluate(
        network.to(world.device),
        batches,
        num_classes=len(data.classes),
        resolution=source.resolution,
        world=world,
        amp=AMP[amp] if amp else None,
    )
    return evaluation, data.classes
