"""Samplers that walk or learn: rejection, local search, annealing and the controllers."""

from __future__ import annotations

import random
import statistics
from collections.abc import Callable
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import pytest
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.trial import TrialState

from zenopt.core.budget import Budget
from zenopt.core.changing import Changing
from zenopt.core.errors import BudgetError, SpecError
from zenopt.latency.limits import Limits
from zenopt.samplers.annealing import AnnealingSampler, Walk
from zenopt.samplers.controller import ControllerSampler, Lesson
from zenopt.samplers.decisions import LEVELS, Decisions, actions_of
from zenopt.samplers.guided import GuidedSampler
from zenopt.samplers.local_search import LocalSearchSampler
from zenopt.samplers.policy import Adam, Policy
from zenopt.samplers.ppo import PPOSampler
from zenopt.samplers.reinforce import ReinforceSampler
from zenopt.samplers.rejection import RejectionSampler
from zenopt.samplers.replay import KEPT_EVERY, MOST_KEPT, Outcome, Replay
from zenopt.spaces.chain.superres import SuperResSpace
from zenopt.spaces.nasbench201.architecture import CellArchitecture
from zenopt.spaces.nasbench201.cell import OPERATIONS
from zenopt.spaces.nasbench201.space import NasBench201Space
from zenopt.spaces.tabular import TabularSpace
from zenopt.storage import open_storage
from zenopt.study.sampling import make_sampler
from zenopt.study.search import run_search
from zenopt.study.spec import StudySpec

SPACE = NasBench201Space()
LIMITS = Limits(Budget(), resolution=32, num_classes=10)
KINDS: dict[str, type[GuidedSampler]] = {
    "rejection": RejectionSampler,
    "local-search": LocalSearchSampler,
    "annealing": AnnealingSampler,
    "reinforce": ReinforceSampler,
    "ppo": PPOSampler,
}
every_kind = pytest.mark.parametrize("kind", KINDS)
learning = pytest.mark.parametrize("kind", [name for name in KINDS if name != "rejection"])
#: What an edge is worth with each operation, and what two neighbouring edges lose by being equal.
WORTH = dict(zip(OPERATIONS, (0.0, 1.5, 2.0, 3.0, 0.5), strict=True))


def truth(cell: CellArchitecture) -> float:
    """A made benchmark: edges differ in weight, and equal neighbours disturb each other."""
    own = sum(WORTH[name] * (edge + 1) for edge, name in enumerate(cell.operations))
    return own - 4.0 * sum(a == b for a, b in zip(cell.operations, cell.operations[1:], strict=False))


def made(
    kind: str, seed: int = 0, space: Any = SPACE, limits: Limits = LIMITS, **options: Any
) -> GuidedSampler:
    return KINDS[kind](space, limits, seed=seed, **options)


def run(study: optuna.Study, trials: int) -> list[str]:
    """Search and return all structures of the study."""

    def objective(trial: optuna.Trial) -> float:
        cell = SPACE.suggest(trial)
        trial.set_user_attr("structure", str(cell))
        return truth(cell)

    study.optimize(objective, n_trials=trials)
    return [trial.user_attrs["structure"] for trial in study.trials]


def search(sampler: GuidedSampler, trials: int) -> list[str]:
    return run(optuna.create_study(direction="maximize", sampler=sampler), trials)


def tell(study: optuna.Study, trial: optuna.Trial, value: float | None = None) -> None:
    cell = SPACE.suggest(trial)
    trial.set_user_attr("structure", str(cell))
    study.tell(trial, truth(cell) if value is None else value)


# -- every sampler ---------------------------------------------------------------------------------------------------


@every_kind
def test_runs_repeat_themselves_seeds_differ_and_nothing_is_proposed_twice(kind: str) -> None:
    first, again, other = (search(made(kind, seed), 25) for seed in (3, 3, 4))
    assert first == again != other
    assert len(set(first)) == 25


