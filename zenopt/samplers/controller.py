"""A learned controller: an LSTM draws a space's parameters one after another and learns from what they were worth.

Zoph & Le, "Neural Architecture Search with Reinforcement Learning", ICLR 2017; the network is that of ENAS (Pham, Guan,
Zoph, Le & Dean, ICML 2018). How it learns is a subclass's matter: :mod:`~zenopt.samplers.reinforce` and
:mod:`~zenopt.samplers.ppo`.
"""

from __future__ import annotations

import random
from abc import abstractmethod
from bisect import bisect
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import accumulate
from math import exp
from typing import TYPE_CHECKING, Any

from zenopt.core.changing import Changing
from zenopt.core.errors import BudgetError, SpecError, StructureError
from zenopt.core.seeds import derive_seed
from zenopt.latency.limits import Limits
from zenopt.samplers.candidates import moves
from zenopt.samplers.decisions import Decisions
from zenopt.samplers.guided import GuidedSampler, draw_candidates, refuse_several
from zenopt.samplers.policy import Adam, Array, Decision, Policy
from zenopt.samplers.population import Population
from zenopt.samplers.replay import Outcome, Replay

if TYPE_CHECKING:
    import optuna

#: Draws of the policy before it chooses among architectures that it is given; how many moves or random ones those are.
DRAWS, MOVES, RANDOM = 12, 24, 8
#: From this draw over the budget on, such draws are shrunk into it.
OVER = 4
#: A reward is the rank of a score among the last so many.
WINDOW = 64
#: Logits of the policy are ``BOUND * tanh(x / TEMPERATURE)`` (ENAS).
BOUND, TEMPERATURE = 2.5, 5.0


@dataclass(frozen=True)
class Lesson:
    """Decisions, and by how much their reward is above the average."""

    decisions: tuple[Decision, ...]
    advantage: float


@dataclass(frozen=True)
class Learned:
    """What a controller has learned.

    Attributes:
        weights, moments: Of the policy.
        recent: The last scores, oldest first.
        baseline: Moving average of the rewards.
        batch: What is not learned from yet.
    """

    weights: Array
    moments: Adam
    recent: tuple[float, ...] = ()
    baseline: float = 0.5
    batch: tuple[Lesson, ...] = ()


