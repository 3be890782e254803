"""Foreign text is shown escaped, on one line, short."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from zenopt.core.errors import ZenoptError
from zenopt.core.text import one_line, printable, printable_lines, quoted, quoted_list, shortened_path


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain über 网 😀", "plain über 网 😀"),
        ("a\x1b[2Jb", r"a\x1b[2Jb"),
        ("a\nb\rc\td", r"a\nb\rc\td"),
        ("\x9b31m", r"\x9b31m"),
        ("gnp\u202e.exe", r"gnp\u202e.exe"),
        ("\udcc3", r"\udcc3"),
        ("\x00", r"\x00"),
    ],
)
def test_what_a_terminal_would_obey_is_escaped(text: str, shown: str) -> None:
    assert printable(text) == shown
    assert str(ZenoptError(f"Study {text}")) == f"Study {shown}"


def test_line_breaks_of_ours_stay() -> None:
    assert printable_lines("a\n\x1bb") == "a\n\\x1bb"


@given(st.text())
def test_every_text_becomes_printable(text: str) -> None:
    assert printable(text).isprintable()
    assert one_line(text).isprintable()


def bomb() -> Any:
    found: Any = "x"
    for _ in range(40):
        found = [found] * 10
    return found


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        ("short", "'short'"),
        ("it's", '"it\'s"'),
        (None, "None"),
        pytest.param(10**400, "an integer of about 401 digits", id="long"),
        pytest.param(10**6000, "an integer of about 6,001 digits", id="longer than Python writes"),
        ({"a": [1, 2]}, "{'a': [1, 2]}"),
        (object(), "a object"),
    ],
)
def test_values_are_quoted_as_python_writes_them(value: Any, shown: str) -> None:
    assert quoted(value) == shown


@pytest.mark.parametrize(
    "value", ["x" * 10**6, list(range(10**6)), bomb(), {"x" * 10**6: bomb()}, b"\x00" * 10**6]
)
def test_large_values_are_quoted_shortly(value: Any) -> None:
    assert 3 < len(quoted(value)) <= 60
    assert quoted(value).endswith("...")


def test_lists_and_paths_are_cut() -> None:
    assert quoted_list([]) == "none"
    assert quoted_list(["a", "b\x1b"]) == r"a, b\x1b"
    assert len(quoted_list(str(index) * 30 for index in range(10**6))) < 250
    assert shortened_path("a/b.yaml") == "a/b.yaml"
    assert shortened_path("y" * 500 + "/b.yaml").endswith("/b.yaml") and len(shortened_path("y" * 500)) == 120
