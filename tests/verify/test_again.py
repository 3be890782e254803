"""What is trained again where the gain decides: possible winners, as often as was asked for, once."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import optuna
import pytest
from optuna.trial import TrialState

from zenopt.cli.second_stage import winner_table
from zenopt.storage import open_storage
from zenopt.study.evaluators.train import LABEL_KEY, LEARNING_RATE_KEY, RUN_KEY, SEED_KEY
from zenopt.study.spec import StudySpec
from zenopt.study.study import join_study, load_study
from zenopt.verify.again import train_again
from zenopt.verify.final import finish
from zenopt.verify.linked import Candidate, Place, TrainingStudy, Verified

SPEC = """\
name: again
space:
  options: {stage_strides: [1, 2], stem_stride: 1}
  initial: "SuperConvK3BNRELU(3,8,1,1)SuperResK3K3(8,8,1,8,1)SuperResK3K3(8,16,2,8,1)SuperConvK1BNRELU(16,16,1,1)"
resolution: 16
num_classes: 10
budget: {params: 2.0e+4, layers: 8}
objective: {kind: train}
sampler: {name: surrogate, surrogate: {candidates: 200}}
training: {data: "synthetic:64", epochs: 1, finalists: 3, seeds: 3, again: gain, held_back: 0.25}
trials: 5
"""
LUCKY = 8


def spec_in(folder: Path) -> StudySpec:
    (folder / "again.yaml").write_text(SPEC)
    return StudySpec.load(folder / "again.yaml")


class Trained:
    """A study of 24 networks, better the larger they are, of which a small one had luck; further trainings are told."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch, workers: int = 1) -> None:
        self.storage = open_storage("memory:")
        self.spec = join_study(spec_in(folder), self.storage, "trained", "cpu")
        space, rng = self.spec.build_space(), random.Random(0)
        drawn = {str(own): own for own in (space.draw(rng) for _ in range(200)) if own is not None}
        sizes = {text: self.spec.limits().count(own).params for text, own in drawn.items()}
        self.texts = sorted(drawn, key=sizes.__getitem__)[::3][:24]
        self.trainings = TrainingStudy(
            self.spec, Place(self.storage, runs=folder, workers=workers), "trained"
        )
        self.asked: list[list[tuple[str, int]]] = []
        self.fails: set[int] = set()
        for place, text in enumerate(self.texts):
            self.tell(text, 0, 66.0 if place == LUCKY else self.truth(text) + rng.uniform(-0.5, 0.5))
        monkeypatch.setattr(TrainingStudy, "train", self.train)

    def truth(self, text: str) -> float:
        return 40.0 + self.texts.index(text)

    def tell(self, text: str, seed: int, value: float | None) -> None:
        own = {
            "structure": text,
            SEED_KEY: seed,
            RUN_KEY: f"{text}-{seed}",
            LEARNING_RATE_KEY: 0.2,
            LABEL_KEY: "all",
        }
        state = TrialState.FAIL if value is None else TrialState.COMPLETE
        load_study(self.storage, "trained").add_trial(
            optuna.trial.create_trial(state=state, value=value, user_attrs=own)
        )

    def train(self, chosen: list[Candidate], seeds: dict[str, list[int]], rates: dict[str, float]) -> None:
        assert rates == {own.structure: 0.2 for own in chosen}
        self.asked.append([(own.structure, seed) for own in chosen for seed in seeds[own.structure]])
        for text, seed in self.asked[-1]:
            failed = sum(map(len, self.asked)) in self.fails
            self.tell(text, seed, None if failed else self.truth(text))

    @property
    def ranked(self) -> list[Verified]:
        trials = load_study(self.storage, "trained").trials
        return [
            Verified(Candidate("all", text, {}, place), (trials[place].value or 0.0,), 0, 0.2)
            for place, text in enumerate(self.texts)
        ]

    def again(self, count: int) -> list[Verified]:
        return train_again(self.trainings, self.ranked, count, lambda line: None)


