"""What a report's page holds in packed form, and trainings for the tests of reports."""

from __future__ import annotations

import base64
import gzip
import json
import re
from typing import Any

import optuna
from optuna.trial import TrialState

from zenopt.verify.linked import LINK_KEY


def unpack(page: str, name: str = "content") -> str:
    """Return the text that a page holds packed under a name."""
    found = re.search(rf'id="{name}">([^<]*)</script>', page)
    assert found is not None
    return gzip.decompress(base64.b64decode(found[1])).decode("utf-8")


def content_of(page: str) -> dict[str, Any]:
    """Return the figures and trials of a page."""
    return json.loads(unpack(page))


def figures_of(page: str) -> dict[str, Any]:
    """Return the figures of a page by key."""
    return content_of(page)["figures"]


def make_trainings(study: optuna.Study, count: int = 5, *, has_winner: bool = True) -> optuna.Study:
    """Add a second stage to a study: ``count`` networks of two classes, the first trained with two seeds, one pruned.

    The third best network by score trains best.
    """
    best = sorted(
        (trial for trial in study.trials if trial.state == TrialState.COMPLETE),
        key=lambda trial: -trial.value,
    )[:count]
    linked = optuna.create_study(
        storage=study._storage, study_name=f"{study.study_name}-trained", direction="maximize"
    )
    linked.set_user_attr(LINK_KEY, study.study_name)
    accuracies = [60.0 - abs(index - 2) for index in range(count)]
    for index, trial in enumerate(best):
        for seed in range(2 if index == 2 else 1):
            is_pruned = index == count - 1
            curve = {epoch: accuracies[index] - 10.0 / epoch + seed for epoch in (1, 2, 3)}
            curve = {1: curve[1]} if is_pruned else {**curve, 3: accuracies[index] + seed}
            linked.add_trial(
                optuna.trial.create_trial(
                    state=TrialState.PRUNED if is_pruned else TrialState.COMPLETE,
                    value=None if is_pruned else curve[3],
                    intermediate_values=curve,
                    user_attrs={
                        "structure": trial.user_attrs["structure"],
                        "label": f"class {index % 2}",
                        "training_seed": seed,
                        "learning_rate": 0.5,
                        "epochs": 3,
                        "data": "imagefolder:DATA (0.1 held back)",
                        "seconds": 12.0,
                        # A training's own score is its accuracy.
                        "score_mean": None if is_pruned else curve[3],
                        **{
                            key: trial.user_attrs[key]
                            for key in ("params", "macs", "convs", "layers", "closed_form")
                        },
                    },
                )
            )
    if has_winner:
        winner = {
            "candidate": {"structure": best[2].user_attrs["structure"], "label": "class 0", "facts": {}},
            "top1": [60.0, 61.0],
            "pruned": 0,
            "learning_rate": 0.5,
        }
        content = {
            "verified": [winner],
            "weights": "runs/last.pt",
            "test_top1": 59.25,
            "recipe": {},
            "data": "imagefolder:DATA",
        }
        linked.set_user_attr("zenopt:winner", content)
    return linked
