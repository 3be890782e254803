"""Schedules: which values paths may take while the training of a supernet goes on.

A schedule is YAML: phases with their lengths, and for parameters of the space how many of their largest values are
open. What a phase does not name is open altogether, and so are alternatives, of which none is the largest. At the
beginning of a phase channels may be sorted (see :mod:`zenopt.supernet.importance`), and layers may share weights until
its end (see :mod:`zenopt.supernet.sharing`).
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from itertools import accumulate
from math import ceil
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import Field, ValidationError, model_validator

from zenopt.core.errors import SpecError
from zenopt.core.files import SCHEDULE
from zenopt.core.seeds import derive_rng
from zenopt.core.text import quoted, shortened_path
from zenopt.core.words import plural
from zenopt.core.yamlfile import named_file, names_in, read_yaml
from zenopt.supernet.restricted import OpenSpace, parameters_named
from zenopt.supernet.sampling import PathSampler
from zenopt.supernet.sharing import Extent
from zenopt.train.optim import Stretch
from zenopt.train.recipe import Positive, Recipe, Section

if TYPE_CHECKING:
    from collections.abc import Mapping

    from optuna.distributions import BaseDistribution

#: Pixels by which drawn sides of images differ.
SIDE_STEP = 4
FOLDER = Path(__file__).resolve().parent / "schedules"


class Phase(Section):
    """A part of a training.

    Attributes:
        name: What it is called.
        epochs: Its length, in epochs of a run as long as all phases together; another run takes the same shares.
        largest: Pattern of parameters' names -> how many of their largest values are open.
        lr: Peak, for 256 images a step, of a learning-rate schedule that begins with this phase, and lasts until a
            phase names another; the optimiser begins anew with it. Without any, the recipe's is one over all phases.
        warmup_epochs: How much of it warms up; by default as much as the recipe says.
        paths: How many paths a step draws, whose gradients add up; by default one, or two besides a sandwich's ends.
        teaches: Whether the largest network, as it is when the phase ends, teaches all later paths, besides the labels.
        sort: Whether channels inside blocks change places when it begins, so that narrower blocks take the most
            important ones; those that the narrowest blocks of the phase before took stay ahead of the others.
    """

    name: str
    epochs: Positive
    largest: dict[str, Annotated[int, Field(ge=1)]] = {}
    lr: Positive | None = None
    warmup_epochs: Annotated[float, Field(ge=0)] | None = None
    paths: Annotated[int, Field(ge=1, le=16)] | None = None
    teaches: bool = False
    sort: bool = False
    share: tuple[Extent, ...] = ()

    def restricted(self, space: Any) -> OpenSpace:
        """Return a space with the values that are open.

        Raises:
            SpecError: If a pattern matches no parameter of the space.
        """
        distributions = dict(space.distributions)
        for pattern, count in self.largest.items():
            names = parameters_named(space, pattern, f"Phase {quoted(self.name)} of the schedule")
            distributions |= {name: largest_values(space.distributions[name], count) for name in names}
        return OpenSpace(space, distributions)


class Schedule(Section):
    """Phases of a training, in order.

    Attributes:
        description: Shown to people.
        phases: The phases.
        smallest_side: Images of a batch have one side in pixels, a multiple of 4, drawn from this share of the study's
            resolution up to all of it; by default always the resolution.
    """

    description: str = ""
    phases: Annotated[tuple[Phase, ...], Field(min_length=1)]
    smallest_side: Annotated[float, Field(gt=0, le=1)] = 1.0

    @model_validator(mode="after")
    def _consistent(self) -> Schedule:
        for phase in self.phases:
            if phase.warmup_epochs is not None and phase.lr is None:
                raise ValueError(f"phase {phase.name!r} has warmup_epochs, but no lr that it leads to")
        if self.phases[-1].teaches:
            raise ValueError(f"phase {self.phases[-1].name!r} teaches nobody: it is the last one")
        if self.sorts and self.shares:
            raise ValueError("phases sort channels or share weights, not both")
        return self

    @property
    def sorts(self) -> bool:
        """Whether any phase begins with sorted channels."""
        return any(phase.sort for phase in self.phases)

    @property
    def shares(self) -> bool:
        """Whether layers share weights in any phase."""
        return any(phase.share for phase in self.phases)

    @property
    def teaches(self) -> bool:
        """Whether any phase leaves a teacher behind."""
        return any(phase.teaches for phase in self.phases)

    def stretches(self, recipe: Recipe, steps_per_epoch: int) -> tuple[Stretch, ...]:
        """Return the learning-rate schedules of a training; nothing where it has the recipe's alone."""
        if all(phase.lr is None for phase in self.phases):
            return ()
        steps = recipe.epochs * steps_per_epoch
        share = steps / sum(phase.epochs for phase in self.phases)
        found: list[Stretch] = []
        start = 0
        for phase, end in self.ends(steps):
            if phase.lr is not None or not found:
                epochs = recipe.schedule.warmup_epochs if phase.warmup_epochs is None else phase.warmup_epochs
                lr = recipe.optimizer.lr if phase.lr is None else phase.lr
                found.append(Stretch(start, round(end), round(epochs * share), lr, is_new=start > 0))
            else:
                found[-1] = replace(found[-1], end=round(end))
            start = round(end)
        return tuple(found)

    def ends(self, length: float) -> Iterator[tuple[Phase, float]]:
        """Yield the phases with their ends in a training of some length."""
        total = sum(phase.epochs for phase in self.phases)
        for phase, done in zip(self.phases, accumulate(phase.epochs for phase in self.phases), strict=True):
            yield phase, done / total * length

    def check_length(self, steps: int) -> None:
        """Find out whether every phase of a training has a step at least.

        Channels would be sorted by weights that none has trained, and an untrained network would teach.

        Raises:
            SpecError: If one has none.
        """
        if (empty := self._without_step(steps)) is not None:
            shares = [phase.epochs for phase in self.phases]
            needed = max(steps + 1, ceil(sum(shares) / min(shares)))
            while self._without_step(needed) is not None:
                needed += 1  # ends are rounded
            raise SpecError(
                f"Phase {quoted(empty.name)} of the schedule has no step in a training of {plural(steps, 'step')}; "
                f"{needed:,} are enough for all phases: more epochs, more images or smaller batches."
            )

    def _without_step(self, steps: int) -> Phase | None:
        start = 0
        for phase, end in self.ends(steps):
            if round(end) == start:
                return phase
            start = round(end)
        return None

    def timetable(self, sampler: PathSampler, batches: int, parts: int = 1) -> Timetable:
        """Return who draws the paths of which batch.

        Args:
            sampler:
                Draws paths of the whole space.
            batches:
                Of the whole training.
            parts:
                Batches of a step of the optimiser: phases end with whole steps.

        Raises:
            SpecError: If a phase does not fit the space, or keeps no budget.
        """
        ends: list[int] = []
        samplers: list[PathSampler] = []
        sorts: dict[int, Any] = {}
        teachers: dict[int, Any] = {}
        for phase, done in self.ends(batches / parts):
            end = round(done) * parts
            own = replace(sampler, space=phase.restricted(sampler.space), count=phase.paths)
            try:
                own.draw(0, "tried")
            except SpecError as error:
                raise SpecError(f"Phase {quoted(phase.name)} of the schedule: {error}") from None
            if phase.sort and samplers:
                sorts[ends[-1]] = samplers[-1].space
            if phase.teaches:
                teachers[end] = own.space
            ends.append(end)
            samplers.append(own)
        return Timetable(tuple(ends), tuple(samplers), sorts, teachers, self.smallest_side, parts)