def test_possible_winners_are_trained_again_and_luck_does_not_win(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trained = Trained(tmp_path, monkeypatch)
    found = trained.again(4)
    # One at a time, each with a seed that the network was not trained with.
    assert [len(asked) for asked in trained.asked] == [1] * 4
    asked = [one for several in trained.asked for one in several]
    assert len(set(asked)) == 4 and all(seed > 0 for _, seed in asked)
    good = {*trained.texts[-8:], trained.texts[LUCKY]}
    assert {text for text, _ in asked} <= good
    assert found[0].candidate.structure in trained.texts[-3:]
    assert [item.expected for item in found] == sorted((item.expected for item in found), reverse=True)
    assert sorted(item.candidate.structure for item in found) == sorted(trained.texts)
    for item in found:
        assert len(item.top1) == 1 + sum(text == item.candidate.structure for text, _ in asked)
    # What was done is not done again; more is.
    assert trained.again(4)[0] == found[0] and len(trained.asked) == 4
    trained.again(5)
    assert len(trained.asked) == 5


@pytest.mark.slow
def test_an_interrupted_choice_goes_on_as_if_it_had_not_been(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, parts = Trained(tmp_path, monkeypatch), Trained(tmp_path, monkeypatch)
    monkeypatch.setattr(TrainingStudy, "train", lambda self, *a, **k: of[self.place.storage].train(*a, **k))
    of: dict[Any, Trained] = {whole.storage: whole, parts.storage: parts}
    expected = whole.again(4)
    for count in (1, 2, 4):
        found = parts.again(count)
    assert parts.asked == whole.asked
    assert [item.top1 for item in found] == [item.top1 for item in expected]


def test_as_many_at_a_time_as_there_are_workers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    trained = Trained(tmp_path, monkeypatch, workers=3)
    trained.again(4)
    assert [len(asked) for asked in trained.asked] == [3, 1]
    asked = [one for several in trained.asked for one in several]
    assert len(set(asked)) == 4


def test_a_training_that_fails_counts_and_is_not_asked_for_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trained = Trained(tmp_path, monkeypatch)
    trained.fails = {1}
    trained.again(2)
    asked = [one for several in trained.asked for one in several]
    assert len(asked) == len(set(asked)) == 2


def test_only_networks_that_are_compared_are_trained_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trained = Trained(tmp_path, monkeypatch)
    some = trained.ranked[:12]
    found = train_again(trained.trainings, some, 2, lambda line: None)
    asked = {text for several in trained.asked for text, _ in several}
    assert asked <= set(trained.texts[:12])
    assert len(found) == 12


@pytest.mark.slow
def test_a_search_ends_with_what_tells_most(tmp_path: Path) -> None:
    from zenopt.study.search import run_search

    url = f"sqlite:///{tmp_path / 'zenopt.db'}"
    storage = open_storage(url)
    spec = spec_in(tmp_path)
    join_study(spec, storage, "own", "cpu")
    run_search(spec, url, "own", trials=5, workers=1, storage=storage, runs=tmp_path / "runs")
    place = Place(storage, url, tmp_path / "runs")
    said: list[str] = []
    winner = finish("own", spec, place, said.append)
    trials = load_study(storage, "own").trials
    assert len(trials) == 11 and sum(trial.user_attrs[SEED_KEY] > 0 for trial in trials) == 6
    assert said[0] == "Training 6 times again, always what tells most about which network is best."
    assert sum(len(item.top1) for item in winner.verified) == 11
    assert winner.verified[0].expected == max(item.expected or 0.0 for item in winner.verified)
    assert winner.weights.is_file()
    assert winner_table(winner).splitlines()[0].split()[:2] == ["network", "expected"]
    finish("own", spec, place, said.append)
    assert len(load_study(storage, "own").trials) == 11 and len(said) == 3
