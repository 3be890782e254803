"""Aging evolution, warm-up and move proposal."""

from __future__ import annotations

import pickle
import random
import statistics
from collections.abc import Callable
from pathlib import Path
from typing import Any

import optuna
import pytest

from zenopt.core.budget import Budget
from zenopt.core.costs import count
from zenopt.core.errors import BudgetError, SpecError
from zenopt.latency.limits import Limits
from zenopt.samplers import AgingSampler, Guide, GuidedSampler
from zenopt.samplers.aging import RecentPopulation
from zenopt.samplers.guided import draw_candidates
from zenopt.spaces.chain.superres import SuperResSpace
from zenopt.spaces.nasbench201.architecture import CellArchitecture
from zenopt.spaces.nasbench201.space import NasBench201Space
from zenopt.study.cheap_scores import ProxyScore, TableScore
from zenopt.study.sampling import make_sampler
from zenopt.study.search import run_search
from zenopt.study.spec import StudySpec

SPACE = NasBench201Space()
LIMITS = Limits(Budget(), resolution=32, num_classes=10)


def convolutions(cell: CellArchitecture) -> float:
    """A cheap score that agrees with the truth below, but not in everything."""
    return float(sum(name.startswith("nor_conv") for name in cell.operations))


def truth(cell: CellArchitecture) -> float:
    weights = {
        "nor_conv_3x3": 3.0,
        "nor_conv_1x1": 2.0,
        "skip_connect": 1.5,
        "avg_pool_3x3": 0.5,
        "none": 0.0,
    }
    return sum(weights[name] * (edge + 1) for edge, name in enumerate(cell.operations))


def search(sampler: optuna.samplers.BaseSampler, trials: int) -> list[CellArchitecture]:
    study = optuna.create_study(direction="maximize", sampler=sampler)
    found: list[CellArchitecture] = []

    def objective(trial: optuna.Trial) -> float:
        cell = SPACE.suggest(trial)
        trial.set_user_attr("structure", str(cell))
        found.append(cell)
        return truth(cell)

    study.optimize(objective, n_trials=trials)
    assert len(set(found)) == trials
    return found


def aging(**options: Any) -> AgingSampler:
    return AgingSampler(SPACE, LIMITS, **{"population_size": 12, "tournament": 4, **options})


def test_aging_begins_at_random_and_then_changes_one_edge_of_a_recent_one() -> None:
    found = search(aging(seed=1), 60)
    for index in range(12, 60):
        recent = found[index - 12 : index]
        distances = [
            sum(a != b for a, b in zip(cell.operations, found[index].operations, strict=True))
            for cell in recent
        ]
        assert min(distances) == 1
    spread = statistics.fmean(
        sum(a != b for a, b in zip(found[0].operations, cell.operations, strict=True)) for cell in found[1:12]
    )
    assert spread > 3


def test_the_oldest_dies_however_good_it_is() -> None:
    study = optuna.create_study(direction="maximize")
    for number, value in enumerate([9.0, 1.0, 2.0, 3.0]):
        cell = CellArchitecture(("none",) * number + ("skip_connect",) * (6 - number))
        trial = study.ask(SPACE.distributions)
        trial.set_user_attr("structure", str(cell))
        study.tell(trial, value)
    population = RecentPopulation(study, SPACE, 3)
    population.sync()
    import random

    assert len(population) == 3
    assert len(population.known) == 4
    assert population.best_of(3, random.Random(0)).operations.count("none") == 3


@pytest.mark.parametrize("kind", [aging, lambda **options: GuidedSampler(SPACE, LIMITS, **options)])
def test_a_sampler_repeats_itself_and_seeds_differ(kind: Callable[..., Any]) -> None:
    guide = {"warm_up": 40, "first": 8, "moves": 5}
    runs = [search(kind(seed=seed, guide=Guide(convolutions, **guide)), 25) for seed in (3, 3, 4)]
    assert runs[0] == runs[1]
    assert runs[0] != runs[2]


def test_the_warm_up_evaluates_the_best_of_the_ranked() -> None:
    ranked: list[CellArchitecture] = []

    def value(cell: CellArchitecture) -> float | None:
        ranked.append(cell)
        return None if cell.operations[0] == "none" else convolutions(cell)

    found = search(aging(guide=Guide(value, warm_up=200, first=10)), 10)
    assert len(ranked) == len(set(ranked)) == 200
    best = sorted(
        (-1.0 if value(cell) is None else convolutions(cell) for cell in ranked[:200]), reverse=True
    )
    assert [convolutions(cell) for cell in found[:10]] == best[:10]
    assert all(cell.operations[0] != "none" for cell in found[:10])


