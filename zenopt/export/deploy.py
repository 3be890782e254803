"""Trained networks for other programs: TorchScript, torch.export and ONNX files, int8 for CPUs.

Every file is written from a copy whose batch normalisations are folded into the convolutions before them, and is then
compared with the untouched network.
"""

from __future__ import annotations

import copy
import os
import tempfile
import warnings
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from zenopt.core.errors import ZenoptError
from zenopt.export.bundle import Bundle
from zenopt.nn import build_network
from zenopt.nn.seeding import seeded
from zenopt.nn.weights import count_classes, load_weights, read_weights
from zenopt.spaces.registry import parse_architecture

SUFFIXES = {"torchscript": ".pt", "torch-export": ".pt2", "onnx": ".onnx"}
# Largest difference from the eager network, relative to its largest output, that an export may have.
TOLERANCE = 1e-3


class DeployError(ZenoptError):
    """A network cannot be exported, or its export does not compute what the network does."""


@dataclass(frozen=True)
class Deployed:
    """An exported file and how far it is from the network.

    Attributes:
        format: ``torchscript``, ``torch-export`` or ``onnx``.
        file: Where it is.
        file_bytes: Its size.
        max_error: Largest absolute difference of a logit from the eager network, on random images of two batch sizes.
        max_relative_error: The same, divided by the largest absolute logit.
    """

    format: str
    file: Path
    file_bytes: int
    max_error: float
    max_relative_error: float


def fold_batch_norms(network: nn.Module) -> nn.Module:
    """Return a copy in evaluation mode whose batch normalisations are part of the convolutions before them.

    Convolution and normalisation must be neighbours in an ``nn.Sequential``, as they are in every network
    here; others are left as they are.
    """
    folded = copy.deepcopy(network).eval()
    for module in list(folded.modules()):
        if not isinstance(module, nn.Sequential):
            continue
        layers: list[nn.Module] = []
        for layer in module:
            if type(layer) is nn.BatchNorm2d and layers and type(layers[-1]) is nn.Conv2d:
                layers[-1] = fuse_conv_bn_eval(layers[-1], layer)
            else:
                layers.append(layer)
        # In place: the children of a container that others refer to.
        module._modules = {str(index): layer for index, layer in enumerate(layers)}
    return folded


def export_network(
    network: nn.Module, file: Path, *, format: str, resolution: int, seed: int = 0
) -> Deployed:
    """Write a network, with folded batch normalisations and any batch size, and compare the file with it.

    Args:
        network:
            A network on the CPU; it is not changed.
        file:
            Where to write; replaced only by a whole file.
        format:
            ``torchscript``, ``torch-export`` or ``onnx``.
        resolution:
            Side of the input in pixels.
        seed:
            Draws the images of the comparison.

    Raises:
        DeployError: The format is unknown, its package is missing, or the export differs from the network.
    """
    if format not in SUFFIXES:
        raise DeployError(f"Format {format!r} is not known; allowed: {', '.join(SUFFIXES)}.")
    folded = fold_batch_norms(network)
    example = torch.zeros(2, 3, resolution, resolution)
    file.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=file.parent, prefix=".export-") as folder:
        temporary = Path(folder) / file.name
        {"torchscript": _write_torchscript, "torch-export": _write_torch_export, "onnx": _write_onnx}[format](
            folded, example, temporary
        )
        error, relative = compare(network, load_exported(temporary, format), resolution=resolution, seed=seed)
        if not relative <= TOLERANCE:
            raise DeployError(
                f"The {format} export differs from the network by {error:.3g} ({relative:.3g} of the largest output); "
                f"allowed: {TOLERANCE:g}."
            )
        os.replace(temporary, file)
    return Deployed(format, file, file.stat().st_size, error, relative)


def deploy_bundle(
    bundle: Bundle, folder: Path, formats: Iterable[str], *, weights: Path | None = None, seed: int = 0
) -> list[Deployed]:
    """Write a bundle's network as ``network.pt``, ``network.pt2`` or ``network.onnx``.

    Args:
        bundle:
            From :func:`zenopt.export.bundle.read_bundle`.
        folder:
            Where to write.
        formats:
            Some of ``torchscript``, ``torch-export`` and ``onnx``.
        weights:
            A checkpoint of training. None exports initial weights, drawn with `seed`: good for measuring
            speed, nothing else.
        seed:
            Draws initial weights and the images of the comparison.

    Raises:
        DeployError, CheckpointError: See :func:`export_network` and :func:`zenopt.nn.weights.load_weights`.
    """
    classes = bundle.num_classes
    if weights is not None:
        # Training builds the classifier for its data's classes.
        classes = count_classes(read_weights(weights), f"Checkpoint {weights}")
    architecture = parse_architecture(bundle.family, bundle.structure)
    with seeded(seed):
        network = build_network(architecture, num_classes=classes, use_se=bundle.use_se)
    if weights is not None:
        load_weights(network, weights)
    return [
        export_network(
            network,
            folder / f"network{SUFFIXES.get(format, '')}",
            format=format,
            resolution=bundle.resolution,
            seed=seed,
        )
        for format in formats
    ]


