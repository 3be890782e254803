"""Study specs: the YAML files that say what to search, validated, with overrides from the command line."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import replace
from difflib import get_close_matches
from math import isnan
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, ValidationError, model_validator

from zenopt.core.budget import LIMITS, Budget, is_lower_limit
from zenopt.core.errors import DeviceError, SpecError, StudyError, UnknownNameError, ZenoptError
from zenopt.core.extensions import MissingModuleError, import_named
from zenopt.core.paths import existing_path
from zenopt.core.places import STUDIES_FOLDER
from zenopt.core.text import QUOTED, one_line, quoted, shortened_path
from zenopt.core.yamlfile import Overrides, Source, override, read_yaml
from zenopt.latency.guards import Guards
from zenopt.latency.limits import Limits
from zenopt.latency.profile import load_profile
from zenopt.proxies.catalogue import COMBINATIONS
from zenopt.proxies.registry import check_proxy
from zenopt.spaces.base import BaseSpace, require_supernet
from zenopt.spaces.registry import get_space
from zenopt.spaces.tabular import TabularSpace, space_table
from zenopt.study.registries import EVALUATORS, check_pruner, check_sampler
from zenopt.study.sections import (
    BudgetSection,
    ClassSection,
    LatencySection,
    ObjectiveSection,
    ProxySection,
    SamplerSection,
    Section,
    SpaceSection,
    TrainingSection,
)

#: The label of a network where a study has no classes, or that is within none of them.
NO_CLASS = "all"
#: What trainings must agree in, for their accuracies to be compared.
_TRAINING_IDENTITY = ("data", "recipe", "overrides", "epochs", "held_back")


class StudySpec(Section):
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
    classes: tuple[ClassSection, ...] = ()
    latency: LatencySection | None = None
    objective: ObjectiveSection = ObjectiveSection()
    objectives: tuple[str, ...] = ("score",)
    proxy: ProxySection = ProxySection()
    sampler: SamplerSection = SamplerSection()
    training: TrainingSection = TrainingSection()
    trials: int | None = Field(None, ge=1)
    timeout_s: float | None = Field(None, gt=0)
    seed: int = Field(0, ge=0, lt=2**63)

    @model_validator(mode="after")
    def _check_parts(self) -> StudySpec:
        if self.budget.latency_ms is not None and self.latency is None:
            raise ValueError("budget.latency_ms needs a latency section that names a device")
        if not self.objectives or self.objectives[0] != "score":
            raise ValueError("objectives must begin with score; costs may follow")
        unknown = [name for name in self.objectives[1:] if name not in LIMITS]
        if unknown:
            raise ValueError(f"objectives: {unknown[0]} is no cost; costs are {', '.join(LIMITS)}")
        if len(set(self.objectives)) != len(self.objectives):
            raise ValueError("objectives names one twice")
        if "latency_ms" in self.objectives and self.latency is None:
            raise ValueError("the objective latency_ms needs a latency section that names a device")
        limited = [name for name in LIMITS if getattr(self.budget, name) and not is_lower_limit(name)]
        for name in self.objective.balance:
            if name not in limited:
                known = ", ".join(limited) or "none"
                raise ValueError(
                    f"objective.balance: {name} is no cost that the budget limits; it limits {known}"
                )
        if self.objective.target is not None and not (self.objective.balance or self.objectives[1:]):
            raise ValueError(
                "objective.target needs objective.balance or a cost in objectives, to tell equals apart"
            )
        if self.objective.then == "train" and len(self.objectives) > 1:
            raise ValueError("objective.then: train chooses by accuracy; it needs one objective, the score")
        if self.classes and len(self.objectives) > 1:
            raise ValueError("classes are searched for one objective, the score")
        return self

    @classmethod
    def load(
        cls, preset_or_path: str | Path, overrides: Overrides = (), *, stored: bool = False
    ) -> StudySpec:
        """Read a preset or a file, and import the modules of spaces and proxies that it names.

        Args:
            preset_or_path:
                Name of a preset (see :func:`list_presets`) or path of a YAML file.
            overrides:
                Assignments such as ``"budget.params=5e5"``, or a mapping such as ``{"budget.params": 5e5}``.
            stored:
                Whether another file names this one, rather than a person; then nothing is imported.

        Raises:
            SpecError: If the file is missing or malformed, or a key or value is wrong; says file, line and path.
        """
        path = find_spec(preset_or_path)
        source = read_yaml(path)
        source.is_stored = stored
        override(source, overrides)
        return cls.validated(source)

    @classmethod
    def of_space(cls, name: str, overrides: Overrides = ()) -> StudySpec:
        """Return the spec of a space with everything else at its default; resolution and classes are the family's own.

        Args:
            name:
                A registered name, or ``package.module:object``, whose module is imported.
            overrides:
                See :meth:`load`.

        Raises:
            SpecError: If a key or value is wrong.
            UnknownNameError: If there is no such space.
        """
        factory = get_space(name)
        content = {
            "name": re.sub(r"[^A-Za-z0-9._-]+", "-", name).strip("-."),
            "space": {"name": name},
            "resolution": getattr(factory, "default_resolution", BaseSpace.default_resolution),
            "num_classes": getattr(factory, "default_num_classes", BaseSpace.default_num_classes),
        }
        source = Source(f"space {name}", content)
        override(source, overrides)
        return cls.validated(source)

    @classmethod
    def validated(cls, source: Source) -> StudySpec:
        """Validate parsed YAML, and that its space, proxy, device and initial structure exist.

        Modules of spaces and proxies are imported where a person names them: of a stored spec, those of its overrides.
        """
        try:
            spec = cls.model_validate(source.data)
        except ValidationError as error:
            raise SpecError(source.explain(error, cls)) from None
        except RecursionError:
            raise SpecError(f"{shortened_path(source.name)}: nested too deeply.") from None
        try:
            for place, name in spec.objects().items():
                given = (place[:length] in source.overridden for length in range(1, len(place) + 1))
                if not source.is_stored or any(given):
                    import_named(name)
            spec = spec._with_table_once()
            spec.build_space()
            spec._check_needs()
            spec.limits()
            for place, name in spec.objects().items():
                if place[0] == "proxy" or place[-1] == "proxy":
                    check_proxy(name, stored=True)
            check_sampler(spec.sampler.name, stored=True)
            check_pruner(spec.training.pruner.name, stored=True)
            spec.direction()
        except ZenoptError as error:
            raise SpecError(one_line(f"{shortened_path(source.name)}: {error}", 390)) from None
        return spec

    def _with_table_once(self) -> StudySpec:
        """Return the spec with the objective's table as the space's, where the space reads it and names none."""
        table, options = self.objective.table, self.space.options
        if table is None or "table" in options:
            return self
        if not getattr(get_space(self.space.name, stored=True), "shares_table", False):
            return self
        space = self.space.model_copy(update={"options": {"table": table, **options}})
        return self.model_copy(update={"space": space})

    def objects(self) -> dict[tuple[str | int, ...], str]:
        """Return every name that may be ``package.module:object``, by its place in the spec."""
        found: dict[tuple[str | int, ...], str] = {
            ("space", "name"): self.space.name,
            ("objective", "kind"): self.objective.kind,
            ("sampler", "name"): self.sampler.name,
            ("training", "pruner", "name"): self.training.pruner.name,
        }
        if self.proxy.name not in COMBINATIONS:
            found["proxy", "name"] = self.proxy.name
        found.update({("proxy", "parts", name): name for name in self.proxy.parts})
        if self.sampler.guide is not None and self.sampler.guide.proxy is not None:
            found["sampler", "guide", "proxy"] = self.sampler.guide.proxy
        return found

    @property
    def has_networks(self) -> bool:
        """Whether the space's architectures have networks; ``True`` where its module is not imported to tell."""
        try:
            return bool(getattr(get_space(self.space.name, stored=True), "has_networks", True))
        except MissingModuleError:
            return True

    def why_no_networks(self) -> str | None:
        """Return why the study's architectures cannot be built or taken apart; ``None`` where they can.

        A stored spec's space may be of a module that is not imported, or have no networks at all. Scores and costs can
        be shown without them.
        """
        try:
            self.require_networks()
        except (MissingModuleError, StudyError) as error:
            return str(error)
        return None

    def require_networks(self) -> None:
        """Refuse what needs networks.

        Raises:
            StudyError: If the study's architectures have none.
            MissingModuleError: If the space's module is not imported.
        """
        get_space(self.space.name, stored=True)
        if not self.has_networks:
            raise StudyError(
                f"The space {self.space.name} has no networks to build, train or draw: it is rows of a table."
            )

    def _check_needs(self) -> None:
        """Refuse evaluations of networks where there are none."""
        needs = {
            f"objective.kind {self.objective.kind}": self.evaluator().needs_networks,
            "objective.then train": self.objective.then == "train",
            "sampler.guide.proxy": self.sampler.guide is not None and self.sampler.guide.proxy is not None,
            "latency": self.latency is not None,
        }
        if self.evaluator().needs_supernet:
            require_supernet(get_space(self.space.name, stored=True), self.space.name)
        reason = self.why_no_networks()
        for what, is_needed in needs.items():
            if is_needed and reason is not None:
                raise SpecError(f"{what} needs networks. {reason}")

    @classmethod
    def validated_data(
        cls, content: dict[str, Any], name: str = "spec", *, stored: bool = False
    ) -> StudySpec:
        """Validate plain data, e.g. of a dictionary; ``name`` is what messages call it."""
        return cls.validated(Source(name, content, is_stored=stored))

    def overridden(self, overrides: Overrides) -> StudySpec:
        """Return the spec with some fields changed, validated again.

        Raises:
            SpecError: If a key or value is wrong.
        """
        source = Source("stored spec", self.model_dump(mode="json"), is_stored=True)
        override(source, overrides)
        return self.validated(source)

    def build_space(self) -> Any:
        """Return the search space; with a table objective, what the table lists of it.

        Raises:
            ZenoptError: If the space does not exist, or its initial structure is not in it.
        """
        space = self.space.build()
        if not space.reads_files:
            self._check_initial(space)
        if self.objective.kind == "table":
            assert self.objective.table is not None and self.objective.column is not None
            return TabularSpace(space, self.objective.table, self.objective.column)
        return space

    def _check_initial(self, space: Any) -> None:
        """Find out whether the architecture a search starts from is in the space and can be checked."""
        if isinstance(space.initial, str) and space.initial:
            initial = space.parse(space.initial)
            space.encode(initial)
            # A family or a device may refuse the resolution or gates: better now than in the first trial.
            try:
                self.limits().check(initial)
            except DeviceError as error:
                reason = str(error).partition(";")[0].rstrip(".")
                raise SpecError(
                    f"latency.device: {reason}; choose a resolution it knows or another profile "
                    f"(zenopt latency calibrate makes one)."
                ) from None

    def evaluator(self) -> Any:
        """Return what gives architectures their value: a class derived from
        :class:`~zenopt.study.evaluators.base.Evaluator`.

        Raises:
            SpecError: If there is no evaluator of this name.
        """
        try:
            return EVALUATORS.get(self.objective.kind, stored=True)
        except UnknownNameError as error:
            raise SpecError(f"objective.kind: {error}") from None

    def check(self) -> None:
        """Find out whether everything a search reads is there, so that it ends before it begins.

        Raises:
            ZenoptError: If a table, a column or data is missing or malformed.
        """
        space = self.space.build()
        if space.reads_files:
            self._check_initial(space)
            costs = self.limits().count(space.parse(space.initial))
            unknown = [name for name in self.objectives[1:] if isnan(getattr(costs, name))]
            if unknown:
                raise SpecError(
                    f"objectives: nothing records {unknown[0]} of the architectures of the space {self.space.name}."
                )
        self.evaluator().options_of(self)
        self.evaluator().check(self)
        guide = self.sampler.guide
        if guide is not None and guide.table is not None and guide.column is not None:
            space_table(space, guide.table).column(guide.column)

    def direction(self) -> Literal["maximize", "minimize"]:
        """Return which values are better."""
        found: Literal["maximize", "minimize"] = self.evaluator().direction(self)
        return found

    def directions(self) -> list[Literal["maximize", "minimize"]]:
        """Return which values are better, for every objective; costs are minimised."""
        return [
            self.direction(),
            *("maximize" if is_lower_limit(name) else "minimize" for name in self.objectives[1:]),
        ]

    def limits(self) -> Limits:
        """Return the budget with what is needed to check it; the latency limit has its margin applied."""
        values = self.budget.model_dump()
        if self.latency is not None and values["latency_ms"] is not None:
            values["latency_ms"] *= self.latency.margin
        device = load_profile(self.latency.device) if self.latency is not None else None
        guards = None
        if self.latency is not None and self.latency.guards is not None:
            guards = Guards(margin=self.latency.margin, **self.latency.guards.model_dump())
        if self.latency is not None and self.latency.mode != "predicted":
            assert device is not None
            if not device.is_calibrated:
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

    def class_limits(self) -> list[tuple[str, Limits]]:
        """Return the classes of the study, by label: the budget with the limits of each where they are tighter."""
        limits = self.limits()
        own = limits.budget.limits()
        found = []
        for section in self.classes:
            tighter: dict[str, Any] = {
                name: (max if is_lower_limit(name) else min)(limit, own.get(name, limit))
                for name, limit in section.limits().items()
            }
            found.append((section.label, replace(limits, budget=limits.budget.with_limits(**tighter))))
        return found

    def class_label(self, architecture: Any) -> str:
        """Return the first class whose limits an architecture keeps; :data:`NO_CLASS` where there are none."""
        classes = self.class_limits()
        if not classes:
            return NO_CLASS
        costs = self.limits().count(architecture)
        return next((label for label, limits in classes if limits.keeps(costs)), NO_CLASS)

    def with_batch_size(self, device: str) -> StudySpec:
        """Return the spec with the score batch fixed for a kind of device (``cpu``, ``cuda:1``, ...)."""
        if self.proxy.batch_size is not None:
            return self
        kind = device.partition(":")[0]
        batch_size = getattr(self.proxy.batch_sizes, kind, self.proxy.batch_sizes.cpu)
        return self.model_copy(update={"proxy": self.proxy.model_copy(update={"batch_size": batch_size})})

    def identity(self) -> dict[str, Any]:
        """Return the fields that every worker of a study must agree on, flattened to dotted paths.

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
        if self.objective.kind == "train":
            flat.update((f"training.{key}", content["training"][key]) for key in _TRAINING_IDENTITY)
        # What is not in use may differ: batches by device, once one is chosen, and narrow bounds of a wide search. What
        # follows the search changes nothing in it.
        unused = ("proxy.batch_sizes", "objective.then") + (
            ("space.narrow",) if self.space.bounds == "wide" else ()
        )
        return {key: value for key, value in flat.items() if not key.startswith(unused)}


def find_spec(preset_or_path: str | Path) -> Path:
    """Return the file of a preset name or path.

    Raises:
        SpecError: If there is none; the message lists the presets.
    """
    text = str(preset_or_path)
    if text.endswith((".yaml", ".yml")) or "/" in text:
        path = existing_path(text)
        if path is None or path.is_dir():
            raise SpecError(f"Study spec {shortened_path(text)} does not exist.")
        return path
    if text in list_presets():
        return STUDIES_FOLDER / f"{text}.yaml"
    raise SpecError(
        f"Unknown study preset {quoted(text)}{meant_preset(text)}; presets are {', '.join(list_presets())}. A file "
        f"of your own ends in .yaml."
    )


def meant_preset(text: str) -> str:
    """Return the preset that a text may have meant, as a question in brackets; nothing where none is like it."""
    close = get_close_matches(text[:QUOTED], list_presets(), n=1)
    return f" (did you mean {close[0]!r}?)" if close else ""


def names_spec(text: str) -> bool:
    """Return whether a text names a preset or a study file."""
    return text in list_presets() or text.endswith((".yaml", ".yml"))


def list_presets() -> list[str]:
    """Return the names of the presets that come with zenopt."""
    return sorted(path.stem for path in STUDIES_FOLDER.glob("*.yaml"))


def _flatten(value: Any, path: str = "") -> Iterable[tuple[str, Any]]:
    if isinstance(value, Mapping):
        for key, inner in value.items():
            yield from _flatten(inner, f"{path}.{key}" if path else key)
    else:
        yield path, value
