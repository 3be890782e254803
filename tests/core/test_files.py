"""What is read is bounded in size, depth and numbers before anything is made of it."""

from __future__ import annotations

import gzip
import json
import os
import resource
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel, TypeAdapter

from zenopt.core.errors import DataError, DeviceError, SpecError, StudyError, ZenoptError
from zenopt.core.files import (
    PROFILE,
    SPEC,
    TABLE,
    Format,
    open_csv,
    parse_json,
    read_bytes,
    read_text,
    rows_of,
    validated,
)
from zenopt.core.paths import existing_path, file_name
from zenopt.core.tables import load_table
from zenopt.core.yamlfile import Source, override, read_yaml

SMALL = Format("Small file", DataError, 100)


def test_a_file_is_read_up_to_its_limit(tmp_path: Path) -> None:
    path = tmp_path / "x"
    path.write_bytes(b"a" * 100)
    assert read_bytes(path, SMALL) == b"a" * 100
    path.write_bytes(b"a" * 101)
    with pytest.raises(DataError, match=r"^Small file .*x: it is larger than .* MiB\.$"):
        read_bytes(path, SMALL)
    # What has no end is read no further either.
    with pytest.raises(DataError, match="it is larger than"):
        read_bytes("/dev/zero", SMALL)


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("none", "No such file or directory"),
        (".", "Is a directory"),
        ("x" * 5000, "File name too long"),
        ("a\0b", "embedded null byte"),
    ],
)
def test_what_cannot_be_opened(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, reason: str
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(DataError, match=rf"cannot be read: {reason}\.$") as caught:
        read_bytes(name, SMALL)
    assert len(str(caught.value)) < 400 and str(caught.value).isprintable()
    assert existing_path(name) is None or name == "."


def test_marks_of_windows_editors_are_no_text(tmp_path: Path) -> None:
    path = tmp_path / "x"
    path.write_bytes(b"\xef\xbb\xbfname: x")
    assert read_text(path, SPEC) == "name: x"
    path.write_bytes(b"caf\xe9")
    with pytest.raises(SpecError, match=r"it is not UTF-8 text \(byte 3\)"):
        read_text(path, SPEC)


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "not valid JSON: Expecting value"),
        ("{", "not valid JSON"),
        ("[" * 34 + "]" * 34, "nested too deeply"),
        ("[" * 100_000 + "]" * 100_000, "nested too deeply"),
        ("[" + "[]," * 300_000 + "[]]", "more than 200,000 lists and objects"),
        ("[1" + "0" * 400 + "]", "an integer of 401 digits; at most 19 are read"),
        ("[" + "9" * 5000 + "]", "an integer of 5,000 digits"),
        ('"\\ud800"', "not UTF-8 text"),
        ('{"a": {"\\ud800": 1}}', "not UTF-8 text"),
        (b"\xff\xfe{", "not UTF-8 text"),
    ],
)
def test_json_that_is_not_read(text: str | bytes, problem: str) -> None:
    with pytest.raises(DeviceError, match=problem) as caught:
        parse_json(text, "p.json", PROFILE)
    assert len(str(caught.value)) < 400


def test_json_that_is_read() -> None:
    text = "[" * 30 + '"ü \\ud83d\\ude00", -9223372036854775808' + "]" * 30
    assert parse_json(text, "p.json", PROFILE) == json.loads(text)


class Model(BaseModel):
    a: int
    b: list[dict[str, float]] = []


@pytest.mark.parametrize(
    ("content", "line"),
    [
        ({}, "Device profile p.json: a is missing."),
        (
            {"a": "x" * 1000},
            "Device profile p.json: a must be a valid integer, unable to parse string as an integer, ",
        ),
        ({"a": 1, "b": [{"c": None}]}, "Device profile p.json: b.0.c must be a number, got None."),
        ([], "Device profile p.json: must be an object, got []."),
    ],
)
def test_the_first_problem_is_named_with_its_place(content: Any, line: str) -> None:
    with pytest.raises(DeviceError) as caught:
        validated(TypeAdapter(Model), content, "p.json", PROFILE)
    assert str(caught.value).startswith(line)
    assert len(str(caught.value)) < 400


@pytest.mark.parametrize(
    "name", ["", ".", "..", "../x", "a/b", "a\\b", "c:x", "a\nb", "\x1b", "x" * 201, "\udcc3"]
)
def test_names_that_lead_elsewhere_are_no_files(name: str) -> None:
    with pytest.raises(StudyError, match="cannot be the name of a file") as caught:
        file_name(name, "The study's name")
    assert str(caught.value).isprintable()


