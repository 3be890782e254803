"""From trained weights to files for other programs, with their accuracy."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from zenopt.export.deploy import SUFFIXES, accuracy, export_network, load_exported, quantize_onnx
from zenopt.export.standalone import write_model_file
from zenopt.nn.weights import count_classes, load_weights, read_weights
from zenopt.train import checkpoint
from zenopt.train.checkpoint import write_file
from zenopt.train.data import DataSet
from zenopt.train.distributed import World
from zenopt.train.errors import CheckpointError, TrainError
from zenopt.train.features import reduce_images
from zenopt.train.folder import held
from zenopt.train.loader import channel_statistics, test_loader
from zenopt.train.networks import NetworkSource
from zenopt.train.progress import Observer, Silent
from zenopt.train.recipe import Recipe
from zenopt.train.run import prepare_data
from zenopt.train.subsets import ChosenImages


def deploy_weights(
    weights: Path,
    output: Path,
    formats: Sequence[str],
    *,
    source: NetworkSource | None = None,
    data_name: str | None = None,
    share: float = 1.0,
    download: bool = False,
    int8: bool = False,
    calibration_images: int = 512,
    observer: Observer | None = None,
) -> dict[str, Any]:
    """Export a network with its weights, and return what `deploy.json` holds.

    Args:
        weights:
            `best.pt` or `last.pt` of a run; or other weights, with a source.
        output:
            The folder to write to.
        formats:
            Some of `torchscript`, `torch-export`, `onnx`.
        source:
            Which network; None where the weights are of a run here and say it themselves.
        data_name:
            See :func:`zenopt.train.data.open_data`; test images judge every file, training images calibrate int8.
        share, download:
            See :func:`zenopt.train.run.prepare_data`.
        int8:
            Also write an int8 version of the ONNX file.
        calibration_images:
            Training images whose activations set the int8 ranges.
        observer:
            Shown the progress.

    Raises:
        TrainError: int8 without data.
        CheckpointError: The weights do not say their network and no source does, or they do not fit the data.
        DeployError: An export fails, or does not compute what the network does.
    """
    observer = observer or Silent()
    content = checkpoint.read_facts(weights)
    is_run = set(checkpoint.FACTS) <= content.keys()
    if source is None and not is_run:
        raise CheckpointError(
            f"{weights} is not a checkpoint of a training run; name its network: --bundle, --study, --structure or "
            "--model."
        )
    if int8 and data_name is None:
        raise TrainError("int8 needs --data: training images to calibrate with, test images to judge by.")
    if int8 and "onnx" not in formats:
        formats = [*formats, "onnx"]
    recipe = Recipe.model_validate(content["recipe"]) if is_run else Recipe()
    source = source or NetworkSource.from_facts(content["network"])
    data = None
    if data_name is not None:
        alone = World(0, 1, torch.device("cpu"))
        data = prepare_data(data_name, world=alone, share=share, download=download, observer=observer)
    statistics = (
        content.get("statistics") or source.statistics or (data.statistics if data is not None else None)
    )
    classes = content.get("classes") or _class_names(weights, data)
    network = source.build(len(classes)).eval()
    load_weights(network, weights)

    side = source.resolution
    mean, std = channel_statistics(recipe, statistics) if statistics is not None else (None, None)
    facts: dict[str, Any] = {"resolution": side, "classes": classes, "mean": mean, "std": std, "files": []}
    crop = recipe.crop_size if is_run else source.crop_size

    def batches(judged: DataSet, label: str) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        done = 0
        for batch in test_loader(judged, recipe, crop_size=crop or side, batch_size=64):
            observer.work(label, done, len(judged.test))
            done += len(batch.images)
            if len(batch.images):
                yield reduce_images(batch.images, side), batch.targets
        observer.work(label, len(judged.test), len(judged.test))

    def judged(run: Callable[[torch.Tensor], torch.Tensor], name: str) -> dict[str, float]:
        return {} if data is None else {"top1": accuracy(run, batches(data, f"{name}: test images"))}

    if data is not None:
        if len(data.classes) != len(classes):
            raise CheckpointError(
                f"{weights} is for {len(classes)} classes, {data_name} has {len(data.classes)}."
            )
        data = replace(data, statistics=statistics or data.statistics)
        facts |= judged(network, "eager")
    with held(output, note=observer.note):
        for format in formats:
            file = output / f"network{SUFFIXES[format]}" if format in SUFFIXES else output
            observer.work(f"writing {file.name}", 0, None)
            made = export_network(network, file, format=format, resolution=side)
            observer.work(f"writing {file.name}", 1, 1)
            entry = {
                "format": format,
                "file": file.name,
                "bytes": made.file_bytes,
                "max_error": made.max_error,
            }
            entry |= {"max_relative_error": made.max_relative_error}
            facts["files"].append(entry | judged(load_exported(file, format), file.name))
        if int8 and data is not None:
            count = min(calibration_images, len(data.train))
            # At even distances: folders list their images class by class.
            spread = ChosenImages(data.train, torch.arange(count) * len(data.train) // count)
            images = (images for images, _ in batches(replace(data, test=spread), "calibration images"))
            file = quantize_onnx(output / "network.onnx", output / "network-int8.onnx", images)
            entry = {"format": "onnx-int8", "file": file.name, "bytes": file.stat().st_size}
            facts["files"].append(entry | judged(load_exported(file, "onnx"), file.name))
        architecture = source.architecture
        if architecture is not None:
            write_model_file(
                architecture,
                output / "model.py",
                resolution=side,
                num_classes=len(classes),
                use_se=source.use_se,
            )
            facts["files"].append({"format": "python", "file": "model.py"})
        write_file(output / "deploy.json", (json.dumps(facts, indent=2) + "\n").encode())
    return facts


def _class_names(weights: Path, data: DataSet | None) -> list[str]:
    """Return the classes of weights that do not name them: the data's where they are as many."""
    count = count_classes(read_weights(weights), f"Checkpoint {weights}")
    if data is not None and len(data.classes) == count:
        return list(data.classes)
    return [f"class {index}" for index in range(count)]
