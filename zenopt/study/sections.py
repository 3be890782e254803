"""The sections of a study spec, each validated by itself."""

from __future__ import annotations

from difflib import get_close_matches
from inspect import Parameter, signature
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, create_model, field_validator, model_validator

from zenopt.core.budget import LIMITS, is_lower_limit
from zenopt.core.changing import MOST_TRIALS, MayChange, changing, check_range
from zenopt.core.costs import COST_KINDS
from zenopt.core.errors import SpecError, ZenoptError
from zenopt.core.text import one_line, quoted
from zenopt.spaces.registry import get_space


class Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class SpaceSection(Section):
    """Which architectures exist.

    ``bounds`` chooses between the space as given ("wide") and the values of ``narrow`` on top of it. Samplers that draw
    uniformly find feasible points only in narrow bounds.
    """

    name: str = "superres"
    initial: str | None = None
    bounds: Literal["wide", "narrow"] = "wide"
    narrow: dict[str, int] = Field(default_factory=dict)
    options: dict[str, Any] = Field(default_factory=dict)

    def arguments(self) -> dict[str, Any]:
        """Return what the space is made with: its options, bounds and initial architecture.

        Raises:
            SpecError: If there are no narrow bounds where they are asked for.
        """
        found = dict(self.options)
        if self.bounds == "narrow":
            if not self.narrow:
                raise SpecError("space.bounds is 'narrow' but space.narrow gives no bounds.")
            found.update(self.narrow)
        if self.initial is not None:
            found["initial"] = self.initial
        return found

    def build(self) -> Any:
        """Return the space.

        Raises:
            ZenoptError: If the space is unknown or an option does not fit it.
        """
        # Whoever reads a study file for a person has imported what it names.
        factory = get_space(self.name, stored=True)
        self._check_options(factory)
        arguments = self.arguments()
        try:
            return factory(**arguments)
        except ZenoptError:
            raise
        except (TypeError, ValueError, LookupError, AttributeError, ArithmeticError) as error:
            # An option of another kind than the space expects; which one, only the space can tell.
            reason = f"{type(error).__name__}: {one_line(str(error), 120)}"
            raise SpecError(
                f"space.options do not fit the space {quoted(self.name)}: {reason.rstrip('.')}."
            ) from None

    def _check_options(self, factory: Any) -> None:
        known = signature(factory).parameters
        if any(parameter.kind is Parameter.VAR_KEYWORD for parameter in known.values()):
            return
        allowed = [name for name in known if name != "initial"]
        for section, given in (("options", self.options), ("narrow", self.narrow)):
            for key in given:
                if key not in allowed:
                    close = get_close_matches(key, allowed, n=1)
                    hint = f" (did you mean {close[0]!r}?)" if close else ""
                    raise SpecError(
                        f"space.{section}.{key}: unknown key{hint}; the space {self.name!r} takes {', '.join(allowed)}."
                    )


class _BudgetBase(Section):
    """Limits on costs; a missing key is no limit."""

    if TYPE_CHECKING:
        latency_ms: float | None = None
        counting: str = "true"

    @field_validator("counting", mode="before", check_fields=False)
    @classmethod
    def _yaml_true(cls, value: Any) -> Any:
        # YAML reads a bare true as a boolean.
        return "true" if value is True else value


#: A key for every cost of :data:`zenopt.core.costs.COST_KINDS`, and the latency.
BudgetSection = create_model(
    "BudgetSection",
    __base__=_BudgetBase,
    **{name: (float | None, Field(None, gt=0)) for name in LIMITS},  # type: ignore[call-overload]
    counting=(Literal["true", "zennas"], "true"),
)


class GuardsSection(Section):
    """What keeps a search from exploiting its latency model; see :class:`zenopt.latency.Guards`. ``null`` is off."""

    counterpart: str | None = "auto"
    disagreement: float | None = Field(0.25, gt=0)
    budget_under_both: bool = True
    outside_share: float | None = Field(0.25, gt=0)
    max_expansion: float | None = Field(8.0, gt=0)
    min_bottleneck: int | None = Field(32, ge=1)
    max_stem_width: int | None = Field(64, ge=1)


