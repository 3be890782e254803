"""Weights in files: reading them without running code, and loading them into networks they must fit."""

from __future__ import annotations

import pickle
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from zenopt.core.errors import BundleError, CheckpointError
from zenopt.core.files import CHECKPOINT, check_size
from zenopt.core.paths import existing_path
from zenopt.core.text import quoted, shortened, shortened_path
from zenopt.nn.network import Network

#: Tensors, numbers and texts in a checkpoint.
VALUES = 5_000_000


def read_torch_file(path: Path, *, mmap: bool = False) -> dict[str, Any]:
    """Read a file that `torch.save` wrote onto the CPU; only tensors and plain containers are built.

    Args:
        path:
            The file.
        mmap:
            Leave tensors in the file until they are needed; processes then share one copy in memory.

    Raises:
        CheckpointError: The file is missing, damaged or too large, or holds no dictionary.
    """
    check_checkpoint(path)
    try:
        content = torch.load(path, map_location="cpu", weights_only=True, mmap=mmap)
        _check_tensors(content)
    except CheckpointError as error:
        raise CHECKPOINT.refusal(path, str(error)) from None
    except pickle.UnpicklingError:
        # torch's own text tells people to switch the protection off.
        damaged = ValueError("it is damaged, or holds more than tensors and plain values")
        raise CHECKPOINT.unreadable(path, damaged) from None
    # What is damaged can make torch raise nearly anything; each means the same to the user.
    except Exception as error:
        raise CHECKPOINT.unreadable(path, error) from None
    if not isinstance(content, dict):
        raise CHECKPOINT.refusal(path, f"it holds {type(content).__name__}, not a dictionary")
    return content


def check_checkpoint(path: Path) -> None:
    """Raise a CheckpointError unless there is a file that is not too large, and not larger once it is read."""
    found = existing_path(str(path))
    if found is None:
        raise CheckpointError(f"Checkpoint {shortened_path(path)} does not exist.")
    if found.is_dir():
        raise CheckpointError(
            f"Checkpoint {shortened_path(path)} is a folder; a file such as best.pt in it is needed."
        )
    size = found.stat().st_size
    check_size(size, path, CHECKPOINT)
    try:
        if not zipfile.is_zipfile(path):
            return
        with zipfile.ZipFile(path) as packed:
            entries = packed.infolist()
    except (OSError, zipfile.BadZipFile, ValueError, NotImplementedError) as error:
        raise CHECKPOINT.unreadable(path, error) from None
    # torch stores numbers as they are: what is compressed is not from torch, and may unpack to any size.
    if any(entry.compress_type != zipfile.ZIP_STORED for entry in entries) or size < sum(
        entry.file_size for entry in entries
    ):
        raise CHECKPOINT.refusal(path, "it is compressed, which no file of torch is")


def _check_tensors(content: Any) -> None:
    """Raise a CheckpointError if a tensor is not plainly what its shape says: few numbers can claim to be billions."""
    level, seen = [content], 0
    while level:
        below: list[Any] = []
        for item in level:
            if isinstance(item, torch.Tensor):
                if item.layout is not torch.strided or item.is_quantized or item.is_meta:
                    raise CheckpointError("a tensor in it is not a plain one")
                if item.numel() * item.element_size() > item.untyped_storage().nbytes():
                    raise CheckpointError(f"a tensor of shape {quoted(tuple(item.shape))} has fewer numbers")
            elif isinstance(item, dict):
                below += [*item, *item.values()]
            elif isinstance(item, list | tuple | set):
                below += item
            if seen + len(below) > VALUES:
                raise CheckpointError(f"it holds more than {VALUES:,} values, or holds itself")
        seen += len(below)
        level = below


def read_weights(path: Path) -> dict[str, torch.Tensor]:
    """Read a network's weights from a `.pt`, `.pth` or `.safetensors` file.

    A state_dict may stand alone, or under `model` or `state_dict`; a `module.` prefix (DataParallel's) is dropped.

    Raises:
        CheckpointError: The file is missing or damaged, or holds no weights.
    """
    content = _read_safetensors(path) if path.suffix == ".safetensors" else read_torch_file(path)
    for key in ("model", "state_dict"):
        if isinstance(content.get(key), dict):
            content = content[key]
            break
    weights = {
        key.removeprefix("module."): value
        for key, value in content.items()
        if isinstance(key, str) and isinstance(value, torch.Tensor)
    }
    if not weights:
        raise CHECKPOINT.refusal(path, "it holds no weights")
    return weights


def _read_safetensors(path: Path) -> dict[str, Any]:
    try:
        from safetensors.torch import load_file
    except ImportError:
        raise CheckpointError(
            f"Weights {shortened_path(path)} need the package safetensors, which is not installed."
        ) from None
    check_checkpoint(path)
    try:
        found: dict[str, Any] = load_file(path)
    # Rust's errors have types of their own, and torch's of what it cannot represent are many.
    except Exception as error:
        raise CHECKPOINT.unreadable(path, error) from None
    return found


