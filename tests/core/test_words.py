"""Counts with their nouns."""

from __future__ import annotations

import pytest

from zenopt.core.words import plural, rounded


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
