"""What storages have to do beyond Optuna's own suite, asked of stock storages and ours alike."""

from __future__ import annotations

import copy
import math
import pickle
import threading
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from pathlib import Path

import optuna
import pytest
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.exceptions import UpdateFinishedTrialError
from optuna.storages import BaseStorage, InMemoryStorage
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState, create_trial

from zenopt.storage import WORKER_KEY, WriteBehindStorage, open_storage
from zenopt.storage.operations import ServedTables
from zenopt.storage.tables import engine_of

# Those marked slow are checked by `pytest -m slow`.
KINDS = [
    "memory",
    "sqlite stock",
    "sqlite",
    pytest.param("postgresql stock", marks=pytest.mark.slow),
    "postgresql",
    pytest.param("mysql", marks=pytest.mark.slow),
    pytest.param("served", marks=pytest.mark.slow),
]
MAXIMIZE, MINIMIZE = StudyDirection.MAXIMIZE, StudyDirection.MINIMIZE
FLOAT = FloatDistribution(0.0, 10.0)
INT = IntDistribution(8, 512, log=True)
CHOICE = CategoricalDistribution(("a", None, 3))
MISSING = 987_654


@pytest.fixture(scope="module", params=KINDS)
def open_again(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Callable[[], BaseStorage]]:
    """A function that opens the module's database of this kind; each test makes studies of its own in it."""
    kind, _, stock = request.param.partition(" ")
    if kind == "memory":
        storage = open_storage("memory:")
        yield lambda: storage
        return
    if kind in ("postgresql", "mysql"):
        url = request.getfixturevalue(f"{kind.replace('postgresql', 'postgres')}_server").new_database()
    else:
        url = f"sqlite:///{tmp_path_factory.mktemp('contract')}/study.db"
        if kind == "served":
            url = request.getfixturevalue("serve_url")(url)
    yield lambda: open_storage(url, write_behind=not stock, heartbeat_interval=None)


@pytest.fixture(scope="module")
def storage(open_again: Callable[[], BaseStorage]) -> BaseStorage:
    return open_again()


@pytest.fixture
def study_id(storage: BaseStorage) -> int:
    return storage.create_new_study([MINIMIZE])


def _attrs(trial: FrozenTrial) -> dict[str, object]:
    return {key: value for key, value in trial.user_attrs.items() if key != WORKER_KEY}


def _template(state: TrialState = TrialState.COMPLETE, value: float | None = 3.5) -> FrozenTrial:
    now = datetime.now().replace(microsecond=0)
    return FrozenTrial(
        number=-1,
        trial_id=-1,
        state=state,
        value=value,
        datetime_start=None if state == TrialState.WAITING else now - timedelta(seconds=30),
        datetime_complete=now if state.is_finished() else None,
        params={"x": 0.25, "n": 16, "c": None},
        distributions={"x": FLOAT, "n": INT, "c": CHOICE},
        user_attrs={"structure": "S", "list": [1, {"a": 2.5}], "none": None},
        system_attrs={"constraints": [-1.0]},
        intermediate_values={0: 1.0, 5: math.inf},
    )


# Studies


def test_a_deleted_study_is_gone_and_others_stay(storage: BaseStorage, study_id: int) -> None:
    other = storage.create_new_study([MINIMIZE])
    for target in (study_id, other):
        trial_id = storage.create_new_trial(target, _template())
        storage.set_study_user_attr(target, "key", 1)
        running = storage.create_new_trial(target)
    storage.delete_study(study_id)
    with pytest.raises(KeyError):
        storage.get_study_name_from_id(study_id)
    with pytest.raises(KeyError):
        storage.get_all_trials(study_id)
    with pytest.raises(KeyError):
        storage.delete_study(study_id)
    assert [t._trial_id for t in storage.get_all_trials(other)] == [trial_id, running]
    assert storage.get_study_user_attrs(other) == {"key": 1}
    storage.set_trial_state_values(running, TrialState.COMPLETE, [1.0])