class LatencySection(Section):
    """Where latencies come from: a device profile, searched to ``margin`` of the budget.

    ``mode`` says what a trial's latency is: ``predicted`` by the profile; from the profile's ``table`` of blocks, in
    which the search measures what is missing; or ``measured`` whole. The last two need a profile calibrated here.
    """

    device: str
    margin: float = Field(0.85, gt=0, le=1)
    mode: Literal["predicted", "table", "measured"] = "predicted"
    guards: GuardsSection | None = None

    @property
    def label(self) -> str:
        """What a latency of this study is, in words."""
        return {
            "predicted": f"predicted for {self.device}",
            "table": f"from the block table of {self.device}",
            "measured": f"measured, after {self.device}",
        }[self.mode]


class BatchSizes(Section):
    """Score batch by kind of device; the study keeps the one its first worker chose, so that scores compare."""

    cpu: int = Field(16, ge=2)
    cuda: int = Field(64, ge=2)
    mps: int = Field(64, ge=2)


class ProxySection(Section):
    """A training-free score, or a combination of several.

    ``vote`` (by majority, of synflow, jacob_cov and snip unless ``parts`` names others), ``az-nas`` (its sum of
    logarithms of ranks) and ``sum`` (weighted mean of ranks, weights in ``parts``) rank a candidate among ``reference``
    random architectures within the budget.
    """

    name: str = "zen"
    parts: dict[str, float] = Field(default_factory=dict)
    reference: int = Field(32, ge=2, le=10_000)
    batch_size: int | None = Field(None, ge=1)
    batch_sizes: BatchSizes = BatchSizes()
    repeats: int = Field(1, ge=1)
    gamma: float = Field(0.01, gt=0)
    residual: bool | None = None


class ObjectiveSection(Section):
    """Where the value of an architecture comes from: the name of an evaluator.

    ``proxy``, a column of a ``table`` of known results (what it does not list is outside the space), ``train``: the
    accuracy after a short training, ``supernet``: the accuracy with the weights of a trained supernet, or
    ``module:Class``. ``then: train`` adds a second stage; see :class:`TrainingSection`.

    A table may have learning curves: ``columns_by_epoch`` (``{10: acc_10, 50: acc_50}``) names the columns of values
    after so many epochs, so that ``training.pruner`` ends look-ups as it ends trainings. ``column`` is by default that
    of the last of these epochs.

    ``weights`` is the folder of the supernet; ``images`` of those held back judge, after ``settling`` training images
    gave the statistics of batch normalisation, by default all that lie in the folder; ``amp`` computes them in lower
    precision. ``balance`` takes points off for costs, ``target`` counts no more accuracy than is wanted.

    ``options`` are for evaluators that are not zenopt's own.
    """

    kind: str = "proxy"
    table: str | None = None
    column: str | None = None
    columns_by_epoch: dict[Annotated[int, Field(ge=1)], str] = Field(default_factory=dict)
    direction: Literal["maximize", "minimize"] = "maximize"
    weights: str | None = None
    images: int | None = Field(None, ge=1)
    settling: int | None = Field(None, ge=2)
    amp: Literal["bf16", "fp16"] | None = None
    target: float | None = Field(None, gt=0, le=100)
    balance: dict[str, Annotated[float, Field(gt=0)]] = Field(default_factory=dict)
    options: dict[str, Any] = Field(default_factory=dict)
    then: Literal["train"] | None = None

    @model_validator(mode="after")
    def _check_table(self) -> ObjectiveSection:
        if self.kind == "table" and self.column is None and self.columns_by_epoch:
            # The section is frozen for everybody else.
            object.__setattr__(self, "column", self.columns_by_epoch[max(self.columns_by_epoch)])
        given = (self.table is not None, self.column is not None)
        if self.kind == "table" and not all(given):
            raise ValueError("a table objective needs the keys table (a CSV file) and column")
        if self.kind in ("proxy", "train", "supernet") and (any(given) or self.columns_by_epoch):
            raise ValueError(
                "table, column and columns_by_epoch are keys of a table objective; set kind: table"
            )
        if (self.kind == "supernet") != (self.weights is not None):
            raise ValueError(
                "a supernet objective needs the key weights (the folder of zenopt supernet train); others have none"
            )
        own = (self.images, self.settling, self.amp, self.target, self.balance or None)
        if self.kind != "supernet" and own != (None,) * len(own):
            raise ValueError(
                "images, settling, amp, target and balance are keys of a supernet objective; set kind: supernet"
            )
        if self.kind == "train" and self.then is not None:
            raise ValueError("an objective of kind train trains every network; leave out then: train")
        return self