def test_the_move_proposal_takes_the_best_neighbour() -> None:
    found = search(GuidedSampler(SPACE, LIMITS, guide=Guide(truth, moves=24)), 3)
    start = SPACE.parse(SPACE.initial)
    assert found[0] == start
    best = max(truth(cell) for cell in SPACE.neighbours(start))
    assert truth(found[1]) == best


def test_warm_up_and_moves_save_evaluations() -> None:
    """With a cheap score that knows something, a good architecture is found several times sooner."""

    def needed(**options: Any) -> float:
        wanted = 58.0
        numbers = []
        for seed in range(5):
            found = search(aging(seed=seed, **options), 150)
            numbers.append(next((i for i, cell in enumerate(found, 1) if truth(cell) >= wanted), 151))
        return statistics.median(numbers)

    plain = needed()
    assert needed(guide=Guide(convolutions, warm_up=1000, first=12)) < plain / 2
    assert needed(guide=Guide(convolutions, moves=24)) < plain


def test_a_guide_works_on_chains_too() -> None:
    space = SuperResSpace()
    limits = Limits(Budget(params=2e5), resolution=16, num_classes=10)

    def macs(chain: Any) -> float:
        return float(count(chain, 16, 10).macs)

    for sampler in (
        GuidedSampler(space, limits, guide=Guide(macs, warm_up=20, first=4, moves=4)),
        AgingSampler(space, limits, population_size=5, tournament=2, guide=Guide(macs, moves=4)),
    ):
        study = optuna.create_study(direction="maximize", sampler=sampler)
        study.optimize(lambda trial: macs(space.suggest(trial)), n_trials=15)
        chains = [space.decode(trial.params) for trial in study.trials]
        assert len(set(chains)) == 15
        assert all(limits.check(chain).is_feasible for chain in chains)


def test_draws_of_a_small_space_end_when_nothing_new_is_seen() -> None:
    class Counting(NasBench201Space):
        drawn = 0

        def draw(self, rng: random.Random) -> CellArchitecture:
            Counting.drawn += 1
            return super().draw(rng)

    space = Counting(operations=("none", "skip_connect"))
    found = draw_candidates(space, LIMITS, 10_000, random.Random(0))
    # All 64, and not 20 draws for each of the 10,000.
    assert len(found) == len({str(own) for own in found}) == 64
    assert Counting.drawn < 3000


def test_an_exhausted_space_is_an_error() -> None:
    space = NasBench201Space(operations=("none", "skip_connect"))
    sampler = AgingSampler(space, LIMITS, population_size=4, tournament=2, guide=Guide(convolutions, moves=3))
    study = optuna.create_study(sampler=sampler)
    with pytest.raises(BudgetError, match="may be exhausted"):
        study.optimize(lambda trial: truth(space.suggest(trial)), n_trials=100)
    assert len(study.trials) >= 64


def test_move_proposal_begins_early(tiny_spec: Callable[..., StudySpec]) -> None:
    """A few random ones, then neighbours of what is known; without a guide, a full population first."""

    def nearest(found: list[CellArchitecture], index: int) -> int:
        return min(
            sum(a != b for a, b in zip(cell.operations, found[index].operations, strict=True))
            for cell in found[:index]
        )

    guide = Guide(convolutions, moves=24)
    found = search(aging(seed=2, guide=guide), 12)
    assert [nearest(found, index) for index in range(8, 12)] == [1] * 4
    found = search(aging(seed=2, guide=guide, random_initial=3), 6)
    assert [nearest(found, index) for index in range(3, 6)] == [1] * 3
    found = search(aging(seed=2, guide=Guide(convolutions, warm_up=50, first=5, moves=24)), 8)
    assert [nearest(found, index) for index in range(5, 8)] == [1] * 3
    found = search(aging(seed=2), 12)
    assert statistics.fmean(nearest(found, index) for index in range(1, 12)) > 2


def test_populations_have_defaults_of_their_own(tiny_spec: Callable[..., StudySpec]) -> None:
    assert tiny_spec(sampler={"name": "aging"}).sampler.population == 64
    assert tiny_spec(sampler={"name": "zen"}).sampler.population == 512
    assert tiny_spec(sampler={"name": "aging", "population": 512}).sampler.population == 512
    assert make_sampler(tiny_spec(sampler={"name": "aging"}))._population_size == 64  # type: ignore[attr-defined]
    with pytest.raises(SpecError, match=r"sampler\.population"):
        tiny_spec(sampler={"population": 1})


def test_a_tournament_larger_than_the_population_is_an_error() -> None:
    with pytest.raises(SpecError, match=r"tournament must be from 1 to sampler\.population \(12\), got 13"):
        aging(tournament=13)