@pytest.mark.parametrize(
    "call",
    [
        lambda s: s.create_new_trial(MISSING, _template()),
        lambda s: s.get_all_trials(MISSING, states=(TrialState.WAITING,)),
        lambda s: s.set_trial_state_values(MISSING, TrialState.RUNNING),
        lambda s: s.get_best_trial(MISSING),
    ],
)
def test_what_does_not_exist_is_a_key_error(
    storage: BaseStorage, call: Callable[[BaseStorage], object]
) -> None:
    with pytest.raises(KeyError):
        call(storage)


# Trials


@pytest.mark.parametrize(
    ("first", "second"),
    [
        (FLOAT, IntDistribution(0, 10)),
        (INT, IntDistribution(8, 512)),
        (CHOICE, CategoricalDistribution(("a", 3, None))),
        (CHOICE, CategoricalDistribution(("a", None))),
    ],
)
def test_trials_must_agree_on_distributions(storage, open_again, study_id, first, second) -> None:
    if isinstance(storage, InMemoryStorage):
        pytest.skip("Optuna's in-memory storage does not check the distributions of added trials")
    # Optuna's proxy passes on what a server says of an added trial as it is.
    is_served = isinstance(engine_of(storage), ServedTables)
    trial_id = storage.create_new_trial(study_id)
    storage.set_trial_param(trial_id, "p", 1, first)
    for writer in (storage, open_again()):
        other = writer.create_new_trial(study_id)
        with pytest.raises(ValueError):
            writer.set_trial_param(other, "p", 1, second)
        writer.set_trial_param(other, "p", 1, first)
        writer.set_trial_state_values(other, TrialState.COMPLETE, [1.0])
        with pytest.raises(Exception if is_served else ValueError, match=r"distribution|dynamic"):
            writer.create_new_trial(
                study_id,
                create_trial(value=1.0, params={"p": 3}, distributions={"p": second})
                if 3 in getattr(second, "choices", (3,))
                else create_trial(value=1.0, params={"p": "a"}, distributions={"p": second}),
            )
    numbers = [t.number for t in storage.get_all_trials(study_id)]
    assert numbers == list(range(len(numbers)))


def test_a_waiting_trial_is_taken_once(storage: BaseStorage, open_again, study_id: int) -> None:
    trial_id = storage.create_new_trial(study_id, _template(TrialState.WAITING, None))
    assert [t._trial_id for t in storage.get_all_trials(study_id, states=(TrialState.WAITING,))] == [trial_id]
    other = open_again()
    assert other.set_trial_state_values(trial_id, TrialState.RUNNING)
    assert not storage.set_trial_state_values(trial_id, TrialState.RUNNING)
    assert not other.set_trial_state_values(trial_id, TrialState.RUNNING)
    assert storage.get_all_trials(study_id, states=(TrialState.WAITING,)) == []
    trial = other.get_trial(trial_id)
    assert trial.state == TrialState.RUNNING and trial.datetime_start is not None
    assert trial.params == _template().params and trial.user_attrs["structure"] == "S"
    other.set_trial_user_attr(trial_id, "structure", "T")
    assert other.set_trial_state_values(trial_id, TrialState.COMPLETE, [2.0])
    for reader in (storage, other):
        found = reader.get_trial(trial_id)
        assert (found.value, found.user_attrs["structure"], found.number) == (2.0, "T", 0)
        assert found.params == _template().params and found.system_attrs == {"constraints": [-1.0]}


def test_a_running_trial_goes_back_to_the_queue(storage: BaseStorage, open_again, study_id: int) -> None:
    trial_id = storage.create_new_trial(study_id)
    storage.set_trial_param(trial_id, "x", 2.5, FLOAT)
    storage.set_trial_user_attr(trial_id, "key", 1)
    assert storage.set_trial_state_values(trial_id, TrialState.WAITING)
    other = open_again()
    (waiting,) = other.get_all_trials(study_id, states=(TrialState.WAITING,))
    assert waiting.params == {"x": 2.5} and waiting.user_attrs["key"] == 1
    assert other.set_trial_state_values(trial_id, TrialState.RUNNING)
    other.set_trial_state_values(trial_id, TrialState.COMPLETE, [1.0])
    assert storage.get_trial(trial_id).params == {"x": 2.5}