def load_weights(network: nn.Module, path: Path, *, new_classifier: bool = False) -> bool:
    """Load weights of ours or, into a network of super-blocks, of ZenNAS; they must fit exactly.

    Args:
        network:
            Loaded in place.
        path:
            See :func:`read_weights`.
        new_classifier:
            Weights for another number of classes are loaded but for the classifier, which keeps its own (to fine-tune).

    Returns:
        Whether the classifier was loaded.

    Raises:
        CheckpointError: They do not fit; a different number of classes is named as such.
        BundleError: A ZenNAS checkpoint does not fit.
    """
    weights = read_weights(path)
    source = f"Checkpoint {shortened_path(path)}"
    names = network.architecture.published_keys(network) if isinstance(network, Network) else {}
    if any(key in names for key in weights):
        assert isinstance(network, Network)
        # What is wrong is said in the release's names; renaming first would lose them.
        if count_classes(weights, source) == network.num_classes:
            load_renamed(network, weights, names)
            return True
        weights = {names.get(key, key): value for key, value in weights.items()}
    own = network.state_dict()
    classifier = matrices(own)[-1:]
    loaded = True
    if (
        classifier
        and classifier[0] in weights
        and weights[classifier[0]].ndim == 2
        and weights[classifier[0]].shape[0] != own[classifier[0]].shape[0]
    ):
        if not new_classifier:
            check_classes(weights, own[classifier[0]].shape[0], source)
        for key in (classifier[0], classifier[0].removesuffix("weight") + "bias"):
            weights[key] = own[key]
        loaded = False
    for key, value in weights.items():
        if key in own and own[key].shape != value.shape:
            shapes = (
                f"{quoted(key)} has shape {quoted(tuple(value.shape))}, the network's {tuple(own[key].shape)}"
            )
            raise CheckpointError(f"{source} does not fit: {shapes}.")
        if key in own and own[key].is_floating_point() != value.is_floating_point():
            kinds = f"{quoted(key)} is of {value.dtype}, the network's of {own[key].dtype}"
            raise CheckpointError(f"{source} does not fit: {kinds}.")
    missing = [key for key in own if key not in weights]
    unknown = [key for key in weights if key not in own]
    if missing or unknown:
        parts = [f"{len(missing)} keys are missing ({shortened(missing[0])} ...)"] if missing else []
        parts += [f"{len(unknown)} are unknown ({quoted(unknown[0])} ...)"] if unknown else []
        raise CheckpointError(f"{source} does not fit: {' and '.join(parts)}.")
    network.load_state_dict(weights)
    return loaded


@dataclass(frozen=True)
class LoadReport:
    """What loading the weights of another release found.

    Attributes:
        missing: Keys of the network (in the release's names) that the checkpoint lacks; they keep their values.
        unexpected: Keys of the checkpoint that the network has no place for.
    """

    missing: tuple[str, ...]
    unexpected: tuple[str, ...]

    @property
    def complete(self) -> bool:
        """Whether every tensor was loaded and none was left over."""
        return not self.missing and not self.unexpected


def load_renamed(
    network: nn.Module,
    state_dict: Mapping[str, torch.Tensor],
    names: Mapping[str, str],
    *,
    strict: bool = True,
) -> LoadReport:
    """Load weights whose keys are another release's.

    Args:
        network:
            Loaded in place.
        state_dict:
            The weights.
        names:
            The release's key -> ours.
        strict:
            Raise if any key is missing or unexpected.

    Returns:
        What was missing and what was unexpected.

    Raises:
        BundleError: If a tensor has another shape or, when ``strict``, keys do not match. Nothing is loaded then.
    """
    own = network.state_dict()
    report = LoadReport(
        missing=tuple(key for key in names if key not in state_dict),
        unexpected=tuple(key for key in state_dict if key not in names),
    )
    for key, tensor in state_dict.items():
        if key in names and tensor.shape != own[names[key]].shape:
            raise BundleError(
                f"Checkpoint tensor {key!r} has shape {tuple(tensor.shape)}, "
                f"the network needs {tuple(own[names[key]].shape)}."
            )
    if strict and not report.complete:
        raise BundleError(
            f"The checkpoint does not fit; missing keys: {len(report.missing)}{_some(report.missing)}, "
            f"unexpected keys: {len(report.unexpected)}{_some(report.unexpected)}."
        )
    network.load_state_dict(
        {names[key]: tensor for key, tensor in state_dict.items() if key in names}, strict=False
    )
    return report


def _some(keys: tuple[str, ...]) -> str:
    return f" ({', '.join(keys[:3])}{', ...' if len(keys) > 3 else ''})" if keys else ""


def count_classes(weights: dict[str, torch.Tensor], source: str) -> int:
    """Return the outputs of the last linear layer, which is every network's classifier here.

    Raises:
        CheckpointError: There is no linear layer.
    """
    names = matrices(weights)
    if not names:
        raise CheckpointError(f"{source} holds no classifier.")
    return int(weights[names[-1]].shape[0])


def check_classes(weights: dict[str, torch.Tensor], num_classes: int, source: str) -> None:
    """Raise a CheckpointError if weights are for another number of classes."""
    found = count_classes(weights, source)
    if found != num_classes:
        raise CheckpointError(f"{source} is for {found} classes, the network here has {num_classes}.")


def matrices(weights: dict[str, torch.Tensor]) -> list[str]:
    """Return the keys of the two-dimensional tensors, in order."""
    return [key for key, value in weights.items() if value.ndim == 2]