@every_kind
def test_a_resumed_run_repeats_an_uninterrupted_one(kind: str, tmp_path: Path) -> None:
    whole = search(made(kind), 30)

    def opened() -> optuna.Study:
        storage = open_storage(f"sqlite:///{tmp_path}/x.db")
        return optuna.create_study(
            study_name="x", storage=storage, direction="maximize", sampler=made(kind), load_if_exists=True
        )

    run(opened(), 17)
    assert run(opened(), 13) == whole


FADING = Changing(start=0.3, every=4, mul=0.1)
GROWING = Changing(start=0.01, every=4, mul=3, max=0.3)
CHANGING: dict[str, dict[str, Any]] = {
    "annealing": {"temperature": FADING, "random_initial": 2},
    "reinforce": {"entropy": FADING, "learning_rate": GROWING, "hidden": 16},
    "ppo": {"learning_rate": GROWING, "clip": Changing(start=0.2, add=0.02, max=0.5), "hidden": 16},
}


@pytest.mark.parametrize("kind", CHANGING)
def test_settings_that_change_over_a_study_are_those_of_the_trials_numbers(kind: str, tmp_path: Path) -> None:
    """A resumed search repeats an uninterrupted one; another one than with the value at its start."""
    whole = search(made(kind, **CHANGING[kind]), 18)

    def opened() -> optuna.Study:
        sampler = made(kind, **CHANGING[kind])
        storage = open_storage(f"sqlite:///{tmp_path}/x.db")
        return optuna.create_study(
            study_name="x", storage=storage, direction="maximize", sampler=sampler, load_if_exists=True
        )

    run(opened(), 10)
    assert run(opened(), 8) == whole
    fixed = {name: own.start if isinstance(own, Changing) else own for name, own in CHANGING[kind].items()}
    assert search(made(kind, **fixed), 18) != whole


@every_kind
def test_workers_in_any_order_lead_to_what_the_study_says(kind: str) -> None:
    """Three workers, of whom one is slow: whoever opens the study afterwards proposes what they do."""
    storage = optuna.storages.InMemoryStorage()

    def worker() -> optuna.Study:
        return optuna.create_study(
            study_name="x", storage=storage, direction="maximize", sampler=made(kind), load_if_exists=True
        )

    studies = [worker() for _ in range(3)]
    slow: list[optuna.Trial] = []
    for turn in range(36):
        study = studies[turn % 3]
        trial = study.ask()
        trial.set_user_attr("structure", str(SPACE.suggest(trial)))
        if turn in (2, 9, 20):
            slow.append(trial)
        else:
            tell(study, trial)
    for trial in reversed(slow):
        tell(studies[0], trial)
    found = [str(study.sampler.propose(study, 40)) for study in (*studies, worker())]  # type: ignore[attr-defined]
    assert len(set(found)) == 1
    texts = [trial.user_attrs["structure"] for trial in studies[0].trials]
    assert len(texts) == len(set(texts)) == 36


@every_kind
def test_chains_within_a_tight_budget(kind: str) -> None:
    """Parameters that come into use by earlier ones, and of which hardly any random values fit."""
    space = SuperResSpace(slots=2, max_width=64, max_bottleneck=32, max_head=128)
    limits = Limits(Budget(params=3e4), resolution=16, num_classes=10)
    study = optuna.create_study(direction="maximize", sampler=made(kind, space=space, limits=limits))
    study.optimize(lambda trial: float(limits.count(space.suggest(trial)).macs), n_trials=8)
    chains = [space.decode(trial.params) for trial in study.trials]
    assert len(set(chains)) == 8
    assert all(limits.check(chain).is_feasible for chain in chains)


