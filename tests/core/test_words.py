"""Counts with their nouns."""

from __future__ import annotations

import pytest

from zenopt.core.words import plural, rate, rounded


@pytest.mark.parametrize(
    ("count", "noun", "text"),
    [
        (1, "trial", "1 trial"),
        (0, "trial", "0 trials"),
        (1200, "trial", "1,200 trials"),
        (1, "class", "1 class"),
        (2, "class", "2 classes"),
        (2, "epoch", "2 epochs"),
        (3, "batch", "3 batches"),
        (2, "study", "2 studies"),
        (2, "day", "2 days"),
    ],
)
def test_plural(count: int, noun: str, text: str) -> None:
    assert plural(count, noun) == text


def test_rounded() -> None:
    assert rounded(129.3310546875) == "129.33" and rounded(12345) == "12,345" and rounded(True) == "True"


@pytest.mark.parametrize(
    ("count", "seconds", "words"),
    [
        (133, 67.2, ("2.0", "second")),
        (40_000, 10.0, ("4,000.0", "second")),
        (6, 313.6, ("1.1", "minute")),
        (2, 3600.0, ("2", "hour")),
        (1, 40_000.0, ("0.09", "hour")),
        (0, 5.0, ("0.0", "second")),
        (3, 0.0, ("0.0", "second")),
    ],
)
def test_what_is_rare_has_a_rate_that_is_not_zero(
    count: float, seconds: float, words: tuple[str, str]
) -> None:
    assert rate(count, seconds) == words
