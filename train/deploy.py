"""From the checkpoint of a run to files for other programs, with their accuracy."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from zenopt.export.deploy import SUFFIXES, accuracy, export_network, load_exported, quantize_onnx
from zenopt.export.standalone import write_model_file
from zenopt.nn.weights import load_weights
from zenopt.spaces.registry import parse_architecture
from zenopt.train import checkpoint
from zenopt.train.checkpoint import write_file
from zenopt.train.data import STATISTICS, DataSet, Images, open_data
from zenopt.train.errors import CheckpointError, TrainError
from zenopt.train.features import reduce_images
from zenopt.train.loader import test_loader
from zenopt.train.networks import NetworkSource
from zenopt.train.recipe import Recipe


@dataclass(frozen=True)
class Spread:
    """`count` images taken at even distances from others; folders list them class by class."""

    images: Images
    count: int

    def __len__(self) -> int:
        return min(self.count, len(self.images))

    @property
    def labels(self) -> torch.Tensor:
        return self.images.labels[torch.tensor([self._place(index) for index in range(len(self))])]

    def load(self, index: int) -> torch.Tensor:
        return self.images.load(self._place(index))

    def _place(self, index: int) -> int:
        return index * len(self.images) // len(self)


def deploy_run(
    weights: Path,
    output: Path,
    formats: Sequence[str],
    *,
    data_name: str | None = None,
    int8: bool = False,
    calibration_images: int = 512,
) -> dict[str, Any]:
    """Export the network of a training run's checkpoint, and return what `deploy.json` holds.

    Args:
        weights:
            `best.pt` or `last.pt`.
        output:
            The folder to write to.
        formats:
            Some of `torchscript`, `torch-export`, `onnx`.
        data_name:
            See :func:`zenopt.train.data.open_data`; test images judge every file, training images calibrate int8.
        int8:
            Also write an int8 version of the ONNX file.
        calibration_images:
            Training images whose activations set the int8 ranges.

    Raises:
        CheckpointError: The checkpoint is not of a run, or of other classes than the data's.
        TrainError: int8 is asked for without data.
        DeployError: An export fails or computes something else.
    """
    content = checkpoint.read(weights, checkpoint.FACTS)
    if int8 and data_name is None:
        raise TrainError("int8 needs --data: training images to calibrate with, test images to judge by.")
    if int8 and "onnx" not in formats:
        formats = [*formats, "onnx"]
    source, recipe = NetworkSource.from_facts(content["network"]), Recipe.model_validate(content["recipe"])
    classes, side = content["classes"], source.resolution
    network = source.build(len(classes)).eval()
    load_weights(network, weights)

    statistics = content["statistics"] if recipe.normalize == "auto" else recipe.normalize
    mean, std = STATISTICS[statistics]
    facts: dict[str, Any] = {"resolution": side, "classes": classes, "mean": mean, "std": std, "files": []}
    data = None
    if data_name is not None:
        data = replace(open_data(data_name), statistics=content["statistics"])
        if len(data.classes) != len(classes):
            raise CheckpointError(
                f"{weights} is for {len(classes)} classes, {data_name} has {len(data.classes)}."
            )
        facts["top1"] = accuracy(network, _batches(data, recipe, side))

    def judged(run: Callable[[torch.Tensor], torch.Tensor]) -> dict[str, float]:
        return {} if data is None else {"top1": accuracy(run, _batches(data, recipe, side))}

    for format in formats:
        file = output / f"network{SUFFIXES[format]}" if format in SUFFIXES else output
        made = export_network(network, file, format=format, resolution=side)
        entry = {"format": format, "file": file.name, "bytes": made.file_bytes, "max_error": made.max_error}
        entry |= {"max_relative_error": made.max_relative_error, **judged(load_exported(file, format))}
        facts["files"].append(entry)
    if int8 and data is not None:
        calibration = replace(data, test=Spread(data.train, calibration_images))
        images = (images for images, _ in _batches(calibration, recipe, side))
        file = quantize_onnx(output / "network.onnx", output / "network-int8.onnx", images)
        entry = {"format": "onnx-int8", "file": file.name, "bytes": file.stat().st_size}
        facts["files"].append(entry | judged(load_exported(file, "onnx")))
    if source.kind == "structure":
        write_model_file(
            parse_architecture(source.family, source.text),
            output / "model.py",
            resolution=side,
            num_classes=len(classes),
            use_se=source.use_se,
        )
        facts["files"].append({"format": "python", "file": "model.py"})
    output.mkdir(parents=True, exist_ok=True)
    write_file(output / "deploy.json", (json.dumps(facts, indent=2) + "\n").encode())
    return facts


def _batches(data: DataSet, recipe: Recipe, resolution: int) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    for batch in test_loader(data, recipe, crop_size=recipe.crop_size or resolution, batch_size=64):
        if len(batch.images):
            yield reduce_images(batch.images, resolution), batch.targets
