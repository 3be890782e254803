"""ZenSampler as a plain Optuna sampler."""

from __future__ import annotations

import pickle
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import optuna
import pytest
from optuna.trial import TrialState

from zenopt.core.budget import Budget
from zenopt.core.errors import BudgetError
from zenopt.latency.limits import Limits
from zenopt.samplers import Screening, ZenSampler
from zenopt.samplers.screening import screen
from zenopt.spaces.chain.architecture import Architecture
from zenopt.spaces.chain.closed_form import closed_form_zen
from zenopt.spaces.chain.space import ChainSpace
from zenopt.spaces.chain.superres import SuperResSpace
from zenopt.storage import open_storage, requeue_orphans
from zenopt.study.sampling import make_sampler
from zenopt.study.spec import StudySpec

SPACE = SuperResSpace(
    stage_strides=(1, 2),
    slots=2,
    max_depth=3,
    max_width=64,
    max_bottleneck=32,
    max_head=128,
    initial="SuperConvK3BNRELU(3,8,1,1)SuperResK3K3(8,16,1,8,1)SuperResK3K3(16,32,2,16,1)SuperConvK1BNRELU(32,64,1,1)",
)
LIMITS = Limits(Budget(params=60_000, layers=9), resolution=16, num_classes=10)
SCREENINGS = [None, Screening(candidates=30, elites=8, explore=0.3)]


