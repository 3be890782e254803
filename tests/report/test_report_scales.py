from __future__ import annotations

import numpy as np
import pytest

from zenopt.report.figures import score_scale
from zenopt.report.reading import StudyData
from zenopt.report.scales import log_ticks, robust_scale, short


def test_one_outlier_does_not_stretch_the_axis() -> None:
    values = np.append(np.linspace(80.0, 93.0, 99), -400.0)
    scale = robust_scale(values)
    assert scale is not None
    assert 75 < scale.low < 80 and 93 < scale.high < 96
    assert scale.outside(values).sum() == 1
    drawn = scale.inside(values)
    assert scale.low < drawn[-1] < 80 and (drawn[:-1] == values[:-1]).all()


def test_at_most_one_in_twenty_is_left_outside() -> None:
    values = np.concatenate((np.linspace(80.0, 93.0, 90), np.full(10, -400.0)))
    scale = robust_scale(values)
    assert scale is not None and not scale.outside(values).any()


def test_what_must_be_shown_is_shown() -> None:
    scale = robust_scale(np.append(np.linspace(0.0, 1.0, 99), 50.0), keep=(20.0,))
    assert scale is not None and 20 < scale.high < 25
    assert robust_scale(np.array([np.nan])) is None
    flat = robust_scale(np.full(30, 3.0))
    assert flat is not None and flat.low < 3.0 < flat.high


def test_a_study_with_an_outlier(data_with_outlier: StudyData) -> None:
    scale = score_scale(data_with_outlier)
    values = data_with_outlier.values[data_with_outlier.scored]
    assert scale is not None and values.min() == -1000.0
    assert scale.low > 0 and scale.high > values.max()


@pytest.fixture
def data_with_outlier(study) -> StudyData:
    from zenopt.report.reading import read_study

    data = read_study(study, 0.0)
    values = data.values.copy()
    values[np.flatnonzero(data.scored)[5]] = -1000.0
    return data.__class__(**{**data.__dict__, "values": values})


@pytest.mark.parametrize(
    ("low", "high", "texts"),
    [
        (120_000, 2_400_000, ["200k", "500k", "1M", "2M"]),
        (20, 300, ["20", "50", "100", "200"]),
        (100, 260, ["100", "150", "200"]),
        (1, 50_000, ["1", "10", "100", "1k", "10k"]),
    ],
)
def test_logarithmic_ticks_are_full_numbers(low: float, high: float, texts: list[str]) -> None:
    axis = log_ticks(low, high)
    assert axis["ticktext"] == texts
    assert all(low <= tick <= high for tick in axis["tickvals"])


def test_short() -> None:
    assert [short(value) for value in (200_000, 1.5e6, 0.25, 999, 2e9, 999_960)] == [
        "200k",
        "1.5M",
        "0.25",
        "999",
        "2G",
        "1M",
    ]
