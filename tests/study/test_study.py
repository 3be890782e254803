"""Studies: created, joined, summarised; what is empty or infeasible."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from math import inf
from pathlib import Path
from typing import Any

import optuna
import pytest
from optuna.trial import TrialState

from zenopt.cli import main
from zenopt.core.errors import StorageError, StudyError
from zenopt.export.bundle import read_bundle, write_bundle
from zenopt.proxies import register_proxy
from zenopt.spaces.nasbench201.cell import OPERATIONS
from zenopt.storage import open_storage
from zenopt.study.best import make_bundle, rescore_top
from zenopt.study.objective import Objective, run_trial
from zenopt.study.sampling import make_sampler
from zenopt.study.search import run_search
from zenopt.study.spec import StudySpec
from zenopt.study.study import (
    SPEC_KEY,
    best_json,
    join_study,
    load_study,
    open_existing,
    read_spec,
    read_status,
)


@register_proxy("test-study-smallest", "minimize", kind="architecture")
def smallest(architecture: Any, settings: Any) -> float:
    """Prefer shallow networks."""
    return float(architecture.depth)


@pytest.fixture(params=["memory", "sqlite", "journal"])
def storage(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Any]:
    urls = {"sqlite": f"sqlite:///{tmp_path}/study.db", "journal": f"{tmp_path}/study.log"}
    yield open_storage(urls.get(request.param, "memory:"))


def run(spec: StudySpec, storage: Any, trials: int) -> optuna.Study:
    resolved = join_study(spec, storage, spec.name, "cpu")
    study = load_study(storage, spec.name, make_sampler(resolved))
    objective = Objective(resolved, study)
    for _ in range(trials):
        run_trial(study, objective)
    return study


# -- creating and joining ----------------------------------------------------------------------------------------------


def test_a_study_keeps_its_resolved_spec(storage: Any, tiny_spec: Callable[..., StudySpec]) -> None:
    spec = tiny_spec(proxy={"name": "zen", "batch_sizes": {"cpu": 3, "cuda": 7}})
    resolved = join_study(spec, storage, "one", "cpu")
    assert resolved.proxy.batch_size == 3
    study = load_study(storage, "one")
    assert read_spec(study) == resolved
    assert study.direction == optuna.study.StudyDirection.MAXIMIZE
    # A worker on another kind of device scores with the batch the study has, so that scores compare.
    assert join_study(spec, storage, "one", "cuda").proxy.batch_size == 3
    assert join_study(spec, storage, "two", "cuda").proxy.batch_size == 7


def test_a_later_run_may_have_another_sampler_seed_and_length(
    storage: Any, tiny_spec: Callable[..., StudySpec]
) -> None:
    first = join_study(tiny_spec(), storage, "one", "cpu")
    other = tiny_spec(
        sampler={"name": "random"}, seed=5, trials=None, timeout_s=2.0, description="more of it"
    )
    joined = join_study(other, storage, "one", "cpu")
    assert (joined.sampler.name, joined.seed, joined.timeout_s) == ("random", 5, 2.0)
    stored = read_spec(load_study(storage, "one"))
    assert stored == first


@pytest.mark.parametrize(
    ("sections", "message"),
    [
        ({"resolution": 16}, r"\(stored -> asked for\): resolution: 8 -> 16\. Choose another name"),
        ({"num_classes": 7, "use_se": True}, r"num_classes: 10 -> 7; use_se: false -> true\."),
        (
            {"budget": {"params": 50_000}},
            r"budget\.params: 40000\.0 -> 50000\.0; budget\.layers: 8\.0 -> null\.",
        ),
        (
            {"proxy": {"name": "naswot", "batch_size": 4}},
            r'proxy\.name: "zen" -> "naswot"; proxy\.batch_size: 2 -> 4',
        ),
        (
            {"proxy": {"name": "test-study-smallest", "batch_size": 2}},
            r'proxy\.name: "zen" -> "test-study-smallest"\.',
        ),
        (
            {"budget": {"latency_ms": 1.0}, "resolution": 128, "latency": {"device": "v100-fp16-b64"}},
            r'budget\.latency_ms: null -> 1\.0; latency: null -> \(not set\); latency\.device: \(not set\) -> "v100',
        ),
        (
            {"space": {"name": "superres"}},
            r"space\.initial: .* -> null; space\.options\.\w+: .* -> \(not set\)",
        ),
    ],
)
def test_joining_with_another_spec_lists_the_fields(
    storage: Any, tiny_spec: Callable[..., StudySpec], sections: dict[str, Any], message: str
) -> None:
    first = join_study(tiny_spec(), storage, "one", "cpu")
    with pytest.raises(StudyError, match=message) as caught:
        join_study(tiny_spec(**sections), storage, "one", "cpu")
    assert "\n" not in str(caught.value)
    assert str(caught.value).startswith("Study 'one' was made with another spec; these fields differ")
    assert read_spec(load_study(storage, "one")) == first


def test_a_study_of_somebody_else_is_left_alone(storage: Any, tiny_spec: Callable[..., StudySpec]) -> None:
    theirs = optuna.create_study(storage=storage, study_name="theirs", direction="maximize")
    theirs.optimize(lambda trial: trial.suggest_float("x", 0, 1), n_trials=1)
    with pytest.raises(StudyError, match=r"Study 'theirs' was not made by zenopt; choose another name"):
        join_study(tiny_spec(), storage, "theirs", "cpu")
    assert SPEC_KEY not in theirs.user_attrs
    with pytest.raises(StudyError, match=r"was not made by zenopt .*zenopt status and Optuna's own tools"):
        read_spec(theirs)
    assert read_spec(theirs, missing_ok=True) is None


@pytest.mark.parametrize("directions", [["minimize"], ["maximize", "minimize"]])
def test_an_empty_study_of_another_direction(
    storage: Any, tiny_spec: Callable[..., StudySpec], directions: list[str]
) -> None:
    optuna.create_study(storage=storage, study_name="theirs", directions=directions)
    with pytest.raises(StudyError, match=rf"Study 'theirs' is to {', '.join(directions)}, .* to maximize"):
        join_study(tiny_spec(), storage, "theirs", "cpu")


def test_an_unreadable_stored_spec(storage: Any, tiny_spec: Callable[..., StudySpec]) -> None:
    study = optuna.create_study(storage=storage, study_name="newer", direction="maximize")
    study.set_user_attr(SPEC_KEY, tiny_spec().model_dump_json().replace('"resolution"', '"side"'))
    with pytest.raises(StudyError, match=r"Study 'newer' stores a spec this version cannot read: "):
        join_study(tiny_spec(), storage, "newer", "cpu")


def test_loading_a_study_that_is_not_there(storage: Any, tiny_spec: Callable[..., StudySpec]) -> None:
    with pytest.raises(StudyError, match=r"No study 'one' in this storage; the storage holds no study yet\."):
        load_study(storage, "one")
    for name in ("b", "a"):
        join_study(tiny_spec(), storage, name, "cpu")
    with pytest.raises(StudyError, match=r"No study 'one' in this storage; stored studies: a, b\."):
        load_study(storage, "one")


@pytest.mark.parametrize("name", ["none.db", "none.log"])
def test_a_look_creates_no_file(tmp_path: Path, name: str) -> None:
    url = f"sqlite:///{tmp_path}/{name}" if name.endswith("db") else f"{tmp_path}/{name}"
    with pytest.raises(StorageError, match=r"the file does not exist; run zenopt optimize first"):
        open_existing(url)
    assert list(tmp_path.iterdir()) == []


# -- status ------------------------------------------------------------------------------------------------------------


def test_status_counts_every_state(storage: Any, tiny_spec: Callable[..., StudySpec]) -> None:
    spec = tiny_spec(sampler={"name": "random"})
    study = run(spec, storage, 12)
    study.ask()
    space = spec.build_space()
    study.enqueue_trial(space.encode(space.parse(space.initial)))
    failed = study.ask()
    study.tell(failed, state=TrialState.FAIL)
    study.enqueue_trial(space.encode(space.parse(space.initial)))
    status = read_status(study)
    states = [trial.state for trial in study.get_trials()]
    assert (status.complete, status.pruned) == (
        states.count(TrialState.COMPLETE),
        states.count(TrialState.PRUNED),
    )
    assert (status.trials, status.running, status.waiting, status.failed) == (15, 1, 1, 1)
    assert 0 < status.complete < 12
    assert status.spec == spec
    best = max(
        (trial for trial in study.get_trials() if trial.value is not None), key=lambda trial: trial.value
    )
    found = status.to_json()
    assert found["best"]["number"] == best.number
    assert found["best"]["value"] == best.value
    for key in ("structure", "params", "macs", "layers"):
        assert found["best"][key] == best.user_attrs[key]
    assert found["best"]["latency_ms"] is None
    counts = [found[key] for key in ("trials", "complete", "pruned", "running", "failed")]
    assert counts == [15, status.complete, status.pruned, 1, 1]


def test_the_best_is_feasible(storage: Any, tiny_spec: Callable[..., StudySpec]) -> None:
    # nsga2 wants over-budget trials to be COMPLETE; whoever reads values alone must not take one for the best.
    spec = tiny_spec(sampler={"name": "nsga2"}, budget={"params": 6_000})
    study = run(spec, storage, 8)
    status = read_status(study)
    over = [t for t in study.get_trials() if "score_mean" not in t.user_attrs]
    assert over and all(trial.value == -inf for trial in over)
    assert status.best is None or status.best.user_attrs["params"] <= 6_000


def test_minimised_studies(storage: Any, tiny_spec: Callable[..., StudySpec]) -> None:
    spec = tiny_spec(proxy={"name": "test-study-smallest", "batch_size": 2})
    study = run(spec, storage, 6)
    best = read_status(study).best
    assert best is not None
    assert best.value == min(trial.value for trial in study.get_trials())
    _, candidates = rescore_top(study, count=3, repeats=1)
    values = [item.score.mean for item in candidates]
    assert values == sorted(trial.value for trial in study.get_trials())[:3]


def test_status_of_an_empty_study(storage: Any, tiny_spec: Callable[..., StudySpec]) -> None:
    join_study(tiny_spec(), storage, "one", "cpu")
    status = read_status(load_study(storage, "one"))
    assert (status.trials, status.best) == (0, None)
    assert status.to_json()["best"] is best_json(None) is None


def test_status_of_a_foreign_multi_objective_study(storage: Any) -> None:
    study = optuna.create_study(storage=storage, directions=["maximize", "minimize"])
    study.optimize(lambda trial: (1.0, 2.0), n_trials=2)
    status = read_status(study)
    assert (status.complete, status.best, status.spec) == (2, None, None)


# -- the best of a study -----------------------------------------------------------------------------------------------


def test_the_best_fresh_mean_is_chosen(
    storage: Any, tiny_spec: Callable[..., StudySpec], tmp_path: Path
) -> None:
    spec = tiny_spec()
    study = run(spec, storage, 8)
    used, candidates = rescore_top(study, count=5, repeats=3)
    assert used == spec
    assert len({item.record.structure for item in candidates}) == 5
    means = [item.score.mean for item in candidates]
    assert means == sorted(means, reverse=True)
    for item in candidates:
        assert len(set(item.score.values)) == 3
        # Fresh draws: none of them is the one that put the candidate among the best.
        assert item.record.value not in item.score.values
    searched = sorted((trial.value for trial in study.get_trials()), reverse=True)[:5]
    assert sorted((item.record.value for item in candidates), reverse=True) == searched
    bundle = read_bundle(write_bundle(make_bundle(study, used, candidates), tmp_path / "bundle"))
    best = candidates[0]
    assert (bundle.structure, bundle.trial) == (best.record.structure, best.record.number)
    assert bundle.scores is not None
    assert bundle.costs is not None
    assert bundle.constraints is not None
    assert (bundle.scores["search"], bundle.scores["mean"]) == (best.record.value, best.score.mean)
    assert bundle.costs["params"] == best.record.user_attrs["params"]
    assert max(bundle.constraints.values()) <= 0
    assert StudySpec.model_validate(bundle.spec) == spec
    assert len(bundle.candidates) == 5


def test_a_lucky_draw_does_not_win(tiny_spec: Callable[..., StudySpec]) -> None:
    spec = tiny_spec()
    storage = open_storage("memory:")
    study = run(spec, storage, 6)
    worst = min(study.get_trials(), key=lambda trial: trial.value)
    lucky = study.ask()
    lucky.set_user_attr(
        "structure", worst.user_attrs["structure"].replace("K3K3(8,16,1,8,1)", "K3K3(8,16,1,8,1)")
    )
    study.tell(lucky, 1e6)
    _, candidates = rescore_top(study, count=4, repeats=2)
    assert lucky.number in [item.record.number for item in candidates]
    assert candidates[0].record.number != lucky.number


def test_an_empty_study_has_no_best(storage: Any, tiny_spec: Callable[..., StudySpec]) -> None:
    study = run(tiny_spec(), storage, 0)
    with pytest.raises(StudyError, match=r"Study 'tiny' has no trials yet; run zenopt optimize first\."):
        rescore_top(study)


@pytest.mark.parametrize("sampler", ["random", "nsga2"])
def test_an_infeasible_study_has_no_best(
    storage: Any, tiny_spec: Callable[..., StudySpec], sampler: str
) -> None:
    spec = tiny_spec(sampler={"name": sampler}, budget={"params": 100})
    study = run(spec, storage, 3)
    assert read_status(study).best is None
    with pytest.raises(
        StudyError, match=r"Study 'tiny' has no feasible trial among 3; raise the budget or run on\."
    ):
        rescore_top(study)


def test_what_a_table_says_is_not_drawn_again(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    cells = [
        f"|{a}~0|+|none~0|{b}~1|+|none~0|none~1|{c}~2|"
        for a in OPERATIONS
        for b in OPERATIONS
        for c in OPERATIONS
    ]
    table = tmp_path / "table.csv"
    table.write_text(
        "\n".join(["arch_str,acc", *(f"{cell},{50 + place / 10}" for place, cell in enumerate(cells))])
    )
    url = f"sqlite:///{tmp_path / 'study.db'}"
    spec = StudySpec.load("nasbench201-table", {"objective.table": str(table), "objective.column": "acc"})
    storage = run_search(spec, url, "tabled", trials=12, workers=1).storage
    _, candidates = rescore_top(load_study(storage, "tabled"), count=3)
    assert [item.score.values for item in candidates] == [(item.record.value,) for item in candidates]
    main(
        [
            "export-best",
            "--study",
            "tabled",
            "--storage",
            url,
            "--output",
            str(tmp_path / "bundle"),
            "--top",
            "2",
        ]
    )
    printed = capsys.readouterr()
    assert "draw" not in printed.err + printed.out
    assert printed.out.splitlines()[0] == "trial  search score"
    main(["status", "--study", "tabled", "--storage", url])
    assert f"best score among 2: {candidates[0].record.value:.3f}\n" in capsys.readouterr().out