class GuideSection(Section):
    """A cheap score that decides what is worth a real evaluation: a proxy, or a column of a table of its scores.

    ``warm_up`` random architectures are ranked and the ``first`` best evaluated before the evolution begins; ``moves``
    children of a parent are compared per proposal.
    """

    proxy: str | None = None
    table: str | None = None
    column: str | None = None
    direction: Literal["maximize", "minimize"] = "maximize"
    batch_size: int = Field(16, ge=1)
    resolution: int | None = Field(None, ge=4, le=4096)
    warm_up: int = Field(0, ge=0)
    first: int | None = Field(None, ge=1)
    moves: int = Field(0, ge=0)

    @model_validator(mode="after")
    def _check_source(self) -> GuideSection:
        if (self.proxy is None) == (self.table is None) or (self.table is None) != (self.column is None):
            raise ValueError("a guide needs either the key proxy, or the keys table and column")
        if not self.warm_up and self.moves < 2:
            raise ValueError("a guide needs warm_up, or moves of at least 2")
        return self


class SurrogateSection(Section):
    """What the sampler ``surrogate`` begins with, and what it chooses from.

    The first ``begin`` trials come from the top of ``ranking``, far apart: an input of the predictor, ``auto`` for what
    is best for the family, or ``none``; ``zen at equal convolutions and log MACs`` asks two in turn, the first of them
    for the best of each of several depths. Spaces that cannot be listed have ``candidates`` candidates. Of the
    groups of inputs, or of those that ``inputs`` names, it reads those that evidence is for.
    ``warm_start`` names earlier results, ``STORAGE#STUDY`` or ``TABLE.csv#COLUMN``.
    """

    begin: int = Field(4, ge=1, le=1000)
    candidates: int = Field(10_000, ge=100, le=1_000_000)
    ranking: str = "auto"
    inputs: tuple[str, ...] = ()
    warm_start: tuple[str, ...] = ()

    @field_validator("ranking", mode="before")
    @classmethod
    def _yaml_null(cls, value: Any) -> Any:
        return "none" if value is None else value


class AnnealingSection(Section):
    """How warm the sampler ``annealing`` begins, in spreads of its random architectures' scores, and how it cools."""

    temperature: Annotated[float, Field(ge=0), MayChange()] = 0.3
    cooling: float = Field(0.98, gt=0, le=1)


class ControllerSection(Section):
    """How the samplers ``reinforce`` and ``ppo`` learn; ``epochs`` and ``clip`` are for ``ppo``.

    ``batch`` trials make an update, by default 1 of ``reinforce`` and 4 of ``ppo``.
    """

    learning_rate: Annotated[float, Field(gt=0), MayChange()] = 0.01
    entropy: Annotated[float, Field(ge=0), MayChange()] = 0.01
    baseline_decay: float = Field(0.9, ge=0, lt=1)
    hidden: int = Field(64, ge=1, le=1024)
    batch: int | None = Field(None, ge=1)
    epochs: int = Field(4, ge=1)
    clip: Annotated[float, Field(gt=0, lt=1), MayChange()] = 0.2


