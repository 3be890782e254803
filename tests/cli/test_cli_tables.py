"""Tables on terminals of any width."""

from __future__ import annotations

import pytest

from zenopt.cli import options

ROWS = [("x" * 70, "144x32x32", "26,532"), ("stem", "108x32x32", "3,132")]


@pytest.mark.parametrize("columns", [60, 80, 10_000])
def test_long_names_before_numbers_are_broken(columns: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(options, "columns_seen", lambda: columns)
    lines = options.table(ROWS, ("block", "output", "params")).splitlines()
    assert max(map(len, lines)) <= columns
    first, *others = (line.split() for line in lines[2:])
    assert first[1:] == ["144x32x32", "26,532"] and others[-1] == ["stem", "108x32x32", "3,132"]
    assert first[0] + "".join(others[0] if columns < 100 else []) == "x" * 70
    assert len(lines) == (5 if columns < 100 else 4)


def test_prose_in_the_last_column_is_broken_at_words(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(options, "columns_seen", lambda: 50)
    lines = options.table([("name", "a word and another " * 3)], ("what", "meaning")).splitlines()
    assert max(map(len, lines)) <= 50 and all(line.startswith(" " * 6) for line in lines[3:])
    assert " ".join(line[6:].strip() for line in lines[2:]).split() == ["a", "word", "and", "another"] * 3
