"""The verification of a study: candidates, a linked study, what a second run does, pruning, agreement."""

from __future__ import annotations

from pathlib import Path

import optuna
import pytest
from optuna.trial import TrialState

from zenopt.core.errors import StudyError
from zenopt.export.bundle import read_bundle
from zenopt.storage import open_storage
from zenopt.study.objective import Objective, run_trial
from zenopt.study.sampling import make_sampler
from zenopt.study.spec import StudySpec
from zenopt.study.study import join_study, load_study
from zenopt.train.recipe import load_recipe
from zenopt.verify.agreement import agreement
from zenopt.verify.candidates import baselines, study_best
from zenopt.verify.compare import compare
from zenopt.verify.final import export_trained
from zenopt.verify.linked import Candidate, Place, Training, TrainingStudy, training_spec, verified

SPEC = """\
name: tiny
space:
  options: {stage_strides: [1, 2], stem_stride: 1}
  initial: "SuperConvK3BNRELU(3,8,1,1)SuperResK3K3(8,8,1,8,1)SuperResK3K3(8,16,2,8,1)SuperConvK1BNRELU(16,16,1,1)"
resolution: 8
num_classes: 4
budget: {params: 2.0e+4, layers: 8}
proxy: {name: zen-closed-form}
sampler: {screening: off}
trials: 6
"""


@pytest.fixture
def searched(tmp_path: Path) -> tuple[StudySpec, optuna.Study]:
    path = tmp_path / "tiny.yaml"
    path.write_text(SPEC)
    storage = open_storage(f"sqlite:///{tmp_path / 'study.db'}")
    spec = join_study(StudySpec.load(path), storage, "tiny", "cpu")
    study = load_study(storage, "tiny", make_sampler(spec))
    objective = Objective(spec, study)
    for _ in range(6):
        run_trial(study, objective)
    return spec, study


def test_best_and_baselines_keep_the_budget(searched: tuple[StudySpec, optuna.Study]) -> None:
    spec, study = searched
    best = study_best(study, spec, 3)
    assert [candidate.label for candidate in best] == ["zen-closed-form"] * 3
    scores = [candidate.facts["closed_form"] for candidate in best]
    assert scores == sorted(scores, reverse=True)
    others = baselines(spec, each=2, conv_caps=(6, 1), candidates=50)
    labels = [candidate.label for candidate in others]
    # Nothing has a single convolution, so that cap gives no network.
    assert {label: labels.count(label) for label in labels} == {
        "random": 2,
        "params-max": 2,
        "macs-max": 2,
        "zen, convs <= 6": 2,
    }
    assert len({candidate.structure for candidate in others}) == len(others)
    for candidate in others:
        assert candidate.facts["params"] <= 20_000 and candidate.facts["layers"] <= 8
        if candidate.label == "zen, convs <= 6":
            assert candidate.facts["convs"] <= 6
    by_label = {label: max(c.facts["params"] for c in others if c.label == label) for label in set(labels)}
    assert by_label["params-max"] >= by_label["random"]


def test_an_empty_study_has_nothing_to_verify(tmp_path: Path) -> None:
    path = tmp_path / "tiny.yaml"
    path.write_text(SPEC)
    storage = open_storage("memory:")
    spec = join_study(StudySpec.load(path), storage, "tiny", "cpu")
    with pytest.raises(StudyError, match="no feasible trial to verify"):
        study_best(load_study(storage, "tiny"), spec, 3)