@pytest.mark.slow
@every_kind
def test_a_table_is_never_left_and_can_be_exhausted(kind: str, tmp_path: Path) -> None:
    cells = [
        CellArchitecture(chosen) for chosen in product(("none", "skip_connect", "nor_conv_3x3"), repeat=6)
    ]
    listed = random.Random(0).sample(cells, 60)
    path = tmp_path / "table.csv"
    path.write_text("arch_str,acc\n" + "".join(f"{cell},{truth(cell)}\n" for cell in listed))
    space = TabularSpace(SPACE, str(path), "acc")
    study = optuna.create_study(direction="maximize", sampler=made(kind, space=space))
    with pytest.raises(BudgetError, match="may be exhausted"):
        study.optimize(lambda trial: truth(space.suggest(trial)), n_trials=61)
    texts = {str(SPACE.decode(trial.params)) for trial in study.trials if trial.value is not None}
    assert texts == {str(cell) for cell in listed}


@pytest.mark.slow
@learning
def test_better_than_random_on_a_made_table(kind: str) -> None:
    """Mean best of six seeds after 120 of 15,625 cells."""

    def ends(name: str) -> float:
        return statistics.fmean(
            max(truth(SPACE.parse(text)) for text in search(made(name, seed), 120)) for seed in range(6)
        )

    optimum = max(truth(cell) for cell in SPACE.architectures())
    assert ends(kind) > max(ends("rejection") + 1.0, optimum - 3.0)


@learning
def test_several_objectives_are_refused(kind: str, tiny_spec: Callable[..., StudySpec]) -> None:
    study = optuna.create_study(directions=["maximize", "minimize"], sampler=made(kind))
    with pytest.raises(ValueError, match="compares by one objective"):
        study.ask(SPACE.distributions)
    with pytest.raises(SpecError, match=f"sampler {kind} compares by one objective; use zen, nsga2 or tpe"):
        make_sampler(tiny_spec(sampler={"name": kind}, objectives=["score", "params"]))


@pytest.mark.parametrize(
    ("sampler", "complaint"),
    [
        ({"name": "annealing", "annealing": {"cooling": 1.5}}, r"sampler\.annealing\.cooling"),
        ({"name": "annealing", "annealing": {"temprature": 1}}, r"sampler\.annealing\.temprature"),
        ({"name": "annealing", "mutation": "up"}, "sampler.mutation up is none of the space"),
        ({"name": "reinforce", "controller": {"learning_rate": 0}}, r"sampler\.controller\.learning_rate"),
        ({"name": "reinforce", "controller": {"learning_rat": 1}}, r"sampler\.controller\.learning_rat"),
        ({"name": "ppo", "controller": {"clip": 1}}, r"sampler\.controller\.clip"),
        ({"name": "ppo", "controller": {"batch": "many"}}, r"sampler\.controller\.batch"),
        ({"name": "reinforc"}, "there is no sampler 'reinforc'; known: .*, reinforce, "),
    ],
)
def test_wrong_settings_are_named(
    tiny_spec: Callable[..., StudySpec], sampler: dict[str, Any], complaint: str
) -> None:
    with pytest.raises(SpecError, match=complaint):
        make_sampler(tiny_spec(sampler=sampler))


def test_wrong_arguments_are_named() -> None:
    for kind, options, complaint in (
        ("annealing", {"temperature": -1.0}, "temperature of at least 0"),
        ("annealing", {"temperature": float("nan")}, "temperature of at least 0"),
        ("annealing", {"cooling": float("nan")}, "cooling above 0"),
        ("reinforce", {"baseline_decay": 1.0}, "baseline_decay from 0 to below 1"),
        ("ppo", {"clip": 2.0}, "clip between 0 and 1, got 2"),
    ):
        with pytest.raises(SpecError, match=complaint):
            made(kind, **options)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["local-search", "ppo"])
def test_two_worker_processes(kind: str, tiny_spec: Callable[..., StudySpec], tmp_path: Path) -> None:
    spec = tiny_spec(
        space={"name": "nasbench201"}, budget={}, sampler={"name": kind}, proxy={"name": "params"}
    )
    url = f"sqlite:///{tmp_path}/x.db"
    run_search(spec, url, "x", trials=24, workers=2)
    study = optuna.load_study(study_name="x", storage=url)
    assert [trial.state for trial in study.trials] == [TrialState.COMPLETE] * 24
    assert len({trial.user_attrs["structure"] for trial in study.trials}) >= 22


