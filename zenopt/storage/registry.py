"""The distribution of each parameter of a study: every trial must agree with the first one.

Integer and float ranges may differ between trials; kind, log scale and categorical choices may not.
"""

from __future__ import annotations

import sqlalchemy as sa
from optuna.distributions import (
    BaseDistribution,
    check_distribution_compatibility,
    distribution_to_json,
    json_to_distribution,
)

from zenopt.storage.sqlcore import trial_params, trials

# Trials whose parameters are read at first: nearly every parameter of a study appears among the latest few.
_SAMPLE = 16


class DistributionRegistry:
    """Distributions that are known to be in the database, by study and parameter name."""

    def __init__(self) -> None:
        self._known: dict[int, dict[str, BaseDistribution]] = {}
        # The distribution of each parameter that was set last, known to fit, and its text.
        self._latest: dict[tuple[int, str], tuple[BaseDistribution, str]] = {}

    def check(self, study_id: int, name: str, distribution: BaseDistribution) -> bool:
        """Return whether the study is known to have the parameter.

        Raises:
            ValueError: If it has it with an incompatible distribution.
        """
        known = self._known.get(study_id, {}).get(name)
        if known is None:
            return False
        if known is not distribution and known != distribution:
            check_distribution_compatibility(known, distribution)
        return True

    def add(self, study_id: int, name: str, distribution: BaseDistribution) -> None:
        """Note that the database has the parameter."""
        self._known.setdefault(study_id, {}).setdefault(name, distribution)

    def forget(self, study_id: int) -> None:
        """Forget a deleted study."""
        self._known.pop(study_id, None)
        self._latest = {key: value for key, value in self._latest.items() if key[0] != study_id}

    def read_latest(self, connection: sa.Connection, study_id: int) -> None:
        """Learn the parameters of the study's latest trials, once."""
        if study_id in self._known:
            return
        latest = (
            sa.select(trials.c.trial_id)
            .where(trials.c.study_id == study_id)
            .order_by(trials.c.trial_id.desc())
            .limit(_SAMPLE)
        )
        ids = list(connection.execute(latest).scalars())
        query = sa.select(trial_params.c.param_name, trial_params.c.distribution_json)
        rows = connection.execute(query.where(trial_params.c.trial_id.in_(ids))).all()
        found = {row[0]: row[1] for row in rows}
        known = self._known.setdefault(study_id, {})
        for name, text in found.items():
            known.setdefault(name, json_to_distribution(text))

    def read(self, connection: sa.Connection, study_id: int, name: str) -> None:
        """Look one parameter up in the whole study."""
        query = (
            sa.select(trial_params.c.distribution_json)
            .join(trials, trials.c.trial_id == trial_params.c.trial_id)
            .where(trials.c.study_id == study_id, trial_params.c.param_name == name)
            .limit(1)
        )
        text = connection.execute(query).scalar()
        if text is not None:
            self.add(study_id, name, json_to_distribution(text))

    def known_text(self, study_id: int, name: str, distribution: BaseDistribution) -> str | None:
        """Return the distribution as JSON if the study is known to have the parameter, else None.

        Raises:
            ValueError: If it has it with an incompatible distribution.
        """
        latest = self._latest.get((study_id, name))
        # Every suggestion brings a new object; nearly always it equals the one before, and this is quick to see.
        if (
            latest is not None
            and type(latest[0]) is type(distribution)
            and latest[0].__dict__ == distribution.__dict__
        ):
            return latest[1]
        if not self.check(study_id, name, distribution):
            return None
        text = distribution_to_json(distribution)
        self._latest[study_id, name] = (distribution, text)
        return text
