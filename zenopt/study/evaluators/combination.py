"""Several proxies as one value: ranks of a candidate among reference architectures of the space.

Scores of different proxies have different units, so they are compared by ranks; a rank needs others to be ranked among.
Those are random architectures within the budget, the same ones for every worker of a study.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cached_property
from typing import TYPE_CHECKING, Any

from zenopt.core.errors import BudgetError, ProxyError, SpecError
from zenopt.core.seeds import derive_rng, derive_seed
from zenopt.proxies.catalogue import COMBINATIONS

if TYPE_CHECKING:
    from zenopt.study.spec import StudySpec

_DRAWS = 50

ScoreOf = Callable[[Any, str, int], "float | None"]


def parts_of(spec: StudySpec) -> dict[str, float] | None:
    """Return the proxies of a spec's combination with their weights; ``None`` if its proxy is a single one.

    Raises:
        SpecError: If a sum has no parts.
    """
    name = spec.proxy.name
    if name not in COMBINATIONS:
        if spec.proxy.parts:
            raise SpecError(
                f"proxy.parts is for the combinations {', '.join(COMBINATIONS)}, not for the proxy {name}."
            )
        return None
    parts = dict(spec.proxy.parts) or COMBINATIONS[name]
    if not parts:
        raise SpecError("proxy.name sum needs proxy.parts, e.g. {zen: 1, synflow-log: 0.5}.")
    return parts


class Combination:
    """Values of a spec's combination.

    Args:
        spec:
            The study spec.
        parts:
            Proxies with their weights; a vote and AZ-NAS's sum take no notice of weights.
        score_of:
            Called with an architecture, a proxy's name and a seed; returns its score, or ``None`` where it fails.
    """

    def __init__(self, spec: StudySpec, parts: Mapping[str, float], score_of: ScoreOf) -> None:
        self._spec = spec
        self._parts = dict(parts)
        self._score_of = score_of

    @cached_property
    def _reference(self) -> dict[str, list[float | None]]:
        """Scores of the reference architectures by proxy."""
        # Imported late: it needs optuna and numpy, and reading a spec does not.
        from zenopt.samplers.guided import draw_candidates

        space, limits = self._spec.build_space(), self._spec.limits()
        # Not the study's seed, which may differ between runs of one study.
        rng = derive_rng(0, 0, "reference")
        try:
            found = draw_candidates(space, limits, self._spec.proxy.reference, rng, draws=_DRAWS)
        except BudgetError:
            found = []
        if len(found) < 2:
            raise SpecError("A combination of proxies needs at least two architectures within the budget.")
        seed = derive_seed(0, 0, "reference")
        return {
            name: [self._score_of(architecture, name, seed) for architecture in found] for name in self._parts
        }

    def value(self, architecture: Any, seed: int) -> float:
        """Return the value of an architecture; higher is better.

        Raises:
            ProxyError: If every one of the proxies fails.
        """
        # Imported late: it needs numpy, and reading a spec does not.
        from zenopt.predictors.ensemble import az_nas, vote, weighted_ranks

        own = {name: self._score_of(architecture, name, seed) for name in self._parts}
        if all(score is None for score in own.values()):
            raise ProxyError(f"All of {', '.join(own)} failed on {architecture}.")
        table = {name: [*scores, own[name]] for name, scores in self._reference.items()}
        if self._spec.proxy.name == "vote":
            return float(vote(table, list(table))[-1])
        if self._spec.proxy.name == "az-nas":
            return float(az_nas(table, list(table))[-1])
        return float(weighted_ranks(table, self._parts)[-1])
