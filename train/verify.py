"""What a score is worth: networks trained for a short time, beside what was said of them without training.

`train_briefly` trains a list of networks with several seeds, and can be stopped and continued.
`choose_learning_rates` gives each family of networks the rate that suits it, judged on training images held
back, never on test images. `train.agreement` then compares ranks.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from train.data import DataSet, Images, MemoryImages
from train.distributed import World
from train.engine import fit
from train.errors import TrainError
from train.networks import NetworkSource
from train.progress import Silent
from train.recipe import Recipe
from zenopt.weights import read_torch_file


@dataclass(frozen=True)
class Candidate:
    """A network to be trained.

    Args:
        label:
            The family or origin it is reported under, e.g. ``zen``, ``params-max``, ``random``.
        structure:
            Structure string.
        facts:
            What was said of it without training: scores and costs by name.
    """

    label: str
    structure: str
    facts: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class TrainedNetwork:
    """One network trained with one seed.

    Attributes:
        learning_rate: The rate used, for 256 images a step.
        epochs: Epochs done; fewer than asked for when it was stopped early.
        top1: Test accuracy after the last epoch done, in percent.
        curve: Test accuracy after each epoch.
        stopped: Whether `should_stop` ended it.
        folder: Where its checkpoints are; None where only the accuracies were kept.
    """

    candidate: Candidate
    seed: int
    learning_rate: float
    epochs: int
    top1: float
    curve: tuple[float, ...]
    seconds: float
    stopped: bool = False
    folder: Path | None = None


# Told (candidate, seed, epoch, top1 in percent) after every epoch; answers whether to stop this network.
ShouldStop = Callable[[Candidate, int, int, float], bool]


class _Stopped(Exception):
    """Ends one network's training, after its epoch was recorded."""


class _Watch(Silent):
    def __init__(self, ask: Callable[[int, float], bool] | None) -> None:
        self._ask = ask

    def end(self, row: dict[str, Any]) -> None:
        if self._ask is not None and row["top1"] is not None and self._ask(row["epoch"], row["top1"]):
            raise _Stopped


def train_briefly(
    candidates: Sequence[Candidate],
    data: DataSet,
    recipe: Recipe,
    *,
    resolution: int,
    output: Path,
    seeds: Sequence[int] = (0,),
    use_se: bool = False,
    device: str = "cpu",
    learning_rates: Mapping[str, float] | None = None,
    should_stop: ShouldStop | None = None,
    on_result: Callable[[TrainedNetwork], None] | None = None,
) -> list[TrainedNetwork]:
    """Train each network with each seed.

    Each run has a folder in `output`, named by its structure, seed and rate; a run that is there is read, or continued.

    Args:
        candidates:
            The networks; equal structures are trained once.
        data:
            Training and test images.
        recipe:
            How to train, `epochs` included.
        resolution:
            Input side, pixels.
        output:
            The folder of all runs.
        seeds:
            Training seeds. Their spread is what differences between networks must be held against.
        use_se:
            Whether networks are built with squeeze-excite.
        device:
            The torch device.
        learning_rates:
            A rate by label, for 256 images a step; the recipe's for others.
        should_stop:
            Asked after every epoch; this is where a pruner speaks.
        on_result:
            Told of each network as it is done.

    Returns:
        A row for each (candidate, seed), in order of seeds within candidates.
    """
    world = World(0, 1, torch.device(device))
    results = []
    for candidate in candidates:
        rate = (learning_rates or {}).get(candidate.label, recipe.optimizer.lr)
        own = recipe.model_copy(update={"optimizer": recipe.optimizer.model_copy(update={"lr": rate})})
        source = NetworkSource.from_structure(candidate.structure, resolution, use_se)
        for seed in seeds:
            ask = None
            if should_stop is not None:
                ask = _bind(should_stop, candidate, seed)
            result = _train_one(
                candidate, source, data, own, _folder(output, source, data, own, seed), seed, world, ask
            )
            results.append(result)
            if on_result is not None:
                on_result(result)
    return results


