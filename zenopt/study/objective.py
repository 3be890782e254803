"""From a trial to its value: architecture, budget, proxy, and everything a person wants to know later."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from math import inf, isnan
from pathlib import Path
from typing import TYPE_CHECKING, Any

import optuna
from optuna.exceptions import TrialPruned
from optuna.trial import TrialState

from zenopt.core.costs import COST_KINDS
from zenopt.core.errors import EvaluationError
from zenopt.core.seeds import derive_seed
from zenopt.latency.limits import Check, Limits
from zenopt.storage.history import StudyHistory
from zenopt.storage.orphans import put_back, requeue_orphans
from zenopt.storage.records import TrialRecord, record_constraints
from zenopt.study.evaluators import make_evaluator
from zenopt.study.sampling import needs_all_slots, needs_complete

if TYPE_CHECKING:
    from zenopt.study.spec import StudySpec

#: Seconds between looks at a trial of another worker that scores the same structure.
_POLL_S = 0.1
#: Seconds of waiting after which it is asked whether that worker still lives.
_ORPHAN_CHECK_S = 5.0


class EvaluationStopped(Exception):
    """The search is to end before an evaluation has: the trial goes back to the queue."""


class Objective:
    """Scores the architecture of a trial; an Optuna objective.

    What is over budget is settled before any tensor exists: pruned, or for samplers that read completed trials only,
    completed with its closed-form value and positive constraints. A structure that the study has scored already, or
    that another worker is scoring, takes that score and is marked ``duplicate_of``.

    Args:
        spec:
            The resolved study spec; its batch size is fixed.
        study:
            The study, for known structures.
        device:
            Torch device of the measurements.
        should_stop:
            Asked while another worker is waited for, and between the steps of an evaluation.
        folder:
            Where evaluators may keep files.
        after_step:
            Called when an evaluation has reported a step and goes on.

    Raises (when called):
        TrialPruned: If the architecture is over budget, has no value, or a pruner ended its evaluation.
        EvaluationError: If the architecture has no value.
        EvaluationStopped: If the search is to end in the middle of an evaluation, or of waiting for another worker's.
    """

    def __init__(
        self,
        spec: StudySpec,
        study: optuna.Study,
        device: str = "cpu",
        should_stop: Callable[[], bool] = lambda: False,
        folder: Path = Path("runs"),
        after_step: Callable[[], None] = lambda: None,
    ) -> None:
        self._spec = spec
        self._device = device
        self._space = spec.build_space()
        self._limits = spec.limits()
        self._evaluator = make_evaluator(spec, device, folder)
        self._history = StudyHistory(
            study, ("score_mean", "score_std"), identity=self._evaluator.identity_key
        )
        self._should_stop = should_stop
        self._after_step = after_step
        self._all_slots = needs_all_slots(spec)
        self._completes = needs_complete(spec)
        self._worst = tuple(-inf if item == "maximize" else inf for item in spec.directions())
        self._live = live_latency(spec, self._limits)

    def __call__(self, trial: optuna.Trial) -> float | tuple[float, ...]:
        architecture = self._space.suggest(trial, all_slots=self._all_slots)
        check = self._limits.check(architecture)
        if self._live is not None and check.is_feasible:
            # What the prediction rejects is not worth a measurement; what it admits is settled by one.
            check = self._limits.with_latency(check, self._live(architecture))
        self._record_costs(trial, architecture, check)
        self._record_closed_form(trial, architecture)
        if not check.is_feasible:
            trial.set_user_attr("structure", str(architecture))
            if self._completes:
                # Such samplers order infeasible trials by their violations. The worst values there are keep them from
                # looking best to a reader that knows no constraints.
                return self._worst
            over = {name: violation for name, violation in check.violations.items() if violation > 0}
            raise TrialPruned(f"over budget: {', '.join(f'{k} by {v:.1%}' for k, v in over.items())}")
        if not self._evaluator.lists(architecture):
            trial.set_user_attr("structure", str(architecture))
            raise TrialPruned("there is no value of this architecture")
        settings = self._evaluator.settings(trial, architecture)
        owner = self._owner(trial, architecture, settings)
        value = (
            self._evaluate(trial, architecture, settings)
            if owner is None
            else self._reuse(trial, architecture, owner)
        )
        return self._values(value, check)

    def _record_closed_form(self, trial: optuna.Trial, architecture: Any) -> None:
        proxy = self._spec.proxy
        closed_form = architecture.closed_form(
            "zen",
            resolution=self._spec.resolution,
            gamma=proxy.gamma,
            batch_size=proxy.batch_size or proxy.batch_sizes.cpu,
        )
        if closed_form is not None:
            trial.set_user_attr("closed_form", closed_form)

    def _values(self, score: float, check: Check) -> float | tuple[float, ...]:
        """Return the values of all objectives; the score comes first."""
        names = self._spec.objectives[1:]
        if not names:
            return score
        costs = [check.latency_ms if name == "latency_ms" else getattr(check.costs, name) for name in names]
        return (score, *(float(cost) for cost in costs if cost is not None))

    def _owner(
        self, trial: optuna.Trial, architecture: Any, settings: Mapping[str, Any]
    ) -> TrialRecord | None:
        """Return the finished trial that owns the evaluation, after waiting for it; ``None`` if ours does now."""
        for key, value in settings.items():
            if trial.user_attrs.get(key) != value:
                trial.set_user_attr(key, value)
        identity = self._evaluator.identity(architecture, settings)
        if identity != str(architecture):
            trial.set_user_attr("structure", str(architecture))
        looked = time.monotonic()
        while True:
            owner = self._history.claim(trial, identity)
            if owner is None or owner.state.is_finished():
                return owner
            if self._should_stop():
                raise EvaluationStopped
            if time.monotonic() - looked > _ORPHAN_CHECK_S:
                # If the other worker has died meanwhile, its trial is put back and the structure is ours.
                requeue_orphans(self._history.study)
                looked = time.monotonic()
            time.sleep(_POLL_S)

    def _reuse(self, trial: optuna.Trial, architecture: Any, owner: TrialRecord) -> float:
        trial.set_user_attr("structure", str(architecture))
        trial.set_user_attr("duplicate_of", owner.number)
        for key in ("score_mean", "score_std"):
            if key in owner.user_attrs:
                trial.set_user_attr(key, owner.user_attrs[key])
        if owner.value is None:
            raise EvaluationError(f"Trial {owner.number} owns the structure but has no value.")
        return owner.value

    def _evaluate(self, trial: optuna.Trial, architecture: Any, settings: Mapping[str, Any]) -> float:
        seed = derive_seed(self._spec.seed, trial.number, "score")
        # What was reported before a worker died stays; Optuna takes no second value of a step, and warns.
        reported: set[int] = set()
        if self._evaluator.last_step is not None:
            storage = self._history.study._storage
            reported.update(storage.get_trial(trial._trial_id).intermediate_values)

        def report(step: int, value: float) -> None:
            if step not in reported:
                trial.report(value, step)
                reported.add(step)
            if step == self._evaluator.last_step:
                # Ending it here would throw a finished evaluation away.
                return
            if self._should_stop():
                raise EvaluationStopped
            if trial.should_prune():
                raise TrialPruned(f"ended by the pruner after step {step}")
            self._after_step()

        score = self._evaluator.evaluate(architecture, seed=seed, settings=settings, report=report)
        for step in sorted(score.curve.keys() - reported):
            # What an earlier worker did before it died.
            trial.report(score.curve[step], step)
        for key, value in self._evaluator.attributes(score, settings).items():
            trial.set_user_attr(key, value)
        return score.mean

    def _record_costs(self, trial: optuna.Trial, architecture: Any, check: Check) -> None:
        costs = check.costs
        for name in COST_KINDS:
            if not isnan(getattr(costs, name)):
                trial.set_user_attr(name, getattr(costs, name))
        if self._spec.budget.counting == "zennas" and not isnan(costs.zennas_params):
            # The violations are of these counts; params and macs stay the true ones.
            trial.set_user_attr("zennas_params", costs.zennas_params)
            trial.set_user_attr("zennas_flops", costs.zennas_flops)
        if check.latency_ms is not None:
            trial.set_user_attr("latency_ms", check.latency_ms)
        if self._spec.latency is not None:
            trial.set_user_attr("latency_mode", self._spec.latency.mode)
        if check.violations:
            record_constraints(trial, check.violations)


def live_latency(spec: StudySpec, limits: Limits) -> Callable[[Any], float] | None:
    """Return what measures an architecture on this device in ms per image; ``None`` where latency is predicted."""
    if spec.latency is None or spec.latency.mode == "predicted" or limits.device is None:
        return None
    # Imported late: measuring imports torch.
    from zenopt.latency.cache import MeasurementCache
    from zenopt.latency.live import LiveLatency

    live = LiveLatency.of_profile(limits.device, spec.num_classes, spec.use_se, MeasurementCache())
    return live.tabled_ms if spec.latency.mode == "table" else live.measured_ms


def run_trial(
    study: optuna.Study,
    objective: Objective,
    *,
    only_queued: bool = False,
    attributes: Mapping[str, str] | None = None,
) -> TrialState | None:
    """Ask for one trial, evaluate it and tell the result; return the state it ended in.

    With ``only_queued`` no new trial is made: where none is waiting, ``None`` is returned. The trial keeps
    ``attributes``.

    An architecture without a value leaves a failed trial with the reason in its ``error`` attribute, never a number.
    Other exceptions are recorded the same way and raised. An evaluation that is stopped midway puts its trial back.
    """
    if only_queued:
        trial_id = study._pop_waiting_trial_id()
        if trial_id is None:
            return None
        trial = optuna.Trial(study, trial_id)
    else:
        trial = study.ask()
    for key, text in (attributes or {}).items():
        trial.set_user_attr(key, text)
    return settle(study, trial, objective)


def settle(study: optuna.Study, trial: optuna.Trial, objective: Objective) -> TrialState:
    """Evaluate a running trial and tell the result, as :func:`run_trial` does; return the state it ended in."""
    try:
        value = objective(trial)
    except TrialPruned:
        study.tell(trial, state=TrialState.PRUNED)
        return TrialState.PRUNED
    except EvaluationStopped:
        put_back(study, trial)
        return TrialState.WAITING
    except EvaluationError as error:
        trial.set_user_attr("error", str(error))
        study.tell(trial, state=TrialState.FAIL)
        return TrialState.FAIL
    except Exception as error:
        trial.set_user_attr("error", f"{type(error).__name__}: {error}")
        study.tell(trial, state=TrialState.FAIL)
        raise
    study.tell(trial, list(value) if isinstance(value, tuple) else value)
    return TrialState.COMPLETE
