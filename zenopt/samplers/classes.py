"""Search in several classes at once: tighter budgets within one, so that a study knows good networks of each.

The Zen-score rises with depth, so the best of a study are all of a kind; trained for real, shallower and wider ones are
often better. A study with classes keeps an evolution for each of them, and what is compared afterwards, by training,
is the best of every class.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from optuna.samplers import BaseSampler
from optuna.trial import TrialState

from zenopt.core.costs import Costs
from zenopt.latency.limits import Limits
from zenopt.samplers.zen import ZenSampler

if TYPE_CHECKING:
    import optuna
    from optuna.distributions import BaseDistribution
    from optuna.trial import FrozenTrial


class ClassSampler(BaseSampler):
    """Zen-NAS's evolution in each of several classes, which take turns by trial number.

    The parents of a class are the best feasible trials that keep its limits, whoever proposed them. No structure is
    proposed twice, whatever the class.

    Args:
        space:
            As for :class:`~zenopt.samplers.ZenSampler`.
        classes:
            The limits of each class.
        options:
            Keyword arguments of :class:`~zenopt.samplers.ZenSampler`, the same for all.

    Example:
        .. code-block:: python

            classes = [Limits(Budget(params=1e6, convs=cap), 32) for cap in (12, 24, 48)]
            study = optuna.create_study(direction="maximize", sampler=ClassSampler(space, classes))
    """

    def __init__(self, space: Any, classes: Sequence[Limits], **options: Any) -> None:
        costs: dict[str, Costs] = {}

        def counted(structure: str) -> Costs:
            if structure not in costs:
                costs[structure] = classes[0].count(space.parse(structure))
            return costs[structure]

        self._samplers = [
            ZenSampler(space, limits, parents=_keeps(limits, counted), **options) for limits in classes
        ]

    def infer_relative_search_space(
        self, study: optuna.Study, trial: FrozenTrial
    ) -> dict[str, BaseDistribution]:
        """Return the whole space; the same in every trial."""
        return self._of(trial).infer_relative_search_space(study, trial)

    def sample_relative(
        self, study: optuna.Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        """Return the parameters of an architecture of the class whose turn it is."""
        return self._of(trial).sample_relative(study, trial, search_space)

    def sample_independent(
        self, study: optuna.Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Any:
        """Draw parameters that are not the space's, uniformly."""
        return self._of(trial).sample_independent(study, trial, param_name, param_distribution)

    def after_trial(
        self,
        study: optuna.Study,
        trial: FrozenTrial,
        state: TrialState,
        values: Sequence[float] | None,
    ) -> None:
        """Name the trial's structure where the objective did not."""
        self._of(trial).after_trial(study, trial, state, values)

    def reseed_rng(self) -> None:
        """Do nothing: randomness derives from the seed and the trial number."""

    def _of(self, trial: FrozenTrial) -> ZenSampler:
        return self._samplers[trial.number % len(self._samplers)]


def _keeps(limits: Limits, counted: Callable[[str], Costs]) -> Callable[[str], bool]:
    # Latency was settled when the trial ran; a class is a matter of costs.
    return lambda structure: limits.keeps(counted(structure))
