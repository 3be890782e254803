"""The objective: budget before tensors, recorded facts, duplicates, failures."""

from __future__ import annotations

import math
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import optuna
import pytest
from optuna.trial import TrialState
from torch.overrides import TorchFunctionMode

from zenopt.core.costs import count
from zenopt.core.seeds import derive_seed
from zenopt.proxies import register_proxy, score_architecture
from zenopt.proxies.registry import ScoreSettings
from zenopt.spaces.chain.architecture import Architecture
from zenopt.spaces.chain.closed_form import closed_form_zen
from zenopt.storage import WORKER_KEY, StudyHistory, Worker, constraints_of, open_storage
from zenopt.storage.workers import host_name
from zenopt.study.objective import Objective, run_trial
from zenopt.study.sampling import make_sampler
from zenopt.study.spec import StudySpec

calls: Counter[str] = Counter()
ENTERED, PROCEED = threading.Event(), threading.Event()


@register_proxy("test-objective-count", kind="architecture")
def counted(architecture: Architecture, settings: ScoreSettings) -> float:
    """Count how often it is asked."""
    calls[str(architecture)] += 1
    return float(settings.seed % 1000)


@register_proxy("test-objective-slow", kind="architecture")
def slow(architecture: Architecture, settings: ScoreSettings) -> float:
    """Take until it is told to end."""
    ENTERED.set()
    assert PROCEED.wait(300)
    return counted(architecture, settings)


@register_proxy("test-objective-broken", kind="architecture")
def broken(architecture: Architecture, settings: ScoreSettings) -> float:
    """Fail as torch does."""
    raise RuntimeError("no memory for 3 TiB\nwith details below")


@register_proxy("test-objective-nan", kind="architecture")
def not_a_number(architecture: Architecture, settings: ScoreSettings) -> float:
    """Give no number."""
    return float("nan")


@register_proxy("test-objective-bug", kind="architecture")
def buggy(architecture: Architecture, settings: ScoreSettings) -> float:
    """Has a bug."""
    raise KeyError("oops")