def load_exported(file: Path, format: str) -> Callable[[torch.Tensor], torch.Tensor]:
    """Return a function from images to logits that runs an exported file on the CPU."""
    if format == "torchscript":
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # as in writing
            script: Callable[[torch.Tensor], torch.Tensor] = torch.jit.load(str(file), map_location="cpu")
        return script
    if format == "torch-export":
        program: Callable[[torch.Tensor], torch.Tensor] = torch.export.load(str(file)).module()
        return program
    runtime = _require("onnxruntime", "onnx")
    options = runtime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    session = runtime.InferenceSession(str(file), options, providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name

    def run(images: torch.Tensor) -> torch.Tensor:
        return torch.from_numpy(session.run(None, {name: images.numpy()})[0])

    return run


@torch.inference_mode()
def compare(
    network: nn.Module, other: Callable[[torch.Tensor], torch.Tensor], *, resolution: int, seed: int = 0
) -> tuple[float, float]:
    """Return the largest difference of two networks' logits, absolute and relative to the largest logit.

    Random normal images in batches of 1 and 5 are used, so that an export with a fixed batch size is found out.
    """
    generator = torch.Generator().manual_seed(seed)
    was_training = network.training
    network.eval()
    error, largest = 0.0, 0.0
    for batch in (1, 5):
        images = torch.randn(batch, 3, resolution, resolution, generator=generator)
        wanted = network(images)
        error = max(error, (other(images) - wanted).abs().max().item())
        largest = max(largest, wanted.abs().max().item())
    network.train(was_training)
    return error, error / max(largest, 1e-12)


def quantize_onnx(source: Path, target: Path, calibration: Iterable[torch.Tensor]) -> Path:
    """Write an int8 version of an ONNX file (static, weights per channel) for onnxruntime on CPUs.

    Args:
        source:
            A float file from :func:`export_network`.
        target:
            Where to write.
        calibration:
            Batches of normalised training images; the ranges of activations are taken from them.

    Raises:
        DeployError: The package onnxruntime is missing, or there are no calibration images.
    """
    _require("onnxruntime", "onnx")
    from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static
    from onnxruntime.quantization.shape_inference import quant_pre_process

    batches = [batch.numpy() for batch in calibration]
    if not batches:
        raise DeployError("int8 needs calibration images; there are none.")
    name = _require("onnx", "onnx").load(str(source)).graph.input[0].name

    class Reader(CalibrationDataReader):
        def __init__(self) -> None:
            self._left = iter(batches)

        def get_next(self) -> dict[str, Any] | None:
            batch = next(self._left, None)
            return None if batch is None else {name: batch}

    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent, prefix=".int8-") as folder:
        prepared, temporary = Path(folder) / "prepared.onnx", Path(folder) / target.name
        quant_pre_process(str(source), str(prepared))
        quantize_static(
            str(prepared),
            str(temporary),
            Reader(),
            quant_format=QuantFormat.QDQ,
            per_channel=True,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
        )
        os.replace(temporary, target)
    return target


@torch.inference_mode()
def accuracy(
    run: Callable[[torch.Tensor], torch.Tensor], batches: Iterable[tuple[torch.Tensor, torch.Tensor]]
) -> float:
    """Return the top-1 accuracy in percent of a function from images to logits over (images, labels) batches.

    Raises:
        DeployError: There are no images.
    """
    correct = total = 0
    for images, labels in batches:
        correct += int((run(images).argmax(1) == labels).sum())
        total += len(labels)
    if total == 0:
        raise DeployError("There are no test images.")
    return 100.0 * correct / total


def _write_torchscript(network: nn.Module, example: torch.Tensor, file: Path) -> None:
    with warnings.catch_warnings():
        # torch announces that TorchScript will go; the format was asked for by name.
        warnings.simplefilter("ignore")
        script = torch.jit.trace(network, example)
        torch.jit.save(torch.jit.freeze(script.eval()), str(file))


def _write_torch_export(network: nn.Module, example: torch.Tensor, file: Path) -> None:
    batch = torch.export.Dim("batch", min=1)
    torch.export.save(torch.export.export(network, (example,), dynamic_shapes=({0: batch},)), str(file))


def _write_onnx(network: nn.Module, example: torch.Tensor, file: Path) -> None:
    _require("onnxscript", "onnx")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of torch's own deprecations
        torch.onnx.export(
            network,
            (example,),
            str(file),
            dynamo=True,
            external_data=False,
            input_names=["images"],
            output_names=["logits"],
            dynamic_shapes=({0: torch.export.Dim("batch", min=1)},),
            verbose=False,
        )


def _require(package: str, extra: str) -> Any:
    from importlib import import_module

    try:
        return import_module(package)
    except ImportError:
        raise DeployError(
            f"This needs the package {package}, which is not installed: pip install 'zenopt[{extra}]'."
        ) from None