@dataclass(frozen=True)
class Timetable:
    """Who draws the paths of which batch.

    Args:
        ends:
            The first batch that belongs to the next one.
        samplers:
            As many; the last one draws whatever comes after it, too.
        sorts:
            Batch before which channels are sorted -> the space of the phase that ends there.
        teachers:
            Batch before which the largest network becomes the teacher -> the space of which it is the largest.
        smallest_side:
            The smallest side of images, as a share of theirs.
        parts:
            Batches of a step of the optimiser; their images have one side, as those of several processes have.
    """

    ends: tuple[int, ...]
    samplers: tuple[PathSampler, ...]
    sorts: Mapping[int, Any] = field(default_factory=dict)
    teachers: Mapping[int, Any] = field(default_factory=dict)
    smallest_side: float = 1.0
    parts: int = 1

    def at(self, batch: int) -> PathSampler:
        """Return the sampler of a batch, counted from 0."""
        return self.samplers[self.phase(batch)]

    def phase(self, batch: int) -> int:
        """Return the index of the phase of a batch."""
        return min(bisect_right(self.ends, batch), len(self.samplers) - 1)

    def side(self, batch: int, largest: int) -> int:
        """Return the side of the images of a batch, in pixels; the same one in all processes and parts of a step."""
        sides = [
            side for side in range(SIDE_STEP, largest + 1, SIDE_STEP) if side >= self.smallest_side * largest
        ]
        if self.smallest_side == 1 or not sides:
            return largest
        return derive_rng(self.samplers[0].seed, batch // self.parts, "side").choice(sides)


def list_schedules() -> list[str]:
    """Return the names of the schedules that come with zenopt."""
    return names_in(FOLDER)


def load_schedule(name: str) -> Schedule:
    """Read a schedule.

    Args:
        name:
            One of :func:`list_schedules`, or the path of a YAML file.

    Raises:
        SpecError: If it does not exist or is invalid.
    """
    source = read_yaml(named_file(name, FOLDER, "Schedule"), SCHEDULE)
    try:
        found = Schedule.model_validate(source.data)
    except ValidationError as error:
        raise SpecError(source.explain(error, Schedule)) from None
    # Not a rule of schedules: supernets that are trained already may have such a one.
    names = [phase.name for phase in found.phases]
    for place, own in enumerate(names):
        if own in names[:place]:
            where = f"{shortened_path(source.name)}, line {source.lines['phases', place, 'name']}"
            raise SpecError(
                f"{where}: phases.{place}.name: another phase is called {quoted(own)}, too; rename one."
            )
    return found


def largest_values(distribution: BaseDistribution, count: int) -> BaseDistribution:
    """Return the distribution of a number's largest values; alternatives stay as they are."""
    from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

    if isinstance(distribution, IntDistribution):
        low = max(distribution.low, distribution.high - (count - 1) * distribution.step)
        return IntDistribution(low, distribution.high, step=distribution.step, log=distribution.log)
    if isinstance(distribution, FloatDistribution):
        # Without steps, the largest is one value, however many are asked for.
        lowest = max(distribution.low, distribution.high - (count - 1) * (distribution.step or 0.0))
        return FloatDistribution(lowest, distribution.high, step=distribution.step, log=distribution.log)
    assert isinstance(distribution, CategoricalDistribution)
    if all(isinstance(choice, int | float) for choice in distribution.choices):
        return CategoricalDistribution(sorted(distribution.choices)[-count:])  # type: ignore[type-var]
    return distribution
