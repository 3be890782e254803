"""The tables stay Optuna's: stock Optuna, its command line and its dashboard read them and may write them too."""

from __future__ import annotations

import io
import json
import random
import subprocess
import sys
import threading
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import optuna
import pytest
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.storages import BaseStorage, RDBStorage
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState

from zenopt.storage import (
    WORKER_KEY,
    StudyHistory,
    WriteBehindStorage,
    count_by_state,
    open_storage,
    record_constraints,
    requeue_orphans,
    top,
)

Opener = Callable[..., Callable[[], BaseStorage]]
KINDS = ["sqlite", "postgresql", pytest.param("mysql", marks=pytest.mark.slow)]


def _sampler() -> optuna.samplers.BaseSampler:
    # With this seed some of the first trials are feasible.
    return optuna.samplers.RandomSampler(seed=3)


def _objective(trial: optuna.Trial) -> float:
    x = trial.suggest_float("x", -5, 5)
    n = trial.suggest_int("n", 8, 512, log=True)
    kind = trial.suggest_categorical("kind", ["a", None, 3])
    trial.set_user_attr("structure", f"S{trial.number}")
    record_constraints(trial, {"params": x, "macs": -0.5})
    trial.report(x, 1)
    if trial.number % 4 == 3:
        raise optuna.TrialPruned
    return x * n + (kind == "a")


@pytest.mark.parametrize("kind", KINDS)
def test_stock_optuna_reads_the_same_trials(kind: str, new_url: Callable[[str], str]) -> None:
    url = new_url(kind)
    study = optuna.create_study(
        storage=open_storage(url), study_name="s", direction="maximize", sampler=_sampler()
    )
    study.enqueue_trial({"x": -1.0})
    study.optimize(_objective, n_trials=10)
    study.ask()
    stock = optuna.load_study(storage=url, study_name="s")
    fresh = optuna.load_study(storage=open_storage(url), study_name="s")
    assert stock.trials == fresh.trials == study.trials
    assert stock.best_trial == study.best_trial
    assert [list(t.params) for t in stock.trials] == [list(t.params) for t in study.trials]


@pytest.mark.parametrize("kind", KINDS)
def test_stock_workers_join(kind: str, new_url: Callable[[str], str]) -> None:
    url = new_url(kind)
    optuna.create_study(storage=open_storage(url), study_name="s")
    errors: list[BaseException] = []

    def work(storage: Any) -> None:
        try:
            optuna.load_study(storage=storage, study_name="s").optimize(_objective, n_trials=12)
        except BaseException as error:
            errors.append(error)

    stock_options = {"connect_args": {"timeout": 60}} if kind == "sqlite" else {}
    storages = [open_storage(url), open_storage(url), RDBStorage(url, engine_kwargs=stock_options)]
    threads = [threading.Thread(target=work, args=(storage,)) for storage in storages]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not errors
    for storage in (open_storage(url), url):
        trials = optuna.load_study(storage=storage, study_name="s").trials
        assert [t.number for t in trials] == list(range(36))
        assert all(t.state.is_finished() and len(t.params) == 3 for t in trials)
        assert sum(WORKER_KEY in t.user_attrs for t in trials) == 24
    assert len(StudyHistory(optuna.load_study(storage=storages[0], study_name="s")).sync()) == 36