def choose_learning_rates(
    candidates: Sequence[Candidate],
    data: DataSet,
    recipe: Recipe,
    rates: Sequence[float],
    *,
    resolution: int,
    output: Path,
    held_back: float = 0.1,
    seed: int = 0,
    device: str = "cpu",
    use_se: bool = False,
    on_result: Callable[[TrainedNetwork], None] | None = None,
) -> dict[str, float]:
    """Return, for each label, the rate with the best mean accuracy on training images held back.

    Args:
        candidates:
            A few networks of each label.
        rates:
            Rates to try, for 256 images a step.
        held_back:
            Share of the training images that judges, in (0, 1).

    The others are those of :func:`train_briefly`. No test image is looked at.
    """
    split = hold_back(data, held_back, seed)
    means: dict[str, dict[float, list[float]]] = {}
    for rate in rates:
        labels = {candidate.label: rate for candidate in candidates}
        rows = train_briefly(
            candidates,
            split,
            recipe,
            resolution=resolution,
            output=output,
            seeds=(seed,),
            use_se=use_se,
            device=device,
            learning_rates=labels,
            on_result=on_result,
        )
        for row in rows:
            means.setdefault(row.candidate.label, {}).setdefault(rate, []).append(row.top1)
    return {label: max(found, key=lambda rate: float(np.mean(found[rate]))) for label, found in means.items()}


def hold_back(data: DataSet, share: float, seed: int = 0) -> DataSet:
    """Return a data set whose test part is a random share of another's training images.

    Raises:
        TrainError: A part would be empty.
    """
    order = np.random.default_rng(seed).permutation(len(data.train))
    count = round(share * len(data.train))
    if not 0 < count < len(data.train):
        raise TrainError(f"Cannot hold back {share:g} of {len(data.train)} training images.")
    name = f"{data.name} ({share:g} held back)"
    return replace(
        data, name=name, train=_choose(data.train, order[count:]), test=_choose(data.train, order[:count])
    )


@dataclass(frozen=True)
class _Chosen:
    images: Images
    places: torch.Tensor

    def __len__(self) -> int:
        return len(self.places)

    @property
    def labels(self) -> torch.Tensor:
        return self.images.labels[self.places]

    def load(self, index: int) -> torch.Tensor:
        return self.images.load(int(self.places[index]))


def _choose(images: Images, places: np.ndarray) -> Images:
    chosen = torch.from_numpy(np.sort(places))
    if isinstance(images, MemoryImages):
        return MemoryImages(images.pixels[chosen], images.labels[chosen])
    return _Chosen(images, chosen)


def _bind(should_stop: ShouldStop, candidate: Candidate, seed: int) -> Callable[[int, float], bool]:
    return lambda epoch, top1: should_stop(candidate, seed, epoch, top1)


def _folder(output: Path, source: NetworkSource, data: DataSet, recipe: Recipe, seed: int) -> Path:
    key = hashlib.sha256(f"{source}{data.name}{recipe.model_dump_json()}".encode()).hexdigest()[:16]
    return output / f"{key}-seed{seed}"


def _train_one(
    candidate: Candidate,
    source: NetworkSource,
    data: DataSet,
    recipe: Recipe,
    folder: Path,
    seed: int,
    world: World,
    ask: Callable[[int, float], bool] | None,
) -> TrainedNetwork:
    torch.manual_seed(seed)
    network = source.build(len(data.classes))
    stopped = False
    try:
        history = fit(
            network,
            data,
            recipe,
            output=folder,
            resolution=source.resolution,
            identity=source.facts(),
            world=world,
            seed=seed,
            resume="auto",
            observer=_Watch(ask),
        ).history
    except _Stopped:
        stopped = True
        history = read_torch_file(folder / "last.pt")["state"]["history"]
    curve = tuple(row["top1"] for row in history if row["top1"] is not None)
    return TrainedNetwork(
        candidate,
        seed,
        recipe.optimizer.lr,
        epochs=len(history),
        top1=curve[-1],
        curve=curve,
        seconds=sum(row["seconds"] for row in history),
        stopped=stopped,
        folder=folder,
    )
