"""The zero-cost-nas measures against values of the published release."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from zero_cost_nets import GOLDENS, batch, build

from zenopt.proxies import evaluate
from zenopt.proxies.evaluation import ZERO_COST

FAST = ("tiny_vgg", "tiny_resnet", "tiny_mobile", "all_none", "sparse")
ALL = [golden for group in GOLDENS.values() for golden in group]
#: Where float32 rounding is larger (second derivatives), or there is none to speak of (synflow is in float64).
TOLERANCE = {"grasp": 1e-3, "synflow": 1e-9, "synflow_bn": 1e-9}


@pytest.mark.parametrize(
    "golden",
    [
        pytest.param(golden, id=golden["name"], marks=() if golden["name"] in FAST else pytest.mark.slow)
        for golden in ALL
    ],
)
def test_values_equal_the_release(golden: dict[str, Any]) -> None:
    images, labels = batch()
    network = build(golden["name"])
    # A first forward, on a copy's behalf: batch statistics do not depend on earlier batches.
    logits = network(images)
    assert logits[0].tolist() == pytest.approx(golden["logits_row0"], rel=1e-3, abs=1e-4)
    loss = torch.nn.functional.cross_entropy(logits, labels).item()
    assert loss == pytest.approx(golden["loss_train_mode"], rel=1e-4)
    results = evaluate(network, images, labels, ZERO_COST)
    for name, expected in golden["measures"].items():
        result = results[name]
        if expected is None:
            assert result.value is None and result.error, name
        elif golden["name"] == "all_pool" and name == "jacob_cov":
            # Decided by eigenvalues that are rounding.
            assert result.value is not None and result.value < -1e4
        else:
            assert result.value == pytest.approx(expected, rel=TOLERANCE.get(name, 1e-4)), name


def test_synflow_log_is_the_logarithm_of_synflow() -> None:
    images, _ = batch()
    results = evaluate(build("best_c10"), images[:1], None, ["synflow", "synflow-log"])
    assert results["synflow"].value is not None and results["synflow-log"].value is not None
    assert results["synflow-log"].value == pytest.approx(math.log(results["synflow"].value), abs=1e-9)
    dead = evaluate(build("all_none"), images[:1], None, ["synflow", "synflow-log"])
    assert dead["synflow"].value == 0.0
    assert dead["synflow-log"].error is not None and "no finite flow" in dead["synflow-log"].error