# -- replay ----------------------------------------------------------------------------------------------------------


def test_late_outcomes_are_put_where_they_belong_and_others_are_learned_once() -> None:
    study = optuna.create_study(direction="minimize")
    cells = list(SPACE.architectures())
    calls: list[int] = []

    def advance(state: tuple[Any, ...], outcome: Outcome) -> tuple[Any, ...]:
        calls.append(outcome.number)
        return (*state, (outcome.number, outcome.score))

    replay: Replay[tuple[Any, ...]] = Replay(study, SPACE, (), advance)
    count = 2 * KEPT_EVERY * MOST_KEPT
    trials = [study.ask() for _ in range(count)]
    for number, trial in enumerate(trials):
        trial.set_user_attr("structure", str(cells[number]))
    late = {0, 7, 100, count - 3}
    for number, trial in enumerate(trials):
        if number not in late:
            study.tell(trial, float(number))
            replay.sync()
    assert calls == [number for number in range(count) if number not in late]
    before = len(calls)
    study.tell(trials[count - 3], state=TrialState.FAIL)
    replay.sync()
    assert len(calls) - before <= KEPT_EVERY + 3
    for number in (100, 7, 0):
        study.tell(trials[number], float(number))
        replay.sync()
    replay.sync()
    # What is minimised scores by its negative; a failure has none.
    wanted = tuple((number, None if number == count - 3 else -float(number)) for number in range(count))
    assert replay.state == wanted
    fresh: Replay[tuple[Any, ...]] = Replay(study, SPACE, (), advance)
    fresh.sync()
    assert fresh.state == wanted
    assert len(replay) == count - 1
    assert replay.best() == cells[0]


# -- annealing and local search --------------------------------------------------------------------------------------


def test_annealing_takes_what_is_better_and_ever_less_of_what_is_worse() -> None:
    sampler = AnnealingSampler(SPACE, LIMITS, temperature=1.0, cooling=0.9, random_initial=3)
    walk = Walk()
    for number, score in enumerate((5.0, 9.0, 4.0)):
        walk = sampler.advance(walk, Outcome(number, f"random {number}", score))
    assert (walk.current, walk.score, walk.steps, walk.spread) == ("random 1", 9.0, 0, 1.0)
    assert sampler.advance(walk, Outcome(3, "failed", None)).current == "random 1"
    assert sampler.advance(walk, Outcome(3, "better", 9.5)).current == "better"

    def taken(steps: int) -> int:
        start = Walk(walk.current, walk.score, steps, walk.first)
        return sum(sampler.advance(start, Outcome(n, "worse", 8.0)).current == "worse" for n in range(400))

    # exp(-1) and exp(-1 / 0.9^10) of 400.
    assert 110 < taken(0) < 185
    assert 10 < taken(10) < 45
    assert taken(60) == 0
    greedy = AnnealingSampler(SPACE, LIMITS, temperature=0.0, random_initial=3)
    assert greedy.advance(walk, Outcome(3, "worse", 8.9)).current == "random 1"
    assert greedy.advance(walk, Outcome(3, "equal", 9.0)).current == "equal"


def distance(one: str, other: str) -> int:
    own, others = SPACE.parse(one).operations, SPACE.parse(other).operations
    return sum(a != b for a, b in zip(own, others, strict=True))


def test_a_climb_goes_on_from_the_first_better_neighbour_and_ends_at_an_optimum() -> None:
    found = search(made("local-search", 5), 150)
    current, moved, end = found[0], 0, 1
    while distance(current, found[end]) == 1:
        if truth(SPACE.parse(found[end])) > truth(SPACE.parse(current)):
            current, moved = found[end], moved + 1
        end += 1
    # Another climb begins: all neighbours are known, and none is better.
    near = {str(cell) for cell in SPACE.neighbours(SPACE.parse(current))}
    assert near <= set(found[:end])
    assert all(truth(SPACE.parse(own)) <= truth(SPACE.parse(current)) for own in near)
    assert moved >= 3


