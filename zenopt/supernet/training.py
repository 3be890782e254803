"""Training a supernet: ``zenopt.train`` with another path in every batch, then the files that judge paths."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import torch

from zenopt.core.errors import SpecError
from zenopt.core.files import CHECKPOINT
from zenopt.latency.limits import Limits
from zenopt.spaces.base import require_supernet
from zenopt.supernet.band import Band, BandLimits
from zenopt.supernet.files import SUPERNET_FILE, SupernetFacts, read_supernet, write_supernet
from zenopt.supernet.images import IMAGES_FILE, collect, write_images
from zenopt.supernet.kernels import Kernels
from zenopt.supernet.module import Supernet
from zenopt.supernet.sampling import PathSampler, Sampling
from zenopt.supernet.schedule import Schedule, Timetable
from zenopt.supernet.splits import Split
from zenopt.train import checkpoint
from zenopt.train.data import DataSet
from zenopt.train.distributed import World
from zenopt.train.engine import RunResult, fit
from zenopt.train.loader import StepSampler
from zenopt.train.networks import NetworkSource
from zenopt.train.optim import Stretch
from zenopt.train.progress import Observer
from zenopt.train.recipe import Recipe, of_single_networks, without_custom_init
from zenopt.train.run import loader_workers
from zenopt.train.subsets import hold_back, shuffled

#: Held-back images that judge, and training images for statistics, kept beside the weights.
JUDGED, SETTLING = 1000, 500


@dataclass(frozen=True)
class SupernetPlan:
    """Which supernet, and how its paths are drawn.

    Args:
        space:
            The space itself.
        space_name:
            Its name.
        options:
            With which it was made.
        limits:
            Resolution, classes and gates of the networks, and a budget that trained paths keep.
        sampling:
            How paths are drawn.
        seed:
            Of weights, order, augmentation and paths.
        kernels:
            How smaller kernels come out of larger ones (see :mod:`zenopt.supernet.kernels`).
        schedule:
            Which values paths may take while the training goes on, and what shares weights; by default all of them, and
            nothing that has weights of its own.
        band:
            Lowest and highest costs of trained paths, besides the budget.
        split:
            Patterns of the parameters that split it into parts which share nothing.
        initial:
            Folder of the trained supernet whose weights it begins with; parts begin as copies.

    Raises:
        SpecError: If it cannot be split so.
    """

    space: Any
    space_name: str
    options: dict[str, Any]
    limits: Limits
    sampling: Sampling = "uniform"
    seed: int = 0
    kernels: Kernels = "centre"
    schedule: Schedule | None = None
    band: Band = field(default_factory=dict)
    split: tuple[str, ...] = ()
    initial: Path | None = None
    sampler: PathSampler = field(init=False)
    parts: Split = field(init=False)

    def __post_init__(self) -> None:
        require_supernet(self.space, self.space_name)
        bounded = self.limits if self.limits.budget.limits() else None
        limits = BandLimits(self.limits, self.band) if self.band else bounded
        if self.sampling == "sandwich" and self.schedule is not None and self.schedule.teaches:
            raise SpecError(
                "A schedule with a phase that teaches needs drawn paths: --sampling uniform, fair or strolling; the "
                "largest of a sandwich teaches it already."
            )
        object.__setattr__(self, "sampler", PathSampler(self.space, self.sampling, self.seed, limits))
        object.__setattr__(self, "parts", Split.named(self.space, self.split))

    def build(self) -> Supernet:
        """Return the supernet with initial weights.

        Raises:
            SpecError, CheckpointError: If there can be no such supernet, or none with these initial weights.
        """
        torch.manual_seed(self.seed)
        limits = self.limits
        phases = () if self.schedule is None else self.schedule.phases
        found = Supernet(
            self.sampler,
            limits.num_classes,
            limits.use_se,
            self.kernels,
            any(phase.sort for phase in phases),
            any(phase.teaches for phase in phases),
            self.parts,
            [(phase.name, phase.share) for phase in phases],
        )
        if self.initial is not None:
            found.begin_with(read_supernet(self.initial).weights, self.initial)
        return found

    def source(self) -> NetworkSource:
        """Return what its checkpoints say of it."""
        facts = {
            "space": self.space_name,
            "options": self.options,
            "num_classes": self.limits.num_classes,
            "sampling": self.sampling,
            "budget": self.limits.budget.limits(),
            # Of runs that began before there was a choice, it is not said.
            **({} if self.kernels == "centre" else {"kernels": self.kernels}),
            **({} if self.schedule is None else {"schedule": _plain(self.schedule)}),
            **({} if not self.split else {"split": self.parts.names}),
            **({} if self.initial is None else {"initial": _digest(self.initial / SUPERNET_FILE)}),
            **({"band": dict(self.band)} if self.band else {}),
        }
        text = json.dumps(facts, sort_keys=True)
        return NetworkSource("supernet", text, self.limits.resolution, self.limits.use_se, self.space_name)


def check_recipe(recipe: Recipe) -> Recipe:
    """Return a recipe as it suits supernets: their initial weights are PyTorch's unless it names others.

    Raises:
        SpecError: If it asks for what only a single network has.
    """
    asked = of_single_networks(recipe)
    if asked:
        raise SpecError(f"The recipe's {asked[0]} is for single networks; leave it out to train a supernet.")
    return without_custom_init(recipe)


def split(data: DataSet, share: float, plan: SupernetPlan) -> DataSet:
    """Return data whose test part is a share of the training images, shuffled; the test images stay unseen.

    Batches of a data set that is sorted by class would be of few classes, and paths are judged with their statistics.

    Raises:
        TrainError: If the data has other classes than the supernet, or nothing could be held back.
    """
    data.check_classes(plan.limits.num_classes)
    found = hold_back(data, share)
    return replace(found, test=shuffled(found.test))


def train_supernet(
    plan: SupernetPlan,
    data: DataSet,
    recipe: Recipe,
    *,
    output: Path,
    world: World,
    resume: Literal["never", "must", "auto"] = "never",
    workers: int | None = None,
    checkpoint_steps: int = 1000,
    judged: int = JUDGED,
    settling: int = SETTLING,
    keep_every: int | None = None,
    loggers: Sequence[str] = (),
    observer: Observer | None = None,
) -> RunResult:
    """Train a supernet, and write its weights and the images that judge its paths.

    The accuracies in its history are those of drawn paths, another one for every batch of held-back images.

    Args:
        plan:
            Which supernet.
        data:
            What :func:`split` returned.
        recipe:
            What :func:`check_recipe` returned.
        judged, settling:
            How many images are kept, at most.
        keep_every:
            Also keep the weights after every so many epochs, so that their rankings can be compared.

    The others are those of :func:`zenopt.train.engine.fit`. Each of several processes trains paths of its own; the
    gradient of a step is that of the mean loss over them.
    """
    limits, network = plan.limits, plan.build()
    if plan.initial is not None:
        # Weights that are there are not drawn anew, nor set to zero.
        recipe = recipe.model_copy(update={"model": recipe.model.model_copy(update={"init": "default"})})
    network.rank, network.processes = world.rank, world.size
    stretches: tuple[Stretch, ...] = ()
    timetable = timetable_of(plan, data, recipe)
    if timetable is not None and plan.schedule is not None:
        network.timetable = timetable
        stretches = plan.schedule.stretches(recipe, batches_of_epoch(data, recipe) // recipe.accumulate)
    facts = _facts(plan, data, recipe)

    def keep_images() -> None:
        crop_size = recipe.crop_size or limits.resolution
        found = collect(data, recipe, crop_size, judged=judged, settling=settling, seed=plan.seed)
        write_images(output, found)

    def keep(epoch: int, state: Mapping[str, torch.Tensor]) -> None:
        # The last epoch is the supernet itself.
        if keep_every is not None and epoch % keep_every == 0 and epoch < recipe.epochs:
            if not (output / IMAGES_FILE).exists():
                keep_images()
            write_supernet(output, facts, network.arranged(shared_tensors(state)), epoch)

    result = fit(
        network,
        data,
        recipe,
        output=output,
        resolution=limits.resolution,
        identity=plan.source().facts(),
        world=world,
        seed=plan.seed,
        resume=resume,
        workers=loader_workers(data, recipe, world) if workers is None else workers,
        checkpoint_steps=checkpoint_steps,
        loggers=loggers,
        observer=observer,
        stretches=stretches,
        on_epoch=keep,
    )
    if world.is_first:
        # Images first: the weights are what tells that the supernet is whole.
        keep_images()
        write_supernet(output, facts, network.arranged(last_weights(output)))
    world.wait()
    return result


def _facts(plan: SupernetPlan, data: DataSet, recipe: Recipe) -> SupernetFacts:
    """Return what is kept with the weights of a supernet."""
    limits = plan.limits
    return SupernetFacts(
        space=plan.space_name,
        options=plan.options,
        resolution=limits.resolution,
        num_classes=limits.num_classes,
        use_se=limits.use_se,
        sampling=plan.sampling,
        kernels=plan.kernels,
        schedule=plan.schedule,
        band=dict(plan.band),
        split=list(plan.parts.names),
        budget=limits.budget.limits(),
        seed=plan.seed,
        recipe=recipe,
        data=data.name,
        classes=list(data.classes),
        statistics=data.statistics,
    )


def timetable_of(plan: SupernetPlan, data: DataSet, recipe: Recipe) -> Timetable | None:
    """Return who draws the paths of which batch; ``None`` where there is no schedule.

    Raises:
        SpecError: If a phase does not fit the space, keeps no budget, or has no step of the training.
    """
    if plan.schedule is None:
        return None
    batches = recipe.epochs * batches_of_epoch(data, recipe)
    found = plan.schedule.timetable(plan.sampler, batches, recipe.accumulate)
    plan.schedule.check_length(batches // recipe.accumulate)
    return found


def batches_of_epoch(data: DataSet, recipe: Recipe) -> int:
    """Return how many batches an epoch has, parts of accumulated ones counted."""
    order = StepSampler(len(data.train), recipe.batch_size, 0, accumulate=recipe.accumulate)
    return order.steps * recipe.accumulate


def last_weights(output: Path) -> dict[str, torch.Tensor]:
    """Return the shared tensors of a run's last checkpoint; of their moving average, where there is one."""
    path = output / checkpoint.LAST
    saved = checkpoint.read(path, checkpoint.RUN)
    found = shared_tensors(saved["ema"]["state"] if saved.get("ema") else saved["model"])
    if not found:
        raise CHECKPOINT.refusal(path, "it holds no layers of a supernet")
    return found


def shared_tensors(state: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Return the shared tensors in the state of a supernet, by their names in it."""
    prefix = "layers."
    return {name.removeprefix(prefix): tensor for name, tensor in state.items() if name.startswith(prefix)}


def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()[:16]


def _plain(schedule: Schedule) -> dict[str, Any]:
    """Return a schedule as plain data, without what it leaves open: runs that began with fewer choices are the same."""
    found = schedule.model_dump(mode="json", exclude_defaults=True)
    # These have been said from the start.
    phases = [{"largest": {}, "sort": False, **own} for own in found["phases"]]
    return {"description": "", **found, "phases": phases}