class NoTensors(TorchFunctionMode):
    """Fails at the first use of torch."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        raise AssertionError(f"{func} was called")


@pytest.fixture(autouse=True)
def _fresh_counts() -> None:
    calls.clear()
    ENTERED.clear()
    PROCEED.clear()


@pytest.fixture(params=["memory", "sqlite", "journal"])
def new_storage(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Callable[[], Any]]:
    memory = optuna.storages.InMemoryStorage()
    urls = {"sqlite": f"sqlite:///{tmp_path}/study.db", "journal": f"{tmp_path}/study.log"}
    yield lambda: memory if request.param == "memory" else open_storage(urls[request.param])


@pytest.fixture
def spec(tiny_spec: Callable[..., StudySpec]) -> Callable[..., StudySpec]:
    def make(proxy: str = "count", sampler: str = "random", **sections: Any) -> StudySpec:
        name = "zen" if proxy == "zen" else f"test-objective-{proxy}"
        return tiny_spec(
            proxy={"name": name, "batch_size": 2}, sampler={"name": sampler, "screening": "off"}, **sections
        )

    return make


def start(spec: StudySpec, storage: Any = None, **options: Any) -> tuple[optuna.Study, Objective]:
    study = optuna.create_study(
        storage=storage,
        study_name="one",
        direction="maximize",
        sampler=make_sampler(spec),
        load_if_exists=True,
    )
    return study, Objective(spec, study, **options)


def enqueue(study: optuna.Study, spec: StudySpec, *, times: int = 1, text: str | None = None) -> str:
    space = spec.build_space()
    for _ in range(times):
        study.enqueue_trial(space.encode(space.parse(text or space.initial)))
    return text or space.initial


BIG = "SuperConvK3BNRELU(3,32,1,1)SuperResK7K7(32,32,1,16,2)SuperResK7K7(32,32,2,16,2)SuperConvK1BNRELU(32,64,1,1)"


# -- what is within the budget -----------------------------------------------------------------------------------------


def test_facts_of_a_scored_trial(spec: Callable[..., StudySpec]) -> None:
    one = spec("zen")
    study, objective = start(one)
    text = enqueue(study, one)
    assert run_trial(study, objective) == TrialState.COMPLETE
    trial = study.trials[0]
    architecture, attributes = Architecture.parse(text), dict(trial.user_attrs)
    costs = count(architecture, 8, 10)
    seed = derive_seed(one.seed, 0, "score")
    score = score_architecture(architecture, "zen", resolution=8, num_classes=10, batch_size=2, seed=seed)
    assert trial.value == score.mean
    assert attributes.pop("score_seconds") > 0
    attributes.pop("worker", None)
    assert attributes == {
        "structure": text,
        "params": costs.params,
        "macs": costs.macs,
        "layers": costs.layers,
        "convs": costs.convs,
        "min_width": costs.min_width,
        "depth_to_width": costs.depth_to_width,
        "activation_bytes": costs.activation_bytes,
        # What a measurement with the batch of the spec would give.
        "closed_form": closed_form_zen(architecture, 8, batch_size=2),
        "score_mean": score.mean,
        "score_std": 0.0,
        "score_batch": 2,
        "seed": seed,
        "device": "cpu",
    }
    assert constraints_of(trial.system_attrs) == one.limits().check(architecture).violations
    assert constraints_of(trial.system_attrs).keys() == {"params", "layers"}
    # optuna-dashboard reads the unnamed list.
    assert trial.system_attrs["constraints"] == list(constraints_of(trial.system_attrs).values())


def test_counts_of_the_released_code_stand_beside_the_true_ones(spec: Callable[..., StudySpec]) -> None:
    one = spec(budget={"params": 40_000, "counting": "zennas"})
    study, objective = start(one)
    costs = count(Architecture.parse(enqueue(study, one)), 8, 10)
    run_trial(study, objective)
    attributes = study.trials[0].user_attrs
    assert attributes["params"] == costs.params
    assert attributes["zennas_params"] == costs.zennas_params != costs.params
    assert constraints_of(study.trials[0].system_attrs) == {"params": (costs.zennas_params - 40_000) / 40_000}


def test_a_predicted_latency_is_recorded(spec: Callable[..., StudySpec]) -> None:
    one = spec(resolution=128, budget={"latency_ms": 0.5}, latency={"device": "v100-fp16-b64", "margin": 0.8})
    study, objective = start(one)
    enqueue(study, one)
    run_trial(study, objective)
    latency_ms = study.trials[0].user_attrs["latency_ms"]
    assert 0 < latency_ms < 0.4
    # Violations are relative to the limit searched to: 0.8 of the budget.
    assert constraints_of(study.trials[0].system_attrs) == {"latency_ms": pytest.approx(latency_ms / 0.4 - 1)}


def test_seeds_follow_study_and_trial(spec: Callable[..., StudySpec]) -> None:
    seeds = []
    for seed in (0, 0, 1):
        one = spec(seed=seed)
        study, objective = start(one)
        enqueue(study, one)
        enqueue(study, one, text=one.build_space().initial.replace("K3K3(8,", "K5K5(8,"))
        run_trial(study, objective)
        run_trial(study, objective)
        seeds.append([trial.user_attrs["seed"] for trial in study.trials])
    assert seeds[0] == seeds[1]
    assert len({*seeds[0], *seeds[2]}) == 4


# -- what is over it ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("sampler", ["random", "tpe"])
def test_over_budget_is_pruned_before_any_tensor(spec: Callable[..., StudySpec], sampler: str) -> None:
    one = spec("zen", sampler)
    study, objective = start(one)
    enqueue(study, one, text=BIG)
    with NoTensors():
        assert run_trial(study, objective) == TrialState.PRUNED
    trial = study.trials[0]
    assert trial.value is None
    assert constraints_of(trial.system_attrs)["params"] > 0
    assert trial.user_attrs["structure"] == BIG
    assert trial.user_attrs["params"] == count(Architecture.parse(BIG), 8, 10).params
    assert "score_mean" not in trial.user_attrs
    # The guard works: within the budget there are tensors.
    enqueue(study, one)
    with NoTensors(), pytest.raises(AssertionError, match="was called"):
        run_trial(study, objective)


def test_over_budget_is_complete_for_samplers_that_read_nothing_else(spec: Callable[..., StudySpec]) -> None:
    one = spec("zen", "nsga2")
    study, objective = start(one)
    enqueue(study, one, text=BIG)
    with NoTensors():
        assert run_trial(study, objective) == TrialState.COMPLETE
    trial = study.trials[0]
    assert trial.value == -math.inf
    assert trial.user_attrs["closed_form"] == closed_form_zen(Architecture.parse(BIG), 8, batch_size=2)
    assert constraints_of(trial.system_attrs)["params"] > 0
    assert "score_mean" not in trial.user_attrs
    # Every parameter of the space is there, filled slot or not.
    assert set(trial.params) == set(one.build_space().distributions)


@pytest.mark.parametrize("sampler", ["zen", "random", "tpe", "nsga2"])
def test_every_sampler_settles_every_trial(spec: Callable[..., StudySpec], sampler: str) -> None:
    one = spec(sampler=sampler)
    limits = one.limits()
    study, objective = start(one)
    states = [run_trial(study, objective) for _ in range(25)]
    for trial, state in zip(study.trials, states, strict=True):
        check = limits.check(Architecture.parse(trial.user_attrs["structure"]))
        assert trial.state == state
        assert constraints_of(trial.system_attrs) == check.violations
        scored = "score_mean" in trial.user_attrs
        assert scored == check.is_feasible
        if sampler == "zen":
            assert check.is_feasible
            assert "duplicate_of" not in trial.user_attrs
        if not check.is_feasible:
            assert state == (TrialState.COMPLETE if sampler == "nsga2" else TrialState.PRUNED)
    assert set(calls.values()) == {1}
    assert states.count(TrialState.COMPLETE) > 0
    if sampler != "zen":
        assert any(max(constraints_of(trial.system_attrs).values()) > 0 for trial in study.trials)


# -- duplicates --------------------------------------------------------------------------------------------------------


def test_a_known_structure_takes_the_recorded_score(
    spec: Callable[..., StudySpec], new_storage: Callable[[], Any]
) -> None:
    one = spec()
    study, objective = start(one, new_storage())
    text = enqueue(study, one, times=2)
    assert [run_trial(study, objective) for _ in range(2)] == [TrialState.COMPLETE] * 2
    # Another process knows it from the storage alone.
    study, objective = start(one, new_storage())
    enqueue(study, one)
    run_trial(study, objective)
    first, *others = study.trials
    assert calls == {text: 1}
    assert "duplicate_of" not in first.user_attrs
    for trial in others:
        assert trial.value == first.value
        assert trial.user_attrs["duplicate_of"] == 0
        assert trial.user_attrs["structure"] == text
        assert trial.user_attrs["score_mean"] == first.user_attrs["score_mean"]
        assert trial.user_attrs["params"] == first.user_attrs["params"]
        assert "score_seconds" not in trial.user_attrs
        assert constraints_of(trial.system_attrs) == constraints_of(first.system_attrs)


def test_a_racing_worker_waits_for_the_score(
    spec: Callable[..., StudySpec], new_storage: Callable[[], Any]
) -> None:
    one = spec("slow")
    studies = [start(one, new_storage()) for _ in range(2)]
    text = enqueue(studies[0][0], one, times=2)
    states: list[TrialState] = []

    def work(study: optuna.Study, objective: Objective) -> None:
        states.append(run_trial(study, objective))

    threads = [threading.Thread(target=work, args=studies[index]) for index in range(2)]
    threads[0].start()
    assert ENTERED.wait(300)
    threads[1].start()
    time.sleep(0.3)
    # The second has no score, and does not make one of its own.
    assert states == []
    PROCEED.set()
    for thread in threads:
        thread.join(300)
    assert states == [TrialState.COMPLETE] * 2
    assert calls == {text: 1}
    trials = studies[0][0].get_trials()
    assert trials[0].value == trials[1].value
    assert [trial.user_attrs.get("duplicate_of") for trial in trials] == [None, 0]


def test_a_waiting_worker_can_be_stopped(
    spec: Callable[..., StudySpec], new_storage: Callable[[], Any]
) -> None:
    one = spec("slow")
    first, second = start(one, new_storage()), start(one, new_storage(), should_stop=lambda: True)
    enqueue(first[0], one, times=2)
    thread = threading.Thread(target=run_trial, args=first)
    thread.start()
    assert ENTERED.wait(300)
    assert run_trial(*second) == TrialState.WAITING
    PROCEED.set()
    thread.join(300)
    # The next run takes it up, and finds the score.
    assert run_trial(*first) == TrialState.COMPLETE
    trials = first[0].get_trials()
    assert [trial.state for trial in trials] == [TrialState.COMPLETE] * 2
    assert trials[0].value == trials[1].value and trials[1].user_attrs["duplicate_of"] == 0


def test_the_structure_of_a_dead_worker_is_taken_over(
    spec: Callable[..., StudySpec], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("zenopt.study.objective._ORPHAN_CHECK_S", 0.0)
    one = spec()
    study, objective = start(one, open_storage(f"{tmp_path}/study.log"))
    text = enqueue(study, one, times=2)
    dead = study.ask()
    one.build_space().suggest(dead)
    assert StudyHistory(study).claim(dead, text) is None
    dead.set_user_attr(WORKER_KEY, str(Worker(host_name(), 2**22 + 1, "long ago")))
    assert run_trial(study, objective) == TrialState.COMPLETE
    assert "duplicate_of" not in study.trials[1].user_attrs
    # The dead one's trial runs again, and finds the score.
    assert study.trials[0].state == TrialState.WAITING
    assert run_trial(study, objective) == TrialState.COMPLETE
    assert study.trials[0].user_attrs["duplicate_of"] == 1
    assert calls == {text: 1}


def test_a_structure_that_failed_may_be_tried_again(spec: Callable[..., StudySpec]) -> None:
    one = spec("broken")
    study, objective = start(one)
    enqueue(study, one, times=2)
    assert [run_trial(study, objective) for _ in range(2)] == [TrialState.FAIL] * 2
    assert all("duplicate_of" not in trial.user_attrs for trial in study.trials)


# -- failures ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("proxy", "error"),
    [
        ("broken", "Proxy 'test-objective-broken' failed: no memory for 3 TiB"),
        ("nan", "Proxy 'test-objective-nan' gave nan (seed "),
    ],
)
def test_a_failing_proxy_leaves_a_failed_trial_with_the_reason(
    spec: Callable[..., StudySpec], proxy: str, error: str
) -> None:
    one = spec(proxy)
    study, objective = start(one)
    text = enqueue(study, one)
    assert run_trial(study, objective) == TrialState.FAIL
    trial = study.trials[0]
    assert trial.value is None
    assert trial.user_attrs["error"].startswith(error)
    assert "\n" not in trial.user_attrs["error"]
    assert trial.user_attrs["structure"] == text
    assert "score_mean" not in trial.user_attrs


def test_a_bug_is_recorded_and_raised(spec: Callable[..., StudySpec]) -> None:
    one = spec("bug")
    study, objective = start(one)
    enqueue(study, one)
    with pytest.raises(KeyError, match="oops"):
        run_trial(study, objective)
    assert study.trials[0].state == TrialState.FAIL
    assert study.trials[0].user_attrs["error"] == "KeyError: 'oops'"
