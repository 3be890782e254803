"""Studies for the tests of reports: evolved on the closed form alone, written straight into Optuna's tables."""

from __future__ import annotations

import datetime
import json
import random
from typing import Any

import optuna
import sqlalchemy as sa
from optuna.distributions import distribution_to_json
from optuna.trial import TrialState

from zenopt.spaces.chain.closed_form import closed_form_zen
from zenopt.storage import open_storage
from zenopt.storage.tables import engine_of, system_attrs, trial_params, trial_values, trials, user_attrs
from zenopt.study.spec import StudySpec
from zenopt.study.study import join_study, load_study

START = datetime.datetime(2026, 1, 2, 3, 4, 5)
_CHUNK = 2000


def make_study(
    url: str,
    name: str,
    count: int,
    *,
    preset: str = "cifar-params1m",
    seed: int = 0,
    overrides: tuple[str, ...] = (),
) -> optuna.Study:
    """Add a study of ``count`` trials: an evolution on the closed form, its value a noisy copy of it.

    One in 12 trials is over budget (pruned), one in 200 failed, the last one is running.
    """
    storage = open_storage(url)
    spec = join_study(StudySpec.load(preset, overrides), storage, name, "cpu")
    study = load_study(storage, name)
    engine = engine_of(storage)
    assert engine is not None
    evolution = _Evolution(spec, random.Random(seed))
    for start in range(0, count, _CHUNK):
        rows = [evolution.trial(number, count) for number in range(start, min(start + _CHUNK, count))]
        _insert(engine, study._study_id, rows)
    return study


class _Evolution:
    def __init__(self, spec: StudySpec, rng: random.Random) -> None:
        self.spec, self.rng = spec, rng
        self.space, self.limits = spec.build_space(), spec.limits()
        self.initial = self.limits.closest_fit(self.space, self.space.parse(self.space.initial))
        self.population: list[tuple[float, Any]] = []
        self.time = START

    def trial(self, number: int, count: int) -> dict[str, Any]:
        rng = self.rng
        over_budget = number % 12 == 7
        while True:
            parent = rng.choice(self.population)[1] if len(self.population) > 10 else self.initial
            child = self.space.mutate(parent, rng)
            check = None if child is None else self.limits.check(child)
            if check is not None and check.is_feasible != over_budget:
                break
        closed_form = closed_form_zen(child, self.spec.resolution)
        self.time += datetime.timedelta(seconds=rng.expovariate(2.0))
        attrs = {
            "structure": str(child),
            "closed_form": closed_form,
            **{key: getattr(check.costs, key) for key in ("params", "macs", "layers", "convs")},
            "worker": f"elsewhere:{1 + number % 3}:0",
        }
        if self.spec.budget.counting == "zennas":
            attrs["zennas_params"], attrs["zennas_flops"] = (
                check.costs.zennas_params,
                check.costs.zennas_flops,
            )
        if check.latency_ms is not None:
            attrs["latency_ms"] = check.latency_ms
        row: dict[str, Any] = {
            "number": number,
            "start": self.time,
            "end": self.time + datetime.timedelta(seconds=1.2),
            "attrs": attrs,
            "violations": check.violations,
            "params": self.space.encode(child),
            "distributions": self.space.distributions,
            "values": (),
        }
        if number == count - 1:
            return {
                **row,
                "state": TrialState.RUNNING,
                "end": None,
                "params": {},
                "attrs": {"worker": "elsewhere:1:0"},
            }
        if over_budget:
            return {**row, "state": TrialState.PRUNED}
        if number % 200 == 150:
            attrs["error"] = "score is not finite: nan"
            return {**row, "state": TrialState.FAIL}
        value = closed_form + rng.gauss(0.0, 0.8)
        attrs.update(score_mean=value, score_std=0.0, score_batch=16, score_seconds=1.2, device="cpu")
        self.population.append((value, child))
        if len(self.population) > 600:
            self.population = sorted(self.population, key=lambda pair: -pair[0])[:512]
        further = tuple(float(attrs[name]) for name in self.spec.objectives[1:])
        return {**row, "state": TrialState.COMPLETE, "values": (value, *further)}


def _insert(engine: sa.Engine, study_id: int, rows: list[dict[str, Any]]) -> None:
    texts: dict[str, Any] = {}
    with engine.begin() as connection:
        first = connection.execute(sa.select(sa.func.max(trials.c.trial_id))).scalar() or 0
        ids = range(first + 1, first + 1 + len(rows))
        connection.execute(
            sa.insert(trials),
            [
                {
                    "trial_id": trial_id,
                    "number": row["number"],
                    "study_id": study_id,
                    "state": row["state"],
                    "datetime_start": row["start"],
                    "datetime_complete": row["end"],
                }
                for trial_id, row in zip(ids, rows, strict=True)
            ],
        )
        values, attributes, hidden, params = [], [], [], []
        for trial_id, row in zip(ids, rows, strict=True):
            for objective, value in enumerate(row["values"]):
                values.append(
                    {"trial_id": trial_id, "objective": objective, "value": value, "value_type": "FINITE"}
                )
            for key, value in row["attrs"].items():
                attributes.append({"trial_id": trial_id, "key": key, "value_json": json.dumps(value)})
            for key, value in row["violations"].items():
                hidden.append(
                    {"trial_id": trial_id, "key": f"constraints:{key}", "value_json": json.dumps(value)}
                )
            hidden.append(
                {
                    "trial_id": trial_id,
                    "key": "constraints",
                    "value_json": json.dumps(list(row["violations"].values())),
                }
            )
            for key, value in row["params"].items():
                distribution = row["distributions"][key]
                text = texts.setdefault(key, distribution_to_json(distribution))
                params.append(
                    {
                        "trial_id": trial_id,
                        "param_name": key,
                        "param_value": distribution.to_internal_repr(value),
                        "distribution_json": text,
                    }
                )
        for table, content in (
            (trial_values, values),
            (user_attrs, attributes),
            (system_attrs, hidden),
            (trial_params, params),
        ):
            if content:
                connection.execute(sa.insert(table), content)
