"""Searching from Python: one call each to search, to draw, to evaluate a list, and to load what a study has found."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from zenopt.core.errors import StudyError
from zenopt.core.words import plural
from zenopt.core.yamlfile import Overrides, Source
from zenopt.result import Candidate as Candidate
from zenopt.result import Result
from zenopt.storage import default_storage
from zenopt.study.lists import Sample, draw_architectures
from zenopt.study.search import Progress, run_search
from zenopt.study.spec import StudySpec
from zenopt.study.study import load_study, open_existing

if TYPE_CHECKING:
    from zenopt.study.evaluating import Evaluated


def optimize(
    spec: StudySpec | dict[str, Any] | str | Path,
    storage: str | None = None,
    study_name: str | None = None,
    n_trials: int | None = None,
    timeout: float | None = None,
    workers: int | None = None,
    devices: Sequence[str] = ("cpu",),
    overrides: Overrides = (),
    progress: bool | Callable[[Progress], None] = False,
    loggers: Sequence[str] = (),
    on: str = "processes",
    resources: str = "",
) -> Result:
    """Create or join a study, add trials to it, and return what it has found.

    Args:
        spec:
            Name of a preset, path of a YAML file, the content of one as a dict, or a
            :class:`~zenopt.study.spec.StudySpec`.
        storage:
            Storage URL, or ``"memory:"``; by default the environment variable ``ZENOPT_STORAGE``, else
            ``sqlite:///zenopt.db``.
        study_name:
            Name in the storage; by default the spec's.
        n_trials:
            Trials to add. Without it and ``timeout``, the spec's own limits hold.
        timeout:
            Seconds after which no further trial begins.
        workers:
            Most workers at a time; by default one, in this process, and on a cluster as many as there is room for.
            Several processes need a stored study and, as all multiprocessing by spawning, a script whose main part
            stands under ``if __name__ == "__main__":``.
        devices:
            Torch devices, shared out among the workers.
        overrides:
            Assignments such as ``"budget.params=5e5"``, or a mapping such as ``{"budget.params": 5e5}``.
        progress:
            Whether to show progress on stderr, or a function that is called with it a few times per second.
        loggers:
            Where the numbers of every trial go as well: ``"csv"``, ``"tensorboard"`` (files in ``runs/NAME``),
            ``"wandb"``, ``"mlflow"``.
        on:
            Where the workers are: ``"processes"``, ``"ray"``, ``"ray:ADDRESS"``, ``"slurm"``, or ``"module:Class"``.
        resources:
            What each of them takes there, e.g. ``"cpu=2,gpu=0.25"``.

    Raises:
        ZenoptError: If the spec, the storage or a device is wrong; if the stored study has another spec; or if workers
            died before the run was over.

    Example:
        .. code-block:: python

            import zenopt

            result = zenopt.optimize("cifar-params1m", n_trials=300)
            print(result.best.score, result.best.structure)
            result.plot_pareto("macs").show()
            result.export("bundle")
    """
    resolved = _read_spec(spec, overrides)
    name = study_name or resolved.name
    storage = storage or default_storage()
    if timeout is not None and not 0 < timeout < math.inf:
        raise StudyError(f"timeout must be a positive number of seconds, got {timeout}.")
    if n_trials is None and timeout is None:
        n_trials, timeout = resolved.trials, resolved.timeout_s
    hooks: dict[str, Any] = {}
    told: list[Callable[[Progress], None]] = []
    with ExitStack() as listening:
        if loggers:
            from zenopt.progress.trial_log import TrialLog

            told.append(listening.enter_context(TrialLog(loggers, resolved, name, storage)).update)
        if progress is True:
            from zenopt.progress.search import Reporter

            reporter = Reporter(resolved, name, storage, trials=n_trials, timeout_s=timeout)
            told.append(listening.enter_context(reporter).update)
            hooks["on_ready"] = reporter.ready
        elif progress:
            told.append(progress)
        if told:
            hooks["on_progress"] = lambda found: [tell(found) for tell in told]
        run = run_search(
            resolved,
            storage,
            name,
            trials=n_trials,
            timeout_s=timeout,
            workers=1 if workers is None and on == "processes" else workers,
            devices=tuple(devices),
            on=on,
            resources=resources,
            **hooks,
        )
    if run.failures and not run.is_complete and not run.stopped:
        raise StudyError(
            f"Study {name!r} stopped after {plural(run.done, 'trial')}: {'; '.join(run.failures)}."
        )
    return Result(load_study(run.storage, name), run)


def sample_architectures(
    spec: StudySpec | dict[str, Any] | str | Path,
    count: int = 10,
    *,
    overrides: Overrides = (),
    seed: int = 0,
    within_budget: bool = True,
    over_budget: Literal["shrink", "skip"] = "shrink",
) -> list[Sample]:
    """Draw different architectures of a study's space, with their costs, as ``zenopt sample`` does.

    Args:
        spec:
            As :func:`optimize` takes it; ``StudySpec.of_space("darts")`` stands for a space without a budget.
        count:
            How many; fewer are returned where no more are found.
        overrides:
            Assignments such as ``"budget.params=5e5"``, or a mapping such as ``{"budget.params": 5e5}``.
        seed:
            Fixes the draw; a larger draw begins with a smaller one.
        within_budget:
            Whether they keep the spec's budget.
        over_budget:
            Whether draws over it are made smaller or left out, where the space cannot be listed.

    Raises:
        ZenoptError: If the spec is wrong, or nothing is found within the budget.
    """
    return draw_architectures(
        _read_spec(spec, overrides), count, seed=seed, within_budget=within_budget, over_budget=over_budget
    )


def evaluate_architectures(
    architectures: Sequence[Any],
    spec: StudySpec | dict[str, Any] | str | Path,
    *,
    overrides: Overrides = (),
    storage: str | None = None,
    study_name: str | None = None,
    workers: int | None = 1,
    devices: Sequence[str] = ("cpu",),
    runs: str | Path = "runs",
    on: str = "processes",
    resources: str = "",
    on_result: Callable[[Evaluated], None] = lambda result: None,
) -> list[Evaluated]:
    """Evaluate architectures by a spec's objective, as ``zenopt evaluate-architectures`` does; the best comes first.

    Args:
        architectures:
            Architectures, or their texts.
        spec:
            As :func:`optimize` takes it; its budget only says which of them would keep it.
        overrides:
            Assignments such as ``"objective.kind=train"``, or a mapping such as ``{"objective.kind": "train"}``.
        storage:
            Storage URL, or ``"memory:"``; by default as in :func:`optimize`.
        study_name:
            Study that keeps the values; by default the spec's name with ``-evaluated`` behind it.
        workers, devices, on, resources:
            As in :func:`optimize`.
        runs:
            Folder of the trainings, where networks are trained.
        on_result:
            Told of every architecture that is finished now.

    Raises:
        ZenoptError: If an architecture is not of the space, the study was made with another objective, what the
            evaluator needs is missing, or workers died before all was done.
    """
    from zenopt.study.evaluating import evaluate_list, open_place

    resolved = _read_spec(spec, overrides)
    place = open_place(
        resolved,
        storage or default_storage(),
        workers=workers,
        devices=devices,
        runs=runs,
        on=on,
        resources=resources,
    )
    found = evaluate_list(architectures, resolved, place, study_name, on_result=on_result)
    if found.missing and found.run is not None and found.run.failures and not found.run.stopped:
        raise StudyError(
            f"{plural(found.missing, 'architecture')} not evaluated: {'; '.join(found.run.failures)}."
        )
    return list(found.results)


def load_result(study_name: str, storage: str | None = None) -> Result:
    """Return what a stored study, running or finished, has found.

    Raises:
        ZenoptError: If there is no such storage or study.
    """
    return Result(load_study(open_existing(storage or default_storage()), study_name))


def _read_spec(spec: StudySpec | dict[str, Any] | str | Path, overrides: Overrides) -> StudySpec:
    if isinstance(spec, StudySpec):
        return spec.overridden(overrides) if overrides else spec
    if isinstance(spec, dict):
        validated = StudySpec.validated(Source("spec", spec))
        return validated.overridden(overrides) if overrides else validated
    return StudySpec.load(spec, overrides)
