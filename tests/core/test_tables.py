"""Tables of accuracies: reading, averaging, conditions, complaints."""

from __future__ import annotations

import gzip
from pathlib import Path

import pytest

from zenopt.core.errors import DataError
from zenopt.core.tables import load_table

TEXT = """\
arch_index,arch_str,cifar10_test,note,epochs
0,a,90.5,good,6
1,b,80,,6
2,a,91.5,,6
3,c,70,,18
"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "table.csv"
    path.write_text(TEXT)
    return path


def test_rows_of_one_architecture_are_averaged_and_words_are_no_column(path: Path) -> None:
    table = load_table(path)
    assert table.structures == ("a", "b", "c")
    assert table.column("cifar10_test") == {"a": 91.0, "b": 80.0, "c": 70.0}
    assert table.accuracy_columns() == ["cifar10_test"]
    assert "note" not in table.columns
    with pytest.raises(DataError, match=r"no column 'note' of numbers; it has arch_index, cifar10_test"):
        table.column("note")


def test_conditions_keep_rows(path: Path) -> None:
    assert load_table(path, ["epochs=18"]).structures == ("c",)
    assert load_table(path, ["epochs=6.0", "note=good"]).column("cifar10_test") == {"a": 90.5}
    with pytest.raises(DataError, match="no rows that meet the conditions"):
        load_table(path, ["epochs=7"])
    with pytest.raises(DataError, match=r"Condition 'epoch=6': expected COLUMN=VALUE with one of arch_index"):
        load_table(path, ["epoch=6"])


def test_gzip_and_a_changed_file_are_read(tmp_path: Path) -> None:
    path = tmp_path / "table.csv.gz"
    path.write_bytes(gzip.compress(b"structure,acc\nx,1\n"))
    assert load_table(path).column("acc") == {"x": 1.0}
    path.write_bytes(gzip.compress(b"structure,acc\nx,1\ny,2\n"))
    assert load_table(path).structures == ("x", "y")


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        (b"name,acc\nx,1\n", "no column of architectures"),
        (b"structure,acc\n", "has no rows"),
        (b"structure,acc\nx\n", "row 2: expected 2 fields"),
        (b"structure,acc\nx,1,2\n", "row 2: expected 2 fields"),
        (b"structure,acc\n\xff\xfe,1\n", "cannot be read"),
    ],
)
def test_malformed_tables_are_errors(tmp_path: Path, content: bytes, complaint: str) -> None:
    path = tmp_path / "table.csv"
    path.write_bytes(content)
    with pytest.raises(DataError, match=complaint):
        load_table(path)


def test_a_missing_file_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="cannot be read: No such file"):
        load_table(tmp_path / "none.csv")
    path = tmp_path / "table.csv.gz"
    path.write_bytes(b"not gzip")
    with pytest.raises(DataError, match="cannot be read"):
        load_table(path)