class ControllerSampler(GuidedSampler):
    """Draws every parameter from a policy that the study's earlier trials have taught.

    What the policy draws is proposed if it is within the budget, in the table where there is one, and new; from the
    fourth draw over the budget on, it is shrunk until it fits. If 12 draws bring nothing, the policy chooses by its
    probabilities among architectures that it is given: 24 moves from what it drew, or 8 random ones.

    The reward of a trial is the rank of its score among the last 64, from 0 to 1: it means the same for percents,
    shares and losses, and goes on telling good from better when all are good. Of a pruned trial it is 0; one that
    failed teaches nothing.

    The weights follow from the trials alone: every process replays them in order, and learns from each once. All that
    is random derives from ``seed`` and the trial number.

    Args:
        space:
            As for :class:`~zenopt.samplers.ZenSampler`; its parameters in use are decided in order. Of a number with
            many values eight are told apart.
        limits:
            The budget; over-budget architectures are never proposed.
        seed:
            Seed of the first weights and of all proposals.
        learning_rate:
            Of Adam; it may change over the study, as may ``entropy``.
        entropy:
            Weight of the policy's entropy beside the reward; more explores longer.
        baseline_decay:
            Of the moving average that rewards are compared with.
        hidden:
            Width of the LSTM.
        batch:
            Trials of one update.
    """

    def __init__(
        self,
        space: Any,
        limits: Limits,
        *,
        seed: int = 0,
        learning_rate: float | Changing = 0.01,
        entropy: float | Changing = 0.01,
        baseline_decay: float = 0.9,
        hidden: int = 64,
        batch: int = 1,
    ) -> None:
        self._rate, self._entropy = Changing.of(learning_rate), Changing.of(entropy)
        if not (self._rate.start > 0 and self._entropy.start >= 0 and 0 <= baseline_decay < 1):
            raise SpecError(
                "a controller needs learning_rate above 0, entropy of at least 0 and baseline_decay from 0 to below 1; "
                f"got {self._rate.start:g}, {self._entropy.start:g} and {baseline_decay:g}."
            )
        super().__init__(space, limits, seed=seed)
        self._decisions = Decisions(space)
        sizes = {name: len(actions) for name, actions in self._decisions.actions.items()}
        self._policy = Policy(sizes, hidden=hidden, bound=BOUND, temperature=TEMPERATURE)
        self._decay, self._batch = baseline_decay, batch

    # -- learning ---------------------------------------------------------------------------------------------------

    @abstractmethod
    def learn(
        self, weights: Array, moments: Adam, batch: Sequence[Lesson], number: int
    ) -> tuple[Array, Adam]:
        """Return weights and moments after an update, in which the trial of that number has come last."""

    def advance(self, learned: Learned, outcome: Outcome) -> Learned:
        """Return what is learned after one more outcome."""
        if outcome.score is None and not outcome.is_pruned:
            return learned
        try:
            params = self._space.encode(self._space.parse(outcome.text))
        except StructureError:
            # Somebody has evaluated what the space cannot spell.
            return learned
        recent, reward = learned.recent, 0.0
        if outcome.score is not None:
            recent = (*recent, outcome.score)[-WINDOW:]
            below = sum((own < outcome.score) + (own <= outcome.score) for own in recent) / 2
            reward = below / len(recent)
        lesson = Lesson(tuple(self._decisions.of(params)), reward - learned.baseline)
        baseline = self._decay * learned.baseline + (1 - self._decay) * reward
        found = replace(learned, recent=recent, baseline=baseline, batch=(*learned.batch, lesson))
        if len(found.batch) < self._batch:
            return found
        weights, moments = self.learn(learned.weights, learned.moments, found.batch, outcome.number)
        return replace(found, weights=weights, moments=moments, batch=())

    # -- proposing --------------------------------------------------------------------------------------------------

    def _propose_first(self, population: Population, number: int, rng: random.Random) -> Any | None:
        assert isinstance(population, Replay)
        weights, known = population.state.weights, population.known
        drawn: list[Any] = []
        over = 0
        for _ in range(DRAWS):
            found = self._draw(weights, rng)
            if found is not None and not self._limits.check(found).is_feasible:
                over += 1
                found = self._shrunk(found) if over >= OVER else None
            if found is not None and str(found) not in known:
                return found
            drawn += [] if found is None else [found]
        if drawn:
            given = list(moves(self._space, self._limits, drawn, known, MOVES, rng).values())
        else:
            random_ones = draw_candidates(self._space, self._limits, RANDOM, rng)
            given = [own for own in random_ones if str(own) not in known]
        if not given:
            return None
        likely = [self._log_probability(weights, own) for own in given]
        chances = [exp(own - max(likely)) for own in likely]
        return rng.choices(given, chances)[0]

    def _draw(self, weights: Array, rng: random.Random) -> Any | None:
        """Return an architecture of the policy; ``None`` where the space has no place for it."""
        walk = self._policy.begin(weights)

        def choose(probabilities: Array) -> int:
            return min(bisect(list(accumulate(probabilities)), rng.random()), len(probabilities) - 1)

        values = self._decisions.walk(lambda name: walk.decide(name, choose))
        try:
            found = self._space.decode(values)
        except StructureError:
            return None
        return found if self._space.contains(found) else None

    def _shrunk(self, architecture: Any) -> Any | None:
        try:
            return self._limits.closest_fit(self._space, architecture)
        except BudgetError:
            # This one cannot be shrunk into the budget; others may be.
            return None

    def _log_probability(self, weights: Array, architecture: Any) -> float:
        decisions = self._decisions.of(self._space.encode(architecture))
        return sum(step.log_probability for step in self._policy.follow(weights, decisions))

    def _parent(self, population: Population, number: int, rng: random.Random) -> Any:
        # Everything near is known: look farther from the best.
        assert isinstance(population, Replay)
        return population.best() or self._fitted_initial()

    def _check_study(self, study: optuna.Study) -> None:
        refuse_several(type(self).__name__, study)

    def _make_population(self, study: optuna.Study) -> Population:
        weights = self._policy.initial(derive_seed(self._seed, 0, "controller"))
        return Replay(study, self._space, Learned(weights, Adam.of(weights)), self.advance)
