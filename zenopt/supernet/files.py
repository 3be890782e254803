"""The folder of a supernet: what it is with its weights (``supernet.pt``, ``epoch-0010.pt``), and ``images.pt``."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

import torch
from pydantic import Field, TypeAdapter

from zenopt.core.errors import CheckpointError
from zenopt.core.files import CHECKPOINT, validated
from zenopt.core.paths import existing_path
from zenopt.core.text import quoted, shortened_path
from zenopt.core.words import plural
from zenopt.export.bundle import Count, FamilyName, Flag, Number, Side
from zenopt.nn.weights import read_torch_file
from zenopt.spaces.registry import get_space
from zenopt.supernet.images import JudgeImages, read_images
from zenopt.supernet.kernels import Kernels
from zenopt.supernet.sampling import Sampling
from zenopt.supernet.schedule import Schedule
from zenopt.supernet.shared import SharedWeights
from zenopt.supernet.splits import WHOLE, Split
from zenopt.train import checkpoint
from zenopt.train.data import Statistics, StatisticsName
from zenopt.train.recipe import Recipe

SUPERNET_FILE = "supernet.pt"
_EPOCH = re.compile(r"epoch-(\d+)\.pt")


@dataclass(frozen=True)
class SupernetFacts:
    """What a trained supernet is.

    Attributes:
        space: Name of its space.
        options: Of the space, bounds included.
        resolution: Side of the input image in pixels.
        num_classes: Outputs of the classifier.
        use_se: Whether optional squeeze-excite gates are built.
        sampling: How paths were drawn.
        budget: Limits that all trained paths kept.
        seed: Of weights, order, augmentation and paths.
        recipe: How it was trained.
        data: On what.
        classes: Names of the data's classes.
        statistics: Means and deviations of the channels, or their name.
        kernels: How smaller kernels come out of larger ones.
        schedule: Which values paths might take while the training went on.
        band: Lowest and highest costs of all drawn paths.
        split: Parameters that split it into parts which share nothing.
    """

    space: FamilyName
    options: dict[str, Any]
    resolution: Side
    num_classes: Count
    use_se: Flag
    sampling: Sampling
    budget: dict[str, float]
    seed: Number
    recipe: Recipe
    data: Annotated[str, Field(max_length=10_000)]
    classes: Annotated[list[str], Field(min_length=1, max_length=1_000_000)]
    statistics: StatisticsName | Statistics
    kernels: Kernels = "centre"
    schedule: Schedule | None = None
    band: dict[str, tuple[float, float]] = field(default_factory=dict)
    split: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class TrainedSupernet:
    """A supernet that is ready to judge architectures."""

    facts: SupernetFacts
    weights: SharedWeights
    images: JudgeImages


_FACTS = TypeAdapter(SupernetFacts)


def write_supernet(
    folder: Path, facts: SupernetFacts, tensors: Mapping[str, torch.Tensor], epoch: int | None = None
) -> None:
    """Write what a supernet is and its weights: those at the end of the training, or after some of its epochs."""
    content = {
        "supernet": _FACTS.dump_python(facts, mode="json"),
        "weights": {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()},
    }
    checkpoint.save(_file(folder, epoch), content)


def kept_epochs(folder: Path) -> list[int]:
    """Return the epochs after which the weights of a supernet were kept (``--keep-every``), in order."""
    try:
        names = [path.name for path in folder.iterdir()]
    except OSError:
        return []
    return sorted(int(found[1]) for name in names if (found := _EPOCH.fullmatch(name)))


def has_ended(folder: Path) -> bool:
    """Return whether the training of a supernet has come to its end."""
    return existing_path(str(_file(folder, None))) is not None


def read_supernet(folder: Path, epoch: int | None = None) -> TrainedSupernet:
    """Read a trained supernet; its weights stay in the file until they are needed, and processes share them.

    Args:
        folder:
            Where ``zenopt supernet train`` wrote.
        epoch:
            One of :func:`kept_epochs`; by default the end of the training.

    Raises:
        CheckpointError: There is none, it is half trained, or something in it is damaged.
    """
    path = _file(folder, epoch)
    if epoch is None and not has_ended(folder):
        raise CheckpointError(_why_missing(folder))
    content = read_torch_file(path, mmap=True)
    tensors = content.get("weights")
    if not isinstance(tensors, dict) or not all(
        isinstance(name, str) and isinstance(tensor, torch.Tensor) for name, tensor in tensors.items()
    ):
        raise CHECKPOINT.refusal(path, "it holds no weights of a supernet")
    facts = validated(_FACTS, content.get("supernet"), path, CHECKPOINT)
    bare = {name: tensor for name, tensor in tensors.items() if tensor.dtype == torch.float32}
    if len(bare) != len(tensors):
        raise CHECKPOINT.refusal(path, "a tensor in it does not hold float32 numbers")
    split = Split(_space(facts, path), tuple(facts.split)) if facts.split else WHOLE
    weights = SharedWeights(bare, facts.num_classes, facts.use_se, split=split)
    return TrainedSupernet(facts, weights, read_images(folder))


def _space(facts: SupernetFacts, path: Path) -> Any:
    """Return the space of a supernet, which knows the part of an architecture.

    Raises:
        CheckpointError: If the file does not say which.
    """
    factory = get_space(facts.space, stored=True)
    try:
        space = factory(**facts.options)
        known = set(space.distributions)
    except (TypeError, ValueError, LookupError, AttributeError, ArithmeticError) as error:
        raise CHECKPOINT.refusal(path, f"its options do not fit the space {facts.space}: {error}") from None
    unknown = [name for name in facts.split if name not in known]
    if unknown:
        raise CHECKPOINT.refusal(path, f"{quoted(unknown[0])} is no parameter of its space")
    return space


def _file(folder: Path, epoch: int | None) -> Path:
    return folder / (SUPERNET_FILE if epoch is None else f"epoch-{epoch:04d}.pt")


def _why_missing(folder: Path) -> str:
    where = shortened_path(folder)
    if existing_path(str(folder)) is None:
        return f"There is no folder {where}; name what zenopt supernet train wrote (--output)."
    last = folder / checkpoint.LAST
    if existing_path(str(last)) is None:
        return f"Folder {where} holds no supernet (no {SUPERNET_FILE}); make one with zenopt supernet train."
    saved = checkpoint.read(last, checkpoint.RUN)
    if saved["network"].get("kind") != "supernet":
        return f"Folder {where} holds the training of one network, {quoted(saved['network'].get('text'))}, no supernet."
    done, wanted = saved["state"]["epoch"], saved["recipe"]["epochs"]
    return (
        f"The supernet in {where} is half trained ({done} of {plural(wanted, 'epoch')}); go on with its training: the "
        "same command with --resume."
    )
