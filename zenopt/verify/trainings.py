"""What a score is worth: networks trained for a short time, beside what was said of them without training.

`train_briefly` trains a list of networks with several seeds, and can be stopped and continued.
`choose_learning_rates` gives each family of networks the rate that suits it, judged on training images held
back, never on test images. `zenopt.verify.agreement` then compares ranks.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from zenopt.train import checkpoint
from zenopt.train.data import DataSet, Images, MemoryImages
from zenopt.train.distributed import World
from zenopt.train.engine import fit
from zenopt.train.errors import TrainError
from zenopt.train.networks import NetworkSource
from zenopt.train.progress import Silent
from zenopt.train.recipe import Recipe
from zenopt.verify.parallel import run_jobs


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


def train_briefly(
    candidates: Sequence[Candidate],
    data: DataSet,
    recipe: Recipe,
    *,
    resolution: int,
    output: Path,
    seeds: Sequence[int] = (0,),
    use_se: bool = False,
    devices: Sequence[str] = ("cpu",),
    workers: int = 1,
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
        devices:
            Torch devices, which take turns.
        workers:
            Trainings at a time, each in a process of its own.
        learning_rates:
            A rate by label, for 256 images a step; the recipe's for others.
        should_stop:
            Asked after every epoch; this is where a pruner speaks. Needs one worker.
        on_result:
            Told of each network as it is done.

    Returns:
        A row for each (candidate, seed), in order of seeds within candidates.
    """
    if should_stop is not None and workers > 1:
        raise TrainError("Networks that may be stopped early are trained in one process.")
    place = _Place(data, recipe, resolution, use_se, output, tuple(devices), should_stop)
    rates = learning_rates or {}
    wanted = [
        (candidate, rates.get(candidate.label, recipe.optimizer.lr), seed)
        for candidate in candidates
        for seed in seeds
    ]
    return _train_all(place, wanted, workers, on_result)


def first_of_each(candidates: Sequence[Candidate]) -> list[Candidate]:
    """Return the first network of each label."""
    found: dict[str, Candidate] = {}
    for candidate in candidates:
        found.setdefault(candidate.label, candidate)
    return list(found.values())


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
    devices: Sequence[str] = ("cpu",),
    workers: int = 1,
    use_se: bool = False,
    on_result: Callable[[TrainedNetwork], None] | None = None,
) -> dict[str, float]:
    """Return, for each label, the rate with the best mean accuracy on training images held back.

    A single rate is taken without any training; no rate leaves every label to its recipe.

    Args:
        candidates:
            A few networks of each label.
        rates:
            Rates to try, for 256 images a step.
        held_back:
            Share of the training images that judges, in (0, 1).

    The others are those of :func:`train_briefly`. No test image is looked at.
    """
    if len(rates) < 2:
        return {candidate.label: rate for candidate in candidates for rate in rates}
    split = hold_back(data, held_back, seed)
    place = _Place(split, recipe, resolution, use_se, output, tuple(devices))
    wanted = [(candidate, rate, seed) for rate in rates for candidate in candidates]
    means: dict[str, dict[float, list[float]]] = {}
    for row in _train_all(place, wanted, workers, on_result):
        means.setdefault(row.candidate.label, {}).setdefault(row.learning_rate, []).append(row.top1)
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


@dataclass(frozen=True)
class _Place:
    """What all trainings of one call share."""

    data: DataSet
    recipe: Recipe
    resolution: int
    use_se: bool
    output: Path
    devices: tuple[str, ...]
    should_stop: ShouldStop | None = None

    def run(self, candidate: Candidate, rate: float, seed: int) -> _Run:
        recipe = self.recipe.at_rate(rate)
        source = NetworkSource.from_structure(candidate.structure, self.resolution, self.use_se)
        key = hashlib.sha256(f"{source}{self.data.name}{recipe.model_dump_json()}".encode()).hexdigest()[:16]
        folder = self.output / f"{key}-seed{seed}"
        return _Run(candidate, source, self.data, recipe, folder, seed, self.devices[0], self.should_stop)


def _train_all(
    place: _Place,
    wanted: Sequence[tuple[Candidate, float, int]],
    workers: int,
    on_result: Callable[[TrainedNetwork], None] | None,
) -> list[TrainedNetwork]:
    """Trains (candidate, rate, seed) triples; equal networks, rates and seeds are one run."""
    asked = [place.run(*triple) for triple in wanted]
    different = {run.folder: run for run in asked}
    jobs = [
        replace(run, device=place.devices[index % len(place.devices)])
        for index, run in enumerate(different.values())
    ]
    done = run_jobs(_train_one, jobs, workers=workers, on_result=on_result)
    rows = dict(zip(different, done, strict=True))
    return [replace(rows[run.folder], candidate=run.candidate) for run in asked]


@dataclass(frozen=True)
class _Run:
    candidate: Candidate
    source: NetworkSource
    data: DataSet
    recipe: Recipe
    folder: Path
    seed: int
    device: str
    should_stop: ShouldStop | None


class _Watch(Silent):
    def __init__(self, run: _Run) -> None:
        self._run = run

    def end(self, row: dict[str, Any]) -> None:
        run = self._run
        if run.should_stop is None or row["top1"] is None:
            return
        if run.should_stop(run.candidate, run.seed, row["epoch"], row["top1"]):
            raise _Stopped


def _train_one(run: _Run) -> TrainedNetwork:
    torch.manual_seed(run.seed)
    network = run.source.build(len(run.data.classes))
    stopped = False
    try:
        history = fit(
            network,
            run.data,
            run.recipe,
            output=run.folder,
            resolution=run.source.resolution,
            identity=run.source.facts(),
            world=World(0, 1, torch.device(run.device)),
            seed=run.seed,
            resume="auto",
            observer=_Watch(run),
        ).history
    except _Stopped:
        stopped = True
        history = checkpoint.read(run.folder / checkpoint.LAST, checkpoint.RUN)["state"]["history"]
    curve = tuple(row["top1"] for row in history if row["top1"] is not None)
    return TrainedNetwork(
        run.candidate,
        run.seed,
        run.recipe.optimizer.lr,
        epochs=len(history),
        top1=curve[-1],
        curve=curve,
        seconds=sum(row["seconds"] for row in history),
        stopped=stopped,
        folder=run.folder,
    )
