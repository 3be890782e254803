"""The whole: a search on a small space, its repeatability, running trials, repeated and short trainings."""

from __future__ import annotations

import numpy as np
import pytest

from zenopt.core.errors import PredictorError
from zenopt.predictors.front import KnownObjective, propose_front
from zenopt.predictors.inputs import Inputs
from zenopt.predictors.observations import Observations
from zenopt.predictors.surrogate import FITTED, Surrogate, _informative, milestone


class Space:
    """400 networks of two groups of inputs; the second group says nothing."""

    def __init__(self, noise: float = 0.0) -> None:
        rng = np.random.default_rng(0)
        self.matrix = rng.uniform(-1, 1, size=(400, 6))
        self.inputs = Inputs(tuple("abcdef"), ("shape",) * 3 + ("other",) * 3, self.matrix)
        self.networks = [f"net{i}" for i in range(400)]
        self.true = 90 - 3 * ((self.matrix[:, :3] - 0.3) ** 2).sum(axis=1)
        self.noise = noise

    def told(self, index: list[int], seed: int = 0, shares: list[float] | None = None) -> Observations:
        noise = self.noise * np.random.default_rng(seed).normal(size=1000)[: len(index)]
        return Observations.of(
            self.inputs.rows(index), [self.networks[i] for i in index], self.true[index] + noise, shares
        )

    def search(self, count: int, surrogate: Surrogate | None = None) -> list[int]:
        surrogate = surrogate or Surrogate(self.inputs)
        index = surrogate.begin(self.inputs, 4, np.random.default_rng(1))
        while len(index) < count:
            surrogate.learn(self.told(index))
            index += surrogate.propose(self.inputs, self.networks)
        return index


def test_search_finds_the_best_of_400_in_25() -> None:
    space = Space()
    assert int(np.argmax(space.true)) in space.search(25)


def test_a_resumed_search_repeats_an_uninterrupted_one() -> None:
    space = Space(noise=0.3)
    whole = space.search(20)
    for count in (7, 13, 19):
        fresh = Surrogate(space.inputs)
        fresh.learn(space.told(whole[:count]))
        assert fresh.propose(space.inputs, space.networks) == [whole[count]]
    # A pool made anew for other candidates decides alike.
    fresh = Surrogate(space.inputs)
    fresh.learn(space.told(whole[:12]))
    part = [i for i in range(400) if i % 2 or i == whole[12]]
    chosen = fresh.propose(space.inputs.rows(part), [space.networks[i] for i in part])
    assert part[chosen[0]] == whole[12]


def test_proposals_of_a_batch_differ_and_leave_running_ones_alone() -> None:
    space = Space()
    surrogate = Surrogate(space.inputs)
    index = space.search(10)
    surrogate.learn(space.told(index))
    batch = surrogate.propose(space.inputs, space.networks, 4)
    assert len(set(batch)) == 4 and not set(batch) & set(index)
    running = Observations.of(
        space.inputs.rows(batch[:2]), [space.networks[i] for i in batch[:2]], [0.0, 0.0]
    )
    rest = surrogate.propose(space.inputs, space.networks, 2, pending=running)
    assert rest == batch[2:]
    # What was pending is forgotten when it is not told again.
    assert surrogate.propose(space.inputs, space.networks, 4) == batch


def test_known_ones_are_closed_and_further_ones_count_on() -> None:
    space = Space()
    surrogate = Surrogate(space.inputs)
    index = space.search(12)
    surrogate.learn(space.told(index))
    first = surrogate.propose(space.inputs, space.networks)[0]
    second = surrogate.propose(space.inputs, space.networks, known={space.networks[first]})[0]
    assert second != first
    part = [i for i in range(400) if i != first]
    rows = space.inputs.rows(part)
    names = [space.networks[i] for i in part]
    view = surrogate.view(rows, names, further=(space.inputs.rows([first]), [space.networks[first]]))
    assert view.propose(1) == [399]


def test_candidates_run_out() -> None:
    space = Space()
    surrogate = Surrogate(space.inputs)
    surrogate.learn(space.told([0, 1, 2, 3, 4]))
    few = space.inputs.rows([0, 1, 7])
    assert surrogate.propose(few, ["net0", "net1", "net7"], 3) == [2]
    # Two candidates that are one network are proposed once.
    assert len(surrogate.propose(space.inputs.rows([7, 7, 8]), ["net7", "net7", "net8"], 3)) == 2


def test_prediction_in_units_of_the_values() -> None:
    space = Space(noise=0.2)
    surrogate = Surrogate(space.inputs)
    surrogate.learn(space.told(list(range(100))))
    found = surrogate.predict(space.inputs.rows(range(100, 400)))
    assert np.corrcoef(found.mean, space.true[100:])[0, 1] > 0.97
    inside = (space.true[100:] >= found.training_low) & (space.true[100:] <= found.training_high)
    assert inside.mean() > 0.85
    assert (found.training_low <= found.low).all() and (found.high <= found.training_high).all()
    assert (found.deviation > 0).all()
    assert "reads" in surrogate.record()


def test_winner_is_not_the_luckiest() -> None:
    """One network was trained often and is good; another looks better by one lucky number."""
    space = Space(noise=0.5)
    good, lucky = int(np.argmax(space.true)), int(np.argsort(space.true)[200])
    index = [*range(0, 60, 2), good, good, good, good, lucky]
    told = space.told(index)
    told.values[-1] = told.values[:-1].max() + 0.05
    surrogate = Surrogate(space.inputs)
    surrogate.learn(told)
    assert index[surrogate.winner()] == good