def test_accuracies_are_stored_in_a_linked_study_and_not_trained_twice(
    searched: tuple[StudySpec, optuna.Study], tmp_path: Path
) -> None:
    spec, study = searched
    candidates = study_best(study, spec, 2) + baselines(spec, each=1, candidates=20)[:2]
    trained: list[Training] = []
    place = Place(study._storage, runs=tmp_path / "runs", on_result=trained.append)
    options = {"data": "synthetic:64", "epochs": 2, "overrides": ["batch_size=16"], "seeds": 2}
    first = compare("tiny", spec, candidates, place, **options)  # type: ignore[arg-type]
    assert len(trained) == 8 and all(len(item.top1) == 2 for item in first)
    linked = load_study(study._storage, "tiny-verify")
    trials = linked.get_trials()
    assert len(trials) == 8 and linked.user_attrs["zenopt:verifies"] == "tiny"
    assert all(set(trial.intermediate_values) == {1, 2} for trial in trials)
    assert all(trial.value == trial.intermediate_values[2] for trial in trials)
    assert first == compare("tiny", spec, candidates, place, **options)  # type: ignore[arg-type]
    assert len(load_study(study._storage, "tiny-verify").get_trials()) == 8

    ranks = agreement(first)
    assert "params" in {item.column for item in ranks}
    assert all(-1 <= item.spearman_interval[0] <= item.spearman_interval[1] <= 1 for item in ranks)

    folder = export_trained(
        spec, "tiny-verify", first, load_recipe("basic", epochs=2), "synthetic", tmp_path / "bundle"
    )
    bundle = read_bundle(folder)
    assert bundle.structure == first[0].candidate.structure
    assert bundle.scores is not None and bundle.scores["top1"] == first[0].mean == max(i.mean for i in first)
    assert len(bundle.candidates) == 4


def test_a_pruner_ends_bad_networks_early(searched: tuple[StudySpec, optuna.Study], tmp_path: Path) -> None:
    spec, study = searched
    structures = [candidate.structure for candidate in study_best(study, spec, 4)]
    labels = ("good", "good", "hopeless", "hopeless")
    candidates = [Candidate(label, text) for label, text in zip(labels, structures, strict=True)]

    def run() -> list[Training]:
        own = training_spec(
            spec, data="synthetic:128", epochs=6, overrides=["batch_size=16"], held_back=0.0,
            pruner={"name": "median"},
        )  # fmt: skip
        trainings = TrainingStudy(
            own, Place(study._storage, runs=tmp_path / "runs"), "tiny-verify", of="tiny"
        )
        return trainings.train(candidates, seeds=range(3), rates={"good": 0.2, "hopeless": 1e-9})

    found = run()
    trials = load_study(study._storage, "tiny-verify").get_trials()
    pruned = [trial for trial in trials if trial.state == optuna.trial.TrialState.PRUNED]
    ended = [trial.user_attrs["label"] for trial in pruned]
    # The median of the first five, all good, may end the sixth good one; the hopeless ones it ends more often.
    assert ended.count("hopeless") >= 3 > ended.count("good")
    assert all(len(trial.intermediate_values) < 6 for trial in pruned)
    assert sum(item.top1 is None for item in found) == len(pruned)
    # What was pruned stays so: nothing is trained again.
    assert run() == found
    assert len(load_study(study._storage, "tiny-verify").get_trials()) == len(trials)


def test_a_study_of_another_is_not_written_to(
    searched: tuple[StudySpec, optuna.Study], tmp_path: Path
) -> None:
    spec, study = searched
    own = training_spec(spec, data="synthetic:64", epochs=1)
    TrainingStudy(own, Place(study._storage), "tiny-verify", of="tiny")
    with pytest.raises(StudyError, match="holds trainings of another study"):
        TrainingStudy(own, Place(study._storage), "tiny-verify", of="other")


def test_a_network_that_lost_seeds_is_not_best_by_those_it_kept() -> None:
    def training(label: str, seed: int, top1: float | None) -> Training:
        state = TrialState.PRUNED if top1 is None else TrialState.COMPLETE
        return Training(Candidate(label, label), seed, 0.1, (top1 or 1.0,), 1.0, state)

    rows = [("whole", 50.0, 60.0), ("lucky", 90.0, None), ("lost", None, None), ("better", 60.0, 70.0)]
    found = verified([training(label, seed, top1) for label, *own in rows for seed, top1 in enumerate(own)])
    assert [item.candidate.label for item in found] == ["better", "whole", "lucky", "lost"]