def test_what_was_read_does_not_change(storage: BaseStorage, study_id: int) -> None:
    trial_id = storage.create_new_trial(study_id)
    storage.set_trial_user_attr(trial_id, "key", 1)
    read = [storage.get_trial(trial_id), storage.get_all_trials(study_id, deepcopy=False)[0]]
    copies = copy.deepcopy(read)
    storage.set_trial_param(trial_id, "x", 2.5, FLOAT)
    storage.set_trial_user_attr(trial_id, "key", 2)
    storage.set_trial_system_attr(trial_id, "key", 2)
    storage.set_trial_intermediate_value(trial_id, 1, 1.0)
    storage.set_trial_state_values(trial_id, TrialState.COMPLETE, [1.0])
    assert read == copies


def test_trials_by_state(storage: BaseStorage, study_id: int) -> None:
    states = [
        TrialState.COMPLETE,
        TrialState.WAITING,
        TrialState.RUNNING,
        TrialState.COMPLETE,
        TrialState.FAIL,
    ]
    for state in states:
        storage.create_new_trial(study_id, _template(state, 1.0 if state == TrialState.COMPLETE else None))
    running = storage.create_new_trial(study_id)
    states.append(TrialState.RUNNING)
    for _ in range(2):
        assert [t.state for t in storage.get_all_trials(study_id)] == states
        assert [t.number for t in storage.get_all_trials(study_id)] == list(range(6))
        for wanted in [(s,) for s in TrialState] + [(TrialState.RUNNING, TrialState.COMPLETE), ()]:
            expected = [number for number, state in enumerate(states) if state in wanted]
            assert [t.number for t in storage.get_all_trials(study_id, states=wanted)] == expected
            assert storage.get_n_trials(study_id, wanted) == len(expected)
        assert storage.get_n_trials(study_id) == 6
        assert storage.get_n_trials(study_id, TrialState.RUNNING) == states.count(TrialState.RUNNING)
        if states[-1] == TrialState.RUNNING:
            storage.set_trial_state_values(running, TrialState.PRUNED)
            states[-1] = TrialState.PRUNED


def test_of_equal_values_the_first_trial_is_the_best(storage: BaseStorage) -> None:
    if not isinstance(storage, WriteBehindStorage):
        pytest.skip("Optuna leaves it to the database")
    for direction in (MINIMIZE, MAXIMIZE):
        study_id = storage.create_new_study([direction])
        for value in (0.5, 0.25, 0.25) if direction == MINIMIZE else (0.1, 0.5, 0.5):
            storage.create_new_trial(study_id, create_trial(value=value))
        assert storage.get_best_trial(study_id).number == 1


# Several hands on one study


def test_a_second_storage_sees_what_was_told(storage: BaseStorage, open_again, study_id: int) -> None:
    other = open_again()
    assert other.get_all_trials(study_id) == []
    trial_id = storage.create_new_trial(study_id)
    storage.set_trial_param(trial_id, "x", 2.5, FLOAT)
    storage.set_trial_user_attr(trial_id, "key", "value")
    storage.set_trial_system_attr(trial_id, "constraints:params", -0.5)
    storage.set_trial_intermediate_value(trial_id, 1, 0.5)
    assert [t.state for t in other.get_all_trials(study_id)] == [TrialState.RUNNING]
    storage.set_trial_state_values(trial_id, TrialState.COMPLETE, [1.0])
    assert other.get_all_trials(study_id) == storage.get_all_trials(study_id) == [other.get_trial(trial_id)]
    assert other.get_trial(trial_id) == storage.get_trial(trial_id)
    assert other.get_trial(trial_id).constraints == {"params": -0.5}