def test_what_is_trained_again_is_what_may_be_the_winner() -> None:
    space = Space(noise=0.5)
    order = np.argsort(-space.true)
    best, rival, bad = (int(order[place]) for place in (0, 1, -1))
    # The rival was trained once and looks as good as the best, which is known well.
    index = [*range(0, 60, 2), *[best] * 6, rival, bad]
    told = space.told(index)
    surrogate = Surrogate(space.inputs)
    surrogate.learn(told)
    again = surrogate.repeats(4)
    assert len(again) == 4 and again[:1] == surrogate.repeats()
    # A training that is under way tells less when it is done twice: not all of them are of one network.
    assert len({index[place] for place in again}) > 1
    assert bad not in {index[place] for place in again}
    assert float(space.true[[index[place] for place in again]].min()) > float(np.median(space.true))


def test_short_trainings_count_at_their_length() -> None:
    space = Space()
    index = [*range(40), *range(12)]
    shares = [0.2] * 40 + [1.0] * 12
    told = space.told(index, shares=shares)
    told.values[:40] -= 20.0
    surrogate = Surrogate(space.inputs)
    surrogate.learn(told)
    found = surrogate.predict(space.inputs.rows(range(12, 40)), [f"net{i}" for i in range(12, 40)])
    assert np.abs(found.mean - space.true[12:40]).mean() < 0.5
    assert surrogate.winner() >= 40
    # What was only trained briefly may be proposed for a full training.
    assert 0 <= surrogate.propose(space.inputs, space.networks)[0] < 400


@pytest.mark.parametrize("objectives", [2, 3])
def test_front_of_accuracy_and_cost(objectives: int) -> None:
    """Searched for 40 trainings, twice as many lie on the true front as of random ones."""
    space = Space()
    cost = 1.5 * space.matrix[:, 0] + space.matrix[:, 1]
    second = -((space.matrix[:, 2] + 0.5) ** 2)
    rng = np.random.default_rng(0)
    index = Surrogate(space.inputs).begin(space.inputs, 6, rng)
    accuracy, other = Surrogate(space.inputs), Surrogate(space.inputs)
    while len(index) < 40:
        accuracy.learn(space.told(index))
        learned = [accuracy]
        if objectives == 3:
            told = space.told(index)
            other.learn(Observations.of(told.inputs, told.networks, second[index]))
            learned.append(other)
        known = [KnownObjective(-cost, -cost[index])]
        views = [surrogate.view(space.inputs, space.networks) for surrogate in learned]
        found = propose_front(views, known, 2, rng)
        assert len(set(found)) == 2 and not set(found) & set(index)
        index += found
    values = np.stack([space.true, -cost, *([second] if objectives == 3 else [])], axis=1)
    on_front = [i for i in range(400) if not ((values > values[i]).all(axis=1)).any()]
    share = len(set(on_front) & set(index)) / 40
    assert share > 2 * len(on_front) / 400


def test_errors() -> None:
    space = Space()
    surrogate = Surrogate(space.inputs)
    with pytest.raises(PredictorError, match="call learn"):
        surrogate.predict(space.inputs)
    with pytest.raises(PredictorError, match="Nothing was trained"):
        surrogate.learn(space.told([]))
    with pytest.raises(PredictorError, match="must be finite"):
        Observations.of(space.inputs.rows([0]), ["a"], [float("nan")])
    with pytest.raises(PredictorError, match="as many networks"):
        Observations.of(space.inputs.rows([0]), ["a", "b"], [1.0])
    with pytest.raises(PredictorError, match=r"\(0, 1\]"):
        Observations.of(space.inputs.rows([0]), ["a"], [1.0], [0.0])
    with pytest.raises(PredictorError, match="at least one training"):
        Observations.of(space.inputs.rows([0]), ["a"], [1.0], [1.0], [0.5])
    with pytest.raises(PredictorError, match="needs two objectives"):
        propose_front([], [], 1, np.random.default_rng(0))
    surrogate.learn(space.told([0, 1], shares=[0.2, 0.2]))
    with pytest.raises(PredictorError, match="to the end"):
        surrogate.winner()


def test_milestones_and_what_is_fitted_to() -> None:
    assert [milestone(n) for n in (1, 2, 6, 7, 100)] == [1, 2, 6, 6, 84]
    values = np.random.default_rng(0).normal(size=1000)
    index = _informative(values, FITTED)
    assert len(index) == len(set(index)) == FITTED
    assert set(np.argsort(-values)[: FITTED // 2]) <= set(index.tolist())
    assert _informative(values[:10], FITTED).tolist() == list(range(10))


def test_trust_in_a_ranking_is_learned() -> None:
    space = Space()
    hints = space.true + np.random.default_rng(3).normal(size=400)
    ranked = Inputs(
        (*space.inputs.names, "good", "bad"),
        (*space.inputs.groups, "scores", "scores"),
        np.column_stack([space.matrix, hints, -hints]),
    )
    trusts = {}
    for name in ("good", "bad"):
        surrogate = Surrogate(ranked, ranking=name)
        first = surrogate.begin(ranked, 4, np.random.default_rng(0))
        assert first[0] == int(np.argmax(ranked.matrix[:, ranked.names.index(name)]))
        index = list(range(30))
        surrogate.learn(Observations.of(ranked.rows(index), [f"net{i}" for i in index], space.true[index]))
        trusts[name] = float(surrogate.record().split("trust in the ranking ")[1].split()[0])
    assert trusts["good"] > trusts["bad"]
    with pytest.raises(PredictorError, match="no input is called 'x'; there are auto, none, a, b"):
        Surrogate(space.inputs, ranking="x")