@pytest.fixture(params=["memory", "sqlite", "journal"])
def url_kind(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture
def reopen(url_kind: str, tmp_path: Path) -> Callable[[], optuna.storages.BaseStorage]:
    """Open the storage as another process would; one in memory is the same each time."""
    memory = optuna.storages.InMemoryStorage()
    return {
        "memory": lambda: memory,
        "sqlite": lambda: open_storage(f"sqlite:///{tmp_path}/study.db"),
        "journal": lambda: open_storage(f"{tmp_path}/study.log"),
    }[url_kind]


def objective(trial: optuna.Trial) -> float:
    """What a user would write: no word of zenopt's attributes or constraints."""
    return closed_form_zen(SPACE.suggest(trial), 16)


def sampler(seed: int = 0, **options: Any) -> ZenSampler:
    return ZenSampler(SPACE, LIMITS, seed=seed, **options)


def in_memory(**options: Any) -> optuna.Study:
    return optuna.create_study(direction="maximize", sampler=sampler(**options))


def proposals(study: optuna.Study) -> list[str]:
    return [str(SPACE.decode(trial.params)) for trial in study.trials]


# -- a plain sampler ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("screening", SCREENINGS, ids=["plain", "screened"])
def test_never_over_budget_never_known(
    reopen: Callable[[], optuna.storages.BaseStorage], screening: Screening | None
) -> None:
    study = optuna.create_study(storage=reopen(), direction="maximize", sampler=sampler(screening=screening))
    study.optimize(objective, n_trials=14)
    found = proposals(study)
    assert found[0] == SPACE.initial
    assert len(set(found)) == 14
    assert all(LIMITS.check(Architecture.parse(text)).is_feasible for text in found)
    assert all(SPACE.contains(Architecture.parse(text)) for text in found)
    # The objective said nothing of structures; the sampler names them for whoever reads the study.
    assert [trial.user_attrs["structure"] for trial in study.trials] == found


def test_stock_sqlite_storage(tmp_path: Path) -> None:
    study = optuna.create_study(
        storage=f"sqlite:///{tmp_path}/study.db", direction="maximize", sampler=sampler()
    )
    study.optimize(objective, n_trials=4)
    again = optuna.load_study(
        study_name=study.study_name, storage=f"sqlite:///{tmp_path}/study.db", sampler=sampler()
    )
    again.optimize(objective, n_trials=2)
    whole = in_memory()
    whole.optimize(objective, n_trials=6)
    assert proposals(again) == proposals(whole)


def test_a_resumed_study_repeats_an_uninterrupted_one(
    reopen: Callable[[], optuna.storages.BaseStorage],
) -> None:
    screening = Screening(candidates=20, elites=8, explore=0.5)
    whole = in_memory(screening=screening, population_size=6)
    whole.optimize(objective, n_trials=18)
    for count in (1, 11, 6):
        study = optuna.create_study(
            storage=reopen(),
            study_name="resumed",
            direction="maximize",
            sampler=sampler(screening=screening, population_size=6),
            load_if_exists=True,
        )
        study.optimize(objective, n_trials=count)
    assert proposals(study) == proposals(whole)
    assert [trial.value for trial in study.trials] == [trial.value for trial in whole.trials]
    other = in_memory(seed=1, screening=screening, population_size=6)
    other.optimize(objective, n_trials=18)
    assert proposals(other) != proposals(whole)
    assert proposals(other)[0] == proposals(whole)[0]


def test_a_trial_of_a_dead_worker_is_evaluated_as_it_was_proposed(tmp_path: Path) -> None:
    whole = in_memory()
    whole.optimize(objective, n_trials=5)
    study = optuna.create_study(
        storage=open_storage(f"{tmp_path}/study.log"), direction="maximize", sampler=sampler()
    )
    study.optimize(objective, n_trials=2)
    killed = study.ask()
    architecture = SPACE.suggest(killed)
    study._storage.set_trial_user_attr(killed._trial_id, "worker", "nowhere")
    study._storage.set_trial_state_values(killed._trial_id, TrialState.WAITING)
    assert requeue_orphans(study) == []
    study.optimize(objective, n_trials=3)
    assert [trial.number for trial in study.trials] == [0, 1, 2, 3, 4]
    assert proposals(study)[2] == str(architecture)
    assert proposals(study) == proposals(whole)


def test_parameters_of_ones_own_are_drawn_uniformly() -> None:
    def with_more(trial: optuna.Trial) -> float:
        rate = trial.suggest_float("rate", 0.1, 0.9)
        kind = trial.suggest_categorical("kind", ("a", "b"))
        return objective(trial) + rate + (kind == "a")

    first, second = in_memory(), in_memory()
    first.optimize(with_more, n_trials=6)
    second.optimize(with_more, n_trials=6)
    rates = [trial.params["rate"] for trial in first.trials]
    assert len(set(rates)) == 6
    assert {trial.params["kind"] for trial in first.trials} == {"a", "b"}
    assert [trial.params for trial in first.trials] == [trial.params for trial in second.trials]


def test_failed_and_pruned_architectures_are_not_proposed_again() -> None:
    def unlucky(trial: optuna.Trial) -> float:
        value = objective(trial)
        if trial.number % 3 == 1:
            raise optuna.TrialPruned
        if trial.number % 3 == 2:
            raise ValueError("no luck")
        return value

    study = in_memory()
    study.optimize(unlucky, n_trials=15, catch=ValueError)
    assert len(set(proposals(study))) == 15
    assert len(study.get_trials(states=(TrialState.FAIL,))) == 5


def test_threads_get_different_proposals() -> None:
    study = in_memory()
    study.optimize(objective, n_trials=16, n_jobs=4)
    assert len(set(proposals(study))) == 16


def test_enqueued_trials_are_evaluated_and_become_parents() -> None:
    rng, better = random.Random(3), SPACE.parse(SPACE.initial)
    while str(better) == SPACE.initial:
        better = SPACE.mutate(better, rng) or better
    study = in_memory()
    study.enqueue_trial(SPACE.encode(better))
    study.optimize(objective, n_trials=3)
    assert proposals(study)[0] == str(better)
    assert SPACE.initial in proposals(study)
    assert len(set(proposals(study))) == 3


def test_one_sampler_serves_several_studies() -> None:
    shared = sampler()
    studies = [optuna.create_study(direction="maximize", sampler=shared) for _ in range(2)]
    for _ in range(5):
        for study in studies:
            study.optimize(objective, n_trials=1)
    assert proposals(studies[0]) == proposals(studies[1])
    alone = in_memory()
    alone.optimize(objective, n_trials=5)
    assert proposals(alone) == proposals(studies[0])


def test_it_can_be_pickled() -> None:
    study = in_memory(screening=SCREENINGS[1])
    study.optimize(objective, n_trials=4)
    study.sampler = pickle.loads(pickle.dumps(study.sampler))
    study.optimize(objective, n_trials=4)
    whole = in_memory(screening=SCREENINGS[1])
    whole.optimize(objective, n_trials=8)
    assert proposals(study) == proposals(whole)


# -- the published evolution -------------------------------------------------------------------------------------------


def changed_blocks(one: str, two: str) -> int:
    """Blocks that differ apart from their input channels; splits count as one."""
    a, b = Architecture.parse(one).blocks, Architecture.parse(two).blocks
    if len(a) != len(b):
        return 1
    return sum(
        str(x).split(",", 1)[1] != str(y).split(",", 1)[1] or x.type_name != y.type_name
        for x, y in zip(a, b, strict=True)
    )


def test_warm_up_mutates_one_block_of_the_initial_structure() -> None:
    study = in_memory()
    study.optimize(objective, n_trials=12)
    assert all(changed_blocks(SPACE.initial, text) <= 1 for text in proposals(study)[1:11])


def test_then_up_to_two_blocks_of_a_member_are_mutated() -> None:
    study = in_memory(population_size=16)
    # Values that favour the later trials: the population is then the latest 16.
    study.optimize(lambda trial: objective(trial) * 0 + trial.number, n_trials=60)
    texts = proposals(study)
    for number in range(20, 60):
        parents = texts[max(0, number - 16) : number]
        assert min(changed_blocks(parent, texts[number]) for parent in parents) <= 2
    # By then the initial structure has left the population, and most children are far from it.
    assert max(changed_blocks(SPACE.initial, text) for text in texts[40:]) > 2


def test_the_best_are_the_parents() -> None:
    means = {}
    for direction in ("maximize", "minimize"):
        study = optuna.create_study(direction=direction, sampler=sampler(population_size=8))
        study.optimize(objective, n_trials=50)
        means[direction] = sum(trial.value or 0.0 for trial in study.trials[30:]) / 20
    assert means["maximize"] > means["minimize"] + 3


def test_screening_finds_better_architectures_in_fewer_trials() -> None:
    plain, screened = in_memory(), in_memory(screening=Screening(candidates=300, elites=16, explore=0.1))
    plain.optimize(objective, n_trials=40)
    screened.optimize(objective, n_trials=8)
    assert screened.best_value > plain.best_value + 2


def test_screening_by_a_value_of_ones_own() -> None:
    def shallow(architecture: Architecture) -> float:
        return -float(architecture.depth * 1000 + architecture.out_channels)

    study = in_memory(screening=Screening(candidates=300, elites=8, explore=0.0), closed_form=shallow)
    study.optimize(objective, n_trials=4)
    best = [SPACE.decode(trial.params) for trial in study.trials[1:]]
    # The smallest there can be: one unit per stage, a head of 8 channels.
    assert [(architecture.depth, architecture.out_channels) for architecture in best] == [(4, 8)] * 3


def test_screen_returns_none_where_every_candidate_is_known_or_over_budget() -> None:
    initial = SPACE.parse(SPACE.initial)
    options: dict[str, Any] = {
        "mutate": SPACE.mutate,
        "value": lambda architecture: 0.0,
        "settings": Screening(candidates=50),
    }
    nothing = Limits(Budget(params=1), 16)
    assert screen([initial], set(), limits=nothing, rng=random.Random(0), **options) is None

    class Everything:
        def __contains__(self, text: object) -> bool:
            return True

    assert screen([initial], Everything(), limits=LIMITS, rng=random.Random(0), **options) is None  # type: ignore[arg-type]
    assert screen([initial], set(), limits=LIMITS, rng=random.Random(0), **options) is not None


# -- budgets -----------------------------------------------------------------------------------------------------------


def test_an_initial_structure_over_budget_is_shrunk() -> None:
    limits = Limits(Budget(params=4_000), 16, 10)
    study = optuna.create_study(direction="maximize", sampler=ZenSampler(SPACE, limits))
    study.optimize(objective, n_trials=8)
    texts = proposals(study)
    initial = SPACE.parse(SPACE.initial)
    assert not limits.check(initial).is_feasible
    assert texts[0] == str(limits.closest_fit(SPACE, initial))
    assert all(limits.check(Architecture.parse(text)).is_feasible for text in texts)
    assert len(set(texts)) == 8


def test_where_nothing_fits_the_budget_is_named(reopen: Callable[[], optuna.storages.BaseStorage]) -> None:
    limits = Limits(Budget(params=1e9, macs=1000), 16, 10)
    study = optuna.create_study(storage=reopen(), direction="maximize", sampler=ZenSampler(SPACE, limits))
    with pytest.raises(BudgetError, match=r"budget\.macs = 1000"):
        study.optimize(objective, n_trials=3)
    # It leaves a failed trial, none that seems to run.
    assert [trial.state for trial in study.trials] == [TrialState.FAIL]


def test_an_exhausted_space_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("zenopt.samplers.zen.MAX_ATTEMPTS", 300)
    tiny = ChainSpace(
        ("SuperResK3K3",),
        stage_strides=(2,),
        slots=1,
        max_depth=1,
        max_width=16,
        max_bottleneck=8,
        head_width=8,
    )
    limits = Limits(Budget(), 8, 2)
    study = optuna.create_study(direction="maximize", sampler=ZenSampler(tiny, limits))
    with pytest.raises(
        BudgetError, match=r"No new architecture .* in 300 mutations; .* \(4 structures are known\)"
    ):
        study.optimize(lambda trial: float(tiny.suggest(trial).out_channels), n_trials=10)
    # Stem and block of 8 or 16 channels: all four were found first.
    assert len(study.get_trials(states=(TrialState.COMPLETE,))) == 4


# -- samplers by name --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["zen", "random", "tpe", "nsga2"])
def test_make_sampler(name: str, tiny_spec: Callable[..., StudySpec]) -> None:
    spec = tiny_spec(sampler={"name": name, "screening": "off"})
    space = spec.build_space()
    first, again, worker = (make_sampler(spec, index) for index in (0, 0, 1))
    found = []
    for one in (first, again, worker):
        study = optuna.create_study(direction="maximize", sampler=one)
        study.optimize(lambda trial: float(space.suggest(trial, all_slots=name == "nsga2").depth), n_trials=3)
        found.append([trial.params for trial in study.trials])
    assert found[0] == found[1]
    # ZenSampler needs no stream per worker: what it draws follows from seed and trial number.
    assert (found[0] == found[2]) == (name == "zen")


@pytest.mark.parametrize(
    ("screening", "proxy", "is_screened"),
    [("auto", "zen", True), ("auto", "naswot", False), ("on", "naswot", True), ("off", "zen", False)],
)
def test_screening_follows_the_spec(
    screening: str, proxy: str, is_screened: bool, tiny_spec: Callable[..., StudySpec]
) -> None:
    spec = tiny_spec(
        sampler={"name": "zen", "screening": screening, "screening_candidates": 77, "explore": 0.5},
        proxy={"name": proxy, "batch_size": 2},
    )
    made = make_sampler(spec)
    assert isinstance(made, ZenSampler)
    assert (made._screening is not None) == is_screened
    if is_screened:
        assert made._screening == Screening(candidates=77, explore=0.5)
