"""The population: the best feasible completed trials of a study, however it is stored."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from pathlib import Path

import optuna
import pytest
from optuna.trial import TrialState, create_trial

from zenopt.samplers.population import Population
from zenopt.spaces.chain.space import ChainSpace
from zenopt.storage import StudyHistory, open_storage, record_constraints

SPACE = ChainSpace(("SuperResK3K3", "SuperResK5K5"), stage_strides=(1, 2), slots=2, head_width=64)


def structures(count: int, seed: int = 0) -> list[str]:
    rng, found = random.Random(seed), {SPACE.initial: None}
    while len(found) < count:
        child = SPACE.mutate(SPACE.parse(rng.choice(list(found))), rng)
        found[str(child or SPACE.initial)] = None
    return list(found)


TEXTS = structures(20)


@pytest.fixture(params=["memory", "sqlite", "journal"])
def make_study(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Callable[..., optuna.Study]]:
    storage = {
        "memory": optuna.storages.InMemoryStorage,
        "sqlite": lambda: open_storage(f"sqlite:///{tmp_path}/study.db"),
        "journal": lambda: open_storage(f"{tmp_path}/study.log"),
    }[request.param]()

    def make(direction: str = "maximize") -> optuna.Study:
        return optuna.create_study(storage=storage, direction=direction)

    yield make


def add(
    study: optuna.Study, text: str, value: float | None, *, violation: float | None = None, named: bool = True
) -> None:
    """Run one trial as the objective does."""
    trial = study.ask()
    if named:
        trial.set_user_attr("structure", text)
    else:
        for name, parameter in SPACE.encode(SPACE.parse(text)).items():
            study._storage.set_trial_param(
                trial._trial_id,
                name,
                SPACE.distributions[name].to_internal_repr(parameter),
                SPACE.distributions[name],
            )
    if violation is not None:
        record_constraints(trial, {"params": violation})
    study.tell(trial, value, state=TrialState.PRUNED if value is None else TrialState.COMPLETE)


def members(population: Population) -> list[str]:
    return [str(architecture) for architecture in population.architectures()]


def test_the_best_are_members_and_all_are_known(make_study: Callable[..., optuna.Study]) -> None:
    study = make_study()
    population = Population(study, SPACE, 3)
    population.sync()
    assert (len(population), members(population), population.known) == (0, [], set())
    for text, value in zip(TEXTS, [5.0, 1.0, 4.0, 3.0, 2.0], strict=False):
        add(study, text, value)
    population.sync()
    assert members(population) == [TEXTS[0], TEXTS[2], TEXTS[3]]
    assert population.known == set(TEXTS[:5])
    add(study, TEXTS[5], 4.5)
    add(study, TEXTS[6], 0.5)
    population.sync()
    assert members(population) == [TEXTS[0], TEXTS[5], TEXTS[2]]
    assert len(population) == 3
    assert population.known == set(TEXTS[:7])


def test_only_feasible_completed_trials_are_members(make_study: Callable[..., optuna.Study]) -> None:
    study = make_study()
    add(study, TEXTS[0], 1.0, violation=-0.5)
    add(study, TEXTS[1], 9.0, violation=0.1)
    add(study, TEXTS[2], None, violation=0.1)
    add(study, TEXTS[3], 2.0, violation=0.0)
    failed = study.ask()
    failed.set_user_attr("structure", TEXTS[4])
    study.tell(failed, state=TrialState.FAIL)
    running = study.ask()
    assert StudyHistory(study).claim(running, TEXTS[5]) is None
    study.ask()
    population = Population(study, SPACE, 10)
    population.sync()
    assert members(population) == [TEXTS[3], TEXTS[0]]
    assert population.known == set(TEXTS[:6])
    # The running one is finished by and by.
    study.tell(running, 7.0)
    population.sync()
    assert members(population)[0] == TEXTS[5]


def test_minimised_studies(make_study: Callable[..., optuna.Study]) -> None:
    study = make_study("minimize")
    for text, value in zip(TEXTS, [5.0, 1.0, 4.0], strict=False):
        add(study, text, value)
    population = Population(study, SPACE, 2)
    population.sync()
    assert members(population) == [TEXTS[1], TEXTS[2]]


def test_structures_are_decoded_where_no_objective_named_them(
    make_study: Callable[..., optuna.Study],
) -> None:
    study = make_study()
    add(study, TEXTS[0], 1.0, named=False)
    add(study, TEXTS[1], 2.0)
    incomplete = study.ask()
    incomplete.suggest_int("stem.width", 8, 2048, log=True)
    study.tell(incomplete, 3.0)
    study.add_trial(create_trial(value=0.5))
    population = Population(study, SPACE, 10)
    population.sync()
    assert members(population) == TEXTS[1::-1]


def test_a_structure_counts_once(make_study: Callable[..., optuna.Study]) -> None:
    study = make_study()
    for _ in range(3):
        add(study, TEXTS[0], 1.0)
    add(study, TEXTS[1], 0.5)
    population = Population(study, SPACE, 2)
    population.sync()
    assert members(population) == TEXTS[:2]


def test_following_equals_reading_at_once(make_study: Callable[..., optuna.Study]) -> None:
    study = make_study()
    rng = random.Random(1)
    follower = Population(study, SPACE, 8)
    for text in TEXTS:
        # Few different values: ties are broken by trial number.
        add(study, text, float(rng.randrange(6)), violation=rng.choice([-0.1, 0.1]), named=rng.random() < 0.7)
        if rng.random() < 0.4:
            follower.sync()
    follower.sync()
    reader = Population(study, SPACE, 8)
    reader.sync()
    assert members(follower) == members(reader)
    assert follower.known == reader.known == set(TEXTS)


def test_a_trial_taken_up_again_may_propose_what_it_had_claimed(
    make_study: Callable[..., optuna.Study],
) -> None:
    study = make_study()
    trial = study.ask()
    assert StudyHistory(study).claim(trial, TEXTS[0]) is None
    population = Population(study, SPACE, 8)
    population.sync()
    assert TEXTS[0] in population.known
    population.release(trial.number)
    assert TEXTS[0] not in population.known
    study.tell(trial, 1.0)
    population.sync()
    population.release(trial.number)
    # What is finished stays known.
    assert TEXTS[0] in population.known
