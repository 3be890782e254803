"""A predictor of accuracy and what it would train next: all parts of this room behind one class.

    surrogate = Surrogate(all_inputs, ranking="log macs")    # what columns mean: their spread over candidates
    first = surrogate.begin(all_inputs, 4, rng)              # nothing told yet
    surrogate.learn(Observations.of(inputs, texts, accuracies))
    chosen = surrogate.propose(all_inputs, all_texts, count=2, pending=running)
    print(surrogate.record())                                # which inputs it reads, and the evidence

What it proposes depends on the told trainings and their order alone: hyperparameters are fitted from the first
trainings, up to the last milestone, from the same start. A search that was interrupted goes on as if it had not been.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Hashable, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from zenopt.core.errors import PredictorError
from zenopt.predictors.acquisition import gain_of_repeats
from zenopt.predictors.beginning import begin_in_turn
from zenopt.predictors.evidence import Fit, choose, make_warps, warp
from zenopt.predictors.inputs import Inputs, Scaling, check_groups
from zenopt.predictors.intervals import interval, interval_factor, value_moments
from zenopt.predictors.kernels import Sample
from zenopt.predictors.observations import Observations
from zenopt.predictors.paths import PATHS
from zenopt.predictors.pool import Pool
from zenopt.predictors.process import Process
from zenopt.predictors.ranking import Ranking
from zenopt.predictors.view import View
from zenopt.predictors.warp import Warp

Array = NDArray[np.float64]

#: Hyperparameters are fitted anew when there is this much more to learn from.
GROWTH = 1.2
#: Groups of inputs that are read only where evidence is for them: they help where much is known of cells.
ENTERING = (PATHS,)
#: Trainings that hyperparameters are fitted to at most; predictions use all.
FITTED = 300


@dataclass(frozen=True)
class Prediction:
    """What is expected of networks, in units of the values.

    Attributes:
        mean, deviation: Of the true value: the mean of all trainings there could be.
        low, high: Interval of the true value.
        training_low, training_high: Interval of what one future training will show.
    """

    mean: Array = field(repr=False)
    deviation: Array = field(repr=False)
    low: Array = field(repr=False)
    high: Array = field(repr=False)
    training_low: Array = field(repr=False)
    training_high: Array = field(repr=False)


class Surrogate:
    """Learn from trainings and proposes further ones.

    Args:
        reference:
            Candidates, or a random draw of them: inputs are standardised by their spread.
        ranking:
            Input whose larger values are thought better before anything is trained (a closed form, MACs, params), or
            more, see :mod:`zenopt.predictors.ranking`. How far the first is to be trusted is learned; :meth:`begin`
            asks each of them in turn.
        selects:
            Whether evidence decides which groups of inputs are read.
        groups:
            Groups that it may read; all if not given.
    """

    def __init__(
        self,
        reference: Inputs,
        *,
        ranking: str | None = None,
        selects: bool = True,
        groups: Sequence[str] = (),
    ) -> None:
        check_groups(groups, reference.groups)
        self._scaling = Scaling.of(reference)
        self._rankings = () if ranking is None else Ranking.all_of(reference, ranking)
        self._selects = selects
        self._groups = tuple(n for n in self._scaling.group_names if not groups or n in groups)
        if not self._groups:
            raise PredictorError(
                f"Networks do not differ in {', '.join(groups)}: there is nothing to learn from."
            )
        self._ids: dict[Hashable, int] = {}
        self._told: Observations | None = None
        self._fitted: tuple[int, tuple[float, ...]] | None = None
        self._fit: Fit | None = None
        self._process: Process | None = None
        self._warps: tuple[Warp, ...] = ()
        self._pool: Pool | None = None
        self._pool_of: Inputs | None = None

    # -- learning ---------------------------------------------------------------------------------------------------

    def learn(self, told: Observations) -> None:
        """Take in all trainings so far; earlier ones must keep their places for the work on them to be kept.

        Raises:
            PredictorError: If there are none.
        """
        count = len(told)
        if not count:
            raise PredictorError("Nothing was trained yet: begin() says with what to begin.")
        shares = tuple(sorted({*told.shares.tolist(), 1.0}))
        sample = self._sample(told.inputs, told.networks, told.shares, 1.0 / told.repeats, shares)
        # A length that was not there at the last milestone is a later milestone.
        complete = 1 + max(int(np.flatnonzero(told.shares == s)[0]) for s in {*told.shares.tolist()})
        target = max(milestone(count), complete)
        same = self._told is not None and _begins_with(told, self._told)
        if not same or self._fitted != (target, shares):
            self._refit(sample, told.values, target, shares)
        assert self._fit is not None and self._process is not None
        shapes = [(own.power, own.margin) for own in self._fit.warps]
        self._warps = make_warps(told.values, sample.levels, shapes)
        known = len(self._process.sample)
        outputs = warp(told.values, sample.levels, self._warps)
        grown = self._process.extend(sample.rows(slice(known, count)), outputs[known:])
        self._process = grown.relabel(outputs)
        self._told = told

    def _refit(self, sample: Sample, values: Array, target: int, shares: tuple[float, ...]) -> None:
        index = _informative(values[:target], FITTED)
        columns = dict(zip(self._groups, self._scaling.columns(self._groups), strict=True))
        fit = choose(
            columns, shares, sample.rows(index), values[index], selects=self._selects, entering=ENTERING
        )
        self._fit, self._fitted, self._pool = fit, (target, shares), None
        outputs = warp(values[:target], sample.levels[:target], fit.warps)
        self._process = Process.condition(
            fit.process.kernel, fit.process.hyper, sample.rows(slice(0, target)), outputs
        )

    def record(self) -> str:
        """Return which inputs and scale were chosen, with the evidence of everything that was compared."""
        return str(self._known()[0])

    @property
    def reads(self) -> tuple[str, ...]:
        """The groups of inputs that were chosen."""
        return self._known()[0].groups

    # -- predicting -------------------------------------------------------------------------------------------------

    def predict(
        self, inputs: Inputs, networks: Sequence[Hashable] | None = None, *, probability: float = 0.9
    ) -> Prediction:
        """Predict full trainings of networks.

        Args:
            inputs:
                Of the networks.
            networks:
                Which they are, so that what was trained is recognised; new ones if not given.
            probability:
                Of the intervals.
        """
        _, process, warps = self._known()
        wanted = self._wanted(inputs, networks)
        mean, deviation = process.predict(wanted)
        noise = process.kernel.noise_variance(wanted, process.hyper)
        factor = interval_factor(process, probability)
        scale = warps[-1]
        true = interval(scale, mean, deviation, factor)
        training = interval(scale, mean, np.sqrt(deviation**2 + noise), factor)
        return Prediction(
            *value_moments(scale, mean, deviation), true.low, true.high, training.low, training.high
        )

    def expected(self, inputs: Inputs) -> Array:
        """Return posterior means of networks on the predictor's own scale: mean 0, deviation 1 over the trainings."""
        _, process, _ = self._known()
        return process.predict(self._wanted(inputs, None))[0]

    def winner(self) -> int:
        """Return the place of the training whose network has the largest posterior mean among those fully trained."""
        told = self._require_told()
        _, process, _ = self._known()
        full = np.flatnonzero(told.shares == 1.0)
        if not len(full):
            raise PredictorError("Nothing was trained to the end yet.")
        return int(full[np.argmax(process.predict(process.sample.rows(full))[0])])

    # -- proposing --------------------------------------------------------------------------------------------------

    def begin(
        self,
        candidates: Inputs,
        count: int,
        rng: np.random.Generator,
        taken: Sequence[int] = (),
    ) -> list[int]:
        """Return candidates to train before anything is known; see :mod:`zenopt.predictors.beginning`."""
        rankings = [
            (own.scores(candidates), None if own.equal is None else candidates.matrix[:, own.equal])
            for own in self._rankings
        ]
        begun = np.asarray(taken, dtype=np.intp)
        return begin_in_turn(self._scaling.apply(candidates), rankings, count, rng, begun)

    def propose(
        self,
        candidates: Inputs,
        networks: Sequence[Hashable],
        count: int = 1,
        *,
        pending: Observations | None = None,
        known: Collection[Hashable] = (),
    ) -> list[int]:
        """Return the candidates of largest expected improvement that were not fully trained.

        Trainings that run count as if they had shown their posterior means: no hope is left there, and little around.

        Args:
            candidates, networks:
                Feasible candidates and which networks they are. Passing the same object again keeps the work on it.
            count:
                How many to propose; each takes the earlier ones for running.
            pending:
                Trainings that run; their values are not read.
            known:
                Networks that are not to be proposed, whatever became of them.
        """
        return self.view(candidates, networks, pending=pending, known=known).propose(count)

    def view(
        self,
        candidates: Inputs,
        networks: Sequence[Hashable],
        *,
        further: tuple[Inputs, Sequence[Hashable]] | None = None,
        pending: Observations | None = None,
        known: Collection[Hashable] = (),
    ) -> View:
        """Return what is expected of candidates; :meth:`propose` and proposals for several objectives read it.

        Args:
            candidates, networks, pending, known:
                As for :meth:`propose`.
            further:
                Candidates of this moment alone, counted on from the others; no work on them is kept.
        """
        told = self._require_told()
        _, process, _ = self._known()
        wanted = self._wanted(candidates, networks)
        if self._pool is None or self._pool_of is not candidates:
            self._pool, self._pool_of = Pool(process, wanted), candidates
        else:
            self._pool.update(process)
        pools = [self._pool]
        if further is not None and len(further[0]):
            beside = self._wanted(*further)
            pools.append(Pool(process, beside))
            wanted, networks = wanted.join(beside), (*networks, *further[1])
        closed = {n for n, share in zip(told.networks, told.shares, strict=True) if share == 1.0}
        closed.update(known)
        if pending is not None and len(pending):
            shares = process.kernel.shares
            # A length that nothing was told of yet stands for the nearest one.
            near = np.array([min(shares, key=lambda own: abs(math.log(own / s))) for s in pending.shares])
            running = self._sample(pending.inputs, pending.networks, near, 1.0 / pending.repeats, shares)
            process = process.extend(running, process.predict(running)[0])
            closed |= set(pending.networks)
        return View(pools, process, wanted, tuple(networks), closed, told.shares == 1.0)

    def repeats(self, count: int = 1, among: Collection[Hashable] | None = None) -> list[int]:
        """Return places of trainings whose networks are worth training once more, a network again and again if need be.

        Each time it is the one by which the expected true value of the winner grows most; each takes the earlier ones
        for running.

        Args:
            count:
                How many.
            among:
                Networks of which one is to win; all that were fully trained if not given.
        """
        told = self._require_told()
        _, process, _ = self._known()
        place: dict[Hashable, int] = {}
        for index in np.flatnonzero(told.shares == 1.0).tolist():
            if among is None or told.networks[index] in among:
                place.setdefault(told.networks[index], index)
        if not place:
            raise PredictorError("Nothing was trained to the end yet.")
        places = list(place.values())
        sample = process.sample.rows(np.array(places, dtype=np.intp))
        # A mean of several trainings is better known; what comes is one training.
        sample = replace(sample, noise=np.ones(len(sample)))
        chosen: list[int] = []
        for _ in range(count):
            mean, covariance = process.covariance(sample)
            gain = gain_of_repeats(mean, covariance, process.kernel.noise_variance(sample, process.hyper))
            best = int(np.argmax(gain))
            chosen.append(places[best])
            row = sample.rows(np.array([best]))
            process = process.extend(row, mean[best : best + 1])
        return chosen

    # -- parts ------------------------------------------------------------------------------------------------------

    def _known(self) -> tuple[Fit, Process, tuple[Warp, ...]]:
        if self._fit is None or self._process is None:
            raise PredictorError("Nothing was learned yet: call learn() first.")
        return self._fit, self._process, self._warps

    def _require_told(self) -> Observations:
        self._known()
        assert self._told is not None
        return self._told

    def _sample(
        self,
        inputs: Inputs,
        networks: Sequence[Hashable],
        lengths: Array,
        noise: Array,
        shares: tuple[float, ...],
    ) -> Sample:
        ids = np.array([self._ids.setdefault(network, len(self._ids)) for network in networks], dtype=np.intp)
        levels = np.array([shares.index(share) for share in lengths.tolist()], dtype=np.intp)
        return Sample(self._scaling.apply(inputs), ids, levels, noise, self._trend(inputs))

    def _wanted(self, inputs: Inputs, networks: Sequence[Hashable] | None) -> Sample:
        """Return full trainings of networks; only those that were told have an identity."""
        count = len(inputs)
        own = [-1] * count if networks is None else [self._ids.get(network, -1) for network in networks]
        assert self._process is not None
        last = len(self._process.kernel.shares) - 1
        return Sample(
            self._scaling.apply(inputs),
            np.array(own, dtype=np.intp),
            np.full(count, last),
            np.ones(count),
            self._trend(inputs),
        )

    def _trend(self, inputs: Inputs) -> Array:
        return self._rankings[0].scores(inputs) if self._rankings else np.zeros(len(inputs))


def milestone(count: int) -> int:
    """Return the largest number of trainings, up to ``count``, at which hyperparameters are fitted."""
    size = 1
    while (larger := max(size + 1, math.ceil(size * GROWTH))) <= count:
        size = larger
    return size


def _informative(values: Array, limit: int) -> NDArray[np.intp]:
    """Return places of at most ``limit`` values: the better half of the limit, the others evenly from the rest."""
    if len(values) <= limit:
        return np.arange(len(values))
    order = np.argsort(-values, kind="stable")
    rest = order[limit // 2 :]
    even = rest[np.linspace(0, len(rest) - 1, limit - limit // 2).round().astype(np.intp)]
    return np.sort(np.concatenate([order[: limit // 2], even]))


def _begins_with(told: Observations, before: Observations) -> bool:
    count = len(before)
    return (
        len(told) >= count
        and told.networks[:count] == before.networks
        and bool((told.values[:count] == before.values).all())
        and bool((told.shares[:count] == before.shares).all())
    )
