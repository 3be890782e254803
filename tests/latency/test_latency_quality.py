"""A calibration that predicts badly says so; one of no use is not written."""

from __future__ import annotations

import json
import math
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from zenopt.cli import main
from zenopt.latency import list_profiles, load_profile
from zenopt.latency.options import CLOCKS
from zenopt.latency.quality import judge


@pytest.mark.parametrize(
    ("error", "spearman", "is_usable", "has_warning"),
    [
        (0.05, 0.99, True, False),
        (0.15, 0.90, True, False),
        (0.16, 0.95, True, True),
        (0.05, 0.89, True, True),
        (0.31, 0.95, False, True),
        (0.05, 0.69, False, True),
        (0.69, 0.40, False, True),
        (0.05, None, False, True),
    ],
)
def test_thresholds(error: float, spearman: float | None, is_usable: bool, has_warning: bool) -> None:
    verdict = judge({"mape": error, "spearman": spearman})
    assert (verdict.is_usable, verdict.warning is not None) == (is_usable, has_warning)
    if has_warning:
        assert f"{error:.0%}" in str(verdict.warning) and "--seconds" in verdict.remedy


def test_a_profile_that_ranks_well_is_not_said_to_rank_badly() -> None:
    ranks, orderless = (judge({"mape": 0.41, "spearman": spearman}) for spearman in (1.0, 0.5))
    assert not ranks.is_usable and "not which keeps a limit in milliseconds" in str(ranks.warning)
    assert "hardly tell which of two networks is faster" in str(orderless.warning)


def test_noisy_reference_times_are_part_of_the_trouble() -> None:
    verdict = judge({"mape": 0.2, "spearman": 0.8, "noise_floor": {"standard_error": 0.062}})
    assert "known to 6% only" in verdict.remedy


def test_the_profiles_of_zenopt_need_no_warning() -> None:
    for name in list_profiles():
        assert judge(load_profile(name).errors).warning is None, name


class Dice:
    """A device whose times have nothing to do with the network, or as much as ``sense`` says."""

    def __init__(self, sense: float) -> None:
        self.sense = sense
        self.rng = random.Random(1)
        self.known: dict[Any, float] = {}
        self.passed_s = 0.0

    def visit(self, subject: Any) -> float:
        self.passed_s += 0.0005
        if subject not in self.known:
            self.known[subject] = math.exp(self.rng.gauss(0, 1 - self.sense))
        work = sum(operation.macs for operation in subject.operations()) ** self.sense
        return self.known[subject] * work / 1e3


@pytest.fixture
def calibrate(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., tuple[int, str, str]]:
    """Run the command on a pretended device."""

    def run(sense: float, *arguments: str) -> tuple[int, str, str]:
        monkeypatch.chdir(tmp_path)
        dice = Dice(sense)
        monkeypatch.setattr("zenopt.latency.calibrate.Bench", lambda *given: dice)
        # Time is that of its visits: how many there is time for is not up to the machine.
        monkeypatch.setitem(CLOCKS, "wall", lambda: dice.passed_s)
        code = 0
        try:
            command = "latency calibrate --study cifar-params1m --seconds 1 --output x.json"
            main([*command.split(), *arguments])
        except SystemExit as error:
            code = int(error.code or 0)
        out, err = capsys.readouterr()
        return code, out, err

    return run


def test_a_useless_profile_is_not_written_unless_forced(calibrate: Callable, tmp_path: Path) -> None:
    code, _, err = calibrate(0.0)
    assert code == 1 and not (tmp_path / "x.json").exists()
    assert "hardly tell which of two networks is faster" in err and "quiet machine" in err
    assert "Error: x.json was not written; --force writes it all the same." in err
    code, out, _ = calibrate(0.0, "--json")
    assert code == 1 and json.loads(out)["output"] is None and "hardly tell" in json.loads(out)["warning"]
    code, _, err = calibrate(0.0, "--force")
    assert code == 0 and (tmp_path / "x.json").exists() and "hardly tell" in err


def test_a_poor_profile_is_written_with_a_warning(
    calibrate: Callable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from zenopt.latency import calibrate as module

    found = module.held_out_errors

    def poor(*arguments: Any) -> tuple[dict[str, Any], Any]:
        errors, blocks = found(*arguments)
        return {**errors, "mape": 0.2, "spearman": 0.85}, blocks

    monkeypatch.setattr(module, "held_out_errors", poor)
    code, out, _ = calibrate(1.0, "--json")
    content = json.loads(out)
    assert code == 0 and (tmp_path / "x.json").exists() and content["output"] == "x.json"
    assert "often take the slower of two networks" in content["warning"]


def test_a_search_by_a_poor_profile_is_warned_of(
    calibrate: Callable, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    calibrate(0.0, "--force")
    arguments = "--set latency.device=x.json --set budget.latency_ms=1000 --trials 1 --workers 1"
    main(["optimize", "--study", "cifar-params1m", *arguments.split(), "--set", "proxy.name=zen-closed-form"])
    assert "Warning: latency.device x.json: On networks that were not fitted" in capsys.readouterr().err
