"""Fill a study with finished trials by bulk insert: 20,000 trials of 40 parameters in seconds."""

from __future__ import annotations

import datetime
import json
import random

import optuna
import sqlalchemy as sa
from optuna.distributions import FloatDistribution, IntDistribution, distribution_to_json
from optuna.study import StudyDirection
from optuna.trial import TrialState

from zenopt.storage import open_storage
from zenopt.storage.tables import (
    ValueType,
    engine_of,
    system_attrs,
    trial_params,
    trial_values,
    trials,
    user_attrs,
)

FLOATS, INTS, ATTRS = 20, 20, 5
SPACE: dict[str, FloatDistribution | IntDistribution] = {
    **{f"float{i}": FloatDistribution(0.0, 1.0) for i in range(FLOATS)},
    **{f"int{i}": IntDistribution(8, 512, log=True) for i in range(INTS)},
}
_BATCH = 1000


def structure_of(number: int) -> str:
    """Return a text as long as a structure string usually is, unique to the number."""
    block = "SuperResK1K5K1(120,192,2,16,3)"
    return f"SuperConvK3BNRELU(3,{8 + number},1,1)" + block * 6


def fill(url: str, study_name: str, count: int) -> None:
    """Create a study with ``count`` COMPLETE trials of 40 parameters, 5 user attributes and a constraint.

    Args:
        url:
            Storage URL of a SQL database.
        study_name:
            Name of the new study.
        count:
            Number of trials.
    """
    storage = open_storage(url)
    study_id = storage.create_new_study([StudyDirection.MAXIMIZE], study_name)
    engine = engine_of(storage)
    assert engine is not None
    texts = {name: distribution_to_json(distribution) for name, distribution in SPACE.items()}
    now = datetime.datetime.now(datetime.timezone.utc).replace(tzinfo=None)
    chance = random.Random(0)
    with engine.begin() as connection:
        first = (connection.execute(sa.select(sa.func.max(trials.c.trial_id))).scalar() or 0) + 1
        for start in range(0, count, _BATCH):
            numbers = range(start, min(start + _BATCH, count))
            rows: dict[sa.Table, list[dict[str, object]]] = {
                table: [] for table in (trials, trial_values, trial_params, user_attrs, system_attrs)
            }
            for number in numbers:
                trial_id = first + number
                rows[trials].append(
                    {
                        "trial_id": trial_id,
                        "number": number,
                        "study_id": study_id,
                        "state": TrialState.COMPLETE,
                        "datetime_start": now,
                        "datetime_complete": now,
                    }
                )
                rows[trial_values].append(
                    {
                        "trial_id": trial_id,
                        "objective": 0,
                        "value": chance.gauss(50.0, 10.0),
                        "value_type": ValueType.FINITE,
                    }
                )
                for name, text in texts.items():
                    value = chance.random() if name.startswith("float") else float(chance.randint(8, 512))
                    rows[trial_params].append(
                        {
                            "trial_id": trial_id,
                            "param_name": name,
                            "param_value": value,
                            "distribution_json": text,
                        }
                    )
                attrs = {"structure": structure_of(number), "worker": "elsewhere:1:1"}
                attrs.update({f"attr{i}": chance.random() for i in range(ATTRS - 1)})
                rows[user_attrs] += [
                    {"trial_id": trial_id, "key": key, "value_json": json.dumps(value)}
                    for key, value in attrs.items()
                ]
                violation = chance.uniform(-1.0, 0.2)
                rows[system_attrs] += [
                    {"trial_id": trial_id, "key": "constraints", "value_json": json.dumps([violation])},
                    {"trial_id": trial_id, "key": "constraints:params", "value_json": json.dumps(violation)},
                ]
            for table, values in rows.items():
                connection.execute(sa.insert(table), values)
        if engine.dialect.name == "postgresql":
            # Ids were given, not drawn: the sequence must be told.
            connection.execute(
                sa.text("SELECT setval('trials_trial_id_seq', (SELECT MAX(trial_id) FROM trials))")
            )
    if engine.dialect.name == "postgresql":
        with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
            # What the server's own housekeeping does a minute later: statistics for its query plans.
            connection.execute(sa.text("VACUUM ANALYZE"))
    engine.dispose()


if __name__ == "__main__":
    import sys

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    fill(sys.argv[1], sys.argv[2], int(sys.argv[3]))
