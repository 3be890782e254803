from __future__ import annotations

import optuna
import pytest
import sqlalchemy as sa
from optuna.trial import TrialState
from report_studies import make_study

from zenopt.dashboard import mirror as mirror_module
from zenopt.dashboard.mirror import MirrorStorage
from zenopt.storage import open_storage
from zenopt.storage.tables import TRIAL_TABLES, engine_of, study_system_attrs, study_user_attrs, trials


@pytest.fixture(autouse=True)
def _no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mirror_module, "_REFRESH_S", 0.0)


def test_a_small_study_is_shown_whole(study: optuna.Study) -> None:
    mirror = MirrorStorage(study._storage)
    found = {stored.study_name: stored._study_id for stored in mirror.get_all_studies()}
    shown = mirror.get_all_trials(found["cifar"], deepcopy=False)
    original = study.get_trials(deepcopy=False)
    assert [trial.number for trial in shown] == list(range(300))
    for ours, theirs in zip(shown, original, strict=True):
        assert (ours._trial_id, ours.state, ours.values) == (theirs._trial_id, theirs.state, theirs.values)
        assert ours.params == theirs.params
        assert theirs.user_attrs.items() <= ours.user_attrs.items()
    pruned = next(trial for trial in shown if trial.state == TrialState.PRUNED)
    assert pruned.user_attrs["constraint:params"] == pruned.system_attrs["constraints"][0]
    assert mirror.get_best_trial(found["cifar"]).number == study.best_trial.number
    assert mirror.get_n_trials(found["cifar"], TrialState.RUNNING) == 1
    assert mirror.get_trial(original[5]._trial_id).number == 5


def test_the_best_trial_is_within_the_budget() -> None:
    source = optuna.storages.InMemoryStorage()
    study = optuna.create_study(storage=source, direction="minimize")
    for value, violation in ((3.0, -0.1), (1.0, 0.2), (2.0, 0.0)):
        study.add_trial(
            optuna.trial.create_trial(
                value=value, system_attrs={"constraints:params": violation, "note": "kept"}
            )
        )
    mirror = MirrorStorage(source)
    study_id = mirror.get_all_studies()[0]._study_id
    assert mirror.get_best_trial(study_id).value == 2.0
    hidden = mirror.get_all_trials(study_id)[1]
    assert (hidden.state, hidden.values) == (TrialState.PRUNED, None)
    assert hidden.system_attrs["constraints"] == [0.2]
    # The source's own objects are untouched.
    assert study.trials[1].value == 1.0
    assert "constraints" not in study.trials[1].system_attrs


def test_no_best_trial() -> None:
    source = optuna.storages.InMemoryStorage()
    optuna.create_study(storage=source)
    mirror = MirrorStorage(source)
    with pytest.raises(ValueError, match="No trials are completed"):
        mirror.get_best_trial(mirror.get_all_studies()[0]._study_id)


def test_a_large_study_is_shown_by_its_elites(tmp_path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mirror_module, "ELITES", 20)
    monkeypatch.setattr(mirror_module, "LATEST", 10)
    monkeypatch.setattr(mirror_module, "SAMPLE", 16)
    url = f"sqlite:///{tmp_path}/large.db"
    study = make_study(url, "large", 201)
    mirror = MirrorStorage(open_storage(url), largest=100)
    study_id = mirror.get_all_studies()[0]._study_id
    shown = mirror.get_all_trials(study_id)
    numbers = [trial.number for trial in shown]
    complete = [trial for trial in study.trials if trial.state == TrialState.COMPLETE]
    elites = sorted(complete, key=lambda trial: -trial.value)[:20]
    assert {trial.number for trial in elites} <= set(numbers)
    assert set(range(190, 201)) <= set(numbers)
    assert len(numbers) == len(set(numbers)) < 120
    # Unfinished trials stand last, and what was shown keeps its place when the study grows.
    assert shown[-1].state == TrialState.RUNNING
    assert all(trial.state.is_finished() for trial in shown[:-1])
    assert mirror.mirrored()[study_id].size == 201
    assert not mirror.mirrored()[study_id].is_whole
    study.tell(200, 1000.0)
    again = mirror.get_all_trials(study_id)
    assert [trial.number for trial in again[: len(shown) - 1]] == numbers[:-1]
    assert again[len(shown) - 1].number == 200
    assert mirror.get_best_trial(study_id).number == 200


def test_a_large_study_of_several_objectives_keeps_its_front(
    multi_study: optuna.Study, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mirror_module, "ELITES", 60)
    monkeypatch.setattr(mirror_module, "LATEST", 4)
    monkeypatch.setattr(mirror_module, "SAMPLE", 4)
    mirror = MirrorStorage(multi_study._storage, largest=100)
    found = {stored.study_name: stored._study_id for stored in mirror.get_all_studies()}
    shown = mirror.get_all_trials(found["multi"])
    front = multi_study.best_trials
    assert {trial.number for trial in front} <= {trial.number for trial in shown}
    assert len(shown) < 110
    assert (
        mirror.get_best_trial(found["multi"]).number == max(front, key=lambda trial: trial.values[0]).number
    )


def test_studies_come_and_go(tmp_path) -> None:
    storage = open_storage(f"sqlite:///{tmp_path}/new.db")
    mirror = MirrorStorage(storage)
    assert mirror.get_all_studies() == []
    optuna.create_study(storage=storage, study_name="later")
    assert [found.study_name for found in mirror.get_all_studies()] == ["later"]
    optuna.delete_study(study_name="later", storage=storage)
    optuna.create_study(storage=storage, study_name="later", direction="maximize")
    (found,) = mirror.get_all_studies()
    assert found.study_name == "later"
    assert found.directions == [optuna.study.StudyDirection.MAXIMIZE]


def test_attributes_of_a_study(tmp_path) -> None:
    storage = open_storage(f"sqlite:///{tmp_path}/attributes.db")
    study = optuna.create_study(storage=storage, study_name="mine")
    study.set_user_attr("zenopt:spec", "{}")
    study.set_user_attr("owner", "me")
    (found,) = MirrorStorage(storage).get_all_studies()
    assert found.user_attrs == {"owner": "me"}


def test_deleting_in_the_browser_hides_only(tmp_path) -> None:
    storage = open_storage(f"sqlite:///{tmp_path}/kept.db")
    optuna.create_study(storage=storage, study_name="kept")
    mirror = MirrorStorage(storage)
    mirror.delete_study(mirror.get_all_studies()[0]._study_id)
    assert mirror.get_all_studies() == []
    assert mirror.mirrored() == {}
    assert [found.study_name for found in storage.get_all_studies()] == ["kept"]


def test_the_source_is_only_read(study: optuna.Study) -> None:
    engine = engine_of(study._storage)
    tables = (*TRIAL_TABLES, trials, study_user_attrs, study_system_attrs)

    def rows() -> list[list[tuple]]:
        with engine.connect() as connection:
            return [sorted(map(tuple, connection.execute(sa.select(table))), key=str) for table in tables]

    before = rows()
    mirror = MirrorStorage(study._storage)
    for stored in mirror.get_all_studies():
        mirror.set_study_user_attr(stored._study_id, "written", 1)
        mirror.set_study_system_attr(stored._study_id, "dashboard:note_ver", 1)
        mirror.get_all_trials(stored._study_id)
        mirror.delete_study(stored._study_id)
    assert rows() == before