@pytest.mark.parametrize("name", ["demo", "übung 2", ".hidden", "a..b", "bundle-trial-3"])
def test_names_that_are_files(name: str) -> None:
    assert file_name(name, "The study's name") == name


def aliases(levels: int) -> str:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{level}: &a{level} [{', '.join([f'*a{level - 1}'] * 9)}]" for level in range(1, levels)]
    return "\n".join(lines) + "\n"


def test_aliases_are_counted_as_they_are_written_out(tmp_path: Path) -> None:
    path = tmp_path / "s.yaml"
    path.write_text(aliases(3))
    assert len(read_yaml(path).data["a2"][8][8]) == 9
    path.write_text(aliases(9))
    with pytest.raises(
        SpecError, match=r"s\.yaml, line 5: too large: more than 20,000 values with its aliases"
    ):
        read_yaml(path)
    path.write_text("a: &a {k: 1}\n" + "".join(f"b{i}: &b{i} {{<<: [*a, *a]}}\n" for i in range(3)))
    assert read_yaml(path).data["b2"] == {"k": 1}
    merges = "a0: &a0 {k: 1}\n" + "".join(
        f"a{i}: &a{i} {{<<: [*a{i - 1}, *a{i - 1}]}}\n" for i in range(1, 40)
    )
    path.write_text(merges)
    with pytest.raises(SpecError, match=r"too large|nested too deeply"):
        read_yaml(path)


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("a: " + "9" * 5000, r"line 1: too long a number: 5,000 digits, at most 60"),
        ("a: 0x" + "f" * 6000, "too long a number"),
        ("a: " + ":".join(["59"] * 1000), "too long a number"),
        ("a: 2001-99-99", "not valid YAML: month must be in 1..12"),
        ("a: " + "[" * 40 + "]" * 40, "nested too deeply"),
        ("a: &a [*a]", "nested too deeply"),
        ("x" * 300_000, "it is larger than 0.25 MiB"),
        ("? [a, b]\n: 1\n", "not valid YAML"),
        ("'" + "k" * 900 + "': 1\n'" + "k" * 900 + "': 2\n", "is given twice"),
    ],
)
def test_yaml_that_is_not_read(tmp_path: Path, text: str, problem: str) -> None:
    path = tmp_path / "s.yaml"
    path.write_text(text)
    with pytest.raises(SpecError, match=problem) as caught:
        read_yaml(path)
    assert len(str(caught.value)) < 400 and str(caught.value).isprintable()


@pytest.mark.parametrize(
    ("assignment", "problem"),
    [
        ("a=" + aliases(6).replace("\n", ", ").replace("a0: &a0", "&a0"), "the value is "),
        ("a=" + "9" * 5000, "too long a number: 5,000 digits"),
        ("a=" + "[" * 40 + "]" * 40, "the value is nested too deeply"),
        ("a=" + "x" * 20_000, "longer than 10,000 characters"),
        ("x" * 20_000, "expected path=value"),
        (".".join("abcdefgh" * 10) + "=1", "expected path=value"),
        ("a.b=1", "'a' is a value, not a section"),
        ("a=\x1b", "not valid YAML"),
    ],
)
def test_assignments_that_are_not_made(assignment: str, problem: str) -> None:
    with pytest.raises(SpecError, match=problem) as caught:
        override(Source("x", {"a": 1}), [assignment])
    assert len(str(caught.value)) < 400 and str(caught.value).isprintable()


def test_overrides_as_a_mapping() -> None:
    source = Source("x", {"a": {"b": 1}})
    override(source, {"a.b": 5e5, "c.d": [1, 2], "a.e": None})
    assert source.data == {"a": {"b": 5e5, "e": None}, "c": {"d": [1, 2]}}
    assert source.overridden == {("a", "b"), ("a", "e"), ("c", "d")}
    override(source, "a.b=6")
    assert source.data["a"]["b"] == 6


