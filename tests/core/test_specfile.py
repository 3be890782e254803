"""Reading YAML with line numbers."""

from __future__ import annotations

from pathlib import Path

import pytest

from zenopt.core.errors import SpecError
from zenopt.core.yamlfile import Source, override, read_yaml


def write(folder: Path, text: str | bytes) -> Path:
    path = folder / "x.yaml"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def test_lines_of_keys(tmp_path: Path) -> None:
    source = read_yaml(write(tmp_path, "a: 1\n\n# a comment\nb:\n  c: [4,\n    5]\n  d: {e: f}\n"))
    assert source.data == {"a": 1, "b": {"c": [4, 5], "d": {"e": "f"}}}
    assert source.lines == {
        ("a",): 1,
        ("b",): 4,
        ("b", "c"): 5,
        ("b", "c", 0): 5,
        ("b", "c", 1): 6,
        ("b", "d"): 7,
        ("b", "d", "e"): 7,
    }


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1e6", 1e6),
        ("1.0e+6", 1e6),
        ("5E-1", 0.5),
        ("-.5", -0.5),
        (".5e1", 5.0),
        ("1_000", 1000),
        ("17", 17),
        ("1e", "1e"),
        ("e6", "e6"),
        ("1e6x", "1e6x"),
        ("'1e6'", "1e6"),
        ("~", None),
    ],
)
def test_numbers_are_read_as_people_write_them(tmp_path: Path, text: str, value: object) -> None:
    found = read_yaml(write(tmp_path, f"a: {text}\n")).data["a"]
    assert found == value
    assert type(found) is type(value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", r"x\.yaml: expected keys and values, got NoneType"),
        ("- 1\n", r"x\.yaml: expected keys and values, got list"),
        ("a: 1\nb: 2\na: 3\n", r"x\.yaml, line 3: key 'a' is given twice"),
        ("a:\n  b: 1\n  b: 2\n", r"x\.yaml, line 3: key 'b' is given twice"),
        ("a: 1\n\tb: 2\n", r"x\.yaml, line 2: not valid YAML: found character"),
        ("a: [1\nb: 2\n", r"x\.yaml, line 2: not valid YAML: "),
        ("a: 1\n---\na: 2\n", r"x\.yaml, line 2: not valid YAML: but found another document"),
        (
            "a: !!python/object/apply:os.getcwd []\n",
            r"line 1: not valid YAML: could not determine a constructor",
        ),
        ("a: \0\n", r"x\.yaml: not valid YAML: unacceptable character #x0000: special characters"),
        ("a: &x {b: *x}\n", r"x\.yaml: nested too deeply"),
        (f"a: {'[' * 1000}{']' * 1000}\n", r"x\.yaml: nested too deeply"),
        (b"a: \xff\xfe\n", r"x\.yaml cannot be read: it is not UTF-8 text \(byte 3\)"),
    ],
)
def test_unreadable_files(tmp_path: Path, text: str | bytes, message: str) -> None:
    with pytest.raises(SpecError, match=message) as caught:
        read_yaml(write(tmp_path, text))
    assert "\n" not in str(caught.value)


def test_missing_files_and_folders(tmp_path: Path) -> None:
    with pytest.raises(SpecError, match=r"none\.yaml cannot be read: No such file"):
        read_yaml(tmp_path / "none.yaml")
    with pytest.raises(SpecError, match=r"cannot be read: Is a directory"):
        read_yaml(tmp_path)


def test_overrides_make_the_sections_they_need() -> None:
    source = Source("x", {"a": {"b": 1}, "c": None})
    override(source, "a.b=2")
    override(source, "c.d.e=[1, 2]")
    override(source, "f=x=y")
    assert source.data == {"a": {"b": 2}, "c": {"d": {"e": [1, 2]}}, "f": "x=y"}
    assert source.overridden == {("a", "b"), ("c", "d", "e"), ("f",)}
