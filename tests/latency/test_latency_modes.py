"""Studies whose latency is guarded, or measured while the search runs."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path

import optuna
import pytest

from zenopt.core.errors import DeviceError, SpecError, StudyError
from zenopt.latency import load_profile
from zenopt.latency.limits import LARGEST_VIOLATION
from zenopt.latency.live import FinalistLatency, LiveLatency
from zenopt.spaces.chain.architecture import Architecture
from zenopt.storage import constraints_of, open_storage
from zenopt.study import objective as objective_module
from zenopt.study.best import make_bundle, rescore_top
from zenopt.study.finalists import why_not_measured
from zenopt.study.objective import Objective, run_trial
from zenopt.study.sampling import make_sampler
from zenopt.study.spec import StudySpec
from zenopt.study.study import join_study, load_study, read_status

SPEC = """\
name: timed
space:
  options: {stage_strides: [1, 2], stem_stride: 1, slots: 2}
  initial: "SuperConvK3BNRELU(3,8,1,1)SuperResK3K3(8,8,1,8,1)SuperResK3K3(8,16,2,8,1)SuperConvK1BNRELU(16,16,1,1)"
resolution: 16
num_classes: 10
budget: {latency_ms: 1.0, layers: 8}
latency: {device: PROFILE, margin: 1.0, mode: MODE}
proxy: {name: zen-closed-form}
sampler: {screening: off}
trials: 5
"""


@pytest.fixture
def profile(tmp_path: Path) -> Path:
    """A profile as calibration writes it: an additive model, and how networks were run."""
    content = load_profile("v100-fp16-b64").to_json()
    content.update(
        name="here",
        batch=2,
        dtype="fp32",
        resolutions=[8, 64],
        environment={
            "options": {"device": "cpu", "batch": 2, "resolution": 16, "threads": 1, "max_seconds": 0.2}
        },
    )
    path = tmp_path / "here.json"
    path.write_text(json.dumps(content))
    return path


@pytest.fixture
def spec_of(tmp_path: Path, profile: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., StudySpec]:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))

    def load(mode: str, *overrides: str) -> StudySpec:
        path = tmp_path / "timed.yaml"
        path.write_text(SPEC.replace("PROFILE", str(profile)).replace("MODE", mode))
        return StudySpec.load(path, overrides)

    return load


def run(spec: StudySpec, trials: int) -> optuna.Study:
    storage = open_storage("memory:")
    spec = join_study(spec, storage, "timed", "cpu")
    study = load_study(storage, "timed", make_sampler(spec))
    objective = Objective(spec, study)
    for _ in range(trials):
        run_trial(study, objective)
    return study


def test_measured_latencies_are_recorded_and_limit_the_search(spec_of: Callable[..., StudySpec]) -> None:
    study = run(spec_of("measured", "budget.latency_ms=1000"), 3)
    for trial in study.get_trials():
        assert trial.user_attrs["latency_mode"] == "measured"
        predicted = spec_of("measured").limits().latency_ms(Architecture.parse(trial.user_attrs["structure"]))
        # A CPU needs far longer than the V100 whose constants the profile has.
        assert predicted is not None and trial.user_attrs["latency_ms"] > 5 * predicted
    best = read_status(study).best
    assert best is not None and best.user_attrs["latency_ms"] > 0


def test_what_is_measured_too_slow_is_pruned_though_predicted_fast(spec_of: Callable[..., StudySpec]) -> None:
    spec = spec_of("measured", "budget.latency_ms=0.005")
    assert spec.limits().check(Architecture.parse(spec.build_space().initial)).is_feasible
    (trial,) = run(spec, 1).get_trials()
    assert trial.state == optuna.trial.TrialState.PRUNED
    assert constraints_of(trial.system_attrs)["latency_ms"] > 0


def test_finalists_are_measured_and_the_slow_ones_are_not_exported(
    spec_of: Callable[..., StudySpec], monkeypatch: pytest.MonkeyPatch
) -> None:
    study = run(spec_of("predicted", "budget.latency_ms=1000"), 5)
    _, plain = rescore_top(study, count=3, repeats=1)
    assert all(item.latency is not None and item.latency.latency_ms > 0 for item in plain)
    times = {item.record.number: 500.0 for item in plain}
    times[plain[0].record.number] = 1010.0
    order = [item.record.number for item in plain]
    monkeypatch.setattr(
        LiveLatency,
        "finalists",
        lambda self, architectures, progress: [FinalistLatency(times[number], 0.02, 9) for number in order],
    )
    spec, candidates = rescore_top(study, count=3, repeats=1)
    # The best score takes 1010 of 1000 ms: the next one is exported, and what was measured goes with it.
    assert [item.record.number for item in candidates] == [
        *(item.record.number for item in plain[1:]),
        plain[0].record.number,
    ]
    bundle = make_bundle(study, spec, candidates)
    assert bundle.costs is not None and bundle.constraints is not None
    assert (bundle.costs["latency_ms"], bundle.costs["latency_kind"]) == (500.0, "measured")
    assert bundle.constraints["latency_ms"] == -0.5
    times.update(dict.fromkeys(times, 1200.0))
    with pytest.raises(
        StudyError, match=r"None of the 3 best keeps budget.latency_ms = 1000 when measured.* 1200 ms"
    ):
        rescore_top(study, count=3, repeats=1)


def test_finalists_of_another_machine_are_not_measured_and_it_is_said_why(
    spec_of: Callable[..., StudySpec], profile: Path
) -> None:
    content = json.loads(profile.read_text())
    content["environment"]["device_name"] = "Abacus 3000"
    profile.write_text(json.dumps(content))
    spec = spec_of("predicted")
    study = run(spec, 2)
    _, candidates = rescore_top(study, count=1, repeats=1)
    assert candidates[0].latency is None
    assert "calibrated with device_name 'Abacus 3000'" in (why_not_measured(spec) or "")
    with pytest.raises(DeviceError, match="calibrate again"):
        run(spec_of("measured"), 1)


def test_a_network_that_does_not_fit_is_infeasible_and_the_search_goes_on(
    spec_of: Callable[..., StudySpec], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(objective_module, "live_latency", lambda spec, limits: lambda architecture: math.inf)
    study = run(spec_of("measured"), 2)
    for trial in study.get_trials():
        assert trial.state == optuna.trial.TrialState.PRUNED
        assert "latency_ms" not in trial.user_attrs
        assert constraints_of(trial.system_attrs)["latency_ms"] == LARGEST_VIOLATION


@pytest.mark.parametrize("mode", ["table", "measured"])
def test_measuring_needs_a_profile_of_this_device(spec_of: Callable[..., StudySpec], mode: str) -> None:
    with pytest.raises(SpecError, match="needs a profile calibrated on this device"):
        spec_of(mode, "latency.device=v100-fp16-b64", "resolution=224")


@pytest.mark.slow
def test_guards_are_constraints_of_every_trial() -> None:
    loose = StudySpec.load("latency01ms")
    guarded = StudySpec.load("latency01ms", ["latency.guards={min_bottleneck: 32, max_stem_width: 64}"])
    thin = Architecture.parse(
        "SuperConvK3BNRELU(3,8,2,1)SuperResK1K3K1(8,64,2,8,1)SuperResK1K3K1(64,64,2,16,1)"
        "SuperResK1K3K1(64,128,2,32,1)SuperResK1K3K1(128,128,2,32,1)SuperConvK1BNRELU(128,512,1,1)"
    )
    assert loose.limits().check(thin).is_feasible
    check = guarded.limits().check(thin)
    assert not check.is_feasible
    assert (
        max(check.violations, key=lambda name: check.violations[name]) not in loose.limits().budget.limits()
    )
    study = run(guarded, 4)
    for trial in study.get_trials():
        assert set(constraints_of(trial.system_attrs)) == set(check.violations)
        assert all(value <= 0 for value in constraints_of(trial.system_attrs).values())


def test_a_guard_that_is_off_asks_nothing() -> None:
    names = (
        "counterpart",
        "disagreement",
        "outside_share",
        "max_expansion",
        "min_bottleneck",
        "max_stem_width",
    )
    off = ", ".join(f"{name}: null" for name in names)
    spec = StudySpec.load("latency01ms", [f"latency.guards={{{off}, budget_under_both: false}}"])
    check = spec.limits().check(Architecture.parse(spec.build_space().initial))
    assert set(check.violations) == set(spec.limits().budget.limits())
