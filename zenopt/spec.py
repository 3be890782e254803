"""Study specs: the YAML files that say what to search, validated, with overrides from the command line."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from difflib import get_close_matches
from inspect import Parameter, signature
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from zenopt.budget import Budget
from zenopt.errors import SpecError, ZenoptError
from zenopt.latency.guards import Guards
from zenopt.latency.profile import load_profile
from zenopt.limits import Limits
from zenopt.proxies.registry import get_proxy
from zenopt.spaces.registry import get_space
from zenopt.spaces.tabular import TabularSpace
from zenopt.specfile import Source, override, read_yaml
from zenopt.tables import load_table

STUDIES_FOLDER = Path(__file__).resolve().parent / "studies"


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class SpaceSection(_Section):
    """Which architectures exist.

    ``bounds`` chooses between the space as given ("wide") and the values of ``narrow`` on top of it. Samplers that draw
    uniformly find feasible points only in narrow bounds.
    """

    name: str = "superres"
    initial: str | None = None
    bounds: Literal["wide", "narrow"] = "wide"
    narrow: dict[str, int] = Field(default_factory=dict)
    options: dict[str, Any] = Field(default_factory=dict)

    def build(self) -> Any:
        """Returns the space.

        Raises:
            ZenoptError: If the space is unknown or an option does not fit it.
        """
        factory = get_space(self.name)
        self._check_options(factory)
        options = dict(self.options)
        if self.bounds == "narrow":
            if not self.narrow:
                raise SpecError("space.bounds is 'narrow' but space.narrow gives no bounds.")
            options.update(self.narrow)
        if self.initial is not None:
            options["initial"] = self.initial
        try:
            return factory(**options)
        except TypeError as error:
            raise SpecError(f"space.options do not fit the space {self.name!r}: {error}.") from None

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


class BudgetSection(_Section):
    """Upper limits on costs (``min_width`` is a lower one); a missing key is no limit."""

    params: float | None = Field(None, gt=0)
    macs: float | None = Field(None, gt=0)
    layers: float | None = Field(None, gt=0)
    latency_ms: float | None = Field(None, gt=0)
    convs: float | None = Field(None, gt=0)
    min_width: float | None = Field(None, gt=0)
    depth_to_width: float | None = Field(None, gt=0)
    counting: Literal["true", "zennas"] = "true"

    @field_validator("counting", mode="before")
    @classmethod
    def _yaml_true(cls, value: Any) -> Any:
        # YAML reads a bare true as a boolean.
        return "true" if value is True else value


class GuardsSection(_Section):
    """What keeps a search from exploiting its latency model; see :class:`zenopt.latency.Guards`. ``null`` is off."""

    counterpart: str | None = "auto"
    disagreement: float | None = Field(0.25, gt=0)
    budget_under_both: bool = True
    outside_share: float | None = Field(0.25, gt=0)
    max_expansion: float | None = Field(8.0, gt=0)
    min_bottleneck: int | None = Field(32, ge=1)
    max_stem_width: int | None = Field(64, ge=1)


class LatencySection(_Section):
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


class BatchSizes(_Section):
    """Score batch by kind of device; the study keeps the one its first worker chose, so that scores compare."""

    cpu: int = Field(16, ge=2)
    cuda: int = Field(64, ge=2)
    mps: int = Field(64, ge=2)


class ProxySection(_Section):
    """What gives an architecture its value."""

    name: str = "zen"
    batch_size: int | None = Field(None, ge=1)
    batch_sizes: BatchSizes = BatchSizes()
    repeats: int = Field(1, ge=1)
    gamma: float = Field(0.01, gt=0)
    residual: bool | None = None


class ObjectiveSection(_Section):
    """Where the value of an architecture comes from: the proxy, or a column of a table of known results.

    What the table does not list is outside the space.
    """

    kind: Literal["proxy", "table"] = "proxy"
    table: str | None = None
    column: str | None = None
    direction: Literal["maximize", "minimize"] = "maximize"

    @model_validator(mode="after")
    def _check_table(self) -> ObjectiveSection:
        given = (self.table is not None, self.column is not None)
        if self.kind == "table" and not all(given):
            raise ValueError("a table objective needs the keys table (a CSV file) and column")
        if self.kind == "proxy" and any(given):
            raise ValueError("table and column are keys of a table objective; set kind: table")
        return self


class GuideSection(_Section):
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


class SamplerSection(_Section):
    """Who proposes.

    ``mutation`` chooses Zen-NAS's published mutation or the cheaper one of its fork; ``random_initial`` architectures
    are drawn at random before the evolution begins, as the fork does (Zen-NAS begins with the initial structure alone).
    ``tournament`` is for aging evolution, ``guide`` for the two evolutions.
    """

    name: Literal["zen", "random", "tpe", "nsga2", "gp", "aging"] = "zen"
    population: int = Field(512, ge=2)
    mutation: Literal["zen", "fork"] = "zen"
    random_initial: int = Field(0, ge=0)
    screening: Literal["auto", "on", "off"] = "auto"
    screening_candidates: int = Field(4000, ge=1)
    explore: float = Field(0.1, ge=0, le=1)
    tournament: int = Field(10, ge=1)
    guide: GuideSection | None = None

    @field_validator("screening", mode="before")
    @classmethod
    def _yaml_booleans(cls, value: Any) -> Any:
        # YAML 1.1 reads a bare on/off as a boolean.
        return {True: "on", False: "off"}.get(value, value) if isinstance(value, bool) else value


class StudySpec(_Section):
    """A study: space, resolution, proxy, budget, sampler, length.

    Read one with :meth:`load`; the fields are those of the YAML files in ``studies/``.
    """

    name: str = Field(min_length=1, pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")
    description: str = ""
    space: SpaceSection = SpaceSection()
    resolution: int = Field(ge=8, le=4096)
    num_classes: int = Field(1000, ge=1, le=1_000_000)
    use_se: bool = False
    budget: BudgetSection = BudgetSection()
    latency: LatencySection | None = None
    objective: ObjectiveSection = ObjectiveSection()
    objectives: tuple[Literal["score", "latency_ms", "params", "macs"], ...] = ("score",)
    proxy: ProxySection = ProxySection()
    sampler: SamplerSection = SamplerSection()
    trials: int | None = Field(None, ge=1)
    timeout_s: float | None = Field(None, gt=0)
    seed: int = Field(0, ge=0, lt=2**63)

    @model_validator(mode="after")
    def _check_parts(self) -> StudySpec:
        if self.budget.latency_ms is not None and self.latency is None:
            raise ValueError("budget.latency_ms needs a latency section that names a device")
        if not self.objectives or self.objectives[0] != "score":
            raise ValueError("objectives must begin with score; params, macs and latency_ms may follow")
        if len(set(self.objectives)) != len(self.objectives):
            raise ValueError("objectives names one twice")
        if "latency_ms" in self.objectives and self.latency is None:
            raise ValueError("the objective latency_ms needs a latency section that names a device")
        if self.trials is None and self.timeout_s is None:
            raise ValueError("give trials, timeout_s or both")
        return self

    @classmethod
    def load(cls, preset_or_path: str | Path, overrides: Iterable[str] = ()) -> StudySpec:
        """Reads a preset or a file.

        Args:
            preset_or_path:
                Name of a preset (see :func:`list_presets`) or path of a YAML file.
            overrides:
                Assignments such as ``"budget.params=5e5"``.

        Raises:
            SpecError: If the file is missing or malformed, or a key or value is wrong; says file, line and path.
        """
        path = find_spec(preset_or_path)
        source = read_yaml(path)
        for assignment in overrides:
            override(source, assignment)
        return cls.validated(source)

    @classmethod
    def validated(cls, source: Source) -> StudySpec:
        """Validates parsed YAML, and that its space, proxy, device and initial structure exist."""
        try:
            spec = cls.model_validate(source.data)
        except ValidationError as error:
            raise SpecError(source.explain(error, cls)) from None
        try:
            spec.build_space()
            spec.limits()
            get_proxy(spec.proxy.name)
            if spec.sampler.guide is not None and spec.sampler.guide.proxy is not None:
                get_proxy(spec.sampler.guide.proxy)
        except ZenoptError as error:
            raise SpecError(f"{source.name}: {error}") from None
        return spec

    def overridden(self, overrides: Iterable[str]) -> StudySpec:
        """Returns the spec with some fields changed, validated again.

        Raises:
            SpecError: If a key or value is wrong.
        """
        source = Source("stored spec", self.model_dump(mode="json"))
        for assignment in overrides:
            override(source, assignment)
        return self.validated(source)

    def build_space(self) -> Any:
        """Returns the search space; with a table objective, what the table lists of it.

        Raises:
            ZenoptError: If the space does not exist, or its initial structure is not in it.
        """
        space = self.space.build()
        if isinstance(space.initial, str) and space.initial:
            initial = space.parse(space.initial)
            space.encode(initial)
            # A family may refuse the resolution or gates: better now than in the first trial.
            self.limits().count(initial)
        if self.objective.kind == "table":
            assert self.objective.table is not None and self.objective.column is not None
            return TabularSpace(space, self.objective.table, self.objective.column)
        return space

    def check_tables(self) -> None:
        """Reads the tables the spec names, so that a search finds out before it begins.

        Raises:
            DataError: If a table or its column is missing or malformed.
        """
        for section in (self.objective, self.sampler.guide):
            if section is not None and section.table is not None and section.column is not None:
                load_table(section.table).column(section.column)

    def direction(self) -> Literal["maximize", "minimize"]:
        """Returns which values are better."""
        if self.objective.kind == "table":
            return self.objective.direction
        return get_proxy(self.proxy.name).direction

    def directions(self) -> list[Literal["maximize", "minimize"]]:
        """Returns which values are better, for every objective; costs are minimised."""
        return [self.direction(), *(["minimize"] * (len(self.objectives) - 1))]  # type: ignore[list-item]

    def limits(self) -> Limits:
        """Returns the budget with what is needed to check it; the latency limit has its margin applied."""
        values = self.budget.model_dump()
        if self.latency is not None and values["latency_ms"] is not None:
            values["latency_ms"] *= self.latency.margin
        device = load_profile(self.latency.device) if self.latency is not None else None
        guards = None
        if self.latency is not None and self.latency.guards is not None:
            guards = Guards(margin=self.latency.margin, **self.latency.guards.model_dump())
        if self.latency is not None and self.latency.mode != "predicted":
            assert device is not None
            if "options" not in device.environment:
                raise SpecError(
                    f"latency.mode {self.latency.mode} needs a profile calibrated on this device, "
                    f"{device.name} is not one; run: zenopt latency calibrate"
                )
        return Limits(
            Budget(**values),
            self.resolution,
            self.num_classes,
            self.use_se,
            device,
            guards,
            self.budget.latency_ms,
        )

    def with_batch_size(self, device: str) -> StudySpec:
        """Returns the spec with the score batch fixed for a kind of device (``cpu``, ``cuda:1``, ...)."""
        if self.proxy.batch_size is not None:
            return self
        kind = device.partition(":")[0]
        batch_size = getattr(self.proxy.batch_sizes, kind, self.proxy.batch_sizes.cpu)
        return self.model_copy(update={"proxy": self.proxy.model_copy(update={"batch_size": batch_size})})

    def identity(self) -> dict[str, Any]:
        """Returns the fields that every worker of a study must agree on, flattened to dotted paths.

        Sampler, seed and length may differ between runs of one study.
        """
        kept = (
            "space",
            "resolution",
            "num_classes",
            "use_se",
            "budget",
            "latency",
            "objective",
            "proxy",
            "objectives",
        )
        content = self.model_dump(mode="json")
        flat = dict(_flatten({key: content[key] for key in kept}))
        # What is not in use may differ: batches by device, once one is chosen, and narrow bounds of a wide search.
        unused = ("proxy.batch_sizes",) + (("space.narrow",) if self.space.bounds == "wide" else ())
        return {key: value for key, value in flat.items() if not key.startswith(unused)}


def find_spec(preset_or_path: str | Path) -> Path:
    """Returns the file of a preset name or path.

    Raises:
        SpecError: If there is none; the message lists the presets.
    """
    text = str(preset_or_path)
    if text.endswith((".yaml", ".yml")) or "/" in text:
        path = Path(text)
        if not path.is_file():
            raise SpecError(f"Study spec {text} does not exist.")
        return path
    path = STUDIES_FOLDER / f"{text}.yaml"
    if not path.is_file():
        raise SpecError(
            f"Unknown study preset {text!r}; presets are {', '.join(list_presets())}. A file of your own ends in .yaml."
        )
    return path


def list_presets() -> list[str]:
    """Returns the names of the presets that come with zenopt."""
    return sorted(path.stem for path in STUDIES_FOLDER.glob("*.yaml"))


def _flatten(value: Any, path: str = "") -> Iterable[tuple[str, Any]]:
    if isinstance(value, Mapping):
        for key, inner in value.items():
            yield from _flatten(inner, f"{path}.{key}" if path else key)
    else:
        yield path, value