def test_the_first_climb_begins_at_the_best_of_several() -> None:
    found = search(made("local-search", 2, random_initial=6), 9)
    best = max(found[:6], key=lambda text: truth(SPACE.parse(text)))
    assert distance(best, found[6]) == 1
    assert min(distance(text, found[0]) for text in found[1:6]) > 1


def test_a_neighbour_over_the_budget_is_not_proposed() -> None:
    limits = Limits(Budget(params=4e5), resolution=32, num_classes=10)
    found = search(made("local-search", limits=limits), 60)
    assert all(limits.check(SPACE.parse(text)).is_feasible for text in found)


# -- controllers -----------------------------------------------------------------------------------------------------


def test_the_gradient_is_that_of_finite_differences() -> None:
    policy = Policy({"a": 3, "b": 4}, hidden=5, bound=2.5, temperature=5.0)
    weights = policy.initial(0) * 10
    decisions = [("a", 1), ("b", 3), ("a", 2)]

    def value(moved: Any) -> float:
        steps = policy.follow(moved, decisions)
        return sum(0.7 * step.log_probability + 0.3 * step.entropy for step in steps)

    found = policy.gradient(weights, policy.follow(weights, decisions), 0.7, 0.3)
    eps = 1e-6
    by_differences = [
        (value(weights + e) - value(weights - e)) / (2 * eps) for e in np.eye(len(weights)) * eps
    ]
    assert np.abs(found).max() > 0.05
    np.testing.assert_allclose(found, by_differences, atol=1e-8)


def chance(sampler: ControllerSampler, weights: Any, lesson: Lesson) -> float:
    steps = sampler._policy.follow(weights, lesson.decisions)
    return float(np.exp(sum(step.log_probability for step in steps)))


@pytest.mark.parametrize("kind", ["reinforce", "ppo"])
def test_an_update_makes_likelier_what_is_better_than_the_average(kind: str) -> None:
    sampler = made(kind)
    assert isinstance(sampler, ControllerSampler)
    good, bad = (
        Lesson(tuple((name, action) for name in SPACE.distributions), advantage)
        for action, advantage in ((3, 0.4), (0, -0.4))
    )
    weights = sampler._policy.initial(1)
    learned, _ = sampler.learn(weights, Adam.of(weights), [good, bad], 0)
    assert chance(sampler, learned, good) > 1.05 * chance(sampler, weights, good)
    assert chance(sampler, learned, bad) < chance(sampler, weights, bad) / 1.05


def test_what_the_policy_draws_over_the_budget_is_shrunk(monkeypatch: pytest.MonkeyPatch) -> None:
    def no_others(*_: Any) -> list[Any]:
        raise AssertionError("drawn without the policy")

    monkeypatch.setattr("zenopt.samplers.controller.draw_candidates", no_others)
    space = SuperResSpace(slots=2)
    limits = Limits(Budget(params=3e4), resolution=16, num_classes=10)
    study = optuna.create_study(sampler=made("reinforce", space=space, limits=limits))
    chains = [space.suggest(study.ask(space.distributions)) for _ in range(3)]
    assert all(limits.check(chain).is_feasible for chain in chains)


