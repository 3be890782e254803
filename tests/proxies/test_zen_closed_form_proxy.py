"""The closed form behind the proxy interface."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from zenopt.core.errors import ProxyError
from zenopt.proxies import score_architecture
from zenopt.spaces.chain.architecture import Architecture
from zenopt.spaces.chain.closed_form import closed_form_zen

GOLDENS = json.loads((Path(__file__).parents[1] / "fixtures" / "zen_scores.json").read_text())


def test_it_is_the_closed_form_at_the_asked_batch() -> None:
    architecture = Architecture.parse(GOLDENS[9]["structure"])
    for batch in (8, 16, 64):
        score = score_architecture(
            architecture, "zen-closed-form", resolution=32, batch_size=batch, repeats=3
        )
        assert set(score.values) == {closed_form_zen(architecture, 32, batch_size=batch)}
        assert score.std == 0.0


def test_it_agrees_with_the_measured_score() -> None:
    golden = GOLDENS[0]
    score = score_architecture(
        Architecture.parse(golden["structure"]),
        "zen-closed-form",
        resolution=32,
        batch_size=golden["batch_size"],
    )
    assert score.mean == pytest.approx(golden["mean"], rel=0.03)


def test_links_and_gates_are_not_described() -> None:
    architecture = Architecture.parse(GOLDENS[0]["structure"])
    for options in ({"residual": True}, {"use_se": True}):
        with pytest.raises(ProxyError, match="without residual links and without squeeze-excite"):
            score_architecture(architecture, "zen-closed-form", resolution=32, **options)