class SamplerSection(Section):
    """Sampler that proposes candidates: zenopt's own, a class of ``optuna.samplers``, or ``module:object``.

    ``options`` are for the samplers that are not zenopt's own.

    ``mutation`` chooses Zen-NAS's published mutation or the cheaper one of its fork; ``random_initial`` architectures
    are drawn at random before the evolution begins, as the fork does (Zen-NAS begins with the initial structure alone).
    ``tournament`` is for aging evolution, ``guide`` for the two evolutions, ``surrogate``, ``annealing`` and
    ``controller`` for the samplers that these sections name. ``population`` is by default 512 as in Zen-NAS, and 64 for
    aging evolution, which is random until it is full.

    ``explore``, ``tournament``, ``annealing.temperature`` and ``learning_rate``, ``entropy`` and ``clip`` of
    ``controller`` may change over the study, ``{start: 0.1, every: 50, mul: 0.5}``: a trial's number tells the value.
    """

    name: str = "zen"
    options: dict[str, Any] = Field(default_factory=dict)
    population: int = Field(default=None, ge=2)  # type: ignore[assignment]
    mutation: str = "zen"
    random_initial: int | None = Field(None, ge=0)
    screening: Literal["auto", "on", "off"] = "auto"
    screening_candidates: int = Field(4000, ge=1)
    explore: Annotated[float, Field(ge=0, le=1), MayChange()] = 0.1
    tournament: Annotated[int, Field(ge=1), MayChange()] = 10
    guide: GuideSection | None = None
    surrogate: SurrogateSection = SurrogateSection()
    annealing: AnnealingSection = AnnealingSection()
    controller: ControllerSection = ControllerSection()

    @model_validator(mode="after")
    def _fill_population(self) -> SamplerSection:
        if self.population is None:
            # The section is frozen for everybody else.
            object.__setattr__(self, "population", 64 if self.name == "aging" else 512)
        check_range(self, MOST_TRIALS, "trial")
        return self

    @property
    def label(self) -> str:
        """The sampler with what changes over the study, in words."""
        changes = "; ".join(f"{path} {own.words('trial')}" for path, own in changing(self))
        return f"{self.name} ({changes})" if changes else self.name

    @field_validator("screening", mode="before")
    @classmethod
    def _yaml_booleans(cls, value: Any) -> Any:
        # YAML 1.1 reads a bare on/off as a boolean.
        return {True: "on", False: "off"}.get(value, value) if isinstance(value, bool) else value


class _ClassBase(Section):
    """A tighter budget within the study's; the names are those of the budget."""

    @model_validator(mode="after")
    def _check_any(self) -> _ClassBase:
        if not self.limits():
            raise ValueError(f"a class needs at least one of {', '.join(type(self).model_fields)}")
        return self

    def limits(self) -> dict[str, float]:
        """Return the limits that are given, by name."""
        return self.model_dump(exclude_none=True)

    @property
    def label(self) -> str:
        """The class in words, e.g. ``convs <= 10``."""
        return ", ".join(
            f"{name} {'>=' if is_lower_limit(name) else '<='} {limit:g}"
            for name, limit in self.limits().items()
        )


ClassSection = create_model(
    "ClassSection",
    __base__=_ClassBase,
    **{name: (float | None, Field(None, gt=0)) for name in COST_KINDS},  # type: ignore[call-overload]
)


class PrunerSection(Section):
    """Ends trainings early; the names are ``none``, those of Optuna's pruners, or ``module:Class``."""

    name: str = "none"
    options: dict[str, Any] = Field(default_factory=dict)


class TrainingSection(Section):
    """Short trainings, of every trial (``objective.kind: train``) or of the best of each class (``then: train``).

    Networks are judged on training images held back; ``held_back: 0`` judges on the test images, which is for comparing
    finished networks, not for choosing among them. With several ``rates`` the learning rate is chosen for each class of
    the study, or it is a parameter of its own (``rate_by: parameter``). What is trained ``again`` are the finalists, or
    whatever tells most about which network is best.
    """

    data: str | None = None
    recipe: str = "basic"
    overrides: tuple[str, ...] = ()
    epochs: int = Field(6, ge=1)
    rates: tuple[float, ...] = ()
    rate_by: Literal["class", "parameter"] = "class"
    per_class: int = Field(2, ge=1, le=1000)
    finalists: int = Field(2, ge=1, le=1000)
    seeds: int = Field(3, ge=1, le=100)
    again: Literal["finalists", "gain"] = "finalists"
    held_back: float = Field(0.1, ge=0, lt=1)
    pruner: PrunerSection = PrunerSection()

    @field_validator("pruner", mode="before")
    @classmethod
    def _named(cls, value: Any) -> Any:
        return {"name": value} if isinstance(value, str) else value

    @field_validator("rates")
    @classmethod
    def _check_rates(cls, value: tuple[float, ...]) -> tuple[float, ...]:
        if any(not rate > 0 for rate in value):
            raise ValueError("learning rates must be positive")
        return value