def test_specs_make_guides(tiny_spec: Callable[..., StudySpec], tmp_path: Path) -> None:
    guide = {"proxy": "params", "warm_up": 30, "first": 3, "moves": 2}
    spec = tiny_spec(sampler={"name": "aging", "population": 8, "tournament": 3, "guide": guide})
    sampler = make_sampler(spec)
    assert isinstance(sampler, AgingSampler)
    study = optuna.create_study(direction="maximize", sampler=pickle.loads(pickle.dumps(sampler)))
    space = spec.build_space()
    study.optimize(lambda trial: float(str(space.suggest(trial)).count("(")), n_trials=6)
    score = ProxyScore("params", 8, 10, 2, 0)
    values = [score(space.decode(trial.params)) for trial in study.trials]
    assert values[:3] == sorted(values[:3], key=lambda value: -(value or 0))

    path = tmp_path / "scores.csv"
    known, unknown = (CellArchitecture((name,) * 6) for name in ("nor_conv_3x3", "none"))
    path.write_text(f"structure,synflow\n{known},2\n{unknown},\n")
    assert TableScore(SPACE, str(path), "synflow", is_reversed=True)(known) == -2
    assert TableScore(SPACE, str(path), "synflow")(unknown) is None


def test_a_cheap_proxy_that_fails_is_the_worst_not_the_end() -> None:
    score = ProxyScore("synflow-log", 8, 10, 2, 0)
    assert score(CellArchitecture(("nor_conv_3x3",) * 6)) is not None
    # No flow passes a cell without operations; the classifier's bias alone has none.
    assert score(CellArchitecture(("none",) * 6)) is None


@pytest.mark.parametrize(
    ("sampler", "complaint"),
    [
        (
            {"name": "tpe", "guide": {"proxy": "params", "moves": 2}},
            "guide is for the samplers aging, zen, not tpe",
        ),
        (
            {"name": "zen", "screening": "on", "guide": {"proxy": "params", "moves": 2}},
            "screening and sampler.guide exclude each other",
        ),
        ({"name": "aging", "tournament": 600}, "tournament must be from 1 to"),
    ],
)
def test_samplers_that_cannot_be_made(
    tiny_spec: Callable[..., StudySpec], sampler: dict[str, Any], complaint: str
) -> None:
    with pytest.raises(SpecError, match=complaint):
        make_sampler(tiny_spec(sampler=sampler))


def test_a_sampler_that_cannot_be_made_leaves_no_study(
    tiny_spec: Callable[..., StudySpec], tmp_path: Path
) -> None:
    spec = tiny_spec(sampler={"name": "aging", "tournament": 100})
    with pytest.raises(SpecError, match=r"from 1 to sampler\.population \(64\), got 100"):
        run_search(spec, f"sqlite:///{tmp_path}/x.db", "none", trials=1, workers=1)
    assert not (tmp_path / "x.db").exists()


@pytest.mark.parametrize(
    ("sections", "complaint"),
    [
        ({"sampler": {"guide": {"proxy": "params"}}}, "needs warm_up, or moves of at least 2"),
        ({"sampler": {"guide": {"moves": 2}}}, "either the key proxy, or the keys table and column"),
        ({"sampler": {"guide": {"proxy": "parms", "moves": 2}}}, "Unknown proxy 'parms'"),
        ({"objective": {"kind": "table", "column": "acc"}}, "needs the keys table"),
        ({"objective": {"column": "acc"}}, "set kind: table"),
        ({"objective": {"kind": "tabel"}}, "objective.kind"),
    ],
)
def test_wrong_sections_are_named(
    tiny_spec: Callable[..., StudySpec], sections: dict[str, Any], complaint: str
) -> None:
    with pytest.raises(SpecError, match=complaint):
        tiny_spec(**sections)


@pytest.mark.parametrize(
    ("sections", "complaint"),
    [
        ({"resolution": 30}, "resolution 30 is no multiple of 4"),
        ({"use_se": True}, "no optional squeeze-excite gates"),
    ],
)
def test_what_cells_cannot_do_is_found_in_the_spec(
    tiny_spec: Callable[..., StudySpec], sections: dict[str, Any], complaint: str
) -> None:
    with pytest.raises(SpecError, match=complaint):
        tiny_spec(space={"name": "nasbench201"}, budget={}, **sections)


def test_closed_form_options_need_chains(tiny_spec: Callable[..., StudySpec]) -> None:
    for sampler, complaint in (
        ({"screening": "on"}, "needs the closed form"),
        ({"mutation": "fork"}, "mutation fork is none of the space"),
    ):
        spec = tiny_spec(space={"name": "nasbench201"}, budget={}, sampler=sampler)
        with pytest.raises(SpecError, match=complaint):
            make_sampler(spec)
    # Screening "auto" is off where there is no closed form.
    make_sampler(tiny_spec(space={"name": "nasbench201"}, budget={}, sampler={}))
