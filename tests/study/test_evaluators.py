"""What gives an architecture its value: combinations of proxies, trainings, a class of one's own."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import optuna
import pytest
from optuna.trial import TrialState

from zenopt.core.errors import EvaluationError, SpecError
from zenopt.core.score import Score
from zenopt.storage import open_storage
from zenopt.study import search, watching
from zenopt.study.advice import warnings_before
from zenopt.study.evaluators import make_evaluator
from zenopt.study.evaluators.base import Evaluator
from zenopt.study.evaluators.train import RATE_PARAMETER
from zenopt.study.objective import Objective, run_trial
from zenopt.study.pruners import make_pruner
from zenopt.study.sampling import make_sampler
from zenopt.study.search import run_search
from zenopt.study.spec import StudySpec
from zenopt.study.study import join_study, load_study

Maker = Callable[..., StudySpec]


def start(spec: StudySpec, folder: Path = Path("runs"), **options: Any) -> tuple[optuna.Study, Objective]:
    storage = open_storage("memory:")
    spec = join_study(spec, storage, "one", "cpu")
    study = load_study(storage, "one", make_sampler(spec), make_pruner(spec))
    return study, Objective(spec, study, folder=folder, **options)


# -- combinations ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "proxy",
    [
        {"name": "vote", "reference": 6},
        {"name": "vote", "reference": 6, "parts": {"macs": 1, "params": 1, "zen-closed-form": 1}},
        {"name": "sum", "reference": 6, "parts": {"macs": -1, "zen-closed-form": 2}},
        {"name": "az-nas", "reference": 4},
    ],
)
def test_combinations_are_searched(tiny_spec: Maker, proxy: dict[str, Any]) -> None:
    spec = tiny_spec(proxy={"batch_size": 2, **proxy})
    study, objective = start(spec)
    assert [run_trial(study, objective) for _ in range(5)] == [TrialState.COMPLETE] * 5
    values = [trial.value for trial in study.trials]
    assert all(value is not None for value in values) and spec.direction() == "maximize"
    # Another worker gives the same architecture the same value.
    other = make_evaluator(spec)
    first = study.trials[0].user_attrs
    architecture = spec.build_space().parse(first["structure"])
    assert other.evaluate(architecture, seed=first["seed"], settings={}).mean == study.trials[0].value


def test_a_sum_ranks_as_its_parts_do(tiny_spec: Maker) -> None:
    """With a single proxy, a sum orders architectures as the proxy does; a negative weight turns the order round."""
    spaces = tiny_spec().build_space()
    architectures = [spaces.parse(spaces.initial)]
    while (smaller := spaces.shrink(architectures[-1])) is not None:
        architectures.append(smaller)
    for weight, order in ((1.0, sorted), (-2.0, lambda values: sorted(values, reverse=True))):
        spec = tiny_spec(
            proxy={"name": "sum", "parts": {"params": weight}, "batch_size": 2, "reference": 40}, budget={}
        )
        evaluator = make_evaluator(spec)
        values = [evaluator.evaluate(item, seed=0, settings={}).mean for item in reversed(architectures)]
        assert values == order(values)  # type: ignore[operator]


@pytest.mark.parametrize(
    ("proxy", "complaint"),
    [
        ({"name": "sum"}, "needs proxy.parts"),
        ({"name": "sum", "parts": {"nothing": 1.0}}, "Unknown proxy 'nothing'"),
        ({"name": "zen", "parts": {"macs": 1.0}}, "is for the combinations"),
        ({"name": "vote", "reference": 1}, "proxy.reference"),
    ],
)
def test_wrong_combinations_are_named(tiny_spec: Maker, proxy: dict[str, Any], complaint: str) -> None:
    with pytest.raises(SpecError, match=complaint):
        tiny_spec(proxy=proxy)


# -- trainings ---------------------------------------------------------------------------------------------------------


def training(tiny_spec: Maker, **changes: Any) -> StudySpec:
    options = {"data": "synthetic:64", "epochs": 3, "overrides": ["batch_size=16"], "held_back": 0.25}
    return tiny_spec(
        objective={"kind": "train"}, training={**options, **changes}, sampler={"name": "random"}, budget={}
    )


def test_a_trial_is_a_training(tiny_spec: Maker, tmp_path: Path) -> None:
    study, objective = start(training(tiny_spec), tmp_path)
    assert run_trial(study, objective) == TrialState.COMPLETE
    (trial,) = study.trials
    assert list(trial.intermediate_values) == [1, 2, 3] and trial.value == trial.intermediate_values[3]
    assert trial.user_attrs["epochs"] == 3 and "0.25 held back" in trial.user_attrs["data"]
    assert study.metric_names == ["top-1 accuracy (%) on 25 % of the training images, held back"]
    assert (tmp_path / trial.user_attrs["training_run"] / "last.pt").is_file()


def test_a_stopped_training_goes_back_and_goes_on(tiny_spec: Maker, tmp_path: Path) -> None:
    spec = training(tiny_spec, epochs=4)
    whole_study, whole = start(spec, tmp_path / "whole")
    run_trial(whole_study, whole)
    stops = iter([False, True])
    study, objective = start(spec, tmp_path / "cut", should_stop=lambda: next(stops, False))
    assert run_trial(study, objective) == TrialState.WAITING
    assert study.trials[0].state == TrialState.WAITING
    folder = next((tmp_path / "cut").iterdir())
    stamps = (folder / "metrics.csv").read_text().splitlines()
    assert len(stamps) == 3, "two epochs and a header"
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # that an epoch is reported twice
        assert run_trial(study, objective) == TrialState.COMPLETE
    assert len(study.trials) == 1
    # The epochs done before were not done again, and the result is that of an uninterrupted training.
    assert (folder / "metrics.csv").read_text().splitlines()[:3] == stamps
    assert study.trials[0].intermediate_values == whole_study.trials[0].intermediate_values


def test_the_learning_rate_can_be_a_parameter(tiny_spec: Maker, tmp_path: Path) -> None:
    spec = training(tiny_spec, rates=[0.1, 0.4], rate_by="parameter", epochs=1)
    study, objective = start(spec, tmp_path)
    for _ in range(6):
        run_trial(study, objective)
    rates = {trial.params[RATE_PARAMETER] for trial in study.trials}
    assert rates == {0.1, 0.4}
    assert all(t.params[RATE_PARAMETER] == t.user_attrs["learning_rate"] for t in study.trials)


def test_a_training_that_diverges_fails_and_the_search_goes_on(tiny_spec: Maker, tmp_path: Path) -> None:
    spec = training(tiny_spec, rates=[1e12], epochs=1)
    study, objective = start(spec, tmp_path)
    assert run_trial(study, objective) == TrialState.FAIL
    assert "no longer" in study.trials[0].user_attrs["error"]


def test_pruners_by_name(tiny_spec: Maker) -> None:
    for name, cls in (
        ("none", optuna.pruners.NopPruner),
        ("median", optuna.pruners.MedianPruner),
        ("hyperband", optuna.pruners.HyperbandPruner),
        ("WilcoxonPruner", optuna.pruners.WilcoxonPruner),
    ):
        assert isinstance(make_pruner(training(tiny_spec, pruner=name)), cls)
    found = make_pruner(training(tiny_spec, pruner={"name": "percentile", "options": {"percentile": 10.0}}))
    assert isinstance(found, optuna.pruners.PercentilePruner)
    with pytest.raises(SpecError, match="do not fit 'median'"):
        make_pruner(training(tiny_spec, pruner={"name": "median", "options": {"speed": 3}}))
    with pytest.raises(ValueError, match="Unknown pruner 'medain'; did you mean 'median'"):
        make_pruner(training(tiny_spec, pruner="medain"))


def test_a_search_without_data_ends_before_it_begins(tiny_spec: Maker, tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'study.db'}"
    with pytest.raises(SpecError, match=r"need training\.data"):
        run_search(training(tiny_spec, data=None), url, "one", trials=1)
    with pytest.raises(ValueError, match="does not exist"):
        run_search(training(tiny_spec, data="imagefolder:/nowhere"), url, "one", trials=1)
    assert not (tmp_path / "study.db").exists()


def test_trainings_of_two_studies_agree_in_what_matters(tiny_spec: Maker) -> None:
    storage = open_storage("memory:")
    join_study(training(tiny_spec), storage, "one", "cpu")
    with pytest.raises(ValueError, match=r"training\.epochs: 3 -> 5"):
        join_study(training(tiny_spec, epochs=5), storage, "one", "cpu")
    # How many finalists there are changes no accuracy.
    join_study(training(tiny_spec, finalists=7), storage, "one", "cpu")


# -- tables ------------------------------------------------------------------------------------------------------------


def curves(tmp_path: Path, **objective: Any) -> StudySpec:
    """A study of eleven widths; the table has their values after 10 and 50 epochs, of the widest only the last."""
    rows = [f"{width},{90 - width if width < 11 else ''},{100 - width}" for width in range(1, 12)]
    table = tmp_path / "curves.csv"
    table.write_text("\n".join(["width,early,late", *rows]))
    content = {
        "name": "curves",
        "resolution": 32,
        "space": {"name": "columns", "options": {"table": str(table), "parameters": ["width"]}},
        "objective": {"kind": "table", "table": str(table), **objective},
        "sampler": {"name": "random"},
        "training": {"pruner": "halving"},
    }
    return StudySpec.validated_data(content)


def test_learning_curves_of_a_table_are_pruned(tmp_path: Path) -> None:
    spec = curves(tmp_path, columns_by_epoch={50: "late", 10: "early"})
    assert spec.objective.column == "late" and spec.evaluator()(spec).last_step == 50
    # What is stored has texts for keys.
    assert StudySpec.validated_data(spec.model_dump(mode="json")) == spec
    study, objective = start(spec)
    for width in (5, 6, 3, 11):
        study.enqueue_trial({"width": width})
        run_trial(study, objective)
    better, worse, best, late = study.trials
    assert better.intermediate_values == {10: 85.0, 50: 95.0} and better.value == 95.0
    assert worse.state == TrialState.PRUNED and worse.intermediate_values == {10: 84.0}
    assert best.value == 97.0
    # A row without the earlier number cannot be judged by it.
    assert late.intermediate_values == {50: 89.0} and late.value == 89.0


def test_the_pruners_of_curves_begin_with_their_first_step(tmp_path: Path) -> None:
    spec = curves(tmp_path, columns_by_epoch={10: "early", 50: "late"})
    halving = make_pruner(spec)
    assert isinstance(halving, optuna.pruners.SuccessiveHalvingPruner) and halving._min_resource == 10
    wanted = spec.overridden(["training.pruner={name: halving, options: {min_resource: 50}}"])
    assert make_pruner(wanted)._min_resource == 50  # type: ignore[attr-defined]
    assert make_pruner(spec.overridden(["training.pruner=hyperband"]))._max_resource == 50  # type: ignore[attr-defined]


def test_wrong_curves_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"no column 'erly' of numbers; it has width, early, late"):
        curves(tmp_path, columns_by_epoch={10: "erly", 50: "late"}).check()
    with pytest.raises(SpecError, match=r"objective\.columns_by_epoch\.0.* greater than or equal to 1"):
        curves(tmp_path, columns_by_epoch={0: "early"})
    with pytest.raises(SpecError, match="are keys of a table objective"):
        StudySpec.load("demo", ["objective.columns_by_epoch={10: early}"])


def test_progress_tells_the_epochs_of_running_trials(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watching, "_LOOK_S", 0.0)
    spec = curves(tmp_path, columns_by_epoch={10: "early", 50: "late"}).overridden(["training.pruner=none"])
    seen: list[search.Progress] = []
    search.run_search(spec, "memory:", "one", trials=2, workers=1, on_progress=seen.append)
    first, last = seen[0], seen[-1]
    assert (first.done, first.epochs, first.running) == (0, (10,), "epoch 10 of 50")
    assert first.share_done == pytest.approx(0.1) and first.seconds_left is not None
    assert (last.done, last.epochs, last.running, last.share_done) == (2, (), None, 1.0)


def test_nothing_is_said_of_epochs_where_there_are_none(tiny_spec: Maker, tmp_path: Path) -> None:
    study, _ = start(tiny_spec())
    study.ask()
    seen: list[watching.Progress] = []
    watching.Watch(study, "run", 3, None, 0.0, seen.append).report(2)
    assert (seen[0].epochs, seen[0].running) == ((), None)


def test_a_pruner_that_is_told_nothing_is_warned_of(tmp_path: Path) -> None:
    plain, with_curves = curves(tmp_path, column="late"), curves(tmp_path, columns_by_epoch={10: "early"})
    assert ["objective.columns_by_epoch" in line for line in warnings_before(plain)] == [True]
    assert warnings_before(with_curves) == warnings_before(plain.overridden(["training.pruner=none"])) == []


# -- of one's own ------------------------------------------------------------------------------------------------------


class Longest(Evaluator):
    """The length of an architecture's text; odd ones have no value."""

    @classmethod
    def direction(cls, spec: StudySpec) -> Any:
        return "minimize"

    @classmethod
    def label(cls, spec: StudySpec) -> str:
        return "letters"

    def evaluate(self, architecture: Any, *, seed: int, settings: Any, **options: Any) -> Score:
        if len(str(architecture)) % 2:
            raise EvaluationError("an odd one")
        return Score(float(len(str(architecture))), source="letters")


def test_an_evaluator_of_ones_own(tiny_spec: Maker, monkeypatch: pytest.MonkeyPatch) -> None:
    module = ModuleType("own_evaluators")
    module.Longest = Longest  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "own_evaluators", module)
    study, objective = start(tiny_spec(objective={"kind": "own_evaluators:Longest"}))
    states = {run_trial(study, objective) for _ in range(12)}
    assert states == {TrialState.COMPLETE, TrialState.FAIL}
    assert study.metric_names == ["letters"] and study.direction.name == "MINIMIZE"
    failed = [trial for trial in study.trials if trial.state == TrialState.FAIL]
    assert {trial.user_attrs["error"] for trial in failed} == {"an odd one"}