def test_tables_are_unpacked_up_to_their_limit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "t.csv.gz"
    small = Format("Table", DataError, 10_000)
    path.write_bytes(gzip.compress(b"structure,acc\n" + b"x,1\n" * 1000))
    with open_csv(path, small) as reader:
        assert sum(1 for _ in rows_of(reader, path, small)) == 1000
    path.write_bytes(gzip.compress(b"structure,acc\n" + b"x,1\n" * 1_000_000))
    with pytest.raises(DataError, match=r"t\.csv\.gz: it is larger than"), open_csv(path, small) as reader:
        list(rows_of(reader, path, small))
    monkeypatch.setattr("zenopt.core.files.CELLS", 1000)
    with pytest.raises(DataError, match="it has more than 1,000 cells"):
        load_table(path)


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (gzip.compress(b"structure,acc\nx,1\n" * 100, mtime=0)[:40], "cannot be read: "),
        (gzip.compress(b"structure,acc\nx,1\n" * 100, mtime=0)[:-9] + b"\xff" * 9, "cannot be read: "),
        (b"\x1f\x8b\x08\x00" + b"\xff" * 100, "cannot be read: "),
        (b"no gzip", "cannot be read: Not a gzipped file"),
        (gzip.compress(b"structure,acc\n\xff,1\n", mtime=0), "it is not UTF-8 text"),
        (
            gzip.compress(b"structure,acc\n" + b"x" * 200_000 + b",1\n", mtime=0),
            "field larger than field limit",
        ),
        (gzip.compress(b"structure,acc\n  ,1\n", mtime=0), "row 2: the architecture is missing"),
        (b"", "it has no rows"),
        (gzip.compress(b"other,acc\nx,1\n", mtime=0), "no column of architectures"),
    ],
)
def test_damaged_tables(tmp_path: Path, content: bytes, problem: str) -> None:
    path = tmp_path / "t.csv.gz"
    path.write_bytes(content)
    with pytest.raises(DataError, match=problem) as caught:
        load_table(path)
    assert len(str(caught.value)) < 400 and str(caught.value).isprintable()


#: Address space in which a bomb must end, in bytes; torch alone needs a few GB of it.
ROOM = 8 * 2**30


def limited(*arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    """Run a command in a process whose memory is limited."""
    return subprocess.run(
        [sys.executable, "-m", "zenopt", *arguments],
        cwd=cwd, text=True, capture_output=True, check=False, timeout=300,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_AS, (ROOM, ROOM)),
    )  # fmt: skip


def _bomb_yaml(folder: Path) -> tuple[str, ...]:
    (folder / "s.yaml").write_text(aliases(9))
    return "optimize", "--study", "s.yaml", "--trials", "1"


def _bomb_set(folder: Path) -> tuple[str, ...]:
    nested = "&a0 [x, x, x, x, x, x, x, x, x]"
    parts = [nested, *(f"&a{level} [{', '.join([f'*a{level - 1}'] * 9)}]" for level in range(1, 9))]
    return "optimize", "--study", "demo", "--trials", "1", "--set", f"budget.params=[{', '.join(parts)}]"


def _bomb_gzip(folder: Path) -> tuple[str, ...]:
    with gzip.open(folder / "t.csv.gz", "wb") as file:
        for _ in range(2000):
            file.write(b"x" * 2**20)
    return "correlate", "--table", "t.csv.gz", "--proxies", "params"


@pytest.mark.slow
@pytest.mark.parametrize("bomb", [_bomb_yaml, _bomb_set, _bomb_gzip])
def test_bombs_end_in_one_line(tmp_path: Path, bomb: Callable[[Path], tuple[str, ...]]) -> None:
    found = limited(*bomb(tmp_path), cwd=tmp_path)
    assert found.returncode == 2, found.stderr[-2000:]
    assert found.stderr.count("\n") == 1 and len(found.stderr) < 400


def test_every_format_raises_its_own_error() -> None:
    assert issubclass(TABLE.error, ZenoptError)
    refusal = TABLE.refusal("x" * 500, "y" * 500, "row 3:")
    assert len(str(refusal)) < 400 and str(refusal).startswith("Table ...xxx")


def test_the_documented_limits_are_the_real_ones() -> None:
    from zenopt.core import files

    page = (Path(__file__).parents[2] / "docs" / "security.md").read_text(encoding="utf-8")
    rows = {
        line.split("|")[1].strip(): line.split("|")[2].strip() for line in page.splitlines() if "iB" in line
    }
    wanted = {
        "bundle": files.BUNDLE, "device profile": files.PROFILE, "learned score": files.LEARNED,
        "study file": files.SPEC, "recipe": files.RECIPE, "spec stored with a study": files.STORED_SPEC,
        "structure file": files.STRUCTURE, "CSV table": files.TABLE, "CIFAR file": files.CIFAR,
        "checkpoint": files.CHECKPOINT,
    }  # fmt: skip
    units = {"MiB": 2**20, "GiB": 2**30}
    found = {
        name.strip(): float(limit.split()[0]) * units[limit.split()[1]]
        for names, limit in rows.items()
        for name in names.split(",")
    }
    assert found == {name: format.limit for name, format in wanted.items()}