def test_optuna_command_line(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/study.db"
    study = optuna.create_study(
        storage=open_storage(url), study_name="s", direction="maximize", sampler=_sampler()
    )
    study.optimize(_objective, n_trials=5)
    command = [
        sys.executable,
        "-m",
        "optuna.cli",
        "best-trial",
        "--storage",
        url,
        "--study-name",
        "s",
        "-f",
        "json",
    ]
    script = "import sys; from optuna.cli import main; sys.exit(main())"
    done = subprocess.run(
        [sys.executable, "-c", script, *command[3:]], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    best = json.loads(done.stdout)
    assert best["number"] == study.best_trial.number
    assert best["params"]["n"] == study.best_trial.params["n"]


def test_optuna_dashboard(tmp_path: Path) -> None:
    dashboard = pytest.importorskip("optuna_dashboard", reason="optuna-dashboard is not installed")
    url = f"sqlite:///{tmp_path}/study.db"
    study = optuna.create_study(
        storage=open_storage(url), study_name="s", direction="maximize", sampler=_sampler()
    )
    study.optimize(_objective, n_trials=4)
    for storage in (url, open_storage(url)):
        app = dashboard.wsgi(storage)
        status: list[str] = []
        environ = {
            "REQUEST_METHOD": "GET",
            "PATH_INFO": f"/api/studies/{study._study_id}",
            "QUERY_STRING": "after=0",
            "SERVER_NAME": "localhost",
            "SERVER_PORT": "80",
            "wsgi.url_scheme": "http",
            "wsgi.input": io.BytesIO(),
            "wsgi.errors": sys.stderr,
        }
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            body = b"".join(app(environ, lambda line, headers, info=None, status=status: status.append(line)))
        assert status == ["200 OK"]
        shown = json.loads(body)["trials"]
        assert [t["number"] for t in shown] == [0, 1, 2, 3]
        # The dashboard knows the unnamed list only.
        assert shown[0]["constraints"][1] == -0.5


def test_tables_of_an_unknown_schema_version_are_left_to_optuna(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import sqlalchemy as sa

    url = f"sqlite:///{tmp_path}/study.db"
    assert isinstance(open_storage(url), WriteBehindStorage)
    monkeypatch.setattr("zenopt.storage.tables.KNOWN_SCHEMAS", ("v0",))
    with pytest.warns(UserWarning, match="using Optuna's own storage"):
        stock = open_storage(url)
    assert not isinstance(stock, WriteBehindStorage)
    for storage in (stock, optuna.storages.get_storage(url)):
        # What Optuna writes comes from its ORM; statements of ours do not.
        ours: list[str] = []
        engine = storage._backend.engine

        @sa.event.listens_for(engine, "before_cursor_execute")
        def note(connection: Any, cursor: Any, statement: str, *rest: Any, ours: list[str] = ours) -> None:
            frame: Any = sys._getframe()
            while frame is not None and "optuna/storages" not in frame.f_code.co_filename:
                if "zenopt/storage" in frame.f_code.co_filename:
                    ours.append(statement)
                frame = frame.f_back

        study = optuna.create_study(storage=storage, study_name="s", load_if_exists=True)
        study.optimize(_objective, n_trials=4)
        history = StudyHistory(study)
        trial = study.ask()
        assert history.claim(trial, f"T{trial.number}") is None
        assert len(history.sync()) == len(study.trials)
        assert len(top(study, 9)) <= 9 and sum(count_by_state(study).values()) == len(study.trials)
        assert requeue_orphans(study) == []
        assert ours == []


# One random history, written through the stock storage and through ours.

SPACES = {
    "x": [FloatDistribution(0.0, 1.0), FloatDistribution(-1.0, 3.0), FloatDistribution(0.1, 1.0, log=True)],
    "n": [IntDistribution(1, 9), IntDistribution(1, 64), FloatDistribution(1, 9)],
    "c": [CategoricalDistribution(("a", "b")), CategoricalDistribution(("b", "a"))],
}


def _random_call(chance: random.Random, trials: int) -> tuple[str, tuple[Any, ...]]:
    which = chance.randrange(trials + 1)
    name = chance.choice(list(SPACES))
    return chance.choice(
        [
            ("ask", ()),
            ("ask", ()),
            ("enqueue", (chance.random(),)),
            ("param", (which, name, chance.choice([0.0, 1.0]), chance.randrange(len(SPACES[name])))),
            ("param", (which, name, 1.0, 0)),
            ("user", (which, chance.choice("ab"), chance.choice([1, [1, (2,)], {"k": None}, "é"]))),
            ("system", (which, chance.choice("ab"), chance.random())),
            ("step", (which, chance.randrange(3), chance.choice([1.5, float("inf"), float("-inf")]))),
            ("state", (which, chance.choice(list(TrialState)), chance.choice([None, [1.0], [float("inf")]]))),
            ("read", (which,)),
            (
                "list",
                (chance.choice([None, (TrialState.WAITING,), (TrialState.COMPLETE, TrialState.RUNNING)]),),
            ),
        ]
    )


def _shown(trial: FrozenTrial) -> tuple[Any, ...]:
    attrs = {key: value for key, value in trial.user_attrs.items() if key != WORKER_KEY}
    return (
        trial.number,
        trial.state,
        trial.values,
        list(trial.params.items()),
        trial.distributions,
        attrs,
        trial.system_attrs,
        trial.intermediate_values,
        trial.datetime_start is None,
        trial.datetime_complete is None,
    )


def _apply(storage: BaseStorage, study_id: int, ids: list[int], call: tuple[str, tuple[Any, ...]]) -> Any:
    what, values = call
    try:
        if what == "ask":
            ids.append(storage.create_new_trial(study_id))
            return None
        if what == "enqueue":
            template = optuna.trial.create_trial(
                state=TrialState.WAITING, system_attrs={"fixed_params": values[0]}
            )
            ids.append(storage.create_new_trial(study_id, template))
            return None
        if what == "list":
            return [_shown(t) for t in storage.get_all_trials(study_id, states=values[0])]
        trial_id = ids[values[0]] if values[0] < len(ids) else 10**6
        if what == "param":
            distribution = SPACES[values[1]][values[3]]
            return storage.set_trial_param(trial_id, values[1], values[2], distribution)
        if what == "user":
            return storage.set_trial_user_attr(trial_id, *values[1:])
        if what == "system":
            return storage.set_trial_system_attr(trial_id, *values[1:])
        if what == "step":
            return storage.set_trial_intermediate_value(trial_id, *values[1:])
        if what == "state":
            return storage.set_trial_state_values(trial_id, *values[1:])
        return _shown(storage.get_trial(trial_id))
    except (KeyError, ValueError, optuna.exceptions.OptunaError) as error:
        return type(error)


@pytest.mark.parametrize(
    "seed", [*range(4), *(pytest.param(n, marks=pytest.mark.slow) for n in range(4, 16))]
)
def test_random_histories_come_out_as_with_stock_optuna(seed: int, tmp_path: Path) -> None:
    chance = random.Random(seed)
    stock = RDBStorage(f"sqlite:///{tmp_path}/stock.db")
    url = f"sqlite:///{tmp_path}/ours.db"
    ours = [open_storage(url, heartbeat_interval=None) for _ in range(2)]
    study_ids = [s.create_new_study([StudyDirection.MINIMIZE], "s") for s in (stock, ours[0])]
    ids: tuple[list[int], list[int]] = ([], [])
    owner: dict[int, BaseStorage] = {}
    for _ in range(120):
        call = _random_call(chance, len(ids[0]))
        if call[0] in ("param", "user", "system", "step", "state") and call[1][0] < len(ids[0]):
            waits = stock.get_trial(ids[0][call[1][0]]).state == TrialState.WAITING
            if waits and not (call[0] == "state" and call[1][2] is None):
                continue  # Optuna allows a waiting trial no change but that of its state.
        # A trial is worked on by the process that runs it, as in life; anyone may read it.
        which = call[1][0] if call[0] in ("param", "user", "system", "step", "state", "read") else None
        storage = owner.get(which, chance.choice(ours)) if isinstance(which, int) else chance.choice(ours)
        expected = _apply(stock, study_ids[0], ids[0], call)
        if call[0] == "list":
            for candidate in ours:
                got = _apply(candidate, study_ids[1], ids[1], call)
                # What the other process has not told yet is its own.
                hidden = {n for n, o in owner.items() if o is not candidate}
                assert [t for t in got if t[0] not in hidden or t[1].is_finished()] == [
                    t for t in expected if t[0] not in hidden or t[1].is_finished()
                ]
            continue
        got = _apply(storage, study_ids[1], ids[1], call)
        assert got == expected, call
        if call[0] == "ask":
            owner[len(ids[1]) - 1] = storage
        elif call[0] == "state" and got is True and call[1][1] == TrialState.RUNNING:
            owner[which] = storage
    for number, trial_id in enumerate(ids[1]):
        trial = owner.get(number, ours[0]).get_trial(trial_id)
        assert _shown(trial) == _shown(stock.get_trial(ids[0][number]))
