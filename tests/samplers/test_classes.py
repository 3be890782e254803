"""Classes: an evolution for each of several tighter budgets within one study."""

from __future__ import annotations

import optuna
import pytest

from zenopt.core.budget import Budget
from zenopt.core.costs import count
from zenopt.core.errors import BudgetError, SpecError
from zenopt.core.yamlfile import Source
from zenopt.latency.limits import Limits
from zenopt.samplers.classes import ClassSampler
from zenopt.samplers.screening import Screening
from zenopt.spaces.chain.closed_form import closed_form_zen
from zenopt.spaces.chain.superres import SuperResSpace
from zenopt.study.sampling import make_sampler
from zenopt.study.spec import StudySpec

INITIAL = (
    "SuperConvK3BNRELU(3,8,1,1)SuperResK3K3(8,8,1,8,1)SuperResK3K3(8,16,2,8,1)SuperConvK1BNRELU(16,32,1,1)"
)
CAPS = (6, 10, 16)


def space() -> SuperResSpace:
    return SuperResSpace(initial=INITIAL, stage_strides=(1, 2), stem_stride=1)


def limits(**budget: float) -> Limits:
    return Limits(Budget(params=5e4, layers=10, **budget), 16, 10)


def searched(trials: int, seed: int = 0, screening: Screening | None = None) -> optuna.Study:
    sampler = ClassSampler(space(), [limits(convs=cap) for cap in CAPS], seed=seed, screening=screening)
    study = optuna.create_study(direction="maximize", sampler=sampler)
    go_on(study, trials)
    return study


def go_on(study: optuna.Study, trials: int) -> None:
    def objective(trial: optuna.Trial) -> float:
        architecture = space().suggest(trial)
        trial.set_user_attr("structure", str(architecture))
        return closed_form_zen(architecture, 16)

    study.optimize(objective, n_trials=trials)


def structures(study: optuna.Study) -> list[str]:
    return [trial.user_attrs["structure"] for trial in study.trials]


@pytest.mark.parametrize("screening", [None, Screening(candidates=300)])
def test_each_trial_keeps_the_limits_of_the_class_whose_turn_it_is(screening: Screening | None) -> None:
    study = searched(45, screening=screening)
    found = structures(study)
    assert len(set(found)) == 45
    for number, text in enumerate(found):
        convs = count(space().parse(text), 16, 10).convs
        assert convs <= CAPS[number % 3], f"trial {number}"
    # Deeper classes are of use only if their evolution goes beyond the shallower ones.
    deepest = [count(space().parse(text), 16, 10).convs for text in found[2::3]]
    assert max(deepest) > CAPS[1]


def test_parents_of_a_class_are_of_the_class() -> None:
    """A deep network, however good, must not become a parent where only shallow ones are wanted."""
    study = searched(12)
    sampler = study.sampler
    assert isinstance(sampler, ClassSampler)
    for own, cap in zip(sampler._samplers, CAPS, strict=True):
        population = own._population(study)
        population.sync()
        assert len(population.known) == 12
        members = population.architectures()
        assert members and all(count(item, 16, 10).convs <= cap for item in members)


def test_a_resumed_study_repeats_an_uninterrupted_one() -> None:
    whole = searched(24, seed=3)
    parts = searched(10, seed=3)
    parts.sampler = ClassSampler(space(), [limits(convs=cap) for cap in CAPS], seed=3)
    go_on(parts, 14)
    assert structures(parts) == structures(whole)


def spec(**changes: object) -> StudySpec:
    content = {
        "name": "classes",
        "space": {"initial": INITIAL, "options": {"stage_strides": [1, 2], "stem_stride": 1}},
        "resolution": 16,
        "num_classes": 10,
        "budget": {"params": 5e4, "convs": 12, "min_width": 8},
        "classes": [{"convs": 6}, {"convs": 40, "min_width": 16}],
        "trials": 6,
        **changes,
    }
    return StudySpec.validated(Source("classes.yaml", content))


def test_classes_of_a_spec_only_tighten_its_budget() -> None:
    made = spec()
    (first, tight), (second, loose) = made.class_limits()
    assert (first, second) == ("convs <= 6", "convs <= 40, min_width >= 16")
    assert (tight.budget.convs, tight.budget.min_width, tight.budget.params) == (6, 8, 5e4)
    assert (loose.budget.convs, loose.budget.min_width) == (12, 16)
    assert isinstance(make_sampler(made), ClassSampler)


def test_a_class_that_nothing_keeps_is_named() -> None:
    made = spec(classes=[{"convs": 6}, {"convs": 1}])
    study = optuna.create_study(direction="maximize", sampler=make_sampler(made))
    with pytest.raises(BudgetError, match=r"budget\.convs = 1"):
        go_on(study, 2)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"classes": [{}]}, r"classes\.0: .*at least one of params"),
        ({"classes": [{"conv": 6}]}, r"classes\.0\.conv: unknown key \(did you mean 'convs'\?\)"),
        ({"classes": [{"convs": -1}]}, r"classes\.0\.convs: .*greater than 0"),
        ({"objectives": ["score", "params"]}, "classes are searched for one objective"),
        (
            {"classes": [], "objectives": ["score", "params"], "objective": {"then": "train"}},
            "needs one objective",
        ),
        ({"training": {"rates": [0.1, 0]}}, r"training\.rates: .*must be positive"),
    ],
)
def test_bad_classes_are_one_clear_line(changes: dict[str, object], message: str) -> None:
    with pytest.raises(SpecError, match=message):
        spec(**changes)
