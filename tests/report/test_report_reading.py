from __future__ import annotations

import optuna
import pytest
from numpy.testing import assert_array_equal
from optuna.trial import TrialState

from zenopt.core.errors import StudyError
from zenopt.report.reading import NUMBERS, read_study
from zenopt.storage.history import read_trials


def test_tables_and_trials_read_the_same(study: optuna.Study, url: str) -> None:
    memory = optuna.storages.InMemoryStorage()
    optuna.copy_study(
        from_study_name=study.study_name, from_storage=study._storage, to_storage=memory, to_study_name="copy"
    )
    copy = optuna.load_study(study_name="copy", storage=memory)
    ours, theirs = read_study(study, 1.0), read_study(copy, 1.0)
    for field in ("numbers", "states", "values", "feasible", "started", "ended"):
        assert_array_equal(getattr(ours, field), getattr(theirs, field), err_msg=field)
    for key in NUMBERS:
        assert_array_equal(ours.columns[key], theirs.columns[key], err_msg=key)
    assert ours.structures == theirs.structures
    assert ours.errors == theirs.errors
    assert ours.spec == theirs.spec
    assert ours.maximize and theirs.maximize


def test_agrees_with_optuna(study: optuna.Study) -> None:
    data = read_study(study, 1.0)
    found = study.get_trials(deepcopy=False)
    assert data.size == len(found) == 300
    assert_array_equal(data.states, [trial.state.value for trial in found])
    assert data.values[data.ranked()[0]] == study.best_value
    assert int(data.numbers[data.ranked()[0]]) == study.best_trial.number
    assert data.in_state(TrialState.RUNNING).sum() == 1
    assert data.over_budget.sum() == sum(trial.state == TrialState.PRUNED for trial in found)
    assert data.errors == {"score is not finite: nan": 1}


def test_top_is_distinct_and_sorted(study: optuna.Study) -> None:
    data = read_study(study, 1.0)
    top = data.top(10)
    assert len({data.structures[position] for position in top}) == len(top) == 10
    assert list(data.values[top]) == sorted(data.values[top], reverse=True)


def test_a_study_that_grows_while_it_is_read(study: optuna.Study) -> None:
    data = read_study(study, 1.0)
    sample = read_trials(study, data.ids[:7])
    assert [trial.number for trial in sample] == list(range(7))
    assert all(trial.params for trial in sample)


def test_foreign_studies_are_refused() -> None:
    study = optuna.create_study()
    with pytest.raises(StudyError, match="not made by zenopt"):
        read_study(study, 1.0)
