"""Searches with several objectives, from the spec to the population."""

from __future__ import annotations

from collections.abc import Callable
from math import inf
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import pytest

from zenopt.core.errors import SpecError
from zenopt.core.pareto import front_numbers, order
from zenopt.progress.search import FRONT_LINES, describe_status
from zenopt.samplers.fronts import Fronts
from zenopt.samplers.pareto import ParetoPopulation
from zenopt.storage import open_storage
from zenopt.study.best import rescore_top
from zenopt.study.objective import Objective, run_trial
from zenopt.study.sampling import make_sampler
from zenopt.study.search import run_search
from zenopt.study.spec import StudySpec
from zenopt.study.study import join_study, load_study, read_status


def study_of(spec: StudySpec, trials: int) -> tuple[optuna.Study, Any]:
    storage = open_storage("memory:")
    spec = join_study(spec, storage, "multi", "cpu")
    sampler = make_sampler(spec)
    study = load_study(storage, "multi", sampler)
    objective = Objective(spec, study)
    for _ in range(trials):
        run_trial(study, objective)
    return study, sampler


@pytest.mark.parametrize("sampler", ["zen", "nsga2", "tpe", "random"])
def test_every_sampler_serves_several_objectives(tiny_spec: Callable[..., StudySpec], sampler: str) -> None:
    spec = tiny_spec(
        objectives=["score", "params", "macs"],
        proxy={"name": "zen-closed-form"},
        sampler={"name": sampler, "population": 12},
        budget={"params": 60_000},
    )
    assert spec.directions() == ["maximize", "minimize", "minimize"]
    study, _ = study_of(spec, 16)
    complete = [trial for trial in study.trials if trial.state == optuna.trial.TrialState.COMPLETE]
    assert complete
    for trial in complete:
        if trial.user_attrs["params"] <= 60_000:
            assert trial.values[1:] == [trial.user_attrs["params"], trial.user_attrs["macs"]]
            assert trial.values[0] == pytest.approx(trial.user_attrs["score_mean"])
        else:
            # Nothing over budget is on a front, whoever draws it.
            assert trial.values == [-inf, inf, inf]
    assert read_status(study).complete == len(complete)


def test_zens_population_is_the_first_fronts(tiny_spec: Callable[..., StudySpec]) -> None:
    spec = tiny_spec(
        objectives=["score", "params"],
        proxy={"name": "zen-closed-form"},
        sampler={"name": "zen", "population": 14},
    )
    study, sampler = study_of(spec, 40)
    population = sampler._population(study)
    population.sync()
    assert isinstance(population, ParetoPopulation)
    members = {str(item) for item in population.architectures()}
    assert len(members) == 14
    trials = study.trials
    numbers = front_numbers([(trial.values[0], -trial.values[1]) for trial in trials])
    fronts = {trial.user_attrs["structure"]: number for trial, number in zip(trials, numbers, strict=True)}
    worst = max(fronts[text] for text in members)
    assert all(text in members for text, number in fronts.items() if number < worst)
    again = ParetoPopulation(study, spec.build_space(), 14)
    again.sync()
    assert again.architectures() == population.architectures()


def test_a_search_runs_and_reports(tiny_spec: Callable[..., StudySpec], tmp_path: Path) -> None:
    spec = tiny_spec(objectives=["score", "params"], proxy={"name": "zen-closed-form"})
    result = run_search(spec, f"sqlite:///{tmp_path}/x.db", "multi", trials=4, workers=1)
    assert result.done == 4
    with pytest.raises(ValueError, match=r"objectives: .* -> "):
        run_search(
            tiny_spec(proxy={"name": "zen-closed-form"}), f"sqlite:///{tmp_path}/x.db", "multi", trials=1
        )


@pytest.mark.parametrize(
    ("sections", "complaint"),
    [
        ({"objectives": []}, "must begin with score"),
        ({"objectives": ["params", "score"]}, "must begin with score"),
        ({"objectives": ["score", "params", "params"]}, "names one twice"),
        ({"objectives": ["score", "latency_ms"]}, "needs a latency section"),
        ({"objectives": ["score", "accuracy"]}, "accuracy is no cost; costs are params, macs"),
    ],
)
def test_wrong_objectives_are_named(
    tiny_spec: Callable[..., StudySpec], sections: dict[str, Any], complaint: str
) -> None:
    with pytest.raises(SpecError, match=complaint):
        tiny_spec(**sections)


def test_what_serves_one_objective_says_so(tiny_spec: Callable[..., StudySpec]) -> None:
    for sampler, complaint in (
        ({"name": "aging", "population": 20}, "compares by one objective"),
        ({"name": "zen", "screening": "on"}, "looks at the score alone"),
    ):
        with pytest.raises(SpecError, match=complaint):
            make_sampler(tiny_spec(objectives=["score", "params"], sampler=sampler))


def test_status_and_export_read_the_front(tiny_spec: Callable[..., StudySpec]) -> None:
    spec = tiny_spec(objectives=["score", "params"], proxy={"name": "zen-closed-form"})
    study, _ = study_of(spec, 25)
    status = read_status(study)
    content = status.to_json()
    values = [tuple(item["values"]) for item in content["front"]]
    # On a front of two objectives, a lower score must be paid back by fewer params.
    assert len(values) >= 2
    assert values == sorted(values, key=lambda item: -item[0])
    assert [params for _, params in values] == sorted((params for _, params in values), reverse=True)
    assert content["best"]["value"] == max(trial.values[0] for trial in study.trials)
    text = describe_status(status)
    assert f"Pareto front of score, params: {len(values)} trials" in text
    assert all(f"params {params:,.0f}" in text for _, params in values[:FRONT_LINES])
    _, candidates = rescore_top(study, count=2, repeats=1)
    assert [item.record.number for item in candidates] == [item["number"] for item in content["front"][:2]]


@pytest.mark.parametrize("objectives", [2, 3])
def test_fronts_kept_up_to_date_are_those_of_a_sort(objectives: int) -> None:
    """Ties, copies and late points included, and whatever order the points come in."""
    rng = np.random.default_rng(objectives)
    points = rng.integers(0, 12, size=(400, objectives)).astype(float)
    keys = rng.permutation(400)
    fronts = Fronts(objectives)
    start = 0
    for size in (1, 60, 1, 1, 2, 3, 5, 90, 1, 7, 229):
        fronts.extend(points[start : start + size])
        start += size
        by_key = np.argsort(keys[:start])
        wanted = by_key[order(points[:start][by_key], 50)]
        assert fronts.best(50, keys[:start]) == wanted.tolist()
    assert start == len(fronts) == 400
    assert fronts.best(1000, keys) == np.argsort(keys)[order(points[np.argsort(keys)])].tolist()


def test_one_more_trial_among_many_is_cheap(monkeypatch: pytest.MonkeyPatch) -> None:
    """Counted, not timed: a new point is compared with a few fronts, not with all points."""
    rng = np.random.default_rng(0)
    fronts = Fronts(2)
    fronts.extend(rng.standard_normal((4000, 2)))
    seen: list[int] = []
    compare = Fronts._is_dominated

    def counting(self: Fronts, index: int, front: Any) -> bool:
        seen.append(len(front))
        return compare(self, index, front)

    monkeypatch.setattr(Fronts, "_is_dominated", counting)
    fronts.extend([(0.0, 0.0)])
    assert 0 < sum(seen) < 1000
