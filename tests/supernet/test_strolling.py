"""Bands of costs, and walks that cover them evenly."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from commands import refusal, run
from supernets import TINY_OPTIONS, Killer, space_of

from zenopt.cli.supernet.plan import SAMPLINGS as OFFERED
from zenopt.core.budget import Budget
from zenopt.core.errors import BudgetError, CheckpointError, SpecError
from zenopt.latency.limits import Limits
from zenopt.spaces.registry import get_space
from zenopt.supernet import strolling
from zenopt.supernet.band import BandLimits, read_band
from zenopt.supernet.coverage import Coverage, cover
from zenopt.supernet.files import read_supernet
from zenopt.supernet.sampling import SAMPLINGS, PathSampler
from zenopt.supernet.schedule import Schedule
from zenopt.supernet.strolling import Stroll
from zenopt.supernet.training import SupernetPlan, check_recipe, last_weights, split, train_supernet
from zenopt.train.data import DataSet
from zenopt.train.distributed import World
from zenopt.train.recipe import Recipe

MACRO = Limits(Budget(), 32, 10)
BAND = {"macs": (40e6, 100e6)}


@pytest.fixture
def short_rounds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(strolling, "PICKS", 4)
    monkeypatch.setattr(strolling, "ROUND", 2 * strolling.SLICES * 4)


def stroll(seed: int = 0) -> Stroll:
    return Stroll(space_of("nasbench-macro"), BandLimits(MACRO, BAND), seed)


def test_a_walk_is_a_function_of_seed_and_turn(short_rounds: None) -> None:
    whole = stroll()
    paths = [whole.path(turn) for turn in range(70)]
    for turn in (69, 57, 56, 20, 3):  # the second round begins at 56
        assert stroll().path(turn) == whole.path(turn) == paths[turn]
    assert [stroll(1).path(turn) for turn in (0, 20)] != [paths[turn] for turn in (0, 20)]
    assert len(set(paths)) > 30


def test_a_walk_covers_a_band_evenly_and_draws_do_not(short_rounds: None) -> None:
    limits = BandLimits(MACRO, BAND)
    space = space_of("nasbench-macro")
    shares = {}
    for name in ("uniform", "strolling"):
        sampler = PathSampler(space, name, limits=limits)  # type: ignore[arg-type]
        macs = [MACRO.count(sampler.paths(turn)[0]).macs for turn in range(224)]
        assert min(macs) >= 40e6 and max(macs) <= 100e6
        counts, _ = np.histogram(macs, bins=7, range=(40e6, 100e6))
        shares[name] = counts / len(macs)
    # Of seven slices each has a seventh; drawn ones gather around the mean.
    assert shares["uniform"].max() > 0.25 and shares["uniform"].min() < 0.04
    assert shares["strolling"].max() < 0.22 and shares["strolling"].min() > 0.08


def test_a_walk_finds_a_band_that_draws_do_not() -> None:
    space = space_of("shuffle")
    limits = BandLimits(Limits(Budget(params=2.0e6), 32, 10), {"macs": (3.0e6, 3.2e6)})
    with pytest.raises(SpecError, match=r"keeps the budget and the band; .* or use --sampling strolling"):
        PathSampler(space, "uniform", limits=limits).paths(0)
    found = PathSampler(space, "strolling", limits=limits).paths(0)[0]
    assert limits.check(found).is_feasible


def test_walks_keep_to_phases_and_purposes(short_rounds: None) -> None:
    space = get_space("ofa-mobilenetv3")(width=0.25)
    limits = BandLimits(Limits(Budget(), 32, 10), {"params": (0.3e6, 0.6e6), "macs": (0.7e6, 2.4e6)})
    schedule = Schedule.model_validate(
        {"phases": [{"name": "deep", "epochs": 1, "largest": {"*.depth": 1}}, {"name": "all", "epochs": 1}]}
    )
    timetable = schedule.timetable(PathSampler(space, "strolling", limits=limits), 20)
    deep = [space.encode(timetable.at(0).paths(step)[0]) for step in range(5)]
    assert {value for own in deep for name, value in own.items() if name.endswith(".depth")} == {4}
    sampler = timetable.at(10)
    path = sampler.paths(10)[0]
    assert [sampler.draw(turn, "judged") for turn in (0, 1)] and sampler.paths(10)[0] == path


def test_a_band_that_nothing_is_in_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(strolling, "APPROACH", 3)
    own = Stroll(space_of("nasbench-macro"), BandLimits(MACRO, {"macs": (1.0, 2.0)}), 0)
    with pytest.raises(
        SpecError, match=r"No network within the band is found; the nearest misses it by [\d,.]+%"
    ):
        own.path(0)


@pytest.mark.parametrize(
    ("texts", "complaint"),
    [
        (["macs"], "band 'macs' is no COST=LOW:HIGH"),
        (["macs=1"], "is no COST=LOW:HIGH"),
        (["macs=1:x"], "is no COST=LOW:HIGH"),
        (["macs=1:2", "macs=1:3"], "band macs is given twice"),
        (["mac=1:2"], "band 'mac' is no cost; allowed: params, macs"),
        (["macs=2:1"], r"band macs=2:1 must be two numbers, 0 <= LOW < HIGH"),
        (["macs=1:inf"], "must be two numbers"),
        (["macs=nan:2"], "must be two numbers"),
        (["latency_ms=1:2"], "band latency_ms needs a device"),
    ],
)
def test_bad_bands_are_one_line(texts: list[str], complaint: str) -> None:
    with pytest.raises(BudgetError, match=complaint):
        BandLimits(MACRO, read_band(texts))


def test_a_band_holds_the_budget_too_and_counts_as_it_does() -> None:
    space = space_of("superres")
    own = BandLimits(Limits(Budget(params=1e9, counting="zennas"), 8, 10), {"macs": (1.0, 2.0)})
    found = PathSampler(space).paths(0)[0]
    check = own.check(found)
    assert set(check.violations) == {"params", "macs at least", "macs at most"}
    assert own.costs(check) == {"macs": check.costs.zennas_flops} and not check.is_feasible


def test_strolling_needs_a_band() -> None:
    assert OFFERED == SAMPLINGS
    with pytest.raises(SpecError, match="'strolling' needs a band of costs: --band"):
        PathSampler(space_of("nasbench-macro"), "strolling")


def test_the_rarest_tenth() -> None:
    own = Coverage("uniform", {"macs": [0.5, 1.5, 2.5, 3.5, 4.5, 5.5, 6.5, 7.5, 8.5, 9.5, 9.6]}, 0.0)
    assert own.rarest({"macs": (0, 10)}) == {"macs": pytest.approx(1 / 11)}
    assert own.rarest({"macs": (0, 20)}) == {"macs": 0.0}


def test_paths_on_the_command_line(tmp_path: Path) -> None:
    page = tmp_path / "paths.html"
    words = ("supernet", "paths", "--study", "nasbench-macro-table", "--whole-space", "--steps", 20)
    done = run(
        *words,
        "--band",
        "macs=40e6:100e6",
        "--sampling",
        "uniform",
        "--sampling",
        "strolling",
        "--output",
        page,
    )
    assert done.exit_code == 0, done.output
    assert "rarest tenth" in done.output and "strolling: 20 paths" in done.output
    assert "Plotly.newPlot" in page.read_text() and "ends of the band" in page.read_text()
    plain = json.loads(run(*words, "--json").output)
    assert plain["fair"]["paths"] == 20 and "rarest_tenth" not in plain["fair"]["macs"]
    assert plain["fair"]["macs"]["least"] < plain["fair"]["macs"]["largest"]
    assert "must end in .html or .json" in refusal(*words, "--output", tmp_path / "paths.png")
    assert "needs a band" in refusal(*words, "--sampling", "strolling")


def test_a_schedule_shares_the_steps() -> None:
    schedule = Schedule.model_validate(
        {"phases": [{"name": "deep", "epochs": 1, "largest": {"*": 1}}, {"name": "all", "epochs": 1}]}
    )
    space = get_space("ofa-mobilenetv3")(width=0.25)
    plan = SupernetPlan(space, "ofa-mobilenetv3", {}, Limits(Budget(), 32, 10), schedule=schedule)
    macs = cover(plan, 10).costs["macs"]
    assert len(set(macs[:5])) == 1 and macs[0] == max(macs) and len(set(macs[5:])) > 2


@pytest.mark.slow
def test_a_stopped_stroll_resumes_on_its_way(
    patches: DataSet, short: Recipe, tmp_path: Path, alone: World
) -> None:
    def plan(high: float = 5e6) -> SupernetPlan:
        limits = Limits(Budget(), resolution=16, num_classes=4)
        band = {"macs": (1e4, high)}
        return SupernetPlan(
            get_space("superres")(**TINY_OPTIONS), "superres", TINY_OPTIONS, limits, "strolling", band=band
        )

    data, recipe = split(patches, 0.2, plan()), check_recipe(short)
    train_supernet(plan(), data, recipe, output=tmp_path / "whole", world=alone, workers=0)
    options = {"output": tmp_path / "stopped", "world": alone, "checkpoint_steps": 1, "workers": 0}
    with pytest.raises(KeyboardInterrupt):
        train_supernet(plan(), data, recipe, **options, observer=Killer(7))  # type: ignore[arg-type]
    with pytest.raises(CheckpointError, match="of another run"):
        train_supernet(plan(6e6), data, recipe, **options, resume="must")  # type: ignore[arg-type]
    train_supernet(plan(), data, recipe, **options, resume="must")  # type: ignore[arg-type]
    whole, stopped = (last_weights(tmp_path / folder) for folder in ("whole", "stopped"))
    assert all(torch.equal(whole[name], stopped[name]) for name in whole)
    assert read_supernet(tmp_path / "whole").facts.band == {"macs": (1e4, 5e6)}