def test_ppo_stops_at_the_clip_and_reinforce_learns_of_every_trial() -> None:
    lesson = Lesson(tuple((name, 3) for name in SPACE.distributions), 0.5)
    grown = []
    for epochs in (4, 40):
        sampler = PPOSampler(
            SPACE, LIMITS, epochs=epochs, batch=2, clip=0.1, entropy=0.0, learning_rate=0.001
        )
        weights = sampler._policy.initial(1)
        learned, _ = sampler.learn(weights, Adam.of(weights), [lesson, lesson], 0)
        grown.append(chance(sampler, learned, lesson) / chance(sampler, weights, lesson))
    free = PPOSampler(SPACE, LIMITS, epochs=40, batch=2, clip=0.99, entropy=0.0, learning_rate=0.001)
    learned, _ = free.learn(weights, Adam.of(weights), [lesson, lesson], 0)
    # Adam's moments carry it a little farther than the clip.
    assert 1.0 < grown[0] < grown[1] < 0.9 * chance(free, learned, lesson) / chance(free, weights, lesson)

    cell = CellArchitecture(("nor_conv_3x3",) * 6)
    for kind, updates in (("reinforce", 3), ("ppo", 0)):
        controller = made(kind)
        assert isinstance(controller, ControllerSampler)
        state = controller._make_population(optuna.create_study()).state  # type: ignore[attr-defined]
        for number, score in enumerate((1.0, 2.0, None, 3.0)):
            state = controller.advance(state, Outcome(number, str(cell), score))
        assert (state.moments.steps, state.recent) == (updates, (1.0, 2.0, 3.0))
        assert len(state.batch) == (3 if kind == "ppo" else 0)
        before = state.baseline
        state = controller.advance(state, Outcome(4, str(cell), None, is_pruned=True))
        assert state.recent == (1.0, 2.0, 3.0)
        assert state.baseline == pytest.approx(0.9 * before)


def test_entropy_keeps_a_controller_open() -> None:
    def openness(entropy: float) -> float:
        sampler = ReinforceSampler(SPACE, LIMITS, entropy=entropy)
        study = optuna.create_study(direction="maximize", sampler=sampler)
        run(study, 60)
        weights = sampler._population(study).state.weights  # type: ignore[attr-defined]
        decisions = sampler._decisions.of(study.best_trial.params)
        return sum(step.entropy for step in sampler._policy.follow(weights, decisions))

    assert openness(1.0) > openness(0.0) + 0.5


@pytest.mark.parametrize(
    ("distribution", "actions"),
    [
        (CategoricalDistribution(("b", "a")), ["b", "a"]),
        (IntDistribution(1, 4), [1, 2, 3, 4]),
        (IntDistribution(8, 40, step=8), [8, 16, 24, 32, 40]),
        (IntDistribution(0, 70), [0, 10, 20, 30, 40, 50, 60, 70]),
        (IntDistribution(8, 1024, log=True), [8, 16, 32, 64, 128, 256, 512, 1024]),
        (IntDistribution(1, 3, log=True), [1, 2, 3]),
        (FloatDistribution(0.0, 1.0, step=0.5), [0.0, 0.5, 1.0]),
    ],
)
def test_numbers_have_few_actions(distribution: Any, actions: list[Any]) -> None:
    assert actions_of(distribution) == actions
    assert all(distribution._contains(distribution.to_internal_repr(value)) for value in actions)


def test_decisions_follow_what_is_in_use_and_find_the_nearest_action() -> None:
    space = SuperResSpace(slots=2, max_width=64, max_bottleneck=32, max_head=128)
    decisions = Decisions(space)
    assert max(len(values) for values in decisions.actions.values()) <= LEVELS
    rng = random.Random(0)
    lengths = set()
    taken: list[tuple[str, int]] = []

    def choose(name: str) -> int:
        taken.append((name, rng.randrange(len(decisions.actions[name]))))
        return taken[-1][1]

    for _ in range(50):
        taken.clear()
        values = decisions.walk(choose)
        assert list(decisions.of(values)) == taken
        lengths.add(len(taken))
    assert len(lengths) > 1
    drawn = space.encode(space.draw(rng))
    for name, action in decisions.of(drawn):
        values = decisions.actions[name]
        if isinstance(drawn[name], int):
            assert abs(values[action] - drawn[name]) == min(abs(value - drawn[name]) for value in values)