def test_another_storage_may_write_to_a_running_trial(
    storage: BaseStorage, open_again, study_id: int
) -> None:
    other = open_again()
    trial_id = storage.create_new_trial(study_id)
    other.set_trial_user_attr(trial_id, "theirs", 1)
    storage.set_trial_user_attr(trial_id, "ours", 2)
    storage.set_trial_state_values(trial_id, TrialState.COMPLETE, [1.0])
    assert _attrs(open_again().get_trial(trial_id)) == {"theirs": 1, "ours": 2}
    told = storage.create_new_trial(study_id)
    other.set_trial_state_values(told, TrialState.COMPLETE, [5.0])
    with pytest.raises(UpdateFinishedTrialError):
        storage.set_trial_state_values(told, TrialState.COMPLETE, [6.0])
    assert storage.get_trial(told).value == 5.0


def test_a_pickled_storage_goes_on(storage: BaseStorage, study_id: int) -> None:
    first = storage.create_new_trial(study_id, _template())
    copied = pickle.loads(pickle.dumps(storage))
    if isinstance(storage, optuna.storages.InMemoryStorage):
        assert copied.get_trial(first) == storage.get_trial(first)
        return
    second = copied.create_new_trial(study_id)
    copied.set_trial_state_values(second, TrialState.COMPLETE, [1.0])
    assert storage.get_trial(second).value == 1.0
    assert [t.number for t in copied.get_all_trials(study_id)] == [0, 1]


def test_threads_share_a_storage(storage: BaseStorage, study_id: int) -> None:
    def work(thread: int) -> None:
        try:
            for i in range(8):
                trial_id = storage.create_new_trial(study_id)
                storage.set_trial_param(trial_id, "x", float(thread), FLOAT)
                storage.set_trial_user_attr(trial_id, "i", i)
                storage.set_trial_state_values(trial_id, TrialState.COMPLETE, [float(i)])
                storage.get_all_trials(study_id, deepcopy=False)
        except BaseException as error:
            errors.append(error)
        finally:
            storage.remove_session()

    errors: list[BaseException] = []
    threads = [threading.Thread(target=work, args=(i,)) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not errors
    found = storage.get_all_trials(study_id)
    assert [t.number for t in found] == list(range(32))
    assert sorted((t.params["x"], t.value) for t in found) == [
        (float(x), float(i)) for x in range(4) for i in range(8)
    ]


@pytest.mark.parametrize("sampler", ["random", "tpe", "nsga2"])
def test_studies_come_out_as_in_memory(open_again: Callable[[], BaseStorage], sampler: str) -> None:
    def run(storage: BaseStorage) -> optuna.Study:
        samplers = {
            "random": optuna.samplers.RandomSampler(seed=1),
            "tpe": optuna.samplers.TPESampler(seed=1, n_startup_trials=4),
            "nsga2": optuna.samplers.NSGAIISampler(seed=1, population_size=4),
        }
        study = optuna.create_study(storage=storage, sampler=samplers[sampler])

        def objective(trial: optuna.Trial) -> float:
            x = trial.suggest_float("x", -5, 5)
            n = trial.suggest_int("n", 8, 64, log=True)
            c = trial.suggest_categorical("c", ["a", "b"])
            trial.report(x, 0)
            trial.set_constraint("n", n - 60.0)
            if trial.number % 5 == 4:
                raise optuna.TrialPruned
            return x * x + n + (c == "a")

        study.enqueue_trial({"x": 1.0})
        study.optimize(objective, n_trials=12)
        return study

    expected, got = run(open_storage("memory:")), run(open_again())
    assert [(t.number, t.state, t.params, t.values) for t in got.trials] == [
        (t.number, t.state, t.params, t.values) for t in expected.trials
    ]
    assert got.best_trial.number == expected.best_trial.number
    assert got.trials[0].system_attrs["fixed_params"] == {"x": 1.0}


def test_files_are_not_left_open(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/study.db"
    study = optuna.create_study(storage=open_storage(url))
    study.tell(study.ask(), 1.0)
    assert optuna.load_study(storage=url, study_name=study.study_name).best_value == 1.0
