"""Sampler settings that change over a study."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from zenopt.core.changing import Changing
from zenopt.core.errors import SpecError
from zenopt.samplers.aging import AgingSampler
from zenopt.samplers.annealing import AnnealingSampler
from zenopt.samplers.ppo import PPOSampler
from zenopt.samplers.reinforce import ReinforceSampler
from zenopt.samplers.zen import ZenSampler
from zenopt.study.sampling import make_sampler
from zenopt.study.spec import StudySpec

Make = Callable[..., StudySpec]


def test_samplers_get_what_the_spec_says(tiny_spec: Make) -> None:
    fading: dict[str, Any] = {"start": 0.3, "every": 50, "mul": 0.5}
    own = Changing(**fading)
    controller = {"entropy": fading, "learning_rate": fading, "clip": fading, "hidden": 8}
    ppo = make_sampler(
        tiny_spec(sampler={"name": "ppo", "controller": {**controller, "clip": {**fading, "min": 0.1}}})
    )
    assert isinstance(ppo, PPOSampler)
    assert (ppo._entropy, ppo._rate) == (own, own) and ppo._clip.at(1000) == 0.1
    reinforce = make_sampler(
        tiny_spec(
            sampler={"name": "reinforce", "controller": {"entropy": {"start": 0.3, "add": 0.1, "max": 1}}}
        )
    )
    assert isinstance(reinforce, ReinforceSampler)
    assert [reinforce._entropy.at(n) for n in (0, 2, 100)] == pytest.approx([0.3, 0.5, 1])
    assert reinforce._rate.at(500) == 0.01
    growing = {"start": 2, "every": 10, "add": 1, "max": 6}
    aging = make_sampler(tiny_spec(sampler={"name": "aging", "population": 8, "tournament": growing}))
    assert isinstance(aging, AgingSampler)
    assert [aging._tournament.at(n) for n in (0, 10, 99)] == [2, 3, 6]
    zen = make_sampler(tiny_spec(sampler={"name": "zen", "screening": "on", "explore": fading}))
    assert isinstance(zen, ZenSampler) and zen._explore == own


def test_a_plain_number_may_be_larger_than_one_that_changes(tiny_spec: Make) -> None:
    annealing = make_sampler(tiny_spec(sampler={"name": "annealing", "annealing": {"temperature": 1e301}}))
    assert isinstance(annealing, AnnealingSampler) and annealing._temperature.at(7) == 1e301


def test_a_stored_spec_keeps_them_and_says_them(tiny_spec: Make) -> None:
    spec = tiny_spec(
        sampler={"name": "annealing", "annealing": {"temperature": {"start": 1, "add": -0.1, "min": 0}}}
    )
    assert spec.sampler.label == "annealing (annealing.temperature from 1, plus -0.1 every trial, at least 0)"
    assert StudySpec.validated_data(spec.model_dump(mode="json")) == spec
    assert spec.overridden(["sampler.annealing.temperature=0.5"]).sampler.label == "annealing"
    assert spec.identity() == tiny_spec(sampler={"name": "annealing"}).identity()


@pytest.mark.parametrize(
    ("sampler", "parts"),
    [
        (
            {"controller": {"learning_rate": {"start": 0.1, "add": -0.01}}},
            ["sampler: controller.learning_rate would be", "after 10 trials", "give it a min"],
        ),
        ({"controller": {"clip": {"start": 0.1, "add": 0.1}}}, ["clip would be 1 after 9 trials", "give it a max"]),
        ({"explore": {"start": 0.1, "add": 0.1, "mul": 2}}, ["sampler.explore", "either the key add or the key mul"]),
        ({"annealing": {"cooling": {"start": 0.5, "add": 0.1}}}, ["sampler.annealing.cooling", "cannot change"]),
        ({"population": {"start": 8, "add": 1}}, ["sampler.population", "cannot change over a run"]),
    ],
)  # fmt: skip
def test_mistakes_are_said_in_one_line(tiny_spec: Make, sampler: dict[str, Any], parts: list[str]) -> None:
    with pytest.raises(SpecError) as caught:
        tiny_spec(sampler=sampler)
    assert all(part in str(caught.value) for part in parts), caught.value
    assert "\n" not in str(caught.value)


def test_a_tournament_that_outgrows_the_population_is_refused(tiny_spec: Make) -> None:
    spec = tiny_spec(sampler={"name": "aging", "population": 8, "tournament": {"start": 2, "add": 1}})
    with pytest.raises(
        SpecError, match=r"tournament must be from 1 to .*population \(8\).*with time; give it a max"
    ):
        make_sampler(spec)
