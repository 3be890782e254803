"""From a trial to its value: architecture, budget, proxy, and everything a person wants to know later."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from optuna.exceptions import TrialPruned
from optuna.trial import TrialState

from zenopt.core.errors import ProxyError
from zenopt.core.seeds import derive_seed
from zenopt.latency.limits import Check, Limits
from zenopt.storage.constraints import record_constraints
from zenopt.storage.history import StudyHistory
from zenopt.storage.orphans import requeue_orphans
from zenopt.storage.records import TrialRecord
from zenopt.study.evaluators import evaluate_architecture, table_value
from zenopt.study.sampler_factory import NEEDS_ALL_SLOTS, NEEDS_COMPLETE

if TYPE_CHECKING:
    import optuna

    from zenopt.study.spec import StudySpec

#: Seconds between looks at a trial of another worker that scores the same structure.
_POLL_S = 0.1
#: Seconds of waiting after which it is asked whether that worker still lives.
_ORPHAN_CHECK_S = 5.0


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
            Asked while another worker is waited for.

    Raises (when called):
        TrialPruned: If the architecture is over budget, or not in the objective's table.
        ProxyError: If the proxy fails or is not finite.
    """

    def __init__(
        self,
        spec: StudySpec,
        study: optuna.Study,
        device: str = "cpu",
        should_stop: Callable[[], bool] = lambda: False,
    ) -> None:
        self._spec = spec
        self._device = device
        self._space = spec.build_space()
        self._limits = spec.limits()
        self._history = StudyHistory(study, ("score_mean", "score_std"))
        self._should_stop = should_stop
        self._live = live_latency(spec, self._limits)

    def __call__(self, trial: optuna.Trial) -> float | tuple[float, ...]:
        architecture = self._space.suggest(trial, all_slots=self._spec.sampler.name in NEEDS_ALL_SLOTS)
        check = self._limits.check(architecture)
        if self._live is not None and check.is_feasible:
            # What the prediction rejects is not worth a measurement; what it admits is settled by one.
            check = self._limits.with_latency(check, self._live(architecture))
        self._record_costs(trial, architecture, check)
        proxy = self._spec.proxy
        closed_form = architecture.closed_form(
            "zen",
            resolution=self._spec.resolution,
            gamma=proxy.gamma,
            batch_size=proxy.batch_size or proxy.batch_sizes.cpu,
        )
        if closed_form is not None:
            trial.set_user_attr("closed_form", closed_form)
        if not check.is_feasible:
            trial.set_user_attr("structure", str(architecture))
            if self._spec.sampler.name in NEEDS_COMPLETE:
                # Samplers order infeasible trials by their violations; the value is shown to people only.
                shown = closed_form if closed_form is not None else -sum(map(abs, check.violations.values()))
                return self._values(shown, check)
            over = {name: violation for name, violation in check.violations.items() if violation > 0}
            raise TrialPruned(f"over budget: {', '.join(f'{k} by {v:.1%}' for k, v in over.items())}")
        if self._spec.objective.kind == "table" and table_value(self._spec, architecture) is None:
            trial.set_user_attr("structure", str(architecture))
            raise TrialPruned("the table does not list this architecture")
        owner = self._owner(trial, str(architecture))
        score = (
            self._measure(trial, architecture) if owner is None else self._reuse(trial, architecture, owner)
        )
        return self._values(score, check)

    def _values(self, score: float, check: Check) -> float | tuple[float, ...]:
        """Returns the values of all objectives; the score comes first."""
        known = {"params": check.costs.params, "macs": check.costs.macs, "latency_ms": check.latency_ms}
        costs = [known[name] for name in self._spec.objectives[1:]]
        if not costs:
            return score
        return (score, *(float(cost) for cost in costs if cost is not None))

    def _owner(self, trial: optuna.Trial, structure: str) -> TrialRecord | None:
        """Returns the finished trial that owns the structure, after waiting for it; ``None`` if ours does now."""
        looked = time.monotonic()
        while True:
            owner = self._history.claim_structure(trial, structure)
            if owner is None or owner.state.is_finished():
                return owner
            if self._should_stop():
                raise TrialPruned("stopped while another worker was scoring the same structure")
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
            raise ProxyError(f"Trial {owner.number} owns the structure but has no value.")
        return owner.value

    def _measure(self, trial: optuna.Trial, architecture: Any) -> float:
        seed = derive_seed(self._spec.seed, trial.number, "score")
        score = evaluate_architecture(self._spec, architecture, seed=seed, device=self._device)
        trial.set_user_attr("score_mean", score.mean)
        trial.set_user_attr("score_std", score.std)
        trial.set_user_attr("score_seconds", score.seconds)
        if score.batch_size:
            trial.set_user_attr("score_batch", score.batch_size)
        trial.set_user_attr("seed", seed)
        trial.set_user_attr("device", score.device)
        return score.mean

    def _record_costs(self, trial: optuna.Trial, architecture: Any, check: Check) -> None:
        costs = check.costs
        for name in ("params", "macs", "layers", "convs", "min_width", "depth_to_width"):
            trial.set_user_attr(name, getattr(costs, name))
        if self._spec.budget.counting == "zennas":
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
    """Returns what measures an architecture on this device in ms per image; ``None`` where latency is predicted."""
    if spec.latency is None or spec.latency.mode == "predicted" or limits.device is None:
        return None
    # Imported late: measuring imports torch.
    from zenopt.latency.cache import MeasurementCache
    from zenopt.latency.live import LiveLatency

    live = LiveLatency.of_profile(limits.device, spec.num_classes, spec.use_se, MeasurementCache())
    return live.tabled_ms if spec.latency.mode == "table" else live.measured_ms


def run_trial(study: optuna.Study, objective: Objective) -> TrialState:
    """Asks for one trial, evaluates it and tells the result; returns the state it ended in.

    A proxy that fails leaves a failed trial with the reason in its ``error`` attribute, never a number. Other
    exceptions are recorded the same way and raised.
    """
    trial = study.ask()
    try:
        value = objective(trial)
    except TrialPruned:
        study.tell(trial, state=TrialState.PRUNED)
        return TrialState.PRUNED
    except ProxyError as error:
        trial.set_user_attr("error", str(error))
        study.tell(trial, state=TrialState.FAIL)
        return TrialState.FAIL
    except Exception as error:
        trial.set_user_attr("error", f"{type(error).__name__}: {error}")
        study.tell(trial, state=TrialState.FAIL)
        raise
    study.tell(trial, list(value) if isinstance(value, tuple) else value)
    return TrialState.COMPLETE
