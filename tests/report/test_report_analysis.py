from __future__ import annotations

import numpy as np
import optuna
import pytest
from optuna.trial import TrialState

from zenopt.report.analysis import (
    feasible_share,
    pareto_front,
    rank_correlation,
    running_best,
    survivors,
    thin_out,
)
from zenopt.report.importances import importances, read_parameters
from zenopt.report.reading import StudyData, read_study
from zenopt.storage.history import read_trials


@pytest.fixture(scope="module")
def data(study: optuna.Study) -> StudyData:
    return read_study(study, 0.0)


def test_pareto_front_by_hand() -> None:
    costs = np.array([3.0, 1.0, 2.0, 2.0, 4.0, 1.0])
    values = np.array([5.0, 1.0, 4.0, 3.0, 5.0, 0.5])
    assert pareto_front(costs, values, maximize=True).tolist() == [1, 2, 0]
    assert pareto_front(costs, -values, maximize=False).tolist() == [1, 2, 0]
    assert pareto_front(np.array([]), np.array([]), maximize=True).tolist() == []


def test_nothing_dominates_the_front(data: StudyData) -> None:
    known = np.flatnonzero(data.scored)
    costs, values = data.columns["params"][known], data.values[known]
    front = pareto_front(costs, values, maximize=True)
    for index in front:
        better = (costs <= costs[index]) & (values >= values[index])
        better &= (costs < costs[index]) | (values > values[index])
        assert not better.any()


def test_running_best_takes_candidates_only(data: StudyData) -> None:
    positions, values = running_best(data)
    assert np.all(np.diff(values) > 0)
    assert data.scored[positions].all()
    assert values[-1] == data.values[data.scored].max()
    assert positions[0] == np.flatnonzero(data.scored)[0]


def test_rank_correlation_by_hand() -> None:
    first = np.array([1.0, 2.0, 3.0, 4.0])
    assert rank_correlation(first, first**3) == pytest.approx(1.0)
    assert rank_correlation(first, -first) == pytest.approx(-1.0)
    # Ranks 1, 2.5, 2.5, 4 against 1, 2, 3, 4.
    assert rank_correlation(np.array([1.0, 2.0, 2.0, 9.0]), first) == pytest.approx(4.5 / np.sqrt(4.5 * 5.0))
    assert np.isnan(rank_correlation(first, np.ones(4)))
    assert np.isnan(rank_correlation(first[:2], first[:2]))


def test_feasible_share_averages_to_the_whole(data: StudyData) -> None:
    numbers, shares = feasible_share(data, windows=5)
    finished = data.in_state(TrialState.COMPLETE) | data.in_state(TrialState.PRUNED)
    assert len(numbers) == len(shares) == 5
    assert numbers[-1] == data.numbers[finished][-1]
    # Windows differ in length by one trial at most.
    assert shares.mean() == pytest.approx(data.feasible[finished].mean(), abs=0.01)


def test_thin_out_keeps_what_must_stay() -> None:
    positions, keep = np.arange(1000), np.array([3, 500, 999])
    found = thin_out(positions, keep, 50)
    assert len(found) == 50
    assert set(keep) <= set(found)
    assert np.all(np.diff(found) > 0)
    assert thin_out(positions, keep, 5000) is positions
    assert len(thin_out(positions, positions[:80], 50)) == 80


def test_survivors_describe_the_best(data: StudyData) -> None:
    found = survivors(data)
    assert found is not None
    assert len(found.stages) == 4
    assert found.counts[0] == 20
    for stage in found.stages:
        assert sum(stage.kernels.values()) == pytest.approx(np.ones(len(found.numbers)))
        assert sum(stage.types.values()) == pytest.approx(np.ones(len(found.numbers)))
        assert np.all(stage.width[0] <= stage.width[1])
        assert np.all(stage.width[1] <= stage.width[2])
    # The last moment by hand: the best tenth of all candidates, all of them taken apart.
    best = data.ranked()[: found.counts[-1]]
    space = data.spec.build_space()
    widths = [block.out_channels for p in best for block in space.stages(space.parse(data.structures[p]))[0]]
    assert found.stages[0].width[1][-1] == np.median(widths)


def test_survivors_need_candidates(data: StudyData) -> None:
    few = data.__class__(**{**data.__dict__, "feasible": np.zeros(data.size, dtype=bool)})
    assert survivors(few) is None
    assert few.top(3) == []


def test_importances_agree_with_optunas(study: optuna.Study, data: StudyData) -> None:
    sample = read_parameters(study, data)
    found = importances(data, sample)
    assert len(sample.trials) == data.scored.sum()
    assert sum(found.values()) == pytest.approx(1.0)
    copy = optuna.create_study(direction="maximize")
    copy.add_trials(
        optuna.trial.create_trial(value=t.values[0], params=t.params, distributions=t.distributions)
        for t in read_trials(study, data.ids[data.scored])
    )
    names = list(found)
    evaluator = optuna.importance.PedAnovaImportanceEvaluator()
    with pytest.warns(UserWarning):
        theirs = optuna.importance.get_param_importances(copy, evaluator=evaluator, params=names)
    ours = np.array([found[name] for name in names])
    assert rank_correlation(ours, np.array([theirs[name] for name in names])) > 0.5


def test_importance_of_the_only_parameter_that_matters(data: StudyData) -> None:
    def objective(trial: optuna.Trial) -> float:
        for name in ("b", "c"):
            trial.suggest_int(name, 1, 5)
        trial.suggest_categorical("kind", ["x", "y"])
        return -((trial.suggest_float("a", 0.0, 1.0) - 0.3) ** 2)

    study = optuna.create_study(direction="maximize", sampler=optuna.samplers.RandomSampler(seed=0))
    study.optimize(objective, n_trials=300)
    study.set_user_attr("zenopt:spec", data.spec.model_dump_json())
    read = read_study(study, 0.0)
    found = importances(read, read_parameters(study, read))
    assert next(iter(found)) == "a"
    assert found["a"] > 0.6
