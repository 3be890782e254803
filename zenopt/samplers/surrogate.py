"""SurrogateSampler: the study learns from its own trials what is worth a training."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import optuna
from numpy.typing import NDArray

from zenopt.core.budget import is_lower_limit
from zenopt.core.seeds import derive_rng, derive_seed
from zenopt.latency.limits import Limits
from zenopt.predictors.earlier import InformedReader
from zenopt.predictors.front import KnownObjective, propose_front
from zenopt.predictors.inputs import check_groups
from zenopt.predictors.networks import NetworkReader, Reader
from zenopt.predictors.observations import Observations
from zenopt.predictors.ranking import parts
from zenopt.predictors.surrogate import Surrogate
from zenopt.predictors.view import REFINED, View
from zenopt.samplers.candidates import Candidates, gather, moves
from zenopt.samplers.population import Population
from zenopt.samplers.told import PROPOSED_KEY, ToldPopulation
from zenopt.samplers.zen import ZenSampler

if TYPE_CHECKING:
    from optuna.trial import FrozenTrial

Array = NDArray[np.float64]

_logger = optuna.logging.get_logger(__name__)

#: Study user attribute: what the search begins with, which inputs it reads, and the evidence.
RECORD_KEY = "zenopt:surrogate"
#: Trained networks, and candidates, that moves are made from.
PARENTS = 8
#: Moves made for a proposal, in each of two rounds.
MOVES = 64
#: Times that a proposal is thought over because another worker was quicker.
RACES = 5


@dataclass
class _Learner:
    """What is kept of one study between proposals."""

    told: ToldPopulation
    surrogates: list[Surrogate] = field(default_factory=list)
    record: str = ""


class SurrogateSampler(ZenSampler):
    """Proposes what a predictor, learned from the study's own trials, expects to improve on the best most.

    The first ``begin`` proposals are few networks from the top of a cheap ranking, far apart from each other. From then
    on a Gaussian process (:class:`~zenopt.predictors.surrogate.Surrogate`) is fitted to all told trials, and the
    candidate of largest expected improvement over the best posterior mean is proposed: the whole space where it can be
    listed, else ``candidates`` networks of the space and moves from the best. A proposal is never a known network, and
    always within the budget. What other workers are training counts as if it had shown what is expected of it. Pruned
    trials count as trainings of their length. Of several objectives the expected gain of hypervolume decides.

    Candidates derive from ``seed``, moves from it and the trial number, hyperparameters from the first trials: a
    resumed study with one worker repeats itself.

    Args:
        space:
            As for :class:`~zenopt.samplers.ZenSampler`; listed if it has ``architectures``.
        limits:
            The budget; over-budget architectures are never proposed.
        seed:
            Seed of all proposals.
        begin:
            Trials before the predictor decides.
        candidates:
            Candidates of a space that is not listed; or what :func:`~zenopt.samplers.candidates.gather` returned.
        ranking:
            Input whose larger values are thought better before anything is trained, or several, see
            :mod:`zenopt.predictors.ranking`; by default the family's, ``None`` for none. How far the first is to be
            trusted is learned.
        costs:
            Costs that are the objectives after the first; they are computed instead of learned.
        last_step:
            Step with which a full training ends; by default that of the longest one.
        inputs:
            Groups of inputs that may be read, e.g. ``("costs", "paths")``; all if not given.
        earlier:
            Results of other studies or tables: source -> text -> value, higher is better; see
            :class:`~zenopt.predictors.earlier.InformedReader`.
        mutation:
            As for :class:`~zenopt.samplers.ZenSampler`.

    Example:
        .. code-block:: python

            space = NasBench201Space()
            sampler = SurrogateSampler(space, Limits(Budget(), resolution=32, num_classes=10))
            study = optuna.create_study(direction="maximize", sampler=sampler)
            study.optimize(lambda trial: train(space.suggest(trial)), n_trials=40)
    """

    def __init__(
        self,
        space: Any,
        limits: Limits,
        *,
        seed: int = 0,
        begin: int = 4,
        candidates: int | Candidates = 10_000,
        ranking: str | None = "auto",
        costs: Sequence[str] = (),
        last_step: int | None = None,
        inputs: Sequence[str] = (),
        earlier: Mapping[str, Mapping[str, float]] | None = None,
        mutation: str = "zen",
    ) -> None:
        super().__init__(space, limits, seed=seed, mutation=mutation)
        self._begin = max(1, begin)
        self._gathered: Candidates | None = candidates if isinstance(candidates, Candidates) else None
        self._reader: Reader
        if isinstance(candidates, Candidates):
            self._reader = candidates.reader
        else:
            self._reader = NetworkReader(space, limits.resolution, limits.num_classes, limits.use_se)
            if earlier:
                self._reader = InformedReader(self._reader, space, earlier)
        self._ranking = self._reader.ranking if ranking == "auto" else ranking
        self._groups = tuple(inputs)
        check_groups(self._groups, self._reader.groups)
        if self._ranking is not None:
            parts(self._ranking, self._reader.names, self._reader.groups, "sampler.surrogate.ranking")
        self._wanted = candidates
        self._cost_names = tuple(costs)
        self._candidate_costs: Array | None = None
        self._last_step = last_step
        self._learners: dict[int, _Learner] = {}

    def __getstate__(self) -> dict[str, Any]:
        return {**super().__getstate__(), "_learners": {}}

    def propose(self, study: optuna.Study, number: int) -> Any:
        """Return the architecture to evaluate in trial ``number``.

        Raises:
            BudgetError: If nothing fits the budget, or no new architecture was found.
        """
        candidates = self._candidates()
        learner = self._learner(study)
        told = learner.told
        told.sync()
        told.release(number)
        for _ in range(RACES):
            found = self._propose(study, learner, candidates, number)
            # While this one thought, another worker may have announced the same.
            told.sync()
            told.release(number)
            if str(found) not in told.known:
                break
        return found

    def _propose(self, study: optuna.Study, learner: _Learner, candidates: Candidates, number: int) -> Any:
        told = learner.told
        # Workers that were asked just before and have not said what they train: they do what this one would do next.
        silent = sum(text is None and other < number for other, text in told.running.items())
        rng = derive_rng(self._seed, number, "propose")
        if not _differ(candidates):
            found = None
        elif len(told.full) < self._begin:
            found = self._propose_first(learner, candidates, silent)
        else:
            found = self._propose_learned(study, learner, candidates, silent, rng)
        if found is not None:
            return found
        unknown = next((text for text in candidates.texts if text not in told.known), None)
        if unknown is not None:
            return self._space.parse(unknown)
        # Everything gathered is known: longer and longer moves from what is known find the rest of the space.
        parents = [told.parsed(own.text) for own in told.full[-PARENTS:]] or [self._fitted_initial()]
        return self._mutate(parents, told.known, rng, 1)

    # -- parts ------------------------------------------------------------------------------------------------------

    def _propose_first(self, learner: _Learner, candidates: Candidates, silent: int) -> Any | None:
        place = {text: index for index, text in enumerate(candidates.texts)}
        taken = [place[text] for text in learner.told.known_in_order if text in place]
        if len(taken) >= len(candidates):
            return None
        generator = np.random.default_rng(derive_seed(self._seed, len(taken), "begin"))
        count = max(self._begin, len(taken) + silent + 1)
        chosen = self._surrogate(candidates).begin(candidates.inputs, count, generator, taken)
        return self._space.parse(candidates.texts[chosen[min(silent, len(chosen) - 1)]]) if chosen else None

    def _propose_learned(
        self,
        study: optuna.Study,
        learner: _Learner,
        candidates: Candidates,
        silent: int,
        rng: random.Random,
    ) -> Any | None:
        told = learner.told
        known_costs = len(study.directions) - 1 if len(self._cost_names) == len(study.directions) - 1 else 0
        learned = len(study.directions) - known_costs
        while len(learner.surrogates) < learned:
            learner.surrogates.append(self._surrogate(candidates))
        for objective, surrogate in enumerate(learner.surrogates):
            surrogate.learn(told.observations(objective))
        self._keep_record(study, learner, candidates)
        pending = told.pending()
        views = self._views(learner, candidates, {}, pending)
        further: dict[str, Any] = {}
        if not candidates.is_whole and views[0].is_open.any():
            for _ in range(2):
                parents = self._promising(learner, candidates, views[0], further)
                further.update(
                    moves(
                        self._space,
                        self._limits,
                        parents,
                        told.known | further.keys(),
                        MOVES,
                        rng,
                        self._mutation,
                    )
                )
                views = self._views(learner, candidates, further, pending)
        if not views[0].is_open.any():
            return None
        if len(study.directions) == 1:
            chosen = views[0].propose(silent + 1)
        else:
            generator = np.random.default_rng(rng.getrandbits(63))
            known = self._known_objectives(told, candidates, further) if known_costs else []
            chosen = propose_front(views, known, silent + 1, generator)
        found = chosen[-1]
        if found >= len(candidates):
            return list(further.values())[found - len(candidates)]
        return self._space.parse(candidates.texts[found])

    def _views(
        self,
        learner: _Learner,
        candidates: Candidates,
        further: dict[str, Any],
        pending: Observations | None,
    ) -> list[View]:
        beside = (self._reader.read(further.values()), tuple(further)) if further else None
        return [
            surrogate.view(
                candidates.inputs,
                candidates.texts,
                further=beside,
                pending=pending,
                known=learner.told.known,
            )
            for surrogate in learner.surrogates
        ]

    def _promising(
        self, learner: _Learner, candidates: Candidates, view: View, further: dict[str, Any]
    ) -> list[Any]:
        """Return the trained networks of largest posterior mean, and the candidates that promise most."""
        told = learner.told
        full = told.full
        best = np.argsort(-view.trained_mean, kind="stable")[:PARENTS]
        texts = [full[int(index)].text for index in best]
        beside = list(further)
        view.refine(view.promising(view.improvement(), REFINED))
        for index in view.promising(view.improvement(), PARENTS):
            inside = index < len(candidates)
            texts.append(candidates.texts[index] if inside else beside[index - len(candidates)])
        return [self._space.parse(text) for text in dict.fromkeys(texts)]

    def _known_objectives(
        self, told: ToldPopulation, candidates: Candidates, further: dict[str, Any]
    ) -> list[KnownObjective]:
        if self._candidate_costs is None:
            every = [self._costs_of(self._space.parse(text)) for text in candidates.texts]
            self._candidate_costs = np.array(every)
        own = np.array([self._costs_of(child) for child in further.values()]).reshape(
            -1, len(self._cost_names)
        )
        of_candidates = np.concatenate([self._candidate_costs, own])
        of_trained = np.array([self._costs_of(told.parsed(item.text)) for item in told.full])
        return [
            KnownObjective(of_candidates[:, index], of_trained[:, index])
            for index in range(len(self._cost_names))
        ]

    def _costs_of(self, architecture: Any) -> list[float]:
        check = self._limits.check(architecture)
        found = []
        for name in self._cost_names:
            value = check.latency_ms if name == "latency_ms" else getattr(check.costs, name)
            found.append(float(value or 0.0) * (1.0 if is_lower_limit(name) else -1.0))
        return found

    def _keep_record(self, study: optuna.Study, learner: _Learner, candidates: Candidates) -> None:
        """Log and store which inputs were chosen, whenever that has changed."""
        record = learner.surrogates[0].record()
        if record == learner.record:
            return
        learner.record = record
        ranking = self._ranking or "no ranking"
        full = len(learner.told.full)
        _logger.info(f"{study.study_name}: learned from {full} full trainings, {record}")
        study.set_user_attr(
            RECORD_KEY,
            {
                "begins_with": ranking,
                "candidates": len(candidates),
                "learned_from": len(learner.told.told),
                "record": record,
            },
        )

    def _surrogate(self, candidates: Candidates) -> Surrogate:
        return Surrogate(candidates.inputs, ranking=self._ranking, groups=self._groups)

    def _candidates(self) -> Candidates:
        if self._gathered is None:
            assert isinstance(self._wanted, int)
            rng = derive_rng(self._seed, 0, "candidates")
            self._gathered = gather(
                self._space, self._limits, self._reader, self._wanted, rng, self._mutation
            )
            _logger.info(
                f"{len(self._gathered):,} candidates{', all of the space' * self._gathered.is_whole}; the first "
                f"{self._begin} are chosen by {self._ranking or 'spread alone'}"
            )
        return self._gathered

    def _learner(self, study: optuna.Study) -> _Learner:
        told = self._population(study)
        assert isinstance(told, ToldPopulation)
        return self._learners.setdefault(id(told), _Learner(told))

    def _announce(self, study: optuna.Study, trial: FrozenTrial, architecture: Any) -> None:
        text, storage = str(architecture), study._storage
        self._learner(study).told.claim(trial.number, text)
        storage.set_trial_user_attr(trial._trial_id, PROPOSED_KEY, text)
        publish = getattr(storage, "publish", None)
        if publish is not None:
            publish(trial._trial_id)

    def _make_population(self, study: optuna.Study) -> Population:
        return ToldPopulation(study, self._space, self._reader, self._last_step)


def _differ(candidates: Candidates) -> bool:
    """Return whether a predictor can tell candidates apart."""
    return bool((candidates.inputs.matrix != candidates.inputs.matrix[0]).any())
